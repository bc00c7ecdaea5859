use std::{sync::Arc, time::Duration};

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

use super::{
    super::{CloseCause, Due, Link, Pools, Timeouts},
    *,
};
use crate::protocol::{InflateStep, Inflating};

fn deflaters(max: usize) -> Deflaters {
    let config = Config::default()
        .compression(Compression::Dedicated)
        .compression_memory_level(1)
        .max_compression_contexts(max);
    *Deflaters::new(&config).unwrap()
}

/// Windows that are made: those that are lent, and those that wait for the next one.
fn made(deflaters: &Deflaters) -> ((usize, usize), (usize, usize)) {
    fn of<T>(lending: &Lending<T>) -> (usize, usize) {
        (lending.lent, lending.free.len())
    }
    (of(&deflaters.compressors), of(&deflaters.decompressors))
}

fn reserved(deflaters: &Deflaters) -> (usize, usize) {
    let (compressors, decompressors) = deflaters.contexts();
    (compressors.current, decompressors.current)
}

/// What an end agrees to that keeps everything.
fn params(server_max_window_bits: u8) -> DeflateParams {
    DeflateParams {
        server_no_context_takeover: false,
        client_no_context_takeover: false,
        server_max_window_bits: Some(server_max_window_bits),
        client_max_window_bits: None,
    }
}

const NO_WINDOWS: ((usize, usize), (usize, usize)) = ((0, 0), (0, 0));

#[test]
fn what_is_agreed_on_is_reserved_and_not_made() {
    let mut deflaters = deflaters(2);
    let first = deflaters.accept(&mut params(15));
    let second = deflaters.accept(&mut params(15));
    assert!(first.window.is_kept() && first.keeps_peers);
    assert_eq!(reserved(&deflaters), (2, 2));
    assert_eq!(made(&deflaters), NO_WINDOWS);
    // The bound is that of reservations.
    let mut answer = params(15);
    let third = deflaters.accept(&mut answer);
    assert!(!third.window.is_kept() && !third.keeps_peers);
    assert!(answer.server_no_context_takeover && answer.client_no_context_takeover);
    // Those that were never made go back as well.
    for agreement in [first, third] {
        deflaters.take_back(&agreement, None, None);
    }
    assert_eq!(reserved(&deflaters), (1, 1));
    deflaters.take_back(&second, None, None);
    assert_eq!(reserved(&deflaters), (0, 0));
    assert_eq!(made(&deflaters), NO_WINDOWS);
    let (compressors, decompressors) = deflaters.contexts();
    assert_eq!((compressors.peak, decompressors.peak), (2, 2));
}

#[test]
fn a_window_is_made_as_agreed_and_used_again() {
    let mut deflaters = deflaters(2);
    let first = deflaters.accept(&mut params(10));
    let compressor = deflaters.lend_compressor(first.window);
    assert_eq!(compressor.as_ref().unwrap().window_bits(), 10);
    assert_eq!(made(&deflaters), ((1, 0), (0, 0)));
    let decompressor = deflaters.lend_decompressor();
    deflaters.take_back(&first, compressor, decompressor);
    assert_eq!(made(&deflaters), ((0, 1), (0, 1)));
    let other = deflaters.accept(&mut params(12));
    let compressor = deflaters.lend_compressor(other.window).unwrap();
    assert_eq!(compressor.window_bits(), 12);
    assert_eq!(made(&deflaters), ((1, 1), (0, 1)));
    // The one that waits is not what is needed, and there may be no third one.
    let same = deflaters.accept(&mut params(12));
    let compressor = deflaters.lend_compressor(same.window).unwrap();
    assert_eq!(compressor.window_bits(), 12);
    assert_eq!(made(&deflaters), ((2, 0), (0, 1)));
}

