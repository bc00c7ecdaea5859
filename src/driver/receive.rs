use std::{
    io::{self, IoSliceMut, Read},
    ops::Range,
};

use super::{
    ConnId, Driver, Handler, Readiness, Visit,
    conn::Conn,
    core::{Shared, Wire},
    flush::{flush, flush_staged},
};
use crate::{
    config::Config,
    connection::{CloseCause, Event},
    memory::Buffer,
};

/// What one connection may do before the others get their turn.
pub(crate) struct Budget {
    bytes: usize,
    messages: usize,
}

impl Budget {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            bytes: config.turn_bytes,
            messages: config.turn_messages,
        }
    }

    /// Nothing more is read; what was read is still dispatched.
    #[inline]
    pub(super) fn is_spent(&self) -> bool {
        self.bytes == 0 || self.messages == 0
    }

    /// Nothing more is dispatched.
    #[inline]
    pub(super) fn has_no_message_left(&self) -> bool {
        self.messages == 0
    }

    fn spend_bytes(&mut self, count: usize) {
        self.bytes = self.bytes.saturating_sub(count);
    }

    pub(super) fn spend_message(&mut self) {
        self.messages = self.messages.saturating_sub(1);
    }
}

/// What a visit to a connection does next.
enum Step {
    /// Parse these bytes of the scratch buffer, which were held back.
    Dispatch(Range<usize>),
    /// Read behind these bytes of the scratch buffer, the start of a frame.
    Read(Range<usize>),
    /// Read into the connection's own fixed buffer: dispatching is paused.
    ReadAhead,
    /// Read and throw away.
    Discard,
    /// Nothing, until an event or the application says otherwise.
    Rest,
}

impl Step {
    fn read_ahead_if(readable: bool) -> Self {
        if readable {
            Self::ReadAhead
        } else {
            Self::Rest
        }
    }
}

/// What a read brought.
enum Arrived {
    Bytes(usize),
    Nothing,
    EndOfStream,
}

