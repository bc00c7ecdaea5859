use super::{
    ConnId, Connections, Driver, Handler, Slot, Visit, conn::Conn, flush::flush_wire,
    notices::Counts,
};
use crate::protocol::Role;

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
            self.give_back(notices.sent);
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

    /// Gives back the payloads that have been written so far. The scratch buffer holds nothing.
    #[inline]
    pub(super) fn give_back_sent(&mut self) {
        let count = self.core.shared.notices.counts().sent;
        if count > 0 {
            self.give_back(count);
            self.core.shared.pools.buffers.warm(self.scratch);
        }
    }

    fn give_back(&mut self, count: usize) {
        for _ in 0..count {
            let Some((id, sent)) = self.core.shared.notices.next_sent() else {
                return;
            };
            if let Some(mut conn) = Conn::new(self.core, id, &Visit::NONE) {
                self.app.on_write_complete(&mut conn, sent);
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
