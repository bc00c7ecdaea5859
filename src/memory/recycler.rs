/// Boxes that are kept for reuse instead of being freed, the hottest on top.
///
/// For the state that a connection needs only while something is unfinished: the box moves into the connection and comes
/// back, so an idle connection does not hold it and a busy one does not allocate.
pub(crate) struct Recycler<T> {
    free: Vec<Box<T>>,
}

/// How many boxes are kept; above it they are freed. One of ours is at most about a kilobyte.
const MAX_FREE: usize = 1024;

impl<T: Default> Recycler<T> {
    pub(crate) fn new() -> Self {
        Self { free: Vec::new() }
    }

    /// A box in the state that `give_back` was handed, or a new one.
    pub(crate) fn take(&mut self) -> Box<T> {
        self.free.pop().unwrap_or_default()
    }

    /// `value` must be as good as new.
    pub(crate) fn give_back(&mut self, value: Box<T>) {
        if self.free.len() < MAX_FREE {
            self.free.push(value);
        }
    }
}
