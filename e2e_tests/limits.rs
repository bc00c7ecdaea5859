use std::{
    net::{TcpListener, TcpStream},
    time::{Duration, Instant},
};

use wsloop::{
    AdoptErrorKind, Config, ConnId, EventLoop, LimitReached, MessageKind, PostErrorKind,
    SendErrorKind, Stream,
};

use super::support::{
    Client, DEADLINE, EchoServer, Frame, Server, masked_frame, pattern, upgrade_request,
};

#[test]
fn clients_above_the_handshakes_wait_and_are_served_later() {
    let server = Server::start(
        Config::default().max_handshakes(4).initial_handshakes(4),
        |_| {},
    );
    // These hold all handshakes: they say nothing, or half of a request.
    let mut silent: Vec<Client> = (0..4).map(|_| Client::raw(server.addr)).collect();
    silent[0].write(b"GET / HTTP/1.1\r\n");
    server.wait_for("all handshakes are taken", |stats| {
        stats.handshakes.current == 4
    });
    let mut waiting: Vec<Client> = (0..10).map(|_| Client::raw(server.addr)).collect();
    for client in &mut waiting {
        client.write(upgrade_request("/", "").as_bytes());
    }
    for _ in 0..20 {
        assert_eq!(server.stats().accepted, 4);
    }
    silent.pop();
    for client in &mut waiting {
        assert_eq!(client.read_head().status, 101);
        client.send_text("at last");
        assert_eq!(client.read_frame(), Frame::text("at last"));
    }
    let stats = server.stats();
    assert_eq!((stats.handshakes.peak, stats.handshakes.max), (4, 4));
    // The slow ones were not forgotten.
    silent[0].write(&upgrade_request("/", "").as_bytes()[16..]);
    assert_eq!(silent[0].read_head().status, 101);
}

#[test]
fn above_the_connections_the_answer_is_503() {
    let config = Config::default()
        .max_connections(3)
        .initial_connections(3)
        .retry_after(7);
    let server = Server::start(config, |_| {});
    let mut clients: Vec<Client> = (0..3).map(|_| server.connect()).collect();
    for _ in 0..3 {
        let mut refused = Client::raw(server.addr);
        refused.write(upgrade_request("/", "").as_bytes());
        let answer = refused.read_answer();
        assert_eq!(answer.status, 503);
        assert_eq!(answer.header("retry-after"), Some("7"));
    }
    clients.pop().unwrap().send_close(1000, "");
    server.expect_close();
    let mut next = server.connect();
    next.send_text("in");
    assert_eq!(next.read_frame(), Frame::text("in"));
    let stats = server.stats();
    assert_eq!(stats.connections.peak, 3);
    assert_eq!(stats.refused.no_connection, 3);
    assert_eq!(stats.opened, 4);
}

#[test]
fn a_server_without_descriptors_waits_and_does_not_spin() {
    let mut server = EchoServer::start(Some(40));
    let mut clients: Vec<Client> = (0..100).map(|_| Client::raw(server.addr)).collect();
    for client in &mut clients {
        client.write(upgrade_request("/", "").as_bytes());
    }
    // The first come through; some number below the limit.
    let mut served = 0;
    for client in &mut clients[..20] {
        assert_eq!(client.read_head().status, 101);
        served += 1;
    }
    // Several periods of the back-off go by: this is a measurement, so time has to pass.
    let before = server.ticks();
    let until = Instant::now() + Duration::from_millis(600);
    while Instant::now() < until {
        let client = &mut clients[0];
        client.send_text("still served");
        assert_eq!(client.read_frame(), Frame::text("still served"));
        std::thread::sleep(Duration::from_millis(50));
    }
    let used = server.ticks() - before;
    assert!(used <= 15, "{used} ticks of processor time while waiting");
    // Room for the others, who have waited in the backlog.
    for client in clients.drain(..served) {
        drop(client);
    }
    while !clients.is_empty() {
        let mut client = clients.remove(0);
        assert_eq!(client.read_head().status, 101);
        client.send_text("now me");
        assert_eq!(client.read_frame(), Frame::text("now me"));
    }
    server.signal("TERM");
    assert!(server.wait().success());
}

