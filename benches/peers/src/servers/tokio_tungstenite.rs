use std::error::Error;

use tokio_tungstenite::{
    accept_async_with_config, client_async_with_config,
    tungstenite::{Message, protocol::WebSocketConfig},
};

use super::{ANNOUNCEMENT, MAX_MESSAGE, Options, Role, Service, URL, stream};

/// What its documentation names for many connections, and for much to read.
const SMALL_BUFFER: usize = 4 * 1024;
const LARGE_BUFFER: usize = 128 * 1024;

impl stream::Data for Message {
    fn data(&self) -> Option<&[u8]> {
        match self {
            Message::Text(text) => Some(text.as_bytes()),
            Message::Binary(data) => Some(data),
            _ => None,
        }
    }
}

pub(super) fn serve(options: &Options) -> Result<(), Box<dyn Error>> {
    let Options {
        role,
        service,
        size,
        batch,
        ..
    } = *options;
    let large = batch || size > SMALL_BUFFER;
    let hub = stream::hub();
    stream::run(options, move |socket| {
        let hub = hub.clone();
        async move {
            let config = WebSocketConfig::default()
                .read_buffer_size(if large { LARGE_BUFFER } else { SMALL_BUFFER })
                .max_message_size(Some(MAX_MESSAGE))
                .max_frame_size(Some(MAX_MESSAGE));
            let socket = match role {
                Role::Server => accept_async_with_config(socket, Some(config)).await,
                Role::Client => client_async_with_config(URL, socket, Some(config))
                    .await
                    .map(|(socket, _)| socket),
            };
            let Ok(socket) = socket else { return };
            match service {
                Service::Echo => stream::echo(socket, batch).await,
                Service::Broadcast => {
                    let announcement = Message::Binary(ANNOUNCEMENT.to_vec().into());
                    stream::broadcast(socket, hub, announcement).await;
                }
            }
        }
    })
}
