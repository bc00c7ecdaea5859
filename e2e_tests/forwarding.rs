//! Messages that are sent on from wherever they lie: in the scratch buffer, in what was one, or in a buffer of their own.

use std::{
    io::Write,
    sync::{Arc, Mutex, mpsc::Sender},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
#[cfg(feature = "deflate")]
use wsloop::Compression;
use wsloop::{
    CloseCode, Config, Conn, ConnId, Connections, Message, MessageKind, Outcome, Payload,
    SendErrorKind,
};

use super::support::{
    App, Client, DEADLINE, Event, Frame, Server, Session, frame, masked_frame, pattern,
};

const MIB: usize = 1 << 20;

/// Those that come in one piece, and those that do not.
const SIZES: [usize; 8] = [0, 1, 20, 4096, 65_537, 300_000, MIB, 3 * MIB];

/// One that holds any message of a mebibyte whole; and it is not as large as any other buffer.
const LARGE_SCRATCH: usize = MIB + 8192;

/// One that is not as large as any other buffer, either, and is exchanged for little.
const SCRATCH: usize = 300_000;

/// Every way to lie in buffers.
fn configs() -> [Config; 4] {
    [
        Config::default(),
        Config::default().send_queue(16),
        Config::default()
            .scratch_size(LARGE_SCRATCH)
            .turn_bytes(16 * MIB),
        // The scratch buffer is exchanged for any byte at all.
        Config::default().scratch_size(65_536).send_queue(16),
    ]
}

/// The kernel takes little of what is sent, and reading goes on whatever waits.
fn narrow() -> Config {
    Config::default()
        .send_buffer_size(Some(4096))
        .high_water(64 * MIB)
}

/// Nothing is kept for later, so that the buffer memory is what is leased.
fn keeps_nothing(config: Config) -> Config {
    config
        .initial_read_buffers(0)
        .initial_large_buffers(0)
        .max_idle_buffer_memory(0)
}

fn forward(conn: &mut Conn<'_, Session>, mut message: Message<'_>) {
    conn.forward(&mut message).unwrap();
}

fn forwards(app: &mut App) {
    app.on_message = Some(Box::new(forward));
}

fn note(report: &Sender<Event>, note: impl Into<String>) {
    let _ = report.send(Event::Note(note.into()));
}

fn next_note(server: &Server) -> String {
    server.expect("note", |event| match event {
        Event::Note(note) => Some(note.clone()),
        _ => None,
    })
}

/// As long as wanted, of characters of two bytes, one of which a boundary between reads may split.
fn text(len: usize, seed: usize) -> Vec<u8> {
    let start = seed % 3;
    let mut text = "abc"[..start.min(len)].to_owned();
    text.extend(std::iter::repeat_n('ü', (len - text.len()) / 2));
    text.extend(std::iter::repeat_n('z', len - text.len()));
    text.into_bytes()
}

/// Writes what stands before each of these places, and each time waits until the server has read that.
fn write_in_pieces(server: &Server, client: &mut Client, wire: &[u8], cuts: &[usize]) {
    let mut from = 0;
    for &cut in cuts.iter().filter(|cut| **cut < wire.len()) {
        client.write(&wire[from..cut]);
        server.expect_read(cut - from);
        from = cut;
    }
    client.write(&wire[from..]);
}

/// Writes from a thread of its own: the server may not take it all before the test goes on.
fn write_behind(client: &Client, wire: Vec<u8>) -> JoinHandle<()> {
    let mut stream = client.stream.try_clone().unwrap();
    std::thread::spawn(move || stream.write_all(&wire).unwrap())
}

fn backlog(server: &Server, id: ConnId) -> usize {
    server.on(id, |conn| conn.backlog())
}

fn next_read(server: &Server) -> usize {
    server.expect("on_bytes_read", |event| match event {
        Event::BytesRead(_, count) => Some(*count),
        _ => None,
    })
}

fn expect_written(server: &Server) -> (ConnId, Vec<u8>, Outcome) {
    server.expect("on_write_complete", |event| match event {
        Event::WriteComplete(id, bytes, outcome) => Some((*id, bytes.clone(), *outcome)),
        _ => None,
    })
}

#[test]
fn every_size_and_kind_comes_back_however_it_comes() {
    for config in configs() {
        let server = Server::start(config, forwards);
        let mut client = server.connect();
        for (at, size) in SIZES.into_iter().enumerate() {
            for opcode in [1, 2] {
                let payload = match opcode {
                    1 => text(size, at),
                    _ => pattern(size, 1),
                };
                let wire = masked_frame(0x80 | opcode, &payload);
                let header = wire.len() - size;
                let wanted = frame(0x80 | opcode, &payload);
                // In one go, in halves, behind a header alone, and with a first byte of the payload.
                let ways = [
                    vec![],
                    vec![wire.len() / 2],
                    vec![header, wire.len() / 3],
                    vec![1, header + 1, wire.len() / 2, wire.len() - 1],
                ];
                // The largest take too long for all of them.
                let ways = if size < MIB { &ways[..] } else { &ways[1..3] };
                for cuts in ways {
                    let mut cuts = cuts.clone();
                    cuts.sort_unstable();
                    cuts.dedup();
                    server.events();
                    write_in_pieces(&server, &mut client, &wire, &cuts);
                    assert!(client.take(wanted.len()) == wanted, "{size} {cuts:?}");
                }
            }
        }
    }
}

/// Reading begins wherever bytes are copied soonest, up to 4 KiB behind the start of the scratch buffer.
#[test]
fn what_just_fits_the_scratch_buffer_or_just_does_not_comes_back() {
    for scratch in [65_535, 65_536, SCRATCH] {
        let server = Server::start(Config::default().scratch_size(scratch), forwards);
        let mut client = server.connect();
        // An allocator puts large buffers 16 bytes behind the start of a page, and then half a page less that is left free.
        let headers = [8, 14];
        let starts = [0, 2032, 2048, 4095];
        let edges = starts.into_iter().flat_map(|start| {
            headers
                .map(|header| start + header)
                .into_iter()
                .flat_map(|edge| edge - 1..=edge + 1)
        });
        for less in edges.chain((0..4200).step_by(700)) {
            let payload = pattern(scratch - less, scratch as u32);
            let message = masked_frame(0x82, &payload);
            let wire = [&message[..], &message].concat();
            let wanted = frame(0x82, &payload).repeat(2);
            let cuts = [message.len() / 2, message.len() - 1, message.len() + 100];
            for cuts in [&[][..], &cuts[..1], &cuts[1..2], &cuts] {
                server.events();
                write_in_pieces(&server, &mut client, &wire, cuts);
                assert!(client.take(wanted.len()) == wanted, "{less} {cuts:?}");
            }
        }
    }
}

#[test]
fn fragments_come_back_as_one_message() {
    for config in configs() {
        let server = Server::start(config, forwards);
        let mut client = server.connect();
        for sizes in [[0, 0, 0], [1, 0, 20], [65_537, 0, 300_000], [0, MIB, 3]] {
            let parts = sizes.map(|size| pattern(size, size as u32));
            client.write(&masked_frame(0x02, &parts[0]));
            client.write(&masked_frame(0x00, &parts[1]));
            client.write(&masked_frame(0x80, &parts[2]));
            assert!(
                client.read_frame() == Frame::binary(parts.concat()),
                "{sizes:?}"
            );
        }
    }
}

#[test]
fn sixteen_in_a_row_come_back_in_order() {
    const ROWS: [[usize; 4]; 5] = [
        [20, 20, 4096, 1],
        [300_000, 300_000, 300_000, 300_000],
        [300_000, 1, 0, 65_537],
        [MIB, 20, 250_000, 5000],
        [3 * MIB, 0, 4096, 20],
    ];
    for config in configs() {
        let server = Server::start(config, forwards);
        let client = server.connect();
        for row in ROWS {
            let messages: Vec<_> = (0..16)
                .map(|at| match at % 3 {
                    0 => (0x81, text(row[at % 4], at)),
                    _ => (0x82, pattern(row[at % 4], at as u32)),
                })
                .collect();
            let wire = messages
                .iter()
                .flat_map(|(first, payload)| masked_frame(*first, payload))
                .collect();
            let writer = write_behind(&client, wire);
            let mut reader = Client::over(client.stream.try_clone().unwrap());
            for (at, (first, payload)) in messages.iter().enumerate() {
                let wanted = frame(*first, payload);
                assert!(reader.take(wanted.len()) == wanted, "{row:?} {at}");
            }
            writer.join().unwrap();
        }
    }
}

/// What a test can see of a message that was forwarded: how long it still is, and in which buffer it comes back.
fn reports_buffers(app: &mut App) {
    let report = app.reporter();
    app.on_message = Some(Box::new(move |conn, mut message| {
        let kind = message.kind();
        conn.forward(&mut message).unwrap();
        assert_eq!(message.kind(), kind);
        note(&report, format!("left {}", message.as_bytes().len()));
        if message.as_bytes().is_empty() {
            // There is no more of it than nothing.
            assert!(message.take().is_empty());
        }
    }));
    reports_returns(app);
}

/// In which buffer a message comes back.
fn reports_returns(app: &mut App) {
    let report = app.reporter();
    app.on_write_complete = Some(Box::new(move |_, sent| {
        let Payload::Pooled(buffer) = &sent.payload else {
            panic!("it is of the pool: {sent:?}")
        };
        note(&report, format!("{buffer:?}"));
    }));
}

/// Notes where each message lies, and what comes back of it.
fn reports_places(app: &mut App) {
    let report = app.reporter();
    app.on_message = Some(Box::new(move |conn, mut message| {
        note(&report, format!("{:p}", message.as_bytes()));
        conn.forward(&mut message).unwrap();
    }));
    reports_returns(app);
}

#[test]
fn a_message_in_a_buffer_of_its_own_is_moved_and_comes_back() {
    let large = |size| Config::default().scratch_size(size).turn_bytes(16 * MIB);
    for config in [Config::default(), large(LARGE_SCRATCH), large(SCRATCH)] {
        let server = Server::start(config, reports_buffers);
        let mut client = server.connect();
        for opcode in [1, 2] {
            let payload = match opcode {
                1 => text(300_000, 0),
                _ => pattern(300_000, 7),
            };
            let wire = masked_frame(0x80 | opcode, &payload);
            server.events();
            write_in_pieces(&server, &mut client, &wire, &[wire.len() / 2]);
            assert_eq!(next_note(&server), "left 0");
            let (_, bytes, outcome) = expect_written(&server);
            assert!(bytes == payload);
            assert_eq!(outcome, Outcome::Flushed);
            let buffer = next_note(&server);
            assert!(buffer.starts_with("PoolBuf(300000 of "), "{buffer}");
            assert!(client.take(wire.len() - 4) == frame(0x80 | opcode, &payload));
        }
        // One in the scratch buffer stays there.
        client.send_binary(b"small");
        assert_eq!(next_note(&server), "left 5");
        assert_eq!(client.read_frame(), Frame::binary(b"small"));
    }
}

/// Half of a message is enough to take the scratch buffer for it, which is then sent from as it is.
#[test]
fn what_the_scratch_buffer_has_become_is_sent_without_a_copy() {
    let config = Config::default().scratch_size(SCRATCH);
    let server = Server::start(keeps_nothing(config), reports_buffers);
    let mut client = server.connect();
    server.expect_open();
    let end = Instant::now() + DEADLINE;
    for seed in 0.. {
        let payload = pattern(200_000, seed);
        let wire = masked_frame(0x82, &payload);
        // Mostly found all at once; where it is not, another time.
        let held = server.hold();
        client.write(&wire[..100_000]);
        drop(held);
        server.expect_read(100_000);
        client.write(&wire[100_000..]);
        assert_eq!(next_note(&server), "left 0");
        assert!(expect_written(&server).1 == payload);
        let buffer = next_note(&server);
        assert!(client.read_frame() == Frame::binary(payload));
        if buffer == format!("PoolBuf(200000 of {SCRATCH} bytes)") {
            break;
        }
        assert!(Instant::now() < end, "{buffer}");
    }
    drop(client);
    server.expect_close();
    server.wait_for("nothing leased", |stats| stats.buffer_memory.current == 0);
}

/// A buffer that has just been written from is in the cache: the loop reads to it next. Also where little comes first, if the
/// message would have a buffer of this size anyway.
#[test]
fn a_message_comes_where_the_last_one_was() {
    let config = Config::default().scratch_size(SCRATCH);
    comes_where_the_last_one_was(config.clone(), 100_000);
    comes_where_the_last_one_was(config.large_buffer_size(SCRATCH), 33_000);
}

fn comes_where_the_last_one_was(config: Config, first: usize) {
    let server = Server::start(config, reports_places);
    let mut client = server.connect();
    server.expect_open();
    let payload = pattern(200_000, 1);
    let wire = masked_frame(0x82, &payload);
    let end = Instant::now() + DEADLINE;
    let mut last_place = String::new();
    loop {
        // As above: mostly found all at once.
        let held = server.hold();
        client.write(&wire[..first]);
        drop(held);
        server.expect_read(first);
        client.write(&wire[first..]);
        let place = next_note(&server);
        let was_scratch = next_note(&server).contains(&format!("of {SCRATCH} bytes"));
        assert!(client.read_frame() == Frame::binary(payload.clone()));
        if was_scratch && place == last_place {
            break;
        }
        if was_scratch {
            last_place = place;
        }
        assert!(Instant::now() < end, "each in another place");
    }
}

/// One that reads a large message only when the answer to the last one is written.
fn one_after_the_other() -> Config {
    Config::default()
        .scratch_size(SCRATCH)
        .high_water(1)
        .low_water(0)
}

/// Two messages that come in two halves, of the first one, and with it the second. As above: mostly found all at once.
fn write_two(server: &Server, client: &mut Client, payload: &[u8]) {
    let wire = masked_frame(0x82, payload).repeat(2);
    let (half, rest) = wire.split_at(payload.len() / 2);
    let held = server.hold();
    client.write(half);
    drop(held);
    server.expect_read(half.len());
    let held = server.hold();
    client.write(rest);
    drop(held);
}

/// The same within one visit: what has been written comes back before more is read, and that goes where it lay, the start of the
/// next message moved there.
#[test]
fn the_next_of_two_messages_comes_where_the_first_one_was() {
    let server = Server::start(one_after_the_other(), reports_places);
    let mut client = server.connect();
    server.expect_open();
    let payload = pattern(200_000, 1);
    let end = Instant::now() + DEADLINE;
    loop {
        write_two(&server, &mut client, &payload);
        for frame in client.read_frames(2) {
            assert!(frame.payload == payload);
        }
        let notes = server.events().into_iter().filter_map(|event| match event {
            Event::Note(note) => Some(note),
            _ => None,
        });
        let notes: Vec<_> = notes.collect();
        let is_wanted = |notes: &[String]| {
            notes[0] == notes[2] && notes[1].contains(&format!("of {SCRATCH} bytes"))
        };
        if notes.windows(3).any(is_wanted) {
            break;
        }
        assert!(Instant::now() < end, "{notes:?}");
    }
}

/// When a payload comes back within a visit, the start of the next message may have been read already. If the application closes
/// then, that one is not delivered any more; if it pauses, that one waits.
#[test]
fn a_payload_that_comes_back_between_two_messages_may_close_or_pause() {
    const PAUSES: u64 = 1;
    const CLOSES: u64 = 2;
    const AHEAD: usize = 5000;
    let server = Server::start(one_after_the_other().read_buffer_size(AHEAD), |app| {
        let report = app.reporter();
        app.on_message = Some(Box::new(move |conn, mut message| {
            note(&report, "message");
            conn.forward(&mut message).unwrap();
        }));
        let report = app.reporter();
        app.on_write_complete = Some(Box::new(move |conn, _| match conn.session().tag {
            PAUSES => {
                conn.pause_reads();
                note(&report, "paused");
            }
            CLOSES => {
                conn.close(CloseCode::NORMAL, "").unwrap();
                note(&report, "closed");
            }
            _ => {}
        }));
    });
    let payload = pattern(200_000, 1);
    let end = Instant::now() + DEADLINE;
    for (tag, done) in [(PAUSES, "paused"), (CLOSES, "closed")] {
        loop {
            let mut client = server.connect();
            let id = server.expect_open();
            let tag_it = move |tag| {
                move |_: &mut App, connections: &mut Connections<'_, Session>| {
                    let mut conn = connections.get(id).unwrap();
                    conn.session_mut().tag = tag;
                    conn.resume_reads();
                }
            };
            server.with(tag_it(tag));
            write_two(&server, &mut client, &payload);
            assert_eq!(next_note(&server), "message");
            // Nothing comes back of a message that was sent from where it had been read to.
            let is_between = next_note(&server) == done;
            if is_between {
                assert!(client.read_frame().payload == payload);
                let mut read = 0;
                for event in server.events() {
                    match event {
                        Event::BytesRead(_, count) => read += count,
                        event => assert!(!matches!(event, Event::Note(_)), "{event:?}"),
                    }
                }
                // During a pause no more than fits the fixed buffer.
                assert!(tag != PAUSES || read <= AHEAD, "{read} bytes read");
                if tag == PAUSES {
                    server.with(tag_it(0));
                    assert!(client.read_frame().payload == payload);
                } else {
                    client.expect_close(1000);
                }
            }
            drop(client);
            server.expect_close();
            server.events();
            if is_between {
                break;
            }
            assert!(Instant::now() < end, "never {done} between the two");
        }
    }
}

