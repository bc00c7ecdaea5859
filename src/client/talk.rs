use std::io::{self, ErrorKind, Read, Write};

use super::{
    dial::{Step, Surroundings},
    refusal::Refusal,
};
use crate::{
    driver::{Connect, ConnectError},
    protocol::{
        handshake::{
            ClientKey, HeaderSlots, MAX_HEADER_FIELDS, ResponseError, ResponseHead, check_response,
            find_head_end,
        },
        proxy::Tunnel,
    },
    transport::Stream,
};

/// The conversation over a connected socket: with the proxy, then the request and its answer.
pub(super) struct Talk {
    pub(super) stream: Stream,
    /// The conversation with the proxy, which comes first.
    tunnel: Tunnel,
    /// What is to be sent, and how much of it is.
    request: Vec<u8>,
    written: usize,
    /// What has come, and how much of it was searched for the end of the head.
    pub(super) answer: Vec<u8>,
    scanned: usize,
    /// Bytes of the interim answers that were dropped.
    interim: usize,
    /// `Some` exactly when the head of a refusal has come; then its body goes there.
    refusal: Option<Box<Refusal>>,
}

/// What a read brought.
enum Arrived {
    Bytes,
    /// Nothing for now.
    Nothing,
    /// Nothing any more, for this reason.
    Ended(ErrorKind),
}

impl Talk {
    pub(super) fn new(stream: Stream, tunnel: Tunnel, request: Vec<u8>) -> Self {
        Self {
            stream,
            tunnel,
            request,
            written: 0,
            answer: Vec::new(),
            scanned: 0,
            interim: 0,
            refusal: None,
        }
    }

    /// Goes on as far as the socket allows.
    pub(super) fn step(
        &mut self,
        key: &ClientKey,
        connect: &Connect,
        around: &Surroundings<'_>,
    ) -> Step {
        match self.step_tunnel(around) {
            Ok(true) => {}
            Ok(false) => return Step::Wait,
            Err(error) => return Step::Failed(error),
        }
        let unwritable = self.write().err().map(|error| error.kind());
        // Also when nothing can be written: a server may refuse before it has read the request.
        loop {
            match (self.judge(key, connect, around), unwritable) {
                (Step::Wait, _) => {}
                (Step::Open { .. }, Some(reason)) => return self.end(reason),
                (step, _) => return step,
            }
            match (self.read(around), unwritable) {
                (Arrived::Bytes, _) => {}
                (Arrived::Nothing, None) => return Step::Wait,
                (Arrived::Nothing, Some(reason)) | (Arrived::Ended(reason), _) => {
                    return self.end(reason);
                }
            }
        }
    }

    /// Goes on with the conversation with the proxy. `Ok(false)` while it is not over.
    fn step_tunnel(&mut self, around: &Surroundings<'_>) -> Result<bool, ConnectError> {
        let failed = |error: io::Error| ConnectError::Io(error.kind());
        while !self.tunnel.is_done() {
            // Also when nothing can be written: a proxy may refuse before it has read what it is asked.
            let unwritable = match self.write_to_proxy() {
                Ok(true) => None,
                Ok(false) => return Ok(false),
                Err(error) => Some(error),
            };
            match (self.read_from_proxy(around), unwritable) {
                (Ok(true), _) => {}
                (Ok(false), None) => return Ok(false),
                (Err(ConnectError::Proxy(error)), _) => return Err(ConnectError::Proxy(error)),
                (_, Some(error)) => return Err(failed(error)),
                (Err(error), None) => return Err(error),
            }
        }
        Ok(true)
    }

