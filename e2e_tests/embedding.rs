use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::{
        fd::{AsFd, AsRawFd},
        unix::net::UnixStream,
    },
    sync::mpsc::{Receiver, channel},
    time::{Duration, Instant},
};

use mio::{Events, Interest, Poll, Token, unix::SourceFd};
use wsloop::{
    AdoptErrorKind, Config, ConnId, Connections, EventLoop, ListenAddr, MessageKind, PeerAddr,
    PostErrorKind, Progress, Stream, Tokens,
};

use super::support::{
    App, Client, DEADLINE, Event, Frame, Server, Session, frame, masked_frame, pattern,
    upgrade_request,
};

type Job = Box<dyn FnOnce(&mut App, &mut Connections<'_, Session>) + Send>;

/// A loop in the test's own thread.
struct Own {
    event_loop: EventLoop<Session, Job>,
    app: App,
    events: Receiver<Event>,
}

impl Own {
    fn new(event_loop: EventLoop<Session, Job>) -> Self {
        let (report, events) = channel();
        Self {
            event_loop,
            app: App::new(report),
            events,
        }
    }

    fn alone() -> Self {
        Self::new(EventLoop::new(Config::default()).unwrap())
    }

    fn listen(&mut self) -> SocketAddr {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = self.event_loop.listen(any).unwrap();
        match self.event_loop.local_addr(listener).unwrap() {
            ListenAddr::Tcp(addr) => addr,
            other => panic!("{other}"),
        }
    }

    fn turn(&mut self, timeout: Option<Duration>) {
        let progress = self.event_loop.turn(&mut self.app, timeout).unwrap();
        assert_eq!(progress, Progress::Running);
    }

    /// Busy-polls until `reached`.
    fn spin(&mut self, what: &str, mut reached: impl FnMut(&mut Self) -> bool) {
        let end = Instant::now() + DEADLINE;
        while !reached(self) {
            assert!(Instant::now() < end, "{what}");
            self.turn(Some(Duration::ZERO));
        }
    }

    /// Busy-polls until `stream` has brought `count` bytes.
    fn spin_for(&mut self, stream: &mut (impl Read + AsFd), count: usize) -> Vec<u8> {
        socket2::SockRef::from(&*stream)
            .set_nonblocking(true)
            .unwrap();
        let mut got = Vec::new();
        self.spin("bytes for the client", |_| {
            let mut chunk = vec![0; count - got.len()];
            match stream.read(&mut chunk) {
                Ok(0) => panic!("ended"),
                Ok(count) => got.extend_from_slice(&chunk[..count]),
                Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
            }
            got.len() == count
        });
        got
    }

    fn timers(&self) -> Vec<u64> {
        self.events
            .try_iter()
            .filter_map(|event| match event {
                Event::Timer(data) => Some(data),
                _ => None,
            })
            .collect()
    }
}

/// Length of the 101 that the requests here get.
fn read_101(own: &mut Own, stream: &mut (impl Read + AsFd)) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.extend(own.spin_for(stream, 1));
    }
    assert!(head.starts_with(b"HTTP/1.1 101"));
}

#[test]
fn busy_polling_serves_clients_in_the_same_thread() {
    let mut own = Own::alone();
    let addr = own.listen();
    let mut clients: Vec<TcpStream> = (0..5).map(|_| TcpStream::connect(addr).unwrap()).collect();
    for client in &mut clients {
        client
            .write_all(upgrade_request("/", "").as_bytes())
            .unwrap();
        read_101(&mut own, client);
    }
    for at in 0..100 {
        for client in &mut clients {
            client
                .write_all(&masked_frame(0x82, &pattern(at * 10, 1)))
                .unwrap();
        }
        for client in &mut clients {
            let wanted = frame(0x82, &pattern(at * 10, 1));
            assert_eq!(own.spin_for(client, wanted.len()), wanted);
        }
    }
    drop(clients);
    own.spin("all gone", |own| {
        own.event_loop.stats().connections.current == 0
    });
    assert_eq!(own.event_loop.next_timeout(), None);
}

