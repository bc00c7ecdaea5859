use std::sync::Arc;

use std::io;

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

use super::super::Output;
use super::{
    super::{
        Flushed, Outcome, Partial, Payload, SendLimits,
        choppy::{below, decode},
    },
    *,
};
use crate::{
    config::Config,
    protocol::{MessageKind, Opcode, ProtocolError, Role, Rules},
};

const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;

/// A socket that takes so many bytes before it blocks.
struct Socket {
    room: usize,
    wire: Vec<u8>,
}

impl io::Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = bytes.len().min(self.room);
        if len == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.room -= len;
        self.wire.extend(&bytes[..len]);
        Ok(len)
    }

    fn write_vectored(&mut self, slices: &[io::IoSlice<'_>]) -> io::Result<usize> {
        let slices: Vec<&[u8]> = slices.iter().map(|slice| &**slice).collect();
        self.write(&slices.concat())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A connection with everything around it.
struct End {
    link: Link,
    pools: Pools,
    socket: Socket,
    back: Vec<(Payload, Outcome)>,
    /// How often the write side was to be shut down.
    shut_down: usize,
}

fn note(back: &mut Vec<(Payload, Outcome)>) -> impl FnMut(Sent) {
    |sent| back.push((sent.payload, sent.outcome))
}

fn code(code: u16) -> CloseCode {
    CloseCode::new(code)
}

fn remote(close_code: u16, reason: &str) -> ClosePayload<'_> {
    ClosePayload {
        code: Some(code(close_code)),
        reason,
    }
}

const EMPTY: ClosePayload<'_> = ClosePayload {
    code: None,
    reason: "",
};
const BROKEN: CloseCause = CloseCause::Protocol(ProtocolError::ReservedBits);

impl End {
    fn new() -> Self {
        let config = Config::default()
            .initial_read_buffers(0)
            .initial_large_buffers(0);
        Self {
            link: Link::new(crate::protocol::Role::Server, Instant::now()),
            pools: Pools::new(&Arc::new(config.clone()), false),
            socket: Socket {
                room: usize::MAX,
                wire: Vec::new(),
            },
            back: Vec::new(),
            shut_down: 0,
        }
    }

    fn send(&mut self, payload: &'static str) {
        let limits = SendLimits {
            queue: 10,
            backlog: 1000,
        };
        self.link
            .outbox
            .send(
                MessageKind::Binary,
                payload.into(),
                &limits,
                &mut self.pools,
            )
            .unwrap();
    }

    fn close(&mut self, close_code: u16, reason: &str) -> Result<bool, InvalidCloseCode> {
        let cause = CloseCause::Application;
        self.link
            .close(code(close_code), reason, cause, &mut self.pools)
    }

    fn close_now(&mut self, close_code: u16) -> Result<bool, InvalidCloseCode> {
        let back = note(&mut self.back);
        self.link
            .close_now(code(close_code), "now", &mut self.pools, back)
    }

    fn close_remote(&mut self, payload: ClosePayload<'_>) -> bool {
        self.link.close_remote(payload, &mut self.pools)
    }

    fn fail(&mut self) -> bool {
        self.link
            .fail(CloseCode::PROTOCOL_ERROR, BROKEN, &mut self.pools)
    }

    /// Flushes as the driver does it, `room` bytes.
    fn flush(&mut self, room: usize) {
        self.socket.room = room;
        self.link.outbox.writable();
        let back = note(&mut self.back);
        let flushed = self
            .link
            .outbox
            .flush(
                &mut Output::new(&mut self.socket, &[]),
                &mut self.pools,
                back,
            )
            .unwrap();
        if flushed == Flushed::All {
            self.shut_down += usize::from(self.link.flushed());
        }
    }

    fn end(&mut self, cause: CloseCause) -> bool {
        let back = note(&mut self.back);
        self.link.end(cause, &mut self.pools, back)
    }

    /// Ends the connection, checks that nothing is left, and says how it ended.
    fn result(mut self, cause: CloseCause) -> Close {
        assert!(self.end(cause));
        assert!(!self.end(CloseCause::IdleTimeout), "it ends once");
        assert!(!self.fail() && !self.close_remote(EMPTY));
        assert_eq!(self.close(1000, ""), Ok(false));
        assert_eq!(self.close_now(1000), Ok(false));
        assert!(!self.link.flushed());
        assert!(self.link.outbox.is_empty());
        assert_eq!(self.pools.buffers.leased(), 0);
        assert_eq!(self.link.state(), State::Ended);
        let close = self.link.take_close().unwrap();
        assert!(self.link.take_close().is_none());
        close
    }

