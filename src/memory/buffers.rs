//! The buffer pool: fixed size classes, leased and given back, under one budget of bytes.
//!
//! Class 0 are the fixed read buffers, class 1 the large-message buffers; each further class is four times the one before,
//! up to the largest message with its header; the size of the scratch buffer is among them. A buffer is a plain boxed slice, so a lease costs a pop and its return a push.

use std::{ops::Range, sync::Arc};

use super::{
    placing::place,
    pool_buf::{Home, PoolBuf},
};
use crate::{
    config::{Compression, Config},
    protocol::{MAX_HEADER_LEN, Rules},
};

/// A leased buffer. It must be given back, or it stays counted as leased.
pub(crate) type Buffer = Box<[u8]>;

/// How much larger the next class is. What a peer can make us take is bounded by this factor times what it has sent.
const GROWTH: usize = 4;
/// Large buffers that are left when those begin to be few.
const TIGHT: usize = 4;
/// So many bytes are copied without more ado: that is done sooner than memory which has left the cache is read to.
pub(crate) const MAX_MOVED: usize = 32 * 1024;
/// The scratch buffer is not exchanged for less than this part of it, unless that is more than `MAX_MOVED`.
const LEAST_SHARE: usize = 8;
/// The class of the fixed read buffers.
const READ: usize = 0;
/// The class of the large-message buffers.
const LARGE: usize = 1;

pub(crate) struct BufferPool {
    /// Where the sizes and the bounds are from.
    config: Arc<Config>,
    /// Ascending by size, made when they are first leased from.
    classes: Vec<Class>,
    /// Bytes of all buffers, leased and free. `free_bytes <= bytes <= max_buffer_memory`.
    bytes: usize,
    free_bytes: usize,
    peak_bytes: usize,
    /// Made when the first buffer is entrusted to the application.
    home: Option<Arc<Home>>,
}

struct Class {
    size: usize,
    free: Vec<Buffer>,
    /// True when the last free buffer has come back since it was asked for: what it holds is in the cache.
    is_warm: bool,
    leased: usize,
    peak: usize,
}

/// Occupancy of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Occupancy {
    /// In use now.
    pub current: usize,
    /// The most that were in use at a time.
    pub peak: usize,
    /// The most that may be in use.
    pub max: usize,
}

impl BufferPool {
    pub(crate) fn new(config: Arc<Config>) -> Self {
        let mut pool = Self {
            classes: Vec::new(),
            bytes: 0,
            free_bytes: 0,
            peak_bytes: 0,
            home: None,
            config,
        };
        pool.preheat(READ, pool.config.initial_read_buffers);
        pool.preheat(LARGE, pool.config.initial_large_buffers);
        pool
    }

    fn preheat(&mut self, index: usize, count: usize) {
        if count == 0 {
            return;
        }
        self.make_classes(index);
        let class = &mut self.classes[index];
        class.free.extend((0..count).map(|_| allocate(class.size)));
        self.bytes += count * class.size;
        self.free_bytes += count * class.size;
        self.peak_bytes = self.peak_bytes.max(self.bytes);
    }

    /// A buffer of at least `len` bytes with undefined contents; `None` past the pool's or the budget's bound, or for a
    /// length above the largest class.
    pub(crate) fn lease(&mut self, len: usize) -> Option<Buffer> {
        let index = self.class_for(len)?;
        let max_leased = self.max_leased(index);
        // What the application has just dropped is in the cache; what has long been free is not.
        self.reclaim();
        let class = &mut self.classes[index];
        if class.leased >= max_leased {
            return None;
        }
        let buffer = match class.free.pop() {
            Some(buffer) => {
                self.free_bytes -= buffer.len();
                buffer
            }
            None => self.allocate_within_budget(index)?,
        };
        let class = &mut self.classes[index];
        class.is_warm = false;
        class.leased += 1;
        class.peak = class.peak.max(class.leased);
        self.invariants();
        Some(buffer)
    }

    /// Size of the buffer that `lease(len)` gives; `None` for a length above the largest class.
    pub(crate) fn size_for(&mut self, len: usize) -> Option<usize> {
        let index = self.class_for(len)?;
        Some(self.classes[index].size)
    }

