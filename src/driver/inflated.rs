use std::ops::Range;

use super::{ConnId, Driver, Fragment, Handler, Message, Visit, conn::Conn};
use crate::{
    connection::{Assembled, Fault, Inflated, Piece},
    protocol::MessageKind,
};

/// From compressed messages to calls of the application. What lies behind the unread bytes in the scratch buffer is room to
/// inflate to.
impl<H: Handler<M>, M> Driver<'_, H, M> {
    /// A compressed message is complete in the scratch buffer.
    pub(super) fn deliver_compressed(
        &mut self,
        id: ConnId,
        kind: MessageKind,
        message: Range<usize>,
        unread: Range<usize>,
    ) {
        let Some((wire, shared)) = self.core.wire_mut(id) else {
            return;
        };
        let rules = shared.settings.rules(&wire.link);
        let (input, room) = self.scratch.split_at_mut(unread.end);
        let pools = &mut shared.pools;
        let inflated = wire
            .link
            .inflate((kind, &input[message]), room, &rules, pools);
        self.deliver_inflated(id, kind, inflated, unread);
    }

    /// A compressed message is complete in a buffer of its own.
    pub(super) fn deliver_packed(&mut self, id: ConnId, message: Assembled, unread: Range<usize>) {
        let Some((wire, shared)) = self.core.wire_mut(id) else {
            return;
        };
        let rules = shared.settings.rules(&wire.link);
        let room = &mut self.scratch[unread.end..];
        let pools = &mut shared.pools;
        let kind = message.kind;
        let packed = (kind, &message.buffer[message.contents]);
        let inflated = wire.link.inflate(packed, room, &rules, pools);
        pools.give_back(message.buffer);
        self.deliver_inflated(id, kind, inflated, unread);
    }

    fn deliver_inflated(
        &mut self,
        id: ConnId,
        kind: MessageKind,
        inflated: Result<Inflated, Fault>,
        unread: Range<usize>,
    ) {
        let there = unread.end;
        match inflated {
            Ok(Inflated::There(len)) => self.deliver_there(id, kind, there..there + len, unread),
            Ok(Inflated::Leased(buffer, len)) => {
                let message = Assembled {
                    kind,
                    is_compressed: true,
                    buffer,
                    contents: 0..len,
                };
                self.deliver_leased(id, message, unread);
            }
            Err(fault) => {
                if let Some((wire, shared)) = self.core.wire_mut(id) {
                    wire.fail(id, fault, shared);
                }
            }
        }
    }

    fn deliver_there(
        &mut self,
        id: ConnId,
        kind: MessageKind,
        message: Range<usize>,
        unread: Range<usize>,
    ) {
        let bytes = &self.scratch[message];
        let visit = Visit::new(id, &self.scratch[..unread.end], unread.start);
        let Some(mut conn) = Conn::open(self.core, id, &visit) else {
            return;
        };
        conn.count_received_message();
        if conn.streams_messages() {
            let fragment = Fragment::new(Piece::whole(kind), bytes);
            self.app.on_fragment(&mut conn, fragment);
        } else {
            self.app
                .on_message(&mut conn, Message::borrowed(kind, bytes));
        }
    }
}