    fn closes_on_the_wire(&self) -> Vec<Vec<u8>> {
        let frames = decode(&self.socket.wire);
        let closes = frames.into_iter().filter(|(first, _)| *first == CLOSE);
        closes.map(|(_, payload)| payload).collect()
    }
}

fn local(close_code: u16, reason: &str, cause: CloseCause, clean: bool) -> Close {
    Close {
        initiator: Initiator::Local,
        code: Some(code(close_code)),
        reason: reason.to_owned(),
        cause,
        clean,
    }
}

fn payload(close_code: u16, reason: &str) -> Vec<u8> {
    [&close_code.to_be_bytes(), reason.as_bytes()].concat()
}

#[test]
fn we_close_and_the_peer_answers() {
    let mut end = End::new();
    end.send("first");
    assert_eq!(end.close(3000, "done"), Ok(true));
    assert_eq!(end.link.state(), State::Closing);
    end.flush(usize::MAX);
    assert_eq!(end.shut_down, 0, "the peer's close frame is awaited");
    assert!(end.close_remote(remote(3000, "")));
    assert_eq!(end.link.state(), State::Answering);
    end.flush(usize::MAX);
    assert_eq!((end.link.state(), end.shut_down), (State::Draining, 1));
    assert!(!end.close_remote(EMPTY), "a second one is of no use");
    end.flush(usize::MAX);
    assert_eq!(end.shut_down, 1);
    assert_eq!(
        decode(&end.socket.wire),
        [(BINARY, b"first".to_vec()), (CLOSE, payload(3000, "done"))]
    );
    assert!(matches!(end.back[..], [(_, Outcome::Flushed)]));
    let close = end.result(CloseCause::EndOfStream);
    assert_eq!(close, local(3000, "done", CloseCause::Application, true));
}

#[test]
fn the_peer_closes_and_is_answered_with_its_payload_behind_what_is_staged() {
    for (sent, echoed) in [
        (remote(4321, "why"), payload(4321, "why")),
        (remote(1000, ""), payload(1000, "")),
        (EMPTY, vec![]),
    ] {
        let mut end = End::new();
        end.send("staged");
        assert!(end.close_remote(sent));
        assert_eq!(end.close(1000, "too late"), Ok(false));
        assert!(!end.fail());
        assert_eq!(end.link.state(), State::Answering);
        end.flush(3);
        assert_eq!((end.link.state(), end.shut_down), (State::Answering, 0));
        end.flush(usize::MAX);
        assert_eq!((end.link.state(), end.shut_down), (State::Draining, 1));
        assert_eq!(
            decode(&end.socket.wire),
            [(BINARY, b"staged".to_vec()), (CLOSE, echoed)]
        );
        let expected = Close {
            initiator: Initiator::Remote,
            code: sent.code,
            reason: sent.reason.to_owned(),
            cause: CloseCause::Peer,
            clean: true,
        };
        assert_eq!(end.result(CloseCause::EndOfStream), expected);
    }
}

#[test]
fn both_close_at_once_and_the_first_is_noted() {
    let mut end = End::new();
    assert_eq!(end.close(1000, "ours"), Ok(true));
    assert!(end.close_remote(remote(4000, "theirs")));
    end.flush(usize::MAX);
    assert_eq!(end.closes_on_the_wire(), [payload(1000, "ours")]);
    let close = end.result(CloseCause::EndOfStream);
    assert_eq!(close, local(1000, "ours", CloseCause::Application, true));
}

