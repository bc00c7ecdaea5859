use std::{
    io::Write,
    net::Shutdown,
    sync::mpsc::{Receiver, channel},
    thread::JoinHandle,
};

use wsloop::{CloseCause, Config, Conn, ConnId};

use super::support::{Client, Event, Frame, Server, Session, close_payload, masked_frame, pattern};

fn pause(conn: &mut Conn<'_, Session>) {
    conn.pause_reads();
}

/// Whoever connects is paused; messages are taken and not answered.
fn paused_from_the_start(config: Config) -> Server {
    Server::start(config, |app| {
        app.on_open = Some(Box::new(pause));
        app.on_message = Some(Box::new(|_, _| {}));
    })
}

fn resume(server: &Server, id: ConnId) {
    server.with(move |_, connections| connections.get(id).unwrap().resume_reads());
}

/// What waits on the connection, raw.
fn unread(server: &Server, id: ConnId) -> Vec<u8> {
    server.with(move |_, connections| connections.get(id).unwrap().unread().to_vec())
}

fn messages_in(events: &[Event]) -> Vec<Vec<u8>> {
    events
        .iter()
        .filter_map(|event| match event {
            Event::Message(_, _, payload) => Some(payload.clone()),
            _ => None,
        })
        .collect()
}

/// Writes from a thread of its own: the server may not take it all before the test goes on.
fn write_behind(client: &Client, wire: Vec<u8>) -> JoinHandle<()> {
    let mut stream = client.stream.try_clone().unwrap();
    std::thread::spawn(move || stream.write_all(&wire).unwrap())
}

/// Keeps the loop busy until the returned sender is used or dropped.
fn hold(server: &Server) -> std::sync::mpsc::Sender<()> {
    let (release, wait): (_, Receiver<()>) = channel();
    let (report, busy) = channel();
    let posted = server.remote().post(Box::new(move |_, _| {
        report.send(()).unwrap();
        let _ = wait.recv();
    }));
    assert!(posted.is_ok());
    busy.recv().unwrap();
    release
}

#[test]
fn nothing_is_delivered_between_a_pause_in_on_open_and_the_resume() {
    let server = paused_from_the_start(Config::default());
    let mut client = Client::raw(server.addr);
    let first = [masked_frame(0x81, b"one"), masked_frame(0x82, b"two")].concat();
    client.write(super::support::upgrade_request("/", "").as_bytes());
    client.write(&first);
    assert_eq!(client.read_head().status, 101);
    let second = masked_frame(0x81, b"three");
    client.write(&second);
    let id = server.expect_open();
    server.expect_read(first.len() + second.len());
    assert_eq!(unread(&server, id), [first, second].concat());
    assert_eq!(messages_in(&server.events()), [b""; 0]);
    resume(&server, id);
    for wanted in ["one", "two", "three"] {
        assert_eq!(server.expect_message(), wanted.as_bytes());
    }
    assert_eq!(unread(&server, id), b"");
}

#[test]
fn the_rest_of_a_segment_is_held_behind_the_message_that_pauses() {
    let server = Server::start(Config::default(), |app| {
        app.on_message = Some(Box::new(|conn, message| {
            if message.as_bytes() == b"pause" {
                conn.pause_reads();
                assert!(conn.is_paused());
            }
        }));
    });
    let mut client = server.connect();
    let rest = [
        masked_frame(0x81, b"b"),
        masked_frame(0x89, b"p"),
        masked_frame(0x81, b"c"),
    ]
    .concat();
    let start = [masked_frame(0x81, b"a"), masked_frame(0x81, b"pause")].concat();
    client.write(&[start, rest.clone()].concat());
    let id = server.expect_open();
    assert_eq!(server.expect_message(), b"a");
    assert_eq!(server.expect_message(), b"pause");
    assert_eq!(unread(&server, id), rest);
    assert!(
        !server
            .events()
            .iter()
            .any(|event| matches!(event, Event::Message(..) | Event::Ping(..)))
    );
    resume(&server, id);
    assert_eq!(server.expect_message(), b"b");
    server.expect("the ping", |event| {
        matches!(event, Event::Ping(_, payload) if payload == b"p").then_some(())
    });
    assert_eq!(server.expect_message(), b"c");
    assert_eq!(client.read_frame(), Frame::pong(b"p"));
}

#[test]
fn a_connection_can_be_read_message_by_message() {
    let server = Server::start(Config::default(), |app| {
        app.on_message = Some(Box::new(|conn, _| conn.pause_reads()));
    });
    let mut client = server.connect();
    let id = server.expect_open();
    let wire: Vec<u8> = (0..300u32)
        .flat_map(|at| masked_frame(0x82, &pattern(at as usize, at)))
        .collect();
    client.write(&wire);
    for at in 0..300u32 {
        assert_eq!(server.expect_message(), pattern(at as usize, at));
        assert_eq!(messages_in(&server.events()), [b""; 0]);
        resume(&server, id);
    }
}