#[test]
fn a_client_reserves_what_it_may_have_to_inflate() {
    let mut deflaters = deflaters(1);
    for (server_no_context_takeover, expected) in [(true, (1, 0)), (false, (1, 1))] {
        let (offer, keeps_peers) = deflaters.offer();
        assert!(keeps_peers && !offer.server_no_context_takeover);
        assert_eq!(reserved(&deflaters), (0, 1));
        let answer = DeflateParams {
            server_no_context_takeover,
            ..params(15)
        };
        let agreement = deflaters.accepted(&answer, keeps_peers);
        assert_eq!(reserved(&deflaters), expected);
        assert_eq!(made(&deflaters), NO_WINDOWS);
        deflaters.take_back(&agreement, None, None);
        assert_eq!(reserved(&deflaters), (0, 0));
    }
    let (_, first) = deflaters.offer();
    let (offer, second) = deflaters.offer();
    assert!(first && !second && offer.server_no_context_takeover);
    deflaters.not_accepted(second);
    assert_eq!(reserved(&deflaters), (0, 1));
    deflaters.not_accepted(first);
    assert_eq!(reserved(&deflaters), (0, 0));
}

/// A connection, and what was made for it.
type Connection = (
    Agreement,
    Option<Box<OwnCompressor>>,
    Option<Box<Decompressor>>,
);

#[test]
fn who_has_reserved_a_window_gets_one_and_there_are_never_more() {
    const MAX: usize = 4;
    let mut rng = ChaCha8Rng::seed_from_u64(12);
    let mut below = |bound: usize| rng.next_u32() as usize % bound;
    let mut deflaters = deflaters(MAX);
    let mut open: Vec<Connection> = Vec::new();
    let mut full = 0;
    for _ in 0..3000 {
        match below(4) {
            0 if open.len() < 2 * MAX => {
                let mut answer = DeflateParams {
                    client_no_context_takeover: below(3) == 0,
                    server_no_context_takeover: below(3) == 0,
                    ..params([9, 10, 11][below(3)])
                };
                open.push((deflaters.accept(&mut answer), None, None));
            }
            1 if !open.is_empty() => {
                let (agreement, compressor, decompressor) = open.swap_remove(below(open.len()));
                deflaters.take_back(&agreement, compressor, decompressor);
            }
            _ if !open.is_empty() => {
                let at = below(open.len());
                let (agreement, compressor, decompressor) = &mut open[at];
                let window = agreement.window;
                if window.is_kept() && compressor.is_none() {
                    *compressor = deflaters.lend_compressor(window);
                    let bits = compressor.as_ref().map(|it| it.window_bits());
                    assert_eq!(bits, Some(window.bits()));
                }
                if agreement.keeps_peers && decompressor.is_none() {
                    *decompressor = deflaters.lend_decompressor();
                    assert!(decompressor.is_some());
                }
            }
            _ => {}
        }
        let count = |it: fn(&Connection) -> bool| open.iter().filter(|open| it(open)).count();
        let kept = count(|(agreement, ..)| agreement.window.is_kept());
        let peers = count(|(agreement, ..)| agreement.keeps_peers);
        assert_eq!(reserved(&deflaters), (kept, peers));
        let (compressors, decompressors) = made(&deflaters);
        assert_eq!(compressors.0, count(|(_, it, _)| it.is_some()));
        assert_eq!(decompressors.0, count(|(.., it)| it.is_some()));
        for (lent, free) in [compressors, decompressors] {
            assert!(lent + free <= MAX, "{lent} + {free}");
        }
        full += usize::from(kept == MAX && compressors.0 == MAX);
    }
    assert!(full > 0, "the bound was never met");
}

/// A connection of a server, and its peer.
struct Pair {
    link: Link,
    pools: Pools,
    peer: Decompressor,
    start: Instant,
}

const IDLE: Duration = Duration::from_secs(5);

impl Pair {
    fn new() -> Self {
        let config = Config::default().compression(Compression::Dedicated);
        let start = Instant::now();
        let mut pools = Pools::new(&Arc::new(config), true);
        let mut link = Link::new(Role::Server, start);
        link.agree(&pools.agree(&mut Some(params(15))));
        Self {
            link,
            pools,
            peer: Decompressor::new(),
            start,
        }
    }

