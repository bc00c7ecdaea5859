use std::ops::Range;

use super::{
    ConnId, ConnectError, Connections, Driver, Handler, HandshakeFailure, Request, Slot, UpgradeId,
    Visit,
    conn::Conn,
    core::{Shared, Wire},
    flush::flush,
    terms::Terms,
};
use crate::{
    connection::{Agreement, Due, Partial},
    memory::Key,
    protocol::handshake::{HttpResponse, Response, ResponseHead},
};

/// What a connection begins with.
pub(crate) struct Opening<S> {
    pub(crate) session: S,
    pub(crate) agreement: Agreement,
}

impl<S> Opening<S> {
    /// It does not begin.
    pub(crate) fn cancel(self, shared: &mut Shared) -> S {
        shared.pools.take_back(&self.agreement, None, None);
        self.session
    }
}

impl<H: Handler<M>, M> Driver<'_, H, M> {
    /// Asks the application whether it takes the connection. The request may lie in the scratch buffer.
    pub(crate) fn ask_upgrade(
        app: &mut H,
        request: &Request<'_>,
        response: &mut Response<'_>,
    ) -> Result<H::Session, HttpResponse> {
        app.on_upgrade(request, response)
    }

    /// Asks the application for the answer to a plain request, which may lie in the scratch buffer.
    pub(crate) fn ask_request(app: &mut H, request: &Request<'_>) -> HttpResponse {
        app.on_request(request)
    }

    /// Tells the application what a server's 101 says.
    pub(crate) fn tell_connected(
        app: &mut H,
        session: &mut H::Session,
        response: &ResponseHead<'_>,
    ) {
        app.on_connected(session, response);
    }

    /// Gives the session of an attempt to connect back that failed.
    pub(crate) fn connect_failed(&mut self, session: H::Session, error: ConnectError) {
        self.app
            .on_connect_failed(&mut Connections::new(self.core), session, error);
    }

    /// Gives the session of a connection back that did not open.
    pub(crate) fn handshake_failed(&mut self, session: H::Session, failure: HandshakeFailure) {
        self.app
            .on_handshake_failed(&mut Connections::new(self.core), session, failure);
    }

    /// Tells the application that an upgrade waits for its answer.
    pub(crate) fn tell_deferred(&mut self, id: UpgradeId) {
        self.app.on_deferred(&mut Connections::new(self.core), id);
    }

    /// Opens a connection whose 101 is written, in the slot that is reserved for it and under whose name its socket is
    /// registered. `leftover` lies in the scratch buffer: the bytes that came behind the request.
    ///
    /// In this order: slot, `on_open`, `on_bytes_read` for the leftover, timers, the frames in the leftover.
    pub(crate) fn open(
        &mut self,
        place: Key,
        mut wire: Wire,
        opening: Opening<H::Session>,
        leftover: Range<usize>,
    ) {
        let id = ConnId(place);
        let shared = &mut self.core.shared;
        wire.link.agree(&opening.agreement);
        // What was said during the handshake is not said again; of a lone client's socket, nobody says anything.
        wire.flags.readable |= shared.registrar.is_silent();
        if wire.flags.readable {
            shared.schedule(id, &mut wire.flags);
        }
        let session = opening.session;
        let filled = self.core.slots.fill(place, Slot { wire, session });
        debug_assert!(filled.is_ok(), "no place is reserved");
        let shared = &mut self.core.shared;
        shared.counters.opened += 1;
        shared.counters.connections.note(self.core.slots.len());
        let count = leftover.len();
        self.scratch.copy_within(leftover, 0);
        let visit = Visit::new(id, &self.scratch[..count], 0);
        if let Some(mut conn) = Conn::new(self.core, id, &visit) {
            self.app.on_open(&mut conn);
        }
        self.core.shared.counters.received.bytes += count as u64;
        self.report_read(id, count, 0..count);
        self.start_timers(id);
        let Some((wire, shared)) = self.core.wire_mut(id) else {
            return;
        };
        let mut terms = Terms::new(&wire.link, &shared.settings);
        let carried = self.dispatch_apart(id, 0..count, Partial::Ended, &mut terms);
        debug_assert!(carried.is_empty());
        flush(self.core, id);
    }

    fn start_timers(&mut self, id: ConnId) {
        let Some((wire, shared)) = self.core.wire_mut(id) else {
            return;
        };
        let due = wire.arm(id, shared);
        debug_assert_eq!(
            due.filter(|due| *due != Due::Heartbeat),
            None,
            "no timeout is zero"
        );
    }
}