#[test]
fn closing_now_finishes_the_frame_in_flight_and_gives_the_rest_back() {
    for (room, wire) in [(0, 0), (1, 1), (6, 1), (7, 1), (8, 2)] {
        let mut end = End::new();
        for payload in ["first", "other", "third"] {
            end.send(payload);
        }
        end.flush(room);
        assert_eq!(end.close_now(1001), Ok(true));
        assert_eq!(end.close_now(1001), Ok(false));
        end.flush(usize::MAX);
        let mut frames = decode(&end.socket.wire);
        assert_eq!(frames.pop(), Some((CLOSE, payload(1001, "now"))));
        assert_eq!(frames.len(), wire);
        let outcomes = |wanted| {
            end.back
                .iter()
                .filter(|(_, outcome)| *outcome == wanted)
                .count()
        };
        assert_eq!(outcomes(Outcome::Flushed), wire);
        assert_eq!(outcomes(Outcome::Discarded { written: 0 }), 3 - wire);
        let close = end.result(CloseCause::EndOfStream);
        assert_eq!(close, local(1001, "now", CloseCause::Application, false));
    }
}

#[test]
fn a_code_that_must_not_be_sent_changes_nothing() {
    for invalid in [0, 999, 1004, 1005, 1006, 1015, 2999, 5000] {
        let mut end = End::new();
        end.send("stays");
        let error = Err(InvalidCloseCode(code(invalid)));
        assert_eq!(end.close(invalid, ""), error);
        assert_eq!(end.close_now(invalid), error);
        assert!(end.link.state().is_open() && end.back.is_empty());
        end.flush(usize::MAX);
        assert_eq!(decode(&end.socket.wire), [(BINARY, b"stays".to_vec())]);
        assert!(end.closes_on_the_wire().is_empty());
    }
}

#[test]
fn a_long_reason_is_cut_at_a_character_on_the_wire_and_in_the_note() {
    let mut end = End::new();
    let reason = "€".repeat(50);
    assert_eq!(end.close(1000, &reason), Ok(true));
    end.flush(usize::MAX);
    let cut = &reason[..123];
    assert_eq!(end.closes_on_the_wire(), [payload(1000, cut)]);
    let close = end.result(CloseCause::EndOfStream);
    assert_eq!(close, local(1000, cut, CloseCause::Application, false));
}

#[test]
fn failing_while_open_closes_behind_what_is_staged_and_forgets_the_input() {
    let mut end = End::new();
    end.send("staged");
    let rules = Rules {
        role: Role::Client,
        max_message_size: 100,
        check_utf8: true,
        compression: false,
    };
    let mut input = [BINARY, 50, 1, 2, 3];
    let next = end
        .link
        .inbox
        .next(&mut input, &mut 0, &rules, Partial::Ended, &mut end.pools);
    assert_eq!((next, end.pools.buffers.leased()), (Ok(None), 1));
    assert!(end.fail());
    assert_eq!(end.pools.buffers.leased(), 0);
    assert!(!end.fail() && !end.close_remote(EMPTY));
    assert_eq!(end.close(1000, ""), Ok(false));
    end.flush(usize::MAX);
    assert_eq!(end.link.state(), State::Draining);
    assert_eq!(
        decode(&end.socket.wire),
        [(BINARY, b"staged".to_vec()), (CLOSE, payload(1002, ""))]
    );
    let close = end.result(CloseCause::EndOfStream);
    assert_eq!(close, local(1002, "", BROKEN, false));
}

#[test]
fn failing_while_closing_keeps_our_first_close_frame() {
    let mut end = End::new();
    assert_eq!(end.close(1001, "bye"), Ok(true));
    end.flush(2);
    assert!(end.fail());
    assert_eq!(end.link.state(), State::Answering);
    end.flush(usize::MAX);
    assert_eq!((end.link.state(), end.shut_down), (State::Draining, 1));
    assert_eq!(end.closes_on_the_wire(), [payload(1001, "bye")]);
    let close = end.result(CloseCause::EndOfStream);
    assert_eq!(close, local(1001, "bye", CloseCause::Application, false));
}

#[test]
fn an_end_without_a_beginning_is_its_own_cause() {
    let reset = CloseCause::Io(io::ErrorKind::ConnectionReset);
    for (cause, initiator) in [
        (CloseCause::EndOfStream, Initiator::Remote),
        (reset, Initiator::Remote),
        (CloseCause::IdleTimeout, Initiator::Local),
        (CloseCause::Shutdown, Initiator::Local),
        (CloseCause::OutOfBuffers, Initiator::Local),
    ] {
        let mut end = End::new();
        end.send("lost");
        end.flush(4);
        let expected = Close {
            initiator,
            code: None,
            reason: String::new(),
            cause,
            clean: false,
        };
        assert_eq!(end.result(cause), expected);
    }
}

