use core::{error::Error, fmt};

use super::params::{DeflateParams, DeflatePolicy, MAX_WINDOW_BITS, NAME};
use crate::protocol::handshake::{Extension, InvalidExtensions, extensions};

/// The smallest window that can be agreed on, as its binary logarithm (RFC 7692 §7.1.2).
const MIN_WINDOW_BITS: u8 = 8;

/// A server's choice among the offers of a request, given as the values of its `Sec-WebSocket-Extensions` lines: the first one
/// that can be accepted. `None`: the connection goes without compression.
///
/// An offer with an unknown, repeated or ill-valued parameter is declined (RFC 7692 §7.1), and so is everything behind a
/// mistake in the grammar.
///
/// ```
/// use wsloop::protocol::{DeflatePolicy, accept_deflate};
///
/// let policy = DeflatePolicy {
///     server_no_context_takeover: false,
///     client_no_context_takeover: true,
///     server_max_window_bits: 12,
///     client_max_window_bits: 15,
/// };
/// let lines = [&b"permessage-deflate; server_max_window_bits=7, permessage-deflate"[..]];
/// let agreed = accept_deflate(lines, &policy).expect("the second offer is acceptable");
/// assert_eq!(
///     agreed.to_string(),
///     "permessage-deflate; client_no_context_takeover; server_max_window_bits=12"
/// );
/// ```
pub fn accept_deflate<'a>(
    lines: impl IntoIterator<Item = &'a [u8]>,
    policy: &DeflatePolicy,
) -> Option<DeflateParams> {
    lines
        .into_iter()
        .flat_map(|line| extensions(line).map_while(Result::ok))
        .filter(is_deflate)
        .find_map(|offer| accept(&offer, policy))
}

fn accept(offer: &Extension<'_>, policy: &DeflatePolicy) -> Option<DeflateParams> {
    let offered = Named::parse(offer).ok()?;
    let server_bits = offered.server_max_window_bits;
    let server_most = server_bits
        .unwrap_or(MAX_WINDOW_BITS)
        .min(policy.server_max_window_bits);
    // Only a client that has mentioned it knows how to oblige (RFC 7692 §7.1.2.2).
    let client_bits = offered.client_max_window_bits.map(|bits| {
        bits.unwrap_or(MAX_WINDOW_BITS)
            .min(policy.client_max_window_bits)
    });
    Some(DeflateParams {
        server_no_context_takeover: offered.server_no_context_takeover
            || policy.server_no_context_takeover,
        client_no_context_takeover: offered.client_no_context_takeover
            || policy.client_no_context_takeover,
        // What was asked for has to be confirmed, even when it says nothing (RFC 7692 §7.1.2.1).
        server_max_window_bits: (server_bits.is_some() || server_most < MAX_WINDOW_BITS)
            .then_some(server_most),
        client_max_window_bits: client_bits.filter(|&bits| bits < MAX_WINDOW_BITS),
    })
}

/// A client's check of an answer, given as the values of its `Sec-WebSocket-Extensions` lines, to the offer that `policy`
/// stands for; without one, nothing was offered. `Ok(None)`: the server declined.
///
/// # Errors
/// An answer that must fail the connection (RFC 6455 §4.1, RFC 7692 §7.1).
pub fn check_deflate_answer<'a>(
    lines: impl IntoIterator<Item = &'a [u8]>,
    policy: Option<&DeflatePolicy>,
) -> Result<Option<DeflateParams>, ExtensionError> {
    let mut agreed = None;
    for extension in lines.into_iter().flat_map(extensions) {
        let extension = extension?;
        let policy = policy
            .filter(|_| is_deflate(&extension))
            .ok_or(ExtensionError::NotOffered)?;
        if agreed.is_some() {
            return Err(ExtensionError::Repeated);
        }
        agreed = Some(check(&extension, policy)?);
    }
    Ok(agreed)
}

