use rand_chacha::rand_core::Rng;

use super::{Compressor, Decompressor, InflateStep, Inflating};
use crate::protocol::{ProtocolError, fuzz};

/// Inflates a whole message, into room that grows by a byte at a time from `start` on.
fn inflate_from(
    decompressor: &mut Decompressor,
    message: &[u8],
    start: usize,
) -> Result<Vec<u8>, ProtocolError> {
    let mut progress = Inflating::default();
    let mut out = vec![0; start];
    loop {
        match decompressor.decompress(message, &mut progress, &mut out)? {
            InflateStep::Done => {
                out.truncate(progress.written());
                return Ok(out);
            }
            InflateStep::Full => {
                assert_eq!(progress.written(), out.len());
                out.push(0);
            }
        }
    }
}

fn inflate(decompressor: &mut Decompressor, message: &[u8]) -> Result<Vec<u8>, ProtocolError> {
    inflate_from(decompressor, message, 1 << 16)
}

fn deflate(compressor: &mut Compressor, message: &[u8], keep: bool) -> Vec<u8> {
    let mut out = vec![0; Compressor::room_for(message.len())];
    let len = compressor.compress([message], &mut out, keep).unwrap();
    out.truncate(len);
    out
}

const HELLO: &[u8] = &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];

#[test]
fn the_examples_of_the_rfc_are_inflated() {
    let stored = [
        0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00,
    ];
    let last = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00];
    let two_blocks = [
        0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00,
    ];
    // RFC 7692 §7.2.3.1, 3, 4, 5.
    for message in [HELLO, &stored, &last, &two_blocks] {
        for start in 0..8 {
            let inflated = inflate_from(&mut Decompressor::new(), message, start);
            assert_eq!(inflated.unwrap(), b"Hello", "{message:x?}");
        }
    }
    // §7.2.3.2: the second message refers to the first.
    let mut decompressor = Decompressor::new();
    assert_eq!(inflate(&mut decompressor, HELLO).unwrap(), b"Hello");
    let second = [0xf2, 0x00, 0x11, 0x00, 0x00];
    assert_eq!(inflate(&mut decompressor, &second).unwrap(), b"Hello");
    decompressor.reset();
    assert!(inflate(&mut decompressor, &second).is_err());
    // §7.2.3.6, and nothing at all.
    assert_eq!(inflate(&mut Decompressor::new(), &[0]).unwrap(), b"");
    assert_eq!(inflate(&mut Decompressor::new(), &[]).unwrap(), b"");
}

#[test]
fn the_examples_of_the_rfc_are_made() {
    let mut compressor = Compressor::new(9, 15, 8).unwrap();
    assert_eq!(deflate(&mut compressor, b"Hello", true), HELLO);
    let second = [0xf2, 0x00, 0x11, 0x00, 0x00];
    assert_eq!(deflate(&mut compressor, b"Hello", true), second);
    assert_eq!(deflate(&mut compressor, b"Hello", false), HELLO);
    assert_eq!(deflate(&mut compressor, b"", true), [0]);
}

#[test]
fn a_stream_that_ends_goes_on_in_the_next_message() {
    let mut decompressor = Decompressor::new();
    let last = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00];
    for _ in 0..3 {
        assert_eq!(inflate(&mut decompressor, &last).unwrap(), b"Hello");
    }
    // Without the byte behind it (as some leave out), and referred to by the next one.
    assert_eq!(inflate(&mut decompressor, &last[..7]).unwrap(), b"Hello");
    let second = [0xf2, 0x00, 0x11, 0x00, 0x00];
    assert_eq!(inflate(&mut decompressor, &second).unwrap(), b"Hello");
}

#[test]
fn what_is_compressed_comes_back() {
    let mut rng = fuzz::rng(0xDEF1);
    for round in 0..300_u32 {
        let level = (rng.next_u32() % 10) as u8;
        let window_bits = 8 + (rng.next_u32() % 8) as u8;
        let memory_level = 1 + (rng.next_u32() % 9) as u8;
        let mut compressor = Compressor::new(level, window_bits, memory_level).unwrap();
        let mut decompressor = Decompressor::new();
        let keep = round % 2 == 0;
        for _ in 0..8 {
            let message = sample(&mut rng);
            let cut = rng.next_u32() as usize % (message.len() + 1);
            let parts = [&message[..cut], &[], &message[cut..]];
            let mut out = vec![0; Compressor::room_for(message.len())];
            let len = compressor.compress(parts, &mut out, keep).unwrap();
            if !keep {
                decompressor.reset();
            }
            let start = message.len().saturating_sub(rng.next_u32() as usize % 3);
            let inflated = inflate_from(&mut decompressor, &out[..len], start).unwrap();
            assert!(inflated == message, "{level} {window_bits} {memory_level}");
        }
    }
}

/// Something that compresses well, badly or not at all.
fn sample(rng: &mut impl Rng) -> Vec<u8> {
    let len = match rng.next_u32() % 4 {
        0 => rng.next_u32() % 10,
        1 => rng.next_u32() % 300,
        _ => rng.next_u32() % 20_000,
    };
    let mut bytes = vec![0; len as usize];
    match rng.next_u32() % 3 {
        0 => rng.fill_bytes(&mut bytes),
        1 => bytes
            .iter_mut()
            .enumerate()
            .for_each(|(at, byte)| *byte = (at / 7 % 30) as u8),
        _ => bytes.fill_with(|| b"abcdef"[rng.next_u32() as usize % 6]),
    }
    bytes
}