/// What a read brought of the next large message behind one would have to be moved, or copied while it waits: where a read
/// goes on with a large message it ends with it, but for a little that has the next header in it.
#[test]
fn a_read_ends_with_the_large_message_that_it_goes_on_with() {
    const AHEAD: usize = 5000;
    const HEADER_LEN: usize = 14;
    // With a scratch buffer that has room for them, and without; the answers fill the kernel again and again.
    for scratch in [256 << 10, LARGE_SCRATCH] {
        // Larger ones come few at a time.
        let large = scratch.min(MIB / 2) / 2;
        let config = Config::default()
            .scratch_size(scratch)
            .read_buffer_size(AHEAD)
            .send_buffer_size(Some(4096));
        let server = Server::start(config, forwards);
        let mut client = server.connect();
        server.expect_open();
        let sizes = [300_000, 20, 300_000, 700_000, 100_000, 100_000, 280_000];
        let sizes = sizes.into_iter().cycle().take(21);
        let payloads: Vec<_> = sizes
            .zip(0..)
            .map(|(len, seed)| pattern(len, seed))
            .collect();
        let frames: Vec<_> = payloads
            .iter()
            .map(|payload| masked_frame(0x82, payload))
            .collect();
        let writer = write_behind(&client, frames.concat());
        for payload in &payloads {
            assert!(client.read_frame().payload == *payload);
        }
        writer.join().unwrap();

        let mut ended_by_a_read = 0;
        let (mut start, mut from) = (0, 0);
        for frame in &frames {
            let end = start + frame.len();
            while from < end {
                let to = from + next_read(&server);
                if frame.len() > large && from >= start + HEADER_LEN {
                    assert!(to <= end + AHEAD, "{start}..{end} by {from}..{to}");
                    ended_by_a_read += usize::from(to >= end);
                }
                from = to;
            }
            start = end;
        }
        assert!(ended_by_a_read > 0);
    }
}