fn check(answer: &Extension<'_>, policy: &DeflatePolicy) -> Result<DeflateParams, ExtensionError> {
    let named = Named::parse(answer)?;
    if policy.server_no_context_takeover && !named.server_no_context_takeover {
        return Err(ExtensionError::NotGranted);
    }
    let server_bits = named.server_max_window_bits;
    if server_bits.unwrap_or(MAX_WINDOW_BITS) > policy.server_max_window_bits {
        return Err(ExtensionError::NotGranted);
    }
    let client_max_window_bits = match named.client_max_window_bits {
        None => None,
        // Without a value it has a meaning in an offer alone.
        Some(None) => return Err(ExtensionError::Parameter),
        Some(bits) => bits,
    };
    Ok(DeflateParams {
        server_no_context_takeover: named.server_no_context_takeover,
        client_no_context_takeover: named.client_no_context_takeover,
        server_max_window_bits: server_bits,
        client_max_window_bits,
    })
}

/// Why an answer to an offer of extensions fails the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExtensionError {
    /// The answer does not keep to the grammar (RFC 6455 §9.1).
    Malformed,
    /// The server uses an extension that was not offered (RFC 6455 §4.1).
    NotOffered,
    /// The server has taken up the same extension twice.
    Repeated,
    /// A parameter is unknown, repeated, or has a value that it cannot have (RFC 7692 §7.1).
    Parameter,
    /// The server has taken up the offer without what the client insisted on (RFC 7692 §7.1.1.1, §7.1.2.1).
    NotGranted,
}

impl fmt::Display for ExtensionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "the server's extensions are malformed",
            Self::NotOffered => "the server uses an extension that was not asked for",
            Self::Repeated => "the server uses an extension twice",
            Self::Parameter => "the server's extension has a wrong parameter",
            Self::NotGranted => "the server's extension lacks what was asked for",
        })
    }
}

impl Error for ExtensionError {}

impl From<InvalidExtensions> for ExtensionError {
    fn from(_: InvalidExtensions) -> Self {
        Self::Malformed
    }
}

fn is_deflate(extension: &Extension<'_>) -> bool {
    extension.name().eq_ignore_ascii_case(NAME)
}

/// The parameters of an offer or an answer.
#[derive(Default)]
struct Named {
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    server_max_window_bits: Option<u8>,
    /// In an offer the value may be missing.
    client_max_window_bits: Option<Option<u8>>,
}

impl Named {
    fn parse(extension: &Extension<'_>) -> Result<Self, ExtensionError> {
        let mut named = Self::default();
        for (name, value) in extension.params() {
            let is = |known: &str| name.eq_ignore_ascii_case(known);
            let new = match value {
                None if is("server_no_context_takeover") => {
                    !core::mem::replace(&mut named.server_no_context_takeover, true)
                }
                None if is("client_no_context_takeover") => {
                    !core::mem::replace(&mut named.client_no_context_takeover, true)
                }
                None if is("client_max_window_bits") => {
                    named.client_max_window_bits.replace(None).is_none()
                }
                Some(value) if is("server_max_window_bits") => {
                    let bits = window_bits(value)?;
                    named.server_max_window_bits.replace(bits).is_none()
                }
                Some(value) if is("client_max_window_bits") => {
                    let bits = window_bits(value)?;
                    named.client_max_window_bits.replace(Some(bits)).is_none()
                }
                _ => false,
            };
            if !new {
                return Err(ExtensionError::Parameter);
            }
        }
        Ok(named)
    }
}

/// A decimal number from 8 to 15 without leading zeros (RFC 7692 §7.1.2).
fn window_bits(value: &str) -> Result<u8, ExtensionError> {
    value
        .parse()
        .ok()
        .filter(|bits| (MIN_WINDOW_BITS..=MAX_WINDOW_BITS).contains(bits))
        .filter(|_| !value.starts_with(['0', '+']))
        .ok_or(ExtensionError::Parameter)
}