    /// As `lease`, for what could be done without: it takes no buffer that is the last of its class, or of the budget.
    pub(crate) fn lease_spare(&mut self, len: usize) -> Option<Buffer> {
        if self.has_spare(len) {
            self.lease(len)
        } else {
            None
        }
    }

    /// True exactly when there may soon be no large buffer left: what could be done without goes back now.
    #[inline]
    pub(crate) fn is_tight(&self) -> bool {
        let leased = self.classes.get(LARGE).map_or(0, |class| class.leased);
        let left = self.config.max_buffer_memory - self.bytes + self.free_bytes;
        leased + TIGHT > self.config.max_large_buffers
            || left < TIGHT * self.config.large_buffer_size
    }

    /// Exchanges the scratch buffer, which holds `len` bytes that are not to be copied, for one of the pool: what it was is
    /// leased then. `None` when it is too large for so little, or no other is to spare.
    pub(crate) fn exchange(&mut self, scratch: &mut Buffer, len: usize) -> Option<Buffer> {
        if !self.may_exchange(len) {
            return None;
        }
        debug_assert_eq!(scratch.len(), self.config.scratch_size);
        let fresh = self.lease(scratch.len())?;
        Some(std::mem::replace(scratch, fresh))
    }

    /// Exchanges the scratch buffer, which holds `kept` and nothing else, for one of its size that has come back since the last
    /// time: the next message is then read to where the last one was, which is in the cache. Returns where `kept` lies then.
    pub(crate) fn warm(&mut self, scratch: &mut Buffer, kept: Range<usize>) -> Range<usize> {
        let mut classes = self.classes.iter_mut();
        let Some(class) = classes.find(|class| class.size == scratch.len()) else {
            return kept;
        };
        let (true, Some(last)) = (std::mem::take(&mut class.is_warm), class.free.last_mut()) else {
            return kept;
        };
        let start = place(last, kept.len());
        let moved = start..start + kept.len();
        last[moved.clone()].copy_from_slice(&scratch[kept]);
        std::mem::swap(last, scratch);
        moved
    }

    /// True exactly when `exchange` would be done for `len` bytes.
    pub(crate) fn may_exchange(&mut self, len: usize) -> bool {
        let size = self.config.scratch_size;
        let least = (size / LEAST_SHARE).min(MAX_MOVED);
        let is_worth_it = self.config.large_buffer_size <= size && least <= len;
        is_worth_it && self.may_hold(size, len) && self.has_spare(size)
    }

    /// True exactly when a buffer of `size` bytes is not too large for `len` bytes that have arrived: one large-message buffer
    /// and [`GROWTH`] times what is there, so that a peer pays for what it makes us hold.
    pub(crate) fn may_hold(&self, size: usize, len: usize) -> bool {
        let follows = len.saturating_mul(GROWTH);
        size <= self.config.large_buffer_size.saturating_add(follows)
    }

    /// True exactly when two buffers of `len` bytes could be leased.
    pub(crate) fn has_spare(&mut self, len: usize) -> bool {
        let Some(index) = self.class_for(len) else {
            return false;
        };
        let class = &self.classes[index];
        let reusable = self.config.max_buffer_memory - self.bytes + self.free_bytes;
        class.leased.saturating_add(2) <= self.max_leased(index)
            && reusable >= class.size.saturating_mul(2)
    }

    /// The smallest class of buffers of `len` bytes or more.
    #[inline]
    fn class_for(&mut self, len: usize) -> Option<usize> {
        let found = self.classes.iter().position(|class| class.size >= len);
        found.or_else(|| self.make_class_for(len))
    }

    #[cold]
    fn make_class_for(&mut self, len: usize) -> Option<usize> {
        if len > self.largest() {
            return None;
        }
        let mut index = self.classes.len();
        while self.size_of(index) < len {
            index += 1;
        }
        self.make_classes(index);
        Some(index)
    }