#[test]
fn timers_sources_and_mailbox_say_when_they_are_full() {
    let config = Config::default()
        .max_timers(3)
        .max_sources(1)
        .mailbox_capacity(2);
    let server = Server::start(config, |app| {
        app.on_message = Some(Box::new(|_, _| {}));
    });
    let full = server.with(|_, connections| {
        let far = Duration::from_secs(1000);
        let timers: Vec<_> = (0..3)
            .map(|at| connections.set_timer(far, at).unwrap())
            .collect();
        let full = connections.set_timer(far, 9);
        assert!(connections.cancel_timer(timers[1]));
        assert!(!connections.cancel_timer(timers[1]));
        connections.set_timer(far, 9).unwrap();
        full
    });
    assert_eq!(full, Err(LimitReached("max_timers")));
    server.with(|_, connections| {
        let (mut first, mut second) = mio::net::UnixStream::pair().unwrap();
        let readable = mio::Interest::READABLE;
        let id = connections.register(&mut first, readable).unwrap();
        let error = connections.register(&mut second, readable).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::QuotaExceeded);
        assert!(error.to_string().contains("max_sources"));
        connections.deregister(id, &mut first).unwrap();
        let id = connections.register(&mut second, readable).unwrap();
        connections.deregister(id, &mut second).unwrap();
        let gone = connections.deregister(id, &mut second).unwrap_err();
        assert_eq!(gone.kind(), std::io::ErrorKind::NotFound);
    });
    let stats = server.stats();
    assert_eq!((stats.timers.current, stats.timers.peak), (3, 3));
    assert_eq!((stats.sources.current, stats.sources.peak), (0, 1));

    // The loop is kept busy, so nothing leaves the mailbox.
    let (release, wait) = std::sync::mpsc::channel::<()>();
    let (started, start) = std::sync::mpsc::channel();
    let remote = server.remote();
    let post = |number: u32, done: &std::sync::mpsc::Sender<u32>| {
        let done = done.clone();
        remote.post(Box::new(move |_, _| done.send(number).unwrap()))
    };
    let posted = remote.post(Box::new(move |_, _| {
        started.send(()).unwrap();
        let _ = wait.recv();
    }));
    assert!(posted.is_ok());
    start.recv().unwrap();
    let (done, numbers) = std::sync::mpsc::channel();
    assert!(post(1, &done).is_ok());
    assert!(post(2, &done).is_ok());
    let error = post(3, &done).unwrap_err();
    assert_eq!(error.kind, PostErrorKind::Full);
    drop(release);
    assert_eq!((numbers.recv(), numbers.recv()), (Ok(1), Ok(2)));
    // The message that came back is as good as before.
    let end = Instant::now() + DEADLINE;
    let mut message = error.message;
    while let Err(error) = remote.post(message) {
        assert!(Instant::now() < end);
        message = error.message;
    }
    assert_eq!(numbers.recv(), Ok(3));
}

#[test]
fn a_socket_that_is_not_adopted_comes_back_usable() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let pair = || {
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (
            client,
            Stream::try_from(listener.accept().unwrap().0).unwrap(),
        )
    };
    let config = Config::default()
        .max_handshakes(1)
        .initial_handshakes(1)
        .max_head_size(1000)
        .read_buffer_size(500);
    let server = Server::start(config, |_| {});
    let (mut client, stream) = pair();
    let (error, again) = server.with(move |_, connections| {
        let error = connections.adopt(stream, vec![7; 1501]).unwrap_err();
        assert_eq!(error.bytes, [7; 1501]);
        let kind = error.kind;
        // With fewer bytes the very same socket is taken.
        let start = upgrade_request("/", "").into_bytes();
        connections.adopt(error.stream, start).unwrap();
        let (_, second) = {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            (
                client,
                Stream::try_from(listener.accept().unwrap().0).unwrap(),
            )
        };
        let full = connections.adopt(second, *b"GET").unwrap_err();
        assert_eq!(full.bytes, b"GET");
        (kind, full.kind)
    });
    assert_eq!(error, AdoptErrorKind::TooManyBytes);
    assert_eq!(again, AdoptErrorKind::NoHandshake);
    let mut head = [0; 12];
    std::io::Read::read_exact(&mut client, &mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 101");
    assert_eq!(server.stats().adopted, 1);
}

/// The bound holds also when sockets are adopted while clients wait at the listener.
#[test]
fn adopted_sockets_count_as_handshakes() {
    let config = Config::default().max_handshakes(2).initial_handshakes(2);
    let server = Server::start(config, |_| {});
    let (release, wait) = std::sync::mpsc::channel::<()>();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let stream = Stream::try_from(listener.accept().unwrap().0).unwrap();
    let posted = server.remote().post(Box::new(move |_, connections| {
        connections.adopt(stream, Vec::new()).unwrap();
        let _ = wait.recv();
    }));
    assert!(posted.is_ok());
    drop(client);
    let mut waiting: Vec<Client> = (0..4).map(|_| Client::raw(server.addr)).collect();
    drop(release);
    server.wait_for("adopted", |stats| stats.adopted == 1);
    for client in &mut waiting {
        client.write(upgrade_request("/", "").as_bytes());
    }
    for client in &mut waiting {
        assert_eq!(client.read_head().status, 101);
    }
    assert!(server.stats().handshakes.peak <= 2, "{:#?}", server.stats());
}

