use std::ops::Range;

use super::{
    ConnId, Connections, Core, Driver, Handler, Slot, Visit, conn::Conn, flush::flush_wire,
    notices::Counts,
};
use crate::{memory::MAX_MOVED, protocol::Role};

/// How often the consequences of callbacks are worked off within a turn: a completion that sends, completes and sends again
/// must not keep the other connections waiting. What is left is done in the next turn, which does not block.
const MAX_PASSES: usize = 4;

impl<H: Handler<M>, M> Driver<'_, H, M> {
    /// Flushes what was staged, gives payloads back, announces drains, retires what has ended.
    pub(crate) fn settle(&mut self) {
        for _ in 0..MAX_PASSES {
            self.flush_dirty();
            let notices = self.core.shared.notices.counts();
            if notices == Counts::default() {
                break;
            }
            Self::give_back(self.app, self.core, notices.sent, &Visit::NONE);
            self.announce_drains(notices.drained);
            self.retire(notices.ended);
        }
        self.core.shared.pools.end_turn();
    }

    fn flush_dirty(&mut self) {
        // A flush may end a connection, but marks none dirty: the list only shrinks here.
        while let Some(id) = self.core.shared.dirty.pop() {
            if let Some((wire, shared)) = self.core.wire_mut(id) {
                wire.flags.dirty = false;
                flush_wire(wire, id, shared, &[]);
            }
        }
    }

    /// Gives back the payloads that have been written so far, now that a visit is over: the next connection finds the buffers in
    /// the cache.
    #[inline]
    pub(super) fn give_back_sent(&mut self) {
        let count = self.core.shared.notices.counts().sent;
        if count > 0 {
            Self::give_back(self.app, self.core, count, &Visit::NONE);
            self.warm(0..0);
        }
    }

    /// The same before a visit reads on: that goes where they lay. `kept` is all that the scratch buffer holds; returns where
    /// it lies then, nowhere if it is not to be read on behind.
    #[inline]
    pub(super) fn give_back_within(&mut self, id: ConnId, kept: Range<usize>) -> Range<usize> {
        if self.core.shared.notices.has_sent() {
            self.give_back_and_go_on(id, kept)
        } else {
            kept
        }
    }

    #[inline(never)]
    fn give_back_and_go_on(&mut self, id: ConnId, kept: Range<usize>) -> Range<usize> {
        debug_assert!(!self.has_borrowed(id));
        let count = self.core.shared.notices.counts().sent;
        let visit = Visit::new(id, &self.scratch[..kept.end], kept.start);
        Self::give_back(self.app, self.core, count, &visit);
        self.flush_much(id);
        let kept = if self.holds_reading(id) {
            self.keep(id, kept, true);
            0..0
        } else {
            kept
        };
        self.warm(kept)
    }

    /// The application may have sent much when payloads came back.
    fn flush_much(&mut self, id: ConnId) {
        if let Some((wire, shared)) = self.core.wire_mut(id) {
            if wire.has_much_to_write(shared) {
                flush_wire(wire, id, shared, &[]);
            }
        }
    }

    /// True exactly when nothing more of this connection is to be looked at now, or ever.
    fn holds_reading(&mut self, id: ConnId) -> bool {
        let found = self.core.wire_mut(id);
        found.is_none_or(|(wire, _)| !wire.link.state().reads_frames() || wire.flags.hold_reading())
    }

    fn warm(&mut self, kept: Range<usize>) -> Range<usize> {
        let buffers = &mut self.core.shared.pools.buffers;
        buffers.reclaim();
        if kept.len() > MAX_MOVED {
            return kept;
        }
        buffers.warm(self.scratch, kept)
    }

    /// True exactly when something staged lies in the scratch buffer, where it has to stay.
    fn has_borrowed(&mut self, id: ConnId) -> bool {
        let found = self.core.wire_mut(id);
        found.is_some_and(|(wire, shared)| wire.link.outbox.has_borrowed(&shared.pools))
    }

    fn give_back(app: &mut H, core: &mut Core<H::Session>, count: usize, visit: &Visit<'_>) {
        for _ in 0..count {
            let Some((id, sent)) = core.shared.notices.next_sent() else {
                return;
            };
            if let Some(mut conn) = Conn::new(core, id, visit) {
                app.on_write_complete(&mut conn, sent);
            }
        }
    }

    fn announce_drains(&mut self, count: usize) {
        for _ in 0..count {
            let Some(id) = self.core.shared.notices.next_drained() else {
                return;
            };
            if let Some(mut conn) = Conn::new(self.core, id, &Visit::NONE) {
                if conn.is_open() {
                    self.app.on_drain(&mut conn);
                }
            }
        }
    }

    /// Retires connections that had ended before this pass gave payloads back, so that theirs are back already.
    fn retire(&mut self, count: usize) {
        for _ in 0..count {
            let Some(id) = self.core.shared.notices.next_ended() else {
                return;
            };
            self.retire_one(id);
        }
    }

    fn retire_one(&mut self, id: ConnId) {
        let Some(Slot { mut wire, session }) = self.core.slots.remove(id.0) else {
            return;
        };
        let close = wire.link.take_close();
        if wire.link.role() == Role::Client {
            self.core.shared.outbound -= 1;
        }
        // Closing the descriptor takes it out of the poll; it is not shared with anybody.
        drop(wire);
        if let Some(close) = close {
            let counters = self.core.shared.counters.rare();
            counters.closed.count(close.cause);
            trace!("connection closed", id, close);
            self.app
                .on_close(&mut Connections::new(self.core), id, session, &close);
        }
    }
}
