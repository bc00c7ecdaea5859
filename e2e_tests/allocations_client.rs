//! After warm-up a client and its server allocate nothing: counted by the allocator, over a million messages that come back,
//! compressed and not.
//!
//! One loop that listens and dials itself, in one thread, so that what is counted is all there is. One test in this binary:
//! the count is the process's.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    alloc::System,
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::Bytes;
use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use wsloop::{
    Compression, Config, Conn, ConnId, Connect, EventLoop, Frames, Handler, HttpResponse,
    ListenAddr, Message, MessageKind, Payload, Progress, Request, Response, Sent,
};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const MESSAGES: usize = 1_000_000;
/// Small messages in one round, besides one of each other shape.
const SMALL_PER_ROUND: usize = 1000;
/// Messages of other shapes in one round: owned, shared, and from frames a fragmented one and a whole one.
const OTHERS_PER_ROUND: usize = 4;
const DEADLINE: Duration = Duration::from_secs(300);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Server,
    Client,
}

#[derive(Default)]
struct App {
    client: Option<ConnId>,
    messages: usize,
    pongs: usize,
    /// The payload that is sent again and again.
    owned: Option<Vec<u8>>,
}

impl Handler for App {
    type Session = End;

    fn on_upgrade(&mut self, _: &Request<'_>, _: &mut Response<'_>) -> Result<End, HttpResponse> {
        Ok(End::Server)
    }

    fn on_open(&mut self, conn: &mut Conn<'_, End>) {
        if *conn.session() == End::Client {
            self.client = Some(conn.id());
        }
    }

    fn on_message(&mut self, conn: &mut Conn<'_, End>, message: Message<'_>) {
        match conn.session() {
            End::Server => conn.send_copy(message.kind(), message.as_bytes()).unwrap(),
            End::Client => self.messages += 1,
        }
    }

    fn on_pong(&mut self, _: &mut Conn<'_, End>, _: &[u8]) {
        self.pongs += 1;
    }

    fn on_write_complete(&mut self, _: &mut Conn<'_, End>, mut sent: Sent) {
        sent.unmask();
        if let Payload::Owned(bytes) = sent.payload {
            assert!(bytes.iter().all(|byte| *byte == 8), "unmasked");
            self.owned = Some(bytes);
        }
    }
}

struct Round {
    event_loop: EventLoop<End>,
    app: App,
    shared: Bytes,
    frames: Frames,
}

impl Round {
    fn connect(compression: Compression) -> Self {
        let config = Config::default()
            .send_queue(4)
            .compression(compression)
            .compression_threshold(0);
        let mut event_loop = EventLoop::new(config).unwrap();
        event_loop.set_rng(ChaCha20Rng::from_seed([3; 32]));
        let listener = event_loop
            .listen(SocketAddr::from(([127, 0, 0, 1], 0)))
            .unwrap();
        let ListenAddr::Tcp(address) = event_loop.local_addr(listener).unwrap() else {
            panic!()
        };
        let connect = Connect::to(&format!("ws://{address}/")).unwrap();
        event_loop.connect(connect, End::Client).unwrap();
        let frames = Frames::builder()
            .fragments(MessageKind::Text, &[b"frag", &[b'm'; 5000], b"ented"])
            .message(MessageKind::Binary, &[9; 20_000])
            .build();
        let mut round = Self {
            event_loop,
            app: App {
                owned: Some(vec![8; 65_536]),
                ..App::default()
            },
            shared: Bytes::from(vec![7; 30_000]),
            frames,
        };
        round.turn_until(|app| app.client.is_some());
        round
    }

    fn turn_until(&mut self, reached: impl Fn(&App) -> bool) {
        let end = Instant::now() + DEADLINE;
        while !reached(&self.app) {
            let progress = self
                .event_loop
                .turn(&mut self.app, Some(Duration::from_secs(1)))
                .unwrap();
            assert_eq!(progress, Progress::Running);
            assert!(Instant::now() < end, "{} messages", self.app.messages);
        }
    }

    /// Sends a round of messages and waits until all of them are back.
    fn go(&mut self) {
        let id = self.app.client.unwrap();
        let owned = self.app.owned.take().unwrap();
        let mut connections = self.event_loop.connections();
        let mut conn = connections.get(id).unwrap();
        for _ in 0..SMALL_PER_ROUND {
            conn.send_copy(MessageKind::Binary, &[7; 20]).unwrap();
        }
        conn.send(MessageKind::Binary, owned).unwrap();
        conn.send(MessageKind::Binary, self.shared.clone()).unwrap();
        conn.send_frames(&self.frames).unwrap();
        conn.send_ping(b"between").unwrap();
        let messages = self.app.messages + SMALL_PER_ROUND + OTHERS_PER_ROUND;
        let pongs = self.app.pongs + 1;
        self.turn_until(|app| {
            app.messages == messages && app.pongs == pongs && app.owned.is_some()
        });
    }
}

#[test]
fn a_million_messages_of_a_client_allocate_nothing() {
    allocate_nothing(Compression::Off);
    if cfg!(feature = "deflate") {
        allocate_nothing(Compression::Shared);
        allocate_nothing(Compression::Dedicated);
    }
}

fn allocate_nothing(compression: Compression) {
    let mut round = Round::connect(compression);
    for _ in 0..20 {
        round.go();
    }
    round.app.messages = 0;
    let id = round.app.client.unwrap();
    let compresses = round.event_loop.connections().get(id).unwrap().compresses();
    assert_eq!(compresses, compression != Compression::Off);

    let region = Region::new(ALLOCATOR);
    for _ in 0..MESSAGES.div_ceil(SMALL_PER_ROUND + OTHERS_PER_ROUND) {
        round.go();
    }
    let counted = region.change();

    assert!(round.app.messages >= MESSAGES);
    assert_eq!(counted.allocations, 0, "{counted:?}");
    assert_eq!(counted.reallocations, 0, "{counted:?}");
}
