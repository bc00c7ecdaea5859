use std::{ops::Range, sync::Arc};

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

use super::{
    super::choppy::{Choppy, Cut, below, frame},
    *,
};
use crate::{
    config::Config,
    memory::{MAX_MOVED, place},
    protocol::{self, Codec, Limits, Role},
};

const KEY: [u8; 4] = [0xA1, 0x02, 0xF3, 0x54];
const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8A;
/// First bytes of frames that are not the last of their message.
const TEXT_PART: u8 = 0x01;
const BINARY_PART: u8 = 0x02;
const PART: u8 = 0x00;
/// First byte of a last fragment.
const LAST: u8 = 0x80;

const LIMIT: usize = 300_000;
/// What may be left free where reading begins in the scratch buffer, and some more.
const NOT_USED: usize = 4200;

fn rules(role: Role) -> Rules {
    Rules {
        role,
        max_message_size: LIMIT,
        check_utf8: true,
        compression: false,
    }
}

/// Nothing is kept that nobody uses, so that the pool's bytes are the leased bytes.
fn config() -> Config {
    Config::default()
        .max_message_size(LIMIT)
        .initial_read_buffers(0)
        .initial_large_buffers(0)
        .max_idle_buffer_memory(0)
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Message(MessageKind, Vec<u8>),
    Control(Opcode, Vec<u8>),
}

/// What a stream says, read in one go, and after how many bytes it says so.
#[derive(Default)]
struct Model {
    events: Vec<(usize, Seen)>,
    fault: Option<(usize, ProtocolError)>,
    /// Where nothing is under way.
    rests: Vec<usize>,
}

impl Model {
    fn new(stream: &[u8], rules: &Rules) -> Self {
        let mut model = Self {
            rests: vec![0],
            ..Self::default()
        };
        let mut message = None;
        let mut at = 0;
        while let Some(end) = model.read_frame(stream, at, &mut message, rules) {
            if message.is_none() {
                model.rests.push(end);
            }
            at = end;
        }
        model
    }

    fn fail(&mut self, at: usize, error: ProtocolError) -> Option<usize> {
        self.fault = Some((at, error));
        None
    }

    /// The end of the frame at `at`; `None` when it is cut off or wrong.
    fn read_frame(
        &mut self,
        stream: &[u8],
        at: usize,
        message: &mut Option<(MessageKind, Vec<u8>)>,
        rules: &Rules,
    ) -> Option<usize> {
        let bytes = &stream[at..];
        let (&first, &second) = (bytes.first()?, bytes.get(1)?);
        let (mut header_len, len) = match second & 0x7F {
            126 => (
                4,
                u64::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().unwrap())),
            ),
            127 => (
                10,
                u64::from_be_bytes(bytes.get(2..10)?.try_into().unwrap()),
            ),
            short => (2, u64::from(short)),
        };
        if len >> 63 == 1 {
            return self.fail(at + header_len, ProtocolError::LengthOverflow);
        }
        if header_len == 4 && len < 126 || header_len == 10 && len < 65_536 {
            return self.fail(at + header_len, ProtocolError::NonMinimalLength);
        }
        let masked = second & 0x80 != 0;
        let key = if masked {
            header_len += 4;
            bytes.get(header_len - 4..header_len)?
        } else {
            &[0; 4]
        };
        let start = at + header_len;
        if start > stream.len() {
            return None;
        }
        let so_far = message.as_ref().map(|(_, bytes)| bytes.len());
        if let Some(error) = broken_rule(first, masked, len, so_far, rules) {
            return self.fail(start, error);
        }
        let here = usize::try_from(len).unwrap().min(stream.len() - start);
        let payload: Vec<u8> = (0..here).map(|i| stream[start + i] ^ key[i % 4]).collect();
        let whole = here as u64 == len;
        let end = start + here;
        if first & 8 != 0 {
            if whole {
                let event = Seen::Control(Opcode::from_bits(first), payload);
                self.events.push((end, event));
            }
            return whole.then_some(end);
        }
        let kind = if first & 0xF == 1 {
            MessageKind::Text
        } else {
            MessageKind::Binary
        };
        let (kind, bytes) = message.get_or_insert((kind, Vec::new()));
        let before = bytes.len();
        bytes.extend(payload);
        let fin = first & 0x80 != 0;
        if *kind == MessageKind::Text && rules.check_utf8 {
            if let Some(broken_at) = broken_at(bytes, fin && whole) {
                return self.fail(start + broken_at - before, ProtocolError::InvalidUtf8);
            }
        }
        if !whole {
            return None;
        }
        if fin {
            let (kind, bytes) = message.take()?;
            self.events.push((end, Seen::Message(kind, bytes)));
        }
        Some(end)
    }

    fn events_until(&self, fed: usize) -> usize {
        self.events.iter().filter(|(end, _)| *end <= fed).count()
    }
}

/// RFC 6455 §5, in the order in which the faults are looked for.
fn broken_rule(
    first: u8,
    masked: bool,
    len: u64,
    so_far: Option<usize>,
    rules: &Rules,
) -> Option<ProtocolError> {
    let opcode = first & 0xF;
    if first & 0x70 != 0 {
        Some(ProtocolError::ReservedBits)
    } else if matches!(opcode, 3..=7 | 11..) {
        Some(ProtocolError::ReservedOpcode(opcode))
    } else if rules.role == Role::Server && !masked {
        Some(ProtocolError::UnmaskedFrame)
    } else if rules.role == Role::Client && masked {
        Some(ProtocolError::MaskedFrame)
    } else if opcode >= 8 && first & 0x80 == 0 {
        Some(ProtocolError::FragmentedControlFrame)
    } else if opcode >= 8 && len > 125 {
        Some(ProtocolError::ControlFrameTooBig)
    } else if opcode >= 8 {
        None
    } else if opcode == 0 && so_far.is_none() {
        Some(ProtocolError::UnexpectedContinuation)
    } else if opcode != 0 && so_far.is_some() {
        Some(ProtocolError::InterruptedMessage)
    } else if len + so_far.unwrap_or(0) as u64 > rules.max_message_size as u64 {
        Some(ProtocolError::MessageTooBig)
    } else {
        None
    }
}

