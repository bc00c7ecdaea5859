//! Deadlines that can be moved and taken back.

use std::num::NonZeroU32;
use std::time::Instant;

/// Children per node of the heap: half the depth of a binary one, and siblings lie side by side.
const ARITY: usize = 4;

/// Names one timer, and no other after that one has fired or was removed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct TimerId {
    index: u32,
    /// Never zero, so that an `Option` of it takes no more room.
    generation: NonZeroU32,
}

/// Deadlines, earliest first, each with the key of its owner.
///
/// A heap whose entries know their places, so a timer is removed or moved when its reason ends: nothing stale is left
/// to fire. All changes take logarithmic time. Equal deadlines fire in the order in which they were set.
#[derive(Debug)]
pub(crate) struct Timers<K> {
    /// An `ARITY`-ary heap: no entry is due before its parent. Holds one entry per armed slot, at the slot's
    /// `position`.
    heap: Vec<Entry>,
    /// What ids point to. Never shrinks: free slots form a list that begins at `first_free`.
    slots: Vec<Slot<K>>,
    first_free: Option<u32>,
    /// Counts the deadlines set; too wide to wrap.
    next_sequence: u64,
}

/// Ordered by deadline, then by the order of setting: the fields stand in the order of comparison.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Entry {
    at: Instant,
    /// Different for every entry.
    sequence: u64,
    slot: u32,
}

#[derive(Debug)]
struct Slot<K> {
    /// Of the timer that is here, or of the next one. Wraps: an id kept over exactly a multiple of 2³² - 1 timers in
    /// one slot could meet a stranger.
    generation: NonZeroU32,
    state: State<K>,
}

#[derive(Debug)]
enum State<K> {
    /// `position` is the place of its entry in the heap.
    Armed {
        position: u32,
        key: K,
    },
    Free {
        next: Option<u32>,
    },
}

