use super::{inbox::Unfinished, mask_keys::MaskKeys, queue::Queue};
use crate::{
    config::Config,
    memory::{Buffer, BufferPool, Recycler},
};

/// How many boxes of unfinished state are kept for reuse; above it they are freed. One box is at most about a kilobyte.
const MAX_RECYCLED: usize = 1024;

/// What connections lease and draw from.
pub(crate) struct Pools {
    pub(crate) buffers: BufferPool,
    pub(crate) unfinished: Recycler<Unfinished>,
    pub(crate) queues: Recycler<Queue>,
    pub(crate) mask_keys: MaskKeys,
}

impl Pools {
    /// `alone`: for one connection.
    pub(crate) fn new(config: &Config, alone: bool) -> Self {
        Self {
            buffers: BufferPool::new(config),
            unfinished: Recycler::new(MAX_RECYCLED),
            queues: Recycler::new(MAX_RECYCLED),
            mask_keys: MaskKeys::new(alone),
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
