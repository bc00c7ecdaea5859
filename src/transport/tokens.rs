use mio::Token;

use crate::memory::Key;

/// Which tokens of a `mio::Poll` a loop uses.
///
/// A token is 64 bits: space (5), kind (3), index (24), generation (32). A loop on a poll of its own uses any space; a loop
/// inside a caller's poll gets a space that nobody else uses there.
///
/// ```
/// use wsloop::Tokens;
///
/// let tokens = Tokens::space(1).expect("1 to 31");
/// assert!(!tokens.owns(mio::Token(7)), "the caller's own small numbers are in space 0");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tokens {
    space: u8,
}

/// What a token stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum TokenKind {
    /// A connection, or the handshake that has its slot reserved: the socket keeps its token when it becomes the one.
    Connection = 0,
    Listener = 1,
    Source = 2,
    Mailbox = 3,
    Dial = 4,
}

const GENERATION_BITS: u32 = 32;
const INDEX_BITS: u32 = 24;
const KIND_BITS: u32 = 3;
const INDEX_SHIFT: u32 = GENERATION_BITS;
const KIND_SHIFT: u32 = INDEX_SHIFT + INDEX_BITS;
const SPACE_SHIFT: u32 = KIND_SHIFT + KIND_BITS;

// Index and generation do not fit into less.
const _: () = assert!(usize::BITS == 64, "wsloop needs a 64-bit target");

impl Tokens {
    /// The tokens whose five most significant bits are `space`: 1 to 31. `None` for 0, which is left to the caller, and
    /// above 31.
    #[must_use]
    pub const fn space(space: u8) -> Option<Self> {
        if space >= 1 && space <= 31 {
            Some(Self { space })
        } else {
            None
        }
    }

    /// True exactly when `token` is one of these.
    #[must_use]
    pub const fn owns(self, token: Token) -> bool {
        token.0 >> SPACE_SHIFT == self.space as usize
    }

    pub(crate) fn encode(self, kind: TokenKind, key: Key) -> Token {
        debug_assert!(key.index() < 1 << INDEX_BITS);
        Token(
            (self.space as usize) << SPACE_SHIFT
                | (kind as usize) << KIND_SHIFT
                | (key.index() as usize) << INDEX_SHIFT
                | key.generation() as usize,
        )
    }

    /// What a token stands for; `None` for one that is not ours.
    #[inline]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "each part is masked or shifted to its width"
    )]
    pub(crate) fn decode(self, token: Token) -> Option<(TokenKind, Key)> {
        if !self.owns(token) {
            return None;
        }
        let kind = match (token.0 >> KIND_SHIFT) as u8 & ((1 << KIND_BITS) - 1) {
            0 => TokenKind::Connection,
            1 => TokenKind::Listener,
            2 => TokenKind::Source,
            3 => TokenKind::Mailbox,
            4 => TokenKind::Dial,
            _ => return None,
        };
        let index = (token.0 >> INDEX_SHIFT) as u32 & ((1 << INDEX_BITS) - 1);
        Some((kind, Key::from_parts(index, token.0 as u32)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_a_round_trip() {
        let kinds = [
            TokenKind::Connection,
            TokenKind::Listener,
            TokenKind::Source,
            TokenKind::Mailbox,
            TokenKind::Dial,
        ];
        for space in 1..=31 {
            let tokens = Tokens::space(space).unwrap();
            for kind in kinds {
                for (index, generation) in [(0, 0), (1, 2), ((1 << INDEX_BITS) - 1, u32::MAX)] {
                    let key = Key::from_parts(index, generation);
                    let token = tokens.encode(kind, key);
                    assert_eq!(tokens.decode(token), Some((kind, key)));
                    let other = Tokens::space(space % 31 + 1).unwrap();
                    assert_eq!(other.decode(token), None);
                }
            }
        }
        assert!(Tokens::space(0).is_none() && Tokens::space(32).is_none());
    }
}
