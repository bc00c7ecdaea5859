use core::fmt;

use super::CloseCode;

/// What a peer did against RFC 6455. Each maps to the close code that the connection is failed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProtocolError {
    /// A reserved bit is set that no extension gave a meaning (§5.2).
    ReservedBits,
    /// An opcode that the RFC reserves (§5.2).
    ReservedOpcode(u8),
    /// A client's frame that is not masked (§5.1).
    UnmaskedFrame,
    /// A server's frame that is masked (§5.1).
    MaskedFrame,
    /// A payload length that is not in its shortest form (§5.2).
    NonMinimalLength,
    /// A 64-bit payload length with the most significant bit set (§5.2).
    LengthOverflow,
    /// A control frame with more than 125 bytes of payload (§5.5).
    ControlFrameTooBig,
    /// A control frame without FIN (§5.5).
    FragmentedControlFrame,
    /// A continuation frame with no message to continue (§5.4).
    UnexpectedContinuation,
    /// A new message while a fragmented one is not finished (§5.4).
    InterruptedMessage,
    /// A close payload of one byte (§5.5.1).
    CloseLength,
    /// A close code that must not be on the wire (§7.4).
    CloseCode(u16),
    /// A close reason that is not UTF-8 (§5.5.1).
    CloseReason,
    /// A text message that is not UTF-8 (§8.1).
    InvalidUtf8,
    /// A compressed message that cannot be inflated (RFC 7692 §7.2.2).
    InvalidDeflate,
    /// A frame or message above the limit (§10.4), also after inflating.
    MessageTooBig,
}

impl ProtocolError {
    /// The code for the close frame that answers this error (RFC 6455 §7.4.1).
    #[must_use]
    pub const fn close_code(self) -> CloseCode {
        match self {
            Self::ReservedBits
            | Self::ReservedOpcode(_)
            | Self::UnmaskedFrame
            | Self::MaskedFrame
            | Self::NonMinimalLength
            | Self::LengthOverflow
            | Self::ControlFrameTooBig
            | Self::FragmentedControlFrame
            | Self::UnexpectedContinuation
            | Self::InterruptedMessage
            | Self::CloseLength
            | Self::CloseCode(_) => CloseCode::PROTOCOL_ERROR,
            Self::InvalidUtf8 | Self::CloseReason | Self::InvalidDeflate => {
                CloseCode::INVALID_PAYLOAD
            }
            Self::MessageTooBig => CloseCode::MESSAGE_TOO_BIG,
        }
    }
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ReservedBits => "reserved bits set without an extension",
            Self::ReservedOpcode(opcode) => return write!(f, "reserved opcode {opcode:#x}"),
            Self::UnmaskedFrame => "frame from a client is not masked",
            Self::MaskedFrame => "frame from a server is masked",
            Self::NonMinimalLength => "payload length is not in its shortest form",
            Self::LengthOverflow => "payload length has its top bit set",
            Self::ControlFrameTooBig => "control frame of more than 125 bytes",
            Self::FragmentedControlFrame => "fragmented control frame",
            Self::UnexpectedContinuation => "continuation without a message",
            Self::InterruptedMessage => "new message inside a fragmented one",
            Self::CloseLength => "close payload of one byte",
            Self::CloseCode(code) => return write!(f, "close code {code} must not be sent"),
            Self::CloseReason => "close reason is not UTF-8",
            Self::InvalidUtf8 => "text is not UTF-8",
            Self::InvalidDeflate => "compressed message is corrupt",
            Self::MessageTooBig => "message above the size limit",
        })
    }
}

impl core::error::Error for ProtocolError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_has_a_code_that_may_be_sent_and_a_text() {
        let expected = [
            (ProtocolError::ReservedBits, 1002),
            (ProtocolError::ReservedOpcode(3), 1002),
            (ProtocolError::UnmaskedFrame, 1002),
            (ProtocolError::MaskedFrame, 1002),
            (ProtocolError::NonMinimalLength, 1002),
            (ProtocolError::LengthOverflow, 1002),
            (ProtocolError::ControlFrameTooBig, 1002),
            (ProtocolError::FragmentedControlFrame, 1002),
            (ProtocolError::UnexpectedContinuation, 1002),
            (ProtocolError::InterruptedMessage, 1002),
            (ProtocolError::CloseLength, 1002),
            (ProtocolError::CloseCode(1005), 1002),
            (ProtocolError::CloseReason, 1007),
            (ProtocolError::InvalidUtf8, 1007),
            (ProtocolError::MessageTooBig, 1009),
        ];
        for (error, code) in expected {
            assert_eq!(error.close_code().get(), code, "{error}");
            assert!(error.close_code().may_be_sent(), "{error}");
            assert!(!error.to_string().is_empty());
        }
    }
}