    /// How long a message is that the peer understands.
    fn say(&mut self, message: &[u8]) -> usize {
        let outbox = &mut self.link.outbox;
        let packed = outbox
            .pack([message], message.len(), &mut self.pools)
            .unwrap();
        let mut inflated = vec![0; message.len()];
        let mut progress = Inflating::default();
        let step = self
            .peer
            .decompress(packed.as_bytes(), &mut progress, &mut inflated);
        assert_eq!((step, &inflated[..]), (Ok(InflateStep::Done), message));
        let len = packed.as_bytes().len();
        packed.give_back(&mut self.pools);
        len
    }

    /// The time is up to find out whether the compressor is still used.
    fn check(&mut self) {
        let (outbox, next) = (&mut self.link.outbox, self.start + IDLE);
        outbox.check_compressor(next, &mut self.pools);
        assert_eq!(outbox.check_at(), outbox.compressor.as_ref().map(|_| next));
    }

    /// Compressors that are lent, and those that wait.
    fn compressors(&self) -> (usize, usize) {
        made(self.pools.deflaters.as_ref().unwrap()).0
    }
}

#[test]
fn a_compressor_that_is_not_used_for_long_is_for_others_and_the_peer_need_not_know() {
    let mut pair = Pair::new();
    let message = b"something that is not said for the first time, nor for the last".repeat(2);
    pair.check();
    assert_eq!(pair.compressors(), (0, 0));
    for _ in 0..3 {
        let first = pair.say(&message);
        assert!(pair.say(&message) * 4 < first);
        // It was used until just now.
        pair.check();
        assert_eq!(pair.compressors(), (1, 0));
        assert!(pair.say(&message) * 4 < first);
        pair.check();
        pair.check();
        assert_eq!(pair.compressors(), (0, 1));
        pair.check();
        let deflaters = pair.pools.deflaters.as_ref().unwrap();
        assert_eq!(reserved(deflaters), (1, 1));
    }
    pair.say(&message);
    pair.check();
    pair.check();
    pair.link
        .end(CloseCause::EndOfStream, &mut pair.pools, drop);
    let deflaters = pair.pools.deflaters.as_ref().unwrap();
    assert_eq!((reserved(deflaters), pair.compressors()), ((0, 0), (0, 1)));
}

#[test]
fn a_deadline_says_when_to_look_after_a_compressor() {
    let mut pair = Pair::new();
    let start = pair.start;
    let second = Duration::from_secs(1);
    let timeouts = Timeouts {
        idle: Some(8 * second),
        heartbeat_interval: None,
        heartbeat_timeout: second,
        close: second,
    };
    let closes = Due::Later(Some(start + 8 * second));
    assert_eq!(pair.link.due(start + 7 * second, &timeouts), closes);
    pair.say(&[b'a'; 100]);
    // Nobody has said when yet.
    assert_eq!(pair.link.due(start + 7 * second, &timeouts), closes);
    pair.link.outbox.check_compressor_at(start + IDLE);
    let looks = Due::Later(Some(start + IDLE));
    assert_eq!(pair.link.due(start + 4 * second, &timeouts), looks);
    assert_eq!(pair.link.due(start + IDLE, &timeouts), Due::Compressor);
    // As long as it is due, whatever else is.
    assert_eq!(
        pair.link.due(start + 9 * second, &timeouts),
        Due::Compressor
    );
    pair.check();
    pair.check();
    assert_eq!(pair.link.due(start + 7 * second, &timeouts), closes);
}

#[test]
fn no_more_than_the_bound_are_kept_while_nobody_has_them() {
    for bound in 0..3 {
        let config = Config::default()
            .compression(Compression::Dedicated)
            .max_idle_compression_contexts(bound);
        let mut deflaters = Deflaters::new(&config).unwrap();
        let mut open: Vec<_> = (0..4)
            .map(|_| {
                let agreement = deflaters.accept(&mut params(15));
                let compressor = deflaters.lend_compressor(agreement.window);
                (agreement, compressor, deflaters.lend_decompressor())
            })
            .collect();
        for left in (0..4).rev() {
            let (agreement, compressor, decompressor) = open.pop().unwrap();
            deflaters.take_back(&agreement, compressor, decompressor);
            let kept = (left, bound.min(4 - left));
            assert_eq!(made(&deflaters), (kept, kept));
            assert_eq!(reserved(&deflaters), (left, left));
        }
    }
}