/// How many bytes of `text` have to be seen to know that it is not UTF-8.
fn broken_at(text: &[u8], ended: bool) -> Option<usize> {
    let valid = std::str::from_utf8(text).err()?.valid_up_to();
    let broken = |len: &usize| {
        std::str::from_utf8(&text[..*len]).is_err_and(|error| error.error_len().is_some())
    };
    (valid..=text.len().min(valid + 4))
        .find(broken)
        .or(ended.then_some(text.len()))
}

/// Which of the inbox's ways the input takes.
enum Way {
    /// Through the scratch buffer.
    Scratch,
    /// Payload under way goes into its own buffer, as the driver does it.
    Direct,
    /// Any of them, with pauses, at random.
    Mixed(Box<ChaCha8Rng>),
}

impl Way {
    /// True with one chance in `n`, if anything is left to chance.
    fn whim(&mut self, n: usize) -> bool {
        match self {
            Self::Mixed(rng) => below(rng, n) == 0,
            Self::Scratch | Self::Direct => false,
        }
    }

    fn is_direct(&mut self) -> bool {
        match self {
            Self::Scratch => false,
            Self::Direct => true,
            Self::Mixed(rng) => rng.next_u32() % 2 == 0,
        }
    }
}

/// Does with an inbox what the driver does.
struct Feeder {
    inbox: Inbox,
    pools: Pools,
    rules: Rules,
    scratch: Buffer,
    way: Way,
    seen: Vec<Seen>,
    fault: Option<Fault>,
}

impl Feeder {
    fn new(rules: Rules, config: &Config, way: Way) -> Self {
        Self {
            inbox: Inbox::default(),
            pools: Pools::new(&Arc::new(config.clone()), false),
            rules,
            scratch: vec![0; config.scratch_size].into_boxed_slice(),
            way,
            seen: Vec::new(),
            fault: None,
        }
    }

    /// One read, or the work on what was held back.
    fn step(&mut self, source: &mut Choppy<'_>) {
        if self.way.whim(4) && self.read_ahead(source) {
            return;
        }
        let kept_before = self.inbox.kept().to_vec();
        let (kept, held) = self.inbox.restore(&mut self.scratch, &mut self.pools);
        assert_eq!(self.scratch[kept.clone()], kept_before);
        assert!(self.inbox.kept().is_empty() && (held || !self.inbox.has_held()));
        if held {
            self.dispatch(kept);
        } else {
            assert_eq!(kept.start, place(&self.scratch, kept.len()));
            self.read(source, kept);
        }
    }

    fn read_ahead(&mut self, source: &mut Choppy<'_>) -> bool {
        let size = self.pools.buffers.read_buffer_size();
        match self.inbox.read_ahead_space(&mut self.pools) {
            Ok([]) => false,
            Ok(space) => {
                assert!(space.len() <= size);
                let count = source.read(space);
                self.inbox.read_ahead_arrived(count);
                self.inbox.release_room(&mut self.pools);
                true
            }
            Err(fault) => {
                self.fail(fault);
                true
            }
        }
    }

    fn read(&mut self, source: &mut Choppy<'_>, kept: Range<usize>) {
        if self.way.is_direct() {
            match self.inbox.direct_space(&mut self.pools) {
                Ok([]) => {}
                Ok(space) => {
                    assert!(
                        kept.is_empty(),
                        "whoever is inside a payload has no header waiting"
                    );
                    let room = space.len();
                    let count = source.read(space);
                    return self.direct_arrived(source, count, count == room);
                }
                Err(fault) => return self.fail(fault),
            }
        }
        let count = source.read(&mut self.scratch[kept.end..]);
        self.dispatch(kept.start..kept.end + count);
    }

    /// `full` says whether the read may have gone on behind the payload.
    fn direct_arrived(&mut self, source: &mut Choppy<'_>, count: usize, full: bool) {
        let behind = if full && self.way.whim(2) {
            source.read(&mut self.scratch)
        } else {
            0
        };
        match self.inbox.direct_arrived(count, &self.rules) {
            Ok(true) if self.way.whim(3) => self.inbox.hold_message(),
            Ok(true) => self.take(),
            Ok(false) => {}
            Err(fault) => return self.fail(fault),
        }
        self.dispatch(0..behind);
    }

    fn dispatch(&mut self, bytes: Range<usize>) {
        let (mut position, len) = (bytes.start, bytes.end);
        // As if more could be read behind what is left, and then there is nothing.
        let mut partial = match self.way.whim(6) {
            true => Partial::Left,
            false => Partial::Ended,
        };
        loop {
            let held = self.way.whim(5);
            let event = if held {
                Ok(None)
            } else {
                self.inbox.next(
                    &mut self.scratch[..len],
                    &mut position,
                    &self.rules,
                    partial,
                    &mut self.pools,
                )
            };
            match event {
                Ok(Some(Event::Message(kind, range))) => self
                    .seen
                    .push(Seen::Message(kind, self.scratch[range].to_vec())),
                Ok(Some(Event::Control(opcode, range))) => self
                    .seen
                    .push(Seen::Control(opcode, self.scratch[range].to_vec())),
                Ok(Some(Event::Assembled)) => self.take(),
                Ok(Some(Event::Begun(header, arrived))) => {
                    let (scratch, pools) = (&mut self.scratch, &mut self.pools);
                    let adopted = self
                        .inbox
                        .adopt(&header, arrived, scratch, &self.rules, pools);
                    if let Err(fault) = adopted {
                        return self.fail(fault);
                    }
                }
                Ok(Some(Event::Piece(..))) => panic!("nobody asked for pieces"),
                Ok(Some(Event::Compressed(..))) => panic!("nothing was agreed on"),
                Ok(None) if partial == Partial::Left && !held => partial = Partial::Ended,
                Ok(None) => {
                    let rest = position..len;
                    let scratch = &mut self.scratch;
                    if let Err(fault) = self.inbox.keep(scratch, rest, held, &mut self.pools) {
                        self.fail(fault);
                    }
                    return;
                }
                Err(fault) => return self.fail(fault),
            }
        }
    }

