use super::{inbox::Unfinished, queue::Queue};
use crate::{
    config::Config,
    memory::{Buffer, BufferPool, Recycler},
};

/// How many boxes of unfinished state are kept for reuse; above it they are freed. One box is at most about a kilobyte.
const MAX_RECYCLED: usize = 1024;

/// The memory that connections lease from.
pub(crate) struct Pools {
    pub(crate) buffers: BufferPool,
    pub(crate) unfinished: Recycler<Unfinished>,
    pub(crate) queues: Recycler<Queue>,
}

impl Pools {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            buffers: BufferPool::new(config),
            unfinished: Recycler::new(MAX_RECYCLED),
            queues: Recycler::new(MAX_RECYCLED),
        }
    }

    /// Gives a buffer back; an empty one was never leased.
    #[inline]
    pub(crate) fn give_back(&mut self, buffer: Buffer) {
        if !buffer.is_empty() {
            self.buffers.give_back(buffer);
        }
    }
}