#[test]
fn a_loop_lives_in_the_callers_poll() {
    const MINE: Token = Token(3);
    let mut poll = Poll::new().unwrap();
    let tokens = Tokens::space(7).unwrap();
    let event_loop = EventLoop::with_poll(Config::default(), &poll, tokens).unwrap();
    let mut own = Own::new(event_loop);
    let addr = own.listen();
    let (mut ours, mut theirs) = mio::net::UnixStream::pair().unwrap();
    poll.registry()
        .register(&mut ours, MINE, Interest::READABLE)
        .unwrap();
    let error = own
        .event_loop
        .turn(&mut own.app, Some(Duration::ZERO))
        .unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::Unsupported);
    own.event_loop
        .connections()
        .set_timer(Duration::from_millis(30), 77)
        .unwrap();
    let client = std::thread::spawn(move || {
        let mut client = Client::connect(addr);
        for at in 0..50 {
            client.send_binary(&pattern(3000, at));
            assert_eq!(client.read_frame(), Frame::binary(pattern(3000, at)));
        }
        theirs.write_all(b"mine").unwrap();
        client.send_close(1000, "");
        client.expect_close(1000);
        theirs
    });
    let mut events = Events::with_capacity(16);
    let (mut mine, mut timers) = (0, 0);
    let end = Instant::now() + DEADLINE;
    while mine == 0 || timers == 0 || own.event_loop.stats().closed.peer == 0 {
        assert!(Instant::now() < end);
        let timeout = own
            .event_loop
            .next_timeout()
            .unwrap_or(DEADLINE)
            .min(DEADLINE);
        poll.poll(&mut events, Some(timeout)).unwrap();
        for event in &events {
            if event.token() == MINE {
                assert!(!tokens.owns(event.token()));
                let mut bytes = [0; 8];
                assert_eq!(ours.read(&mut bytes).unwrap(), 4);
                mine += 1;
            } else {
                assert!(tokens.owns(event.token()));
            }
        }
        let progress = own.event_loop.handle_events(&mut own.app, &events);
        assert_eq!(progress, Progress::Running);
        timers += own.timers().len();
    }
    assert_eq!((mine, timers), (1, 1));
    drop(client.join().unwrap());
}

#[test]
fn a_loop_nests_in_another_poll() {
    let mut own = Own::alone();
    let addr = own.listen();
    let fd = own.event_loop.as_fd().as_raw_fd();
    let mut poll = Poll::new().unwrap();
    poll.registry()
        .register(&mut SourceFd(&fd), Token(0), Interest::READABLE)
        .unwrap();
    let mut events = Events::with_capacity(4);
    // Nothing to do: not readable.
    own.turn(Some(Duration::ZERO));
    poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
    assert!(events.is_empty());
    let client = std::thread::spawn(move || {
        let mut client = Client::connect(addr);
        for at in 0..30 {
            client.send_binary(&pattern(50_000, at));
            assert_eq!(client.read_frame(), Frame::binary(pattern(50_000, at)));
        }
    });
    let end = Instant::now() + DEADLINE;
    while own.event_loop.stats().closed.end_of_stream == 0 {
        assert!(Instant::now() < end);
        let timeout = own.event_loop.next_timeout().unwrap_or(DEADLINE);
        poll.poll(&mut events, Some(timeout)).unwrap();
        // The outer poll is edge-triggered: turn until nothing comes.
        for _ in 0..3 {
            own.turn(Some(Duration::ZERO));
        }
    }
    client.join().unwrap();
    // A message from another thread makes it readable.
    own.turn(Some(Duration::ZERO));
    let remote = own.event_loop.remote();
    std::thread::spawn(move || {
        let posted = remote.post(Box::new(
            |app: &mut App, _: &mut Connections<'_, Session>| {
                app.report(Event::Note("posted".to_owned()));
            },
        ));
        assert!(posted.is_ok());
    });
    let start = Instant::now();
    poll.poll(&mut events, Some(DEADLINE)).unwrap();
    assert!(start.elapsed() < DEADLINE);
    own.turn(Some(Duration::ZERO));
    assert!(
        own.events
            .try_iter()
            .any(|event| event == Event::Note("posted".to_owned()))
    );
}