impl<K: Copy> Timers<K> {
    /// Holds `capacity` timers at a time without allocating again.
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        Self {
            heap: Vec::with_capacity(capacity),
            slots: Vec::with_capacity(capacity),
            first_free: None,
            next_sequence: 0,
        }
    }

    /// Sets a timer that is due at `at`.
    ///
    /// # Panics
    ///
    /// If 2³² timers are set; the owner's limits are far below.
    pub(crate) fn insert(&mut self, at: Instant, key: K) -> TimerId {
        let position = self.heap.len();
        let id = self.arm_slot(State::Armed {
            position: narrow(position),
            key,
        });
        let sequence = self.take_sequence();
        self.heap.push(Entry {
            at,
            sequence,
            slot: id.index,
        });
        self.sift_up(position);
        self.invariants();
        id
    }

    /// Takes a timer back and returns its key; `None` if it has fired or was removed.
    pub(crate) fn remove(&mut self, id: TimerId) -> Option<K> {
        let (position, key) = self.armed(id)?;
        self.heap.swap_remove(position);
        if position < self.heap.len() {
            self.restore(position);
        }
        self.free_slot(id);
        self.invariants();
        Some(key)
    }

    /// As `reschedule`, if that makes the deadline earlier; otherwise it stays as it is.
    pub(crate) fn advance(&mut self, id: TimerId, at: Instant) -> bool {
        match self.armed(id) {
            Some((position, _)) if self.heap[position].at <= at => true,
            _ => self.reschedule(id, at),
        }
    }

    /// Moves the deadline, as if the timer had been set just now; false if it has fired or was removed.
    pub(crate) fn reschedule(&mut self, id: TimerId, at: Instant) -> bool {
        let Some((position, _)) = self.armed(id) else {
            return false;
        };
        let sequence = self.take_sequence();
        self.heap[position] = Entry {
            at,
            sequence,
            slot: id.index,
        };
        self.restore(position);
        self.invariants();
        true
    }

    /// The earliest deadline.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.heap.first().map(|entry| entry.at)
    }

    /// Takes out the earliest timer that is due: its deadline is `now` or before.
    #[cfg(test)]
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<(TimerId, K)> {
        self.pop_due_before(now, self.mark())
    }

    /// Stands between the deadlines that were set before and those that are set from now on.
    pub(crate) fn mark(&self) -> u64 {
        self.next_sequence
    }

    /// As `pop_due`, but leaves deadlines that were set behind `mark`, which must not lie before `now`.
    pub(crate) fn pop_due_before(&mut self, now: Instant, mark: u64) -> Option<(TimerId, K)> {
        let first = self
            .heap
            .first()
            .filter(|entry| entry.at <= now && entry.sequence < mark)?;
        let index = first.slot;
        let id = TimerId {
            index,
            generation: self.slots[index as usize].generation,
        };
        self.remove(id).map(|key| (id, key))
    }

    /// Timers set.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.heap.len()
    }

    /// Position in the heap and key of a timer, unless the id is stale.
    fn armed(&self, id: TimerId) -> Option<(usize, K)> {
        let slot = self.slots.get(id.index as usize)?;
        match slot.state {
            State::Armed { position, key } if slot.generation == id.generation => {
                Some((position as usize, key))
            }
            _ => None,
        }
    }

    fn take_sequence(&mut self) -> u64 {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        sequence
    }

    /// Puts the state into the slot that was freed last, else into a new one.
    fn arm_slot(&mut self, armed: State<K>) -> TimerId {
        let Some(index) = self.first_free else {
            let (index, generation) = (narrow(self.slots.len()), NonZeroU32::MIN);
            self.slots.push(Slot {
                generation,
                state: armed,
            });
            return TimerId { index, generation };
        };
        let slot = &mut self.slots[index as usize];
        if let State::Free { next } = std::mem::replace(&mut slot.state, armed) {
            self.first_free = next;
        }
        TimerId {
            index,
            generation: slot.generation,
        }
    }

    /// Makes the slot's ids stale and its room the next to be used.
    fn free_slot(&mut self, id: TimerId) {
        let slot = &mut self.slots[id.index as usize];
        slot.generation = slot.generation.checked_add(1).unwrap_or(NonZeroU32::MIN);
        slot.state = State::Free {
            next: self.first_free,
        };
        self.first_free = Some(id.index);
    }

    /// Moves the entry at `position`, the only one out of order, to where it belongs.
    fn restore(&mut self, position: usize) {
        let position = self.sift_up(position);
        self.sift_down(position);
    }

    /// Moves the entry towards the root while it is due before its parent, and returns its place.
    fn sift_up(&mut self, mut position: usize) -> usize {
        let entry = self.heap[position];
        while position > 0 {
            let parent = (position - 1) / ARITY;
            if self.heap[parent] < entry {
                break;
            }
            self.place(position, self.heap[parent]);
            position = parent;
        }
        self.place(position, entry);
        position
    }

    /// Moves the entry away from the root while a child is due before it.
    fn sift_down(&mut self, mut position: usize) {
        let entry = self.heap[position];
        while let Some(child) = self
            .earliest_child(position)
            .filter(|&child| self.heap[child] < entry)
        {
            self.place(position, self.heap[child]);
            position = child;
        }
        self.place(position, entry);
    }

    fn earliest_child(&self, position: usize) -> Option<usize> {
        let first = ARITY * position + 1;
        let end = self.heap.len().min(first + ARITY);
        (first..end).min_by_key(|&child| self.heap[child])
    }

    /// Writes an entry to the heap, and its place to its slot.
    fn place(&mut self, position: usize, entry: Entry) {
        self.heap[position] = entry;
        if let State::Armed {
            position: known, ..
        } = &mut self.slots[entry.slot as usize].state
        {
            *known = narrow(position);
        }
    }

    /// The sentences at the fields of [`Timers`] hold.
    fn invariants(&self) {
        // Linear time: with many timers a debug build would do nothing else.
        if !cfg!(debug_assertions) || self.heap.len() > 128 {
            return;
        }
        for (position, entry) in self.heap.iter().enumerate() {
            assert!(position == 0 || self.heap[(position - 1) / ARITY] < *entry);
            let state = &self.slots[entry.slot as usize].state;
            assert!(
                matches!(state, State::Armed { position: known, .. } if *known as usize == position)
            );
        }
        let armed = self
            .slots
            .iter()
            .filter(|slot| matches!(slot.state, State::Armed { .. }));
        assert_eq!(armed.count(), self.heap.len());
    }
}

