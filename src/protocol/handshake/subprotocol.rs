//! The server's choice of a subprotocol (RFC 6455 §4.2.2, step 5.5).

/// The first of the server's subprotocols, in its order of preference, that the client offers. Case counts.
///
/// ```
/// use wsloop::protocol::handshake::choose_subprotocol;
///
/// assert_eq!(choose_subprotocol(&["v2", "v1"], ["v1", "v2"]), Some("v2"));
/// assert_eq!(choose_subprotocol(&["v3"], ["v1", "v2"]), None);
/// ```
pub fn choose_subprotocol<'a, S: AsRef<str>>(
    preferred: &[S],
    offers: impl IntoIterator<Item = &'a str, IntoIter: Clone>,
) -> Option<&'a str> {
    let offers = offers.into_iter();
    preferred
        .iter()
        .find_map(|name| offers.clone().find(|offer| *offer == name.as_ref()))
}