/// The start of a message is read on behind where it is, also in the midst of the scratch buffer; what lies before it is no
/// longer unread.
#[test]
fn what_is_unread_starts_with_the_message_that_has_not_come() {
    const COUNT: usize = 300;
    let wire = masked_frame(0x82, &pattern(200_000, 1));
    let wire_len = wire.len();
    let config = Config::default().scratch_size(3 * MIB).turn_bytes(16 * MIB);
    let server = Server::start(config, move |app| {
        let report = app.reporter();
        let mut read = 0;
        app.on_message = Some(Box::new(|_, _| ()));
        app.on_bytes_read = Some(Box::new(move |conn, count| {
            read += count;
            let delivered = conn.session().messages as usize * wire_len;
            assert!(conn.unread().len() <= read - delivered);
            if read == COUNT * wire_len {
                note(&report, "all is read");
            }
        }));
    });
    let client = server.connect();
    server.expect_open();
    let writer = write_behind(&client, wire.repeat(COUNT));
    server.expect_note("all is read");
    writer.join().unwrap();
}

/// A message that is read into a buffer of its own has only what lies behind it in the scratch buffer unread.
#[test]
fn what_is_unread_is_what_lies_behind_the_message_at_hand() {
    let next = masked_frame(0x82, &pattern(5000, 2));
    for config in configs() {
        let start = next.clone();
        let server = Server::start(config, |app| {
            app.on_message = Some(Box::new(move |conn, mut message| {
                assert!(start.starts_with(conn.unread()));
                conn.forward(&mut message).unwrap();
            }));
        });
        let mut client = server.connect();
        for behind in [0, 1, 100, 4999] {
            let payload = pattern(300_000, 1);
            let message = masked_frame(0x82, &payload);
            let wire = [&message[..], &next].concat();
            server.events();
            let cuts = [message.len() / 2, message.len() + behind];
            write_in_pieces(&server, &mut client, &wire, &cuts);
            assert!(client.read_frame() == Frame::binary(payload), "{behind}");
            assert!(client.read_frame() == Frame::binary(pattern(5000, 2)));
        }
    }
}

