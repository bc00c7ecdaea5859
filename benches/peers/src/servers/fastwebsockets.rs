use std::error::Error;

use fastwebsockets::{FragmentCollector, OpCode, WebSocket, WebSocketError, handshake, upgrade};
use http_body_util::Empty;
use hyper::{
    Request,
    body::Bytes,
    header::{CONNECTION, HOST, UPGRADE},
    upgrade::Upgraded,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use super::{MAX_MESSAGE, Options, Role, URL, http, stream};

pub(super) fn serve(options: &Options) -> Result<(), Box<dyn Error>> {
    match options.role {
        Role::Server => accept(options),
        Role::Client => stream::run(options, |socket| async {
            let _ = dial(socket).await;
        }),
    }
}

async fn dial(socket: TcpStream) -> Result<(), WebSocketError> {
    let request = Request::get(URL)
        .header(HOST, "localhost")
        .header(UPGRADE, "websocket")
        .header(CONNECTION, "upgrade")
        .header("Sec-WebSocket-Key", handshake::generate_key())
        .header("Sec-WebSocket-Version", "13")
        .body(Empty::<Bytes>::new())
        .map_err(|_| WebSocketError::InvalidConnectionHeader)?;
    let (socket, _) = handshake::client(&TokioExecutor::new(), request, socket).await?;
    echo(socket).await
}

fn accept(options: &Options) -> Result<(), Box<dyn Error>> {
    stream::run(options, |socket| {
        http::upgrade(socket, |mut request| {
            let (response, upgraded) = upgrade::upgrade(&mut request).ok()?;
            tokio::spawn(tokio::task::unconstrained(async move {
                if let Ok(socket) = upgraded.await {
                    let _ = echo(socket).await;
                }
            }));
            Some(response)
        })
    })
}

async fn echo(mut socket: WebSocket<TokioIo<Upgraded>>) -> Result<(), WebSocketError> {
    socket.set_max_message_size(MAX_MESSAGE);
    let mut socket = FragmentCollector::new(socket);
    loop {
        let frame = socket.read_frame().await?;
        match frame.opcode {
            OpCode::Close => return Ok(()),
            OpCode::Text | OpCode::Binary => socket.write_frame(frame).await?,
            _ => {}
        }
    }
}