    fn take(&mut self) {
        let message = self.inbox.take_message(&mut self.pools).unwrap();
        let (kind, buffer, contents) = (message.kind, message.buffer, message.contents);
        self.seen
            .push(Seen::Message(kind, buffer[contents].to_vec()));
        self.pools.give_back(buffer);
    }

    fn fail(&mut self, fault: Fault) {
        self.fault = Some(fault);
        self.inbox.clear(&mut self.pools);
        assert_eq!(self.pools.buffers.leased(), 0);
    }

    fn holds_nothing(&self) -> bool {
        self.inbox.unfinished.is_none() && self.pools.buffers.leased() == 0
    }

    /// Everything that has arrived was looked at: what is known must be what the model knows.
    fn compare(&self, model: &Model, fed: usize) {
        let expected = model.fault.filter(|(at, _)| *at <= fed);
        assert_eq!(
            self.fault,
            expected.map(|(_, error)| Fault::Protocol(error)),
            "after {fed} bytes"
        );
        assert_eq!(
            self.seen.len(),
            model.events_until(fed),
            "after {fed} bytes"
        );
        if model.rests.binary_search(&fed).is_ok() {
            assert!(self.holds_nothing(), "after {fed} bytes");
        }
    }

    fn feed(&mut self, stream: &[u8], cut: Cut, model: &Model) {
        let mut source = Choppy::new(stream, cut);
        while self.fault.is_none() && (!source.is_at_end() || self.inbox.has_held()) {
            self.step(&mut source);
            if !self.inbox.has_held() {
                self.compare(model, source.position());
            }
        }
        self.compare(model, source.position());
        let expected: Vec<_> = model
            .events
            .iter()
            .map(|(_, event)| event.clone())
            .collect();
        assert!(self.seen == expected, "the events differ");
        self.inbox.clear(&mut self.pools);
        assert!(self.holds_nothing());
    }
}

fn check(stream: &[u8], rules: Rules, cut: Cut, way: Way) {
    let model = Model::new(stream, &rules);
    check_with(stream, rules, cut, way, &model);
}

fn check_with(stream: &[u8], rules: Rules, cut: Cut, way: Way, model: &Model) {
    Feeder::new(rules, &config(), way).feed(stream, cut, model);
}

fn seeded(seed: u64) -> Box<ChaCha8Rng> {
    Box::new(ChaCha8Rng::seed_from_u64(seed))
}

fn key(role: Role) -> Option<[u8; 4]> {
    (role == Role::Server).then_some(KEY)
}

fn text_of(len: usize) -> Vec<u8> {
    "aé€𝄞"
        .bytes()
        .cycle()
        .take(len / 10 * 10)
        .chain(std::iter::repeat_n(b'.', len % 10))
        .collect()
}

/// Small streams with everything in them.
fn corpus(role: Role) -> Vec<Vec<u8>> {
    let frame = |first, payload: &[u8]| frame(first, key(role), payload);
    let mut streams = Vec::new();
    for len in [0, 1, 125, 126, 127] {
        streams.push(frame(TEXT, &text_of(len)));
        streams.push(frame(BINARY, &vec![0xFF; len]));
    }
    for first in [PING, PONG, CLOSE] {
        for len in [0, 1, 125] {
            streams.push(frame(first, &vec![b'c'; len]));
        }
    }
    let text = "aé€𝄞".as_bytes();
    for at in 0..=text.len() {
        for between in [&b""[..], b"ping"] {
            streams.push(
                [
                    frame(TEXT_PART, &text[..at]),
                    frame(PING, between),
                    frame(PONG, &[7; 125]),
                    frame(PART, b""),
                    frame(LAST, &text[at..]),
                ]
                .concat(),
            );
        }
    }
    streams.push([frame(BINARY_PART, b""), frame(PART, b""), frame(LAST, b"")].concat());
    streams.push([frame(BINARY_PART, &[1; 130]), frame(LAST, &[2; 4000])].concat());
    streams
}

#[test]
fn every_split_gives_the_same_events() {
    for role in [Role::Server, Role::Client] {
        for stream in corpus(role)
            .into_iter()
            .filter(|stream| stream.len() < 1000)
        {
            let model = Model::new(&stream, &rules(role));
            assert!(model.fault.is_none() && model.rests.contains(&stream.len()));
            for at in 0..=stream.len() {
                for way in [Way::Scratch, Way::Direct] {
                    check_with(&stream, rules(role), Cut::At(at), way, &model);
                }
            }
        }
    }
}

#[test]
fn chunks_of_every_size_give_the_same_events() {
    for role in [Role::Server, Role::Client] {
        let stream = corpus(role).concat();
        let model = Model::new(&stream, &rules(role));
        assert_eq!(model.rests.last(), Some(&stream.len()));
        for len in 1..=140 {
            for way in [Way::Scratch, Way::Direct] {
                check_with(&stream, rules(role), Cut::Every(len), way, &model);
            }
            let way = Way::Mixed(seeded(len as u64));
            check_with(&stream, rules(role), Cut::Every(len), way, &model);
        }
    }
}

