//! Our client and our server under the same scenarios, once with the client pooled in a loop and once with one that the
//! caller owns.

use std::{
    sync::mpsc::{Receiver, channel},
    time::{Duration, Instant},
};

use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};
use wsloop::{
    CloseCode, Config, Conn, ConnId, Connect, ConnectError, Connections, EventLoop, Frames,
    HttpResponse, Initiator, MessageKind,
};

use super::support::{App, DEADLINE, Event, SEED, Server, Session, pattern};

/// Frame headers of every length, buffers of every kind, and more than a turn reads.
const SIZES: [usize; 12] = [
    0, 1, 125, 126, 4095, 4096, 4097, 65_535, 65_536, 65_537, 300_000, 3_000_000,
];

struct Scenario {
    name: &'static str,
    server: fn() -> Server,
    play: fn(&mut Caller, &Server),
}

const SCENARIOS: [Scenario; 10] = [
    Scenario {
        name: "every size comes back",
        server: Server::echo,
        play: sizes,
    },
    Scenario {
        name: "a thousand messages in flight",
        server: Server::echo,
        play: in_flight,
    },
    Scenario {
        name: "a fragmented message with a ping between",
        server: Server::echo,
        play: fragmented,
    },
    Scenario {
        name: "pings of both sides",
        server: Server::echo,
        play: pings,
    },
    Scenario {
        name: "closed by the client",
        server: Server::echo,
        play: closed_by_client,
    },
    Scenario {
        name: "closed by the server",
        server: Server::echo,
        play: closed_by_server,
    },
    Scenario {
        name: "a subprotocol",
        server: with_subprotocols,
        play: subprotocol,
    },
    Scenario {
        name: "a refusal",
        server: refusing,
        play: refused,
    },
    Scenario {
        name: "reading paused by the client",
        server: Server::echo,
        play: paused_by_client,
    },
    Scenario {
        name: "reading paused by the server",
        server: Server::echo,
        play: paused_by_server,
    },
];

#[test]
fn a_client_of_a_loop() {
    play_all(|config| {
        let mut event_loop = EventLoop::new(config).unwrap();
        event_loop.set_rng(ChaCha20Rng::from_seed(SEED));
        Ours::Pooled(Box::new(event_loop))
    });
}

#[test]
fn a_client_alone() {
    play_all(|config| {
        let rng = ChaCha20Rng::from_seed(SEED);
        Ours::Lone(Box::new(wsloop::Client::new(config, rng).unwrap()))
    });
}

fn play_all(ours: fn(Config) -> Ours) {
    for Scenario { name, server, play } in SCENARIOS {
        // Seen when it fails.
        println!("{name}");
        let server = server();
        let mut caller = Caller::new(ours(Config::default()));
        play(&mut caller, &server);
        caller.assert_nothing_left();
    }
}

/// Who drives the connection.
enum Ours {
    Pooled(Box<EventLoop<Session, Job>>),
    Lone(Box<wsloop::Client<Session>>),
}

