//! Buffers: who holds how many of which size, and that they come home.

use std::{
    io::Write,
    sync::mpsc::{Sender, channel},
};

use wsloop::{
    CloseCause, CloseCode, Config, Initiator, MessageKind, Payload, SendErrorKind, Stats,
};

use super::support::{Client, DEADLINE, Event, Frame, Server, masked_frame, pattern};

const SMALL: usize = 256;
const LARGE: usize = 1024;

/// Small tiers, so that a few kilobytes pass through all of them: 256, 1,024, 4,096, 16,384 and so on.
fn small_tiers() -> Config {
    Config::default()
        .read_buffer_size(SMALL)
        .large_buffer_size(LARGE)
        .max_head_size(LARGE)
        .max_message_size(200_000)
        .initial_read_buffers(0)
        .initial_large_buffers(0)
}

fn nothing_leased(stats: &Stats) -> bool {
    stats.read_buffers.current == 0 && stats.large_buffers.current == 0
}

#[test]
fn every_size_around_the_tiers_in_one_write_and_cut_in_two() {
    let server = Server::start(small_tiers(), |_| {});
    let mut client = server.connect();
    let around = |size: usize| size.saturating_sub(15)..size + 3;
    let sizes = around(SMALL)
        .chain(around(LARGE))
        .chain(around(4 * LARGE))
        .chain(around(16 * LARGE))
        .chain([65_535, 65_536, 199_999, 200_000]);
    for size in sizes {
        let payload = pattern(size, size as u32);
        let wire = masked_frame(0x82, &payload);
        client.write(&wire);
        assert_eq!(client.read_frame(), Frame::binary(&payload[..]), "{size}");
        for cut in [1, 7, wire.len() / 2, wire.len() - 1] {
            client.write(&wire[..cut]);
            client.write(&wire[cut..]);
            assert_eq!(
                client.read_frame(),
                Frame::binary(&payload[..]),
                "{size} {cut}"
            );
        }
    }
    server.wait_for("an idle connection leases nothing", nothing_leased);
}

/// Each step is seen by the server before the next: the buffers grow while the message arrives.
#[test]
fn a_dripped_large_message_climbs_through_the_tiers() {
    let server = Server::start(small_tiers(), |_| {});
    let mut client = server.connect();
    let payload = pattern(100_000, 1);
    let wire = masked_frame(0x82, &payload);
    let mut arrived = 0usize;
    for step in [1, 13, 20, 200, 800, 1, 3000, 10_000, 40_000, usize::MAX] {
        let end = wire.len().min(arrived.saturating_add(step));
        client.write(&wire[arrived..end]);
        arrived = end;
        if arrived == wire.len() {
            break;
        }
        let bytes = arrived as u64;
        let stats = server.wait_for("arrived", |stats| stats.received.bytes == bytes);
        // Four times what has come, or one large buffer, and the old one while its bytes move.
        let bound = LARGE.max(4 * arrived) + LARGE + arrived;
        assert!(
            stats.buffer_memory.current <= bound,
            "{arrived}: {stats:#?}"
        );
        assert!(stats.read_buffers.current + stats.large_buffers.current <= 1);
    }
    assert_eq!(client.read_frame(), Frame::binary(payload));
    server.wait_for("back", nothing_leased);
}

#[test]
fn idle_connections_lease_nothing_whatever_they_did_before() {
    let server = Server::echo();
    let mut clients: Vec<Client> = (0..20).map(|_| server.connect()).collect();
    for (at, client) in clients.iter_mut().enumerate() {
        let size = [0, 5, 125, 126, 4096, 5000, 65_536, 200_000][at % 8];
        client.send_binary(&pattern(size, 1));
        client.send_ping(b"ping");
        client.write(&masked_frame(0x01, b"frag"));
        client.write(&masked_frame(0x80, b"ment"));
    }
    for client in &mut clients {
        let frames = client.read_frames(3);
        assert!(frames.contains(&Frame::text("fragment")), "{frames:?}");
    }
    server.wait_for("nothing leased", nothing_leased);
    assert_eq!(server.stats().connections.current, 20);
}