#[test]
fn what_cannot_be_moved_is_copied() {
    for queue in [1, 3] {
        let server = Server::start(narrow().send_queue(queue), reports_buffers);
        let mut client = server.connect();
        let id = server.expect_open();
        let payloads: Vec<_> = (0..6).map(|seed| pattern(MIB, seed)).collect();
        for (at, payload) in payloads.iter().enumerate() {
            let wire = masked_frame(0x82, payload);
            let writer = write_behind(&client, wire);
            let wanted = if at < queue { 0 } else { MIB };
            assert_eq!(next_note(&server), format!("left {wanted}"));
            writer.join().unwrap();
        }
        // The kernels took some of the first.
        assert!(backlog(&server, id) > 2 * MIB);
        for payload in &payloads {
            assert!(client.read_frame() == Frame::binary(payload.clone()));
        }
        for payload in &payloads[..queue] {
            let (_, bytes, outcome) = expect_written(&server);
            assert!(bytes == *payload);
            assert_eq!(outcome, Outcome::Flushed);
        }
        // And then one can be moved again.
        client.send_binary(&payloads[0]);
        server.expect_note("left 0");
        assert!(client.read_frame() == Frame::binary(payloads[0].clone()));
    }
}

/// While the kernel takes nothing a large message is handed over in the buffer that it was read to, where it can wait.
#[test]
fn a_large_message_waits_where_it_was_read_to() {
    let config = narrow().scratch_size(SCRATCH).send_queue(16);
    let server = Server::start(config, reports_buffers);
    let mut client = server.connect();
    let id = server.expect_open();
    // The kernels take some of the first, and then nothing.
    let sizes = std::iter::once(4 * MIB).chain(std::iter::repeat_n(100_000, 15));
    let payloads: Vec<_> = sizes
        .zip(0..)
        .map(|(size, seed)| pattern(size, seed))
        .collect();
    for payload in &payloads {
        let writer = write_behind(&client, masked_frame(0x82, payload));
        assert_eq!(next_note(&server), "left 0");
        assert!(backlog(&server, id) > 0);
        writer.join().unwrap();
    }
    for payload in &payloads {
        assert!(client.read_frame() == Frame::binary(payload.clone()));
    }
}

