//! The header fields of a parsed head, of a request as of a response.

use core::mem::MaybeUninit;

use super::error::HandshakeError;
use super::token::has_token;

/// The most header fields of one head that [`HeaderSlots`] can hold.
pub const MAX_HEADER_FIELDS: usize = 128;

/// Room for the header fields of one head, to be put on the stack (about 4 KiB, of which only what is needed is touched).
#[derive(Debug)]
pub struct HeaderSlots<'b> {
    slots: [MaybeUninit<httparse::Header<'b>>; MAX_HEADER_FIELDS],
    limit: usize,
}

impl<'b> HeaderSlots<'b> {
    /// Admits `limit` header fields, at most [`MAX_HEADER_FIELDS`].
    pub fn new(limit: usize) -> Self {
        Self {
            slots: [const { MaybeUninit::uninit() }; MAX_HEADER_FIELDS],
            limit: limit.min(MAX_HEADER_FIELDS),
        }
    }

    pub(super) fn as_mut_slice(&mut self) -> &mut [MaybeUninit<httparse::Header<'b>>] {
        self.slots.get_mut(..self.limit).unwrap_or_default()
    }
}

/// The fields in the order sent, names as written, values without the white space around them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'a> {
    fields: &'a [httparse::Header<'a>],
}

impl<'a> Fields<'a> {
    pub(super) fn new(fields: &'a [httparse::Header<'a>]) -> Self {
        Self { fields }
    }

    pub(super) fn iter(self) -> impl Iterator<Item = (&'a str, &'a [u8])> + Clone + use<'a> {
        self.fields.iter().map(|field| (field.name, field.value))
    }

    /// The values of all fields of that name, whatever its case.
    pub(super) fn values<'n>(
        self,
        name: &'n str,
    ) -> impl Iterator<Item = &'a [u8]> + Clone + use<'a, 'n> {
        self.iter()
            .filter(move |(field, _)| field.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    /// The value of the first field of that name; `None` also when it is not UTF-8.
    pub(super) fn first(self, name: &str) -> Option<&'a str> {
        let value = self.values(name).next()?;
        core::str::from_utf8(value).ok()
    }

    /// The value of a field that may occur once.
    pub(super) fn single(self, name: &'static str) -> Result<Option<&'a [u8]>, Repeated> {
        let mut values = self.values(name);
        let first = values.next();
        match values.next() {
            Some(_) => Err(Repeated(name)),
            None => Ok(first),
        }
    }

    /// True exactly when one line of the field `name` lists `token`.
    pub(super) fn lists(self, name: &str, token: &str) -> bool {
        self.values(name).any(|value| has_token(value, token))
    }
}

/// The named field may occur once and occurs more often.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Repeated(pub(super) &'static str);

impl From<Repeated> for HandshakeError {
    fn from(Repeated(name): Repeated) -> Self {
        Self::DuplicateHeader(name)
    }
}

/// True exactly when a line feed does not follow a carriage return. The parser would take it for a line end, a proxy in
/// front perhaps not: then the two disagree about the header fields.
pub(super) fn has_bare_line_feed(bytes: &[u8]) -> bool {
    let (Some(&first), Some(rest)) = (bytes.first(), bytes.get(1..)) else {
        return false;
    };
    // Every pair is looked at, without a branch: that way many are at a time.
    let found = bytes
        .iter()
        .zip(rest)
        .fold(false, |found, (&before, &byte)| {
            found | ((byte == b'\n') & (before != b'\r'))
        });
    found | (first == b'\n')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(name: &'static str, value: &'static [u8]) -> httparse::Header<'static> {
        httparse::Header { name, value }
    }

    #[test]
    fn names_are_found_whatever_their_case() {
        let list = [
            header("A", b"1, x"),
            header("b", b"\xff"),
            header("a", b"2"),
        ];
        let fields = Fields::new(&list);
        assert!(fields.values("a").eq([&b"1, x"[..], b"2"]));
        assert_eq!(fields.first("a"), Some("1, x"));
        assert_eq!(fields.first("B"), None);
        assert!(fields.lists("a", "X"));
        assert!(!fields.lists("b", "x"));
        assert_eq!(fields.iter().count(), 3);
    }

    #[test]
    fn a_field_that_may_occur_once_is_refused_twice() {
        let list = [header("A", b"1"), header("b", b"2"), header("a", b"1")];
        let fields = Fields::new(&list);
        assert_eq!(fields.single("a"), Err(Repeated("a")));
        assert_eq!(fields.single("B"), Ok(Some(&b"2"[..])));
        assert_eq!(fields.single("c"), Ok(None));
    }

    #[test]
    fn bare_line_feeds() {
        let cases: [(&[u8], bool); 6] = [
            (b"", false),
            (b"a\r\n\r\n", false),
            (b"a\r\r\n", false),
            (b"\n", true),
            (b"a\nb\r\n", true),
            (b"a\r\n\n", true),
        ];
        for (bytes, expected) in cases {
            assert_eq!(has_bare_line_feed(bytes), expected, "{bytes:?}");
        }
    }
}
