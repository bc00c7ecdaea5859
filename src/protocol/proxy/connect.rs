//! HTTP `CONNECT` (RFC 9110 §9.3.6).

use alloc::{format, vec::Vec};

use super::super::handshake::{
    HeaderSlots, MAX_HEADER_FIELDS, ResponseError, ResponseHead, find_head_end,
};
use super::Progress;
use super::credentials::{Credentials, CredentialsError};
use super::destination::Destination;
use super::error::ProxyError;
use super::output::Output;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The most bytes that a proxy may answer with before the tunnel begins, interim responses included.
pub const MAX_CONNECT_HEAD: usize = 8 * 1024;

/// Asks an HTTP proxy for a tunnel. It is driven as [`Tunnel`](super::Tunnel) is.
#[derive(Debug)]
pub struct HttpConnect {
    output: Output,
    /// The head, as far as it has come.
    head: Vec<u8>,
    /// How much more the proxy may send.
    budget: usize,
    state: State,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Waiting,
    Done,
    Failed(ProxyError),
}

impl HttpConnect {
    /// A request for a tunnel; credentials are sent along with it, as `Basic` (RFC 7617).
    ///
    /// # Errors
    ///
    /// [`CredentialsError::ColonInUser`] and [`CredentialsError::ControlCharacter`].
    pub fn new(
        destination: &Destination,
        credentials: Option<&Credentials>,
    ) -> Result<Self, CredentialsError> {
        Ok(Self {
            output: Output::new(request(destination, credentials)?),
            head: Vec::new(),
            budget: MAX_CONNECT_HEAD,
            state: State::Waiting,
        })
    }

    /// What is to be written next; `None` when there is nothing.
    pub fn poll_output(&mut self) -> Option<&[u8]> {
        self.output.pending()
    }

    /// So many bytes of the output were written.
    pub fn advance(&mut self, count: usize) {
        self.output.advance(count);
    }

    /// Takes bytes of the proxy's answer, up to the end of its head.
    ///
    /// # Errors
    ///
    /// [`ProxyError::InvalidResponse`], [`ProxyError::Refused`], and [`ProxyError::UnexpectedInput`] for a tunnel that opens
    /// before the request was written. An error is final: every later call returns it again.
    pub fn handle_input(&mut self, bytes: &[u8]) -> Result<Progress, ProxyError> {
        let mut consumed = 0;
        while let State::Waiting = self.state {
            let rest = bytes.get(consumed..).unwrap_or_default();
            if rest.is_empty() {
                break;
            }
            consumed += self.collect(rest).map_err(|error| self.fail(error))?;
        }
        match self.state {
            State::Failed(error) => Err(error),
            State::Waiting | State::Done => Ok(Progress { consumed }),
        }
    }

    /// True exactly when the tunnel is open.
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Takes bytes up to the end of the head, and the head when it is whole. `bytes` is not empty; at least one is taken.
    fn collect(&mut self, bytes: &[u8]) -> Result<usize, ProxyError> {
        let scanned = self.head.len();
        let admitted = bytes.get(..self.budget).unwrap_or(bytes);
        self.head.extend_from_slice(admitted);
        let Some(end) = find_head_end(&self.head, scanned) else {
            self.budget = self.budget.saturating_sub(admitted.len());
            return match self.budget {
                0 => Err(ResponseError::HeadTooLarge.into()),
                _ => Ok(admitted.len()),
            };
        };
        let taken = end.saturating_sub(scanned);
        self.budget = self.budget.saturating_sub(taken);
        self.head.truncate(end);
        self.handle_head()?;
        Ok(taken)
    }

    fn handle_head(&mut self) -> Result<(), ProxyError> {
        let mut slots = HeaderSlots::new(MAX_HEADER_FIELDS);
        let head = ResponseHead::parse(&self.head, &mut slots)?;
        match head.status() {
            200..=299 if self.output.pending().is_some() => {
                return Err(ProxyError::UnexpectedInput);
            }
            // What such a head says of a body does not count. RFC 9110 §9.3.6.
            200..=299 => self.state = State::Done,
            _ if head.is_interim() && self.budget == 0 => {
                return Err(ResponseError::HeadTooLarge.into());
            }
            _ if head.is_interim() => {}
            status => return Err(ProxyError::Refused { status }),
        }
        self.head.clear();
        Ok(())
    }

