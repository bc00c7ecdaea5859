//! An HTTP server that is somebody else's, `hyper`, and WebSockets on two of its paths:
//!
//! * `/blocking`: a thread for each connection, with [`wsloop::blocking`];
//! * `/loop`: all of them in one [`EventLoop`], which takes the sockets over.
//!
//! Both echo. Every other path is hyper's to answer.
//!
//! ```text
//! cargo run --release --example http_upgrade -- --listen 127.0.0.1:9002
//! ```

use std::{error::Error, io, net::TcpStream, process::ExitCode, thread};

use clap::Parser;
use http_body_util::Full;
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{CONNECTION, HeaderValue, UPGRADE},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use wsloop::{
    Config, Conn, Connections, EventLoop, Handler, Message, Remote, Stream,
    blocking::{Received, WebSocket},
    protocol::{
        Codec, Limits,
        handshake::{accept_key, is_valid_key},
    },
};

/// Largest message of the blocking path, in bytes.
const MAX_MESSAGE: usize = 1 << 20;

/// WebSockets on two paths of a hyper server: /blocking and /loop. Ends with the terminal.
#[derive(Parser)]
struct Options {
    /// Address and port to listen on; port 0 lets the system choose
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9002")]
    listen: std::net::SocketAddr,
}

/// A connection that the HTTP server has upgraded, with what it has read behind the request.
struct Upgraded {
    stream: TcpStream,
    bytes: Vec<u8>,
}

/// The application of the loop.
struct Echo;

impl Handler<Upgraded> for Echo {
    type Session = ();

    fn on_wake(&mut self, connections: &mut Connections<'_, ()>, upgraded: Upgraded) {
        let adopted = Stream::try_from(upgraded.stream)
            .map_err(|error| error.to_string())
            .and_then(|stream| {
                let adopted = connections.adopt_upgraded(stream, upgraded.bytes, ());
                adopted.map_err(|(error, ())| error.to_string())
            });
        if let Err(error) = adopted {
            eprintln!("http_upgrade: not adopted: {error}");
        }
    }

    fn on_message(&mut self, conn: &mut Conn<'_, ()>, message: Message<'_>) {
        let _ = conn.send_copy(message.kind(), message.as_bytes());
    }
}

fn echo_blocking(upgraded: Upgraded) -> Result<(), Box<dyn Error>> {
    upgraded.stream.set_nonblocking(false)?;
    let limits = Limits {
        max_message_size: MAX_MESSAGE,
        ..Limits::default()
    };
    let codec = Codec::server(limits);
    let mut socket = WebSocket::with_bytes(upgraded.stream, codec, &upgraded.bytes);
    let mut buffer = vec![0; MAX_MESSAGE];
    while let Received::Message(kind, len) = socket.read_message(&mut buffer)? {
        socket.write_message(kind, &buffer[..len])?;
    }
    Ok(())
}

/// Answers a request, and has an upgraded connection passed on.
fn answer(mut request: Request<Incoming>, remote: &Remote<Upgraded>) -> Response<Full<Bytes>> {
    let blocking = match request.uri().path() {
        "/blocking" => true,
        "/loop" => false,
        _ => {
            return plain(
                StatusCode::NOT_FOUND,
                "WebSockets are at /blocking and /loop\n",
            );
        }
    };
    let headers = request.headers();
    let asks_upgrade = headers
        .get(UPGRADE)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"));
    let key = headers
        .get("Sec-WebSocket-Key")
        .and_then(|key| key.to_str().ok())
        .filter(|key| asks_upgrade && is_valid_key(key));
    let Some(accept) = key.map(|key| accept_key(key.as_bytes())) else {
        return plain(StatusCode::UPGRADE_REQUIRED, "a WebSocket is spoken here\n");
    };
    let remote = remote.clone();
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::task::spawn_local(async move {
        match upgrade.await.map_err(io::Error::other).and_then(take_apart) {
            Ok(upgraded) if blocking => {
                thread::spawn(|| {
                    if let Err(error) = echo_blocking(upgraded) {
                        eprintln!("http_upgrade: {error}");
                    }
                });
            }
            Ok(upgraded) => {
                if let Err(error) = remote.post(upgraded) {
                    eprintln!("http_upgrade: {error}");
                }
            }
            Err(error) => eprintln!("http_upgrade: {error}"),
        }
    });
    let mut response = plain(StatusCode::SWITCHING_PROTOCOLS, "");
    let headers = response.headers_mut();
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    if let Ok(accept) = HeaderValue::from_bytes(&accept) {
        headers.insert("Sec-WebSocket-Accept", accept);
    }
    response
}

/// The socket of an upgraded connection, and what was read of it.
fn take_apart(upgraded: hyper::upgrade::Upgraded) -> io::Result<Upgraded> {
    let parts = upgraded
        .downcast::<TokioIo<tokio::net::TcpStream>>()
        .map_err(|_| io::ErrorKind::Unsupported)?;
    Ok(Upgraded {
        stream: parts.io.into_inner().into_std()?,
        bytes: parts.read_buf.to_vec(),
    })
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    response
}

async fn serve(options: Options, remote: Remote<Upgraded>) -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind(options.listen)
        .await
        .map_err(|error| format!("cannot listen on {}: {error}", options.listen))?;
    println!("listening on http://{}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        let remote = remote.clone();
        tokio::task::spawn_local(async move {
            let service = service_fn(|request| {
                let response = answer(request, &remote);
                async move { Ok::<_, hyper::Error>(response) }
            });
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            // What goes wrong on one connection concerns nobody else.
            let _ = connection.with_upgrades().await;
        });
    }
}

fn run(options: Options) -> Result<(), Box<dyn Error>> {
    let mut event_loop: EventLoop<(), Upgraded> = EventLoop::new(Config::default())?;
    let remote = event_loop.remote();
    thread::spawn(move || {
        if let Err(error) = event_loop.run(&mut Echo) {
            eprintln!("http_upgrade: {error}");
        }
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    let tasks = tokio::task::LocalSet::new();
    tasks.block_on(&runtime, serve(options, remote))
}

fn main() -> ExitCode {
    match run(Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("http_upgrade: {error}");
            ExitCode::FAILURE
        }
    }
}
