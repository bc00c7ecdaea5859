use socket2::SockRef;
use wsloop::{Config, Frames, MessageKind, SendErrorKind};

use super::support::{Client, Event, Frame, Server, masked_frame, pattern};

#[test]
fn pings_of_every_size_are_answered() {
    let server = Server::echo();
    let mut client = server.connect();
    for size in 0..=125 {
        client.send_ping(&pattern(size, size as u32));
        let pong = client.read_frame();
        assert_eq!(pong, Frame::pong(&pattern(size, size as u32)), "{size}");
    }
    let stats = server.stats();
    assert_eq!((stats.received.pings, stats.sent.pongs), (126, 126));
}

#[test]
fn a_ping_may_be_cut_anywhere() {
    let server = Server::echo();
    let mut client = server.connect();
    let wire = masked_frame(0x89, &pattern(125, 1));
    for cut in 1..wire.len() {
        client.write(&wire[..cut]);
        client.write(&wire[cut..]);
        assert_eq!(client.read_frame(), Frame::pong(&pattern(125, 1)), "{cut}");
    }
}

#[test]
fn every_ping_of_a_segment_is_answered_while_the_peer_reads() {
    let server = Server::echo();
    let mut client = server.connect();
    let mut wire: Vec<u8> = (0..200u8)
        .flat_map(|at| masked_frame(0x89, &[at; 10]))
        .collect();
    wire.extend(masked_frame(0x81, b"behind"));
    client.write(&wire);
    for at in 0..200 {
        assert_eq!(client.read_frame(), Frame::pong(&[at; 10]));
    }
    assert_eq!(client.read_frame(), Frame::text("behind"));
    assert_eq!(server.stats().received.pings, 200);
}

/// A server that answers "big" with two messages that fill the kernel's buffers, and reads on meanwhile.
fn clogging() -> (Server, Client) {
    let config = Config::default()
        .send_buffer_size(Some(16_384))
        .send_queue(8)
        .high_water(1 << 30)
        .max_backlog(1 << 30);
    let server = Server::start(config, |app| {
        app.on_message = Some(Box::new(|conn, message| match message.text() {
            Some("big") => {
                for seed in [1, 2] {
                    conn.send(MessageKind::Binary, pattern(2 << 20, seed))
                        .unwrap();
                }
            }
            _ => conn.send_copy(message.kind(), message.as_bytes()).unwrap(),
        }));
    });
    let mut client = server.connect();
    SockRef::from(&client.stream)
        .set_recv_buffer_size(16_384)
        .unwrap();
    client.send_text("big");
    server.expect_message();
    (server, client)
}

#[test]
fn while_the_peer_does_not_read_the_newest_ping_wins_and_goes_between_messages() {
    let (server, mut client) = clogging();
    for at in 0..100u8 {
        client.send_ping(&[at; 125]);
        server.expect("ping", |event| {
            matches!(event, Event::Ping(_, payload) if payload[..] == [at; 125]).then_some(())
        });
    }
    // Behind what waits, but not a control frame more than the one.
    client.send_text("behind");
    server.expect_message();
    assert_eq!(client.read_frame(), Frame::binary(pattern(2 << 20, 1)));
    assert_eq!(client.read_frame(), Frame::pong(&[99; 125]));
    assert_eq!(client.read_frame(), Frame::binary(pattern(2 << 20, 2)));
    assert_eq!(client.read_frame(), Frame::text("behind"));
}

/// Advisory class: pongs that pile up for a reader that does not read (libevent, Netty, ws-rs CVE-2020-35896).
#[test]
fn advisory_pending_pongs_do_not_pile_up() {
    let (server, mut client) = clogging();
    let before = server.stats();
    let pings: Vec<u8> = (0..1000)
        .flat_map(|_| masked_frame(0x89, &[7; 125]))
        .collect();
    for _ in 0..20 {
        client.write(&pings);
    }
    let after = server.wait_for("all pings", |stats| stats.received.pings == 20_000);
    // Reading ahead of a spent turn takes a buffer; 20,000 pongs would take two and a half megabytes.
    assert!(after.buffer_memory.peak <= before.buffer_memory.peak + (512 << 10));
    client.read_frame();
    assert_eq!(client.read_frame(), Frame::pong(&[7; 125]));
    assert_eq!(client.read_frame(), Frame::binary(pattern(2 << 20, 2)));
}