#[test]
fn large_messages_at_the_edges_of_buffers() {
    for role in [Role::Server, Role::Client] {
        for len in [4095, 4096, 4097, 65_535, 65_536, 65_537, 200_000] {
            let text = text_of(len);
            let stream = [
                frame(TEXT, key(role), &text),
                frame(BINARY_PART, key(role), &text),
                frame(PING, key(role), b"between"),
                frame(LAST, key(role), &text[..LIMIT.min(2 * len) - len]),
            ]
            .concat();
            let model = Model::new(&stream, &rules(role));
            let edges = [
                1,
                2,
                5,
                9,
                13,
                14,
                15,
                100,
                4096,
                4104,
                65_536,
                len,
                len + 14,
                len + 28,
            ];
            for at in edges {
                for way in [Way::Scratch, Way::Direct] {
                    check_with(&stream, rules(role), Cut::At(at), way, &model);
                }
            }
            for chunk in [999, 4096, 65_536] {
                for way in [Way::Scratch, Way::Direct] {
                    check_with(&stream, rules(role), Cut::Every(chunk), way, &model);
                }
            }
        }
    }
}

#[test]
fn a_large_message_byte_by_byte() {
    let stream = frame(TEXT, Some(KEY), &text_of(70_003));
    for way in [Way::Scratch, Way::Direct] {
        check(&stream, rules(Role::Server), Cut::Every(1), way);
    }
}

fn random_payload(rng: &mut ChaCha8Rng, kind: u8) -> Vec<u8> {
    let len = match below(rng, 40) {
        0 => 65_530 + below(rng, 12),
        1..4 => 4090 + below(rng, 12),
        4..10 => 120 + below(rng, 12),
        _ => below(rng, 60),
    };
    if kind == TEXT_PART {
        text_of(len)
    } else {
        let mut payload = vec![0; len];
        rng.fill_bytes(&mut payload);
        payload
    }
}

fn random_stream(rng: &mut ChaCha8Rng, role: Role) -> Vec<u8> {
    let mut stream = Vec::new();
    for _ in 0..1 + below(rng, 12) {
        let kind = [TEXT_PART, BINARY_PART][below(rng, 2)];
        let payload = random_payload(rng, kind);
        let (mut at, mut first) = (0, kind);
        loop {
            if below(rng, 4) == 0 {
                let control = [PING, PONG][below(rng, 2)];
                let len = [0, 1, 30, 125][below(rng, 4)];
                stream.extend(frame(control, random_key(rng, role), &vec![b'c'; len]));
            }
            let end = match below(rng, 3) {
                0 => at + below(rng, payload.len() - at + 1),
                _ => payload.len(),
            };
            let last = end == payload.len() && below(rng, 4) != 0;
            let fin = if last { 0x80 } else { 0 };
            stream.extend(frame(first | fin, random_key(rng, role), &payload[at..end]));
            (at, first) = (end, PART);
            if last {
                break;
            }
        }
    }
    stream
}

fn random_key(rng: &mut ChaCha8Rng, role: Role) -> Option<[u8; 4]> {
    (role == Role::Server).then(|| rng.next_u32().to_ne_bytes())
}

fn check_at_random(rng: &mut ChaCha8Rng, stream: &[u8], rules: Rules) {
    let model = Model::new(stream, &rules);
    for scratch in [4096, 131_072] {
        let config = config().scratch_size(scratch);
        let cut = Cut::Random(seeded(rng.next_u64()));
        let way = Way::Mixed(seeded(rng.next_u64()));
        Feeder::new(rules, &config, way).feed(stream, cut, &model);
    }
}

/// What the codec hears in a stream that comes in pieces, up to a close frame, and what it fails with.
fn heard_by_codec(
    rng: &mut ChaCha8Rng,
    stream: &[u8],
    role: Role,
) -> (Vec<Seen>, Option<ProtocolError>) {
    let limits = Limits {
        max_message_size: LIMIT,
        check_utf8: true,
    };
    let mut codec = match role {
        Role::Server => Codec::server(limits),
        Role::Client => Codec::client(limits, ChaCha8Rng::seed_from_u64(2)),
    };
    let mut heard = Vec::new();
    let mut rest = stream;
    while !rest.is_empty() {
        let len = 1 + rng.next_u32() as usize % rest.len().min(5000);
        let (piece, more) = rest.split_at(len);
        rest = more;
        let mut piece = piece.to_vec();
        let mut at = 0;
        loop {
            let (event, consumed) = match codec.process(&mut piece[at..]) {
                Ok(found) => found,
                Err(error) => return (heard, Some(error)),
            };
            at += consumed;
            heard.push(match event {
                None => break,
                Some(protocol::Event::Message(kind, bytes)) => Seen::Message(kind, bytes.to_vec()),
                Some(protocol::Event::Ping(bytes)) => Seen::Control(Opcode::Ping, bytes.to_vec()),
                Some(protocol::Event::Pong(bytes)) => Seen::Control(Opcode::Pong, bytes.to_vec()),
                Some(_) => return (heard, None),
            });
        }
    }
    (heard, None)
}

#[test]
fn the_codec_hears_what_the_model_says() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let mut failed = 0;
    for round in 0..400 {
        let role = [Role::Server, Role::Client][round % 2];
        let mut stream = random_stream(&mut rng, role);
        if round % 4 > 1 {
            // Something is broken, and most often a payload.
            for _ in 0..stream.len().min(50) {
                let at = rng.next_u32() as usize % stream.len();
                stream[at] = rng.next_u32() as u8;
            }
        }
        let model = Model::new(&stream, &rules(role));
        let is_close = |seen: &Seen| matches!(seen, Seen::Control(Opcode::Close, _));
        let events = model.events.iter().map(|(_, seen)| seen);
        let before: Vec<Seen> = events
            .clone()
            .take_while(|seen| !is_close(seen))
            .cloned()
            .collect();
        let has_close = events.clone().any(is_close);
        let (heard, error) = heard_by_codec(&mut rng, &stream, role);
        assert!(heard == before, "round {round}");
        failed += usize::from(error.is_some());
        if !has_close {
            assert_eq!(error, model.fault.map(|(_, error)| error), "round {round}");
        }
    }
    assert!(failed > 50, "{failed}");
}