/// Advisory class: memory taken for an announced length (rust-websocket CVE-2022-35922, gorilla CVE-2020-27813).
#[test]
fn advisory_announced_16_mib_with_one_byte_sent_takes_one_large_buffer_at_most() {
    let config = Config::default()
        .initial_read_buffers(0)
        .initial_large_buffers(0);
    let server = Server::start(config, |_| {});
    let mut clients: Vec<Client> = (0..10).map(|_| server.connect()).collect();
    let header_and_byte = |len: u64| {
        let mut wire = vec![0x82, 0xFF];
        wire.extend(len.to_be_bytes());
        wire.extend([1, 2, 3, 4, 5]);
        wire
    };
    let wire = header_and_byte(16 << 20);
    for client in &mut clients {
        client.write(&wire[..wire.len() - 1]);
    }
    let header_bytes = 10 * (wire.len() as u64 - 1);
    let stats = server.wait_for("headers", |stats| stats.received.bytes == header_bytes);
    assert!(stats.large_buffers.current <= 10, "{stats:#?}");
    for client in &mut clients {
        client.write(&wire[wire.len() - 1..]);
    }
    let stats = server.wait_for("bytes", |stats| stats.received.bytes == header_bytes + 10);
    assert!(stats.large_buffers.current <= 10, "{stats:#?}");
    assert_eq!(stats.read_buffers.current, 0);
    assert!(stats.buffer_memory.peak <= 10 * 65_536, "{stats:#?}");
    // They come home when the clients go.
    drop(clients);
    server.wait_for("back", |stats| {
        nothing_leased(stats) && stats.connections.current == 0
    });
}

/// The first half megabyte of 16 announced takes what follows from the half, not from the 16.
#[test]
fn advisory_growth_follows_what_has_arrived() {
    let server = Server::echo();
    let mut client = server.connect();
    let payload = pattern(16 << 20, 1);
    let wire = masked_frame(0x82, &payload);
    let half = 512 << 10;
    let mut writer = client.stream.try_clone().unwrap();
    writer.write_all(&wire[..half]).unwrap();
    let stats = server.wait_for("half", |stats| stats.received.bytes == half as u64);
    assert!(stats.buffer_memory.peak < 4 << 20, "{stats:#?}");
    let rest = wire[half..].to_vec();
    let writing = std::thread::spawn(move || writer.write_all(&rest).unwrap());
    assert_eq!(client.read_frame(), Frame::binary(payload));
    writing.join().unwrap();
}

/// Takes every message and sends what it took.
fn taking(config: Config) -> Server {
    Server::start(config, |app| {
        app.on_message = Some(Box::new(|conn, message| {
            let kind = message.kind();
            conn.send(kind, message.take()).unwrap();
        }));
    })
}

#[test]
fn a_taken_message_is_sent_back_and_its_buffer_comes_home() {
    let server = taking(small_tiers().send_queue(100));
    let mut client = server.connect();
    for size in [
        0,
        1,
        SMALL,
        SMALL + 1,
        LARGE,
        LARGE + 1,
        5000,
        100_000,
        200_000,
    ] {
        let payload = pattern(size, 1);
        let wire = masked_frame(0x82, &payload);
        for cut in [0, wire.len() / 2] {
            client.write(&wire[..cut]);
            client.write(&wire[cut..]);
            assert_eq!(client.read_frame(), Frame::binary(&payload[..]), "{size}");
            let sent = server.expect("completion", |event| match event {
                Event::WriteComplete(_, sent, _) => Some(sent.clone()),
                _ => None,
            });
            assert_eq!(sent, payload);
        }
    }
    // An assembled empty message has no buffer of its own.
    client.write(&masked_frame(0x01, b""));
    client.write(&masked_frame(0x80, b""));
    assert_eq!(client.read_frame(), Frame::text(""));
    server.wait_for("back", nothing_leased);
}

/// A server that hands over the payloads of its messages, unread.
fn keeping(config: Config, keep: Sender<Payload>) -> Server {
    Server::start(config, move |app| {
        app.on_message = Some(Box::new(move |_, message| {
            keep.send(message.take()).unwrap();
        }));
    })
}

#[test]
fn a_taken_message_outlives_its_connection_and_may_be_dropped_anywhere() {
    let (keep, kept) = channel();
    let server = keeping(Config::default(), keep);
    let mut client = server.connect();
    let payload = pattern(30_000, 1);
    let wire = masked_frame(0x82, &payload);
    client.write(&wire[..10_000]);
    server.wait_for("a part", |stats| stats.received.bytes == 10_000);
    client.write(&wire[10_000..]);
    let taken = kept.recv_timeout(DEADLINE).unwrap();
    assert!(matches!(taken, Payload::Pooled(_)), "{taken:?}");
    // What follows does not touch it.
    client.write(&wire[..10_000]);
    client.write(&wire[10_000..]);
    let second = kept.recv_timeout(DEADLINE).unwrap();
    drop(client);
    server.expect_close();
    assert_eq!(taken.as_slice(), Some(&payload[..]));
    assert!(server.stats().large_buffers.current >= 1);
    drop(taken);
    drop(second);
    server.wait_for("back", nothing_leased);
}

