use std::io::{self, ErrorKind, Read, Write};

use super::dial::{Step, Surroundings};
use crate::{
    driver::{Connect, ConnectError, RefusedAnswer},
    protocol::{
        handshake::{
            BodyLength, ClientKey, HeaderSlots, MAX_HEADER_FIELDS, ResponseError, ResponseHead,
            body_length, check_response, chunked_len, find_head_end,
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
    /// True exactly when the head of a refusal is in `answer`.
    refused: bool,
}

/// How much a read has left.
enum Arrived {
    /// Perhaps more: there is no room for it.
    Full,
    /// Nothing for now.
    Drained,
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
            refused: false,
        }
    }

    /// Goes on as far as the socket allows.
    pub(super) fn step(
        &mut self,
        key: &ClientKey,
        connect: &Connect,
        around: &Surroundings<'_>,
    ) -> Step {
        match self.step_tunnel() {
            Ok(true) => {}
            Ok(false) => return Step::Wait,
            Err(error) => return Step::Failed(error),
        }
        let unwritable = self.write().err().map(|error| error.kind());
        loop {
            // Also when nothing can be written: a server may refuse before it has read the request.
            let arrived = self.read(around);
            let ended = match arrived {
                Arrived::Full => None,
                Arrived::Drained => unwritable,
                Arrived::Ended(reason) => Some(reason),
            };
            match self.judge(ended, key, connect, around) {
                // It has made room, and nobody says again that there is more.
                Step::Wait if matches!(arrived, Arrived::Full) => {}
                step => return step,
            }
        }
    }

    /// Goes on with the conversation with the proxy. `Ok(false)` while it is not over.
    fn step_tunnel(&mut self) -> Result<bool, ConnectError> {
        let failed = |error: io::Error| ConnectError::Io(error.kind());
        while !self.tunnel.is_done() {
            if !self.write_to_proxy().map_err(failed)? {
                return Ok(false);
            }
            let mut chunk = [0; 512];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(ConnectError::Io(ErrorKind::UnexpectedEof)),
                Ok(count) => {
                    let progress = self
                        .tunnel
                        .handle_input(&chunk[..count])
                        .map_err(ConnectError::Proxy)?;
                    // What is behind the proxy's last word is the server's first.
                    self.answer
                        .extend_from_slice(&chunk[progress.consumed..count]);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(true)
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

    /// Reads what is there, up to the bounds of a head and of what comes behind it.
    fn read(&mut self, around: &Surroundings<'_>) -> Arrived {
        let behind = if self.refused {
            RefusedAnswer::MAX_BODY
        } else {
            around.max_leftover
        };
        let bound = around.max_head_size + behind;
        loop {
            let have = self.answer.len();
            if have >= bound {
                return Arrived::Full;
            }
            // In steps, so that a bound is not a reservation.
            self.answer.resize(bound.min(have + READ_STEP), 0);
            let result = self.stream.read(&mut self.answer[have..]);
            let count = *result.as_ref().unwrap_or(&0);
            self.answer.truncate(have + count);
            match result {
                Ok(0) => return Arrived::Ended(ErrorKind::UnexpectedEof),
                Ok(_) => {}
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => return Arrived::Drained,
                    ErrorKind::Interrupted => {}
                    reason => return Arrived::Ended(reason),
                },
            }
        }
    }

    /// What the answer says so far; `ended` is why there is no more of it.
    pub(super) fn judge(
        &mut self,
        ended: Option<ErrorKind>,
        key: &ClientKey,
        connect: &Connect,
        around: &Surroundings<'_>,
    ) -> Step {
        loop {
            // Interim answers count: a server that announces without end is to be got rid of.
            let room = around.max_head_size.saturating_sub(self.interim);
            let Some(head_len) = find_head_end(&self.answer, self.scanned) else {
                self.scanned = self.answer.len();
                return match ended {
                    _ if self.answer.len() >= room => {
                        Step::Failed(ConnectError::Response(ResponseError::HeadTooLarge))
                    }
                    Some(reason) => Step::Failed(ConnectError::Io(reason)),
                    None => Step::Wait,
                };
            };
            if head_len > room {
                return Step::Failed(ConnectError::Response(ResponseError::HeadTooLarge));
            }
            let mut slots = HeaderSlots::new(MAX_HEADER_FIELDS);
            let head = match ResponseHead::parse(&self.answer[..head_len], &mut slots) {
                Ok(head) => head,
                Err(error) => return Step::Failed(ConnectError::Response(error)),
            };
            if !head.is_interim() {
                let accepted = check_response(
                    &head,
                    key,
                    connect.request.subprotocols(),
                    connect.request.deflate(),
                );
                return match (accepted, ended) {
                    (Ok(accepted), None | Some(ErrorKind::UnexpectedEof)) => Step::Open {
                        head_len,
                        deflate: accepted.deflate,
                    },
                    (Ok(_), Some(reason)) => Step::Failed(ConnectError::Io(reason)),
                    (Err(ResponseError::NotSwitching { .. }), _) => {
                        self.refused = true;
                        refusal(&head, &self.answer[head_len..], ended.is_some())
                    }
                    (Err(error), _) => Step::Failed(ConnectError::Response(error)),
                };
            }
            // An announcement, not an answer (RFC 9110 §15.2): the next head counts.
            self.interim += head_len;
            self.answer.drain(..head_len);
            self.scanned = 0;
        }
    }
}

/// Bytes by which the buffer for an answer grows.
const READ_STEP: usize = 2048;

/// The refusal, once its body is complete, or as much of it as is kept.
fn refusal(head: &ResponseHead<'_>, body: &[u8], ended: bool) -> Step {
    let wanted = match body_length(head) {
        BodyLength::None => 0,
        BodyLength::Exact(len) => usize::try_from(len).unwrap_or(usize::MAX),
        BodyLength::Chunked => chunked_len(body).unwrap_or(usize::MAX),
        BodyLength::UntilClose => usize::MAX,
    };
    let wanted = wanted.min(RefusedAnswer::MAX_BODY);
    if body.len() < wanted && !ended {
        return Step::Wait;
    }
    Step::Failed(ConnectError::Refused(Box::new(RefusedAnswer {
        status: head.status(),
        headers: head
            .headers()
            .map(|(name, value)| (name.to_owned(), value.to_vec()))
            .collect(),
        body: body[..wanted.min(body.len())].to_vec(),
    })))
}
