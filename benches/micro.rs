//! What the pieces cost through which every byte goes, one by one, without sockets.
//!
//! ```text
//! cargo bench --bench micro --features internals,deflate
//! cargo bench --bench micro --features internals -- inbox
//! cargo test --bench micro --features internals,deflate
//! ```
//!
//! The second line measures what has `inbox` in its name, the third runs everything once and measures nothing.
#![allow(clippy::unwrap_used)]

use std::{hint::black_box, time::Duration};

use criterion::{BenchmarkId, Criterion, Throughput};
use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};
use wsloop::{
    internals::{InboxBench, OutboxBench},
    protocol::{
        FrameHeader, MAX_HEADER_LEN, Opcode, Role, Rules, Utf8Validator, apply_mask, is_valid_utf8,
    },
};

/// Zeros leave a payload as it is, so that what was unmasked in place can be fed again. No code looks at a key's value.
const KEY: [u8; 4] = [0; 4];
const KIB: usize = 1024;
/// Bytes in a line of the cache.
const LINE: usize = 64;

fn main() {
    let mut criterion = Criterion::default()
        .without_plots()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    mask(&mut criterion);
    frame_header(&mut criterion);
    utf8(&mut criterion);
    inbox(&mut criterion);
    outbox(&mut criterion);
    #[cfg(feature = "deflate")]
    deflate::deflate(&mut criterion);
    criterion.final_summary();
}

fn mask(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("mask");
    for len in [20, 512, 16 * KIB, KIB * KIB] {
        let mut room = vec![0x5A; LINE + MAX_HEADER_LEN + len];
        let line = room.as_ptr().align_offset(LINE);
        let behind_header = masked(Opcode::Binary, true, len).encoded_len();
        group.throughput(Throughput::Bytes(len as u64));
        // A payload in a buffer of its own; one where a read has left it; the part of one that begins with its second byte.
        for (name, at, offset) in [
            ("aligned", 0, 0),
            ("behind_header", behind_header, 0),
            ("phase_1", 0, 1),
        ] {
            let data = &mut room[line + at..][..len];
            group.bench_function(BenchmarkId::new(name, len), |bencher| {
                bencher.iter(|| apply_mask(black_box([1, 2, 4, 8]), offset, black_box(&mut *data)));
            });
        }
        // The yardstick.
        let data = &room[line..][..len];
        let mut copy = vec![0; len];
        group.bench_function(BenchmarkId::new("copy", len), |bencher| {
            bencher.iter(|| black_box(&mut copy).copy_from_slice(black_box(data)));
        });
    }
    group.finish();
}

fn frame_header(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("frame_header");
    for (form, payload_len) in [("7_bit", 20), ("16_bit", 512), ("64_bit", KIB * KIB)] {
        let header = masked(Opcode::Binary, true, payload_len);
        let mut wire = [0; MAX_HEADER_LEN];
        let len = header.encode(&mut wire);
        group.bench_function(BenchmarkId::new("parse", form), |bencher| {
            bencher.iter(|| FrameHeader::parse(black_box(&wire[..len])));
        });
        let mut out = [0; MAX_HEADER_LEN];
        group.bench_function(BenchmarkId::new("encode", form), |bencher| {
            bencher.iter(|| black_box(&header).encode(black_box(&mut out)));
        });
    }
    group.finish();
}

fn utf8(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("utf8");
    for (name, pattern) in [("ascii", "plain text, "), ("mixed", "κόσμε, 世界 𝄞 ok; ")] {
        for len in [20, 512, 16 * KIB] {
            let text = text(pattern, len);
            group.throughput(Throughput::Bytes(len as u64));
            group.bench_function(BenchmarkId::new(name, len), |bencher| {
                bencher.iter(|| is_valid_utf8(black_box(&text)));
            });
        }
    }
    // Most cuts are inside a character.
    for (len, piece) in [(20, 10), (16 * KIB, 512)] {
        let text = text("世", len);
        group.throughput(Throughput::Bytes(len as u64));
        let id = BenchmarkId::new(format!("pieces_of_{piece}"), len);
        group.bench_function(id, |bencher| {
            bencher.iter(|| is_valid_in_pieces(black_box(&text), piece));
        });
    }
    group.finish();
}

fn is_valid_in_pieces(text: &[u8], piece: usize) -> bool {
    let mut validator = Utf8Validator::default();
    text.chunks(piece)
        .all(|piece| validator.feed(piece).is_ok())
        && validator.finish().is_ok()
}

