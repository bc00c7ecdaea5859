use std::time::Instant;

use super::{Payload, Pools, deflaters::SendWindow, outbox::Outbox};
use crate::{
    memory::Buffer,
    protocol::{Compress, Compressor, Outgoing},
};

/// Compresses what one connection sends (RFC 7692 §7.2.1).
impl Outbox {
    /// True exactly when compression was agreed on.
    #[inline]
    pub(crate) fn compresses(&self) -> bool {
        self.window != SendWindow::NONE
    }

    /// True exactly when a message of `len` bytes is to be compressed.
    #[inline]
    pub(super) fn wants_packing(&self, outgoing: Outgoing, len: usize, pools: &Pools) -> bool {
        self.compresses()
            && match outgoing.compress {
                Compress::Never => false,
                Compress::Always => true,
                Compress::Auto => pools
                    .deflaters
                    .as_ref()
                    .is_some_and(|deflaters| len >= deflaters.threshold),
            }
    }

    /// Compresses a payload into a leased buffer; returns the buffer and how much of it is in use. `None`: as [`Outbox::pack`].
    pub(super) fn pack_payload(
        &mut self,
        payload: &Payload,
        pools: &mut Pools,
    ) -> Option<(Buffer, usize)> {
        let len = payload.len();
        let packed = match payload.as_slice() {
            Some(bytes) => self.pack([bytes], len, pools)?,
            None => {
                let mut joined = pools.buffers.lease(len)?;
                payload.copy_to(&mut joined[..len]);
                let packed = self.pack([&joined[..len]], len, pools);
                pools.give_back(joined);
                packed?
            }
        };
        if !packed.is_space {
            return Some((packed.buffer, packed.len));
        }
        let kept = pools.buffers.lease(packed.len).map(|mut buffer| {
            buffer[..packed.len].copy_from_slice(packed.as_bytes());
            (buffer, packed.len)
        });
        if kept.is_none() {
            self.forget_window();
        }
        packed.give_back(pools);
        kept
    }

    /// Compresses a message of `len` bytes, given in parts. `None` when it does not become shorter or there is no room for it:
    /// then it goes out as it is. Otherwise it has to go out like this, or be [forgotten](Self::forget_window).
    pub(super) fn pack<'a>(
        &mut self,
        message: impl IntoIterator<Item = &'a [u8], IntoIter: Clone>,
        len: usize,
        pools: &mut Pools,
    ) -> Option<Packed> {
        let deflaters = pools.deflaters.as_deref_mut()?;
        let room = Compressor::room_for(len);
        let is_space = room <= deflaters.space.len();
        let mut buffer = if is_space {
            std::mem::take(&mut deflaters.space)
        } else {
            pools.buffers.lease(room)?
        };
        let room = &mut buffer[..room];
        if self.window.is_kept() && self.compressor.is_none() {
            self.compressor = deflaters.lend_compressor(self.window);
        }
        self.window.note_use();
        let packed_len = match &mut self.compressor {
            Some(own) => own.compressor.compress(message, room, true),
            None => deflaters
                .alone(self.window.bits())
                .and_then(|compressor| compressor.compress(message, room, false)),
        };
        let packed = Packed {
            buffer,
            len: packed_len.unwrap_or(usize::MAX),
            is_space,
        };
        if packed.len < len {
            return Some(packed);
        }
        packed.give_back(pools);
        self.forget_window();
        None
    }

    /// When [`Outbox::check_compressor`] is due.
    #[inline]
    pub(super) fn check_at(&self) -> Option<Instant> {
        self.compressor.as_ref()?.check_at
    }

    /// True exactly when a compressor was lent of which it is not known when to check it.
    #[inline]
    pub(crate) fn has_new_compressor(&self) -> bool {
        let own = self.compressor.as_ref();
        own.is_some_and(|own| own.check_at.is_none())
    }

    /// The compressor is to be checked at `next`, if there is one.
    pub(crate) fn check_compressor_at(&mut self, next: Instant) {
        if let Some(own) = &mut self.compressor {
            own.check_at = Some(next);
        }
    }

    /// A compressor that was not used since the last time is for others: the next message starts anew, as a sender may at any
    /// time, and the peer need not know. What it inflates with has to stay as it is. One that was used is checked again at `next`.
    pub(crate) fn check_compressor(&mut self, next: Instant, pools: &mut Pools) {
        if self.window.take_use() {
            self.check_compressor_at(next);
        } else if let (Some(own), Some(deflaters)) = (self.compressor.take(), &mut pools.deflaters)
        {
            deflaters.give_back_compressor(own);
        }
    }

    /// The peer's window and ours are not the same any more: ours starts anew, which the peer need not know.
    pub(super) fn forget_window(&mut self) {
        if let Some(own) = &mut self.compressor {
            own.compressor.reset();
        }
    }
}

/// A message, compressed.
pub(super) struct Packed {
    buffer: Buffer,
    len: usize,
    /// True exactly when the buffer is the loop's own space, which everybody uses, and not a leased one.
    is_space: bool,
}

impl Packed {
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.buffer[..self.len]
    }

    pub(super) fn give_back(self, pools: &mut Pools) {
        match (&mut pools.deflaters, self.is_space) {
            (Some(deflaters), true) => deflaters.space = self.buffer,
            _ => pools.give_back(self.buffer),
        }
    }
}