    /// Makes the classes up to this one.
    fn make_classes(&mut self, index: usize) {
        while self.classes.len() <= index {
            let class = Class::new(self.size_of(self.classes.len()));
            self.classes.reserve_exact(1);
            self.classes.push(class);
        }
    }

    /// Size of the buffers of a class in bytes.
    fn size_of(&self, index: usize) -> usize {
        if index == READ {
            return self.config.read_buffer_size;
        }
        let scratch = self.config.scratch_size;
        (LARGE..index).fold(self.config.large_buffer_size, |size, _| {
            let next = size.saturating_mul(GROWTH).min(self.largest());
            // There is a class of buffers that the scratch buffer can be exchanged for.
            if size < scratch && scratch < next {
                scratch
            } else {
                next
            }
        })
    }

    /// How many buffers of a class may be leased.
    #[inline]
    fn max_leased(&self, index: usize) -> usize {
        match index {
            READ => self.config.max_read_buffers,
            LARGE => self.config.max_large_buffers,
            _ => usize::MAX,
        }
    }

    #[cold]
    fn allocate_within_budget(&mut self, index: usize) -> Option<Buffer> {
        let size = self.classes[index].size;
        if !self.make_room(size) {
            return None;
        }
        self.bytes += size;
        self.peak_bytes = self.peak_bytes.max(self.bytes);
        Some(allocate(size))
    }

    /// Frees buffers that nobody uses, the largest first, until `size` more bytes fit under the budget.
    fn make_room(&mut self, size: usize) -> bool {
        let max_bytes = self.config.max_buffer_memory;
        for class in self.classes.iter_mut().rev() {
            while max_bytes - self.bytes < size {
                let Some(buffer) = class.free.pop() else {
                    break;
                };
                self.bytes -= buffer.len();
                self.free_bytes -= buffer.len();
            }
        }
        max_bytes - self.bytes >= size
    }

    /// True exactly when the next `lease(len)` will succeed.
    pub(crate) fn can_lease(&mut self, len: usize) -> bool {
        self.reclaim();
        let Some(index) = self.class_for(len) else {
            return false;
        };
        let class = &self.classes[index];
        let reusable = self.config.max_buffer_memory - self.bytes + self.free_bytes;
        class.leased < self.max_leased(index) && (!class.free.is_empty() || reusable >= class.size)
    }

    pub(crate) fn give_back(&mut self, buffer: Buffer) {
        let size = buffer.len();
        let Some(class) = self.classes.iter_mut().find(|class| class.size == size) else {
            debug_assert!(false, "a buffer of {size} bytes is not from this pool");
            return;
        };
        class.leased -= 1;
        if self.free_bytes + size <= self.config.max_idle_buffer_memory {
            class.free.push(buffer);
            self.free_bytes += size;
            class.is_warm = true;
        } else {
            self.bytes -= size;
        }
        self.invariants();
    }

    /// The buffer as something that the application may keep: dropping it brings it home.
    pub(crate) fn entrust(&mut self, buffer: Buffer, contents: Range<usize>) -> PoolBuf {
        debug_assert!(contents.end <= buffer.len());
        PoolBuf::new(buffer, contents, self.home.get_or_insert_default())
    }

    /// Takes in the buffers that the application has dropped.
    pub(crate) fn reclaim(&mut self) {
        while let Some(buffer) = self.home.as_ref().and_then(|home| home.take()) {
            self.give_back(buffer);
        }
    }

    /// Size of the largest buffers in bytes.
    pub(crate) fn largest(&self) -> usize {
        let config = &self.config;
        // A message that waits to be written has its header before it; and what one read brought may have to be kept whole,
        // however small its messages are.
        let slack = match config.compression {
            Compression::Off => 0,
            _ => Rules::slack(config.max_message_size),
        };
        (config.max_message_size + slack + MAX_HEADER_LEN)
            .max(config.scratch_size)
            .max(config.large_buffer_size)
    }

    /// Size of the fixed read buffers in bytes.
    #[inline]
    pub(crate) fn read_buffer_size(&self) -> usize {
        self.config.read_buffer_size
    }