/// The start of a message that was held back goes on in the scratch buffer, as one does that has just been read.
#[test]
fn a_start_that_was_held_back_goes_on_in_the_scratch_buffer() {
    let server = Server::start(Config::default().scratch_size(SCRATCH), |app| {
        let report = app.reporter();
        app.on_message = Some(Box::new(move |conn, message| {
            if message.as_bytes() == b"pause" {
                conn.pause_reads();
                return;
            }
            let place = match message.take() {
                Payload::Pooled(buffer) => format!("{buffer:?}"),
                _ => "scratch".to_owned(),
            };
            note(&report, place);
        }));
    });
    let mut client = server.connect();
    let id = server.expect_open();
    let wire = masked_frame(0x82, &pattern(200_000, 1));
    client.write(&[masked_frame(0x81, b"pause"), wire[..1000].to_vec()].concat());
    server.expect_read(11 + 1000);
    let writer = write_behind(&client, wire[1000..].to_vec());
    // Up to the end of a fixed buffer is read during the pause.
    server.expect_read(4096 - 1000);
    server.on(id, |conn| conn.resume_reads());
    let place = next_note(&server);
    let was_scratch = format!("PoolBuf(200000 of {SCRATCH} bytes)");
    assert!(place == "scratch" || place == was_scratch, "{place}");
    writer.join().unwrap();
}

/// Forwards a message that is refused; tells why, whether it came in one piece, and what is left of it.
fn reports_refusal(
    report: &Sender<Event>,
    conn: &mut Conn<'_, Session>,
    mut message: Message<'_>,
    wanted: SendErrorKind,
) {
    let before = message.as_bytes().to_vec();
    let kind = message.kind();
    // Twice: a refusal leaves it as it was for the next one.
    for _ in 0..2 {
        assert_eq!(conn.forward(&mut message), Err(wanted));
        assert!(message.as_bytes() == before);
        assert_eq!(message.kind(), kind);
    }
    let taken = message.take();
    assert!(taken.as_slice().unwrap() == before);
    let place = match taken {
        Payload::Pooled(_) => "pooled",
        _ => "scratch",
    };
    note(report, format!("{place} {}", before.len()));
}

#[test]
fn one_that_a_closing_connection_refuses_is_as_it_was() {
    for (size, place) in [(20, "scratch"), (0, "scratch"), (300_000, "pooled")] {
        let server = Server::start(Config::default(), |app| {
            let report = app.reporter();
            app.on_message = Some(Box::new(move |conn, message| {
                conn.close(CloseCode::NORMAL, "").unwrap();
                reports_refusal(&report, conn, message, SendErrorKind::NotOpen);
            }));
        });
        let mut client = server.connect();
        client.send_binary(&pattern(size, 1));
        assert_eq!(next_note(&server), format!("{place} {size}"));
        assert_eq!(client.read_frame().close_code(), Some(1000));
    }
}