#[test]
fn random_streams_say_what_the_model_says() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for round in 0..400 {
        let role = [Role::Server, Role::Client][round % 2];
        let stream = random_stream(&mut rng, role);
        check_at_random(&mut rng, &stream, rules(role));
    }
}

#[test]
fn mutated_streams_fail_where_the_model_fails() {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let mut faults = Vec::new();
    for round in 0..1500 {
        let role = [Role::Server, Role::Client][round % 2];
        let mut stream = random_stream(&mut rng, role);
        for _ in 0..1 + below(&mut rng, 3) {
            // Near the front there are more headers to hit.
            let within = [30, stream.len()][below(&mut rng, 2)].min(stream.len());
            let at = below(&mut rng, within);
            stream[at] ^= 1 << below(&mut rng, 8);
        }
        let rules = Rules {
            max_message_size: [LIMIT, 100, 5000][below(&mut rng, 3)],
            check_utf8: below(&mut rng, 4) != 0,
            ..rules(role)
        };
        let fault = Model::new(&stream, &rules).fault;
        faults.extend(fault.map(|(_, error)| std::mem::discriminant(&error)));
        check_at_random(&mut rng, &stream, rules);
    }
    faults.sort_by_key(|fault| format!("{fault:?}"));
    faults.dedup();
    assert!(faults.len() >= 10, "only {} kinds of faults", faults.len());
}

#[test]
fn each_fault_is_found_however_the_input_is_cut() {
    let good = frame(BINARY_PART, None, b"begun");
    let streams: [(Vec<u8>, ProtocolError); 12] = [
        (vec![0xC2, 0], ProtocolError::ReservedBits),
        (vec![0x83, 0], ProtocolError::ReservedOpcode(3)),
        (vec![0x8B, 0], ProtocolError::ReservedOpcode(11)),
        (frame(PING, Some(KEY), b""), ProtocolError::MaskedFrame),
        (vec![PING, 126, 0, 126], ProtocolError::ControlFrameTooBig),
        (vec![0x09, 0], ProtocolError::FragmentedControlFrame),
        (vec![TEXT, 0], ProtocolError::InterruptedMessage),
        (vec![LAST, 126, 0, 125], ProtocolError::NonMinimalLength),
        (
            vec![LAST, 127, 0, 0, 0, 0, 0, 0, 255, 255],
            ProtocolError::NonMinimalLength,
        ),
        (
            vec![LAST, 127, 128, 0, 0, 0, 0, 0, 0, 0],
            ProtocolError::LengthOverflow,
        ),
        (
            vec![LAST, 127, 127, 255, 255, 255, 255, 255, 255, 255],
            ProtocolError::MessageTooBig,
        ),
        (
            [frame(LAST, None, b""), vec![LAST, 0]].concat(),
            ProtocolError::UnexpectedContinuation,
        ),
    ];
    for (bad, error) in streams {
        let stream = [&good[..], &bad, b"never looked at"].concat();
        let model = Model::new(&stream, &rules(Role::Client));
        assert_eq!(model.fault, Some((good.len() + bad.len(), error)));
        for at in 0..=stream.len() {
            for way in [Way::Scratch, Way::Direct] {
                check_with(&stream, rules(Role::Client), Cut::At(at), way, &model);
            }
        }
        check_with(
            &stream,
            rules(Role::Client),
            Cut::Every(1),
            Way::Scratch,
            &model,
        );
    }
    let unmasked = frame(PING, None, b"");
    let model = Model::new(&unmasked, &rules(Role::Server));
    assert_eq!(model.fault, Some((2, ProtocolError::UnmaskedFrame)));
    check(&unmasked, rules(Role::Server), Cut::Every(1), Way::Scratch);
}

#[test]
fn a_held_message_comes_before_what_is_behind_it() {
    let mut feeder = Feeder::new(rules(Role::Client), &config(), Way::Scratch);
    let stream = frame(BINARY, None, b"held");
    feed_once(&mut feeder, &stream[..3]);
    feeder
        .inbox
        .direct_space(&mut feeder.pools)
        .unwrap()
        .copy_from_slice(b"eld");
    assert_eq!(feeder.inbox.direct_arrived(3, &feeder.rules), Ok(true));
    feeder.inbox.hold_message();
    assert!(feeder.inbox.has_held());
    assert!(
        feeder
            .inbox
            .direct_space(&mut feeder.pools)
            .unwrap()
            .is_empty()
    );
    let behind = frame(PING, None, b"behind");
    let mut source = Choppy::new(&behind, Cut::Every(1));
    while feeder.read_ahead(&mut source) && !source.is_at_end() {}
    assert_eq!(feeder.inbox.kept(), behind);
    feeder.step(&mut source);
    assert_eq!(
        feeder.seen,
        [
            Seen::Message(MessageKind::Binary, b"held".to_vec()),
            Seen::Control(Opcode::Ping, b"behind".to_vec()),
        ]
    );
    assert!(feeder.holds_nothing());
}

#[test]
fn noise_never_panics() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    for _ in 0..3000 {
        let mut stream = vec![0; below(&mut rng, 60)];
        rng.fill_bytes(&mut stream);
        if below(&mut rng, 2) == 0 && !stream.is_empty() {
            stream[0] = [TEXT, BINARY_PART, PING][below(&mut rng, 3)];
        }
        let role = [Role::Server, Role::Client][below(&mut rng, 2)];
        check_at_random(&mut rng, &stream, rules(role));
    }
}

