//! SOCKS5 (RFC 1928), with user and password (RFC 1929).

use alloc::{vec, vec::Vec};

use super::Progress;
use super::credentials::{Credentials, CredentialsError};
use super::destination::Destination;
use super::error::{ProxyError, SocksReply};
use super::output::Output;

/// Asks a SOCKS5 proxy for a tunnel. It is driven as [`Tunnel`](super::Tunnel) is.
///
/// ```text
/// Method ──(0)──────────────────────▶ Reply ──▶ Done
///    └────(2)───▶ Authentication ───────▲
/// ```
///
/// Each arrow is an answer of the proxy, and makes the next message pending. Any of them may lead to `Failed` instead.
#[derive(Debug)]
pub struct Socks5 {
    output: Output,
    /// The answer that is expected, as far as it has come.
    answer: Vec<u8>,
    state: State,
    /// RFC 1928 §4, pending from `Reply` on.
    request: Output,
    /// RFC 1929 §2, pending in `Authentication`; `None` when that was not offered, or is said.
    authentication: Option<Output>,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// The proxy's choice of a method. RFC 1928 §3.
    Method,
    /// The proxy's verdict on user and password. RFC 1929 §2.
    Authentication,
    /// The proxy's answer to the request. RFC 1928 §6.
    Reply,
    Done,
    Failed(ProxyError),
}

