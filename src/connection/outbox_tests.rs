use std::sync::Arc;

use std::{collections::VecDeque, io::IoSlice, ops::Range};

use bytes::Bytes;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

use super::{
    super::{
        FramesBuilder, Outcome,
        choppy::{below, decode, frame},
    },
    *,
};
use crate::{config::Config, protocol::CloseCode};

const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8A;

/// How the kernel answers a write.
#[derive(Debug, Clone, Copy)]
enum Take {
    All,
    Bytes(usize),
    WouldBlock,
    Interrupted,
    Fails,
    /// `Ok(0)`, which no socket should say.
    Nothing,
}

/// A write that was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Call {
    offered: usize,
    slices: usize,
    /// `None` when it failed.
    took: Option<usize>,
}

/// A kernel that follows a script, and takes everything when the script is at its end.
#[derive(Default)]
struct Kernel {
    script: VecDeque<Take>,
    wire: Vec<u8>,
    calls: Vec<Call>,
}

impl Kernel {
    fn take(&mut self, slices: &[&[u8]]) -> io::Result<usize> {
        let all = slices.concat();
        assert!(!all.is_empty(), "an empty write asks for nothing");
        let took = match self.script.pop_front().unwrap_or(Take::All) {
            Take::All => Ok(all.len()),
            Take::Bytes(count) => Ok(count.min(all.len())),
            Take::WouldBlock => Err(io::ErrorKind::WouldBlock.into()),
            Take::Interrupted => return Err(io::ErrorKind::Interrupted.into()),
            Take::Fails => Err(io::ErrorKind::ConnectionReset.into()),
            Take::Nothing => Ok(0),
        };
        self.wire.extend(&all[..*took.as_ref().unwrap_or(&0)]);
        let blocks = |error: &io::Error| error.kind() == io::ErrorKind::WouldBlock;
        self.calls.push(Call {
            offered: all.len(),
            slices: slices.len(),
            took: match &took {
                Ok(0) => None,
                Ok(count) => Some(*count),
                Err(error) => blocks(error).then_some(0),
            },
        });
        took
    }
}