#[test]
fn ending_in_each_state_is_clean_only_behind_both_close_frames() {
    type Step = fn(&mut End);
    let closing: Step = |end| assert_eq!(end.close(1000, ""), Ok(true));
    let answering: Step = |end| assert!(end.close_remote(remote(1000, "")));
    let failing: Step = |end| assert!(end.fail());
    let table: [(&[Step], State, bool); 7] = [
        (&[closing], State::Closing, false),
        (&[closing, |end| end.flush(4)], State::Closing, false),
        (&[answering], State::Answering, false),
        (
            &[closing, answering, |end| end.flush(3)],
            State::Answering,
            false,
        ),
        (&[answering, |end| end.flush(4)], State::Draining, true),
        (
            &[closing, answering, |end| end.flush(4)],
            State::Draining,
            true,
        ),
        (&[failing, |end| end.flush(4)], State::Draining, false),
    ];
    for (steps, state, clean) in table {
        let mut end = End::new();
        steps.iter().for_each(|step| step(&mut end));
        assert_eq!(end.link.state(), state);
        assert_eq!(
            end.result(CloseCause::IdleTimeout).clean,
            clean,
            "{state:?}"
        );
    }
}

#[test]
fn everything_comes_back_once_when_the_end_comes_in_the_middle() {
    let mut end = End::new();
    for payload in ["first", "other", "third"] {
        end.send(payload);
    }
    end.flush(7 + 4);
    assert_eq!(end.close(1000, ""), Ok(true));
    assert!(end.end(CloseCause::EndOfStream));
    let outcomes: Vec<_> = end.back.iter().map(|(_, outcome)| *outcome).collect();
    let expected = [2, 0].map(|written| Outcome::Discarded { written });
    assert_eq!(outcomes, [&[Outcome::Flushed][..], &expected].concat());
}

/// What has to hold after anything: at most one close frame, nothing behind it, every payload back once.
#[test]
fn random_lives_close_at_most_once() {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    for _ in 0..5000 {
        let mut end = End::new();
        let (mut sent, mut first) = (0, None);
        for _ in 0..below(&mut rng, 25) {
            let open = end.link.state().is_open();
            let begun = match below(&mut rng, 14) {
                0..4 if open => {
                    end.send("payload");
                    sent += 1;
                    None
                }
                4..6 if open => {
                    let pools = &mut end.pools;
                    // A full ring is as good.
                    let _ = end.link.outbox.control(Opcode::Ping, b"ping", pools);
                    None
                }
                6 => end
                    .close(1000, "a")
                    .unwrap()
                    .then_some((Initiator::Local, 1000)),
                7 => end
                    .close_now(1001)
                    .unwrap()
                    .then_some((Initiator::Local, 1001)),
                8 => end
                    .close_remote(remote(3000, "r"))
                    .then_some((Initiator::Remote, 3000)),
                9 => end.fail().then_some((Initiator::Local, 1002)),
                _ => {
                    end.flush(rng.next_u32() as usize % 20);
                    None
                }
            };
            first = first.or(begun);
            if sent - end.back.len() >= 10 {
                end.flush(usize::MAX);
            }
        }
        if below(&mut rng, 2) == 0 {
            end.flush(usize::MAX);
            let frames = decode(&end.socket.wire);
            let at = frames.iter().position(|(first, _)| *first == CLOSE);
            assert_eq!(
                at,
                first.map(|_| frames.len() - 1),
                "it is the last, and the only one"
            );
            let code = first.map(|(_, code): (_, u16)| code.to_be_bytes().to_vec());
            assert_eq!(code, at.map(|at| frames[at].1[..2].to_vec()));
            assert_eq!(end.back.len(), sent);
        }
        assert!(end.shut_down <= 1);
        assert!(end.end(CloseCause::EndOfStream));
        assert_eq!(end.back.len(), sent);
        assert_eq!(end.pools.buffers.leased(), 0);
        let close = end.link.take_close().unwrap();
        let begun = close.code.map(|code| (close.initiator, code.get()));
        assert_eq!(begun, first);
    }
}
