use std::ops::Range;

use super::{
    ConnId, Driver, Fragment, Handler, Message, conn::Conn, core::Core, flush::flush,
    receive::Budget,
};
use crate::{
    connection::{Assembled, Event, Fault, Piece},
    protocol::{ClosePayload, Opcode},
};

/// From bytes in the scratch buffer to calls of the application.
impl<H: Handler<M>, M> Driver<'_, H, M> {
    /// Parses the first `len` bytes of the scratch buffer and delivers what they say. What is left is kept.
    pub(crate) fn dispatch(&mut self, id: ConnId, len: usize, budget: &mut Budget) {
        let mut position = 0;
        loop {
            let Some((wire, shared)) = self.core.wire_mut(id) else {
                return;
            };
            if !wire.link.state().reads_frames() {
                return;
            }
            let held = wire.flags.hold_reading() || budget.is_spent();
            let event = if held {
                Ok(None)
            } else {
                let input = &mut self.scratch[..len];
                let rules = shared.settings.rules(&wire.link);
                wire.link
                    .inbox
                    .next(input, &mut position, &rules, &mut shared.pools)
            };
            match event {
                Ok(Some(event)) => self.deliver(id, event, position..len, budget),
                Ok(None) => {
                    let rest = &self.scratch[position..len];
                    if let Err(fault) = wire.link.inbox.keep(rest, held, &mut shared.pools) {
                        wire.fail(id, fault, shared);
                    }
                    return;
                }
                Err(fault) => return wire.fail(id, fault, shared),
            }
        }
    }

    /// Hands one event to whom it concerns. `unread` is the part of the scratch buffer behind it.
    #[inline]
    pub(super) fn deliver(
        &mut self,
        id: ConnId,
        event: Event,
        unread: Range<usize>,
        budget: &mut Budget,
    ) {
        budget.spend_message();
        match event {
            Event::Message(kind, range) => {
                if let Some(mut conn) = open_conn(self.core, id, &self.scratch[unread]) {
                    conn.count_received_message();
                    self.app
                        .on_message(&mut conn, Message::borrowed(kind, &self.scratch[range]));
                }
            }
            Event::Compressed(kind, range) => self.deliver_compressed(id, kind, range, unread),
            Event::Assembled => self.deliver_assembled(id, unread),
            Event::Piece(piece, range) => self.deliver_piece(id, piece, range, unread),
            Event::Control(Opcode::Close, range) => self.handle_close(id, range),
            Event::Control(opcode, range) => self.deliver_control(id, opcode, range, unread),
        }
        self.relieve(id);
    }

    fn deliver_assembled(&mut self, id: ConnId, unread: Range<usize>) {
        let Some((wire, shared)) = self.core.wire_mut(id) else {
            return;
        };
        let Some(message) = wire.link.inbox.take_message(&mut shared.pools) else {
            return;
        };
        if message.is_compressed {
            self.deliver_packed(id, message, unread);
        } else {
            self.deliver_leased(id, message, unread);
        }
    }

    /// A message in a buffer of its own, inflated if it was compressed.
    pub(super) fn deliver_leased(&mut self, id: ConnId, message: Assembled, unread: Range<usize>) {
        let Assembled {
            kind,
            is_compressed,
            buffer,
            len,
        } = message;
        let mut message = Some(self.core.shared.pools.buffers.entrust(buffer, len));
        if let Some(mut conn) = open_conn(self.core, id, &self.scratch[unread]) {
            conn.count_received_message();
            if is_compressed && conn.streams_messages() {
                // It has been put together although pieces were asked for.
                let bytes = message.as_deref().unwrap_or_default();
                let fragment = Fragment::new(Piece::whole(kind), bytes);
                self.app.on_fragment(&mut conn, fragment);
            } else {
                self.app
                    .on_message(&mut conn, Message::whole(kind, &mut message));
            }
        }
        if let Some(message) = message {
            self.core.shared.pools.give_back(message.into_buffer());
        }
    }

    fn deliver_piece(
        &mut self,
        id: ConnId,
        piece: Piece,
        bytes: Range<usize>,
        unread: Range<usize>,
    ) {
        if let Some(mut conn) = open_conn(self.core, id, &self.scratch[unread]) {
            if piece.last {
                conn.count_received_message();
            }
            let fragment = Fragment::new(piece, &self.scratch[bytes]);
            self.app.on_fragment(&mut conn, fragment);
        }
    }

    fn deliver_control(
        &mut self,
        id: ConnId,
        opcode: Opcode,
        payload: Range<usize>,
        unread: Range<usize>,
    ) {
        let payload = &self.scratch[payload];
        let Some(mut conn) = open_conn(self.core, id, &self.scratch[unread]) else {
            return;
        };
        conn.count_received_control(opcode);
        if opcode == Opcode::Ping {
            self.app.on_ping(&mut conn, payload);
        } else {
            self.app.on_pong(&mut conn, payload);
        }
    }

    /// RFC 6455 §5.5.1.
    fn handle_close(&mut self, id: ConnId, payload: Range<usize>) {
        let Some((wire, shared)) = self.core.wire_mut(id) else {
            return;
        };
        match ClosePayload::parse(&self.scratch[payload]) {
            Ok(payload) => wire.close_remote(id, payload, shared),
            Err(error) => wire.fail(id, Fault::Protocol(error), shared),
        }
    }

    /// What the application has staged is written early when it is much: before more is dispatched, it has to be known
    /// whether the peer takes it.
    #[inline]
    fn relieve(&mut self, id: ConnId) {
        let Some((wire, shared)) = self.core.wire_mut(id) else {
            return;
        };
        if wire.link.outbox.backlog() >= shared.settings.config.high_water {
            flush(self.core, id);
        }
    }
}

/// A handle on a connection whose messages still matter to the application.
#[inline]
pub(super) fn open_conn<'a, S>(
    core: &'a mut Core<S>,
    id: ConnId,
    unread: &'a [u8],
) -> Option<Conn<'a, S>> {
    Conn::new(core, id, unread).filter(Conn::is_open)
}
