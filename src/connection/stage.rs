use std::io::{self, Write};

use super::{
    Pools, SendErrorKind,
    copies::BORROW_MIN,
    outbox::{Flushed, Outbox, SendLimits},
    output::Output,
};
use crate::protocol::{MessageKind, PlainHeader, Role};

/// Staging in the cork, and from there to the kernel or to a queue.
impl Outbox {
    /// Stages `len` bytes of whole frames, which `fill` writes.
    #[inline]
    pub(super) fn append(
        &mut self,
        len: usize,
        pools: &mut Pools,
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<(), SendErrorKind> {
        if self.may_cork(pools) {
            if let Some(space) = pools.cork.space(len, 0, &mut pools.buffers) {
                fill(space);
                self.corked = pools.cork.len();
                return Ok(());
            }
        }
        let staged = self.queue(pools).append(len, pools, fill);
        if staged.is_err() {
            self.release_if_empty(pools);
        }
        staged
    }

    /// Stages a copy of a short message as most are sent: not compressed, not masked, and nothing is queued. False for any other,
    /// of which nothing is staged.
    #[inline]
    pub(crate) fn cork_short(
        &mut self,
        kind: MessageKind,
        payload: &[u8],
        limits: &SendLimits,
        pools: &mut Pools,
    ) -> bool {
        if payload.len() >= BORROW_MIN {
            return false;
        }
        let header_len = PlainHeader::unmasked_len(payload.len());
        let total = header_len + payload.len();
        if !self.takes_plain(total, limits, pools) {
            return false;
        }
        let Some(space) = pools.cork.space(total, 0, &mut pools.buffers) else {
            return false;
        };
        let (header, rest) = space.split_at_mut(header_len);
        PlainHeader::encode_unmasked(kind, payload.len(), header);
        rest.copy_from_slice(payload);
        self.corked = pools.cork.len();
        true
    }

    /// As `cork_short`, of a longer message below 64 KiB that stays where it is, if it lies in the settled input.
    #[inline]
    pub(crate) fn borrow_plain(
        &mut self,
        kind: MessageKind,
        payload: &[u8],
        limits: &SendLimits,
        pools: &mut Pools,
        out: &mut Output<'_, impl Write>,
    ) -> bool {
        if payload.len() < BORROW_MIN || payload.len() > PlainHeader::MAX_PAYLOAD {
            return false;
        }
        let header_len = PlainHeader::unmasked_len(payload.len());
        if !self.takes_plain(header_len + payload.len(), limits, pools) {
            return false;
        }
        let mut header = [0; PlainHeader::MAX_UNMASKED_LEN];
        let header = &mut header[..header_len];
        PlainHeader::encode_unmasked(kind, payload.len(), header);
        self.borrow(header, payload, pools, out)
    }

    /// True exactly when a frame of `total` bytes can be staged as most are: see `cork_short`.
    #[inline]
    fn takes_plain(&self, total: usize, limits: &SendLimits, pools: &Pools) -> bool {
        let is_plain = self.role == Role::Server && !self.compresses() && self.open.is_none();
        let backlog = self.corked as usize;
        is_plain && self.may_cork(pools) && (backlog == 0 || backlog + total <= limits.backlog)
    }

    /// Stages a frame whose payload stays where it is, if it lies in the settled input. False when it has to be copied.
    #[inline(always)]
    pub(super) fn borrow(
        &mut self,
        header: &[u8],
        payload: &[u8],
        pools: &mut Pools,
        out: &mut Output<'_, impl Write>,
    ) -> bool {
        let Some(range) = out.position(payload) else {
            return false;
        };
        if pools.cork.is_full_of_borrowed() && self.write_borrowed(pools, out).is_err() {
            return false;
        }
        let total = self.corked as usize + header.len() + payload.len();
        if !self.may_cork(pools) {
            return false;
        }
        let may_move = out.message() == Some(range.start);
        let cork = &mut pools.cork;
        if cork.reserve(total, &mut pools.buffers).is_none() {
            return false;
        }
        let staged = cork.borrow(header, range, may_move, &mut pools.buffers);
        self.corked = cork.len();
        staged.is_some()
    }

    /// True exactly when something staged lies in the settled input.
    #[inline]
    pub(crate) fn has_borrowed(&self, pools: &Pools) -> bool {
        self.corked > 0 && pools.cork.has_borrowed()
    }

    /// What is borrowed is about to be written, and nobody else looks at the settled input.
    #[inline]
    pub(crate) fn move_headers(&mut self, pools: &mut Pools, settled: &mut [u8]) {
        if self.has_borrowed(pools) {
            pools.cork.move_headers(settled);
        }
    }

    /// Writes what lies in the settled input, and everything before it: something comes that needs a queue, or the input is
    /// about to change.
    #[inline]
    pub(crate) fn write_borrowed(
        &mut self,
        pools: &mut Pools,
        out: &mut Output<'_, impl Write>,
    ) -> io::Result<()> {
        if self.has_borrowed(pools) {
            self.flush_cork(out, pools)?;
        }
        Ok(())
    }

    /// Writes what is in the cork when `len` more bytes do not fit behind it.
    #[inline]
    pub(super) fn make_room_in_cork(
        &mut self,
        len: usize,
        pools: &mut Pools,
        out: &mut Output<'_, impl Write>,
    ) -> io::Result<()> {
        if self.corked > 0 && pools.cork.is_full_for(len) {
            self.flush_cork(out, pools)?;
        }
        Ok(())
    }

    /// True exactly when nothing is staged but what is in the cork, and the cork is nobody else's.
    #[inline]
    fn may_cork(&self, pools: &Pools) -> bool {
        self.queue.is_none()
            && self.share.is_empty()
            && !self.blocked
            && self.corked == pools.cork.len()
    }

    /// Moves what is in the cork to the queue. Nothing is borrowed.
    #[cold]
    pub(super) fn uncork(&mut self, pools: &mut Pools) {
        debug_assert!(!self.has_borrowed(pools));
        self.corked = 0;
        let segment = pools.cork.take(0, &[], &mut pools.buffers);
        self.queue(pools).push(segment);
    }

    /// Writes what is in the cork. There is no queue.
    #[inline]
    pub(super) fn flush_cork(
        &mut self,
        out: &mut Output<'_, impl Write>,
        pools: &mut Pools,
    ) -> io::Result<Flushed> {
        let (offered, taken) = pools.cork.write(out)?;
        if taken < offered {
            self.keep_rest(taken, out.settled(), pools);
            return Ok(Flushed::Blocked);
        }
        self.discard_cork(pools);
        Ok(Flushed::All)
    }

    #[cold]
    fn keep_rest(&mut self, taken: usize, settled: &[u8], pools: &mut Pools) {
        let segment = pools.cork.take(taken, settled, &mut pools.buffers);
        self.blocked = true;
        self.corked = 0;
        self.queue(pools).push(segment);
    }

    /// Forgets what is in the cork.
    #[inline]
    pub(super) fn discard_cork(&mut self, pools: &mut Pools) {
        if self.corked > 0 {
            self.corked = 0;
            pools.cork.clear();
            if pools.buffers.is_tight() {
                pools.cork.release(&mut pools.buffers);
            }
        }
    }
}