#[test]
fn invalid_text_fails_at_the_offending_byte_also_inside_a_frame() {
    let tails: [&[u8]; 6] = [
        b"\xFF",
        b"\xE2\x28",
        b"\xED\xA0",
        b"\xF4\x90",
        b"\xC0",
        b"\xF0\x9D\x84\x28",
    ];
    for tail in tails {
        let bad = [&text_of(50), tail].concat();
        let whole = [&bad[..], &text_of(5000)].concat();
        let fragmented = [
            frame(TEXT_PART, Some(KEY), &bad[..51]),
            frame(PART, Some(KEY), &whole[51..]),
        ];
        for (stream, expected) in [
            (frame(TEXT, Some(KEY), &whole), 8 + bad.len()),
            (
                fragmented.concat(),
                if tail.len() == 1 {
                    6 + 51
                } else {
                    6 + 8 + bad.len()
                },
            ),
        ] {
            let model = Model::new(&stream, &rules(Role::Server));
            assert_eq!(
                model.fault,
                Some((expected, ProtocolError::InvalidUtf8)),
                "{tail:x?}"
            );
            for way in [Way::Scratch, Way::Direct] {
                check_with(&stream, rules(Role::Server), Cut::Every(1), way, &model);
            }
        }
    }
}

#[test]
fn text_that_ends_inside_a_character_fails_with_its_last_frame() {
    let stream = [frame(TEXT_PART, None, b"\xE2"), frame(LAST, None, b"\x82")].concat();
    for len in 1..=stream.len() {
        check(&stream, rules(Role::Client), Cut::Every(len), Way::Scratch);
    }
    let unchecked = Rules {
        check_utf8: false,
        ..rules(Role::Client)
    };
    check(&stream, unchecked, Cut::Every(1), Way::Direct);
}

/// Feeds a header, or anything else that says nothing yet, through the scratch buffer.
fn feed_once(feeder: &mut Feeder, bytes: &[u8]) {
    feeder.step(&mut Choppy::new(bytes, Cut::At(bytes.len())));
}

#[test]
fn the_limit_is_inclusive_and_refuses_by_the_header_alone() {
    let too_big = Some(Fault::Protocol(ProtocolError::MessageTooBig));
    let rules = Rules {
        max_message_size: 70_000,
        ..rules(Role::Client)
    };
    let feeder = || Feeder::new(rules, &config(), Way::Scratch);
    for (len, fault) in [(70_000, None), (70_001, too_big)] {
        let mut feeder = feeder();
        feed_once(&mut feeder, &frame(BINARY, None, &vec![0; len])[..10]);
        assert_eq!(feeder.fault, fault);
        assert_eq!(feeder.pools.buffers.memory().peak, 0, "nothing was taken");
    }
    for (len, fault) in [(30_000, None), (30_001, too_big)] {
        let mut feeder = feeder();
        feed_once(&mut feeder, &frame(BINARY_PART, None, &vec![0; 40_000]));
        let peak = feeder.pools.buffers.memory().peak;
        feed_once(&mut feeder, &frame(PING, None, &[0; 125]));
        feed_once(&mut feeder, &frame(LAST, None, &vec![0; len])[..4]);
        assert_eq!(feeder.fault, fault);
        assert_eq!(
            feeder.pools.buffers.memory().peak,
            peak,
            "nothing was taken"
        );
    }
}

#[test]
fn buffers_follow_what_has_arrived_not_what_was_announced() {
    const ANNOUNCED: usize = 16 << 20;
    let config = config().max_message_size(ANNOUNCED);
    let rules = Rules {
        max_message_size: ANNOUNCED,
        ..rules(Role::Client)
    };
    for way in [Way::Scratch, Way::Direct] {
        let mut feeder = Feeder::new(rules, &config, way);
        let mut stream = vec![BINARY, 127];
        stream.extend((ANNOUNCED as u64).to_be_bytes());
        feed_once(&mut feeder, &stream);
        assert_eq!(feeder.pools.buffers.leased(), 0);
        let payload = vec![0; 3 << 20];
        let mut source = Choppy::new(&payload, Cut::Every(1777));
        while !source.is_at_end() {
            feeder.step(&mut source);
            let leased = feeder.pools.buffers.memory().current;
            assert!(leased <= (4 * source.position()).max(config.large_buffer_size));
            assert_eq!(feeder.pools.buffers.leased(), 1);
        }
        feeder.inbox.clear(&mut feeder.pools);
        assert!(feeder.holds_nothing());
    }
}

#[test]
fn an_announced_frame_takes_the_buffer_it_fits_at_once_up_to_a_large_one() {
    for (len, taken) in [
        (4096, 4096),
        (4097, 65_536),
        (65_536, 65_536),
        (200_000, 65_536),
    ] {
        let stream = frame(BINARY, None, &vec![0; len]);
        let header_len = stream.len() - len;
        let mut feeder = Feeder::new(rules(Role::Client), &config(), Way::Direct);
        feed_once(&mut feeder, &stream[..header_len + 1]);
        assert_eq!(feeder.pools.buffers.memory().peak, taken);
        let space = feeder.inbox.direct_space(&mut feeder.pools).unwrap();
        assert_eq!(
            space.len(),
            len.min(taken) - 1,
            "not more room than payload to come"
        );
    }
}

#[test]
fn reading_ahead_stops_at_the_end_of_one_fixed_buffer() {
    let mut feeder = Feeder::new(rules(Role::Client), &config(), Way::Scratch);
    let stream = frame(BINARY, None, &vec![3; 9000]);
    feed_once(&mut feeder, &stream[..1]);
    let mut source = Choppy::new(&stream[1..], Cut::Every(1000));
    while feeder.read_ahead(&mut source) {}
    assert_eq!(source.position(), 4095);
    assert_eq!(feeder.inbox.kept(), &stream[..4096]);
    assert!(feeder.inbox.has_held());
    assert_eq!(feeder.pools.buffers.memory().current, 4096);
    while !source.is_at_end() || feeder.inbox.has_held() {
        feeder.step(&mut source);
    }
    assert_eq!(
        feeder.seen,
        [Seen::Message(MessageKind::Binary, vec![3; 9000])]
    );
    assert!(feeder.holds_nothing());
}

