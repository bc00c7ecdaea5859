//! The grammar of `Sec-WebSocket-Extensions` (RFC 6455 §9.1). Everything here passes over its input once.

use core::{error::Error, fmt, str};

use super::token::is_token_byte;

/// The extensions that one line of `Sec-WebSocket-Extensions` names, in its order, each with its parameters. RFC 6455 §9.1.
///
/// Nothing follows a mistake in the grammar.
///
/// ```
/// use wsloop::protocol::handshake::extensions;
///
/// let mut named = extensions(b"permessage-deflate; server_max_window_bits=\"10\", x-other; flag");
/// let first = named.next().unwrap()?;
/// assert_eq!(first.name(), "permessage-deflate");
/// assert!(first.params().eq([("server_max_window_bits", Some("10"))]));
/// assert!(named.next().unwrap()?.params().eq([("flag", None)]));
/// # Ok::<(), wsloop::protocol::handshake::InvalidExtensions>(())
/// ```
pub fn extensions(line: &[u8]) -> Extensions<'_> {
    Extensions {
        cursor: Cursor { rest: line },
    }
}

/// What [`extensions`] returns.
#[derive(Debug, Clone)]
pub struct Extensions<'a> {
    cursor: Cursor<'a>,
}

/// An extension by name, with its parameters: an offer in a request, in an answer what the server has taken up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extension<'a> {
    name: &'a str,
    /// Parameters that keep to the grammar, each behind its semicolon.
    params: &'a [u8],
}

/// A line that does not keep to the grammar, or has an escaped character in a quoted value, which no value needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidExtensions;

impl<'a> Extension<'a> {
    /// The extension's name, as written.
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// The parameters in the order written, those with quotes without them.
    pub fn params(&self) -> impl Iterator<Item = (&'a str, Option<&'a str>)> + use<'a> {
        let mut cursor = Cursor { rest: self.params };
        core::iter::from_fn(move || cursor.param().ok().flatten())
    }
}

impl<'a> Iterator for Extensions<'a> {
    type Item = Result<Extension<'a>, InvalidExtensions>;

    fn next(&mut self) -> Option<Self::Item> {
        // RFC 9110 §5.6.1: elements of a list may be empty.
        self.cursor.skip(|byte| matches!(byte, b' ' | b'\t' | b','));
        if self.cursor.rest.is_empty() {
            return None;
        }
        let element = self.cursor.element();
        if element.is_err() {
            self.cursor.rest = &[];
        }
        Some(element)
    }
}

#[derive(Debug, Clone)]
struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    fn element(&mut self) -> Result<Extension<'a>, InvalidExtensions> {
        let name = self.token()?;
        let params = self.rest;
        while self.param()?.is_some() {}
        let len = params.len() - self.rest.len();
        match self.rest.first() {
            None | Some(b',') => Ok(Extension {
                name,
                params: &params[..len],
            }),
            Some(_) => Err(InvalidExtensions),
        }
    }

    /// The next parameter with its semicolon, and the white space on both sides of it; `None` where none begins.
    fn param(&mut self) -> Result<Option<(&'a str, Option<&'a str>)>, InvalidExtensions> {
        self.skip_space();
        if !self.take(b';') {
            return Ok(None);
        }
        self.skip_space();
        let name = self.token()?;
        self.skip_space();
        if !self.take(b'=') {
            return Ok(Some((name, None)));
        }
        self.skip_space();
        let value = if self.take(b'"') {
            let value = self.token()?;
            if !self.take(b'"') {
                return Err(InvalidExtensions);
            }
            value
        } else {
            self.token()?
        };
        self.skip_space();
        Ok(Some((name, Some(value))))
    }

    fn token(&mut self) -> Result<&'a str, InvalidExtensions> {
        let whole = self.rest;
        self.skip(is_token_byte);
        match str::from_utf8(&whole[..whole.len() - self.rest.len()]) {
            Ok("") | Err(_) => Err(InvalidExtensions),
            Ok(token) => Ok(token),
        }
    }

    fn take(&mut self, byte: u8) -> bool {
        match self.rest.split_first() {
            Some((first, rest)) if *first == byte => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    fn skip_space(&mut self) {
        self.skip(|byte| matches!(byte, b' ' | b'\t'));
    }

    fn skip(&mut self, skipped: impl Fn(u8) -> bool) {
        let end = self.rest.iter().position(|&byte| !skipped(byte));
        self.rest = &self.rest[end.unwrap_or(self.rest.len())..];
    }
}

impl fmt::Display for InvalidExtensions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("malformed list of extensions")
    }
}

impl Error for InvalidExtensions {}

#[cfg(test)]
mod tests {
    use super::super::super::fuzz;
    use super::*;

    type Parsed = Vec<(String, Vec<(String, Option<String>)>)>;

    fn parse(line: &str) -> Result<Parsed, InvalidExtensions> {
        extensions(line.as_bytes())
            .map(|extension| {
                extension.map(|it| {
                    let params = it.params();
                    let params =
                        params.map(|(name, value)| (name.to_owned(), value.map(str::to_owned)));
                    (it.name().to_owned(), params.collect())
                })
            })
            .collect()
    }

    #[test]
    fn names_and_parameters_keep_their_order() {
        let param = |name: &str, value: Option<&str>| (name.to_owned(), value.map(str::to_owned));
        let expected = vec![
            (
                "a".to_owned(),
                vec![param("x", None), param("y", Some("1"))],
            ),
            ("b".to_owned(), vec![param("z", Some("t"))]),
            ("a".to_owned(), vec![]),
        ];
        for line in [
            "a;x;y=1,b;z=\"t\",a",
            " a ; x ; y = 1 ,, b\t; z=\"t\" , a ,",
        ] {
            assert_eq!(parse(line), Ok(expected.clone()), "{line}");
        }
        assert_eq!(parse(""), Ok(vec![]));
        assert_eq!(parse(" , ,"), Ok(vec![]));
    }

    #[test]
    fn what_breaks_the_grammar_is_refused() {
        for line in [
            ";",
            "a;",
            "a b",
            "a; =1",
            "a; x=",
            "a; x=\"\"",
            "a; x=\"1",
            "a; x=\"1 0\"",
            "a; x=\"1\\0\"",
            "a; x=1 2",
            "a; x=\"1\"2",
            "\"a\"",
            "a=1",
            "\u{e4}",
            "a; x=1;",
            "a/b",
        ] {
            assert_eq!(parse(line), Err(InvalidExtensions), "{line}");
        }
    }

    #[test]
    fn what_comes_before_a_mistake_counts() {
        let mut named = extensions(b"good; x=1, bad bad, good");
        assert_eq!(named.next().unwrap().unwrap().name(), "good");
        assert_eq!(named.next(), Some(Err(InvalidExtensions)));
        assert_eq!(named.next(), None);
    }

    #[test]
    fn anything_ends_and_nothing_panics() {
        let seed =
            b"permessage-deflate; client_max_window_bits; server_max_window_bits=\"10\", x; y=z";
        let mut rng = fuzz::rng(0x7692);
        for _ in 0..20_000 {
            let line = fuzz::mutated(&mut rng, seed, b" \t;,=\"\\\xff");
            assert!(
                extensions(&line)
                    .flatten()
                    .flat_map(|it| it.params())
                    .count()
                    <= line.len()
            );
        }
    }
}
