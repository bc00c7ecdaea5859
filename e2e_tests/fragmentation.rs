use wsloop::{CloseCause, Config, MessageKind, ProtocolError};

use super::support::{Frame, Server, masked_frame, pattern};

/// The wire form of a message that is cut at the places of `cuts`.
fn fragments(opcode: u8, payload: &[u8], cuts: &[usize], between: &[u8]) -> Vec<u8> {
    let ends = cuts.iter().copied().chain([payload.len()]);
    let mut wire = Vec::new();
    let (mut start, mut first) = (0, opcode);
    for end in ends {
        let fin = if end == payload.len() { 0x80 } else { 0 };
        wire.extend(masked_frame(fin | first, &payload[start..end]));
        if fin == 0 {
            wire.extend_from_slice(between);
        }
        (start, first) = (end, 0);
    }
    wire
}

/// All sets of places at which a payload of `len` bytes can be cut.
fn all_cuts(len: usize) -> impl Iterator<Item = Vec<usize>> {
    (0..1u32 << (len - 1)).map(move |set| (1..len).filter(|at| set >> (at - 1) & 1 == 1).collect())
}

/// Characters of one to four bytes: some cuts fall inside each.
const TEXT: &str = "aß€😀";

#[test]
fn every_split_of_a_text_is_the_same_text() {
    let server = Server::echo();
    let mut client = server.connect();
    for cuts in all_cuts(TEXT.len()) {
        client.write(&fragments(1, TEXT.as_bytes(), &cuts, b""));
        assert_eq!(client.read_frame(), Frame::text(TEXT), "{cuts:?}");
    }
}

#[test]
fn every_split_with_a_ping_between_is_the_same_message() {
    let server = Server::echo();
    let mut client = server.connect();
    let ping = masked_frame(0x89, b"between");
    for cuts in all_cuts(6) {
        client.write(&fragments(2, b"abcdef", &cuts, &ping));
        let mut frame = client.read_frame();
        while frame == Frame::pong(b"between") {
            frame = client.read_frame();
        }
        assert_eq!(frame, Frame::binary(*b"abcdef"), "{cuts:?}");
    }
    let pings = server.stats().received.pings;
    assert_eq!(
        pings,
        5 * 16,
        "each of 5 places is cut in half of 32 splits"
    );
}

#[test]
fn each_fragment_in_a_segment_of_its_own_with_pings_and_pongs_answered_in_place() {
    let server = Server::echo();
    let mut client = server.connect();
    client.write(&masked_frame(0x01, b"one "));
    client.send_ping(b"1");
    assert_eq!(client.read_frame(), Frame::pong(b"1"));
    client.write(&masked_frame(0x00, b"two "));
    client.write(&masked_frame(0x8A, b"unsolicited"));
    client.send_ping(b"2");
    assert_eq!(client.read_frame(), Frame::pong(b"2"));
    client.write(&masked_frame(0x80, b"three"));
    assert_eq!(client.read_frame(), Frame::text("one two three"));
}

#[test]
fn empty_fragments_do_not_matter() {
    let server = Server::echo();
    let mut client = server.connect();
    for (parts, whole) in [
        (&["", "", ""][..], ""),
        (&["", "x", "", ""], "x"),
        (&["x", "", "y"], "xy"),
        (&["", "xy"], "xy"),
        (&["xy", ""], "xy"),
    ] {
        for opcode in [1, 2] {
            let mut wire = Vec::new();
            for (at, part) in parts.iter().enumerate() {
                let fin = if at + 1 == parts.len() { 0x80 } else { 0 };
                let opcode = if at == 0 { opcode } else { 0 };
                wire.extend(masked_frame(fin | opcode, part.as_bytes()));
            }
            for byte in wire {
                client.write(&[byte]);
            }
            let expected = Frame {
                opcode,
                ..Frame::text(whole)
            };
            assert_eq!(client.read_frame(), expected, "{parts:?}");
        }
    }
    server.wait_for("nothing leased", |stats| {
        stats.read_buffers.current == 0 && stats.large_buffers.current == 0
    });
}

