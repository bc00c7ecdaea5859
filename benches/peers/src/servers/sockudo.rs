use std::error::Error;

use bytes::BytesMut;
use sockudo_ws::{
    CompressedWebSocketStream, Compression, Config, DeflateConfig, Message, WebSocketStream,
    handshake::{
        HandshakeResult, build_response, client_handshake, generate_accept_key, parse_request,
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{ANNOUNCEMENT, Deflate, MAX_MESSAGE, Options, Role, Service, stream};

impl stream::Data for Message {
    fn data(&self) -> Option<&[u8]> {
        match self {
            Message::Text(data) | Message::Binary(data) => Some(data),
            _ => None,
        }
    }
}

pub(super) fn serve(options: &Options) -> Result<(), Box<dyn Error>> {
    let Options {
        role,
        service,
        batch,
        deflate,
        ..
    } = *options;
    let hub = stream::hub();
    stream::run(options, move |mut socket| {
        let hub = hub.clone();
        async move {
            let compression = match deflate {
                Deflate::Off => Compression::Disabled,
                Deflate::Shared => Compression::Shared,
                Deflate::Dedicated => Compression::Dedicated,
            };
            let config = Config::builder()
                .max_message_size(MAX_MESSAGE)
                .max_frame_size(MAX_MESSAGE)
                .max_backpressure(MAX_MESSAGE)
                .idle_timeout(0)
                .auto_ping(false)
                .build();
            let deflate = compression.to_deflate_config();
            if role == Role::Client {
                return dial(socket, config, batch).await;
            }
            if shake_hands(&mut socket, deflate.as_ref()).await.is_none() {
                return;
            }
            match (service, deflate) {
                (Service::Echo, None) => {
                    stream::echo(WebSocketStream::server(socket, config), batch).await;
                }
                (Service::Echo, Some(deflate)) => {
                    let socket = CompressedWebSocketStream::server(socket, config, deflate);
                    stream::echo(socket, batch).await;
                }
                (Service::Broadcast, _) => {
                    let announcement = Message::Binary(ANNOUNCEMENT.to_vec().into());
                    let socket = WebSocketStream::server(socket, config);
                    stream::broadcast(socket, hub, announcement).await;
                }
            }
        }
    })
}

async fn dial(mut socket: TcpStream, config: Config, batch: bool) {
    let handshake = client_handshake(&mut socket, "localhost", "/", None).await;
    let Ok(HandshakeResult { leftover, .. }) = handshake else {
        return;
    };
    let socket =
        WebSocketStream::from_raw_with_leftover(socket, sockudo_ws::Role::Client, config, leftover);
    stream::echo(socket, batch).await;
}

/// As in its example `simple_echo`.
async fn shake_hands(socket: &mut TcpStream, deflate: Option<&DeflateConfig>) -> Option<()> {
    let mut head = BytesMut::with_capacity(4096);
    loop {
        if socket.read_buf(&mut head).await.ok()? == 0 {
            return None;
        }
        if let Some((request, _)) = parse_request(&head).ok()? {
            let key = generate_accept_key(request.key);
            let extensions = deflate.map(DeflateConfig::to_response_header);
            let answer = build_response(&key, None, extensions.as_deref());
            return socket.write_all(&answer).await.ok();
        }
    }
}