impl Write for Kernel {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.take(&[bytes])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        assert!(
            slices.len() > 1,
            "the kernel has a shorter way for one piece"
        );
        let slices: Vec<&[u8]> = slices.iter().map(|slice| &**slice).collect();
        self.take(&slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

type Back = (Vec<u8>, Outcome);

/// An outbox with everything around it.
struct Bench {
    outbox: Outbox,
    pools: Pools,
    kernel: Kernel,
    /// What lies still while it is being worked off.
    input: Vec<u8>,
    limits: SendLimits,
    back: Vec<Back>,
    /// Messages of one part go by the shorter ways where these are open, as those of the application do.
    shortens: bool,
}

fn config() -> Config {
    Config::default()
        .initial_read_buffers(0)
        .initial_large_buffers(0)
}

fn note(back: &mut Vec<Back>) -> impl FnMut(Sent) {
    |sent| back.push((sent.payload.into_vec(), sent.outcome))
}

impl Bench {
    fn new(config: &Config) -> Self {
        Self {
            outbox: Outbox::new(crate::protocol::Role::Server),
            pools: Pools::new(&Arc::new(config.clone()), false),
            kernel: Kernel::default(),
            input: Vec::new(),
            limits: SendLimits {
                queue: 8,
                backlog: 1 << 20,
            },
            back: Vec::new(),
            shortens: false,
        }
    }

    fn with_script(script: &[Take]) -> Self {
        let mut bench = Self::new(&config());
        bench.kernel.script.extend(script);
        bench
    }

    fn send(&mut self, payload: impl Into<Payload>) -> Result<(), SendErrorKind> {
        let payload = payload.into();
        let len = payload.len();
        self.outbox
            .send(MessageKind::Binary, payload, &self.limits, &mut self.pools)
            .map_err(|error| {
                assert_eq!(error.payload.len(), len);
                error.kind
            })
    }

    fn copy(&mut self, parts: &[&[u8]]) -> Result<(), SendErrorKind> {
        self.copy_with(None, |_| parts.to_vec())
    }

    /// Copies what lies in the input, in the message that begins at `message`.
    fn echo(&mut self, range: Range<usize>, message: usize) -> Result<(), SendErrorKind> {
        self.copy_with(Some(message), |input| vec![&input[range]])
    }

    fn copy_with<'a>(
        &'a mut self,
        message: Option<usize>,
        parts: impl FnOnce(&'a [u8]) -> Vec<&'a [u8]>,
    ) -> Result<(), SendErrorKind> {
        let kind = MessageKind::Binary;
        let Self {
            outbox,
            pools,
            kernel,
            input,
            limits,
            back,
            shortens,
        } = self;
        let out = &mut Output::new(kernel, input).with_message(message);
        let parts = parts(input);
        if let (true, [part]) = (*shortens, &*parts) {
            if outbox.cork_short(kind, part, limits, pools)
                || outbox.borrow_plain(kind, part, limits, pools, out)
            {
                return Ok(());
            }
        }
        let parts: Vec<_> = parts.into_iter().map(IoSlice::new).collect();
        outbox.send_copy(kind, &parts, limits, pools, out, note(back))
    }

    /// Nobody looks at the input any more.
    fn move_headers(&mut self) {
        self.outbox.move_headers(&mut self.pools, &mut self.input);
    }

    /// What comes next needs a queue, or changes the input.
    fn begin(&mut self) -> io::Result<()> {
        let out = &mut Output::new(&mut self.kernel, &self.input);
        self.outbox.write_borrowed(&mut self.pools, out)
    }

    fn frames(&mut self, frames: &Frames) -> Result<(), SendErrorKind> {
        self.outbox
            .send_frames(frames, &self.limits, &mut self.pools)
    }

    fn control(&mut self, opcode: Opcode, payload: &[u8]) -> Result<(), SendErrorKind> {
        self.outbox.control(opcode, payload, &mut self.pools)
    }

    fn pong(&mut self, payload: &[u8]) {
        let back = note(&mut self.back);
        let out = &mut Output::new(&mut self.kernel, &self.input);
        self.outbox.auto_pong(payload, &mut self.pools, out, back);
    }

    fn flush(&mut self) -> io::Result<Flushed> {
        let back = note(&mut self.back);
        let out = &mut Output::new(&mut self.kernel, &self.input);
        self.outbox.flush(out, &mut self.pools, back)
    }

    fn close(&mut self) {
        let payload = ClosePayload::new(CloseCode::NORMAL, "bye");
        self.outbox.close(&payload, &mut self.pools);
    }

    fn discard_waiting(&mut self) {
        let back = note(&mut self.back);
        self.outbox.discard_waiting(&mut self.pools, back);
    }

    fn discard_all(&mut self) {
        let back = note(&mut self.back);
        self.outbox.discard_all(&mut self.pools, back);
    }

    /// Flushes until nothing waits, the kernel being writable again whenever it was not.
    fn drain(&mut self) {
        while !matches!(self.flush(), Ok(Flushed::All)) {
            self.outbox.writable();
        }
        assert!(self.outbox.is_empty() && self.outbox.backlog() == 0);
        assert!(self.holds_nothing());
    }

    fn holds_nothing(&mut self) -> bool {
        self.pools.end_turn();
        self.pools.buffers.leased() == 0
    }
}

fn close_frame() -> Vec<u8> {
    frame(CLOSE, None, b"\x03\xE8bye")
}

fn binary(payload: &[u8]) -> Vec<u8> {
    frame(BINARY, None, payload)
}

fn numbered(count: usize, len: usize) -> Vec<Vec<u8>> {
    (0..count).map(|number| vec![number as u8; len]).collect()
}

type Stage = fn(&mut Bench);

/// Ways to stage messages, with the frames that they are on the wire.
fn stagings() -> Vec<(Stage, Vec<Vec<u8>>)> {
    vec![
        (
            |bench| {
                numbered(20, 7)
                    .iter()
                    .for_each(|p| bench.copy(&[p]).unwrap())
            },
            numbered(20, 7).iter().map(|p| binary(p)).collect(),
        ),
        (
            |bench| {
                let builder = Frames::builder();
                let fill =
                    |frames: FramesBuilder, p: &Vec<u8>| frames.message(MessageKind::Binary, p);
                let frames = numbered(9, 2000).iter().fold(builder, fill).build();
                bench.frames(&frames).unwrap();
                bench.frames(&frames).unwrap();
            },
            [numbered(9, 2000), numbered(9, 2000)]
                .concat()
                .iter()
                .map(|p| binary(p))
                .collect(),
        ),
        (
            |bench| {
                numbered(4, 200)
                    .iter()
                    .for_each(|p| bench.send(p.clone()).unwrap())
            },
            numbered(4, 200).iter().map(|p| binary(p)).collect(),
        ),
        (
            |bench| {
                let parts: Vec<Payload> =
                    vec!["ab".into(), "".into(), vec![3; 300].into(), "z".into()];
                bench.send(parts).unwrap();
                bench.copy(&[b"x", b"", b"yz"]).unwrap();
                bench.send("").unwrap();
            },
            vec![
                binary(&[&b"ab"[..], &[3; 300], b"z"].concat()),
                binary(b"xyz"),
                binary(b""),
            ],
        ),
    ]
}

#[test]
fn any_size_of_write_gives_the_same_bytes() {
    for (stage, frames) in stagings() {
        let wire = frames.concat();
        for size in (1..=130).chain([999, 4096]) {
            let mut bench = Bench::with_script(&[]);
            stage(&mut bench);
            assert_eq!(bench.outbox.backlog(), wire.len());
            let mut left = wire.len();
            while left > 0 {
                bench.kernel.script.push_back(Take::Interrupted);
                bench.kernel.script.push_back(Take::Bytes(size));
                let flushed = bench.flush().unwrap();
                left -= size.min(left);
                assert_eq!(flushed == Flushed::All, left == 0);
                assert_eq!(bench.outbox.backlog(), left);
                let calls = bench.kernel.calls.len();
                if left > 0 {
                    assert_eq!(bench.flush().unwrap(), Flushed::Blocked);
                }
                assert_eq!(
                    bench.kernel.calls.len(),
                    calls,
                    "nothing is offered to a blocked kernel"
                );
                bench.outbox.writable();
            }
            bench.drain();
            assert!(bench.kernel.wire == wire);
            assert!(
                bench
                    .back
                    .iter()
                    .all(|(_, outcome)| *outcome == Outcome::Flushed)
            );
        }
    }
}

/// Where the frames end, zero included.
fn boundaries(frames: &[Vec<u8>]) -> Vec<usize> {
    let ends = frames.iter().scan(0, |end, frame| {
        *end += frame.len();
        Some(*end)
    });
    std::iter::once(0).chain(ends).collect()
}

#[test]
fn control_frames_come_directly_behind_the_frame_in_flight() {
    let control = [
        frame(PONG, None, b"newest"),
        frame(PING, None, b"one"),
        frame(PONG, None, b"two"),
    ]
    .concat();
    for (stage, frames) in stagings() {
        let wire = frames.concat();
        let step = if wire.len() > 2000 { 97 } else { 1 };
        for cut in (0..wire.len()).step_by(step).chain([1, wire.len() - 1]) {
            let first = if cut == 0 {
                Take::WouldBlock
            } else {
                Take::Bytes(cut)
            };
            let mut bench = Bench::with_script(&[first]);
            stage(&mut bench);
            assert_eq!(bench.flush().unwrap(), Flushed::Blocked);
            bench.control(Opcode::Ping, b"one").unwrap();
            bench.pong(b"older");
            bench.control(Opcode::Pong, b"two").unwrap();
            bench.pong(b"newest");
            bench.outbox.writable();
            bench.drain();
            let at = boundaries(&frames)
                .into_iter()
                .find(|end| *end >= cut)
                .unwrap();
            let expected = [&wire[..at], &control, &wire[at..]].concat();
            assert!(bench.kernel.wire == expected, "cut at {cut}");
        }
    }
}

#[test]
fn control_frames_come_behind_the_rest_of_a_direct_write() {
    let payload = vec![5; 40_000];
    let whole = binary(&payload);
    for cut in [1, 2, 3, 4, 5, 20_000, whole.len() - 1] {
        let mut bench = Bench::with_script(&[Take::Bytes(cut)]);
        bench.copy(&[&payload]).unwrap();
        bench.copy(&[b"next"]).unwrap();
        bench.pong(b"p");
        bench.outbox.writable();
        bench.drain();
        let expected = [whole.clone(), frame(PONG, None, b"p"), binary(b"next")].concat();
        assert!(bench.kernel.wire == expected, "cut at {cut}");
    }
}

#[test]
fn without_a_buffer_to_split_control_frames_come_behind_the_gathered_ones() {
    let mut bench = Bench::new(&config().max_read_buffers(1).max_large_buffers(0));
    bench.kernel.script.push_back(Take::Bytes(1));
    bench.copy(&[b"a"]).unwrap();
    bench.copy(&[b"b"]).unwrap();
    bench.flush().unwrap();
    bench.pong(b"p");
    bench.outbox.writable();
    bench.drain();
    assert_eq!(
        bench.kernel.wire,
        [binary(b"a"), binary(b"b"), frame(PONG, None, b"p")].concat()
    );
}

#[test]
fn the_ring_takes_two_full_frames_and_an_empty_one() {
    let mut bench = Bench::with_script(&[]);
    assert_eq!(
        bench.control(Opcode::Ping, &[0; 126]),
        Err(SendErrorKind::ControlFrameTooBig)
    );
    assert!(bench.outbox.is_empty());
    bench.control(Opcode::Ping, &[1; 125]).unwrap();
    bench.control(Opcode::Pong, &[2; 125]).unwrap();
    assert_eq!(
        bench.control(Opcode::Ping, &[3]),
        Err(SendErrorKind::QueueFull)
    );
    bench.control(Opcode::Ping, b"").unwrap();
    assert_eq!(
        bench.control(Opcode::Ping, b""),
        Err(SendErrorKind::QueueFull)
    );
    assert_eq!(bench.outbox.backlog(), 0, "control frames are not backlog");
    bench.pong(&[4; 125]);
    bench.drain();
    let expected = [
        (PONG, vec![4; 125]),
        (PING, vec![1; 125]),
        (PONG, vec![2; 125]),
        (PING, vec![]),
    ];
    assert_eq!(decode(&bench.kernel.wire), expected);
    assert_eq!(bench.kernel.calls.len(), 1);
}

#[test]
fn every_ping_is_answered_while_the_kernel_takes_bytes() {
    let mut bench = Bench::with_script(&[]);
    for number in 0..50 {
        bench.pong(&[number; 100]);
    }
    bench.drain();
    let pongs: Vec<_> = (0..50).map(|number| (PONG, vec![number; 100])).collect();
    assert_eq!(decode(&bench.kernel.wire), pongs);
}

#[test]
fn the_newest_pong_wins_while_the_kernel_takes_nothing() {
    let mut bench = Bench::with_script(&[Take::WouldBlock]);
    bench.copy(&[b"data"]).unwrap();
    bench.flush().unwrap();
    for number in 0..50 {
        bench.pong(&[number; 100]);
    }
    assert_eq!(bench.kernel.calls.len(), 1);
    bench.outbox.writable();
    bench.drain();
    assert_eq!(
        decode(&bench.kernel.wire),
        [(PONG, vec![49; 100]), (BINARY, b"data".to_vec())]
    );
}

#[test]
fn a_full_kernel_bounds_the_pongs_also_when_it_fills_between_them() {
    let mut bench = Bench::with_script(&[Take::Bytes(1), Take::WouldBlock]);
    for number in 0..100 {
        bench.pong(&[number; 125]);
        bench
            .outbox
            .flush(
                &mut Output::new(&mut bench.kernel, &[]),
                &mut bench.pools,
                |_| {},
            )
            .unwrap();
    }
    assert!(bench.outbox.blocked);
    bench.outbox.writable();
    bench.drain();
    let pongs = decode(&bench.kernel.wire);
    assert_eq!(pongs.first(), Some(&(PONG, vec![0; 125])));
    assert_eq!(pongs.last(), Some(&(PONG, vec![99; 125])));
    assert!(pongs.len() <= 3, "{}", pongs.len());
}

#[test]
fn a_second_payload_is_refused_and_comes_back() {
    for queue in [1, 3] {
        let mut bench = Bench::with_script(&[]);
        bench.limits.queue = queue;
        let payloads = numbered(queue, 10);
        for payload in &payloads {
            bench.send(payload.clone()).unwrap();
        }
        assert_eq!(bench.send("refused"), Err(SendErrorKind::WriteBusy));
        let error = bench.outbox.send(
            MessageKind::Text,
            "mine".into(),
            &bench.limits,
            &mut bench.pools,
        );
        assert_eq!(error.unwrap_err().payload.as_slice(), Some(&b"mine"[..]));
        bench.copy(&[b"copies do not count"]).unwrap();
        bench.drain();
        let flushed: Vec<_> = payloads
            .into_iter()
            .map(|p| (p, Outcome::Flushed))
            .collect();
        assert_eq!(bench.back, flushed);
        bench.send("accepted").unwrap();
        bench.drain();
    }
}

#[test]
fn an_empty_backlog_takes_one_message_of_any_size() {
    let mut bench = Bench::with_script(&[]);
    bench.limits.backlog = 100;
    let frames = |len: usize| Frames::message(MessageKind::Binary, &vec![0; len]);
    for (stage, last) in [
        (Bench::send as fn(&mut Bench, Vec<u8>) -> _, 91),
        (|bench, payload| bench.copy(&[&payload]), 91),
        (
            |bench, payload| bench.frames(&Frames::message(MessageKind::Binary, &payload)),
            91,
        ),
    ] {
        stage(&mut bench, vec![1; 5]).unwrap();
        assert_eq!(
            stage(&mut bench, vec![2; last + 1]),
            Err(SendErrorKind::BacklogFull)
        );
        assert_eq!(bench.outbox.backlog(), 7);
        stage(&mut bench, vec![2; last]).unwrap();
        assert_eq!(bench.outbox.backlog(), 100, "the bound is inclusive");
        assert_eq!(stage(&mut bench, vec![]), Err(SendErrorKind::BacklogFull));
        bench.drain();
        stage(&mut bench, vec![3; 1000]).unwrap();
        assert_eq!(stage(&mut bench, vec![]), Err(SendErrorKind::BacklogFull));
        bench.drain();
    }
    bench.control(Opcode::Ping, b"no backlog").unwrap();
    bench.frames(&frames(20_000)).unwrap();
    assert_eq!(
        bench.frames(&frames(20_000)),
        Err(SendErrorKind::BacklogFull)
    );
    bench.frames(&Frames::builder().build()).unwrap();
    bench.drain();
    assert!(bench.frames(&Frames::builder().build()).is_ok() && bench.outbox.is_empty());
}

#[test]
fn one_write_for_up_to_64_pieces() {
    let mut bench = Bench::with_script(&[]);
    bench.limits.queue = 40;
    for _ in 0..32 {
        bench.send("header and payload").unwrap();
    }
    bench.drain();
    let slices = |bench: &Bench| {
        bench
            .kernel
            .calls
            .iter()
            .map(|call| call.slices)
            .collect::<Vec<_>>()
    };
    assert_eq!(slices(&bench), [64]);
    bench.kernel.calls.clear();
    for _ in 0..33 {
        bench.send("header and payload").unwrap();
    }
    bench.drain();
    assert_eq!(slices(&bench), [64, 2]);
    bench.kernel.calls.clear();
    bench
        .send((0..100).map(|_| "x".into()).collect::<Vec<Payload>>())
        .unwrap();
    bench.send("y").unwrap();
    bench.drain();
    assert_eq!(slices(&bench), [64, 39]);
    let last: Vec<_> = decode(&bench.kernel.wire).split_off(65);
    assert_eq!(last, [(BINARY, vec![b'x'; 100]), (BINARY, b"y".to_vec())]);
}

#[test]
fn sixteen_small_copies_are_one_write_from_one_buffer() {
    let mut bench = Bench::with_script(&[]);
    for payload in numbered(16, 100) {
        bench.copy(&[&payload]).unwrap();
    }
    assert!(bench.kernel.calls.is_empty(), "a send only stages");
    assert_eq!(bench.pools.buffers.leased(), 1);
    bench.drain();
    assert_eq!(bench.kernel.calls.len(), 1);
    assert_eq!(bench.kernel.calls[0].slices, 1);
}

/// The shorter ways are open to messages that are plain and find nothing in their way, and close to no others.
#[test]
fn the_shorter_ways_stage_what_the_whole_way_does_or_nothing() {
    let whole = |shortens: bool, len: usize| {
        let mut bench = Bench::new(&config());
        bench.shortens = shortens;
        bench.input = vec![7; 14 + len];
        bench.echo(14..14 + len, 14).unwrap();
        let borrows = bench.outbox.has_borrowed(&bench.pools);
        bench.move_headers();
        bench.drain();
        (borrows, bench.kernel.calls, bench.kernel.wire)
    };
    for len in [0, 125, 126, 2047, 2048, 65_535, 65_536] {
        let (borrows, calls, wire) = whole(true, len);
        assert_eq!((borrows, calls, wire.clone()), whole(false, len), "{len}");
        assert_eq!((borrows, wire), (len >= 2048, binary(&vec![7; len])));
    }

    let spoil: [fn(&mut Bench); 7] = [
        |bench| bench.outbox.role = Role::Client,
        |bench| bench.outbox.open = Some(MessageKind::Text),
        |bench| bench.outbox.window = SendWindow::new(15, false),
        |bench| bench.outbox.blocked = true,
        |bench| bench.send(vec![0; 9]).unwrap(),
        |bench| {
            let frames = Frames::message(MessageKind::Binary, b"others have it too");
            bench.frames(&frames).unwrap();
        },
        |bench| {
            bench.copy(&[&[0; 9]]).unwrap();
            bench.limits.backlog = 20;
        },
    ];
    let stages = |spoil: fn(&mut Bench)| {
        let mut bench = Bench::new(&config());
        bench.input = vec![0; 4000];
        spoil(&mut bench);
        let Bench {
            outbox,
            pools,
            kernel,
            input,
            limits,
            ..
        } = &mut bench;
        let out = &mut Output::new(kernel, input);
        let (kind, short, long) = (MessageKind::Text, &input[6..18], &input[14..]);
        [
            outbox.cork_short(kind, short, limits, pools),
            outbox.borrow_plain(kind, long, limits, pools, out),
        ]
    };
    assert_eq!(stages(|_| {}), [true; 2]);
    for (spoil, what) in spoil.into_iter().zip(0..) {
        assert_eq!(stages(spoil), [false; 2], "{what}");
    }
}

#[test]
fn a_large_copy_is_offered_at_once_and_only_its_rest_is_copied() {
    let payload: Vec<u8> = (0..60_000_u32).map(|i| i as u8).collect();
    let (front, back) = payload.split_at(11);
    for taken in [0, 1, 2, 4, 5, 15, 16, 55_000, 56_000, 60_003, 60_004] {
        let first = if taken == 0 {
            Take::WouldBlock
        } else {
            Take::Bytes(taken)
        };
        let mut bench =
            Bench::with_script(&[first, Take::Bytes(3), Take::Bytes(1000), Take::WouldBlock]);
        bench.copy(&[front, b"", back]).unwrap();
        let rest = 60_004 - taken;
        assert_eq!(bench.kernel.calls.len(), 1);
        assert_eq!(bench.outbox.backlog(), rest);
        let leased = bench.pools.buffers.memory().current;
        let expected = match rest {
            0 => 0,
            1..=4096 => 4096,
            _ => 65_536,
        };
        assert_eq!(leased, expected, "{taken} taken");
        bench.drain();
        assert!(bench.kernel.wire == binary(&payload));
    }
}

#[test]
fn a_large_copy_takes_what_waits_along() {
    for taken in [0, 1, 5, 6, 7, 8, 17, 18, 30_000] {
        let first = if taken == 0 {
            Take::WouldBlock
        } else {
            Take::Bytes(taken)
        };
        let mut bench = Bench::with_script(&[first]);
        bench.send("owned").unwrap();
        bench.copy(&[b"small"]).unwrap();
        bench.control(Opcode::Ping, b"p").unwrap();
        bench.copy(&[&[9; 30_000]]).unwrap();
        assert_eq!(bench.kernel.calls[0].offered, 3 + 7 + 7 + 30_004);
        assert_eq!(bench.back.len(), usize::from(taken >= 10));
        bench.drain();
        let expected = [
            frame(PING, None, b"p"),
            binary(b"owned"),
            binary(b"small"),
            binary(&[9; 30_000]),
        ];
        assert!(bench.kernel.wire == expected.concat(), "{taken}");
    }
}

#[test]
fn a_large_copy_is_not_offered_to_a_blocked_kernel_or_in_too_many_parts() {
    let mut bench = Bench::with_script(&[Take::Bytes(1)]);
    bench.copy(&[b"first"]).unwrap();
    bench.flush().unwrap();
    bench.copy(&[&[1; 20_000]]).unwrap();
    assert_eq!(bench.kernel.calls.len(), 1);
    bench.outbox.writable();
    bench.drain();
    bench.kernel.calls.clear();
    bench.copy(&[&[1; 2000][..]; 16]).unwrap();
    assert!(bench.kernel.calls.is_empty());
    bench.drain();
    bench.copy(&[&[1; 2000][..]; 15]).unwrap();
    assert_eq!(bench.kernel.calls.len(), 2);
    assert!(bench.outbox.is_empty());
}

#[test]
fn a_copy_that_is_refused_writes_nothing() {
    let config = config().max_buffer_memory(0).max_idle_buffer_memory(0);
    for len in [10, 20_000] {
        let mut bench = Bench::new(&config);
        assert_eq!(
            bench.copy(&[&vec![0; len]]),
            Err(SendErrorKind::OutOfBuffers)
        );
        assert!(bench.outbox.is_empty() && bench.kernel.calls.is_empty());
        bench.send("needs no buffer").unwrap();
        bench.pong(b"p");
        assert_eq!(
            bench.copy(&[&vec![0; len]]),
            Err(SendErrorKind::OutOfBuffers)
        );
        bench.drain();
        assert_eq!(decode(&bench.kernel.wire).len(), 2);
    }
}

#[test]
fn a_fixed_buffer_will_do_when_no_large_one_is_left() {
    let mut bench = Bench::new(&config().max_large_buffers(0));
    for _ in 0..5 {
        bench.copy(&[&[7; 3000]]).unwrap();
    }
    bench.drain();
    assert_eq!(decode(&bench.kernel.wire).len(), 5);
    assert_eq!(bench.kernel.calls.len(), 1);
}

#[test]
fn an_error_of_a_direct_write_is_met_by_the_flush() {
    let mut bench = Bench::with_script(&[Take::Fails, Take::Fails, Take::Nothing]);
    bench.copy(&[&[1; 20_000]]).unwrap();
    assert_eq!(
        bench.flush().unwrap_err().kind(),
        io::ErrorKind::ConnectionReset
    );
    assert_eq!(bench.flush().unwrap_err().kind(), io::ErrorKind::WriteZero);
    bench.discard_all();
    assert!(bench.outbox.is_empty() && bench.holds_nothing());
}

#[test]
fn a_close_goes_behind_the_data_and_in_place_of_waiting_control_frames() {
    let mut bench = Bench::with_script(&[Take::Bytes(3)]);
    bench.send("owned").unwrap();
    bench.copy(&[b"copied"]).unwrap();
    bench.flush().unwrap();
    bench.control(Opcode::Ping, b"dropped").unwrap();
    bench.pong(b"dropped");
    bench.close();
    bench.outbox.writable();
    bench.drain();
    let expected = [binary(b"owned"), binary(b"copied"), close_frame()].concat();
    assert_eq!(bench.kernel.wire, expected);
}

#[test]
fn discarding_finishes_the_frame_in_flight_and_nothing_else() {
    for (stage, frames) in stagings() {
        let wire = frames.concat();
        let ends = boundaries(&frames);
        let step = if wire.len() > 2000 { 97 } else { 1 };
        for cut in (0..wire.len()).step_by(step).chain([1, wire.len() - 1]) {
            let first = if cut == 0 {
                Take::WouldBlock
            } else {
                Take::Bytes(cut)
            };
            let mut bench = Bench::with_script(&[first]);
            stage(&mut bench);
            bench.flush().unwrap();
            bench.control(Opcode::Ping, b"dropped").unwrap();
            bench.pong(b"dropped");
            bench.discard_waiting();
            let at = *ends.iter().find(|end| **end >= cut).unwrap();
            assert_eq!(bench.outbox.backlog(), at - cut);
            bench.close();
            bench.outbox.writable();
            bench.drain();
            assert!(bench.kernel.wire == [&wire[..at], &close_frame()].concat());
        }
    }
}

#[test]
fn payloads_say_how_much_of_them_was_written() {
    let frame_len = 2 + 5;
    for cut in 1..3 * frame_len {
        for all in [false, true] {
            let mut bench = Bench::with_script(&[Take::Bytes(cut)]);
            for payload in ["zeroo", "oneee", "twooo"] {
                bench.send(payload).unwrap();
            }
            bench.flush().unwrap();
            let gone = cut / frame_len;
            assert_eq!(bench.back.len(), gone);
            if all {
                bench.discard_all();
                assert!(bench.outbox.is_empty());
            } else {
                bench.discard_waiting();
                bench.outbox.writable();
                bench.drain();
            }
            let in_flight = if cut % frame_len == 0 {
                None
            } else {
                Some(gone)
            };
            let expected: Vec<Back> = ["zeroo", "oneee", "twooo"]
                .into_iter()
                .enumerate()
                .map(|(index, payload)| {
                    let written = (cut % frame_len).saturating_sub(2);
                    let outcome = match () {
                        () if index < gone => Outcome::Flushed,
                        () if Some(index) == in_flight && all => Outcome::Discarded { written },
                        () if Some(index) == in_flight => Outcome::Flushed,
                        () => Outcome::Discarded { written: 0 },
                    };
                    (payload.as_bytes().to_vec(), outcome)
                })
                .collect();
            assert_eq!(bench.back, expected, "cut at {cut}");
        }
    }
}

#[test]
fn nothing_staged_costs_nothing() {
    // Flags, what is in the cork, the share, the queue and the window.
    assert!(size_of::<Outbox>() <= 4 * size_of::<usize>());
    let mut bench = Bench::with_script(&[]);
    assert_eq!(bench.flush().unwrap(), Flushed::All);
    bench.discard_waiting();
    bench.discard_all();
    assert!(bench.kernel.calls.is_empty() && bench.outbox.is_empty());
}

// The fuzz: everything at random against a list of frames.

/// Bytes that control frames may have among the data.
const OUTGOING: usize = 256 + 2 * 131;

enum What {
    Data,
    Payload(Vec<u8>),
    Control,
    Close,
}

struct Piece {
    bytes: Vec<u8>,
    what: What,
}

/// What waits, frame by frame.
#[derive(Default)]
struct Model {
    frames: VecDeque<Piece>,
    /// Bytes of the first frame that are on the wire.
    written: usize,
    /// Bytes of the control frames among the data, also of those that are written while others are not.
    outgoing: usize,
    /// True exactly when a byte of these control frames is on the wire.
    outgoing_begun: bool,
    ring: VecDeque<Vec<u8>>,
    pong: Option<Vec<u8>>,
    wire: Vec<u8>,
    back: Vec<Back>,
    /// Dropped behind a payload in flight.
    held: Vec<Back>,
    blocked: bool,
}

impl Model {
    fn controls(&self) -> usize {
        let is_control = |piece: &&Piece| matches!(piece.what, What::Control);
        self.frames.iter().filter(is_control).count()
    }

    /// True exactly when a part of a frame, or of the control frames that go together, is on the wire.
    fn in_flight(&self) -> bool {
        match self.frames.front() {
            Some(piece) if matches!(piece.what, What::Control) => self.outgoing_begun,
            _ => self.written > 0,
        }
    }

    fn put_control(&mut self, bytes: Vec<u8>) {
        let at = self.controls();
        self.outgoing += bytes.len();
        let what = What::Control;
        self.frames.insert(at, Piece { bytes, what });
    }

    fn has_room(&self) -> bool {
        self.outgoing + 131 <= OUTGOING
    }

    fn weave_pong(&mut self) {
        if self.in_flight() {
            return;
        }
        if self.controls() == 0 {
            (self.outgoing, self.outgoing_begun) = (0, false);
        }
        if self.has_room() {
            if let Some(pong) = self.pong.take() {
                self.put_control(pong);
            }
        }
    }

    /// True exactly when control frames wait for the end of what is in flight.
    fn must_finish_first(&self) -> bool {
        (self.pong.is_some() || !self.ring.is_empty()) && self.in_flight()
    }

    fn weave(&mut self) {
        self.weave_pong();
        while !self.in_flight() && self.has_room() {
            let Some(bytes) = self.ring.pop_front() else {
                return;
            };
            self.put_control(bytes);
        }
    }

    /// The kernel was asked.
    fn asked(&mut self, call: Call) {
        self.weave();
        let Some(mut count) = call.took else {
            return;
        };
        self.blocked = count < call.offered;
        while count > 0 {
            let front = &self.frames[0];
            let step = count.min(front.bytes.len() - self.written);
            self.outgoing_begun |= matches!(front.what, What::Control);
            self.wire
                .extend(&front.bytes[self.written..self.written + step]);
            self.written += step;
            count -= step;
            if self.written == front.bytes.len() {
                self.written = 0;
                if let Some(What::Payload(payload)) =
                    self.frames.pop_front().map(|piece| piece.what)
                {
                    self.back.push((payload, Outcome::Flushed));
                    self.back.append(&mut self.held);
                }
            }
        }
    }

    fn push(&mut self, bytes: Vec<u8>, what: What) {
        self.frames.push_back(Piece { bytes, what });
    }

    fn discard_behind(&mut self, keep: usize) {
        (self.ring, self.pong) = (VecDeque::new(), None);
        let header_len = |len: usize| if len < 126 { 2 } else { 4 };
        let behind_payload = keep > 0
            && matches!(self.frames.front(), Some(piece) if matches!(piece.what, What::Payload(_)));
        for (index, piece) in self.frames.drain(keep..).enumerate() {
            if let What::Payload(payload) = piece.what {
                let written = match index + keep {
                    0 => self.written.saturating_sub(header_len(payload.len())),
                    _ => 0,
                };
                let back = (payload, Outcome::Discarded { written });
                if behind_payload {
                    self.held.push(back);
                } else {
                    self.back.push(back);
                    self.back.append(&mut self.held);
                }
            }
        }
    }

    fn discard_waiting(&mut self) {
        let first_is_control =
            matches!(self.frames.front(), Some(piece) if matches!(piece.what, What::Control));
        let keep = match first_is_control {
            true if self.outgoing_begun => self.controls(),
            true => 0,
            false => usize::from(self.written > 0),
        };
        self.discard_behind(keep);
    }

    fn discard_all(&mut self) {
        self.discard_behind(0);
        self.written = 0;
    }

    fn backlog(&self) -> usize {
        let is_data = |piece: &&Piece| matches!(piece.what, What::Data | What::Payload(_));
        let all: usize = self
            .frames
            .iter()
            .filter(is_data)
            .map(|piece| piece.bytes.len())
            .sum();
        all - if self.frames.front().as_ref().is_some_and(is_data) {
            self.written
        } else {
            0
        }
    }

    fn payloads(&self) -> usize {
        let is_payload = |piece: &&Piece| matches!(piece.what, What::Payload(_));
        self.frames.iter().filter(is_payload).count()
    }

    fn is_empty(&self) -> bool {
        self.frames.is_empty() && self.ring.is_empty() && self.pong.is_none()
    }

    /// What a send of a frame of `len` bytes must say.
    fn verdict(
        &self,
        len: usize,
        limits: &SendLimits,
        is_payload: bool,
    ) -> Result<(), SendErrorKind> {
        if is_payload && self.payloads() >= limits.queue {
            Err(SendErrorKind::WriteBusy)
        } else if self.backlog() > 0 && self.backlog() + len > limits.backlog {
            Err(SendErrorKind::BacklogFull)
        } else {
            Ok(())
        }
    }
}

/// An outbox and its model, and chance.
struct Fuzz {
    bench: Bench,
    model: Model,
    rng: ChaCha8Rng,
    serial: u64,
}

impl Fuzz {
    fn new(seed: u64, config: &Config) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut bench = Bench::new(config);
        bench.limits = SendLimits {
            queue: [1, 3, 100][below(&mut rng, 3)],
            backlog: [1, 500, 100_000, 1 << 30][below(&mut rng, 4)],
        };
        bench.shortens = seed % 2 == 1;
        Self {
            bench,
            model: Model::default(),
            rng,
            serial: 0,
        }
    }

    fn below(&mut self, bound: usize) -> usize {
        below(&mut self.rng, bound)
    }

    /// Bytes like no others, of a random length up to 60,000.
    fn bytes(&mut self) -> Vec<u8> {
        let len = match self.below(20) {
            0 => 16_000 + self.below(44_000),
            1..4 => 2000 + self.below(4000),
            4..7 => 120 + self.below(12),
            7 => 0,
            _ => self.below(40),
        };
        self.serial += 1;
        let serial = self.serial.to_be_bytes();
        serial.into_iter().cycle().take(len).collect()
    }

    fn control_bytes(&mut self) -> Vec<u8> {
        self.serial += 1;
        let len = [0, 8, 60, 125][self.below(4)];
        self.serial
            .to_be_bytes()
            .into_iter()
            .cycle()
            .take(len)
            .collect()
    }

    fn payload(&mut self, bytes: &[u8]) -> Payload {
        match self.below(5) {
            0 => Payload::Static(bytes.to_vec().leak()),
            1 => Payload::Shared(Bytes::copy_from_slice(bytes)),
            2 => Payload::Owned(bytes.to_vec()),
            3 => {
                let Some(mut buffer) = self.bench.pools.buffers.lease(bytes.len()) else {
                    return Payload::Owned(bytes.to_vec());
                };
                buffer[..bytes.len()].copy_from_slice(bytes);
                Payload::Pooled(self.bench.pools.buffers.entrust(buffer, 0..bytes.len()))
            }
            _ => {
                let at = self.below(bytes.len() + 1);
                let (front, back) = bytes.split_at(at);
                let (front, back) = (self.payload(front), self.payload(back));
                vec![front, Payload::from(""), back].into()
            }
        }
    }

    fn write_script(&mut self) {
        self.bench.kernel.script.clear();
        for _ in 0..self.below(4) {
            let take = match self.below(10) {
                0..2 => Take::All,
                2..4 => Take::Bytes(1 + self.below(4)),
                4..6 => Take::Bytes(1 + self.below(300)),
                6 => Take::Bytes(1 + self.below(40_000)),
                7 => Take::WouldBlock,
                8 => Take::Interrupted,
                _ => [Take::Fails, Take::Nothing][self.below(2)],
            };
            self.bench.kernel.script.push_back(take);
        }
    }

    fn calls(&mut self) -> Vec<Call> {
        std::mem::take(&mut self.bench.kernel.calls)
    }

    fn send(&mut self) {
        let bytes = self.bytes();
        let payload = self.payload(&bytes);
        let wire = binary(&bytes);
        let verdict = self.model.verdict(wire.len(), &self.bench.limits, true);
        assert_eq!(self.bench.send(payload), verdict);
        if verdict.is_ok() {
            self.model.push(wire, What::Payload(bytes));
        }
    }

    fn copy(&mut self) {
        let bytes = self.bytes();
        let at = self.below(bytes.len() + 1);
        let (front, back) = bytes.split_at(at);
        let wire = binary(&bytes);
        let verdict = self.model.verdict(wire.len(), &self.bench.limits, false);
        let direct = verdict.is_ok()
            && bytes.len() >= DIRECT_WRITE_MIN
            && !self.model.blocked
            && !self.model.must_finish_first();
        let borrowed = self.bench.outbox.has_borrowed(&self.bench.pools);
        let result = self.bench.copy(&[front, back]);
        // What is borrowed is written before, and the kernel may fail at that, or make room.
        let failed = borrowed && result == Err(SendErrorKind::NotOpen);
        let made_room = borrowed && verdict == Err(SendErrorKind::BacklogFull);
        assert!(result == verdict || failed || made_room, "{result:?}");
        let calls = self.calls();
        assert!(borrowed || calls.len() == usize::from(direct));
        if result.is_ok() {
            self.model.push(wire, What::Data);
        }
        calls.into_iter().for_each(|call| self.model.asked(call));
    }

    /// What lies in the input, among other things, is sent from there if it may.
    fn echo(&mut self) {
        self.begin();
        self.bench.input.clear();
        for _ in 0..1 + self.below(40) {
            let message = self.bytes();
            let room = FrameHeader::new(Opcode::Binary, message.len() as u64).encoded_len() + 4;
            self.bench.input.resize(self.bench.input.len() + room, b'#');
            let start = self.bench.input.len();
            self.bench.input.extend(&message);
            for _ in 0..1 + self.below(4) / 3 {
                let part = self.part(message.len());
                self.echo_part(&message[part.clone()], start + part.start, start);
            }
            if self.below(8) == 0 {
                self.bench.move_headers();
            }
        }
    }

    /// Mostly everything.
    fn part(&mut self, len: usize) -> Range<usize> {
        let start = [0, 0, 0, self.below(len + 1)][self.below(4)];
        start..[len, len, len, start + self.below(len - start + 1)][self.below(4)]
    }

    fn echo_part(&mut self, bytes: &[u8], at: usize, message: usize) {
        let wire = binary(bytes);
        let verdict = self.model.verdict(wire.len(), &self.bench.limits, false);
        let borrowed = self.bench.outbox.has_borrowed(&self.bench.pools);
        let result = self.bench.echo(at..at + bytes.len(), message);
        // The kernel may have failed meanwhile: then nothing is staged. And it may have made room.
        let failed = result == Err(SendErrorKind::NotOpen);
        let made_room = borrowed && verdict == Err(SendErrorKind::BacklogFull);
        assert!(result == verdict || failed || made_room, "{result:?}");
        if result.is_ok() {
            self.model.push(wire, What::Data);
        }
        self.note_calls();
    }

    /// In earnest a kernel that fails is the end of the connection.
    fn begin(&mut self) {
        if self.below(2) == 0 {
            self.bench.move_headers();
        }
        while self.bench.begin().is_err() {
            self.note_calls();
        }
        self.note_calls();
    }

    fn note_calls(&mut self) {
        let calls = self.calls();
        calls.into_iter().for_each(|call| self.model.asked(call));
    }

    fn frames(&mut self) {
        let mut builder = Frames::builder();
        for _ in 0..self.below(4) {
            let bytes = self.bytes();
            builder = match self.below(3) {
                0 => builder.fragments(MessageKind::Binary, &[&bytes, b"", &bytes]),
                1 => builder
                    .ping(b"among the data")
                    .unwrap()
                    .message(MessageKind::Text, &bytes),
                _ => builder.message(MessageKind::Binary, &bytes),
            };
        }
        let frames = builder.build();
        let len = frames.as_bytes().len();
        let verdict = match len {
            0 => Ok(()),
            _ => self.model.verdict(len, &self.bench.limits, false),
        };
        assert_eq!(self.bench.frames(&frames), verdict);
        if verdict.is_ok() {
            for (first, payload) in decode(frames.as_bytes()) {
                self.model.push(frame(first, None, &payload), What::Data);
            }
        }
    }

    fn control(&mut self) {
        let bytes = self.control_bytes();
        let (opcode, first) = [(Opcode::Ping, PING), (Opcode::Pong, PONG)][self.below(2)];
        let used: usize = self.model.ring.iter().map(Vec::len).sum();
        let fits = used + 2 + bytes.len() <= 256;
        let verdict = self.bench.control(opcode, &bytes);
        assert_eq!(
            verdict,
            if fits {
                Ok(())
            } else {
                Err(SendErrorKind::QueueFull)
            }
        );
        if fits {
            self.model.ring.push_back(frame(first, None, &bytes));
        }
    }

    fn pong(&mut self) {
        let bytes = self.control_bytes();
        self.bench.pong(&bytes);
        if self.model.pong.is_some() && !self.model.blocked {
            self.model.weave_pong();
        }
        let full = self.model.pong.is_some() && !self.model.blocked;
        let calls = self.calls();
        assert_eq!(full, !calls.is_empty());
        calls.into_iter().for_each(|call| self.model.asked(call));
        self.model.pong = Some(frame(PONG, None, &bytes));
    }

    fn flush(&mut self) {
        let before = (self.model.is_empty(), self.model.blocked);
        let result = self.bench.flush();
        let calls = self.calls();
        assert_eq!(calls.is_empty(), before.0 || before.1);
        let failed = calls.last().is_some_and(|call| call.took.is_none());
        calls.into_iter().for_each(|call| self.model.asked(call));
        match result {
            Ok(Flushed::All) => assert!(self.model.is_empty()),
            Ok(Flushed::Blocked) => assert!(self.model.blocked && !self.model.is_empty()),
            Err(_) => assert!(failed),
        }
    }

    fn writable(&mut self) {
        self.bench.outbox.writable();
        self.model.blocked = false;
    }

    fn step(&mut self) {
        let chosen = self.below(48);
        if !matches!(chosen, 6..14 | 26..=38 | 40..48) {
            self.begin();
        }
        match chosen {
            0..6 => self.send(),
            6..14 => self.copy(),
            40..48 => self.echo(),
            14..18 => self.frames(),
            18..22 => self.control(),
            22..26 => self.pong(),
            26..33 => self.flush(),
            33..=38 => self.writable(),
            _ => {
                self.bench.discard_waiting();
                self.model.discard_waiting();
            }
        }
    }

    fn compare(&mut self) {
        let Self { bench, model, .. } = self;
        assert!(bench.kernel.wire == model.wire);
        assert!(bench.back == model.back);
        assert_eq!(bench.outbox.backlog(), model.backlog());
        assert_eq!(bench.outbox.is_empty(), model.is_empty());
        assert_eq!(bench.outbox.blocked, model.blocked);
    }
}

#[test]
fn random_operations_do_what_the_model_does() {
    for seed in 0..300 {
        let mut fuzz = Fuzz::new(seed, &config());
        for _ in 0..fuzz.below(120) {
            fuzz.write_script();
            fuzz.step();
            fuzz.compare();
        }
        if fuzz.below(4) == 0 {
            fuzz.bench.discard_all();
            fuzz.model.discard_all();
            fuzz.compare();
            assert!(fuzz.bench.holds_nothing());
            continue;
        }
        if fuzz.below(2) == 0 {
            fuzz.bench.discard_waiting();
            fuzz.model.discard_waiting();
        }
        fuzz.begin();
        fuzz.bench.close();
        (fuzz.model.ring, fuzz.model.pong) = (VecDeque::new(), None);
        fuzz.model.push(close_frame(), What::Close);
        while !fuzz.model.is_empty() {
            fuzz.write_script();
            fuzz.flush();
            fuzz.writable();
            fuzz.compare();
        }
        assert!(fuzz.bench.holds_nothing());
        assert_eq!(
            decode(&fuzz.bench.kernel.wire).pop(),
            Some((CLOSE, b"\x03\xE8bye".to_vec()))
        );
    }
}

/// With too few buffers the place of control frames cannot be told, but everything accepted goes out, in order.
#[test]
fn a_starved_pool_refuses_and_loses_nothing() {
    let mut refused = 0;
    for seed in 0..300 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let config = config()
            .max_read_buffers(below(&mut rng, 4))
            .max_large_buffers(below(&mut rng, 3))
            .max_buffer_memory([5000, 70_000, 150_000][below(&mut rng, 3)])
            .max_idle_buffer_memory(4096 * below(&mut rng, 2));
        let mut fuzz = Fuzz::new(seed, &config);
        fuzz.bench.limits.backlog = 1 << 30;
        let (mut data, mut controls) = (Vec::new(), Vec::new());
        for _ in 0..100 {
            fuzz.write_script();
            let bytes = fuzz.bytes();
            let payload = fuzz.payload(&bytes);
            let chosen = fuzz.below(9);
            if chosen != 6 {
                while fuzz.bench.begin().is_err() {}
            }
            let result = match chosen {
                0 => fuzz.bench.send(payload),
                1..4 => fuzz.bench.copy(&[&bytes]),
                // Behind what lies in the input already, or for the first time.
                6..9 => {
                    let start = fuzz.bench.input.len();
                    fuzz.bench.input.extend(&bytes);
                    fuzz.bench.echo(start..start + bytes.len(), start)
                }
                _ => fuzz
                    .bench
                    .frames(&Frames::message(MessageKind::Binary, &bytes)),
            };
            refused += usize::from(result == Err(SendErrorKind::OutOfBuffers));
            data.extend(result.is_ok().then_some((BINARY, bytes)));
            let bytes = fuzz.serial.to_be_bytes().to_vec();
            if fuzz.below(3) == 0 {
                while fuzz.bench.begin().is_err() {}
            }
            if !fuzz.bench.outbox.has_borrowed(&fuzz.bench.pools)
                && fuzz.bench.control(Opcode::Ping, &bytes).is_ok()
            {
                controls.push((PING, bytes));
            }
            if fuzz.below(2) == 0 {
                fuzz.bench.outbox.writable();
                // An error of the kernel's is tried again.
                let _ = fuzz.bench.flush();
            }
        }
        fuzz.bench.kernel.script.clear();
        fuzz.bench.outbox.writable();
        assert_eq!(fuzz.bench.flush().unwrap(), Flushed::All);
        assert!(fuzz.bench.holds_nothing());
        let (sent_data, sent_controls): (Vec<_>, Vec<_>) = decode(&fuzz.bench.kernel.wire)
            .into_iter()
            .partition(|(first, _)| *first == BINARY);
        assert!(
            sent_data == data && sent_controls == controls,
            "seed {seed}"
        );
    }
    assert!(refused > 1000, "{refused}");
}
