use std::ops::Range;

use super::{
    ConnId, Core, Driver, Fragment, Handler, Message, Visit,
    conn::Conn,
    core::{Shared, Wire},
    flush::flush_wire,
    terms::Terms,
};
use crate::{
    connection::{Assembled, Event, Fault, Partial, Piece, goes_on_at},
    memory::{Buffer, MAX_MOVED},
    protocol::{ClosePayload, FrameHeader, MessageKind, Opcode, Rules},
};

/// From bytes in the scratch buffer to calls of the application.
impl<H: Handler<M>, M> Driver<'_, H, M> {
    /// Parses these bytes of the scratch buffer and delivers what they say. What is left is kept; but the start of a frame that
    /// fits the scratch buffer is not if it may be left there, and more is about to be read: returns where it lies then, behind
    /// which the next read is to go. Empty otherwise.
    #[inline(always)]
    pub(super) fn dispatch(
        &mut self,
        id: ConnId,
        bytes: Range<usize>,
        partial: Partial,
        terms: &mut Terms,
    ) -> Range<usize> {
        let Range {
            start: mut position,
            end: mut len,
        } = bytes;
        loop {
            if let Err(fault) = self.dispatch_plain(id, len, &mut position, terms) {
                self.write_borrowed(id, position);
                self.fail(id, fault);
                return 0..0;
            }
            let Some((wire, shared)) = self.core.wire_mut(id) else {
                return 0..0;
            };
            let reads_frames = wire.link.state().reads_frames();
            if reads_frames && wire.has_much_to_write(shared) {
                wire.flush_settled(id, shared, &mut self.scratch[..position]);
                continue;
            }
            if !reads_frames || (position == len && wire.link.inbox.is_at_rest()) {
                if wire.link.outbox.has_borrowed(&shared.pools) {
                    wire.flush_settled(id, shared, &mut self.scratch[..position]);
                }
                return 0..0;
            }
            let is_open = wire.link.state().is_open();
            let held = wire.flags.hold_reading() || !terms.allow_messages();
            let partial = match partial {
                Partial::Left if wire.flags.readable && terms.allow_reading() => Partial::Left,
                Partial::Left | Partial::Ended => Partial::Ended,
            };
            let event = if held {
                Ok(None)
            } else {
                let input = &mut self.scratch[..len];
                let pools = &mut shared.pools;
                wire.link
                    .inbox
                    .next(input, &mut position, &terms.rules, partial, pools)
            };
            if let Ok(Some(Event::Message(kind, range))) = event {
                terms.spend_message();
                if is_open {
                    Range {
                        start: position,
                        end: len,
                    } = self.deliver_found(id, kind, range, position..len);
                }
                continue;
            }
            let wrote = self.write_borrowed(id, position);
            match event {
                // Writing may have ended the connection, or filled the kernel: what is left is looked at once more.
                Ok(None) if wrote => {}
                Ok(None) if held || partial == Partial::Ended => {
                    self.keep(id, position..len, held);
                    return 0..0;
                }
                Ok(None) => return self.carry(id, position..len),
                Ok(Some(_)) if wrote && !self.reads_frames(id) => {}
                Ok(Some(Event::Begun(header, arrived))) => {
                    self.adopt(id, &header, arrived, &terms.rules)
                }
                Ok(Some(event)) => self.deliver(id, event, position..len, terms),
                Err(fault) => {
                    self.fail(id, fault);
                    return 0..0;
                }
            }
        }
    }

    /// As `dispatch`, for all but the one that has just read: there it is no call.
    #[inline(never)]
    pub(super) fn dispatch_apart(
        &mut self,
        id: ConnId,
        bytes: Range<usize>,
        partial: Partial,
        terms: &mut Terms,
    ) -> Range<usize> {
        self.dispatch(id, bytes, partial, terms)
    }

    /// Delivers the messages of the input's first `len` bytes that are of the kind that nearly all are, until something else
    /// comes or is to be done.
    #[inline(always)]
    fn dispatch_plain(
        &mut self,
        id: ConnId,
        len: usize,
        position: &mut usize,
        terms: &mut Terms,
    ) -> Result<(), Fault> {
        let Self {
            app, core, scratch, ..
        } = self;
        let input = &mut scratch[..len];
        while *position < len {
            let Some((wire, shared)) = core.wire_mut(id) else {
                break;
            };
            if !wire.takes_messages(shared) || !terms.allow_messages() {
                break;
            }
            let Some(message) = wire.link.inbox.next_plain(input, position, &terms.rules) else {
                break;
            };
            let (kind, range) = message?;
            terms.spend_message();
            let visit = Visit::new(id, input, *position).with_message(range.start);
            let message = Message::borrowed(kind, &input[range]);
            Self::deliver_message(app, core, id, &visit, message);
        }
        Ok(())
    }

    /// Writes what is staged and lies in the scratch buffer, of which the first `settled` bytes lie still. False when there was
    /// nothing.
    #[inline]
    fn write_borrowed(&mut self, id: ConnId, settled: usize) -> bool {
        let Some((wire, shared)) = self.core.wire_mut(id) else {
            return false;
        };
        let has_borrowed = wire.link.outbox.has_borrowed(&shared.pools);
        if has_borrowed {
            wire.flush_settled(id, shared, &mut self.scratch[..settled]);
        }
        has_borrowed
    }

    fn reads_frames(&mut self, id: ConnId) -> bool {
        let slot = self.core.slot_mut(id);
        slot.is_some_and(|slot| slot.wire.link.state().reads_frames())
    }

    /// What is left of the input goes on in the scratch buffer; kept elsewhere, if it fills that.
    fn carry(&mut self, id: ConnId, rest: Range<usize>) -> Range<usize> {
        if rest.len() == self.scratch.len() {
            self.keep(id, rest, false);
            return 0..0;
        }
        let start = goes_on_at(self.scratch, &rest);
        let carried = start..start + rest.len();
        if start != rest.start {
            self.scratch.copy_within(rest, start);
        }
        carried
    }

    /// Keeps what is left of the input.
    pub(super) fn keep(&mut self, id: ConnId, rest: Range<usize>, held: bool) {
        if rest.is_empty() {
            return;
        }
        let Some((wire, shared)) = self.core.wire_mut(id) else {
            return;
        };
        // Behind the end nobody would give the buffer back.
        if !wire.link.state().reads_frames() {
            return;
        }
        let inbox = &mut wire.link.inbox;
        if let Err(fault) = inbox.keep(self.scratch, rest, held, &mut shared.pools) {
            wire.fail(id, fault, shared);
        }
    }

    /// A message has begun that goes on in the scratch buffer.
    #[cold]
    fn adopt(&mut self, id: ConnId, header: &FrameHeader, arrived: Range<usize>, rules: &Rules) {
        let Some((wire, shared)) = self.core.wire_mut(id) else {
            return;
        };
        let (inbox, pools) = (&mut wire.link.inbox, &mut shared.pools);
        if let Err(fault) = inbox.adopt(header, arrived, self.scratch, rules, pools) {
            wire.fail(id, fault, shared);
        }
    }

    fn fail(&mut self, id: ConnId, fault: Fault) {
        if let Some((wire, shared)) = self.core.wire_mut(id) {
            wire.fail(id, fault, shared);
        }
    }

    /// A message that is complete in the input, of which `rest` lies behind it. Returns where that lies then. The connection is
    /// open.
    #[inline(never)]
    fn deliver_found(
        &mut self,
        id: ConnId,
        kind: MessageKind,
        contents: Range<usize>,
        rest: Range<usize>,
    ) -> Range<usize> {
        let Some(buffer) = self.detach(id, contents.len(), rest.clone()) else {
            let input = &self.scratch[..rest.end];
            let visit = Visit::new(id, input, rest.start).with_message(contents.start);
            let message = Message::borrowed(kind, &input[contents]);
            Self::deliver_message(self.app, self.core, id, &visit, message);
            return rest;
        };
        let message = Assembled {
            kind,
            is_compressed: false,
            buffer,
            contents,
        };
        self.deliver_leased(id, message, 0..rest.len());
        0..rest.len()
    }

    /// Takes the scratch buffer for a message of `len` bytes in it, which could only be sent back by copying: the kernel takes
    /// nothing now, and what lies in the scratch buffer cannot wait there. The rest of the input is moved to the front of the
    /// next one. `None` when that is too much, or a buffer of the message's own would be of no use.
    #[inline]
    fn detach(&mut self, id: ConnId, len: usize, rest: Range<usize>) -> Option<Buffer> {
        let (wire, shared) = self.core.wire_mut(id)?;
        let outbox = &wire.link.outbox;
        if !outbox.would_queue(&shared.settings.send_limits()) || rest.len() > MAX_MOVED {
            return None;
        }
        debug_assert!(!outbox.has_borrowed(&shared.pools));
        let buffer = shared.pools.buffers.exchange(self.scratch, len)?;
        self.scratch[..rest.len()].copy_from_slice(&buffer[rest]);
        Some(buffer)
    }

    /// A message that lies in the input of the visit. The connection is open.
    #[inline(always)]
    fn deliver_message(
        app: &mut H,
        core: &mut Core<H::Session>,
        id: ConnId,
        visit: &Visit<'_>,
        message: Message<'_>,
    ) {
        let mut conn = Conn::at_hand(core, id, visit);
        conn.count_received_message();
        app.on_message(&mut conn, message);
    }

    /// Hands one event to whom it concerns. `unread` is the part of the scratch buffer behind it.
    pub(super) fn deliver(
        &mut self,
        id: ConnId,
        event: Event,
        unread: Range<usize>,
        terms: &mut Terms,
    ) {
        terms.spend_message();
        match event {
            Event::Message(..) | Event::Begun(..) => {
                debug_assert!(false, "these are dealt with where they are found");
            }
            Event::Compressed(kind, range) => self.deliver_compressed(id, kind, range, unread),
            Event::Assembled => self.deliver_assembled(id, unread),
            Event::Piece(piece, range) => self.deliver_piece(id, piece, range, unread),
            Event::Control(Opcode::Close, range) => self.handle_close(id, range),
            Event::Control(opcode, range) => self.deliver_control(id, opcode, range, unread),
        }
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
            contents,
        } = message;
        let buffers = &mut self.core.shared.pools.buffers;
        let mut message = Some(buffers.entrust(buffer, contents));
        if let Some(mut conn) = Conn::open(
            self.core,
            id,
            &Visit::new(id, &self.scratch[..unread.end], unread.start),
        ) {
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
        if let Some(mut conn) = Conn::open(
            self.core,
            id,
            &Visit::new(id, &self.scratch[..unread.end], unread.start),
        ) {
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
        let visit = Visit::new(id, &self.scratch[..unread.end], unread.start);
        let Some(mut conn) = Conn::open(self.core, id, &visit) else {
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
}

impl Wire {
    /// Writes what is staged. `settled`: the part of the scratch buffer that is not looked at any more.
    #[inline]
    fn flush_settled(&mut self, id: ConnId, shared: &mut Shared, settled: &mut [u8]) {
        self.link.outbox.move_headers(&mut shared.pools, settled);
        flush_wire(self, id, shared, settled);
    }
}
