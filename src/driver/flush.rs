use super::{ConnId, Core, core::Shared, core::Wire};
use crate::{
    connection::{Flushed, Output},
    transport::{BOTH_WAYS, TokenKind},
};

/// As `flush_wire`, of a connection that is still to be looked up, and nothing staged refers to the input.
pub(super) fn flush<S>(core: &mut Core<S>, id: ConnId) {
    // The entry in `dirty` stays; whoever works that list off finds nothing to do.
    if let Some((wire, shared)) = core.wire_mut(id) {
        flush_wire(wire, id, shared, &[]);
    }
}

/// As `flush_wire`, if anything is staged, none of which refers to the input.
#[inline]
pub(super) fn flush_staged(wire: &mut Wire, id: ConnId, shared: &mut Shared) {
    if !wire.link.outbox.is_empty() {
        flush_wire(wire, id, shared, &[]);
    }
}

/// Writes what is staged on a connection, and draws the consequences: a server shuts its side down behind the last close
/// frame, and reading pauses or goes on with the backlog. `settled`: the input of the visit that may have been borrowed from.
#[inline]
pub(super) fn flush_wire(wire: &mut Wire, id: ConnId, shared: &mut Shared, settled: &[u8]) {
    let Shared { pools, notices, .. } = shared;
    let out = &mut Output::new(&mut wire.stream, settled);
    let flushed = wire
        .link
        .outbox
        .flush(out, pools, |payload| notices.sent(id, payload));
    match flushed {
        Ok(Flushed::All) if wire.link.flushed() => finish(wire, id, shared),
        Ok(Flushed::Blocked) if !wire.flags.watches_writes => watch_writes(wire, id, shared),
        Ok(_) => check_water_marks(wire, id, shared),
        Err(error) => wire.end_with_error(id, &error, shared),
    }
}

/// The kernel has refused bytes for the first time: from now on the poll says when it takes some again. It says so too when that
/// was before it was asked.
#[cold]
fn watch_writes(wire: &mut Wire, id: ConnId, shared: &mut Shared) {
    wire.flags.watches_writes = true;
    let name = (TokenKind::Connection, id.0);
    match shared
        .registrar
        .reregister(&mut wire.stream, name, BOTH_WAYS)
    {
        Ok(()) => check_water_marks(wire, id, shared),
        Err(error) => wire.end_with_error(id, &error, shared),
    }
}

/// Our close frame is written and the peer's is there, or does not matter: now a server ends its side, and either reads to
/// the end of the peer's, for as long as `close_timeout` allows.
fn finish(wire: &mut Wire, id: ConnId, shared: &mut Shared) {
    if wire.link.role().closes_first() {
        if let Err(error) = wire.stream.shutdown_write() {
            return wire.end_with_error(id, &error, shared);
        }
    }
    wire.flags.readable = true;
    shared.schedule(id, &mut wire.flags);
}

#[inline]
fn check_water_marks(wire: &mut Wire, id: ConnId, shared: &mut Shared) {
    let backlog = wire.link.outbox.backlog();
    let flags = &wire.flags;
    if backlog == 0 && !flags.backlogged && flags.refused == 0 {
        return;
    }
    let config = &shared.settings.config;
    if backlog >= config.high_water {
        wire.flags.backlogged = true;
    } else if backlog <= config.low_water {
        let flags = &mut wire.flags;
        // A send that would be refused again waits on: tried again in every `on_drain`, it would keep the loop spinning.
        let has_room = backlog == 0 || backlog.saturating_add(flags.refused) <= config.max_backlog;
        if (flags.backlogged || flags.refused > 0) && has_room {
            flags.refused = 0;
            shared.notices.drained(id);
        }
        if std::mem::replace(&mut flags.backlogged, false) {
            shared.schedule(id, flags);
        }
    }
}