    /// One read of what the proxy says. `Ok(false)` when it says nothing for now.
    fn read_from_proxy(&mut self, around: &Surroundings<'_>) -> Result<bool, ConnectError> {
        let mut chunk = [0; 512];
        let room = around.max_leftover.min(chunk.len());
        match self.stream.read(&mut chunk[..room]) {
            Ok(0) => Err(ConnectError::Io(ErrorKind::UnexpectedEof)),
            Ok(count) => {
                let progress = self
                    .tunnel
                    .handle_input(&chunk[..count])
                    .map_err(ConnectError::Proxy)?;
                // What is behind the proxy's last word is the server's first.
                self.answer
                    .extend_from_slice(&chunk[progress.consumed..count]);
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(true),
            Err(error) => Err(ConnectError::Io(error.kind())),
        }
    }

    /// Writes what the proxy has to be told. `Ok(false)` while there is more.
    fn write_to_proxy(&mut self) -> io::Result<bool> {
        while let Some(bytes) = self.tunnel.poll_output() {
            match self.stream.write(bytes) {
                Ok(count) => self.tunnel.advance(count),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    fn write(&mut self) -> io::Result<()> {
        while self.written < self.request.len() {
            match self.stream.write(&self.request[self.written..]) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// One read. What comes behind a head that ends in it is never more than `max_leftover`: the rest stays in the kernel.
    fn read(&mut self, around: &Surroundings<'_>) -> Arrived {
        let (buffer, room) = match &mut self.refusal {
            Some(refusal) => {
                let room = refusal.room();
                (refusal.body(), room)
            }
            None => (&mut self.answer, around.max_leftover),
        };
        let have = buffer.len();
        buffer.resize(have + room.min(READ_STEP), 0);
        let result = self.stream.read(&mut buffer[have..]);
        let count = *result.as_ref().unwrap_or(&0);
        buffer.truncate(have + count);
        match result.map_err(|error| error.kind()) {
            Ok(0) => Arrived::Ended(ErrorKind::UnexpectedEof),
            Ok(_) | Err(ErrorKind::Interrupted) => Arrived::Bytes,
            Err(ErrorKind::WouldBlock) => Arrived::Nothing,
            Err(reason) => Arrived::Ended(reason),
        }
    }

    /// What the answer says so far.
    fn judge(&mut self, key: &ClientKey, connect: &Connect, around: &Surroundings<'_>) -> Step {
        while self.refusal.is_none() {
            // Interim answers count: a server that announces without end is to be got rid of.
            let room = around.max_head_size.saturating_sub(self.interim);
            let head_len = match find_head_end(&self.answer, self.scanned) {
                Some(head_len) if head_len <= room => head_len,
                None if self.answer.len() < room => {
                    self.scanned = self.answer.len();
                    return Step::Wait;
                }
                _ => return Step::Failed(ConnectError::Response(ResponseError::HeadTooLarge)),
            };
            let mut slots = HeaderSlots::new(MAX_HEADER_FIELDS);
            let head = match ResponseHead::parse(&self.answer[..head_len], &mut slots) {
                Ok(head) => head,
                Err(error) => return Step::Failed(ConnectError::Response(error)),
            };
            if head.is_interim() {
                // An announcement, not an answer (RFC 9110 §15.2): the next head counts.
                self.interim += head_len;
                self.answer.drain(..head_len);
                self.scanned = 0;
                continue;
            }
            let subprotocols = connect.request.subprotocols();
            match check_response(&head, key, subprotocols, connect.request.deflate()) {
                Ok(accepted) => {
                    return Step::Open {
                        head_len,
                        deflate: accepted.deflate,
                    };
                }
                Err(ResponseError::NotSwitching { .. }) => {
                    let refusal = self.refusal.insert(Box::new(Refusal::new(&head)));
                    refusal.body().extend_from_slice(&self.answer[head_len..]);
                }
                Err(error) => return Step::Failed(ConnectError::Response(error)),
            }
        }
        match self.refusal.take_if(|refusal| refusal.is_complete()) {
            Some(refusal) => Step::Failed(refusal.into_error()),
            None => Step::Wait,
        }
    }

    /// True exactly when the head of a refusal has come.
    pub(super) fn is_refused(&self) -> bool {
        self.refusal.is_some()
    }

    /// There is no more of the answer. A refusal whose body has not come is a refusal all the same.
    pub(super) fn end(&mut self, reason: ErrorKind) -> Step {
        Step::Failed(match self.refusal.take() {
            Some(refusal) => refusal.into_error(),
            None => ConnectError::Io(reason),
        })
    }
}

/// Bytes that are read at a time.
const READ_STEP: usize = 2048;

#[cfg(test)]
mod tests {
    use std::{
        net::TcpListener,
        time::{Duration, Instant},
    };

    use super::*;
    use crate::{
        config::Config,
        driver::Proxy,
        memory::Key,
        protocol::proxy::ProxyError,
        transport::{Registrar, SocketOptions, TokenKind},
    };

    /// It has said why, and resets the connection before it is asked for anything.
    #[test]
    fn a_proxy_that_refuses_before_it_is_asked_is_heard() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let stream = mio::net::TcpStream::connect(address).unwrap();
        let (mut proxy, _) = listener.accept().unwrap();
        proxy.write_all(b"HTTP/1.1 403 No\r\n\r\n").unwrap();
        let proxy = socket2::Socket::from(proxy);
        proxy.set_linger(Some(Duration::ZERO)).unwrap();
        drop(proxy);

        let connect = Connect::to("ws://example.com").unwrap();
        let connect = connect.proxy(Proxy::http("127.0.0.1", address.port()).unwrap());
        let mut talk = Talk::new(Stream::Tcp(stream), connect.tunnel().unwrap(), Vec::new());
        let surroundings = Surroundings {
            registrar: &Registrar::Alone(None),
            name: (TokenKind::Dial, Key::from_parts(0, 0)),
            sockets: SocketOptions::new(&Config::default()),
            now: Instant::now(),
            max_head_size: 8192,
            max_leftover: 4096,
        };
        let step = talk.step(&ClientKey::new([0; 16]), &connect, &surroundings);
        let Step::Failed(error) = step else {
            panic!("the proxy refused")
        };
        assert_eq!(
            error,
            ConnectError::Proxy(ProxyError::Refused { status: 403 })
        );
    }
}