impl<H: Handler<M>, M> Driver<'_, H, M> {
    /// What the kernel says of a connection. False when there is none with this id: one is to come, or it is stale.
    #[inline]
    pub(crate) fn handle_event(&mut self, id: ConnId, readiness: Readiness) -> bool {
        let Some((wire, shared)) = self.core.wire_mut(id) else {
            return false;
        };
        wire.flags.readable |= readiness.readable | readiness.hung_up;
        wire.flags.hung_up |= readiness.hung_up;
        if readiness.writable {
            wire.link.outbox.writable();
            flush_staged(wire, id, shared);
        }
        self.receive(id);
        true
    }

    /// The connection is looked at without an event: it has more to read or to dispatch.
    pub(crate) fn handle_ready(&mut self, id: ConnId) {
        let Some(slot) = self.core.slot_mut(id) else {
            return;
        };
        slot.wire.flags.ready = false;
        self.receive(id);
    }

    /// Reads and dispatches until the socket is drained, the budget is spent or something holds it up; then flushes, and gives
    /// back what was written.
    fn receive(&mut self, id: ConnId) {
        let mut budget = Budget::new(&self.core.shared.settings.config);
        while let Some((wire, shared)) = self.core.wire_mut(id) {
            match wire.next_step(id, shared, self.scratch, &budget) {
                Step::Dispatch(held) => {
                    let kept = self.dispatch_held(id, held, &mut budget);
                    if !kept.is_empty() {
                        self.read(id, kept, &mut budget);
                    }
                }
                Step::Read(kept) => self.read(id, kept, &mut budget),
                Step::Discard => self.discard(id, &mut budget),
                Step::ReadAhead => {
                    if !self.read_ahead(id) {
                        if let Some((wire, shared)) = self.core.wire_mut(id) {
                            flush_staged(wire, id, shared);
                        }
                        break;
                    }
                }
                Step::Rest => {
                    flush_staged(wire, id, shared);
                    break;
                }
            }
        }
        // Now, not when the turn settles: the next connection finds the buffers in the cache.
        self.give_back_sent();
    }

    /// Reads behind the bytes that are kept in the scratch buffer, and dispatches what that brought; again as long as there is
    /// more and the start of a frame is left.
    fn read(&mut self, id: ConnId, mut kept: Range<usize>, budget: &mut Budget) {
        loop {
            kept = self.read_once(id, kept, budget);
            if kept.is_empty() {
                return;
            }
        }
    }

    /// Dispatches what was held back. Apart, so that what has just been read is dispatched without a call.
    #[inline(never)]
    fn dispatch_held(
        &mut self,
        id: ConnId,
        held: Range<usize>,
        budget: &mut Budget,
    ) -> Range<usize> {
        self.dispatch_and_carry(id, held, budget)
    }

    /// One read. Returns where in the scratch buffer bytes lie that want to be read on behind.
    #[inline]
    fn read_once(&mut self, id: ConnId, kept: Range<usize>, budget: &mut Budget) -> Range<usize> {
        let Some((wire, shared)) = self.core.wire_mut(id) else {
            return 0..0;
        };
        let inbox = &mut wire.link.inbox;
        let limit = inbox.read_limit(&self.scratch[kept.clone()], &shared.pools);
        let direct = match inbox.direct_space(&mut shared.pools) {
            Ok(space) => space,
            Err(fault) => {
                wire.fail(id, fault, shared);
                return 0..0;
            }
        };
        let direct_len = direct.len().min(limit);
        let direct = &mut direct[..direct_len];
        let room = &mut self.scratch[kept.end..];
        let room_len = room.len().min(limit - direct_len);
        let room = &mut room[..room_len];
        let offered = direct_len + room_len;
        let result = if direct.is_empty() {
            wire.stream.read(room)
        } else {
            wire.stream
                .read_vectored(&mut [IoSliceMut::new(direct), IoSliceMut::new(room)])
        };
        match wire.note_read(result, offered) {
            Err(error) => wire.end_with_error(id, &error, shared),
            Ok(Arrived::EndOfStream) => self.end_of_stream(id),
            // What was carried is looked at as it is: what is wrong in it may show already.
            Ok(Arrived::Nothing) => self.dispatch(id, kept, budget),
            Ok(Arrived::Bytes(count)) => {
                wire.note_heard(id, shared);
                shared.counters.received.bytes += count as u64;
                budget.spend_bytes(count);
                let direct = count.min(direct_len);
                let end = kept.end + count - direct;
                self.report_read(id, count, kept.start..end);
                self.direct_arrived(id, direct, end, budget);
                return self.dispatch_and_carry(id, kept.start..end, budget);
            }
        }
        0..0
    }

    /// Tells the application that `count` bytes of a connection at hand were read; `unread` of the scratch buffer waits.
    #[inline]
    pub(crate) fn report_read(&mut self, id: ConnId, count: usize, unread: Range<usize>) {
        if count > 0 {
            let visit = Visit::new(id, &self.scratch[..unread.end], unread.start);
            let mut conn = Conn::at_hand(self.core, id, &visit);
            self.app.on_bytes_read(&mut conn, count);
        }
    }

    /// `count` bytes were read into the buffer of the message under way; `unread` more lie in the scratch buffer.
    #[inline]
    fn direct_arrived(&mut self, id: ConnId, count: usize, unread: usize, budget: &mut Budget) {
        if count == 0 {
            return;
        }
        let Some((wire, shared)) = self.core.wire_mut(id) else {
            return;
        };
        let rules = shared.settings.rules(&wire.link);
        match wire.link.inbox.direct_arrived(count, &rules) {
            Ok(false) => {}
            // `on_bytes_read` paused.
            Ok(true) if wire.flags.paused => wire.link.inbox.hold_message(),
            Ok(true) => self.deliver(id, Event::Assembled, 0..unread, budget),
            Err(fault) => wire.fail(id, fault, shared),
        }
    }

    /// Reads during a pause, up to the end of the connection's fixed buffer. False when there is nothing more to read or no
    /// room for it.
    fn read_ahead(&mut self, id: ConnId) -> bool {
        let Some((wire, shared)) = self.core.wire_mut(id) else {
            return false;
        };
        let space = match wire.link.inbox.read_ahead_space(&mut shared.pools) {
            // Full, or no buffer is free: the bytes stay in the kernel.
            Ok([]) | Err(_) => return false,
            Ok(space) => space,
        };
        let offered = space.len();
        let result = wire.stream.read(space);
        match wire.note_read(result, offered) {
            Err(error) => wire.end_with_error(id, &error, shared),
            Ok(Arrived::Bytes(count)) => {
                wire.link.inbox.read_ahead_arrived(count);
                wire.note_heard(id, shared);
                shared.counters.received.bytes += count as u64;
                self.report_read(id, count, 0..0);
                return true;
            }
            // The end of the stream waits until what came before it has been delivered: the socket stays readable.
            Ok(Arrived::EndOfStream | Arrived::Nothing) => {
                wire.link.inbox.release_room(&mut shared.pools)
            }
        }
        false
    }

    /// Reads and throws away, until the peer has ended its side.
    fn discard(&mut self, id: ConnId, budget: &mut Budget) {
        let Some((wire, shared)) = self.core.wire_mut(id) else {
            return;
        };
        let result = wire.stream.read(&mut self.scratch[..]);
        match wire.note_read(result, self.scratch.len()) {
            Err(error) => wire.end_with_error(id, &error, shared),
            Ok(Arrived::EndOfStream) => wire.end(id, CloseCause::EndOfStream, shared),
            Ok(Arrived::Bytes(count)) => {
                shared.counters.received.bytes += count as u64;
                budget.spend_bytes(count);
            }
            Ok(Arrived::Nothing) => {}
        }
    }

    /// The peer has ended its side without a close frame. What is staged is offered once: it may still be read.
    fn end_of_stream(&mut self, id: ConnId) {
        flush(self.core, id, &[]);
        if let Some((wire, shared)) = self.core.wire_mut(id) {
            wire.end(id, CloseCause::EndOfStream, shared);
        }
    }
}

