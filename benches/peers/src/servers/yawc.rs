use std::{convert::Infallible, error::Error};

use futures_util::StreamExt;
use yawc::{CompressionLevel, Frame, OpCode, Options as Settings, WebSocket};

use super::{ANNOUNCEMENT, Deflate, MAX_MESSAGE, Options, Role, Service, URL, http, stream};

/// Its benchmarks' own settings: capacity of the read buffer, and what may wait to be written.
const READ_BUFFER: usize = 128 * 1024;
const WRITE_BOUNDARY: usize = 64 * 1024;

impl stream::Data for Frame {
    fn data(&self) -> Option<&[u8]> {
        matches!(self.opcode(), OpCode::Text | OpCode::Binary).then(|| &**self.payload())
    }
}

pub(super) fn serve(options: &Options) -> Result<(), Box<dyn Error>> {
    match options.role {
        Role::Server => accept(options),
        Role::Client => dial(options),
    }
}

fn dial(options: &Options) -> Result<(), Box<dyn Error>> {
    let Options { batch, deflate, .. } = *options;
    stream::run(options, move |socket| async move {
        let Ok(url) = URL.parse() else { return };
        let settings = settings(deflate, batch);
        if let Ok(socket) = WebSocket::handshake(url, socket, settings).await {
            stream::echo(socket.map(Ok::<Frame, Infallible>), batch).await;
        }
    })
}

fn accept(options: &Options) -> Result<(), Box<dyn Error>> {
    let Options {
        service,
        batch,
        deflate,
        ..
    } = *options;
    let hub = stream::hub();
    stream::run(options, move |socket| {
        let hub = hub.clone();
        http::upgrade(socket, move |request| {
            let (response, upgraded) =
                WebSocket::upgrade_with_options(request, settings(deflate, batch)).ok()?;
            let hub = hub.clone();
            tokio::spawn(tokio::task::unconstrained(async move {
                let Ok(socket) = upgraded.await else { return };
                let socket = socket.map(Ok::<Frame, Infallible>);
                match service {
                    Service::Echo => stream::echo(socket, batch).await,
                    Service::Broadcast => {
                        let announcement = Frame::binary(ANNOUNCEMENT.to_vec());
                        stream::broadcast(socket, hub, announcement).await;
                    }
                }
            }));
            Some(response)
        })
    })
}

fn settings(deflate: Deflate, batch: bool) -> Settings {
    let settings = Settings::default()
        .with_limits(MAX_MESSAGE, MAX_MESSAGE)
        .with_utf8();
    // More memory per connection than others take: only where it is of use.
    let settings = if batch {
        settings
            .with_read_buffer_capacity(READ_BUFFER)
            .with_backpressure_boundary(WRITE_BOUNDARY)
    } else {
        settings
    };
    match deflate {
        Deflate::Off => settings.without_compression(),
        Deflate::Shared => settings
            .with_compression_level(CompressionLevel::default())
            .server_no_context_takeover()
            .client_no_context_takeover(),
        Deflate::Dedicated => settings.with_compression_level(CompressionLevel::default()),
    }
}
