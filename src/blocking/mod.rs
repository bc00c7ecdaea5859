//! A WebSocket over any `Read + Write`, one call at a time: a socket that an HTTP server has accepted, a pipe, a test. For
//! programs with few connections, or a thread for each; for many there is the [`EventLoop`](crate::EventLoop).

#[cfg(test)]
mod tests;

use std::{
    fmt,
    io::{self, ErrorKind, Read, Write},
};

use crate::protocol::{
    CloseCode, Codec, EncodeError, Event, MAX_CONTROL_PAYLOAD, MessageKind, Outgoing, ProtocolError,
};

/// Bytes that are read at a time.
const INPUT_LEN: usize = 8 * 1024;
/// Bytes that wait to be flushed at most before a message flushes by itself.
const MAX_UNFLUSHED: usize = 64 * 1024;

/// A connection behind its opening handshake.
///
/// ```
/// use std::os::unix::net::UnixStream;
/// use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};
/// use wsloop::{MessageKind, blocking::{Received, WebSocket}, protocol::{Codec, Limits}};
///
/// let (here, there) = UnixStream::pair()?;
/// # let seed = [0; 32];
/// let rng = ChaCha20Rng::from_seed(seed); // 32 bytes that nobody can guess
/// let mut client = WebSocket::new(here, Codec::client(Limits::default(), rng));
/// let mut server = WebSocket::new(there, Codec::server(Limits::default()));
///
/// client.write_message(MessageKind::Text, b"hello")?;
/// let mut buffer = [0; 100];
/// assert_eq!(server.read_message(&mut buffer)?, Received::Message(MessageKind::Text, 5));
/// assert_eq!(&buffer[..5], b"hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// The stream may be a non-blocking one: a call that fails with `WouldBlock` can be repeated, and nothing is lost. What was
/// accepted for writing is not to be written again then: [`flush`](Self::flush) goes on with it.
pub struct WebSocket<S> {
    stream: S,
    codec: Codec,
    input: Vec<u8>,
    /// What of the input nobody has looked at.
    unread: std::ops::Range<usize>,
    /// Whole frames, of which `written` bytes are on their way.
    output: Vec<u8>,
    written: usize,
}

/// What [`WebSocket::read_message`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Received {
    /// A message; so many bytes of the buffer hold it.
    Message(MessageKind, usize),
    /// The peer has closed, and was answered (RFC 6455 §5.5.1). Nothing more comes.
    Closed {
        /// Its code, if it gave one.
        code: Option<CloseCode>,
        /// Its reason, perhaps empty.
        reason: String,
    },
}

/// Why a call failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The stream's error. `UnexpectedEof`: the peer is gone without a close frame.
    Io(io::Error),
    /// The peer broke the protocol. It has been sent the close frame for that, as far as the stream took it.
    Protocol(ProtocolError),
    /// The message has so many bytes, which the buffer has not. It is lost; the next one can be read.
    TooBig(usize),
    /// It cannot be sent.
    Encode(EncodeError),
}

impl<S: Read + Write> WebSocket<S> {
    /// A stream behind whose opening handshake nothing was read.
    pub fn new(stream: S, codec: Codec) -> Self {
        Self::with_bytes(stream, codec, &[])
    }

    /// A stream of which `bytes` were read already, behind the opening handshake.
    pub fn with_bytes(stream: S, codec: Codec, bytes: &[u8]) -> Self {
        let mut input = bytes.to_vec();
        input.resize(bytes.len().max(INPUT_LEN), 0);
        Self {
            stream,
            codec,
            input,
            unread: 0..bytes.len(),
            output: Vec::new(),
            written: 0,
        }
    }

    /// Waits for the next message and copies it to the front of `buffer`. Pings are answered meanwhile, pongs skipped.
    ///
    /// # Errors
    /// `TooBig` for a message that does not fit; `Protocol`; `Io`, with `WouldBlock` and the like to be tried again.
    pub fn read_message(&mut self, buffer: &mut [u8]) -> Result<Received, Error> {
        loop {
            if let Some(received) = self.next(buffer)? {
                return Ok(received);
            }
            if self.unread.is_empty() {
                // The peer may wait for what waits here.
                self.flush()?;
                self.fill()?;
            }
        }
    }

    /// What the bytes that were read say, if it concerns the caller.
    fn next(&mut self, buffer: &mut [u8]) -> Result<Option<Received>, Error> {
        let mut payload = [0; MAX_CONTROL_PAYLOAD];
        let unread = &mut self.input[self.unread.clone()];
        let (event, consumed) = match self.codec.process(unread) {
            Ok(found) => found,
            Err(error) => return Err(self.fail(error)),
        };
        self.unread.start += consumed;
        match event {
            Some(Event::Message(kind, bytes)) => {
                let len = bytes.len();
                let room = buffer.get_mut(..len).ok_or(Error::TooBig(len))?;
                room.copy_from_slice(bytes);
                Ok(Some(Received::Message(kind, len)))
            }
            Some(Event::Ping(bytes)) => {
                let len = bytes.len();
                payload[..len].copy_from_slice(bytes);
                // Behind our own close frame a ping is not answered.
                let _ = self.stage(|codec, out| codec.pong(&payload[..len], out));
                // What fails here fails again in the flush before the next read.
                let _ = self.flush();
                Ok(None)
            }
            Some(Event::Close(close)) => {
                let (code, reason) = (close.code, close.reason.to_owned());
                let answer = match code {
                    Some(code) => self.stage(|codec, out| codec.close(code, &reason, out)),
                    None => self.stage(Codec::close_empty),
                };
                // Not when we have closed first: this is the answer then.
                let _ = answer;
                // A peer that has closed may not read any more.
                let _ = self.flush();
                Ok(Some(Received::Closed { code, reason }))
            }
            _ => Ok(None),
        }
    }