#[test]
fn without_the_room_nothing_is_compressed_or_changed() {
    let mut compressor = Compressor::new(6, 15, 8).unwrap();
    assert_eq!(deflate(&mut compressor, b"Hello", true), HELLO);
    let mut small = vec![0; Compressor::room_for(5) - 1];
    assert_eq!(compressor.compress([&b"Hello"[..]], &mut small, true), None);
    let second = [0xf2, 0x00, 0x11, 0x00, 0x00];
    assert_eq!(deflate(&mut compressor, b"Hello", true), second);
}

#[test]
fn noise_fits_the_room() {
    let mut rng = fuzz::rng(3);
    let mut noise = vec![0; 300_000];
    rng.fill_bytes(&mut noise);
    for level in 0..=9 {
        for memory_level in [1, 8, 9] {
            for window_bits in [8, 15] {
                let mut compressor = Compressor::new(level, window_bits, memory_level).unwrap();
                for len in [1, 10, 1000, 70_000, 300_000] {
                    let packed = deflate(&mut compressor, &noise[..len], false);
                    let inflated = inflate_from(&mut Decompressor::new(), &packed, len).unwrap();
                    assert!(inflated == noise[..len]);
                }
            }
        }
    }
}

#[test]
fn the_smallest_window_is_never_exceeded() {
    let mut rng = fuzz::rng(4);
    for level in 1..=9 {
        let mut length = |period: usize| {
            let mut unit = vec![0; period];
            rng.fill_bytes(&mut unit);
            let message = unit.repeat(20);
            let mut compressor = Compressor::new(level, 8, 8).unwrap();
            let packed = deflate(&mut compressor, &message, false);
            assert_eq!(inflate(&mut Decompressor::new(), &packed).unwrap(), message);
            (packed.len(), message.len())
        };
        // A repetition further back than 256 bytes cannot be referred to. One within is, by most levels.
        for period in [251, 256, 257, 300, 511] {
            let (packed, whole) = length(period);
            assert!(
                packed > whole * 3 / 4,
                "level {level}, period {period}: {packed}"
            );
        }
        let (packed, whole) = length(200);
        assert!(packed < whole / 2, "level {level}: {packed}");
    }
}

#[test]
fn inflating_stops_when_the_room_is_full() {
    let zeros = vec![0; 64 << 20];
    let bomb = deflate(&mut Compressor::new(9, 15, 9).unwrap(), &zeros, false);
    assert!(bomb.len() < 100_000);
    let mut progress = Inflating::default();
    let mut out = [1; 1000];
    let step = Decompressor::new().decompress(&bomb, &mut progress, &mut out);
    assert_eq!((step, progress.written()), (Ok(InflateStep::Full), 1000));
    assert!(progress.consumed < 1000);
}

#[test]
fn a_message_of_just_the_room_is_done() {
    let message = vec![7; 5000];
    let packed = deflate(&mut Compressor::new(1, 15, 8).unwrap(), &message, false);
    for (room, expected) in [(4999, InflateStep::Full), (5000, InflateStep::Done)] {
        let mut out = vec![0; room];
        let step = Decompressor::new().decompress(&packed, &mut Inflating::default(), &mut out);
        assert_eq!(step, Ok(expected), "{room}");
    }
}

#[test]
fn what_is_cut_off_is_corrupt() {
    let mut rng = fuzz::rng(5);
    let mut undetected = 0;
    let mut cuts = 0;
    for _ in 0..200 {
        let message = sample(&mut rng);
        let packed = deflate(&mut Compressor::new(6, 15, 8).unwrap(), &message, false);
        let cut = packed.len() - 1 - rng.next_u32() as usize % packed.len().min(50);
        if cut == 0 {
            continue;
        }
        cuts += 1;
        let inflated = inflate(&mut Decompressor::new(), &packed[..cut]);
        undetected += usize::from(inflated.is_ok());
    }
    // A cut may look like an end: there is no checksum.
    assert!(undetected * 50 < cuts, "{undetected} of {cuts}");
    assert!(inflate(&mut Decompressor::new(), &HELLO[..5]).is_err());
}

#[test]
fn a_tail_that_was_not_left_out_is_corrupt() {
    let with_tail = [HELLO, &[0x00, 0x00, 0xff, 0xff]].concat();
    assert!(inflate(&mut Decompressor::new(), &with_tail).is_err());
    // As the end of an empty block of its own it is fine.
    let with_block = [&with_tail[..], &[0x00]].concat();
    assert_eq!(
        inflate(&mut Decompressor::new(), &with_block).unwrap(),
        b"Hello"
    );
}

#[test]
fn garbage_ends_and_never_panics() {
    let mut rng = fuzz::rng(6);
    let packed = deflate(
        &mut Compressor::new(6, 15, 8).unwrap(),
        &sample(&mut rng),
        false,
    );
    let mut decompressor = Decompressor::new();
    let (mut good, mut bad) = (0, 0);
    for _ in 0..5_000 {
        let message = fuzz::mutated(&mut rng, &packed, b"\0\xff\x01");
        let mut progress = Inflating::default();
        let mut out = vec![0; 2000];
        match decompressor.decompress(&message, &mut progress, &mut out) {
            Ok(_) => good += 1,
            Err(error) => {
                assert_eq!(error, ProtocolError::InvalidDeflate);
                bad += 1;
            }
        }
        decompressor.reset();
    }
    assert!(good > 0 && bad > 0);
    assert_eq!(inflate(&mut decompressor, HELLO).unwrap(), b"Hello");
}

#[test]
fn parameters_out_of_range_are_refused() {
    for (level, window_bits, memory_level) in
        [(10, 15, 8), (6, 7, 8), (6, 16, 8), (6, 15, 0), (6, 15, 10)]
    {
        assert!(Compressor::new(level, window_bits, memory_level).is_err());
    }
}