#[test]
fn a_leased_buffer_is_filled_and_sent() {
    let server = Server::start(small_tiers(), |app| {
        app.on_message = Some(Box::new(|conn, _| {
            let mut buffer = conn.sender().lease(5000).unwrap();
            assert_eq!(buffer.len(), 5000);
            buffer.copy_from_slice(&pattern(5000, 9));
            buffer.truncate(4000);
            conn.send(MessageKind::Binary, buffer).unwrap();
            assert!(conn.sender().lease(1 << 30).is_none());
            drop(conn.sender().lease(10));
        }));
    });
    let mut client = server.connect();
    client.send_text("go");
    assert_eq!(
        client.read_frame(),
        Frame::binary(&pattern(5000, 9)[..4000])
    );
    server.wait_for("back", nothing_leased);
}

/// Asserts that the server gives up on this client for want of buffers.
fn assert_turned_away(server: &Server, client: &mut Client) {
    client.expect_close(1013);
    let close = server.expect_close();
    assert_eq!(close.cause, CloseCause::OutOfBuffers);
    assert_eq!(close.code, Some(CloseCode::TRY_AGAIN_LATER));
    assert_eq!(close.initiator, Initiator::Local);
}

/// Runs out of buffers with `part` of `whole` in each of `room` connections; one more is turned away, the others go on.
fn exhaust(server: &Server, room: usize, whole: &[u8], part: usize) {
    let mut lucky: Vec<Client> = (0..room).map(|_| server.connect()).collect();
    let mut unlucky = server.connect();
    let mut idle = server.connect();
    let before = server.stats().received.bytes;
    for client in &mut lucky {
        client.write(&whole[..part]);
    }
    let arrived = before + (room * part) as u64;
    server.wait_for("arrived", |stats| stats.received.bytes == arrived);
    unlucky.write(&whole[..part]);
    assert_turned_away(server, &mut unlucky);
    idle.send_text("in one piece");
    assert_eq!(server.expect_message(), b"in one piece");
    let expected = server.stats().received.messages + room as u64;
    for client in &mut lucky {
        client.write(&whole[part..]);
    }
    let stats = server.wait_for("the others", |stats| stats.received.messages == expected);
    assert_eq!(stats.closed.out_of_buffers, 1);
    assert!(nothing_leased(&stats), "{stats:#?}");
    // And what was refused to one is there for the next.
    let mut next = server.connect();
    next.write(&whole[..part]);
    next.write(&whole[part..]);
    server.wait_for("the next", |stats| stats.received.messages == expected + 1);
}

/// A server that only listens, so that all buffers are used for reading.
fn listening(config: Config) -> Server {
    Server::start(config, |app| app.on_message = Some(Box::new(|_, _| {})))
}

#[test]
fn when_read_buffers_run_out_one_connection_is_closed_with_1013() {
    let server = listening(small_tiers().max_read_buffers(3));
    exhaust(&server, 3, &masked_frame(0x81, &[b'x'; 200]), 100);
}

/// Half a header needs a buffer as well.
#[test]
fn when_read_buffers_run_out_for_headers() {
    let server = listening(small_tiers().max_read_buffers(2));
    exhaust(&server, 2, &masked_frame(0x82, &[b'x'; 50]), 3);
}

#[test]
fn when_large_buffers_run_out_one_connection_is_closed_with_1013() {
    let server = listening(small_tiers().max_large_buffers(2));
    exhaust(&server, 2, &masked_frame(0x82, &pattern(1000, 1)), 500);
}

#[test]
fn when_buffer_memory_runs_out_one_connection_is_closed_with_1013() {
    let config = small_tiers()
        .max_buffer_memory(40_000)
        .max_idle_buffer_memory(0);
    // Two buffers of 16 KiB fit, and none of 4 KiB to begin a third one with beside the one of 16 KiB.
    let server = listening(config);
    exhaust(&server, 2, &masked_frame(0x82, &pattern(14_000, 1)), 10_000);
}

#[test]
fn buffers_that_are_kept_make_room_under_the_budget() {
    let config = small_tiers()
        .max_buffer_memory(30_000)
        .max_idle_buffer_memory(30_000);
    let server = listening(config);
    let mut client = server.connect();
    // Each size leaves a buffer behind that the next one has no room beside.
    for (at, size) in [100, 1000, 4000, 14_000, 1000, 14_000, 100]
        .into_iter()
        .enumerate()
    {
        let wire = masked_frame(0x82, &pattern(size, 1));
        client.write(&wire[..wire.len() / 2]);
        client.write(&wire[wire.len() / 2..]);
        let messages = at as u64 + 1;
        let stats = server.wait_for("message", |stats| stats.received.messages == messages);
        assert!(stats.buffer_memory.peak <= 30_000, "{stats:#?}");
    }
}