#[test]
fn room_that_nothing_was_read_into_goes_back() {
    let mut feeder = Feeder::new(rules(Role::Client), &config(), Way::Scratch);
    assert!(feeder.read_ahead(&mut Choppy::new(b"", Cut::Every(1))));
    assert!(feeder.holds_nothing());
}

#[test]
fn whatever_was_read_can_be_held_whatever_the_message_limit() {
    for limit in [1, 4096, 65_536] {
        let config = Config::default().max_message_size(limit);
        config.validate().unwrap();
        let mut feeder = Feeder::new(rules(Role::Client), &config, Way::Scratch);
        let all = 0..config.scratch_size;
        feeder.scratch.fill(0x8A);
        let (scratch, pools) = (&mut feeder.scratch, &mut feeder.pools);
        assert_eq!(feeder.inbox.keep(scratch, all.clone(), true, pools), Ok(()));
        scratch.fill(0);
        assert_eq!(feeder.inbox.restore(scratch, pools), (all, true));
        assert!(scratch.iter().all(|byte| *byte == 0x8A));
        assert!(feeder.holds_nothing());
    }
}

#[test]
fn an_exhausted_pool_is_a_fault_and_nothing_leaks() {
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    let mut exhausted = 0;
    for round in 0..600 {
        let role = [Role::Server, Role::Client][round % 2];
        let config = config()
            .scratch_size(4096)
            .max_read_buffers(below(&mut rng, 3))
            .max_large_buffers(below(&mut rng, 2))
            .max_buffer_memory([0, 4096, 100_000, 1 << 20][below(&mut rng, 4)]);
        let stream = random_stream(&mut rng, role);
        let model = Model::new(&stream, &rules(role));
        let way = Way::Mixed(seeded(rng.next_u64()));
        let mut feeder = Feeder::new(rules(role), &config, way);
        let cut = Cut::Random(seeded(rng.next_u64()));
        let mut source = Choppy::new(&stream, cut);
        while feeder.fault.is_none() && (!source.is_at_end() || feeder.inbox.has_held()) {
            feeder.step(&mut source);
        }
        assert!(
            feeder.seen.iter().eq(model.events[..feeder.seen.len()]
                .iter()
                .map(|(_, seen)| seen))
        );
        assert!(matches!(feeder.fault, None | Some(Fault::OutOfBuffers)));
        exhausted += usize::from(feeder.fault.is_some());
        assert!(feeder.fault.is_some() || feeder.seen.len() == model.events.len());
        assert!(feeder.holds_nothing());
    }
    assert!((100..590).contains(&exhausted), "{exhausted} of 600");
}

#[test]
fn nothing_unfinished_costs_nothing() {
    assert_eq!(size_of::<Inbox>(), size_of::<usize>());
    let mut feeder = Feeder::new(rules(Role::Server), &config(), Way::Direct);
    feed_once(&mut feeder, &frame(TEXT, Some(KEY), b"half")[..8]);
    let (kept, held) = feeder.inbox.restore(&mut feeder.scratch, &mut feeder.pools);
    assert!(kept.is_empty() && !held);
    assert_eq!(feeder.pools.buffers.leased(), 1);
    feeder.inbox.clear(&mut feeder.pools);
    feeder.inbox.clear(&mut feeder.pools);
    assert!(feeder.holds_nothing());
    feed_once(&mut feeder, &frame(TEXT, Some(KEY), b"next"));
    assert_eq!(
        feeder.seen,
        [Seen::Message(MessageKind::Text, b"next".to_vec())]
    );
}

/// A frame larger than one read, and room for it in the scratch buffer.
fn roomy() -> (Vec<u8>, Config) {
    let config = config().max_idle_buffer_memory(1 << 20);
    let wire = frame(BINARY, Some(KEY), &vec![7; config.scratch_size - NOT_USED]);
    (wire, config)
}

#[test]
fn a_large_message_stays_in_the_buffer_that_it_was_read_to() {
    let (wire, config) = roomy();
    let mut feeder = Feeder::new(rules(Role::Server), &config, Way::Direct);
    let before = feeder.scratch.as_ptr();
    let half = wire.len() / 2;
    feed_once(&mut feeder, &wire[..half]);
    assert_ne!(feeder.scratch.as_ptr(), before);
    assert_eq!(feeder.pools.buffers.leased(), 1);
    let space = feeder.inbox.direct_space(&mut feeder.pools).unwrap();
    assert_eq!(space.len(), wire.len() - half);
    space.copy_from_slice(&wire[half..]);
    let rest = wire.len() - half;
    assert_eq!(feeder.inbox.direct_arrived(rest, &feeder.rules), Ok(true));
    let message = feeder.inbox.take_message(&mut feeder.pools).unwrap();
    let payload = &message.buffer[message.contents.clone()];
    assert!(payload.iter().all(|byte| *byte == 7));
    assert_eq!(payload.len(), config.scratch_size - NOT_USED);
    // Behind its header, where the kernel put it.
    assert_eq!(message.buffer.as_ptr(), before);
    let begin = place(&message.buffer, 0);
    assert_eq!(message.contents.start, begin + wire.len() - payload.len());
    feeder.pools.give_back(message.buffer);
    assert!(feeder.holds_nothing());
}