#[test]
fn a_stale_id_never_reaches_the_next_connection_in_its_slot() {
    let server = Server::echo();
    let mut stale: Vec<ConnId> = Vec::new();
    for round in 0..20 {
        let mut client = server.connect();
        let id = server.expect_open();
        assert!(!stale.contains(&id));
        let known = stale.clone();
        server.with(move |_, connections| {
            for old in known {
                assert!(connections.get(old).is_none());
                assert!(connections.get(id).unwrap().peer(old).is_none());
            }
            assert_eq!(connections.ids().collect::<Vec<_>>(), [id]);
            let mut conn = connections.get(id).unwrap();
            conn.send_copy(MessageKind::Text, b"for you").unwrap();
        });
        assert_eq!(client.read_frame(), Frame::text("for you"));
        if round % 2 == 0 {
            client.send_close(1000, "");
            client.expect_close(1000);
        } else {
            drop(client);
        }
        server.expect_close();
        stale.push(id);
    }
    assert_eq!(server.stats().connections.peak, 1);
}

#[test]
fn without_buffers_a_connection_is_closed_and_a_send_refused() {
    let config = Config::default()
        .max_large_buffers(2)
        .initial_large_buffers(1)
        .send_buffer_size(Some(4096));
    let server = Server::start(config, |app| {
        app.on_message = Some(Box::new(|conn, _| {
            let mut lease = |len| conn.sender().lease(len);
            let kept = (lease(50_000).unwrap(), lease(50_000).unwrap());
            assert!(lease(50_000).is_none());
            let sent = conn.send_copy(MessageKind::Binary, &pattern(50_000, 1));
            assert_eq!(sent, Err(SendErrorKind::OutOfBuffers));
            drop(kept);
            conn.send_copy(MessageKind::Binary, &pattern(50_000, 1))
                .unwrap();
        }));
    });
    let mut client = server.connect();
    client.send_text("go");
    assert_eq!(client.read_frame(), Frame::binary(pattern(50_000, 1)));
    // Two large messages under way hold both buffers; the third connection finds none.
    let mut clients: Vec<Client> = (0..3).map(|_| server.connect()).collect();
    let half = &masked_frame(0x82, &pattern(50_000, 2))[..30_000];
    for client in &mut clients[..2] {
        client.write(half);
    }
    server.wait_for("both are taken", |stats| stats.large_buffers.current == 2);
    clients[2].write(half);
    clients[2].expect_close(1013);
    let cause = server.expect_close().cause;
    assert_eq!(cause, wsloop::CloseCause::OutOfBuffers);
    let stats = server.stats();
    assert_eq!(
        (stats.large_buffers.peak, stats.closed.out_of_buffers),
        (2, 1)
    );
}

/// A head that comes in pieces, with much behind it, while the large buffers are larger than the scratch buffer.
#[test]
fn a_head_in_a_buffer_larger_than_the_scratch_buffer_does_no_harm() {
    let config = Config::default()
        .large_buffer_size(1 << 20)
        .initial_large_buffers(0)
        .recv_buffer_size(Some(400_000));
    let server = Server::start(config, |_| {});
    let mut client = Client::raw(server.addr);
    let request = upgrade_request("/", &format!("X-Long: {}\r\n", "x".repeat(6000)));
    let (first, second) = request.as_bytes().split_at(5000);
    client.write(first);
    server.wait_for("a large buffer is taken", |stats| {
        stats.large_buffers.current == 1
    });
    // All of the rest is there before the loop looks again.
    let (release, wait) = std::sync::mpsc::channel::<()>();
    let posted = server.remote().post(Box::new(move |_, _| {
        let _ = wait.recv();
    }));
    assert!(posted.is_ok());
    let frames: Vec<u8> = (0..400)
        .flat_map(|at| masked_frame(0x82, &pattern(1000, at)))
        .collect();
    let wire = [second, &frames].concat();
    // The kernel takes more of it than the scratch buffer holds.
    let mut stream = client.stream.try_clone().unwrap();
    std::io::Write::write_all(&mut stream, &wire[..300_000]).unwrap();
    let sender = std::thread::spawn(move || {
        std::io::Write::write_all(&mut stream, &wire[300_000..]).unwrap();
    });
    drop(release);
    assert_eq!(client.read_head().status, 101);
    for at in 0..400 {
        assert_eq!(client.read_frame(), Frame::binary(pattern(1000, at)));
    }
    sender.join().unwrap();
}

#[test]
fn a_loop_refuses_settings_that_cannot_work() {
    let result = EventLoop::<(), ()>::new(Config::default().max_handshakes(0));
    assert!(result.unwrap_err().to_string().contains("max_handshakes"));
}