#[test]
fn another_connection_resumes() {
    let server = Server::start(Config::default(), |app| {
        let mut first = true;
        app.on_open = Some(Box::new(move |conn| {
            if std::mem::take(&mut first) {
                conn.pause_reads();
            }
        }));
        app.on_message = Some(Box::new(|conn, message| {
            if message.as_bytes() == b"go" {
                conn.connections()
                    .for_each(|other: &mut Conn<'_, Session>| other.resume_reads());
            }
        }));
    });
    let mut waiting = server.connect();
    let id = server.expect_open();
    waiting.send_text("held");
    server.expect_read(10);
    assert_eq!(unread(&server, id).len(), 10);
    let mut other = server.connect();
    other.send_text("go");
    assert_eq!(server.expect_message(), b"go");
    assert_eq!(server.expect_message(), b"held");
}

#[test]
fn reading_ahead_stops_at_the_fixed_buffer() {
    for size in [256, 4096] {
        let server = paused_from_the_start(Config::default().read_buffer_size(size));
        let client = server.connect();
        let id = server.expect_open();
        let wire: Vec<u8> = (0..20u32)
            .flat_map(|at| masked_frame(0x82, &pattern(100_000, at)))
            .collect();
        let sender = write_behind(&client, wire.clone());
        let mut told = 0;
        server.expect("a full buffer", |event| {
            if let Event::BytesRead(_, count) = event {
                told += count;
            }
            (told >= size).then_some(())
        });
        assert_eq!(told, size);
        assert!(unread(&server, id) == wire[..size]);
        let stats = server.stats();
        assert_eq!(stats.read_buffers.current, 1);
        assert_eq!(stats.large_buffers.current, 0);
        assert!(
            !server
                .events()
                .iter()
                .any(|event| matches!(event, Event::BytesRead(..)))
        );
        resume(&server, id);
        for at in 0..20 {
            assert!(server.expect_message() == pattern(100_000, at));
        }
        sender.join().unwrap();
    }
}

#[test]
fn an_end_during_a_pause_loses_nothing() {
    for (messages, size) in [(3, 10), (3, 5000), (40, 4000)] {
        for with_close_frame in [true, false] {
            let server = paused_from_the_start(Config::default());
            let mut client = server.connect();
            let id = server.expect_open();
            for at in 0..messages {
                client.send_binary(&pattern(size, at));
            }
            if with_close_frame {
                client.write(&masked_frame(0x88, &close_payload(1000, "done")));
            }
            client.stream.shutdown(Shutdown::Write).unwrap();
            server.expect_read(size.min(4096));
            let early = server.events();
            assert_eq!(messages_in(&early), [b""; 0]);
            assert!(!early.iter().any(|event| matches!(event, Event::Close(..))));
            resume(&server, id);
            for at in 0..messages {
                assert!(server.expect_message() == pattern(size, at));
            }
            let close = server.expect_close();
            if with_close_frame {
                assert_eq!(close.cause, CloseCause::Peer);
                assert_eq!(close.reason, "done");
                assert!(close.clean);
                client.expect_close(1000);
            } else {
                assert_eq!(close.cause, CloseCause::EndOfStream);
                assert!(!close.clean);
                client.expect_end();
            }
        }
    }
}

#[test]
fn a_pause_inside_a_message_loses_nothing() {
    let whole = pattern(3_000_000, 9);
    let (a, rest) = whole.split_at(1_000_000);
    let (b, c) = rest.split_at(700_000);
    let one_frame = masked_frame(0x82, &whole);
    let fragments = [
        masked_frame(0x02, a),
        masked_frame(0x89, b"between"),
        masked_frame(0x00, b),
        masked_frame(0x80, c),
    ]
    .concat();
    for wire in [one_frame, fragments] {
        let server = Server::start(Config::default(), |app| {
            app.on_message = Some(Box::new(|_, _| {}));
            let mut reads = 0;
            // Pauses at every third read, and has another connection's job end it.
            app.on_bytes_read = Some(Box::new(move |conn, _| {
                reads += 1;
                if reads % 3 == 0 && !conn.is_paused() {
                    conn.pause_reads();
                }
            }));
        });
        let client = server.connect();
        let id = server.expect_open();
        let sender = write_behind(&client, [wire, masked_frame(0x81, b"end")].concat());
        let mut received = Vec::new();
        while received.len() < 2 {
            resume(&server, id);
            received.extend(messages_in(&server.events()));
        }
        assert!(received[0] == whole);
        assert_eq!(received[1], b"end");
        sender.join().unwrap();
    }
}

/// A pause in `on_bytes_read` comes before the bytes are looked at: it holds a message that these bytes complete, whether
/// that lies in the scratch buffer or in a buffer of its own.
#[test]
fn a_pause_in_on_bytes_read_holds_the_message_that_was_read() {
    for size in [10, 200_000] {
        let server = Server::start(Config::default(), |app| {
            app.on_message = Some(Box::new(|conn, _| assert!(!conn.is_paused())));
            app.on_bytes_read = Some(Box::new(|conn, _| conn.pause_reads()));
        });
        let client = server.connect();
        let id = server.expect_open();
        let wire = masked_frame(0x82, &pattern(size, 1));
        let sender = write_behind(&client, wire);
        let mut received = Vec::new();
        while received.is_empty() {
            // Every read pauses, so a message can only come out of a resume.
            resume(&server, id);
            received = messages_in(&server.events());
        }
        assert!(received[0] == pattern(size, 1));
        sender.join().unwrap();
    }
}

#[test]
fn a_thousand_pipelined_messages_survive_pauses() {
    let server = Server::start(Config::default(), |app| {
        app.on_message = Some(Box::new(|conn, _| {
            if conn.session().messages % 100 == 0 {
                conn.pause_reads();
            }
        }));
    });
    let client = server.connect();
    let id = server.expect_open();
    let wire: Vec<u8> = (0..1000)
        .flat_map(|at| masked_frame(0x82, &pattern(at % 500, at as u32)))
        .collect();
    let sender = write_behind(&client, wire);
    let mut received = Vec::new();
    while received.len() < 1000 {
        let before = received.len();
        received.extend(messages_in(&server.events()));
        assert!(received.len() / 100 - before / 100 <= 1, "a pause holds");
        if received.len() % 100 == 0 && received.len() > before {
            resume(&server, id);
        }
    }
    for (at, message) in received.iter().enumerate() {
        assert!(*message == pattern(at % 500, at as u32));
    }
    sender.join().unwrap();
}

/// What one read brought has to be kept however small the messages are that are allowed.
#[test]
fn what_one_read_brought_is_held_although_no_message_is_that_large() {
    let configs = [
        Config::default().max_message_size(1000),
        Config::default().max_message_size(60_000),
        Config::default().max_message_size(1000).turn_messages(50),
        Config::default()
            .scratch_size(1 << 20)
            .max_message_size(1000),
    ];
    for config in configs {
        let server = Server::start(config, |app| {
            app.on_message = Some(Box::new(|conn, message| {
                if message.as_bytes() == b"pause" {
                    conn.pause_reads();
                }
            }));
        });
        let client = server.connect();
        let id = server.expect_open();
        // The loop finds everything there at once.
        let release = hold(&server);
        let mut wire = masked_frame(0x81, b"pause");
        for at in 0..4000 {
            wire.extend(masked_frame(0x82, &pattern(100, at)));
        }
        let sender = write_behind(&client, wire);
        drop(release);
        assert_eq!(server.expect_message(), b"pause");
        resume(&server, id);
        for at in 0..4000 {
            assert!(server.expect_message() == pattern(100, at), "{at}");
        }
        sender.join().unwrap();
    }
}

#[test]
fn small_budgets_lose_nothing() {
    let configs = [
        Config::default().turn_messages(1),
        Config::default().turn_messages(7),
        Config::default().turn_bytes(1),
        Config::default().turn_bytes(7).turn_messages(1),
    ];
    for config in configs {
        let server = Server::start(config, |_| {});
        let mut client = server.connect();
        let sizes = |at: u32| {
            if at % 100 == 99 {
                150_000
            } else {
                at as usize % 200
            }
        };
        let mut wire = Vec::new();
        for at in 0..500 {
            wire.extend(masked_frame(0x82, &pattern(sizes(at), at)));
            if at % 10 == 0 {
                wire.extend(masked_frame(0x8A, b"unasked"));
            }
        }
        let sender = write_behind(&client, wire);
        for at in 0..500 {
            assert!(
                client.read_frame() == Frame::binary(pattern(sizes(at), at)),
                "{at}"
            );
        }
        sender.join().unwrap();
    }
}

#[test]
fn a_budget_lets_others_have_their_turn() {
    let configs = [
        Config::default().turn_messages(1),
        Config::default().turn_messages(7),
    ];
    for config in configs {
        let budget = config.turn_messages;
        let server = Server::start(config, |app| app.on_message = Some(Box::new(|_, _| {})));
        let mut greedy = server.connect();
        let mut modest = server.connect();
        let release = hold(&server);
        let wire: Vec<u8> = (0..2000)
            .flat_map(|_| masked_frame(0x81, b"mine"))
            .collect();
        greedy.write(&wire);
        for _ in 0..3 {
            modest.send_text("and mine");
        }
        drop(release);
        let (mut of_greedy, mut of_modest) = (0, 0);
        server.expect("all messages", |event| {
            match event {
                Event::Message(_, _, payload) if payload == b"mine" => of_greedy += 1,
                Event::Message(..) => {
                    of_modest += 1;
                    assert!(
                        of_greedy <= of_modest * 2 * budget,
                        "{of_greedy} messages before number {of_modest} of the other"
                    );
                }
                _ => {}
            }
            (of_greedy == 2000 && of_modest == 3).then_some(())
        });
    }
}