#[test]
fn what_misses_little_is_left_where_more_is_read_behind_it() {
    let config = config()
        .scratch_size(3 * MAX_MISSING)
        .max_idle_buffer_memory(16 << 20);
    for (role, max, missing) in [
        (Role::Server, MAX_MISSING, 1),
        (Role::Server, MAX_MISSING, MAX_MISSING),
        (Role::Server, MAX_MISSING, MAX_MISSING + 1),
        (Role::Client, MAX_MISSING_UNMASKED, MAX_MISSING_UNMASKED),
        (Role::Client, MAX_MISSING_UNMASKED, MAX_MISSING_UNMASKED + 1),
    ] {
        let wire = frame(BINARY, key(role), &vec![7; 2 * MAX_MISSING]);
        let mut feeder = Feeder::new(rules(role), &config, Way::Direct);
        feeder.rules.max_message_size = wire.len();
        let there = wire.len() - missing;
        feeder.scratch[..there].copy_from_slice(&wire[..there]);
        for (partial, left) in [(Partial::Left, missing <= max), (Partial::Ended, false)] {
            let input = &mut feeder.scratch[..there];
            let (rules, pools) = (&feeder.rules, &mut feeder.pools);
            let event = feeder.inbox.next(input, &mut 0, rules, partial, pools);
            match event {
                Ok(None) => assert!(left, "{missing} {partial:?}"),
                Ok(Some(Event::Begun(..))) => assert!(!left, "{missing} {partial:?}"),
                _ => panic!("{event:?}"),
            }
        }
    }
}

#[test]
fn what_is_little_or_does_not_fit_is_copied() {
    let (wire, config) = roomy();
    let behind = [&frame(BINARY, Some(KEY), &[1; NOT_USED])[..], &wire[..]].concat();
    let little = config.scratch_size / 8;
    for (input, len) in [(&wire, little), (&behind, wire.len() / 2)] {
        let mut feeder = Feeder::new(rules(Role::Server), &config, Way::Direct);
        let before = feeder.scratch.as_ptr();
        feed_once(&mut feeder, &input[..len]);
        assert_eq!(feeder.scratch.as_ptr(), before);
        assert_eq!(feeder.pools.buffers.leased(), 1);
        feeder.inbox.clear(&mut feeder.pools);
        assert!(feeder.holds_nothing());
    }
}

/// Where the large buffers are as large as the scratch buffer, nothing is saved by copying the start to a smaller one.
#[test]
fn what_is_worth_a_large_buffer_anyway_stays_from_32_kib_on() {
    const SIZE: usize = 1 << 20;
    let config = config()
        .scratch_size(SIZE)
        .large_buffer_size(SIZE)
        .max_message_size(SIZE)
        .max_idle_buffer_memory(4 * SIZE);
    let payload = vec![7; SIZE - NOT_USED];
    let wire = frame(BINARY, Some(KEY), &payload);
    let header = wire.len() - payload.len();
    for (arrived, stays) in [(MAX_MOVED - 1, false), (MAX_MOVED, true)] {
        let mut feeder = Feeder::new(rules(Role::Server), &config, Way::Direct);
        feeder.rules.max_message_size = SIZE;
        let before = feeder.scratch.as_ptr();
        feed_once(&mut feeder, &wire[..header + arrived]);
        assert_eq!(feeder.scratch.as_ptr() != before, stays, "{arrived}");
        assert_eq!(feeder.pools.buffers.leased(), 1);
        // There is room for all of it.
        let space = feeder.inbox.direct_space(&mut feeder.pools).unwrap();
        assert_eq!(space.len(), wire.len() - header - arrived);
        feeder.inbox.clear(&mut feeder.pools);
        assert!(feeder.holds_nothing());
    }
}

#[test]
fn with_no_buffer_to_spare_a_large_message_is_copied() {
    let (wire, config) = roomy();
    // One for the message, none for the loop to go on with and another beside it.
    let config = config.clone().max_buffer_memory(config.scratch_size);
    let mut feeder = Feeder::new(rules(Role::Server), &config, Way::Direct);
    let before = feeder.scratch.as_ptr();
    feed_once(&mut feeder, &wire[..wire.len() / 2]);
    assert_eq!(feeder.scratch.as_ptr(), before);
    assert_eq!((feeder.fault, feeder.pools.buffers.leased()), (None, 1));
    feeder.inbox.clear(&mut feeder.pools);
}

#[test]
fn much_that_is_held_stays_where_it_is() {
    let (_, config) = roomy();
    let mut feeder = Feeder::new(rules(Role::Server), &config, Way::Scratch);
    let (scratch, pools) = (&mut feeder.scratch, &mut feeder.pools);
    let before = scratch.as_ptr();
    let held = 1000..config.scratch_size - 10;
    scratch[held.clone()].fill(9);
    let inbox = &mut feeder.inbox;
    assert_eq!(inbox.keep(scratch, held.clone(), true, pools), Ok(()));
    assert_ne!(scratch.as_ptr(), before);
    assert!(inbox.kept().len() == held.len() && inbox.kept().iter().all(|byte| *byte == 9));
    // There is no room to read ahead.
    assert_eq!(inbox.read_ahead_space(pools), Ok(&mut [][..]));
    assert_eq!(inbox.restore(scratch, pools), (held, true));
    assert_eq!(scratch.as_ptr(), before);
    assert!(feeder.holds_nothing());
}

#[test]
fn whoever_sends_little_makes_us_hold_little() {
    // Whatever has come of a large message: one large buffer, and so many times what is there.
    const TIMES: usize = 4;
    let (wire, config) = roomy();
    for len in (20..wire.len()).step_by(1777) {
        let mut feeder = Feeder::new(rules(Role::Server), &config, Way::Direct);
        feed_once(&mut feeder, &wire[..len]);
        let held = feeder.pools.buffers.memory().current;
        assert!(held <= config.large_buffer_size + TIMES * len, "{len}");
        feeder.inbox.clear(&mut feeder.pools);
    }
}