impl Wire {
    /// What a visit does next. Bytes that were kept are put into the scratch buffer for it.
    #[inline]
    fn next_step(
        &mut self,
        id: ConnId,
        shared: &mut Shared,
        scratch: &mut Buffer,
        budget: &Budget,
    ) -> Step {
        let Self { link, flags, .. } = self;
        let parses = link.state().reads_frames();
        let has_more = match () {
            () if parses && flags.paused => return Step::read_ahead_if(flags.readable),
            () if parses => !flags.is_backlogged() && (flags.readable || link.inbox.has_held()),
            () => flags.readable && link.state().is_draining(),
        };
        if !has_more {
            return Step::Rest;
        }
        if budget.is_spent() {
            shared.schedule(id, flags);
            return Step::Rest;
        }
        if !parses {
            return Step::Discard;
        }
        match link.inbox.restore(scratch, &mut shared.pools) {
            (held, true) => Step::Dispatch(held),
            (kept, false) => Step::Read(kept),
        }
    }

    /// Bytes of the peer's arrived.
    #[inline]
    fn note_heard(&mut self, id: ConnId, shared: &mut Shared) {
        if let Some(time) = self.link.deadlines.heard(shared.now) {
            shared.counters.rare().round_trips.add(time);
            // The timer waits for the answer's time to be over, which may be later than the next ping is due. Just heard of,
            // the peer is late with nothing.
            let _ = self.arm(id, shared);
        }
    }

    /// What a read of `offered` bytes of room brought, and whether there may be more.
    #[inline]
    fn note_read(&mut self, result: io::Result<usize>, offered: usize) -> io::Result<Arrived> {
        match result {
            Ok(0) => Ok(Arrived::EndOfStream),
            Ok(count) => {
                // A short read has drained the socket, and the kernel will say when there is more; except that it will not
                // say twice that the peer has hung up.
                if count < offered && !self.flags.hung_up {
                    self.flags.readable = false;
                }
                Ok(Arrived::Bytes(count))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.flags.readable = false;
                Ok(Arrived::Nothing)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(Arrived::Nothing),
            Err(error) => Err(error),
        }
    }
}