#[test]
fn one_that_a_full_backlog_refuses_is_as_it_was() {
    for queue in [1, 10] {
        let config = narrow().send_queue(queue).max_backlog(10_000);
        let server = Server::start(config, |app| {
            let report = app.reporter();
            let mut count = 0;
            app.on_message = Some(Box::new(move |conn, message| {
                count += 1;
                if matches!(count, 2..=4) {
                    reports_refusal(&report, conn, message, SendErrorKind::BacklogFull);
                } else {
                    forward(conn, message);
                    note(&report, "forwarded");
                }
            }));
            let report = app.reporter();
            app.on_drain = Some(Box::new(move |_| note(&report, "drained")));
        });
        let mut client = server.connect();
        let first = pattern(8 * MIB, 1);
        client.send_binary(&first);
        // Behind an empty backlog any one fits.
        assert_eq!(next_note(&server), "forwarded");
        for (size, place) in [(300_000, "pooled"), (20, "scratch"), (0, "scratch")] {
            client.send_binary(&pattern(size, 2));
            assert_eq!(next_note(&server), format!("{place} {size}"));
        }
        assert!(client.read_frame() == Frame::binary(first.clone()));
        assert_eq!(next_note(&server), "drained");
        client.send_binary(&first[..300_000]);
        assert_eq!(next_note(&server), "forwarded");
        assert!(client.read_frame() == Frame::binary(&first[..300_000]));
    }
}

/// Whatever one client sends goes to the other.
fn relays(app: &mut App) {
    let ids = Arc::new(Mutex::new(Vec::new()));
    let opened = Arc::clone(&ids);
    app.on_open = Some(Box::new(move |conn| opened.lock().unwrap().push(conn.id())));
    app.on_message = Some(Box::new(move |conn, message| {
        let ids = ids.lock().unwrap();
        let other = ids.iter().copied().find(|id| *id != conn.id()).unwrap();
        forward(&mut conn.peer(other).unwrap(), message);
    }));
}

#[test]
fn a_message_goes_to_another_connection() {
    for config in configs() {
        let server = Server::start(config.high_water(64 * MIB).max_backlog(64 * MIB), relays);
        let mut one = server.connect();
        let mut ids = vec![server.expect_open()];
        let mut other = server.connect();
        ids.push(server.expect_open());
        for (at, size) in SIZES.into_iter().enumerate() {
            let payloads = [text(size, at), pattern(size, 3)];
            let wires = [
                masked_frame(0x81, &payloads[0]),
                masked_frame(0x82, &payloads[1]),
            ];
            // Several at once, so that one is borrowed from while the next is moved.
            let writers = [
                write_behind(&one, wires.concat()),
                write_behind(&other, wires.concat()),
            ];
            for client in [&mut one, &mut other] {
                for (opcode, payload) in [0x81, 0x82].into_iter().zip(&payloads) {
                    let wanted = frame(opcode, payload);
                    assert!(client.take(wanted.len()) == wanted, "{size}");
                }
            }
            for writer in writers {
                writer.join().unwrap();
            }
        }
        // It comes back where it was sent.
        let payload = pattern(3 * MIB, 9);
        server.events();
        let writer = write_behind(&one, masked_frame(0x82, &payload));
        assert!(other.read_frame() == Frame::binary(payload.clone()));
        writer.join().unwrap();
        let (id, bytes, outcome) = expect_written(&server);
        assert_eq!((id, outcome), (ids[1], Outcome::Flushed));
        assert!(bytes == payload);
    }
}

/// A client's answer is masked in the buffer that the message came in, which nobody else may look at.
#[test]
fn a_client_forwards_too() {
    for queue in [1, 16] {
        let server = Server::dialler(Config::default());
        let dialler = Server::start(Config::default().send_queue(queue), |app| {
            app.on_message = Some(Box::new(forward));
            let report = app.reporter();
            app.on_write_complete = Some(Box::new(move |_, mut sent| {
                sent.unmask();
                let bytes = sent.payload.as_slice().unwrap();
                note(&report, format!("{}", bytes == pattern(bytes.len(), 4)));
            }));
        });
        dialler.open(&server.url("/"));
        let id = server.expect_open();
        for size in SIZES {
            for _ in 0..3 {
                let sent = server.on(id, move |conn| {
                    conn.send_copy(MessageKind::Binary, &pattern(size, 4))
                });
                assert_eq!(sent, Ok(()));
            }
            for _ in 0..3 {
                assert!(server.expect_message() == pattern(size, 4), "{size}");
            }
        }
        assert_eq!(next_note(&dialler), "true");
        let notes = dialler.events();
        assert!(!notes.contains(&Event::Note("false".to_owned())));
    }
}

/// What was inflated lies behind the input, or in a buffer of its own.
#[cfg(feature = "deflate")]
#[test]
fn what_was_inflated_is_forwarded() {
    let config = || Config::default().compression(Compression::Shared);
    let server = Server::start(config().send_queue(2), forwards);
    let dialler = Server::dialler(config());
    let id = dialler.open(&server.url("/"));
    assert!(dialler.on(id, |conn| conn.compresses()));
    for size in SIZES {
        for _ in 0..3 {
            let sent = dialler.on(id, move |conn| {
                conn.send_copy(MessageKind::Text, &text(size, 2))
            });
            assert_eq!(sent, Ok(()));
        }
        for _ in 0..3 {
            assert!(dialler.expect_message() == text(size, 2), "{size}");
        }
    }
}