#[test]
fn timers_fire_in_order_and_not_when_cancelled() {
    let mut own = Own::alone();
    let mut connections = own.event_loop.connections();
    let millis = Duration::from_millis;
    connections.set_timer(millis(40), 4).unwrap();
    connections.set_timer(millis(20), 2).unwrap();
    let cancelled = connections.set_timer(millis(10), 1).unwrap();
    connections.set_timer(millis(20), 3).unwrap();
    connections.set_timer(Duration::ZERO, 0).unwrap();
    connections.set_timer(Duration::MAX, 99).unwrap();
    assert!(connections.cancel_timer(cancelled));
    assert!(!connections.cancel_timer(cancelled));
    let start = Instant::now();
    let mut fired = Vec::new();
    while fired.len() < 4 {
        own.turn(None);
        for data in own.timers() {
            assert!(start.elapsed() + millis(5) >= millis([0, 0, 20, 20, 40][data as usize]));
            fired.push(data);
        }
    }
    assert_eq!(fired, [0, 2, 3, 4]);
    assert_eq!(own.event_loop.stats().timers.current, 1);
    own.turn(Some(Duration::ZERO));
    assert_eq!(own.timers(), [0; 0]);
}

/// A timer with no delay that is set in `on_timer` fires in the next turn, also while other timers are set.
#[test]
fn a_timer_without_delay_waits_for_the_next_turn() {
    let mut own = Own::alone();
    own.app.on_timer = Some(Box::new(|connections, timer, data| {
        // The one that fires is not set any more.
        assert!(!connections.cancel_timer(timer));
        connections.set_timer(Duration::ZERO, data + 1).unwrap();
    }));
    let mut connections = own.event_loop.connections();
    for _ in 0..10 {
        connections
            .set_timer(Duration::from_secs(1000), 1000)
            .unwrap();
    }
    connections.set_timer(Duration::ZERO, 0).unwrap();
    for turn in 0..5 {
        own.turn(Some(Duration::ZERO));
        assert_eq!(own.timers(), [turn]);
    }
}

#[test]
fn a_foreign_source_has_events_until_it_is_taken_off() {
    let mut own = Own::alone();
    let (mut ours, mut theirs) = mio::net::UnixStream::pair().unwrap();
    let id = own
        .event_loop
        .connections()
        .register(&mut ours, Interest::READABLE)
        .unwrap();
    let count = |own: &mut Own| {
        for _ in 0..3 {
            own.turn(Some(Duration::ZERO));
        }
        own.events
            .try_iter()
            .filter(|event| *event == Event::Source)
            .count()
    };
    assert_eq!(count(&mut own), 0);
    theirs.write_all(b"a").unwrap();
    assert_eq!(count(&mut own), 1);
    let mut byte = [0; 8];
    assert_eq!(ours.read(&mut byte).unwrap(), 1);
    // Watched for something else: a byte is no event, room to write is one.
    own.event_loop
        .connections()
        .reregister(id, &mut ours, Interest::WRITABLE)
        .unwrap();
    assert_eq!(count(&mut own), 1);
    theirs.write_all(b"b").unwrap();
    own.event_loop
        .connections()
        .reregister(id, &mut ours, Interest::READABLE)
        .unwrap();
    assert_eq!(count(&mut own), 1);
    // Under way already, but taken off before the turn.
    theirs.write_all(b"c").unwrap();
    own.event_loop
        .connections()
        .deregister(id, &mut ours)
        .unwrap();
    assert_eq!(count(&mut own), 0);
    let gone = own
        .event_loop
        .connections()
        .reregister(id, &mut ours, Interest::READABLE);
    assert_eq!(gone.unwrap_err().kind(), std::io::ErrorKind::NotFound);
    // The next one in its place is told apart.
    let next = own
        .event_loop
        .connections()
        .register(&mut ours, Interest::READABLE)
        .unwrap();
    assert_ne!(next, id);
    assert_eq!(count(&mut own), 1);
    let twice = own
        .event_loop
        .connections()
        .register(&mut ours, Interest::READABLE);
    assert!(twice.is_err());
    assert_eq!(own.event_loop.stats().sources.current, 1);
}

