//! A pool of values whose keys do not outlive them.

use std::fmt;

use slab::Slab;

/// Names one value of a [`Slots`], and never a later one in the same place.
///
/// Shown as `12v3`: index 12, generation 3. Ordered by index.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    index: u32,
    generation: u32,
}

impl Key {
    /// Belongs to nobody.
    pub(crate) const NOBODY: Self = Self {
        index: u32::MAX,
        generation: u32::MAX,
    };

    /// The key that [`index`](Self::index) and [`generation`](Self::generation) were read from.
    pub(crate) fn from_parts(index: u32, generation: u32) -> Self {
        Self { index, generation }
    }

    /// The place in the pool, used again after removal.
    pub(crate) fn index(self) -> u32 {
        self.index
    }

    /// The number of the insertion.
    pub(crate) fn generation(self) -> u32 {
        self.generation
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}v{}", self.index, self.generation)
    }
}

/// A pool that hands out a [`Key`] for every value and refuses keys of values that are gone.
///
/// Generations number the insertions of the whole pool, so a place needs no memory of its former values. They wrap: a
/// key kept over exactly a multiple of 2³² insertions could meet a stranger in its old place.
#[derive(Debug)]
pub(crate) struct Slots<T> {
    entries: Slab<Entry<T>>,
    /// Entries that are reserved.
    reserved: usize,
    /// Generation of the next value.
    next_generation: u32,
}

#[derive(Debug)]
enum Entry<T> {
    Value {
        generation: u32,
        value: T,
    },
    /// The value is to come; meanwhile its key belongs to somebody who is known by another.
    Reserved {
        generation: u32,
        by: Key,
    },
}

impl<T> Entry<T> {
    fn value(&self) -> Option<(u32, &T)> {
        match self {
            Self::Value { generation, value } => Some((*generation, value)),
            Self::Reserved { .. } => None,
        }
    }
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self::with_capacity(0)
    }
}

impl<T> Slots<T> {
    /// A pool that holds `capacity` values without allocating again.
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        Self {
            entries: Slab::with_capacity(capacity),
            reserved: 0,
            next_generation: 0,
        }
    }

    /// Puts a value in the place that was vacated last, else in a new one.
    ///
    /// # Panics
    ///
    /// If the pool holds 2³² values; the owner's limits are far below.
    pub(crate) fn insert(&mut self, value: T) -> Key {
        let generation = self.draw_generation();
        self.put(generation, Entry::Value { generation, value })
    }

    /// Keeps a place, and the key of a value that is to come. Until [`fill`](Self::fill) brings it or
    /// [`release`](Self::release) gives the place up, the key has no value, but [`reserved_by`](Self::reserved_by) says `by`.
    pub(crate) fn reserve(&mut self, by: Key) -> Key {
        self.reserved += 1;
        let generation = self.draw_generation();
        self.put(generation, Entry::Reserved { generation, by })
    }

    fn draw_generation(&mut self) -> u32 {
        let generation = self.next_generation;
        self.next_generation = generation.wrapping_add(1);
        generation
    }

    fn put(&mut self, generation: u32, entry: Entry<T>) -> Key {
        Key {
            index: narrow(self.entries.insert(entry)),
            generation,
        }
    }

    /// Who reserved the place with this key; `None` when its value is there, or the place is given up.
    pub(crate) fn reserved_by(&self, key: Key) -> Option<Key> {
        match self.entries.get(key.index as usize) {
            Some(&Entry::Reserved { generation, by }) if generation == key.generation => Some(by),
            _ => None,
        }
    }

    /// Brings the value of a place that is reserved. Gives it back when it is not.
    pub(crate) fn fill(&mut self, key: Key, value: T) -> Result<(), T> {
        if self.reserved_by(key).is_none() {
            return Err(value);
        }
        let generation = key.generation;
        self.entries[key.index as usize] = Entry::Value { generation, value };
        self.reserved -= 1;
        Ok(())
    }

    /// Gives a place up that is reserved. Does nothing to one that has its value.
    pub(crate) fn release(&mut self, key: Key) {
        if self.reserved_by(key).is_some() {
            self.entries.remove(key.index as usize);
            self.reserved -= 1;
        }
    }

    /// The value, unless it is gone.
    pub(crate) fn get(&self, key: Key) -> Option<&T> {
        match self.entries.get(key.index as usize)? {
            Entry::Value { generation, value } if *generation == key.generation => Some(value),
            _ => None,
        }
    }

    /// The value, unless it is gone.
    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        match self.entries.get_mut(key.index as usize)? {
            Entry::Value { generation, value } if *generation == key.generation => Some(value),
            _ => None,
        }
    }

    /// Takes the value out, unless it is gone.
    pub(crate) fn remove(&mut self, key: Key) -> Option<T> {
        self.get(key)?;
        match self.entries.try_remove(key.index as usize)? {
            Entry::Value { value, .. } => Some(value),
            Entry::Reserved { .. } => None,
        }
    }

    /// Values in the pool.
    pub(crate) fn len(&self) -> usize {
        self.entries.len() - self.reserved
    }

    /// True exactly when the pool holds no value.
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Values that fit without allocating again.
    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.entries.capacity()
    }

    /// All values by rising index. Takes time for vacant places too.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        let key = |index, generation| Key {
            index: narrow(index),
            generation,
        };
        self.entries.iter().filter_map(move |(index, entry)| {
            let (generation, value) = entry.value()?;
            Some((key(index, generation), value))
        })
    }

    /// All values by rising index, to be changed.
    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.entries
            .iter_mut()
            .filter_map(|(_, entry)| match entry {
                Entry::Value { value, .. } => Some(value),
                Entry::Reserved { .. } => None,
            })
    }

    /// All keys by rising index. Takes time for vacant places too.
    pub(crate) fn keys(&self) -> impl Iterator<Item = Key> {
        self.iter().map(|(key, _)| key)
    }

    /// Above every index in use.
    pub(crate) fn index_bound(&self) -> u32 {
        narrow(self.entries.capacity())
    }

    /// The value now at `index` and its key, for scans that change the pool as they go.
    #[inline]
    pub(crate) fn at(&self, index: u32) -> Option<(Key, &T)> {
        let (generation, value) = self.entries.get(index as usize)?.value()?;
        Some((Key { index, generation }, value))
    }

    /// The key of the value now at `index`.
    pub(crate) fn key_at(&self, index: u32) -> Option<Key> {
        self.at(index).map(|(key, _)| key)
    }
}

