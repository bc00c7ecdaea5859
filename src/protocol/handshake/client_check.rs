//! Does this response open the WebSocket?

use super::accept_key::ClientKey;
use super::client_error::ResponseError;
use super::client_response::ResponseHead;
use super::token::elements;
use crate::protocol::{DeflateParams, DeflatePolicy, check_deflate_answer};

/// Checks the requirements of RFC 6455 §4.1 for the answer to a request that was sent with `key` and offered the subprotocols
/// `offered`, and permessage-deflate as `deflate` says.
///
/// An [interim](ResponseHead::is_interim) response is not an answer yet; here it counts as a refusal.
///
/// # Errors
///
/// [`ResponseError::NotSwitching`] for every status but 101, with which the caller may go on reading the
/// [body](super::body_length); otherwise the first rule that the response breaks.
pub fn check_response<'a, S: AsRef<str>>(
    head: &ResponseHead<'_>,
    key: &ClientKey,
    offered: &'a [S],
    deflate: Option<&DeflatePolicy>,
) -> Result<Accepted<'a>, ResponseError> {
    let status = head.status();
    if status != 101 {
        return Err(ResponseError::NotSwitching { status });
    }
    if head.minor_version() != 1 {
        return Err(ResponseError::UnsupportedHttpVersion);
    }
    if !upgrades_to_websocket(head) {
        return Err(ResponseError::MissingUpgrade);
    }
    if !head.lists("Connection", "upgrade") {
        return Err(ResponseError::MissingConnection);
    }
    check_accept(head, key)?;
    let lines = head.header_values("Sec-WebSocket-Extensions");
    let deflate = check_deflate_answer(lines, deflate)?;
    let subprotocol = chosen_subprotocol(head, offered)?;
    Ok(Accepted {
        subprotocol,
        deflate,
    })
}

/// What the server agreed to.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted<'a> {
    /// The one of the offers that the server chose. It may choose none, whatever was offered.
    pub subprotocol: Option<&'a str>,
    /// What it took up of the offer of permessage-deflate. It may decline.
    pub deflate: Option<DeflateParams>,
}

/// True exactly when `Upgrade` names `websocket` and nothing else: the offer was one protocol, not a stack of them.
fn upgrades_to_websocket(head: &ResponseHead<'_>) -> bool {
    let mut names = head
        .header_values("Upgrade")
        .flat_map(elements)
        .filter(|name| !name.is_empty())
        .map(|name| name.eq_ignore_ascii_case(b"websocket"));
    names.next() == Some(true) && names.all(|is_websocket| is_websocket)
}

fn check_accept(head: &ResponseHead<'_>, key: &ClientKey) -> Result<(), ResponseError> {
    match head.single("Sec-WebSocket-Accept")? {
        None => Err(ResponseError::MissingAccept),
        Some(accept) if key.is_answered_by(accept) => Ok(()),
        Some(_) => Err(ResponseError::WrongAccept),
    }
}

/// Case counts, and an empty name is none that was offered.
fn chosen_subprotocol<'a, S: AsRef<str>>(
    head: &ResponseHead<'_>,
    offered: &'a [S],
) -> Result<Option<&'a str>, ResponseError> {
    let Some(chosen) = head.single("Sec-WebSocket-Protocol")? else {
        return Ok(None);
    };
    offered
        .iter()
        .map(AsRef::as_ref)
        .find(|offer| !offer.is_empty() && offer.as_bytes() == chosen)
        .map(Some)
        .ok_or(ResponseError::UnrequestedSubprotocol)
}

#[cfg(test)]
mod tests {
    use super::super::super::fuzz;
    use super::super::fields::{HeaderSlots, MAX_HEADER_FIELDS};
    use super::super::{body_length, find_head_end};
    use super::ResponseError::*;
    use super::*;
    use crate::protocol::ExtensionError;

    const OFFERED: [&str; 2] = ["chat", "v2.chat"];

    /// The fields of a good response: a test takes lines away by prefix and adds others.
    const GOOD: [&str; 3] = [
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
    ];

    fn key() -> ClientKey {
        ClientKey::new(*b"the sample nonce")
    }

    fn text(status_line: &str, without: &str, with: &[&str]) -> String {
        let kept = GOOD
            .into_iter()
            .filter(|line| without.is_empty() || !line.starts_with(without));
        let lines: Vec<&str> = kept.chain(with.iter().copied()).collect();
        format!("{status_line}\r\n{}\r\n\r\n", lines.join("\r\n"))
    }

    /// The chosen subprotocol.
    type Checked = Result<Option<&'static str>, ResponseError>;

    fn check(bytes: &[u8]) -> Checked {
        let mut slots = HeaderSlots::new(MAX_HEADER_FIELDS);
        let head = ResponseHead::parse(bytes, &mut slots)?;
        let _ = body_length(&head);
        Ok(check_response(&head, &key(), &OFFERED, None)?.subprotocol)
    }

    fn check_fields(without: &str, with: &[&str]) -> Checked {
        check(text("HTTP/1.1 101 Switching Protocols", without, with).as_bytes())
    }

    #[test]
    fn status_lines() {
        let refused = |status| Err(NotSwitching { status });
        let cases = [
            ("HTTP/1.1 101 Switching Protocols", Ok(None)),
            ("HTTP/1.1 101", Ok(None)),
            ("HTTP/1.0 101 X", Err(UnsupportedHttpVersion)),
            ("HTTP/1.1 100 Continue", refused(100)),
            ("HTTP/1.1 200 OK", refused(200)),
            ("HTTP/1.1 302 Found", refused(302)),
            ("HTTP/1.1 401 Unauthorized", refused(401)),
            ("HTTP/1.0 403 Forbidden", refused(403)),
            ("HTTP/1.1 503 X", refused(503)),
            ("HTTP/2.0 101 X", Err(UnsupportedHttpVersion)),
        ];
        for (line, expected) in cases {
            assert_eq!(check(text(line, "", &[]).as_bytes()), expected, "{line}");
        }
    }

