//! What a proxy can do wrong, or not do.

use super::super::handshake::ResponseError;
use core::error::Error;
use core::fmt;

/// Why there is no tunnel.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyError {
    /// The proxy speaks although it was not asked yet.
    UnexpectedInput,
    /// The answer to `CONNECT` is no HTTP/1.x response, or its head is too large.
    InvalidResponse(ResponseError),
    /// The answer to `CONNECT` has another status than 2xx: 407 when the proxy wants credentials, or others.
    Refused {
        /// The status code.
        status: u16,
    },
    /// The first byte of an answer is not 5: this is no SOCKS5 proxy.
    UnsupportedSocksVersion(u8),
    /// The SOCKS5 proxy accepts none of the methods offered: it wants credentials, or a method that is not known here.
    NoAcceptableMethod,
    /// The SOCKS5 proxy chose a method that was not offered.
    UnofferedMethod(u8),
    /// The SOCKS5 proxy does not accept user and password. RFC 1929 §2.
    AuthenticationFailed,
    /// The SOCKS5 proxy does not open the connection. RFC 1928 §6.
    SocksRefused(SocksReply),
    /// The SOCKS5 proxy's answer holds an address of an unknown type. RFC 1928 §6.
    InvalidAddressType(u8),
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnexpectedInput => f.write_str("the proxy speaks before it is asked"),
            Self::InvalidResponse(error) => write!(f, "invalid answer of the proxy: {error}"),
            Self::Refused { status } => write!(f, "the proxy answered with status {status}"),
            Self::UnsupportedSocksVersion(version) => {
                write!(f, "the proxy does not speak SOCKS5 but version {version}")
            }
            Self::NoAcceptableMethod => {
                f.write_str("the proxy accepts none of the authentication methods offered")
            }
            Self::UnofferedMethod(method) => {
                write!(f, "the proxy chose method {method}, which was not offered")
            }
            Self::AuthenticationFailed => f.write_str("the proxy refuses user and password"),
            Self::SocksRefused(reply) => write!(f, "the proxy did not connect: {reply}"),
            Self::InvalidAddressType(kind) => {
                write!(f, "the proxy answered with an address of type {kind}")
            }
        }
    }
}

impl Error for ProxyError {}

impl From<ResponseError> for ProxyError {
    fn from(error: ResponseError) -> Self {
        Self::InvalidResponse(error)
    }
}

/// The reply codes of SOCKS5 but 0, which is success. RFC 1928 §6.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocksReply {
    /// 1: anything else.
    GeneralFailure,
    /// 2: the proxy's rules do not allow the connection.
    NotAllowed,
    /// 3: there is no way to the network.
    NetworkUnreachable,
    /// 4: there is no way to the host, or its name is not known.
    HostUnreachable,
    /// 5: the host refuses the connection.
    ConnectionRefused,
    /// 6: it took too long.
    TtlExpired,
    /// 7: this proxy does not connect.
    CommandNotSupported,
    /// 8: this proxy does not know this type of address.
    AddressTypeNotSupported,
    /// A code that the RFC does not assign.
    Unassigned(u8),
}

impl SocksReply {
    /// The meaning of a code that is not 0.
    pub(super) fn from_code(code: u8) -> Self {
        match code {
            1 => Self::GeneralFailure,
            2 => Self::NotAllowed,
            3 => Self::NetworkUnreachable,
            4 => Self::HostUnreachable,
            5 => Self::ConnectionRefused,
            6 => Self::TtlExpired,
            7 => Self::CommandNotSupported,
            8 => Self::AddressTypeNotSupported,
            other => Self::Unassigned(other),
        }
    }
}

impl fmt::Display for SocksReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::GeneralFailure => "general failure",
            Self::NotAllowed => "not allowed by its rules",
            Self::NetworkUnreachable => "network unreachable",
            Self::HostUnreachable => "host unreachable",
            Self::ConnectionRefused => "connection refused",
            Self::TtlExpired => "TTL expired",
            Self::CommandNotSupported => "command not supported",
            Self::AddressTypeNotSupported => "address type not supported",
            Self::Unassigned(code) => return write!(f, "unassigned code {code}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_text_of_its_own() {
        let mut texts: Vec<String> = (1..=u8::MAX)
            .map(|code| SocksReply::from_code(code).to_string())
            .collect();
        texts.sort();
        texts.dedup();
        assert_eq!(texts.len(), 255);
    }

    #[test]
    fn every_error_has_one_line_of_text() {
        let all = [
            ProxyError::UnexpectedInput,
            ProxyError::InvalidResponse(ResponseError::HeadTooLarge),
            ProxyError::Refused { status: 407 },
            ProxyError::UnsupportedSocksVersion(4),
            ProxyError::NoAcceptableMethod,
            ProxyError::UnofferedMethod(1),
            ProxyError::AuthenticationFailed,
            ProxyError::SocksRefused(SocksReply::NotAllowed),
            ProxyError::InvalidAddressType(9),
        ];
        for error in all {
            let text = error.to_string();
            assert!(!text.is_empty() && !text.contains('\n'), "{error:?}");
        }
    }
}