/// A source that is taken off in the callback of another: the event that is in the same batch finds nobody.
#[test]
fn a_source_taken_off_within_the_batch_has_no_event() {
    let mut own = Own::alone();
    let (mut one, mut a) = mio::net::UnixStream::pair().unwrap();
    let (mut two, mut b) = mio::net::UnixStream::pair().unwrap();
    let mut connections = own.event_loop.connections();
    let ids = [
        connections.register(&mut one, Interest::READABLE).unwrap(),
        connections.register(&mut two, Interest::READABLE).unwrap(),
    ];
    let mut sources = [one, two];
    own.app.on_source = Some(Box::new(move |connections, id, _| {
        let other = usize::from(id == ids[0]);
        connections
            .deregister(ids[other], &mut sources[other])
            .unwrap();
    }));
    a.write_all(b"a").unwrap();
    b.write_all(b"b").unwrap();
    own.turn(None);
    assert_eq!(
        own.events
            .try_iter()
            .filter(|event| *event == Event::Source)
            .count(),
        1
    );
}

#[test]
fn posts_from_many_threads_arrive_in_their_order() {
    const THREADS: usize = 8;
    const EACH: usize = 2000;
    let config = Config::default().mailbox_capacity(16);
    let mut own = Own::new(EventLoop::new(config).unwrap());
    let (note, notes) = channel();
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let remote = own.event_loop.remote();
            let note = note.clone();
            std::thread::spawn(move || {
                for number in 0..EACH {
                    let note = note.clone();
                    let mut job: Job = Box::new(move |_, _| note.send((thread, number)).unwrap());
                    while let Err(error) = remote.post(job) {
                        assert_eq!(error.kind, PostErrorKind::Full);
                        job = error.message;
                        std::thread::yield_now();
                    }
                }
            })
        })
        .collect();
    drop(note);
    let mut next = [0; THREADS];
    // Without a timeout: every message has to wake the poll.
    while next != [EACH; THREADS] {
        own.turn(None);
        for (thread, number) in notes.try_iter() {
            assert_eq!(number, next[thread]);
            next[thread] += 1;
        }
    }
    for thread in threads {
        thread.join().unwrap();
    }
    // Gone, and the message comes back.
    let remote = own.event_loop.remote();
    drop(own);
    let (note, answer) = channel();
    let error = remote
        .post(Box::new(move |_, _| note.send(5).unwrap()))
        .unwrap_err();
    assert_eq!(error.kind, PostErrorKind::Gone);
    drop(error.message);
    assert!(answer.recv().is_err());
}

#[test]
fn a_post_wakes_an_idle_loop_again_and_again() {
    let server = Server::echo();
    for _ in 0..200 {
        // Each waits for its answer, so the loop is idle, or about to be, when the next one comes.
        let start = Instant::now();
        server.with(|_, _| ());
        assert!(start.elapsed() < DEADLINE / 4);
    }
}

#[test]
fn a_turn_without_events_ends_with_its_timeout() {
    let mut own = Own::alone();
    let _ = own.listen();
    let start = Instant::now();
    own.turn(Some(Duration::from_millis(30)));
    assert!(start.elapsed() >= Duration::from_millis(30));
    own.event_loop
        .connections()
        .set_timer(Duration::from_millis(20), 1)
        .unwrap();
    // The timer comes before the caller's timeout, however long that is.
    own.turn(Some(Duration::MAX));
    own.turn(Some(Duration::ZERO));
    assert_eq!(own.timers(), [1]);
}

