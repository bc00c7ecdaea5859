use std::{
    io::{self, IoSliceMut, Read},
    ops::Range,
};

use super::{
    ConnId, Driver, Handler, Readiness, Visit,
    conn::Conn,
    core::{Shared, Wire},
    flush::{flush, flush_staged},
    terms::Terms,
};
use crate::{
    connection::{CloseCause, Event, Partial},
    memory::Buffer,
};

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
    /// The connection is looked at without an event: it has more to read or to dispatch.
    pub(crate) fn handle_ready(&mut self, id: ConnId) {
        if let Some(slot) = self.core.slot_mut(id) {
            slot.wire.flags.ready = false;
            self.handle_event(id, Readiness::NOTHING_NEW);
        }
    }

    /// Visits a connection of which the kernel says something: reads and dispatches until the socket is drained, the terms allow
    /// no more or something holds it up; then flushes. What has been written is given back before it reads on. False when there
    /// is none with this id: one is to come, or it is stale.
    pub(crate) fn handle_event(&mut self, id: ConnId, readiness: Readiness) -> bool {
        let Some((wire, shared)) = self.core.wire_mut(id) else {
            return false;
        };
        wire.note_readiness(id, readiness, shared);
        let mut terms = Terms::new(&wire.link, &shared.settings);
        // Where in the scratch buffer bytes lie that are to be read on behind.
        let mut kept = 0..0;
        // Looked up again only after the application may have been called.
        let mut found = Some((wire, shared));
        while let Some((wire, shared)) = found {
            kept = match wire.next_step(id, kept, shared, self.scratch, &terms) {
                Step::Dispatch(held) => self.dispatch_apart(id, held, Partial::Left, &mut terms),
                Step::Read(kept) => {
                    match wire.read_behind(id, &kept, shared, self.scratch, &mut terms) {
                        Some((arrived, direct)) => {
                            self.take_in(id, kept, arrived, direct, &mut terms)
                        }
                        None => 0..0,
                    }
                }
                Step::Discard => {
                    wire.discard(id, shared, self.scratch, &mut terms);
                    0..0
                }
                Step::ReadAhead => {
                    if !self.read_ahead(id) {
                        if let Some((wire, shared)) = self.core.wire_mut(id) {
                            flush_staged(wire, id, shared);
                        }
                        break;
                    }
                    0..0
                }
                Step::Rest => {
                    flush_staged(wire, id, shared);
                    break;
                }
            };
            kept = self.give_back_within(id, kept);
            found = self.core.wire_mut(id);
        }
        self.give_back_sent();
        true
    }

    /// Dispatches what a read brought: `direct` bytes of it for the message under way, the rest behind those that are kept in the
    /// scratch buffer. Returns where in there bytes lie that are to be read on behind.
    #[inline(always)]
    fn take_in(
        &mut self,
        id: ConnId,
        kept: Range<usize>,
        arrived: Arrived,
        direct: usize,
        terms: &mut Terms,
    ) -> Range<usize> {
        match arrived {
            Arrived::Bytes(count) => {
                let unread = kept.start..kept.end + count - direct;
                self.report_read(id, count, unread.clone());
                self.direct_arrived(id, direct, unread.clone(), terms);
                self.dispatch(id, unread, Partial::Left, terms)
            }
            // What was kept is looked at as it is: what is wrong in it may show already.
            Arrived::Nothing => self.dispatch_apart(id, kept, Partial::Ended, terms),
            Arrived::EndOfStream => {
                self.end_of_stream(id);
                0..0
            }
        }
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

    /// `count` bytes were read into the buffer of the message under way; `unread` of the scratch buffer waits.
    #[inline]
    fn direct_arrived(
        &mut self,
        id: ConnId,
        count: usize,
        unread: Range<usize>,
        terms: &mut Terms,
    ) {
        if count == 0 {
            return;
        }
        let Some((wire, shared)) = self.core.wire_mut(id) else {
            return;
        };
        match wire.link.inbox.direct_arrived(count, &terms.rules) {
            Ok(false) => {}
            // `on_bytes_read` paused.
            Ok(true) if wire.flags.paused => wire.link.inbox.hold_message(),
            Ok(true) => self.deliver(id, Event::Assembled, unread, terms),
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
        match wire.note_read(id, result, offered, shared) {
            Some(Arrived::Bytes(count)) => {
                wire.link.inbox.read_ahead_arrived(count);
                wire.note_heard(id, shared);
                self.report_read(id, count, 0..0);
                return true;
            }
            // The end of the stream waits until what came before it has been delivered: the socket stays readable.
            Some(Arrived::EndOfStream | Arrived::Nothing) => {
                wire.link.inbox.release_room(&mut shared.pools)
            }
            None => {}
        }
        false
    }

    /// The peer has ended its side without a close frame. What is staged is offered once: it may still be read.
    fn end_of_stream(&mut self, id: ConnId) {
        flush(self.core, id);
        if let Some((wire, shared)) = self.core.wire_mut(id) {
            wire.end(id, CloseCause::EndOfStream, shared);
        }
    }
}

impl Wire {
    /// What the kernel says. What waited for it to take bytes is written.
    #[inline]
    fn note_readiness(&mut self, id: ConnId, readiness: Readiness, shared: &mut Shared) {
        self.flags.readable |= readiness.readable | readiness.hung_up;
        self.flags.hung_up |= readiness.hung_up;
        if readiness.writable {
            self.link.outbox.writable();
            flush_staged(self, id, shared);
        }
    }

    /// What a visit does next. Bytes that the inbox keeps are put into the scratch buffer for it; behind those that are `kept`
    /// there already is read at once.
    #[inline]
    fn next_step(
        &mut self,
        id: ConnId,
        kept: Range<usize>,
        shared: &mut Shared,
        scratch: &mut Buffer,
        terms: &Terms,
    ) -> Step {
        if !kept.is_empty() {
            return Step::Read(kept);
        }
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
        if !terms.allow_reading() {
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

    /// One read, into the buffer of the message under way and behind the bytes that are kept in the scratch buffer. What it
    /// brought, and how much of it for that message; `None` when the connection has ended or failed.
    #[inline(always)]
    fn read_behind(
        &mut self,
        id: ConnId,
        kept: &Range<usize>,
        shared: &mut Shared,
        scratch: &mut Buffer,
        terms: &mut Terms,
    ) -> Option<(Arrived, usize)> {
        let inbox = &mut self.link.inbox;
        let limit = inbox.read_limit(&scratch[kept.clone()], &shared.pools);
        let direct = match inbox.direct_space(&mut shared.pools) {
            Ok(space) => space,
            Err(fault) => {
                self.fail(id, fault, shared);
                return None;
            }
        };
        let direct_len = direct.len().min(limit);
        let direct = &mut direct[..direct_len];
        let room = &mut scratch[kept.end..];
        let room_len = room.len().min(limit - direct_len);
        let room = &mut room[..room_len];
        let result = if direct.is_empty() {
            self.stream.read(room)
        } else {
            self.stream
                .read_vectored(&mut [IoSliceMut::new(direct), IoSliceMut::new(room)])
        };
        let arrived = self.note_read(id, result, direct_len + room_len, shared)?;
        let mut direct = 0;
        if let Arrived::Bytes(count) = arrived {
            self.note_heard(id, shared);
            terms.spend_bytes(count);
            direct = count.min(direct_len);
        }
        Some((arrived, direct))
    }

    /// Reads and throws away, until the peer has ended its side.
    fn discard(
        &mut self,
        id: ConnId,
        shared: &mut Shared,
        scratch: &mut Buffer,
        terms: &mut Terms,
    ) {
        let result = self.stream.read(scratch);
        match self.note_read(id, result, scratch.len(), shared) {
            Some(Arrived::EndOfStream) => self.end(id, CloseCause::EndOfStream, shared),
            Some(Arrived::Bytes(count)) => terms.spend_bytes(count),
            Some(Arrived::Nothing) | None => {}
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

    /// What a read of `offered` bytes of room brought, and whether there may be more. `None` when it failed, and has ended the
    /// connection.
    #[inline(always)]
    fn note_read(
        &mut self,
        id: ConnId,
        result: io::Result<usize>,
        offered: usize,
        shared: &mut Shared,
    ) -> Option<Arrived> {
        match result {
            Ok(0) => Some(Arrived::EndOfStream),
            Ok(count) => {
                // A short read has drained the socket, and the kernel will say when there is more; except that it will not
                // say twice that the peer has hung up.
                if count < offered && !self.flags.hung_up {
                    self.flags.readable = false;
                }
                shared.counters.received.bytes += count as u64;
                Some(Arrived::Bytes(count))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.flags.readable = false;
                Some(Arrived::Nothing)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Some(Arrived::Nothing),
            Err(error) => {
                self.end_with_error(id, &error, shared);
                None
            }
        }
    }
}