/// A send that finds no buffer is an error for the application and nothing else.
#[test]
fn when_buffers_run_out_for_writing_the_send_is_refused() {
    let config = small_tiers().max_large_buffers(1).send_queue(2);
    let server = Server::start(config, |app| {
        app.on_message = Some(Box::new(|conn, message| {
            let taken = message.take();
            assert!(matches!(taken, Payload::Pooled(_)));
            let refused = conn.send_copy(MessageKind::Binary, &[7; 900]);
            assert_eq!(refused, Err(SendErrorKind::OutOfBuffers));
            // Small and moved ones still go.
            conn.send_copy(MessageKind::Text, b"small").unwrap();
            conn.send(MessageKind::Binary, taken).unwrap();
        }));
    });
    let mut client = server.connect();
    let payload = pattern(1000, 1);
    let wire = masked_frame(0x82, &payload);
    for round in 0..3 {
        client.write(&wire[..500]);
        let bytes = (round * wire.len() + 500) as u64;
        server.wait_for("half of it", |stats| stats.received.bytes == bytes);
        client.write(&wire[500..]);
        assert_eq!(client.read_frame(), Frame::text("small"));
        assert_eq!(client.read_frame(), Frame::binary(&payload[..]));
    }
    server.wait_for("back", nothing_leased);
}

/// What is read and held back (the turn is over, reading pauses) can be as much as the scratch buffer, however small messages
/// are. There must be a buffer for it.
#[test]
fn small_messages_by_the_thousand_need_no_large_message_limit() {
    let config = Config::default()
        .max_message_size(1000)
        .turn_messages(100)
        .recv_buffer_size(Some(1 << 20));
    let server = Server::start(config, |_| {});
    let mut client = server.connect();
    let wire = masked_frame(0x81, b"tick").repeat(12_000);
    let mut writer = client.stream.try_clone().unwrap();
    let hold = server.hold();
    writer.write_all(&wire).unwrap();
    drop(hold);
    for _ in 0..12_000 {
        assert_eq!(client.read_frame(), Frame::text("tick"));
    }
}

#[test]
fn a_pause_holds_back_what_was_read() {
    let config = Config::default()
        .max_message_size(1000)
        .recv_buffer_size(Some(1 << 20));
    let server = Server::start(config, |app| {
        app.on_message = Some(Box::new(|conn, message| {
            conn.send_copy(message.kind(), message.as_bytes()).unwrap();
            if message.text() == Some("pause") {
                conn.pause_reads();
            }
        }));
    });
    let mut client = server.connect();
    let id = server.expect_open();
    let wire = [
        masked_frame(0x81, b"pause"),
        masked_frame(0x81, b"tick").repeat(12_000),
    ]
    .concat();
    let hold = server.hold();
    client.write(&wire);
    drop(hold);
    assert_eq!(client.read_frame(), Frame::text("pause"));
    assert_eq!(server.stats().received.messages, 1);
    server.with(move |_, connections| connections.get(id).unwrap().resume_reads());
    for _ in 0..12_000 {
        assert_eq!(client.read_frame(), Frame::text("tick"));
    }
    server.wait_for("back", nothing_leased);
}

/// A pause that begins when bytes are read holds back every message in them, also one that they complete.
#[test]
fn a_pause_in_on_bytes_read_holds_back_the_message_that_the_bytes_complete() {
    for size in [10, 1000, 100_000] {
        let server = Server::start(Config::default(), |app| {
            app.on_bytes_read = Some(Box::new(|conn, _| conn.pause_reads()));
        });
        let mut client = server.connect();
        let id = server.expect_open();
        let payload = pattern(size, 1);
        let wire = masked_frame(0x82, &payload);
        let resume = move |_: &mut super::support::App,
                           connections: &mut wsloop::Connections<'_, _>| {
            connections.get(id).unwrap().resume_reads();
        };
        let (first, rest) = wire.split_at(wire.len() / 2);
        client.write(first);
        server.wait_for("first", |stats| {
            stats.received.bytes >= first.len().min(4096) as u64
        });
        server.with(resume);
        let mut bytes = server.stats().received.bytes;
        client.write(rest);
        // Read and resumed until all of it is there; each read pauses.
        while bytes < wire.len() as u64 {
            let paused = server.with(move |_, connections| {
                let conn = connections.get(id).unwrap();
                (conn.is_paused(), conn.session().messages)
            });
            if paused.0 {
                assert_eq!(paused.1, 0, "{size}: delivered during the pause");
                server.with(resume);
            }
            bytes = server.stats().received.bytes;
        }
        server.with(resume);
        assert_eq!(client.read_frame(), Frame::binary(payload));
    }
}