    fn fail(&mut self, error: ProtocolError) -> Error {
        let _ = self.stage(Codec::fail);
        let _ = self.flush();
        Error::Protocol(error)
    }

    fn fill(&mut self) -> Result<(), Error> {
        loop {
            match self.stream.read(&mut self.input) {
                Ok(0) => return Err(Error::Io(ErrorKind::UnexpectedEof.into())),
                Ok(count) => {
                    self.unread = 0..count;
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Sends a message and flushes.
    ///
    /// # Errors
    /// `Encode`; `Io`, in which case the message is accepted, and [`flush`](Self::flush) goes on with it.
    pub fn write_message(
        &mut self,
        kind: impl Into<Outgoing>,
        payload: &[u8],
    ) -> Result<(), Error> {
        self.write_message_vectored(kind, &[payload])
    }

    /// Sends several slices as one message and flushes.
    ///
    /// # Errors
    /// As [`write_message`](Self::write_message).
    pub fn write_message_vectored(
        &mut self,
        kind: impl Into<Outgoing>,
        parts: &[&[u8]],
    ) -> Result<(), Error> {
        self.write_message_vectored_unflushed(kind, parts)?;
        self.flush()
    }

    /// Takes a message to be sent with the next flush, which many can share; with more than 64 KiB waiting it flushes first.
    ///
    /// # Errors
    /// `Encode`; `Io` of that flush: then the message was not accepted.
    pub fn write_message_unflushed(
        &mut self,
        kind: impl Into<Outgoing>,
        payload: &[u8],
    ) -> Result<(), Error> {
        self.write_message_vectored_unflushed(kind, &[payload])
    }

    /// Takes several slices as one message, otherwise as [`write_message_unflushed`](Self::write_message_unflushed).
    ///
    /// # Errors
    /// As `write_message_unflushed`.
    pub fn write_message_vectored_unflushed(
        &mut self,
        kind: impl Into<Outgoing>,
        parts: &[&[u8]],
    ) -> Result<(), Error> {
        if self.output.len() - self.written > MAX_UNFLUSHED {
            self.flush()?;
        }
        let kind = kind.into();
        self.stage(|codec, out| codec.message(kind, parts, out))
    }

    /// Sends a ping (RFC 6455 §5.5.2); the pong is skipped by [`read_message`](Self::read_message).
    ///
    /// # Errors
    /// As [`write_message`](Self::write_message).
    pub fn ping(&mut self, payload: &[u8]) -> Result<(), Error> {
        self.stage(|codec, out| codec.ping(payload, out))?;
        self.flush()
    }

    /// Starts to close (RFC 6455 §7.1.2): read on until `Closed` to have the peer's answer.
    ///
    /// # Errors
    /// As [`write_message`](Self::write_message).
    pub fn close(&mut self, code: CloseCode, reason: &str) -> Result<(), Error> {
        self.stage(|codec, out| codec.close(code, reason, out))?;
        self.flush()
    }

    /// Appends a frame to what waits; the codec says how much room it needs.
    fn stage(
        &mut self,
        mut encode: impl FnMut(&mut Codec, &mut [u8]) -> Result<usize, EncodeError>,
    ) -> Result<(), Error> {
        let end = self.output.len();
        let mut room = 0;
        loop {
            self.output.resize(end + room, 0);
            match encode(&mut self.codec, &mut self.output[end..]) {
                Ok(len) => {
                    self.output.truncate(end + len);
                    return Ok(());
                }
                Err(EncodeError::Build(crate::protocol::BuildError::BufferTooSmall { needed }))
                    if needed > room =>
                {
                    room = needed;
                }
                Err(error) => {
                    self.output.truncate(end);
                    return Err(Error::Encode(error));
                }
            }
        }
    }

    /// Writes everything that waits.
    ///
    /// # Errors
    /// `Io`. What was not written waits on.
    pub fn flush(&mut self) -> Result<(), Error> {
        while self.written < self.output.len() {
            match self.stream.write(&self.output[self.written..]) {
                Ok(0) => return Err(Error::Io(ErrorKind::WriteZero.into())),
                Ok(count) => self.written += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.output.clear();
        self.written = 0;
        Ok(self.stream.flush()?)
    }

    /// The protocol's side: role and state.
    pub fn codec(&self) -> &Codec {
        &self.codec
    }

    /// The stream.
    pub fn stream(&self) -> &S {
        &self.stream
    }

    /// The stream, for what concerns it alone, such as timeouts.
    pub fn stream_mut(&mut self) -> &mut S {
        &mut self.stream
    }
}

impl<S> fmt::Debug for WebSocket<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocket")
            .field("codec", &self.codec)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Protocol(error) => error.fmt(f),
            Self::TooBig(len) => write!(f, "a message of {len} bytes does not fit the buffer"),
            Self::Encode(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            Self::Protocol(error) => Some(error),
            Self::Encode(error) => Some(error),
            Self::TooBig(_) => None,
        }
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}
