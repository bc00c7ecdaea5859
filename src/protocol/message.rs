use super::Opcode;

/// What a message holds (RFC 6455 §5.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MessageKind {
    /// UTF-8 text.
    Text,
    /// Any bytes.
    Binary,
}

impl MessageKind {
    /// The opcode of a message's first frame.
    #[must_use]
    pub const fn opcode(self) -> Opcode {
        match self {
            Self::Text => Opcode::Text,
            Self::Binary => Opcode::Binary,
        }
    }
}

/// How a message is sent: what it holds, and whether it is compressed (RFC 7692). A [`MessageKind`] alone leaves that to the
/// settings.
///
/// ```
/// use wsloop::{MessageKind, protocol::Outgoing};
///
/// let secret: Outgoing = MessageKind::Text.plain();
/// let ordinary: Outgoing = MessageKind::Text.into();
/// assert_ne!(secret, ordinary);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Outgoing {
    /// Text or binary.
    pub kind: MessageKind,
    /// Whether it is compressed.
    pub compress: Compress,
}

/// Whether a message is compressed, on a connection whose ends have agreed on permessage-deflate; on others none is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Compress {
    /// From the configured threshold on.
    #[default]
    Auto,
    /// Whatever its length, unless it would not become shorter.
    Always,
    /// Not: for what is compressed already, and for secrets beside which an attacker's text may stand.
    Never,
}

impl MessageKind {
    /// A message of this kind that is not compressed.
    #[must_use]
    pub const fn plain(self) -> Outgoing {
        Outgoing {
            kind: self,
            compress: Compress::Never,
        }
    }

    /// A message of this kind that is compressed however short it is, if its connection compresses at all.
    #[must_use]
    pub const fn compressed(self) -> Outgoing {
        Outgoing {
            kind: self,
            compress: Compress::Always,
        }
    }
}

impl From<MessageKind> for Outgoing {
    fn from(kind: MessageKind) -> Self {
        Self {
            kind,
            compress: Compress::Auto,
        }
    }
}