#[test]
fn the_ring_takes_two_full_frames_and_an_empty_one() {
    let (server, mut client) = clogging();
    let id = server.with(|_, connections| connections.ids().next().unwrap());
    let results = server.with(move |_, connections| {
        let mut conn = connections.get(id).unwrap();
        [
            conn.send_ping(&[1; 126]),
            conn.send_pong(&[1; 126]),
            conn.send_ping(&[1; 125]),
            conn.send_pong(&[2; 125]),
            conn.send_ping(b"x"),
            conn.send_ping(b""),
            conn.send_pong(b""),
        ]
    });
    use SendErrorKind::{ControlFrameTooBig, QueueFull};
    assert_eq!(
        results,
        [
            Err(ControlFrameTooBig),
            Err(ControlFrameTooBig),
            Ok(()),
            Ok(()),
            Err(QueueFull),
            Ok(()),
            Err(QueueFull),
        ]
    );
    // The automatic pong has a place of its own, and comes first.
    client.send_ping(b"auto");
    server.expect("ping", |event| {
        matches!(event, Event::Ping(..)).then_some(())
    });
    assert_eq!(client.read_frame(), Frame::binary(pattern(2 << 20, 1)));
    let control = client.read_frames(4);
    assert_eq!(
        control,
        [
            Frame::pong(b"auto"),
            Frame::ping(&[1; 125]),
            Frame::pong(&[2; 125]),
            Frame::ping(b""),
        ]
    );
    assert_eq!(client.read_frame(), Frame::binary(pattern(2 << 20, 2)));
    // There is room again.
    let result =
        server.with(move |_, connections| connections.get(id).unwrap().send_ping(&[3; 125]));
    assert_eq!(result, Ok(()));
    assert_eq!(client.read_frame(), Frame::ping(&[3; 125]));
    let sent = server.stats().sent;
    assert_eq!(
        (sent.pings, sent.pongs),
        (3, 2),
        "refused ones do not count"
    );
}

#[test]
fn control_goes_before_data_that_was_staged_earlier() {
    let server = Server::start(Config::default(), |app| {
        app.on_message = Some(Box::new(|conn, _| {
            conn.send_copy(MessageKind::Text, b"copied").unwrap();
            conn.send(MessageKind::Text, "moved").unwrap();
            let frames = Frames::message(MessageKind::Text, b"shared");
            conn.send_frames(&frames).unwrap();
            conn.send_ping(b"ring one").unwrap();
            conn.send_pong(b"ring two").unwrap();
            conn.auto_pong(b"automatic");
        }));
    });
    let mut client = server.connect();
    client.send_text("go");
    let frames = client.read_frames(6);
    assert_eq!(
        frames,
        [
            Frame::pong(b"automatic"),
            Frame::ping(b"ring one"),
            Frame::pong(b"ring two"),
            Frame::text("copied"),
            Frame::text("moved"),
            Frame::text("shared"),
        ]
    );
}

#[test]
fn a_handler_of_its_own_takes_the_duty_over() {
    let server = Server::start(Config::default(), |app| {
        app.on_ping = Some(Box::new(|conn, payload| {
            if payload != b"ignore" {
                conn.send_pong(&[b"own ", payload].concat()).unwrap();
            }
        }));
    });
    let mut client = server.connect();
    client.send_ping(b"ignore");
    client.send_ping(b"answer");
    assert_eq!(client.read_frame(), Frame::pong(b"own answer"));
    client.send_text("and nothing else");
    assert_eq!(client.read_frame(), Frame::text("and nothing else"));
}

#[test]
fn a_ping_of_the_servers_and_its_pong() {
    let server = Server::echo();
    let mut client = server.connect();
    let id = server.expect_open();
    server
        .with(move |_, connections| connections.get(id).unwrap().send_ping(b"are you there"))
        .unwrap();
    assert_eq!(client.read_frame(), Frame::ping(b"are you there"));
    client.write(&masked_frame(0x8A, b"are you there"));
    let pong = server.expect("pong", |event| match event {
        Event::Pong(conn, payload) => Some((*conn, payload.clone())),
        _ => None,
    });
    assert_eq!(pong, (id, b"are you there".to_vec()));
    let stats = server.stats();
    assert_eq!((stats.sent.pings, stats.received.pongs), (1, 1));
}

#[test]
fn unsolicited_pongs_are_reported_and_not_answered() {
    let server = Server::echo();
    let mut client = server.connect();
    for size in [0, 1, 125] {
        client.write(&masked_frame(0x8A, &vec![b'p'; size]));
        let payload = server.expect("pong", |event| match event {
            Event::Pong(_, payload) => Some(payload.clone()),
            _ => None,
        });
        assert_eq!(payload, vec![b'p'; size]);
    }
    client.send_text("still here");
    assert_eq!(client.read_frame(), Frame::text("still here"));
}

#[test]
fn control_frames_inside_a_large_message_are_handled_at_once() {
    let server = Server::echo();
    let mut client = server.connect();
    let payload = pattern(300_000, 1);
    client.write(&masked_frame(0x02, &payload[..100_000]));
    client.send_ping(b"in between");
    assert_eq!(client.read_frame(), Frame::pong(b"in between"));
    client.write(&masked_frame(0x00, &payload[100_000..200_000]));
    client.write(&masked_frame(0x8A, b""));
    client.write(&masked_frame(0x80, &payload[200_000..]));
    assert_eq!(client.read_frame(), Frame::binary(payload));
}

#[test]
fn pings_of_many_connections_get_their_own_pongs() {
    let server = Server::echo();
    let mut clients: Vec<Client> = (0..30).map(|_| server.connect()).collect();
    for (at, client) in clients.iter_mut().enumerate() {
        client.send_ping(&pattern(at * 4, at as u32));
    }
    for (at, client) in clients.iter_mut().enumerate() {
        assert_eq!(
            client.read_frame(),
            Frame::pong(&pattern(at * 4, at as u32))
        );
    }
}
