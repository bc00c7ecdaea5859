use core::fmt;

use super::{MAX_CONTROL_PAYLOAD, ProtocolError, is_valid_utf8};

/// The longest reason that fits into a close frame, in bytes: a control payload less the two bytes of the code.
pub const MAX_CLOSE_REASON: usize = MAX_CONTROL_PAYLOAD - CODE_LEN;

const CODE_LEN: usize = 2;

/// A close code (RFC 6455 §7.4). Codes without a name are kept as they are.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CloseCode(u16);

impl CloseCode {
    /// 1000: the purpose of the connection is fulfilled.
    pub const NORMAL: Self = Self(1000);
    /// 1001: the endpoint goes away (a server stops, a page is left).
    pub const GOING_AWAY: Self = Self(1001);
    /// 1002: the peer broke the protocol.
    pub const PROTOCOL_ERROR: Self = Self(1002);
    /// 1003: data of a kind that is not accepted.
    pub const UNSUPPORTED_DATA: Self = Self(1003);
    /// 1005: never on the wire; stands for a close frame without a code.
    pub const NO_STATUS: Self = Self(1005);
    /// 1006: never on the wire; stands for a connection that ended without a close frame.
    pub const ABNORMAL: Self = Self(1006);
    /// 1007: data that is not what its type says (text that is not UTF-8).
    pub const INVALID_PAYLOAD: Self = Self(1007);
    /// 1008: against a policy of the endpoint.
    pub const POLICY_VIOLATION: Self = Self(1008);
    /// 1009: a message too big to process.
    pub const MESSAGE_TOO_BIG: Self = Self(1009);
    /// 1010: the client expected an extension that was not negotiated.
    pub const MANDATORY_EXTENSION: Self = Self(1010);
    /// 1011: an unexpected condition inside the server.
    pub const INTERNAL_ERROR: Self = Self(1011);
    /// 1012: the service restarts (IANA registry).
    pub const SERVICE_RESTART: Self = Self(1012);
    /// 1013: overloaded, try again later (IANA registry).
    pub const TRY_AGAIN_LATER: Self = Self(1013);
    /// 1014: a gateway got a bad answer from upstream (IANA registry).
    pub const BAD_GATEWAY: Self = Self(1014);

    /// The code with this number, whether or not it may be sent.
    #[must_use]
    pub const fn new(code: u16) -> Self {
        Self(code)
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }

    /// True exactly for codes that may stand in a close frame: 1000–1003, 1007–1014, 3000–4999 (RFC 6455 §7.4.2 and the
    /// IANA registry).
    #[must_use]
    pub const fn may_be_sent(self) -> bool {
        matches!(self.0, 1000..=1003 | 1007..=1014 | 3000..=4999)
    }

    /// The registry's name, or `None` for a code without one.
    #[must_use]
    pub const fn name(self) -> Option<&'static str> {
        Some(match self.0 {
            1000 => "normal closure",
            1001 => "going away",
            1002 => "protocol error",
            1003 => "unsupported data",
            1005 => "no status received",
            1006 => "abnormal closure",
            1007 => "invalid payload data",
            1008 => "policy violation",
            1009 => "message too big",
            1010 => "mandatory extension",
            1011 => "internal error",
            1012 => "service restart",
            1013 => "try again later",
            1014 => "bad gateway",
            1015 => "TLS handshake failed",
            _ => return None,
        })
    }
}

impl From<u16> for CloseCode {
    fn from(code: u16) -> Self {
        Self(code)
    }
}

impl fmt::Debug for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CloseCode({})", self.0)
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{} ({name})", self.0),
            None => write!(f, "{}", self.0),
        }
    }
}

/// The payload of a close frame (RFC 6455 §5.5.1): nothing, or a code and a reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClosePayload<'a> {
    /// `None` for an empty payload.
    pub code: Option<CloseCode>,
    /// Empty without a code.
    pub reason: &'a str,
}