#[test]
fn no_buffer_is_left_when_the_clients_are_gone() {
    let scratches = [65_536, 256 << 10, SCRATCH, LARGE_SCRATCH];
    for (at, scratch) in scratches.into_iter().enumerate() {
        let queue = 1 + at % 2 * 7;
        let config = narrow().scratch_size(scratch).send_queue(queue);
        let server = Server::start(keeps_nothing(config), |app| {
            app.on_message = Some(Box::new(|conn, mut message| {
                if message.as_bytes() == b"pause" {
                    return conn.pause_reads();
                }
                let _ = conn.forward(&mut message);
            }));
        });
        let message = masked_frame(0x82, &pattern(250_000, 1));
        let pause = masked_frame(0x82, b"pause");

        // One that reads what comes back.
        let mut reads = server.connect();
        let id = server.expect_open();
        for cuts in [vec![], vec![125_000], vec![8, 9]] {
            server.events();
            write_in_pieces(&server, &mut reads, &message, &cuts);
            assert_eq!(reads.read_frame().payload.len(), 250_000);
        }
        // One inside a message; one with a message in flight, and others behind it.
        let mut ends_inside = server.connect();
        server.expect_open();
        ends_inside.write(&message[..125_000]);
        server.expect_read(125_000);
        let does_not_read = server.connect();
        let deaf = server.expect_open();
        write_behind(&does_not_read, message.repeat(8))
            .join()
            .unwrap();
        server.wait_for("all arrived", |stats| stats.received.messages == 11);
        assert!(backlog(&server, deaf) > 0);
        // One whose input is held back, and one of a message that goes on during a pause.
        let holds = server.connect();
        server.expect_open();
        let held = server.hold();
        let writer = write_behind(&holds, [&pause[..], &message[..125_000]].concat());
        writer.join().unwrap();
        drop(held);
        assert_eq!(server.expect_message(), b"pause");
        reads.write(&message[..125_000]);
        server.expect_read(125_000);
        server.on(id, |conn| conn.pause_reads());
        reads.write(&message[125_000..]);

        assert!(server.stats().buffer_memory.current > 0);
        // Nobody hears of an end during a pause.
        for client in [&reads, &ends_inside, &does_not_read, &holds] {
            socket2::SockRef::from(&client.stream)
                .set_linger(Some(Duration::ZERO))
                .unwrap();
        }
        drop((reads, ends_inside, does_not_read, holds));
        server.with(|_, connections| {
            let ids: Vec<_> = connections.ids().collect();
            for id in ids {
                if let Some(mut conn) = connections.get(id) {
                    conn.resume_reads();
                }
            }
        });
        let stats = server.wait_for("nothing is leased", |stats| {
            stats.connections.current == 0 && stats.buffer_memory.current == 0
        });
        assert!(stats.buffer_memory.peak > 2 * scratch, "{stats:#?}");
    }
}

/// A pause behind the first of many messages that were read together, and then behind each.
#[test]
fn a_pause_holds_much_and_loses_nothing() {
    const FRAMES: usize = 12;
    for (scratch, large, pauses) in [
        (LARGE_SCRATCH, MIB / 2, 1),
        (LARGE_SCRATCH, MIB / 2, FRAMES),
        (SCRATCH, MIB / 16, 1),
        (SCRATCH, MIB / 16, FRAMES),
    ] {
        let config = Config::default()
            .scratch_size(scratch)
            .large_buffer_size(large)
            .turn_bytes(16 * MIB)
            .recv_buffer_size(Some(MIB));
        // So much that a buffer of that size may be held for it.
        let least = (scratch - large).div_ceil(4);
        let server = Server::start(keeps_nothing(config), move |app| {
            let mut count = 0;
            app.on_message = Some(Box::new(move |conn, mut message| {
                if count % FRAMES < pauses {
                    conn.pause_reads();
                }
                count += 1;
                conn.forward(&mut message).unwrap();
            }));
        });
        let client = server.connect();
        let id = server.expect_open();
        let end = Instant::now() + DEADLINE;
        let mut reader = Client::over(client.stream.try_clone().unwrap());
        let mut was_held = false;
        while !was_held {
            // A small one, so that nearly all of what one read brings is held.
            let sizes = (0..FRAMES).map(|at| if at == 0 { 10 } else { 25_000 + at * 1000 });
            let payloads: Vec<_> = sizes.map(|size| pattern(size, size as u32)).collect();
            let wire = payloads
                .iter()
                .flat_map(|payload| masked_frame(0x82, payload))
                .collect();
            // The sockets take that much, mostly for one read; where not, another time.
            let held = server.hold();
            write_behind(&client, wire).join().unwrap();
            drop(held);
            for (at, payload) in payloads.iter().enumerate() {
                assert!(server.expect_message() == *payload, "{at}");
                if at >= pauses {
                    continue;
                }
                let (is_paused, unread) =
                    server.on(id, |conn| (conn.is_paused(), conn.unread().len()));
                assert!(is_paused);
                // Then nothing but the scratch buffer's like holds it.
                if unread >= least {
                    let memory = server.stats().buffer_memory.current;
                    assert!(memory >= scratch, "{memory}");
                    was_held = true;
                }
                server.on(id, |conn| conn.resume_reads());
            }
            for (at, payload) in payloads.into_iter().enumerate() {
                assert!(reader.read_frame() == Frame::binary(payload), "{at}");
            }
            assert!(was_held || Instant::now() < end, "never much at once");
        }
    }
}