/// A place in the slab as a key states it.
fn narrow(index: usize) -> u32 {
    u32::try_from(index).expect("a pool holds fewer than 2^32 values")
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{Rng, SeedableRng};

    use super::{Entry, Key, Slots};

    #[test]
    fn removed_key_does_not_meet_the_next_value() {
        let mut slots = Slots::with_capacity(1);
        let first = slots.insert("first");
        assert_eq!(slots.remove(first), Some("first"));
        let second = slots.insert("second");
        assert_eq!(second.index(), first.index());
        assert_eq!(slots.get(first), None);
        assert_eq!(slots.get_mut(first), None);
        assert_eq!(slots.remove(first), None);
        assert_eq!(slots.get(second), Some(&"second"));
        assert_eq!(slots.key_at(second.index()), Some(second));
        assert_eq!(slots.key_at(u32::MAX), None);
    }

    #[test]
    fn key_parts_order_and_form() {
        let key = Key::from_parts(12, 3);
        assert_eq!((key.index(), key.generation()), (12, 3));
        assert_eq!(format!("{key:?}"), "12v3");
        assert!(key < Key::from_parts(13, 0));
    }

    #[test]
    fn generations_wrap() {
        let mut slots = Slots::with_capacity(2);
        slots.next_generation = u32::MAX;
        let (last, first) = (slots.insert('a'), slots.insert('b'));
        assert_eq!((last.generation(), first.generation()), (u32::MAX, 0));
        assert_eq!(
            (slots.get(last), slots.get(first)),
            (Some(&'a'), Some(&'b'))
        );
    }

    #[test]
    fn entry_is_lean() {
        assert_eq!(size_of::<Entry<[u64; 8]>>(), 8 + size_of::<[u64; 8]>());
    }

    #[test]
    fn a_reserved_place_has_a_key_and_no_value() {
        let mut slots = Slots::with_capacity(2);
        let owner = Key::from_parts(7, 7);
        let (first, second) = (slots.reserve(owner), slots.reserve(Key::NOBODY));
        assert_eq!((slots.len(), slots.is_empty()), (0, true));
        assert_eq!(slots.get(first), None);
        assert_eq!(slots.get_mut(first), None);
        assert_eq!(slots.remove(first), None);
        assert_eq!(slots.key_at(first.index()), None);
        assert!(slots.keys().next().is_none() && slots.values_mut().next().is_none());
        assert_eq!(slots.reserved_by(first), Some(owner));

        assert_eq!(slots.fill(first, 'a'), Ok(()));
        assert_eq!(slots.reserved_by(first), None);
        assert_eq!(slots.fill(first, 'b'), Err('b'));
        slots.release(first);
        assert_eq!((slots.get(first), slots.len()), (Some(&'a'), 1));

        slots.release(second);
        assert_eq!(slots.fill(second, 'c'), Err('c'));
        let third = slots.insert('d');
        assert_eq!(third.index(), second.index());
        assert_eq!(slots.reserved_by(second), None);
        assert_eq!((slots.get(second), slots.len()), (None, 2));
    }

    #[test]
    fn fuzz_against_a_map() {
        let mut rng = ChaCha8Rng::seed_from_u64(0x736c_6f74);
        let mut slots = Slots::with_capacity(64);
        let capacity = slots.capacity();
        let mut model = HashMap::<Key, u32>::new();
        let mut issued = vec![Key::from_parts(0, u32::MAX)];
        for _ in 0..50_000 {
            // Among the last keys, so that living ones are hit often.
            let recent = issued.len().min(100);
            let key = issued[issued.len() - 1 - rng.next_u32() as usize % recent];
            assert_eq!(slots.get(key), model.get(&key));
            let value = rng.next_u32();
            match value % 4 {
                0 => assert_eq!(slots.remove(key), model.remove(&key)),
                1 => assert_eq!(
                    slots.get_mut(key).map(|old| *old = value),
                    model.get_mut(&key).map(|old| *old = value)
                ),
                _ if model.len() < 64 => {
                    let key = slots.insert(value);
                    assert_eq!(model.insert(key, value), None);
                    issued.push(key);
                }
                _ => check(&slots, &model),
            }
            assert_eq!(
                (slots.len(), slots.is_empty()),
                (model.len(), model.is_empty())
            );
        }
        assert_eq!(slots.capacity(), capacity);
    }

    fn check(slots: &Slots<u32>, model: &HashMap<Key, u32>) {
        let listed: Vec<_> = slots.iter().map(|(key, &value)| (key, value)).collect();
        let mut expected: Vec<_> = model.iter().map(|(&key, &value)| (key, value)).collect();
        expected.sort_unstable();
        assert_eq!(listed, expected);
        assert!(slots.keys().eq(listed.iter().map(|&(key, _)| key)));
        let scanned = (0..64).filter_map(|index| slots.key_at(index));
        assert!(scanned.eq(slots.keys()));
    }
}