impl<'a> ClosePayload<'a> {
    /// Reads the payload of a received close frame.
    ///
    /// # Errors
    /// `CloseLength` for one byte, `CloseCode` for a code that must not be on the wire, `CloseReason` for a reason that is
    /// not UTF-8.
    pub fn parse(payload: &'a [u8]) -> Result<Self, ProtocolError> {
        let (code, reason) = match payload {
            [] => {
                return Ok(Self {
                    code: None,
                    reason: "",
                });
            }
            [_] => return Err(ProtocolError::CloseLength),
            [high, low, reason @ ..] => (CloseCode(u16::from_be_bytes([*high, *low])), reason),
        };
        if !code.may_be_sent() {
            return Err(ProtocolError::CloseCode(code.get()));
        }
        let reason = core::str::from_utf8(reason).map_err(|_| ProtocolError::CloseReason)?;
        debug_assert!(is_valid_utf8(reason.as_bytes()));
        Ok(Self {
            code: Some(code),
            reason,
        })
    }

    /// A payload that may be sent: a reason above [`MAX_CLOSE_REASON`] is cut at a character boundary.
    #[must_use]
    pub fn new(code: CloseCode, reason: &'a str) -> Self {
        let end = reason.floor_char_boundary_at(MAX_CLOSE_REASON);
        Self {
            code: Some(code),
            reason: &reason[..end],
        }
    }

    /// Writes the payload to the front of `out` and returns its length, at most 125 bytes.
    pub fn encode(&self, out: &mut [u8; MAX_CONTROL_PAYLOAD]) -> usize {
        let Some(code) = self.code else { return 0 };
        let reason =
            &self.reason.as_bytes()[..self.reason.floor_char_boundary_at(MAX_CLOSE_REASON)];
        out[..CODE_LEN].copy_from_slice(&code.get().to_be_bytes());
        out[CODE_LEN..CODE_LEN + reason.len()].copy_from_slice(reason);
        CODE_LEN + reason.len()
    }
}

/// `str::floor_char_boundary`, which is younger than the MSRV.
trait FloorCharBoundary {
    fn floor_char_boundary_at(&self, limit: usize) -> usize;
}

impl FloorCharBoundary for str {
    fn floor_char_boundary_at(&self, limit: usize) -> usize {
        let limit = limit.min(self.len());
        (0..=limit)
            .rev()
            .find(|&at| self.is_char_boundary(at))
            .unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_that_may_be_sent() {
        for code in 0..=u16::MAX {
            let expected = (1000..=1003).contains(&code)
                || (1007..=1014).contains(&code)
                || (3000..=4999).contains(&code);
            assert_eq!(CloseCode::new(code).may_be_sent(), expected, "{code}");
        }
    }

    #[test]
    fn a_received_payload_is_checked() {
        let parse = ClosePayload::parse;
        assert_eq!(
            parse(b""),
            Ok(ClosePayload {
                code: None,
                reason: ""
            })
        );
        assert_eq!(parse(b"\x03"), Err(ProtocolError::CloseLength));
        assert_eq!(
            parse(b"\x03\xe8bye"),
            Ok(ClosePayload {
                code: Some(CloseCode::NORMAL),
                reason: "bye"
            })
        );
        assert_eq!(parse(b"\x03\xed"), Err(ProtocolError::CloseCode(1005)));
        assert_eq!(parse(b"\x00\x00"), Err(ProtocolError::CloseCode(0)));
        assert_eq!(parse(b"\x03\xe8\xff"), Err(ProtocolError::CloseReason));
        assert_eq!(
            parse(b"\x13\x87"),
            Ok(ClosePayload {
                code: Some(CloseCode::new(4999)),
                reason: ""
            })
        );
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let mut out = [0; MAX_CONTROL_PAYLOAD];
        for lead in 0..4 {
            let reason = format!("{}{}", "x".repeat(lead), "\u{1F600}".repeat(40));
            let payload = ClosePayload::new(CloseCode::NORMAL, &reason);
            let len = payload.encode(&mut out);
            let back = ClosePayload::parse(&out[..len]).unwrap();
            assert!(
                back.reason.len() <= MAX_CLOSE_REASON && back.reason.len() > MAX_CLOSE_REASON - 4
            );
            assert!(reason.starts_with(back.reason));
            assert_eq!(back, payload);
        }
    }

    #[test]
    fn codes_print_with_their_names() {
        assert_eq!(CloseCode::GOING_AWAY.to_string(), "1001 (going away)");
        assert_eq!(CloseCode::new(4000).to_string(), "4000");
    }
}