    /// Size of what a read can bring in bytes.
    #[inline]
    pub(crate) fn scratch_size(&self) -> usize {
        self.config.scratch_size
    }

    /// Size of the large-message buffers in bytes.
    #[inline]
    pub(crate) fn large_buffer_size(&self) -> usize {
        self.config.large_buffer_size
    }

    pub(crate) fn read_buffers(&self) -> Occupancy {
        self.occupancy(READ)
    }

    pub(crate) fn large_buffers(&self) -> Occupancy {
        self.occupancy(LARGE)
    }

    fn occupancy(&self, index: usize) -> Occupancy {
        let class = self.classes.get(index);
        Occupancy {
            current: class.map_or(0, |class| class.leased),
            peak: class.map_or(0, |class| class.peak),
            max: self.max_leased(index),
        }
    }

    /// Bytes of all buffers, leased and free.
    pub(crate) fn memory(&self) -> Occupancy {
        Occupancy {
            current: self.bytes,
            peak: self.peak_bytes,
            max: self.config.max_buffer_memory,
        }
    }

    /// Buffers that are leased now, of all classes.
    #[cfg(test)]
    pub(crate) fn leased(&self) -> usize {
        self.classes.iter().map(|class| class.leased).sum()
    }

    fn invariants(&self) {
        debug_assert!(self.free_bytes <= self.bytes && self.bytes <= self.config.max_buffer_memory);
        debug_assert!(self.free_bytes <= self.config.max_idle_buffer_memory);
        debug_assert_eq!(
            self.free_bytes,
            self.classes
                .iter()
                .map(|class| class.free.len() * class.size)
                .sum::<usize>()
        );
        debug_assert_eq!(
            self.bytes - self.free_bytes,
            self.classes
                .iter()
                .map(|class| class.leased * class.size)
                .sum::<usize>()
        );
    }
}

impl Class {
    fn new(size: usize) -> Self {
        Self {
            size,
            free: Vec::new(),
            is_warm: false,
            leased: 0,
            peak: 0,
        }
    }
}

/// Zeroed by the allocator: pages that are never written to never become resident.
fn allocate(size: usize) -> Buffer {
    vec![0; size].into_boxed_slice()
}

#[cfg(test)]
mod tests {
    use rand_chacha::{
        ChaCha8Rng,
        rand_core::{Rng, SeedableRng},
    };

    use super::*;

    fn config() -> Config {
        Config::default()
            .read_buffer_size(1000)
            .large_buffer_size(4000)
            .max_message_size(50_000)
            .scratch_size(20_000)
            .initial_read_buffers(2)
            .initial_large_buffers(1)
            .max_read_buffers(3)
            .max_large_buffers(2)
            .max_buffer_memory(100_000)
            .max_idle_buffer_memory(20_000)
    }

    #[test]
    fn the_smallest_class_that_fits_is_leased() {
        let mut pool = BufferPool::new(Arc::new(config()));
        let sizes: Vec<_> = [0, 1000, 1001, 4000, 4001, 16_001, 20_001]
            .into_iter()
            .map(|len| {
                let buffer = pool.lease(len).unwrap();
                let size = buffer.len();
                pool.give_back(buffer);
                size
            })
            .collect();
        // The scratch buffer is of a class, too.
        assert_eq!(sizes, [1000, 1000, 4000, 4000, 16_000, 20_000, 50_014]);
        assert!(pool.lease(50_015).is_none());
    }

    #[test]
    fn the_scratch_buffer_is_the_one_that_came_back_last() {
        let mut pool = BufferPool::new(Arc::new(config().max_idle_buffer_memory(60_000)));
        let mut scratch = allocate(20_000);
        let place = scratch.as_ptr();
        let message = pool.exchange(&mut scratch, 20_000).unwrap();
        assert_ne!(scratch.as_ptr(), place);
        assert_eq!(pool.warm(&mut scratch, 3..5), 3..5);
        assert_ne!(scratch.as_ptr(), place);
        // As what the application drops.
        drop(pool.entrust(message, 0..20_000));
        pool.reclaim();
        scratch[3..5].copy_from_slice(b"ab");
        assert_eq!(pool.warm(&mut scratch, 3..5), 0..2);
        assert_eq!((scratch.as_ptr(), &scratch[..2]), (place, &b"ab"[..]));
        assert_eq!((pool.leased(), pool.free_bytes), (0, 26_000));
        // Nothing has come back since, or nothing of this size.
        let small = pool.lease(1).unwrap();
        pool.give_back(small);
        assert_eq!(pool.warm(&mut scratch, 0..2), 0..2);
        assert_eq!(scratch.as_ptr(), place);
    }

