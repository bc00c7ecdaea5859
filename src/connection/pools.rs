use std::sync::Arc;

use super::{
    Agreement,
    cork::Cork,
    deflaters::{Deflaters, OwnCompressor},
    fan::Fan,
    inbox::Unfinished,
    queue::Queue,
};
use crate::{
    config::Config,
    memory::{Buffer, BufferPool, Recycler},
    protocol::{Decompressor, DeflateParams, MaskKeys},
};

/// What connections lease and draw from.
pub(crate) struct Pools {
    pub(crate) buffers: BufferPool,
    pub(crate) unfinished: Recycler<Unfinished>,
    pub(crate) queues: Recycler<Queue>,
    pub(crate) cork: Box<Cork>,
    /// `None` for a lone client: it has nobody to share with.
    pub(crate) fan: Option<Box<Fan>>,
    pub(crate) mask_keys: MaskKeys,
    /// `None` when nothing is compressed.
    pub(crate) deflaters: Option<Box<Deflaters>>,
}

impl Pools {
    /// `alone`: for one connection.
    pub(crate) fn new(config: &Arc<Config>, alone: bool) -> Self {
        Self {
            buffers: BufferPool::new(Arc::clone(config)),
            unfinished: Recycler::new(),
            queues: Recycler::new(),
            cork: Box::new(Cork::new(alone)),
            fan: (!alone).then(Box::default),
            mask_keys: MaskKeys::new(alone),
            deflaters: Deflaters::new(config),
        }
    }

    /// A server is about to answer: what it takes up, and what the connection needs for that.
    pub(crate) fn agree(&mut self, params: &mut Option<DeflateParams>) -> Agreement {
        match (&mut self.deflaters, params) {
            (Some(deflaters), Some(params)) => deflaters.accept(params),
            (_, params) => {
                *params = None;
                Agreement::default()
            }
        }
    }

    /// A server has answered an offer of ours: what it has taken up, `None` for nothing. `keeps_peers`: what was offered.
    pub(crate) fn agreed(
        &mut self,
        params: Option<&DeflateParams>,
        keeps_peers: bool,
    ) -> Agreement {
        match (&mut self.deflaters, params) {
            (Some(deflaters), Some(params)) => deflaters.accepted(params, keeps_peers),
            (Some(deflaters), None) => {
                deflaters.not_accepted(keeps_peers);
                Agreement::default()
            }
            (None, _) => Agreement::default(),
        }
    }

    /// A connection is over, or never began: what was reserved for it goes back, with the windows that it has used.
    pub(crate) fn take_back(
        &mut self,
        agreement: &Agreement,
        compressor: Option<Box<OwnCompressor>>,
        decompressor: Option<Box<Decompressor>>,
    ) {
        if let Some(deflaters) = &mut self.deflaters {
            deflaters.take_back(agreement, compressor, decompressor);
        }
    }

    /// The turn is over: what is kept for the next one is what a pool keeps.
    pub(crate) fn end_turn(&mut self) {
        self.cork.release(&mut self.buffers);
        if let Some(fan) = &mut self.fan {
            fan.release(&mut self.buffers);
        }
        self.buffers.reclaim();
    }

    /// Gives a buffer back; an empty one was never leased.
    #[inline]
    pub(crate) fn give_back(&mut self, buffer: Buffer) {
        if !buffer.is_empty() {
            self.buffers.give_back(buffer);
        }
    }
}
