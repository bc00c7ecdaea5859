use std::io;

use mio::{Interest, Registry, Token, event::Source};

use super::{TokenKind, Tokens};
use crate::memory::Key;

/// For a socket of which it matters when the kernel takes bytes.
pub(crate) const BOTH_WAYS: Interest = Interest::READABLE.add(Interest::WRITABLE);

/// How sockets are announced to a poll, and under which tokens.
pub(crate) enum Registrar {
    /// A loop's: everything has a token of its own.
    Loop { registry: Registry, tokens: Tokens },
    /// A lone client's: everything has the one token that its owner chose. `None` while nobody polls it.
    Alone(Option<(Registry, Token)>),
}

impl Registrar {
    pub(crate) fn register(
        &self,
        source: &mut (impl Source + ?Sized),
        (kind, key): (TokenKind, Key),
        interest: Interest,
    ) -> io::Result<()> {
        match self {
            Self::Loop { registry, tokens } => {
                source.register(registry, tokens.encode(kind, key), interest)
            }
            Self::Alone(Some((registry, token))) => source.register(registry, *token, interest),
            Self::Alone(None) => Ok(()),
        }
    }

    /// Gives a source that is registered another token or interest. A lone client's source keeps its own.
    pub(crate) fn reregister(
        &self,
        source: &mut (impl Source + ?Sized),
        (kind, key): (TokenKind, Key),
        interest: Interest,
    ) -> io::Result<()> {
        match self {
            Self::Loop { registry, tokens } => {
                source.reregister(registry, tokens.encode(kind, key), interest)
            }
            Self::Alone(_) => Ok(()),
        }
    }

    pub(crate) fn deregister(&self, source: &mut (impl Source + ?Sized)) -> io::Result<()> {
        match self {
            Self::Loop { registry, .. } | Self::Alone(Some((registry, _))) => {
                source.deregister(registry)
            }
            Self::Alone(None) => Ok(()),
        }
    }

    /// What a token of a loop stands for; `None` for one that is not its own.
    #[inline]
    pub(crate) fn decode(&self, token: Token) -> Option<(TokenKind, Key)> {
        match self {
            Self::Loop { tokens, .. } => tokens.decode(token),
            Self::Alone(_) => None,
        }
    }

    /// True exactly when a poll watches what was registered.
    pub(crate) fn is_watched(&self) -> bool {
        !matches!(self, Self::Alone(None))
    }

    /// True exactly when no event will tell that a socket is ready: it has to be tried.
    pub(crate) fn is_silent(&self) -> bool {
        matches!(self, Self::Alone(_))
    }
}