/// Advisory class: endless, tiny or empty fragments (ws CVE-2026-48779 and others). The number must not matter.
#[test]
fn advisory_tiny_fragments_65536_in_one_message() {
    let server = Server::echo();
    let mut client = server.connect();
    let payload: Vec<u8> = pattern(65_536, 5).iter().map(|byte| byte & 0x7F).collect();
    let cuts: Vec<usize> = (1..65_536).collect();
    client.write(&fragments(1, &payload, &cuts, b""));
    assert_eq!(client.read_frame().payload, payload);
    let stats = server.stats();
    assert_eq!(stats.received.messages, 1);
    assert!(stats.large_buffers.peak <= 2, "{stats:#?}");
}

/// Advisory class: empty fragments without an end cost neither memory nor the others' turn.
#[test]
fn advisory_empty_fragments_100000_cost_no_memory() {
    let server = Server::echo();
    let mut client = server.connect();
    let mut other = server.connect();
    client.write(&masked_frame(0x02, b""));
    let empty = masked_frame(0x00, b"");
    client.write(&empty.repeat(100_000));
    other.send_text("my turn");
    assert_eq!(other.read_frame(), Frame::text("my turn"));
    client.write(&masked_frame(0x80, b"end"));
    assert_eq!(client.read_frame(), Frame::binary(*b"end"));
    let stats = server.stats();
    assert!(stats.large_buffers.peak <= 2, "{stats:#?}");
}

#[test]
fn fragments_across_the_buffer_tiers() {
    let config = Config::default()
        .read_buffer_size(256)
        .large_buffer_size(1024)
        .max_head_size(1024)
        .max_message_size(100_000);
    let server = Server::start(config, |_| {});
    let mut client = server.connect();
    let sizes = [1, 255, 256, 257, 1023, 1024, 1025, 4096, 20_000];
    for first in sizes {
        for second in sizes {
            let payload = pattern(first + second + 7, (first * 31 + second) as u32);
            let wire = fragments(2, &payload, &[first, first + second], b"");
            // Once in one write, once with a cut in the second fragment.
            client.write(&wire);
            assert_eq!(client.read_frame(), Frame::binary(payload.clone()));
            client.write(&wire[..first + 20]);
            client.write(&wire[first + 20..]);
            assert_eq!(client.read_frame(), Frame::binary(payload));
        }
    }
}

#[test]
fn the_limit_counts_the_sum_of_the_fragments_inclusive() {
    let config = Config::default().max_message_size(1000);
    let server = Server::start(config, |_| {});
    let mut client = server.connect();
    let payload = pattern(1000, 1);
    client.write(&fragments(2, &payload, &[400, 999], b""));
    assert_eq!(client.read_frame(), Frame::binary(payload.clone()));
    // One byte more: refused by the header of the last fragment, before its payload is there.
    client.write(&masked_frame(0x02, &payload[..400]));
    client.write(&masked_frame(0x00, &payload[..599]));
    client.write(&masked_frame(0x80, b"12")[..6]);
    client.expect_close(1009);
    let close = server.expect_close();
    assert_eq!(
        close.cause,
        CloseCause::Protocol(ProtocolError::MessageTooBig)
    );
    assert_eq!(server.stats().closed.message_too_big, 1);
}

#[test]
fn a_message_at_the_limit_may_end_with_empty_fragments() {
    let server = Server::start(Config::default().max_message_size(10), |_| {});
    let mut client = server.connect();
    client.write(&masked_frame(0x01, b"0123456789"));
    client.write(&masked_frame(0x00, b""));
    client.write(&masked_frame(0x80, b""));
    assert_eq!(client.read_frame(), Frame::text("0123456789"));
}

#[test]
fn the_kind_is_that_of_the_first_fragment() {
    let server = Server::echo();
    let mut client = server.connect();
    client.write(&fragments(2, b"\xFF\xFE", &[1], b""));
    let kind = server.expect("message", |event| match event {
        super::support::Event::Message(_, kind, _) => Some(*kind),
        _ => None,
    });
    assert_eq!(kind, MessageKind::Binary);
    assert_eq!(client.read_frame(), Frame::binary(*b"\xFF\xFE"));
}
