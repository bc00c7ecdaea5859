use std::fmt;

use mio::event::Event;

use super::{
    Conn, ConnectError, Connections, Fragment, Message, Request, SourceId, TimerId, UpgradeId,
};
use crate::{
    connection::{Close, Sent},
    driver::ConnId,
    protocol::handshake::{HandshakeError, HttpResponse, Response, ResponseHead},
};

/// The application. One value of it serves all connections of a loop; it is lent to the loop while the loop runs.
///
/// Every method runs to its end before the next is called, and no method is called from inside a send or a close. What may
/// be called from where:
///
/// * a [`Conn`] sends, closes, pauses and reaches every other connection ([`Conn::peer`], [`Conn::connections`]);
/// * a [`Connections`] does the same without a connection of its own, sets timers and registers event sources.
///
/// `M` is what other threads post to the loop (see [`Remote`](crate::Remote)); leave it out if nobody does.
///
/// ```
/// use wsloop::{Conn, Handler, HttpResponse, Message, Request, Response};
///
/// struct Echo;
///
/// impl Handler for Echo {
///     type Session = ();
///
///     fn on_upgrade(&mut self, _: &Request<'_>, _: &mut Response<'_>) -> Result<(), HttpResponse> {
///         Ok(())
///     }
///
///     fn on_message(&mut self, conn: &mut Conn<'_, ()>, message: Message<'_>) {
///         let _ = conn.send_copy(message.kind(), message.as_bytes());
///     }
/// }
/// ```
#[expect(
    unused_variables,
    reason = "default methods do nothing with what they get"
)]
pub trait Handler<M = ()>: Sized {
    /// What the application keeps for each connection. It lies in the connection's slot and comes back in
    /// [`on_close`](Self::on_close).
    type Session;

    /// A client asks for a WebSocket. `Ok` accepts it; `response` takes the subprotocol and further headers of the 101.
    /// A handler that only dials need not have this; by default the answer is 403.
    /// After [`response.defer()`](Response::defer) `Ok` only keeps the session, and
    /// [`on_deferred`](Self::on_deferred) follows.
    ///
    /// # Errors
    /// The answer that the client gets instead.
    fn on_upgrade(
        &mut self,
        request: &Request<'_>,
        response: &mut Response<'_>,
    ) -> Result<Self::Session, HttpResponse> {
        Err(HttpResponse::forbidden())
    }

    /// A plain HTTP request on the same port, with any method: a health check, a page. Its body, if it has one, is not
    /// read. By default the answer is 426, or 405 to anything but GET and HEAD.
    fn on_request(&mut self, request: &Request<'_>) -> HttpResponse {
        match request.method() {
            "GET" | "HEAD" => HttpResponse::upgrade_required(),
            _ => HandshakeError::MethodNotAllowed.into(),
        }
    }

    /// `on_upgrade` put the answer off. [`Connections::deferred`] has the upgrade, with its session, now and later, until it
    /// is accepted or refused there. If that does not happen within `upgrade_timeout`, the client is answered with 503, and
    /// [`on_handshake_failed`](Self::on_handshake_failed) has the session; so it has when the client goes away, or the loop
    /// shuts down.
    fn on_deferred(
        &mut self,
        connections: &mut Connections<'_, Self::Session>,
        upgrade: UpgradeId,
    ) {
    }

    /// `on_upgrade` accepted or put off, but the connection did not open. Neither `on_open` nor `on_close` follows.
    fn on_handshake_failed(
        &mut self,
        connections: &mut Connections<'_, Self::Session>,
        session: Self::Session,
        failure: HandshakeFailure,
    ) {
    }

    /// A server that was dialled has accepted; `response` is the head of its 101, with the subprotocol that it chose.
    /// `on_open` follows.
    fn on_connected(&mut self, session: &mut Self::Session, response: &ResponseHead<'_>) {}

    /// A connection that was dialled did not open. Neither `on_open` nor `on_close` follows.
    fn on_connect_failed(
        &mut self,
        connections: &mut Connections<'_, Self::Session>,
        session: Self::Session,
        error: ConnectError,
    ) {
    }

    /// The connection is open: the 101 is written, or, dialled, received.
    fn on_open(&mut self, conn: &mut Conn<'_, Self::Session>) {}

    /// `count` bytes were read, before they are looked at; a call for each read, also during a pause.
    /// [`Conn::unread`] has those that wait.
    fn on_bytes_read(&mut self, conn: &mut Conn<'_, Self::Session>, count: usize) {}

    /// A message is complete (RFC 6455 §5.6). Its bytes are valid during the call; [`Message::take`] keeps them.
    fn on_message(&mut self, conn: &mut Conn<'_, Self::Session>, message: Message<'_>);

    /// A piece of a message has come, on a connection with [`Conn::stream_messages`]: a frame, or the part of it that has
    /// arrived. Its bytes are valid during the call.
    fn on_fragment(&mut self, conn: &mut Conn<'_, Self::Session>, fragment: Fragment<'_>) {}

    /// A payload that was handed over with `send` comes back: written, or discarded because the connection ended. Called
    /// for each of them exactly once, in the order of sending.
    fn on_write_complete(&mut self, conn: &mut Conn<'_, Self::Session>, sent: Sent) {}

    /// What waits to be written is below `low_water` again, after reading had paused by itself or a send was refused.
    fn on_drain(&mut self, conn: &mut Conn<'_, Self::Session>) {}

    /// A ping, with at most 125 bytes. By default it is answered, and while the peer does not read only the newest one is
    /// (RFC 6455 §5.5.3); a method of your own takes over that duty.
    fn on_ping(&mut self, conn: &mut Conn<'_, Self::Session>, payload: &[u8]) {
        conn.auto_pong(payload);
    }

    /// A pong, asked for or not, with at most 125 bytes.
    fn on_pong(&mut self, conn: &mut Conn<'_, Self::Session>, payload: &[u8]) {}

    /// The connection is over. Called exactly once for every connection that was opened, when all of its payloads are back
    /// and its socket is closed; `id` is stale already.
    fn on_close(
        &mut self,
        connections: &mut Connections<'_, Self::Session>,
        id: ConnId,
        session: Self::Session,
        close: &Close,
    ) {
    }

    /// A timer that [`Connections::set_timer`] set is due; `data` is what it was set with.
    fn on_timer(
        &mut self,
        connections: &mut Connections<'_, Self::Session>,
        timer: TimerId,
        data: u64,
    ) {
    }

    /// A source that [`Connections::register`] registered has an event.
    fn on_source(
        &mut self,
        connections: &mut Connections<'_, Self::Session>,
        source: SourceId,
        event: &Event,
    ) {
    }

    /// A message that another thread posted.
    fn on_wake(&mut self, connections: &mut Connections<'_, Self::Session>, message: M) {}
}

/// Why a connection that the application had accepted or put off did not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum HandshakeFailure {
    /// The answer could not be written, or the client went away before it was decided.
    Io(std::io::ErrorKind),
    /// `upgrade_timeout` was over before the answer was decided and written.
    Timeout,
    /// The loop shuts down.
    Shutdown,
}

impl fmt::Display for HandshakeFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(kind) => write!(f, "the client could not be answered: {kind}"),
            Self::Timeout => f.write_str("the handshake took too long"),
            Self::Shutdown => f.write_str("the loop shuts down"),
        }
    }
}

impl std::error::Error for HandshakeFailure {}
