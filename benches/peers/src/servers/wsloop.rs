use std::{error::Error, time::Duration};

use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};
use wsloop::{
    Compression, Config, Conn, Connect, EventLoop, Frames, Handler, HttpResponse, ListenAddr,
    Message, MessageKind, Progress, Request, Response,
};

use super::{ANNOUNCEMENT, Deflate, MAX_MESSAGE, Options, Service, announce};

/// The server is on this machine: there is nobody from whom the keys would have to be kept.
const SEED: [u8; 32] = [9; 32];

/// A message of so many bytes hardly comes in one piece.
const LARGE: usize = 256 * 1024;
/// Room for such a message of each of some hundred connections, instead of asking the system for it each time.
const MAX_IDLE: usize = 256 * 1024 * 1024;
/// Room for one of them and its header where the loop reads, and wherever else one is put; and for what is left free there.
const LARGE_SCRATCH: usize = 1024 * 1024 + 8192;
/// Sixteen of them: the connections need not take turns in the midst of a message.
const LARGE_TURN: usize = 16 * 1024 * 1024;
/// The messages that are under way on a connection.
const SEND_QUEUE: usize = 16;

/// The tables know of connections that are under load and of such as have been idle for a second.
const COMPRESSION_IDLE: Duration = Duration::from_millis(250);

struct Echo;

impl Handler for Echo {
    type Session = ();

    fn on_upgrade(&mut self, _: &Request<'_>, _: &mut Response<'_>) -> Result<(), HttpResponse> {
        Ok(())
    }

    fn on_message(&mut self, conn: &mut Conn<'_, ()>, mut message: Message<'_>) {
        let _ = conn.forward(&mut message);
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
        .send_queue(SEND_QUEUE)
        .compression_idle_timeout(Some(COMPRESSION_IDLE))
        .compression(match options.deflate {
            Deflate::Off => Compression::Off,
            Deflate::Shared => Compression::Shared,
            Deflate::Dedicated => Compression::Dedicated,
        });
    let config = if options.size < LARGE {
        config
    } else {
        config
            .max_idle_buffer_memory(MAX_IDLE)
            .scratch_size(LARGE_SCRATCH)
            .large_buffer_size(LARGE_SCRATCH)
            .turn_bytes(LARGE_TURN)
            // The next one is read when the kernel has the last: all pass through the same memory.
            .high_water(1)
            .low_water(0)
    };
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
