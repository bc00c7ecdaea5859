//! What compressors and decompressors take, counted by the allocator: as their documentation says. One test in this binary:
//! the count is the process's.
#![cfg(feature = "deflate")]
#![allow(clippy::unwrap_used)]

use std::{alloc::System, hint::black_box};

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use wsloop::protocol::{Compressor, Decompressor, Inflating};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn bytes_of<T>(make: impl FnOnce() -> T) -> (T, usize) {
    let region = Region::new(ALLOCATOR);
    let made = make();
    let change = region.change();
    (made, change.bytes_allocated - change.bytes_deallocated)
}

#[test]
fn windows_take_what_the_documentation_says_and_all_of_it_at_the_start() {
    for window_bits in 8..=15 {
        for memory_level in 1..=9 {
            let make = || Compressor::new(1, window_bits, memory_level).unwrap();
            let (compressor, bytes) = bytes_of(make);
            let window = 1 << (window_bits.max(9) + 2);
            let documented = window + (7 << (memory_level + 6)) + (131 << 10);
            assert!(
                bytes.abs_diff(documented) < 4 << 10,
                "{window_bits}, {memory_level}: {bytes}, not {documented}"
            );
            black_box(compressor);
        }
    }
    let (mut decompressor, bytes) = bytes_of(Decompressor::new);
    assert!(bytes.abs_diff(47 << 10) < 4 << 10, "{bytes}");
    let mut compressor = Compressor::new(6, 15, 8).unwrap();
    let mut out = vec![0; Compressor::room_for(1000)];
    let mut back = vec![0; 1000];
    let (_, bytes) = bytes_of(|| {
        for _ in 0..100 {
            let len = compressor
                .compress([&[7; 1000][..]], &mut out, true)
                .unwrap();
            let mut progress = Inflating::default();
            decompressor
                .decompress(&out[..len], &mut progress, &mut back)
                .unwrap();
            compressor.reset();
            decompressor.reset();
        }
    });
    assert_eq!(bytes, 0);
}