/// A count of timers as ids and slots state it.
fn narrow(count: usize) -> u32 {
    u32::try_from(count).expect("fewer than 2^32 timers are set")
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::time::{Duration, Instant};

    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{Rng, SeedableRng};

    use super::{Entry, TimerId, Timers};

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    fn drain(timers: &mut Timers<char>, now: Instant) -> String {
        std::iter::from_fn(|| timers.pop_due(now))
            .map(|(_, key)| key)
            .collect()
    }

    #[test]
    fn sizes() {
        assert_eq!(size_of::<Option<TimerId>>(), 8);
        assert!(size_of::<Entry>() <= 32);
    }

    #[test]
    fn fires_in_order_and_not_before_the_deadline() {
        let start = Instant::now();
        let mut timers = Timers::with_capacity(4);
        for (key, at) in [('c', 3), ('a', 1), ('d', 4), ('b', 2)] {
            timers.insert(start + seconds(at), key);
        }
        assert_eq!(timers.next_deadline(), Some(start + seconds(1)));
        assert_eq!(
            timers.pop_due(start + seconds(1) - Duration::from_nanos(1)),
            None
        );
        assert_eq!(drain(&mut timers, start + seconds(3)), "abc");
        assert_eq!(
            (timers.len(), timers.next_deadline()),
            (1, Some(start + seconds(4)))
        );
    }

    #[test]
    fn equal_deadlines_fire_in_the_order_of_setting() {
        let at = Instant::now();
        let mut timers = Timers::with_capacity(8);
        let ids: Vec<_> = "abcdefgh"
            .chars()
            .map(|key| timers.insert(at, key))
            .collect();
        timers.remove(ids[1]);
        timers.reschedule(ids[0], at);
        timers.insert(at, 'i');
        assert_eq!(drain(&mut timers, at), "cdefghai");
    }

    #[test]
    fn stale_ids_are_refused() {
        let at = Instant::now();
        let mut timers = Timers::with_capacity(1);
        let fired = timers.insert(at, 'a');
        assert_eq!(timers.pop_due(at), Some((fired, 'a')));
        let removed = timers.insert(at, 'b');
        assert_eq!(timers.remove(removed), Some('b'));
        let current = timers.insert(at, 'c');
        assert_eq!((fired.index, removed.index), (current.index, current.index));
        for stale in [fired, removed] {
            assert_eq!(timers.remove(stale), None);
            assert!(!timers.reschedule(stale, at + seconds(9)));
        }
        assert_eq!(timers.pop_due(at), Some((current, 'c')));
    }

    #[test]
    fn generations_wrap_past_zero() {
        let at = Instant::now();
        let mut timers = Timers::with_capacity(1);
        timers.insert(at, 'a');
        timers.slots[0].generation = NonZeroU32::MAX;
        assert!(timers.pop_due(at).is_some());
        assert_eq!(timers.insert(at, 'b').generation, NonZeroU32::MIN);
    }

    /// Timers in the order of setting.
    #[derive(Default)]
    struct Model(Vec<(Instant, TimerId, u32)>);

    impl Model {
        fn remove(&mut self, id: TimerId) -> Option<u32> {
            let position = self.0.iter().position(|&(_, known, _)| known == id)?;
            Some(self.0.remove(position).2)
        }

        fn reschedule(&mut self, id: TimerId, at: Instant) -> bool {
            let key = self.remove(id);
            self.0.extend(key.map(|key| (at, id, key)));
            key.is_some()
        }

        fn advance(&mut self, id: TimerId, at: Instant) -> bool {
            let set = self.0.iter().find(|&&(_, known, _)| known == id);
            set.is_some_and(|timer| timer.0 <= at) || self.reschedule(id, at)
        }

        fn pop_due(&mut self, now: Instant) -> Option<(TimerId, u32)> {
            let &(_, id, key) = self
                .0
                .iter()
                .filter(|timer| timer.0 <= now)
                .min_by_key(|timer| timer.0)?;
            self.remove(id);
            Some((id, key))
        }
    }

    #[test]
    fn fuzz_against_a_list() {
        const PEAK: usize = 100;
        let mut rng = ChaCha8Rng::seed_from_u64(0x7469_6d65);
        let mut now = Instant::now();
        let (mut timers, mut model) = (Timers::with_capacity(PEAK), Model::default());
        let capacities = (timers.heap.capacity(), timers.slots.capacity());
        let mut issued = vec![timers.insert(now, 0)];
        model.0.push((now, issued[0], 0));
        for key in 1..60_000 {
            // Few different deadlines, so that many are equal.
            let at = now + seconds(u64::from(rng.next_u32() % 40));
            let recent = issued.len().min(150);
            let id = issued[issued.len() - 1 - rng.next_u32() as usize % recent];
            match rng.next_u32() % 18 {
                0..7 if timers.len() < PEAK => {
                    let id = timers.insert(at, key);
                    model.0.push((at, id, key));
                    issued.push(id);
                }
                7..9 => assert_eq!(timers.remove(id), model.remove(id)),
                9..12 => assert_eq!(timers.reschedule(id, at), model.reschedule(id, at)),
                12..14 => assert_eq!(timers.advance(id, at), model.advance(id, at)),
                14..17 => assert_eq!(timers.pop_due(now), model.pop_due(now)),
                _ => now += seconds(u64::from(rng.next_u32() % 4)),
            }
            assert_eq!(timers.len(), model.0.len());
            assert_eq!(
                timers.next_deadline(),
                model.0.iter().map(|timer| timer.0).min()
            );
        }
        assert_eq!(
            (timers.heap.capacity(), timers.slots.capacity()),
            capacities
        );
    }
}