    fn fail(&mut self, error: ProxyError) -> ProxyError {
        self.state = State::Failed(error);
        error
    }
}

fn request(
    destination: &Destination,
    credentials: Option<&Credentials>,
) -> Result<Vec<u8>, CredentialsError> {
    let mut text = format!("CONNECT {destination} HTTP/1.1\r\nHost: {destination}\r\n");
    if let Some(credentials) = credentials {
        let basic = STANDARD.encode(credentials.for_basic()?);
        text.push_str(&format!("Proxy-Authorization: Basic {basic}\r\n"));
    }
    text.push_str("\r\n");
    Ok(text.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::super::super::fuzz;
    use super::*;

    const OK: &[u8] = b"HTTP/1.1 200 Connection established\r\nX: y\r\n\r\n";

    /// A machine whose request was written.
    fn asked() -> HttpConnect {
        let destination = Destination::new("example.com", 443).unwrap();
        let mut connect = HttpConnect::new(&destination, None).unwrap();
        connect.advance(usize::MAX);
        connect
    }

    fn answered(bytes: &[u8]) -> Result<usize, ProxyError> {
        let mut connect = asked();
        let progress = connect.handle_input(bytes)?;
        assert!(connect.is_done());
        Ok(progress.consumed)
    }

    fn invalid(error: ResponseError) -> Result<Progress, ProxyError> {
        Err(ProxyError::InvalidResponse(error))
    }

    #[test]
    fn the_request() {
        let cases = [
            ("a", None, "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n"),
            (
                "[::1]",
                Some(Credentials::new("Aladdin", "open sesame")),
                "CONNECT [::1]:443 HTTP/1.1\r\nHost: [::1]:443\r\n\
                Proxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n\r\n",
            ),
        ];
        for (host, credentials, expected) in cases {
            let destination = Destination::new(host, 443).unwrap();
            let mut connect = HttpConnect::new(&destination, credentials.as_ref()).unwrap();
            let mut written = Vec::new();
            while let Some(output) = connect.poll_output() {
                written.push(output[0]);
                connect.advance(1);
            }
            assert_eq!(String::from_utf8(written).unwrap(), expected);
            assert!(!connect.is_done());
        }
        let colon = Credentials::new("a:b", "c");
        let refused = HttpConnect::new(&Destination::new("a", 1).unwrap(), Some(&colon)).map(drop);
        assert_eq!(refused, Err(CredentialsError::ColonInUser));
    }

    #[test]
    fn an_answer_split_at_every_byte_leaves_the_tunnels_bytes_over() {
        let stream = [OK, b"tunnel\r\n\r\n"].concat();
        for split in 0..=stream.len() {
            let mut connect = asked();
            let (first, second) = stream.split_at(split);
            let mut consumed = connect.handle_input(first).unwrap().consumed;
            assert_eq!(consumed, split.min(OK.len()));
            assert_eq!(connect.is_done(), split >= OK.len(), "{split}");
            consumed += connect.handle_input(second).unwrap().consumed;
            assert_eq!(consumed, OK.len(), "{split}");
            assert!(connect.is_done());
        }
        let mut connect = asked();
        for &byte in OK {
            assert!(!connect.is_done());
            assert_eq!(connect.handle_input(&[byte]).unwrap().consumed, 1);
        }
        assert!(connect.is_done());
    }

    #[test]
    fn answers() {
        let refused = |status| Err(ProxyError::Refused { status });
        let malformed = Err(ProxyError::InvalidResponse(ResponseError::Malformed));
        let cases: [(&[u8], Result<usize, ProxyError>); 10] = [
            (b"HTTP/1.0 200\r\n\r\nx", Ok(16)),
            (b"HTTP/1.1 299 X\r\n\r\n", Ok(18)),
            (b"HTTP/1.1 200 X\r\nContent-Length: 9\r\n\r\nx", Ok(37)),
            (
                b"HTTP/1.1 103 X\r\nA: b\r\n\r\nHTTP/1.1 200 X\r\n\r\nx",
                Ok(42),
            ),
            (b"HTTP/1.1 101 X\r\n\r\n", refused(101)),
            (b"HTTP/1.1 302 X\r\n\r\n", refused(302)),
            (
                b"HTTP/1.1 407 X\r\nContent-Length: 4\r\n\r\nbody",
                refused(407),
            ),
            (b"HTTP/1.0 503\r\n\r\n", refused(503)),
            (b"\x05\x00\r\n\r\n", malformed),
            (b"\r\n\r\n", malformed),
        ];
        for (bytes, expected) in cases {
            assert_eq!(answered(bytes), expected, "{bytes:?}");
        }
    }

    #[test]
    fn an_error_is_final() {
        let mut connect = asked();
        let error = connect.handle_input(b"HTTP/1.1 407 X\r\n\r\n");
        assert_eq!(error, Err(ProxyError::Refused { status: 407 }));
        assert_eq!(connect.handle_input(OK), error);
        assert_eq!(connect.handle_input(b""), error);
        assert!(!connect.is_done());
    }

    #[test]
    fn a_head_may_be_as_long_as_the_limit() {
        let head = |length: usize| {
            let start = "HTTP/1.1 200 X\r\nX: ";
            format!("{start}{}\r\n\r\n", "a".repeat(length - start.len() - 4)).into_bytes()
        };
        let longest = [&head(MAX_CONNECT_HEAD)[..], b"tunnel"].concat();
        assert_eq!(answered(&longest), Ok(MAX_CONNECT_HEAD));
        for chunk in [1, 1000, usize::MAX] {
            let mut connect = asked();
            let longer = head(MAX_CONNECT_HEAD + 1);
            let last = longer
                .chunks(chunk)
                .map(|part| connect.handle_input(part))
                .last();
            assert_eq!(last, Some(invalid(ResponseError::HeadTooLarge)), "{chunk}");
            assert!(connect.head.len() <= MAX_CONNECT_HEAD);
        }
    }

    #[test]
    fn interim_responses_are_not_endless() {
        let interim = b"HTTP/1.1 100 X\r\n\r\n".repeat(MAX_CONNECT_HEAD);
        for chunk in [1, 18, 1000, usize::MAX] {
            let mut connect = asked();
            let last = interim
                .chunks(chunk)
                .map(|part| connect.handle_input(part))
                .last();
            assert_eq!(last, Some(invalid(ResponseError::HeadTooLarge)), "{chunk}");
        }
    }

    #[test]
    fn a_tunnel_does_not_open_before_it_was_asked_for() {
        let destination = Destination::new("a", 1).unwrap();
        let mut connect = HttpConnect::new(&destination, None).unwrap();
        assert_eq!(connect.handle_input(OK), Err(ProxyError::UnexpectedInput));
    }

    #[test]
    fn debug_keeps_the_password_to_itself() {
        let credentials = Credentials::new("a", "b");
        let destination = Destination::new("a", 1).unwrap();
        let connect = HttpConnect::new(&destination, Some(&credentials)).unwrap();
        let text = format!("{connect:?}");
        let request = request(&destination, Some(&credentials)).unwrap();
        assert!(
            text.contains(&format!("0 of {} bytes", request.len())),
            "{text}"
        );
        assert!(!text.contains("YTpi") && !text.contains("89, 84"), "{text}");
    }

    #[test]
    fn mutated_answers_never_panic_and_agree_however_they_are_split() {
        const SPICE: &[u8] = b"\r\n\t :/\0\xff0123";
        let mut rng = fuzz::rng(0x0407);
        for _ in 0..20_000 {
            let bytes = fuzz::mutated(&mut rng, OK, SPICE);
            let mut whole = asked();
            let mut split = asked();
            let at_once = whole.handle_input(&bytes);
            let (first, second) = bytes.split_at(fuzz::below(&mut rng, bytes.len()));
            let mut parts = split.handle_input(first);
            if let Ok(first) = parts {
                parts = split.handle_input(second).map(|second| Progress {
                    consumed: first.consumed + second.consumed,
                });
            }
            assert_eq!(at_once, parts, "{bytes:?}");
            assert_eq!(whole.is_done(), split.is_done());
        }
    }
}