/// What is posted to the handler; nothing is here.
type Job = Box<dyn FnOnce(&mut App, &mut Connections<'_, Session>) + Send>;

/// The client's side, in the test's thread.
struct Caller {
    ours: Ours,
    app: App,
    events: Receiver<Event>,
}

impl Caller {
    fn new(ours: Ours) -> Self {
        let (report, events) = channel();
        let mut app = App::new(report);
        app.on_message = Some(Box::new(|_, _| {}));
        Self { ours, app, events }
    }

    fn connections(&mut self) -> Connections<'_, Session> {
        match &mut self.ours {
            Ours::Pooled(event_loop) => event_loop.connections(),
            Ours::Lone(client) => client.connections(),
        }
    }

    fn turn(&mut self, timeout: Duration) {
        match &mut self.ours {
            Ours::Pooled(event_loop) => {
                let _ = event_loop.turn(&mut self.app, Some(timeout)).unwrap();
            }
            Ours::Lone(client) => {
                client.turn(&mut self.app, Some(timeout)).unwrap();
            }
        }
    }

    fn dial(&mut self, connect: Connect) {
        let begun = self.connections().connect(connect, Session::default());
        begun.unwrap();
    }

    fn open(&mut self, server: &Server) -> ConnId {
        self.dial(Connect::to(&server.url("/")).unwrap());
        self.expect_open()
    }

    fn expect_open(&mut self) -> ConnId {
        self.expect("on_open", |event| match event {
            Event::Open(id) => Some(*id),
            _ => None,
        })
    }

    /// Turns until it is told something for which `wanted` says yes; what it is told before is dropped.
    fn expect<T>(&mut self, what: &str, mut wanted: impl FnMut(&Event) -> Option<T>) -> T {
        let end = Instant::now() + DEADLINE;
        loop {
            if let Some(found) = self.events.try_iter().find_map(|event| wanted(&event)) {
                return found;
            }
            assert!(Instant::now() < end, "no {what} within {DEADLINE:?}");
            self.turn(Duration::from_millis(10));
        }
    }

    fn expect_message(&mut self) -> Vec<u8> {
        self.expect("on_message", |event| match event {
            Event::Message(_, _, payload) => Some(payload.clone()),
            _ => None,
        })
    }

    fn expect_close(&mut self) -> wsloop::Close {
        self.expect("on_close", |event| match event {
            Event::Close(_, close) => Some(close.clone()),
            _ => None,
        })
    }

    fn on<T>(&mut self, id: ConnId, job: impl FnOnce(&mut Conn<'_, Session>) -> T) -> T {
        job(&mut self.connections().get(id).expect("it is there"))
    }

    fn close(&mut self, id: ConnId) {
        self.on(id, |conn| conn.close(CloseCode::NORMAL, "bye").unwrap());
        assert!(self.expect_close().clean);
    }

    fn assert_nothing_left(&mut self) {
        let stats = self.connections().stats();
        for (what, pool) in [
            ("connections", stats.connections),
            ("dials", stats.dials),
            ("read buffers", stats.read_buffers),
            ("large buffers", stats.large_buffers),
        ] {
            assert_eq!(pool.current, 0, "{what}");
        }
    }
}

fn sizes(caller: &mut Caller, server: &Server) {
    let id = caller.open(server);
    for size in SIZES {
        let payload = pattern(size, size as u32);
        caller.on(id, |conn| {
            conn.send_copy(MessageKind::Binary, &payload).unwrap();
        });
        assert!(caller.expect_message() == payload, "{size} copied");
        let sent = payload.clone();
        caller.on(id, |conn| conn.send(MessageKind::Binary, sent).unwrap());
        assert!(caller.expect_message() == payload, "{size} moved");
    }
    caller.close(id);
}

fn in_flight(caller: &mut Caller, server: &Server) {
    let id = caller.open(server);
    caller.on(id, |conn| {
        for at in 0..1000 {
            conn.send_copy(MessageKind::Text, at.to_string().as_bytes())
                .unwrap();
        }
    });
    for at in 0..1000 {
        assert_eq!(caller.expect_message(), at.to_string().as_bytes());
    }
    caller.close(id);
}

fn fragmented(caller: &mut Caller, server: &Server) {
    let id = caller.open(server);
    let theirs = server.expect_open();
    let payload = pattern(100_000, 5);
    let parts: Vec<&[u8]> = payload.chunks(7001).collect();
    let frames = Frames::builder()
        .fragments(MessageKind::Binary, &parts)
        .ping(b"between")
        .unwrap()
        .build();
    caller.on(id, |conn| conn.send_frames(&frames).unwrap());
    assert!(caller.expect_message() == payload);
    server.expect("our ping", |event| {
        matches!(event, Event::Ping(_, payload) if payload == b"between").then_some(())
    });
    // And the other way, by pieces.
    server.on(theirs, |conn| {
        for (part, last) in [(&b"in "[..], false), (b"three ", false), (b"parts", true)] {
            conn.send_fragment(MessageKind::Text, part, last).unwrap();
        }
    });
    assert_eq!(caller.expect_message(), b"in three parts");
    caller.close(id);
}

fn pings(caller: &mut Caller, server: &Server) {
    let id = caller.open(server);
    let theirs = server.expect_open();
    caller.on(id, |conn| conn.send_ping(b"up").unwrap());
    caller.expect("pong", |event| {
        matches!(event, Event::Pong(_, payload) if payload == b"up").then_some(())
    });
    server.on(theirs, |conn| conn.send_ping(b"down").unwrap());
    caller.expect("ping", |event| {
        matches!(event, Event::Ping(_, payload) if payload == b"down").then_some(())
    });
    caller.close(id);
    server.expect("our pong", |event| {
        matches!(event, Event::Pong(_, payload) if payload == b"down").then_some(())
    });
}

fn closed_by_client(caller: &mut Caller, server: &Server) {
    let id = caller.open(server);
    caller.on(id, |conn| {
        conn.close(CloseCode::new(4321), "enough").unwrap();
    });
    for (close, initiator) in [
        (caller.expect_close(), Initiator::Local),
        (server.expect_close(), Initiator::Remote),
    ] {
        assert!(close.clean, "{close:?}");
        assert_eq!(close.initiator, initiator);
        assert_eq!(close.code, Some(CloseCode::new(4321)));
        assert_eq!(close.reason, "enough");
    }
}

fn closed_by_server(caller: &mut Caller, server: &Server) {
    caller.open(server);
    let theirs = server.expect_open();
    server.on(theirs, |conn| {
        conn.close(CloseCode::new(4001), "go").unwrap();
    });
    for (close, initiator) in [
        (caller.expect_close(), Initiator::Remote),
        (server.expect_close(), Initiator::Local),
    ] {
        assert!(close.clean, "{close:?}");
        assert_eq!(close.initiator, initiator);
        assert_eq!(close.code, Some(CloseCode::new(4001)));
        assert_eq!(close.reason, "go");
    }
}

fn with_subprotocols() -> Server {
    let config = Config::default().subprotocols(vec!["chat.v2".to_owned(), "chat".to_owned()]);
    Server::start(config, |_| {})
}

fn subprotocol(caller: &mut Caller, server: &Server) {
    for (offer, chosen) in [
        (&["chat", "chat.v2"][..], Some("chat.v2")),
        (&["mqtt", "chat"], Some("chat")),
        (&["mqtt"], None),
    ] {
        let connect = Connect::to(&server.url("/")).unwrap();
        let connect = offer
            .iter()
            .fold(connect, |connect, name| connect.subprotocol(name).unwrap());
        caller.dial(connect);
        let got = caller.expect("on_connected", |event| match event {
            Event::Connected { subprotocol, .. } => Some(subprotocol.clone()),
            _ => None,
        });
        assert_eq!(got.as_deref(), chosen);
        let id = caller.expect_open();
        caller.close(id);
    }
}

fn refusing() -> Server {
    Server::start(Config::default(), |app| {
        app.on_upgrade = Some(Box::new(|_, _| Err(HttpResponse::forbidden())));
    })
}

fn refused(caller: &mut Caller, server: &Server) {
    caller.dial(Connect::to(&server.url("/")).unwrap());
    let error = caller.expect("on_connect_failed", |event| match event {
        Event::ConnectFailed(_, error) => Some(error.clone()),
        _ => None,
    });
    let ConnectError::Refused(answer) = error else {
        panic!("{error:?}")
    };
    assert_eq!(answer.status, 403);
}

fn paused_by_client(caller: &mut Caller, server: &Server) {
    let id = caller.open(server);
    let theirs = server.expect_open();
    caller.on(id, |conn| conn.pause_reads());
    server.on(theirs, |conn| {
        conn.send(MessageKind::Text, "wait").unwrap();
    });
    // It is read ahead, and nobody is told what it says.
    caller.expect("bytes", |event| {
        matches!(event, Event::BytesRead(..)).then_some(())
    });
    for _ in 0..3 {
        caller.turn(Duration::ZERO);
    }
    let heard: Vec<Event> = caller.events.try_iter().collect();
    assert_eq!(heard, []);
    // Sending goes on.
    caller.on(id, |conn| conn.send_copy(MessageKind::Text, b"up").unwrap());
    caller.turn(Duration::ZERO);
    assert_eq!(server.expect_message(), b"up");

    caller.on(id, |conn| conn.resume_reads());
    assert_eq!(caller.expect_message(), b"wait");
    assert_eq!(caller.expect_message(), b"up");
    caller.close(id);
}

fn paused_by_server(caller: &mut Caller, server: &Server) {
    let id = caller.open(server);
    let theirs = server.expect_open();
    server.on(theirs, |conn| conn.pause_reads());
    // More than the sockets take.
    let payload = pattern(12 << 20, 9);
    let sent = payload.clone();
    caller.on(id, |conn| conn.send(MessageKind::Binary, sent).unwrap());
    for _ in 0..3 {
        caller.turn(Duration::ZERO);
    }
    let backlog = caller.on(id, |conn| conn.backlog());
    assert!(backlog > 0);
    server.on(theirs, |conn| conn.resume_reads());
    assert!(caller.expect_message() == payload);
    caller.close(id);
}