fn adopted(stream: Stream, mut client: impl Read + Write + AsFd, read_already: usize) {
    let mut own = Own::alone();
    let frames = [
        masked_frame(0x81, b"behind"),
        masked_frame(0x82, &pattern(3000, 1)),
    ]
    .concat();
    let wire = [upgrade_request("/adopted", "").into_bytes(), frames].concat();
    let (read, unread) = wire.split_at(read_already.min(wire.len()));
    own.event_loop.adopt(stream, read).unwrap();
    client.write_all(unread).unwrap();
    read_101(&mut own, &mut client);
    let echo = [frame(0x81, b"behind"), frame(0x82, &pattern(3000, 1))].concat();
    assert_eq!(own.spin_for(&mut client, echo.len()), echo);
    let stats = own.event_loop.stats();
    assert_eq!((stats.adopted, stats.accepted, stats.opened), (1, 0, 1));
    assert!(own.events.try_iter().any(|event| {
        event
            == Event::Upgrade {
                path: "/adopted".to_owned(),
            }
    }));
}

#[test]
fn sockets_of_others_are_adopted_with_what_was_read() {
    let head = upgrade_request("/adopted", "").len();
    for read in [
        0,
        1,
        20,
        head - 1,
        head,
        head + 1,
        head + 5,
        head + 12,
        head + 1000,
        usize::MAX,
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        adopted(Stream::try_from(accepted).unwrap(), client, read);
        let (ours, theirs) = UnixStream::pair().unwrap();
        adopted(Stream::try_from(ours).unwrap(), theirs, read);
    }
}

#[test]
fn a_connection_that_was_upgraded_elsewhere_opens_with_what_was_read() {
    let frames = [
        masked_frame(0x81, b"behind"),
        masked_frame(0x82, &pattern(3000, 1)),
    ]
    .concat();
    let echo = [frame(0x81, b"behind"), frame(0x82, &pattern(3000, 1))].concat();
    for read in [0, 1, 6, 12, 13, 1000, frames.len()] {
        let mut own = Own::alone();
        let (ours, mut client) = UnixStream::pair().unwrap();
        let mut connections = own.event_loop.connections();
        let session = Session {
            tag: 7,
            ..Session::default()
        };
        let stream = Stream::try_from(ours).unwrap();
        let adopted = connections.adopt_upgraded(stream, &frames[..read], session);
        adopted.unwrap();
        client.write_all(&frames[read..]).unwrap();
        assert_eq!(own.spin_for(&mut client, echo.len()), echo, "{read}");
        let stats = own.event_loop.stats();
        assert_eq!((stats.adopted, stats.opened), (1, 1));
        let asked = |event: Event| matches!(event, Event::Upgrade { .. });
        assert!(!own.events.try_iter().any(asked));
    }
}

#[test]
fn an_upgraded_connection_that_cannot_be_taken_comes_back() {
    let config = Config::default().max_connections(1).initial_connections(1);
    let mut own = Own::new(EventLoop::new(config).unwrap());
    let pair = || UnixStream::pair().unwrap();
    let (first, _first) = pair();
    let mut adopt = |stream: UnixStream, bytes: Vec<u8>| {
        let stream = Stream::try_from(stream).unwrap();
        let mut connections = own.event_loop.connections();
        connections.adopt_upgraded(stream, bytes, Session::default())
    };
    let (error, _) = adopt(pair().0, vec![0; 4097]).unwrap_err();
    assert_eq!(error.kind, AdoptErrorKind::TooManyBytes);
    assert_eq!(error.bytes.len(), 4097);
    adopt(first, vec![]).unwrap();
    let (error, session) = adopt(pair().0, vec![1]).unwrap_err();
    assert_eq!(
        (error.kind, error.bytes),
        (AdoptErrorKind::NoConnection, vec![1])
    );
    assert_eq!(session, Session::default());
}

#[test]
fn an_adopted_socket_with_nonsense_is_answered() {
    let mut own = Own::alone();
    let (ours, mut client) = UnixStream::pair().unwrap();
    own.event_loop
        .adopt(Stream::try_from(ours).unwrap(), *b"nonsense\r\n\r\n")
        .unwrap();
    assert!(own.spin_for(&mut client, 12).starts_with(b"HTTP/1.1 400"));
    drop(client);
    own.spin("gone", |own| own.event_loop.stats().handshakes.current == 0);
    // One that is dead already.
    let (ours, client) = UnixStream::pair().unwrap();
    drop(client);
    own.event_loop
        .adopt(
            Stream::try_from(ours).unwrap(),
            upgrade_request("/", "").into_bytes(),
        )
        .unwrap();
    own.spin("gone", |own| {
        let stats = own.event_loop.stats();
        stats.handshakes.current + stats.connections.current == 0 && stats.adopted == 2
    });
}