/// Where the scratch buffer is exchanged for no more than a fixed buffer holds, what is read during the pause goes on in it.
#[test]
fn what_comes_during_a_pause_follows_what_is_held() {
    let config = Config::default()
        .scratch_size(72_000)
        .read_buffer_size(32_768);
    let server = Server::start(keeps_nothing(config), |app| {
        app.on_message = Some(Box::new(|conn, mut message| {
            if message.as_bytes().starts_with(b"pause") {
                conn.pause_reads();
            }
            conn.forward(&mut message).unwrap();
        }));
    });
    let mut client = server.connect();
    let id = server.expect_open();
    // Held at the front, in the middle and behind where a fixed buffer ends.
    for before in [0, 1000, 20_000, 32_760, 45_000] {
        let pause = [b"pause".to_vec(), pattern(before, 1)].concat();
        let late = pattern(20_000, 3);
        let first = [
            masked_frame(0x82, &pause),
            masked_frame(0x82, b"held"),
            masked_frame(0x82, &late)[..10_000].to_vec(),
        ];
        server.events();
        client.write(&first.concat());
        server.expect_read(first.concat().len());
        let rest = [
            &masked_frame(0x82, &late)[10_000..],
            &masked_frame(0x82, b"z"),
        ]
        .concat();
        client.write(&rest);
        server.expect_read(rest.len());
        server.on(id, |conn| conn.resume_reads());
        for wanted in [&pause[..], b"held", &late, b"z"] {
            assert!(client.read_frame() == Frame::binary(wanted), "{before}");
        }
    }
    drop(client);
    server.expect_close();
    server.wait_for("nothing is leased", |stats| {
        stats.buffer_memory.current == 0
    });
}

/// Whatever the sizes of messages, writes, turns and buffers are, and whenever reading pauses.
#[test]
fn any_mixture_comes_back_in_order() {
    for seed in 0..8 {
        mixture(seed);
    }
}

fn mixture(seed: u64) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut pick = |among: &[usize]| among[rng.next_u32() as usize % among.len()];
    let scratch = pick(&[65_536, 100_000, 256 << 10, SCRATCH, LARGE_SCRATCH]);
    let config = Config::default()
        .scratch_size(scratch)
        .large_buffer_size(pick(&[16_384, 65_536, 200_000]))
        .send_queue(pick(&[1, 2, 16]))
        .turn_bytes(pick(&[10_000, 512 << 10, 16 * MIB]))
        .turn_messages(pick(&[1, 3, 4096]))
        .send_buffer_size(Some(pick(&[4096, 100_000, MIB])))
        .low_water(10_000)
        .high_water(pick(&[10_000, 256 << 10]));
    let pauses = pick(&[2, 5, 1000]) as u32;
    let mut messages = Vec::new();
    let mut wire = Vec::new();
    let mut bytes = 0;
    while bytes < 3 * MIB {
        let most = pick(&[1, 20, 200, 5000, 70_000, scratch, 400_000]);
        let size = pick(&[most, most / 2, most - most / 7]);
        let payload = pattern(size, bytes as u32);
        bytes += size + 100;
        match pick(&[0, 1, 2, 3, 4, 5]) {
            0 => {
                let (front, back) = payload.split_at(size / 3);
                wire.extend(masked_frame(0x02, front));
                wire.extend(masked_frame(0x8A, b"in between"));
                wire.extend(masked_frame(0x80, back));
            }
            _ => wire.extend(masked_frame(0x82, &payload)),
        }
        messages.push(payload);
    }
    let most = pick(&[1000, 50_000, MIB]);
    let server = Server::start(keeps_nothing(config), move |app| {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        app.on_message = Some(Box::new(move |conn, message| {
            if rng.next_u32() % pauses == 0 {
                conn.pause_reads();
                let resume = conn.connections().set_timer(Duration::ZERO, 0);
                assert!(resume.is_ok());
            }
            forward(conn, message);
        }));
        app.on_timer = Some(Box::new(|connections, _, _| {
            connections.for_each(|conn| conn.resume_reads());
        }));
    });
    let mut client = server.connect();
    let mut stream = client.stream.try_clone().unwrap();
    let writer = std::thread::spawn(move || {
        let mut rest = &wire[..];
        while !rest.is_empty() {
            let len = rest.len().min(1 + rng.next_u32() as usize % most);
            stream.write_all(&rest[..len]).unwrap();
            rest = &rest[len..];
        }
    });
    for (at, payload) in messages.into_iter().enumerate() {
        let frame = client.read_frame();
        assert!(frame == Frame::binary(payload), "{seed}: {at}: {frame:?}");
    }
    writer.join().unwrap();
    drop(client);
    server.expect_close();
    let what = format!("{seed}: nothing is leased");
    server.wait_for(&what, |stats| stats.buffer_memory.current == 0);
}
