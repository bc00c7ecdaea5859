use std::{
    io,
    time::{Duration, Instant},
};

use super::{Client, ClientState};
use crate::{
    connection::Close,
    driver::{Conn, ConnId, ConnectError, Connections, Handler, Message},
    protocol::MessageKind,
};

/// What [`Client::read_message`] has to say.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pulled {
    /// A message; so many bytes of the buffer hold it.
    Message(MessageKind, usize),
    /// A message of so many bytes, which is more than the buffer holds. It is lost.
    TooBig(MessageKind, usize),
    /// The connection is over, or there never was one.
    Closed(Option<Close>),
    /// The attempt to connect has failed.
    ConnectFailed(ConnectError),
    /// Nothing came in time.
    TimedOut,
}

impl Client<()> {
    /// Waits for the next message and copies it into `buffer`: for those who would rather pull than be called. Pings are
    /// answered meanwhile, pongs skipped, and what [`conn`](Self::conn) has staged is written. `timeout` is for this call;
    /// `None` waits for ever.
    ///
    /// # Errors
    /// The poll's.
    pub fn read_message(
        &mut self,
        buffer: &mut [u8],
        timeout: Option<Duration>,
    ) -> io::Result<Pulled> {
        // A timeout beyond the end of time is none.
        let end = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        if let Some(mut conn) = self.conn() {
            conn.resume_reads();
        }
        let mut puller = Puller {
            buffer,
            pulled: None,
        };
        // Timers of the application's are not waited for: what would they be told here?
        while self.state() != ClientState::Idle {
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            let state = self.turn(&mut puller, left)?;
            if let Some(pulled) = puller.pulled.take() {
                return Ok(pulled);
            }
            if left == Some(Duration::ZERO) && state != ClientState::Idle {
                return Ok(Pulled::TimedOut);
            }
        }
        Ok(Pulled::Closed(None))
    }
}

/// Takes one message and pauses the connection behind it.
struct Puller<'a> {
    buffer: &'a mut [u8],
    pulled: Option<Pulled>,
}

impl Handler for Puller<'_> {
    type Session = ();

    fn on_message(&mut self, conn: &mut Conn<'_, ()>, message: Message<'_>) {
        let bytes = message.as_bytes();
        self.pulled = Some(match self.buffer.get_mut(..bytes.len()) {
            Some(space) => {
                space.copy_from_slice(bytes);
                Pulled::Message(message.kind(), bytes.len())
            }
            None => Pulled::TooBig(message.kind(), bytes.len()),
        });
        conn.pause_reads();
    }

    fn on_connect_failed(&mut self, _: &mut Connections<'_, ()>, (): (), error: ConnectError) {
        self.pulled = Some(Pulled::ConnectFailed(error));
    }

    fn on_close(&mut self, _: &mut Connections<'_, ()>, _: ConnId, (): (), close: &Close) {
        // A message that came before is told first; then there is no connection, which says the same.
        self.pulled
            .get_or_insert_with(|| Pulled::Closed(Some(close.clone())));
    }
}