#[test]
fn unix_sockets_are_as_good_as_tcp() {
    let path = std::env::temp_dir().join(format!("wsloop-embedding-{}.sock", std::process::id()));
    let mut own = Own::alone();
    own.app.on_open = Some(Box::new(|conn| {
        assert!(matches!(conn.peer_addr(), PeerAddr::Unix(None)));
    }));
    let listener = own.event_loop.listen(path.clone()).unwrap();
    assert_eq!(
        own.event_loop.local_addr(listener).unwrap(),
        ListenAddr::Unix(path.clone())
    );
    let mut client = UnixStream::connect(&path).unwrap();
    client
        .write_all(upgrade_request("/", "").as_bytes())
        .unwrap();
    read_101(&mut own, &mut client);
    for size in [0, 100, 5000, 60_000] {
        let mut wire = &masked_frame(0x82, &pattern(size, 1))[..];
        own.spin("the client has written", |_| {
            match client.write(wire) {
                Ok(count) => wire = &wire[count..],
                Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
            }
            wire.is_empty()
        });
        let wanted = frame(0x82, &pattern(size, 1));
        assert!(own.spin_for(&mut client, wanted.len()) == wanted);
    }
    client.write_all(&masked_frame(0x88, &[])).unwrap();
    assert_eq!(own.spin_for(&mut client, 2), [0x88, 0]);
    drop(client);
    own.spin("closed", |own| own.event_loop.stats().closed.peer == 1);
    drop(own);
    assert!(!path.exists(), "a dropped loop removes it too");
}

#[test]
fn one_connection_sends_on_another() {
    let server = Server::start(Config::default(), |app| {
        let mut first: Option<ConnId> = None;
        app.on_open = Some(Box::new(move |conn| {
            let me = conn.id();
            let Some(other) = first else {
                first = Some(me);
                return;
            };
            let mut peer = conn.peer(other).unwrap();
            assert_eq!(peer.id(), other);
            peer.send_copy(MessageKind::Text, b"someone came").unwrap();
            // And back again through it.
            let mut back = peer.peer(me).unwrap();
            back.send(MessageKind::Text, "welcome").unwrap();
        }));
        app.on_message = Some(Box::new(|conn, message| {
            let (session, mut sender) = conn.split();
            session.messages += 10;
            let text = format!("{} so far", session.messages);
            sender.send(message.kind(), text).unwrap();
            assert_eq!(conn.session().messages % 11, 0);
        }));
    });
    let mut first = server.connect();
    server.expect_open();
    let mut second = server.connect();
    assert_eq!(first.read_frame(), Frame::text("someone came"));
    assert_eq!(second.read_frame(), Frame::text("welcome"));
    for at in 1..=3 {
        second.send_text("count");
        assert_eq!(
            second.read_frame(),
            Frame::text(&format!("{} so far", at * 11))
        );
    }
}

/// Sends between turns are written by the next turn, which does not wait.
#[test]
fn what_is_sent_between_turns_is_written_in_the_next() {
    let mut own = Own::alone();
    let addr = own.listen();
    let mut client = TcpStream::connect(addr).unwrap();
    client
        .write_all(upgrade_request("/", "").as_bytes())
        .unwrap();
    read_101(&mut own, &mut client);
    own.spin("quiet", |own| own.event_loop.next_timeout().is_none());
    let id = own.event_loop.connections().ids().next().unwrap();
    let mut connections = own.event_loop.connections();
    let mut conn = connections.get(id).unwrap();
    conn.send(MessageKind::Text, "hello").unwrap();
    assert_eq!(own.event_loop.next_timeout(), Some(Duration::ZERO));
    own.turn(None);
    assert_eq!(own.spin_for(&mut client, 7), frame(0x81, b"hello"));
    assert!(
        own.events
            .try_iter()
            .any(|event| matches!(event, Event::WriteComplete(..)))
    );
}