/// `len` bytes of text, the last few of them blank if no character fits.
fn text(pattern: &str, len: usize) -> Vec<u8> {
    let mut text = String::new();
    for character in pattern.chars().cycle() {
        if text.len() + character.len_utf8() > len {
            break;
        }
        text.push(character);
    }
    text.push_str(&" ".repeat(len - text.len()));
    text.into_bytes()
}

fn inbox(criterion: &mut Criterion) {
    let of_20 = frame(Opcode::Binary, true, &[7; 20]).repeat(64);
    let texts_of_20 = frame(Opcode::Text, true, &text("κόσμε ", 20)).repeat(64);
    let of_512 = frame(Opcode::Binary, true, &[7; 512]).repeat(16);
    let of_16k = frame(Opcode::Binary, true, &[7; 16 * KIB]);
    let fragments = [
        frame(Opcode::Binary, false, &[7; 512]),
        frame(Opcode::Continuation, false, &[7; 512]),
        frame(Opcode::Continuation, true, &[7; 512]),
    ]
    .concat();
    let all = usize::MAX;
    for (name, wire, read, messages) in [
        ("64_of_20", &of_20, all, 64),
        ("64_texts_of_20", &texts_of_20, all, 64),
        ("16_of_512", &of_512, all, 16),
        ("1_of_16384", &of_16k, all, 1),
        ("3_fragments_of_512", &fragments, all, 1),
        // Behind 23 frames of 26 bytes the first read ends inside a header, behind 23 more the second inside a payload.
        ("64_of_20_in_3_reads", &of_20, 602, 64),
        ("1_of_16384_in_4_reads", &of_16k, 5000, 1),
    ] {
        feed(criterion, name, wire, read, messages);
    }
}

/// `wire` holds so many messages, and comes in reads of at most `read` bytes.
fn feed(criterion: &mut Criterion, name: &str, wire: &[u8], read: usize, messages: usize) {
    let mut inbox = InboxBench::new(Rules {
        role: Role::Server,
        max_message_size: KIB * KIB,
        check_utf8: true,
        compression: false,
    });
    let mut group = criterion.benchmark_group("inbox");
    group.throughput(throughput(messages, wire.len()));
    group.bench_function(name, |bencher| {
        assert_eq!(feed_in_reads(&mut inbox, wire, read), messages);
        bencher.iter(|| feed_in_reads(&mut inbox, black_box(wire), read));
    });
    group.finish();
}

fn feed_in_reads(inbox: &mut InboxBench, wire: &[u8], read: usize) -> usize {
    let (mut start, mut messages) = (0, 0);
    while start < wire.len() {
        let end = wire.len().min(start.saturating_add(read));
        messages += inbox.feed(&wire[start..end]).unwrap();
        start = end;
    }
    messages
}

/// A client's frame.
fn frame(opcode: Opcode, fin: bool, payload: &[u8]) -> Vec<u8> {
    let mut encoded = [0; MAX_HEADER_LEN];
    let header_len = masked(opcode, fin, payload.len()).encode(&mut encoded);
    [&encoded[..header_len], payload].concat()
}

fn masked(opcode: Opcode, fin: bool, payload_len: usize) -> FrameHeader {
    FrameHeader {
        fin,
        mask: Some(KEY),
        ..FrameHeader::new(opcode, payload_len as u64)
    }
}

fn outbox(criterion: &mut Criterion) {
    for (count, len) in [(1, 20), (16, 20), (1, 512), (16, 512), (1, 16 * KIB)] {
        let client = OutboxBench::client(ChaCha20Rng::from_seed([7; 32]));
        stage_and_flush(criterion, "server", OutboxBench::server(), count, len);
        stage_and_flush(criterion, "client", client, count, len);
    }
}

fn stage_and_flush(
    criterion: &mut Criterion,
    role: &str,
    mut outbox: OutboxBench,
    count: usize,
    len: usize,
) {
    let payload = vec![7; len];
    let mut group = criterion.benchmark_group("outbox");
    group.throughput(throughput(count, len));
    group.bench_function(format!("{role}/{count}_of_{len}"), |bencher| {
        bencher.iter(|| {
            for _ in 0..count {
                outbox.stage(black_box(&payload)).unwrap();
            }
            outbox.flush()
        });
    });
    group.finish();
}