impl Socks5 {
    /// A request for a tunnel. With credentials both methods are offered, with and without them.
    ///
    /// # Errors
    ///
    /// [`CredentialsError::EmptyUser`] and [`CredentialsError::TooLong`].
    pub fn new(
        destination: &Destination,
        credentials: Option<&Credentials>,
    ) -> Result<Self, CredentialsError> {
        let authentication = credentials.map(Credentials::for_socks5).transpose()?;
        let greeting: &[u8] = match authentication {
            Some(_) => &[VERSION, 2, NO_AUTHENTICATION, USER_AND_PASSWORD],
            None => &[VERSION, 1, NO_AUTHENTICATION],
        };
        let mut request = vec![VERSION, CONNECT, 0];
        destination.encode_socks5(&mut request);
        Ok(Self {
            output: Output::new(greeting.to_vec()),
            answer: Vec::with_capacity(LONGEST_ANSWER),
            state: State::Method,
            request: Output::new(request),
            authentication: authentication.map(Output::new),
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

    /// Takes bytes of the proxy's answers.
    ///
    /// # Errors
    ///
    /// What the proxy did wrong, or did not do; [`ProxyError::UnexpectedInput`] when it speaks while output is pending. An
    /// error is final: every later call returns it again.
    pub fn handle_input(&mut self, bytes: &[u8]) -> Result<Progress, ProxyError> {
        let mut consumed = 0;
        for &byte in bytes {
            if self.is_done() {
                break;
            }
            self.handle_byte(byte).map_err(|error| self.fail(error))?;
            consumed += 1;
        }
        match self.state {
            State::Failed(error) => Err(error),
            _ => Ok(Progress { consumed }),
        }
    }

    /// True exactly when the tunnel is open.
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    fn handle_byte(&mut self, byte: u8) -> Result<(), ProxyError> {
        if let State::Failed(error) = self.state {
            return Err(error);
        }
        if self.output.pending().is_some() {
            return Err(ProxyError::UnexpectedInput);
        }
        self.answer.push(byte);
        match self.state {
            State::Method => self.handle_choice(),
            State::Authentication => self.handle_verdict(),
            State::Reply => self.handle_reply(),
            State::Done | State::Failed(_) => Ok(()),
        }
    }

    fn handle_choice(&mut self) -> Result<(), ProxyError> {
        match self.answer[..] {
            [] | [VERSION] => Ok(()),
            [VERSION, method, ..] => self.handle_method(method),
            [other, ..] => Err(ProxyError::UnsupportedSocksVersion(other)),
        }
    }

    fn handle_method(&mut self, method: u8) -> Result<(), ProxyError> {
        match (method, self.authentication.take()) {
            (NO_AUTHENTICATION, _) => self.ask(),
            (USER_AND_PASSWORD, Some(message)) => {
                self.output = message;
                self.answer.clear();
                self.state = State::Authentication;
            }
            (NO_ACCEPTABLE_METHOD, _) => return Err(ProxyError::NoAcceptableMethod),
            (other, _) => return Err(ProxyError::UnofferedMethod(other)),
        }
        Ok(())
    }

    /// Only the status counts: some proxies answer with the version of SOCKS, not with that of RFC 1929.
    fn handle_verdict(&mut self) -> Result<(), ProxyError> {
        match self.answer[..] {
            [_, 0] => self.ask(),
            [_, _, ..] => return Err(ProxyError::AuthenticationFailed),
            _ => {}
        }
        Ok(())
    }

    fn handle_reply(&mut self) -> Result<(), ProxyError> {
        if self.answer.len() >= reply_length(&self.answer)? {
            self.state = State::Done;
        }
        Ok(())
    }

    fn ask(&mut self) {
        self.output = core::mem::take(&mut self.request);
        self.answer.clear();
        self.state = State::Reply;
    }

    fn fail(&mut self, error: ProxyError) -> ProxyError {
        self.state = State::Failed(error);
        error
    }
}

/// How long the reply is at least, judging by what is there of it; exact as soon as that many bytes are there. The bound
/// address says nothing about the tunnel and is passed over. RFC 1928 §6.
fn reply_length(reply: &[u8]) -> Result<usize, ProxyError> {
    const BEFORE_ADDRESS: usize = 4;
    const PORT: usize = 2;
    match *reply {
        [version, ..] if version != VERSION => Err(ProxyError::UnsupportedSocksVersion(version)),
        // A refusal needs no address: some proxies send none and hang up.
        [_, code, ..] if code != 0 => Err(ProxyError::SocksRefused(SocksReply::from_code(code))),
        [_, _, _, IPV4, ..] => Ok(BEFORE_ADDRESS + 4 + PORT),
        [_, _, _, IPV6, ..] => Ok(BEFORE_ADDRESS + 16 + PORT),
        [_, _, _, NAME, length, ..] => Ok(BEFORE_ADDRESS + 1 + usize::from(length) + PORT),
        [_, _, _, kind, ..] if kind != NAME => Err(ProxyError::InvalidAddressType(kind)),
        _ => Ok(BEFORE_ADDRESS + 1),
    }
}

/// Types of addresses. RFC 1928 §4.
pub(super) const IPV4: u8 = 1;
pub(super) const NAME: u8 = 3;
pub(super) const IPV6: u8 = 4;

/// A reply with the longest name.
const LONGEST_ANSWER: usize = 4 + 1 + 255 + 2;

const VERSION: u8 = 5;
const CONNECT: u8 = 1;

const NO_AUTHENTICATION: u8 = 0;
const USER_AND_PASSWORD: u8 = 2;
const NO_ACCEPTABLE_METHOD: u8 = 0xff;

#[cfg(test)]
mod tests {
    use super::super::super::fuzz;
    use super::*;

    const REQUEST: &[u8] = b"\x05\x01\x00\x03\x0bexample.com\x01\xbb";
    const REPLY: &[u8] = b"\x05\x00\x00\x01\x7f\x00\x00\x01\x04\x38";
    const LOGIN: &[u8] = b"\x01\x04user\x06sesame";

    fn machine(with_credentials: bool) -> Socks5 {
        let destination = Destination::new("example.com", 443).unwrap();
        let credentials = Credentials::new("user", "sesame");
        Socks5::new(&destination, with_credentials.then_some(&credentials)).unwrap()
    }

    /// Takes the output byte by byte.
    fn written(socks: &mut Socks5) -> Vec<u8> {
        let mut bytes = Vec::new();
        while let Some(output) = socks.poll_output() {
            bytes.push(output[0]);
            socks.advance(1);
        }
        bytes
    }

    /// Plays a dialogue of what is to be written and what the proxy answers, until the proxy's last answer.
    fn play(socks: &mut Socks5, dialogue: &[(&[u8], &[u8])]) -> Result<(), ProxyError> {
        for (ours, theirs) in dialogue {
            assert_eq!(written(socks), *ours);
            for &byte in *theirs {
                assert!(!socks.is_done());
                assert_eq!(socks.handle_input(&[byte])?.consumed, 1);
            }
        }
        Ok(())
    }

    #[test]
    fn without_authentication() {
        let mut socks = machine(false);
        let dialogue: [(&[u8], &[u8]); 2] = [(b"\x05\x01\x00", b"\x05\x00"), (REQUEST, REPLY)];
        assert_eq!(play(&mut socks, &dialogue), Ok(()));
        assert!(socks.is_done() && socks.poll_output().is_none());
    }

    #[test]
    fn with_user_and_password() {
        for version in [1, 5] {
            let mut socks = machine(true);
            let verdict = [version, 0];
            let dialogue: [(&[u8], &[u8]); 3] = [
                (b"\x05\x02\x00\x02", b"\x05\x02"),
                (LOGIN, &verdict),
                (REQUEST, REPLY),
            ];
            assert_eq!(play(&mut socks, &dialogue), Ok(()));
            assert!(socks.is_done());
        }
    }

    #[test]
    fn the_proxy_may_do_without_the_password() {
        let mut socks = machine(true);
        let dialogue: [(&[u8], &[u8]); 2] = [(b"\x05\x02\x00\x02", b"\x05\x00"), (REQUEST, REPLY)];
        assert_eq!(play(&mut socks, &dialogue), Ok(()));
        assert!(socks.is_done());
    }

    /// A machine that has written its request.
    fn asked() -> Socks5 {
        let mut socks = machine(false);
        written(&mut socks);
        socks.handle_input(b"\x05\x00").unwrap();
        written(&mut socks);
        socks
    }

    #[test]
    fn replies_of_every_form_split_at_every_byte_leave_the_tunnels_bytes_over() {
        let name = |length: u8| {
            let address = vec![b'a'; usize::from(length)];
            [&[5, 0, 0, 3, length][..], &address, b"\x00\x50"].concat()
        };
        let ipv6 = [&b"\x05\x00\x00\x04"[..], &[0xff; 18]].concat();
        for reply in [REPLY.to_vec(), ipv6, name(0), name(1), name(255)] {
            let stream = [&reply[..], b"\x05\x00tunnel"].concat();
            for split in 0..=stream.len() {
                let mut socks = asked();
                let (first, second) = stream.split_at(split);
                let consumed = socks.handle_input(first).unwrap().consumed;
                assert_eq!(consumed, split.min(reply.len()));
                assert_eq!(socks.is_done(), split >= reply.len(), "{split}");
                let consumed = consumed + socks.handle_input(second).unwrap().consumed;
                assert_eq!(consumed, reply.len(), "{split}");
                assert!(socks.is_done());
            }
        }
    }

    #[test]
    fn choices_that_are_refused() {
        use ProxyError::{NoAcceptableMethod, UnofferedMethod, UnsupportedSocksVersion};
        let cases: [(bool, &[u8], ProxyError); 7] = [
            (false, b"\x05\xff", NoAcceptableMethod),
            (true, b"\x05\xff", NoAcceptableMethod),
            (false, b"\x05\x02", UnofferedMethod(2)),
            (true, b"\x05\x01", UnofferedMethod(1)),
            (true, b"\x05\x80", UnofferedMethod(128)),
            (false, b"\x04", UnsupportedSocksVersion(4)),
            (false, b"HTTP/1.1 400", UnsupportedSocksVersion(b'H')),
        ];
        for (with_credentials, bytes, error) in cases {
            let mut socks = machine(with_credentials);
            written(&mut socks);
            assert_eq!(socks.handle_input(bytes), Err(error), "{bytes:?}");
        }
    }

    #[test]
    fn a_wrong_password() {
        for status in 1..=u8::MAX {
            let mut socks = machine(true);
            let verdict = [1, status];
            let dialogue: [(&[u8], &[u8]); 2] =
                [(b"\x05\x02\x00\x02", b"\x05\x02"), (LOGIN, &verdict)];
            let refused = play(&mut socks, &dialogue);
            assert_eq!(refused, Err(ProxyError::AuthenticationFailed), "{status}");
        }
    }

    #[test]
    fn refusals_are_known_by_their_second_byte() {
        for code in 1..=u8::MAX {
            let refused = asked().handle_input(&[5, code]);
            let reply = SocksReply::from_code(code);
            assert_eq!(refused, Err(ProxyError::SocksRefused(reply)), "{code}");
        }
    }

    #[test]
    fn replies_that_are_none() {
        let mut socks = asked();
        let refused = socks.handle_input(b"\x05\x00\x00\x02");
        assert_eq!(refused, Err(ProxyError::InvalidAddressType(2)));
        let refused = asked().handle_input(b"\x00");
        assert_eq!(refused, Err(ProxyError::UnsupportedSocksVersion(0)));
    }

    #[test]
    fn an_error_is_final() {
        let mut socks = asked();
        let error = socks.handle_input(b"\x05\x05");
        assert_eq!(
            error,
            Err(ProxyError::SocksRefused(SocksReply::ConnectionRefused))
        );
        assert_eq!(socks.handle_input(REPLY), error);
        assert_eq!(socks.handle_input(b""), error);
        assert!(!socks.is_done());
    }

    #[test]
    fn an_answer_that_comes_before_its_question_is_refused() {
        let early = Err(ProxyError::UnexpectedInput);
        assert_eq!(machine(false).handle_input(b"\x05"), early);
        let mut socks = machine(false);
        written(&mut socks);
        let both = [b"\x05\x00", REPLY].concat();
        assert_eq!(socks.handle_input(&both), early);
    }

    #[test]
    fn nothing_is_consumed_of_nothing() {
        let mut socks = machine(true);
        assert_eq!(socks.handle_input(b""), Ok(Progress { consumed: 0 }));
        assert_eq!(written(&mut socks), b"\x05\x02\x00\x02");
    }

    #[test]
    fn debug_keeps_the_password_to_itself() {
        let mut socks = machine(true);
        written(&mut socks);
        let before = format!("{socks:?}");
        socks.handle_input(b"\x05\x02").unwrap();
        for text in [before, format!("{socks:?}")] {
            assert!(text.contains("of 13 bytes"), "{text}");
            assert!(!text.contains("sesame") && !text.contains("115"), "{text}");
        }
    }

    #[test]
    fn mutated_and_random_answers_never_panic() {
        const SPICE: &[u8] = b"\x00\x01\x02\x03\x04\x05\xff";
        let seed = [b"\x05\x02\x01\x00", REPLY].concat();
        let mut rng = fuzz::rng(0x1928);
        let mut opened = 0_u32;
        for _ in 0..50_000 {
            let bytes = fuzz::mutated(&mut rng, &seed, SPICE);
            opened += u32::from(converse(&bytes));
            converse(&fuzz::random_bytes(&mut rng, 300));
        }
        assert!((1_000..49_000).contains(&opened), "{opened} opened");
    }

    /// Writes whatever is pending before every byte. True exactly when the tunnel opened.
    fn converse(bytes: &[u8]) -> bool {
        let mut socks = machine(true);
        for &byte in bytes {
            written(&mut socks);
            let Ok(progress) = socks.handle_input(&[byte]) else {
                return false;
            };
            if socks.is_done() {
                return true;
            }
            assert_eq!(progress.consumed, 1);
            assert!(socks.answer.len() <= LONGEST_ANSWER);
        }
        false
    }
}
