use std::{
    io::{Read, Write},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use wsloop::{Config, ConnId, MessageKind, Outcome, Payload, SendErrorKind};

use super::support::{Client, DEADLINE, Event, Frame, Server, masked_frame, pattern};

/// The kernel takes little, so that a backlog builds up.
fn narrow() -> Config {
    Config::default().send_buffer_size(Some(4096))
}

fn backlog(server: &Server, id: ConnId) -> usize {
    server.with(move |_, connections| connections.get(id).unwrap().backlog())
}

/// Sends small messages until more than `bytes` wait; returns how many were sent.
fn fill(server: &Server, id: ConnId, bytes: usize, size: usize) -> usize {
    let end = Instant::now() + DEADLINE;
    let mut sent = 0;
    loop {
        // In a job each, so that the loop writes in between.
        let waiting = server.with(move |_, connections| {
            let mut conn = connections.get(id).unwrap();
            conn.send_copy(MessageKind::Binary, &pattern(size, sent as u32))
                .unwrap();
            conn.backlog()
        });
        sent += 1;
        if waiting > bytes + size && backlog(server, id) > bytes {
            return sent;
        }
        assert!(Instant::now() < end);
    }
}

fn drains(events: &[Event]) -> usize {
    events
        .iter()
        .filter(|event| matches!(event, Event::Drain(_)))
        .count()
}

#[test]
fn reading_can_go_on_whatever_waits() {
    let server = Server::start(narrow(), |app| {
        let report = app.reporter();
        app.on_message = Some(Box::new(move |_, message| {
            let note = message.text().unwrap().to_owned();
            report.send(Event::Note(note)).unwrap();
        }));
    });
    let mut client = server.connect();
    let id = server.expect_open();
    fill(&server, id, Config::default().high_water, 50_000);
    client.send_text("held back");
    server.on(id, |conn| conn.set_backlog_pause(false));
    // Nothing was read by the client meanwhile.
    server.expect_note("held back");
    client.send_text("at once");
    server.expect_note("at once");
    assert!(backlog(&server, id) > Config::default().high_water);
    // And it pauses again when that is wanted.
    server.on(id, |conn| conn.set_backlog_pause(true));
    client.send_text("later");
    server.with(|_, _| ());
    client.send_ping(b"last");
    let mut pong = Frame::binary("");
    while pong != Frame::pong(b"last") {
        pong = client.read_frame();
    }
    server.expect_note("later");
}

#[test]
fn an_echo_to_a_client_that_does_not_read_stays_bounded() {
    const MESSAGES: u32 = 200;
    const SIZE: usize = 50_000;
    let server = Server::start(Config::default().send_buffer_size(Some(65_536)), |_| {});
    let mut client = server.connect();
    let id = server.expect_open();
    let wire: Vec<u8> = (0..MESSAGES)
        .flat_map(|at| masked_frame(0x82, &pattern(SIZE, at)))
        .collect();
    let mut stream = client.stream.try_clone().unwrap();
    let sender = std::thread::spawn(move || stream.write_all(&wire).unwrap());
    let high_water = Config::default().high_water;
    while backlog(&server, id) < high_water {}
    // Long enough for whatever would still be read.
    let mut other = server.connect();
    for _ in 0..50 {
        other.send_text("are you there?");
        assert_eq!(other.read_frame(), Frame::text("are you there?"));
    }
    assert!(backlog(&server, id) < high_water + SIZE + 14);
    let stats = server.stats();
    assert!(stats.buffer_memory.current < 3 << 20, "{stats:#?}");
    assert!(stats.received.messages < 50 + u64::from(MESSAGES) / 4);
    for at in 0..MESSAGES {
        assert!(
            client.read_frame() == Frame::binary(pattern(SIZE, at)),
            "{at}"
        );
    }
    sender.join().unwrap();
    assert!(drains(&server.events()) > 0);
    assert_eq!(backlog(&server, id), 0);
}

/// With the default limits: the largest message, behind one that the client has not read.
#[test]
fn the_largest_message_is_echoed_although_something_waits() {
    let server = Server::start(Config::default().send_buffer_size(Some(65_536)), |_| {});
    let mut client = server.connect();
    let id = server.expect_open();
    let waiting = fill(&server, id, 200_000, 5000);
    let largest = pattern(16 << 20, 1);
    let wire = masked_frame(0x82, &largest);
    let mut stream = client.stream.try_clone().unwrap();
    let sender = std::thread::spawn(move || stream.write_all(&wire).unwrap());
    server.expect_message();
    for at in 0..waiting {
        assert_eq!(client.read_frame(), Frame::binary(pattern(5000, at as u32)));
    }
    assert!(client.read_frame() == Frame::binary(largest));
    sender.join().unwrap();
}

#[test]
fn one_payload_too_many_comes_back() {
    for depth in [1, 3] {
        let server = Server::start(Config::default().send_queue(depth), move |app| {
            app.on_message = Some(Box::new(move |conn, _| {
                for at in 0..depth {
                    conn.send(MessageKind::Binary, pattern(100, at as u32))
                        .unwrap();
                }
                let payload = pattern(100, 99);
                let address = payload.as_ptr();
                let error = conn.send(MessageKind::Text, payload).unwrap_err();
                assert_eq!(error.kind, SendErrorKind::WriteBusy);
                let back = error.payload.into_vec();
                assert_eq!(back.as_ptr(), address);
                assert_eq!(back, pattern(100, 99));
                // A copy is not a payload in flight.
                conn.send_copy(MessageKind::Text, b"copied").unwrap();
            }));
        });
        let mut client = server.connect();
        for _ in 0..3 {
            client.send_text("go");
            for at in 0..depth {
                assert_eq!(client.read_frame(), Frame::binary(pattern(100, at as u32)));
            }
            assert_eq!(client.read_frame(), Frame::text("copied"));
            for _ in 0..depth {
                server.expect("on_write_complete", |event| {
                    matches!(event, Event::WriteComplete(_, _, Outcome::Flushed)).then_some(())
                });
            }
        }
    }
}

#[test]
fn payloads_come_back_in_order_and_are_the_same() {
    let addresses = Arc::new(Mutex::new(Vec::new()));
    let sent = Arc::clone(&addresses);
    let server = Server::start(narrow().send_queue(8), move |app| {
        app.on_open = Some(Box::new(move |conn| {
            for at in 0..8 {
                let payload = pattern(if at % 2 == 0 { 400_000 } else { 10 }, at);
                sent.lock().unwrap().push(payload.as_ptr() as usize);
                conn.send(MessageKind::Binary, payload).unwrap();
            }
        }));
        app.on_write_complete = Some(Box::new(move |_, sent| {
            assert_eq!(sent.kind, MessageKind::Binary);
            let wanted = addresses.lock().unwrap().remove(0);
            assert_eq!(sent.payload.as_slice().unwrap().as_ptr() as usize, wanted);
        }));
    });
    let mut client = server.connect();
    for at in 0..8 {
        let len = if at % 2 == 0 { 400_000 } else { 10 };
        assert!(client.read_frame() == Frame::binary(pattern(len, at)));
    }
    for at in 0..8 {
        let (bytes, outcome) = server.expect("on_write_complete", |event| match event {
            Event::WriteComplete(_, bytes, outcome) => Some((bytes.clone(), *outcome)),
            _ => None,
        });
        assert!(bytes == pattern(if at % 2 == 0 { 400_000 } else { 10 }, at));
        assert_eq!(outcome, Outcome::Flushed);
    }
}

#[test]
fn a_full_backlog_gives_the_payload_back_and_says_when_it_is_over() {
    let config = narrow().max_backlog(300_000).send_queue(10);
    let server = Server::start(config, |app| {
        app.on_message = Some(Box::new(|conn, _| {
            let mut accepted = 0;
            let error = loop {
                let payload = pattern(100_000, accepted);
                let address = payload.as_ptr();
                match conn.send(MessageKind::Binary, payload) {
                    Ok(()) => accepted += 1,
                    Err(error) => {
                        let back = error.payload.as_slice().unwrap();
                        assert_eq!(back.as_ptr(), address);
                        assert!(back == pattern(100_000, accepted));
                        break error.kind;
                    }
                }
            };
            assert_eq!(error, SendErrorKind::BacklogFull);
            assert_eq!(accepted, 2, "the headers count too");
            let copied = conn.send_copy(MessageKind::Text, &pattern(100_000, 7));
            assert_eq!(copied, Err(SendErrorKind::BacklogFull));
            conn.send_copy(MessageKind::Text, b"fits").unwrap();
        }));
        app.on_drain = Some(Box::new(|conn| {
            conn.send_copy(MessageKind::Text, b"drained").unwrap();
        }));
    });
    let mut client = server.connect();
    client.send_text("go");
    for at in 0..2 {
        assert!(client.read_frame() == Frame::binary(pattern(100_000, at)));
    }
    assert_eq!(client.read_frame(), Frame::text("fits"));
    assert_eq!(client.read_frame(), Frame::text("drained"));
    assert_eq!(drains(&server.events()), 1);
}

/// `on_drain` is where a send is tried again: it must not be called while that would fail again, or the loop spins.
#[test]
fn on_drain_waits_until_there_is_room() {
    let cases = [
        // The limit is below the low-water mark.
        (narrow().max_backlog(50_000), 45_000, 5_000, 10_000),
        // A large message behind a small backlog.
        (
            narrow().max_backlog(1 << 20),
            20_000,
            5_000,
            (1 << 20) - 10_000,
        ),
    ];
    for (config, waiting, step, large) in cases {
        let server = Server::start(config, move |app| {
            let mut waits = true;
            app.on_drain = Some(Box::new(move |conn| {
                if waits {
                    waits = conn
                        .send_copy(MessageKind::Text, &vec![b'x'; large])
                        .is_err();
                }
            }));
        });
        let mut client = server.connect();
        let id = server.expect_open();
        let end = Instant::now() + DEADLINE;
        let mut sent = 0;
        // The kernel is full when the backlog stays.
        while backlog(&server, id) <= waiting - step {
            server.with(move |_, connections| {
                let mut conn = connections.get(id).unwrap();
                let _ = conn.send_copy(MessageKind::Binary, &pattern(step, sent));
            });
            sent += 1;
            assert!(Instant::now() < end);
        }
        server.events();
        let refused = server.with(move |_, connections| {
            let mut conn = connections.get(id).unwrap();
            conn.send_copy(MessageKind::Text, &vec![b'x'; large])
        });
        assert_eq!(refused, Err(SendErrorKind::BacklogFull));
        for _ in 0..100 {
            server.stats();
        }
        let early = drains(&server.events());
        assert_eq!(early, 0, "on_drain was called although nothing has drained");
        for at in 0..sent {
            assert_eq!(client.read_frame(), Frame::binary(pattern(step, at)));
        }
        assert_eq!(client.read_frame().payload.len(), large);
        // One for the send that was refused; one more for the high-water mark that the large message went over.
        let late = drains(&server.events());
        assert!((1..=2).contains(&late), "{late}");
    }
}

#[test]
fn payloads_are_discarded_when_the_client_vanishes() {
    for reset in [true, false] {
        let server = Server::start(narrow().send_queue(5), |app| {
            app.on_open = Some(Box::new(|conn| {
                for at in 0..5 {
                    conn.send(MessageKind::Binary, pattern(1_000_000, at))
                        .unwrap();
                }
            }));
            app.on_write_complete = Some(Box::new(|conn, sent| {
                // It is over: what is sent now comes back at once.
                let error = conn.send(sent.kind, sent.payload).unwrap_err();
                assert_eq!(error.kind, SendErrorKind::NotOpen);
            }));
        });
        let client = server.connect();
        let id = server.expect_open();
        while backlog(&server, id) > 4_990_000 {}
        if reset {
            socket2::SockRef::from(&client.stream)
                .set_linger(Some(Duration::ZERO))
                .unwrap();
        }
        drop(client);
        for at in 0..5 {
            let (bytes, outcome) = server.expect("on_write_complete", |event| match event {
                Event::WriteComplete(_, bytes, outcome) => Some((bytes.clone(), *outcome)),
                Event::Close(..) => panic!("on_close before the payloads are back"),
                _ => None,
            });
            assert!(bytes == pattern(1_000_000, at));
            match outcome {
                Outcome::Discarded { written } if at == 0 => {
                    assert!((1..1_000_000).contains(&written));
                }
                outcome => assert_eq!(outcome, Outcome::Discarded { written: 0 }),
            }
        }
        let close = server.expect_close();
        assert!(!close.clean);
    }
}

#[test]
fn completions_that_send_again_neither_recurse_nor_starve_others() {
    let completed = Arc::new(AtomicUsize::new(0));
    let other_was_heard = Arc::new(AtomicBool::new(false));
    let (count, heard) = (Arc::clone(&completed), Arc::clone(&other_was_heard));
    let server = Server::start(Config::default(), move |app| {
        let hear = Arc::clone(&heard);
        app.on_message = Some(Box::new(move |conn, message| {
            if message.as_bytes() == b"stop" {
                hear.store(true, Ordering::SeqCst);
            } else {
                conn.send(MessageKind::Binary, &b"again"[..]).unwrap();
            }
        }));
        app.on_write_complete = Some(Box::new(move |conn, sent| {
            let done = count.fetch_add(1, Ordering::SeqCst);
            if done < 10_000 || !heard.load(Ordering::SeqCst) {
                conn.send(sent.kind, sent.payload).unwrap();
            } else {
                conn.close(wsloop::CloseCode::NORMAL, "").unwrap();
            }
        }));
    });
    let mut client = server.connect();
    let mut other = server.connect();
    client.send_text("go");
    let reader = std::thread::spawn(move || {
        let mut frames = 0;
        loop {
            let frame = client.read_frame();
            if frame.opcode == 8 {
                return frames;
            }
            assert_eq!(frame, Frame::binary(b"again"));
            frames += 1;
        }
    });
    while completed.load(Ordering::SeqCst) < 10_000 {
        std::thread::yield_now();
    }
    other.send_text("stop");
    assert!(reader.join().unwrap() > 10_000);
    assert!(other_was_heard.load(Ordering::SeqCst));
}

/// Each completion sends another payload, of which the kernel takes only a part: in between the peer is heard.
#[test]
fn a_peer_stops_a_chain_of_completions() {
    const CHUNK: usize = 300_000;
    for config in [narrow(), narrow().high_water(1).low_water(0)] {
        let server = Server::start(config, |app| {
            app.on_message = Some(Box::new(|conn, _| conn.session_mut().tag = 1));
            app.on_write_complete = Some(Box::new(|conn, sent| match conn.session().tag {
                0 => conn.send(MessageKind::Binary, sent.payload).unwrap(),
                _ => conn.send_copy(MessageKind::Text, b"stopped").unwrap(),
            }));
        });
        let mut client = server.connect();
        let id = server.expect_open();
        server.with(move |_, connections| {
            let mut conn = connections.get(id).unwrap();
            conn.send(MessageKind::Binary, pattern(CHUNK, 1)).unwrap();
        });
        assert_eq!(client.read_frame().payload.len(), CHUNK);
        client.send_text("stop");
        let end = Instant::now() + DEADLINE;
        while client.read_frame() != Frame::text("stopped") {
            assert!(Instant::now() < end, "not heard");
        }
    }
}

#[test]
fn control_frames_overtake_a_backlog_and_split_nothing() {
    let server = Server::start(narrow(), |app| {
        app.on_open = Some(Box::new(|conn| {
            for at in 0..8000 {
                let payload = pattern(at as usize % 300, at);
                if at % 1000 == 999 {
                    // Above the size from which the kernel is asked at once.
                    conn.send_copy(MessageKind::Binary, &pattern(20_000, at))
                        .unwrap();
                } else {
                    conn.send_copy(MessageKind::Binary, &payload).unwrap();
                }
            }
        }));
    });
    let mut client = server.connect();
    let id = server.expect_open();
    let mut pings = 0u8;
    let mut pongs = Vec::new();
    let mut own_pings = 0;
    let mut at = 0u32;
    while at < 8000 || pongs.last() != Some(&pings) {
        if at % 700 == 0 && at < 8000 && u32::from(pings) <= at / 700 {
            pings += 1;
            client.send_ping(&[pings]);
            if backlog(&server, id) > 300_000 {
                server.with(move |_, connections| {
                    let mut conn = connections.get(id).unwrap();
                    conn.send_ping(&[0; 125]).unwrap();
                });
                own_pings += 1;
            }
        }
        let frame = client.read_frame();
        assert!(frame.fin);
        match frame.opcode {
            10 => pongs.push(frame.payload[0]),
            9 => {
                assert_eq!(frame.payload, [0; 125]);
                own_pings -= 1;
            }
            _ => {
                let len = if at % 1000 == 999 {
                    20_000
                } else {
                    at as usize % 300
                };
                assert_eq!(frame, Frame::binary(pattern(len, at)), "{at}");
                at += 1;
            }
        }
    }
    assert_eq!(own_pings, 0);
    assert!(pongs.is_sorted(), "{pongs:?}");
}

/// A ping that comes while much waits is answered before all of it.
#[test]
fn a_pong_does_not_wait_for_the_backlog() {
    let server = Server::start(narrow().send_queue(10), |app| {
        app.on_open = Some(Box::new(|conn| {
            for at in 0..10 {
                conn.send(MessageKind::Binary, pattern(300_000, at))
                    .unwrap();
            }
            // Reading goes on although the backlog is high only if it is below the mark: the ping is asked for here.
            conn.send_ping(b"now").unwrap();
            conn.auto_pong(b"old");
            conn.auto_pong(b"new");
        }));
    });
    let mut client = server.connect();
    // Nothing was in flight when they were staged.
    assert_eq!(client.read_frame(), Frame::pong(b"old"));
    assert_eq!(client.read_frame(), Frame::pong(b"new"));
    assert_eq!(client.read_frame(), Frame::ping(b"now"));
    for at in 0..10 {
        assert!(client.read_frame() == Frame::binary(pattern(300_000, at)));
    }
}

#[test]
fn every_kind_of_payload_survives_short_writes() {
    static STATIC: [u8; 70_000] = [0x5A; 70_000];
    let whole: Vec<Vec<u8>> = vec![
        STATIC.to_vec(),
        pattern(150_000, 1),
        pattern(200_000, 2),
        pattern(250_000, 3),
        [
            &STATIC[..],
            &pattern(1, 4),
            &pattern(90_000, 5),
            &pattern(33, 6),
            &pattern(80_000, 7),
        ]
        .concat(),
        (0..1000).flat_map(|at| pattern(at, at as u32)).collect(),
        Vec::new(),
    ];
    let server = Server::start(narrow().send_queue(10), |app| {
        app.on_open = Some(Box::new(|conn| {
            let mut lease = |len, seed| {
                let mut buffer = conn.sender().lease(len).unwrap();
                buffer.copy_from_slice(&pattern(len, seed));
                Payload::from(buffer)
            };
            let payloads = [
                Payload::from(&STATIC),
                bytes::Bytes::from(pattern(150_000, 1)).into(),
                pattern(200_000, 2).into(),
                lease(250_000, 3),
                vec![
                    Payload::Static(&STATIC),
                    lease(1, 4),
                    Payload::Static(b""),
                    vec![
                        Payload::from(bytes::Bytes::from(pattern(90_000, 5))),
                        Payload::Parts(Vec::new()),
                        pattern(33, 6).into_boxed_slice().into(),
                    ]
                    .into(),
                    pattern(80_000, 7).into(),
                ]
                .into(),
                (0..1000)
                    .map(|at| Payload::from(pattern(at, at as u32)))
                    .collect::<Vec<_>>()
                    .into(),
                Payload::Parts(Vec::new()),
            ];
            for payload in payloads {
                conn.send(MessageKind::Binary, payload).unwrap();
            }
        }));
        app.on_write_complete = Some(Box::new(|_, sent| {
            assert_eq!(sent.outcome, Outcome::Flushed);
        }));
    });
    let mut client = server.connect();
    for (at, whole) in whole.iter().enumerate() {
        let frame = client.read_frame();
        assert!(frame == Frame::binary(whole.clone()), "payload {at}");
    }
    for _ in &whole {
        server.expect("on_write_complete", |event| {
            matches!(event, Event::WriteComplete(_, _, Outcome::Flushed)).then_some(())
        });
    }
}

/// A reader of few bytes at a time: the kernel takes every piece at odd places.
#[test]
fn a_trickling_reader_gets_everything() {
    let server = Server::start(narrow(), |_| {});
    let mut client = server.connect();
    let wire: Vec<u8> = (0..60u32)
        .flat_map(|at| masked_frame(0x82, &pattern(at as usize * 500, at)))
        .collect();
    let wanted: Vec<u8> = (0..60u32)
        .flat_map(|at| super::support::frame(0x82, &pattern(at as usize * 500, at)))
        .collect();
    let mut stream = client.stream.try_clone().unwrap();
    let sender = std::thread::spawn(move || stream.write_all(&wire).unwrap());
    let mut got = Vec::new();
    let mut chunk = [0; 977];
    while got.len() < wanted.len() {
        let count = client.stream.read(&mut chunk).unwrap();
        assert!(count > 0);
        got.extend_from_slice(&chunk[..count]);
    }
    assert!(got == wanted);
    sender.join().unwrap();
    client.send_close(1000, "");
    client.expect_close(1000);
}

#[test]
fn one_slow_reader_is_nobody_elses_matter() {
    let server = Server::start(narrow(), |_| {});
    let slow = server.connect();
    let id = server.expect_open();
    fill(&server, id, 1 << 20, 10_000);
    let mut others: Vec<Client> = (0..10).map(|_| server.connect()).collect();
    for at in 0..100 {
        for other in &mut others {
            other.send_binary(&pattern(1000, at));
        }
        for other in &mut others {
            assert_eq!(other.read_frame(), Frame::binary(pattern(1000, at)));
        }
    }
    drop(slow);
    server.wait_for("the slow one is gone", |stats| {
        stats.connections.current == 10
    });
}

#[test]
fn close_waits_behind_what_is_staged_and_close_now_does_not() {
    let server = Server::start(narrow().send_queue(3), |app| {
        app.on_message = Some(Box::new(|conn, message| {
            for at in 0..3 {
                conn.send(MessageKind::Binary, pattern(500_000, at))
                    .unwrap();
            }
            if message.as_bytes() == b"close" {
                conn.close(wsloop::CloseCode::NORMAL, "bye").unwrap();
            } else {
                conn.close_now(wsloop::CloseCode::NORMAL, "bye").unwrap();
            }
        }));
    });
    let mut client = server.connect();
    client.send_text("close");
    for at in 0..3 {
        assert!(client.read_frame() == Frame::binary(pattern(500_000, at)));
    }
    client.expect_close(1000);
    assert_eq!(server.expect_close().reason, "bye");
    let mut client = server.connect();
    client.send_text("close now");
    client.expect_close(1000);
    for at in 0..3 {
        server.expect("on_write_complete", |event| {
            let Event::WriteComplete(_, bytes, outcome) = event else {
                return None;
            };
            assert!(*bytes == pattern(500_000, at));
            assert_eq!(*outcome, Outcome::Discarded { written: 0 });
            Some(())
        });
    }
    server.expect_close();
}