    #[test]
    fn fields() {
        let cases: &[(&str, &[&str], Checked)] = &[
            ("Upgrade", &["uPGRADE: WebSocket"], Ok(None)),
            ("", &["Upgrade: websocket"], Ok(None)),
            ("Upgrade", &[], Err(MissingUpgrade)),
            ("Upgrade", &["Upgrade:"], Err(MissingUpgrade)),
            ("Upgrade", &["Upgrade: h2c"], Err(MissingUpgrade)),
            ("", &["Upgrade: h2c"], Err(MissingUpgrade)),
            ("Upgrade", &["Upgrade: h2c, websocket"], Err(MissingUpgrade)),
            ("Connection", &["connection: keep-alive,UPGRADE"], Ok(None)),
            ("Connection", &[], Err(MissingConnection)),
            ("Connection", &["Connection: close"], Err(MissingConnection)),
            ("Sec-WebSocket-Accept", &[], Err(MissingAccept)),
            ("Sec", &["Sec-WebSocket-Accept:"], Err(WrongAccept)),
            ("Sec", &["Sec-WebSocket-Accept: x"], Err(WrongAccept)),
            (
                "Sec",
                &["Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOO="],
                Err(WrongAccept),
            ),
            (
                "Sec",
                &["sec-websocket-ACCEPT:\t s3pPLMBiTxaQ9kYGzzhZRbK+xOo= "],
                Ok(None),
            ),
            (
                "",
                &["Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="],
                Err(DuplicateHeader("Sec-WebSocket-Accept")),
            ),
            ("", &["Sec-WebSocket-Extensions:"], Ok(None)),
            (
                "",
                &["Sec-WebSocket-Extensions: permessage-deflate"],
                Err(Extension(ExtensionError::NotOffered)),
            ),
            (
                "",
                &["Sec-WebSocket-Extensions:", "sec-websocket-extensions: x"],
                Err(Extension(ExtensionError::NotOffered)),
            ),
            ("", &["Set-Cookie: a=b", "Content-Length: 5"], Ok(None)),
        ];
        for (without, with, expected) in cases {
            assert_eq!(check_fields(without, with), *expected, "{with:?}");
        }
    }

    #[test]
    fn a_subprotocol_is_one_of_the_offers() {
        let cases = [
            ("chat", Ok(Some("chat"))),
            ("v2.chat", Ok(Some("v2.chat"))),
            ("", Err(UnrequestedSubprotocol)),
            ("Chat", Err(UnrequestedSubprotocol)),
            ("v3", Err(UnrequestedSubprotocol)),
            ("chat, v2.chat", Err(UnrequestedSubprotocol)),
            ("\u{e9}", Err(UnrequestedSubprotocol)),
        ];
        for (value, expected) in cases {
            let line = format!("Sec-WebSocket-Protocol: {value}");
            assert_eq!(check_fields("", &[&line]), expected, "{value}");
        }
        let twice = ["Sec-WebSocket-Protocol: chat"; 2];
        let duplicate = Err(DuplicateHeader("Sec-WebSocket-Protocol"));
        assert_eq!(check_fields("", &twice), duplicate);
    }

    #[test]
    fn without_offers_every_subprotocol_is_unrequested() {
        for value in ["chat", ""] {
            let line = format!("Sec-WebSocket-Protocol: {value}");
            let bytes = text("HTTP/1.1 101 X", "", &[&line]);
            let mut slots = HeaderSlots::new(8);
            let head = ResponseHead::parse(bytes.as_bytes(), &mut slots).unwrap();
            let checked = check_response::<&str>(&head, &key(), &[], None);
            assert_eq!(checked, Err(UnrequestedSubprotocol), "{value:?}");
            let checked = check_response(&head, &key(), &[""], None);
            assert_eq!(checked, Err(UnrequestedSubprotocol), "{value:?}");
        }
    }

    #[test]
    fn mutated_responses_never_panic() {
        const SPICE: &[u8] = b"\r\n\t ,;:=\"/\0\x7f\x80\xff0123";
        let with = ["Sec-WebSocket-Protocol: chat", "Set-Cookie: a=\"b\""];
        let seed = text("HTTP/1.1 101 Switching Protocols", "", &with);
        let mut rng = fuzz::rng(0x0101);
        let mut accepted = 0_u32;
        for _ in 0..50_000 {
            let bytes = fuzz::mutated(&mut rng, seed.as_bytes(), SPICE);
            let end = find_head_end(&bytes, 0).unwrap_or(bytes.len());
            accepted += u32::from(check(&bytes[..end]).is_ok());
        }
        // Both answers have to occur, else the mutations test only one path.
        assert!((1_000..49_000).contains(&accepted), "{accepted} accepted");
    }

    #[test]
    fn random_bytes_never_panic() {
        let mut rng = fuzz::rng(0x0102);
        for _ in 0..20_000 {
            let mut bytes = b"HTTP/1.1 ".to_vec();
            bytes.truncate(fuzz::below(&mut rng, 10));
            bytes.extend(fuzz::random_bytes(&mut rng, 200));
            bytes.extend_from_slice(b"\r\n\r\n");
            assert!(check(&bytes).is_err());
        }
    }
}