/// One message is measured by its bytes, several by their number.
fn throughput(messages: usize, bytes: usize) -> Throughput {
    match messages {
        1 => Throughput::Bytes(bytes as u64),
        _ => Throughput::Elements(messages as u64),
    }
}

#[cfg(feature = "deflate")]
mod deflate {
    use std::{fmt::Write, hint::black_box};

    use criterion::{Criterion, Throughput};
    use rand_chacha::{
        ChaCha8Rng,
        rand_core::{Rng, SeedableRng},
    };
    use wsloop::{
        Config,
        protocol::{Compressor, Decompressor, InflateStep, Inflating},
    };

    /// Different ones, of one shape: what a window that is kept is good for. Together they are twice as long as that.
    const MESSAGES: usize = 64;
    const TRADES: usize = 13;

    /// `shared`: each message stands alone. `dedicated`: the windows are kept from message to message.
    pub(super) fn deflate(criterion: &mut Criterion) {
        let messages = messages();
        let mut group = criterion.benchmark_group("deflate");
        group.throughput(Throughput::Bytes(messages[0].len() as u64));
        for (name, keep_context) in [("shared", false), ("dedicated", true)] {
            let mut out = vec![0; Compressor::room_for(messages[0].len())];
            let mut compressor = compressor();
            let mut next = messages.iter().cycle();
            group.bench_function(format!("compress/{name}"), |bencher| {
                bencher.iter(|| {
                    let message = next.next().unwrap().as_slice();
                    compressor.compress([message], black_box(&mut out), keep_context)
                });
            });
            let mut inflater = Inflater::new(&messages, keep_context);
            group.bench_function(format!("decompress/{name}"), |bencher| {
                bencher.iter(|| inflater.inflate_next());
            });
        }
        group.finish();
    }

    fn compressor() -> Compressor {
        let config = Config::default();
        let (bits, memory) = (
            config.compression_window_bits,
            config.compression_memory_level,
        );
        Compressor::new(config.compression_level, bits, memory).unwrap()
    }

    /// The receiver of all messages, again and again.
    struct Inflater {
        decompressor: Decompressor,
        keep_context: bool,
        packed: Vec<Vec<u8>>,
        next: usize,
        out: Vec<u8>,
    }

    impl Inflater {
        fn new(messages: &[Vec<u8>], keep_context: bool) -> Self {
            let mut compressor = compressor();
            let pack = |message: &Vec<u8>| {
                let mut out = vec![0; Compressor::room_for(message.len())];
                let len = compressor.compress([message.as_slice()], &mut out, keep_context);
                out.truncate(len.unwrap());
                out
            };
            Self {
                decompressor: Decompressor::new(),
                keep_context,
                packed: messages.iter().map(pack).collect(),
                next: 0,
                // A byte more than needed: full would have to be asked again.
                out: vec![0; messages[0].len() + 1],
            }
        }

        fn inflate_next(&mut self) {
            let mut progress = Inflating::default();
            let packed = black_box(&self.packed[self.next]);
            let step =
                self.decompressor
                    .decompress(packed, &mut progress, black_box(&mut self.out));
            assert_eq!(step, Ok(InflateStep::Done));
            self.next = (self.next + 1) % MESSAGES;
            // The first message refers to none before it.
            if !self.keep_context || self.next == 0 {
                self.decompressor.reset();
            }
        }
    }

    /// JSON, about a kibibyte each, all of the same length.
    fn messages() -> Vec<Vec<u8>> {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let message = |_| message(&mut rng).into_bytes();
        (0..MESSAGES).map(message).collect()
    }

    fn message(rng: &mut ChaCha8Rng) -> String {
        let mut json = String::from(r#"{"type":"trades","market":"BTC-EUR","trades":["#);
        for trade in 0..TRADES {
            let (id, price, size) = (rng.next_u64(), rng.next_u32(), rng.next_u32());
            let comma = if trade > 0 { "," } else { "" };
            let side = if size % 2 == 0 { "buys" } else { "sell" };
            write!(
                json,
                r#"{comma}{{"id":"{id:016x}","price":"{}.{:02}","size":"0.{:04}","side":"{side}"}}"#,
                50_000 + price % 1000,
                price / 1000 % 100,
                size % 10_000,
            )
            .unwrap();
        }
        json.push_str("]}");
        json
    }
}
