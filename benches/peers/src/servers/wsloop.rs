use std::{error::Error, time::Duration};

use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};
use wsloop::{
    Compression, Config, Conn, Connect, EventLoop, Frames, Handler, HttpResponse, ListenAddr,
    Message, MessageKind, Progress, Request, Response,
};

use super::{ANNOUNCEMENT, Deflate, MAX_MESSAGE, Options, Service, announce};

/// The server is on this machine: there is nobody from whom the keys would have to be kept.
const SEED: [u8; 32] = [9; 32];

struct Echo;

impl Handler for Echo {
    type Session = ();

    fn on_upgrade(&mut self, _: &Request<'_>, _: &mut Response<'_>) -> Result<(), HttpResponse> {
        Ok(())
    }

    fn on_message(&mut self, conn: &mut Conn<'_, ()>, message: Message<'_>) {
        let _ = conn.send_copy(message.kind(), message.as_bytes());
    }
}

struct Broadcast {
    announcement: Frames,
}

impl Handler for Broadcast {
    type Session = ();

    fn on_upgrade(&mut self, _: &Request<'_>, _: &mut Response<'_>) -> Result<(), HttpResponse> {
        Ok(())
    }

    fn on_message(&mut self, conn: &mut Conn<'_, ()>, message: Message<'_>) {
        let count = message.as_bytes().first().copied().unwrap_or(0);
        for _ in 0..count {
            conn.connections().for_each(|conn| {
                let _ = conn.send_frames(&self.announcement);
            });
        }
    }
}

pub(super) fn serve(options: &Options) -> Result<(), Box<dyn Error>> {
    match options.service {
        Service::Echo => run(Echo, options),
        Service::Broadcast => {
            let announcement = Frames::message(MessageKind::Binary, &ANNOUNCEMENT);
            run(Broadcast { announcement }, options)
        }
    }
}

fn run(mut app: impl Handler<Session = ()>, options: &Options) -> Result<(), Box<dyn Error>> {
    let config = Config::default()
        .max_message_size(MAX_MESSAGE)
        .max_backlog(MAX_MESSAGE)
        .compression(match options.deflate {
            Deflate::Off => Compression::Off,
            Deflate::Shared => Compression::Shared,
            Deflate::Dedicated => Compression::Dedicated,
        });
    let mut event_loop = EventLoop::new(config)?;
    match options.dial {
        Some(address) => {
            event_loop.set_rng(ChaCha20Rng::from_seed(SEED));
            for _ in 0..options.connections {
                event_loop
                    .connect(Connect::to(&format!("ws://{address}/"))?, ())
                    .map_err(|error| error.to_string())?;
            }
        }
        None => {
            let listener = event_loop.listen(([127, 0, 0, 1], 0))?;
            if let ListenAddr::Tcp(address) = event_loop.local_addr(listener)? {
                announce(address.port())?;
            }
        }
    }
    let timeout = options.busy_poll.then_some(Duration::ZERO);
    while event_loop.turn(&mut app, timeout)? == Progress::Running {}
    Ok(())
}