    #[test]
    fn what_is_kept_goes_to_where_more_is_read_behind_it() {
        let config = config()
            .scratch_size(70_000)
            .max_message_size(80_000)
            .max_buffer_memory(400_000)
            .max_idle_buffer_memory(200_000);
        let mut pool = BufferPool::new(Arc::new(config));
        let mut scratch = allocate(70_000);
        let message = pool.exchange(&mut scratch, 70_000).unwrap();
        pool.give_back(message);
        scratch[3..5].copy_from_slice(b"ab");
        let kept = pool.warm(&mut scratch, 3..5);
        assert_eq!(kept.start, place(&scratch, 2));
        assert_eq!(&scratch[kept], b"ab");
    }

    #[test]
    fn a_pool_stops_at_its_bound_and_recovers() {
        let mut pool = BufferPool::new(Arc::new(config()));
        let leased: Vec<_> = (0..3).map(|_| pool.lease(1).unwrap()).collect();
        assert!(!pool.can_lease(1));
        assert!(pool.lease(1).is_none());
        assert_eq!(
            pool.read_buffers(),
            Occupancy {
                current: 3,
                peak: 3,
                max: 3
            }
        );
        leased.into_iter().for_each(|buffer| pool.give_back(buffer));
        assert!(pool.can_lease(1));
        assert_eq!(
            pool.read_buffers(),
            Occupancy {
                current: 0,
                peak: 3,
                max: 3
            }
        );
    }

    #[test]
    fn the_budget_bounds_all_classes_together_and_free_buffers_make_room() {
        let mut pool = BufferPool::new(Arc::new(config()));
        let first = pool.lease(50_000).unwrap();
        let small = pool.lease(1).unwrap();
        assert!(
            pool.lease(50_000).is_none(),
            "51,000 of 100,000 bytes are in use"
        );
        pool.give_back(small);
        let second = pool.lease(16_000).unwrap();
        let third = pool.lease(16_000).unwrap();
        let fourth = pool.lease(16_000).unwrap();
        assert_eq!(
            pool.memory().current,
            99_014,
            "what was free made room, the largest first"
        );
        pool.give_back(third);
        pool.give_back(fourth);
        pool.give_back(first);
        pool.give_back(second);
        assert_eq!(
            pool.memory().current,
            17_000,
            "no more is kept than allowed"
        );
    }

    #[test]
    fn a_dropped_pool_buffer_comes_home() {
        let mut pool = BufferPool::new(Arc::new(config()));
        let buffer = pool.lease(4000).unwrap();
        let taken = pool.entrust(buffer, 0..10);
        assert_eq!(taken.len(), 10);
        assert_eq!(pool.large_buffers().current, 1);
        std::thread::spawn(move || drop(taken)).join().unwrap();
        pool.reclaim();
        assert_eq!(pool.large_buffers().current, 0);
    }

    #[test]
    fn random_leases_keep_the_bounds_and_can_lease_tells_the_truth() {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let mut pool = BufferPool::new(Arc::new(config()));
        let mut held = Vec::new();
        for _ in 0..20_000 {
            if rng.next_u32() % 2 == 0 || held.is_empty() {
                let len = rng.next_u32() as usize % 51_000;
                let promised = pool.can_lease(len);
                let buffer = pool.lease(len);
                assert_eq!(promised, buffer.is_some(), "{len}");
                held.extend(buffer);
            } else {
                let at = rng.next_u32() as usize % held.len();
                pool.give_back(held.swap_remove(at));
            }
            assert_eq!(pool.leased(), held.len());
        }
    }
}
