use super::{FrameHeader, MAX_CONTROL_PAYLOAD, Opcode, ProtocolError, RSV1, Role};

/// A fragmented message of which some has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InProgress {
    /// Bytes of payload so far.
    pub len: usize,
    /// True exactly when RSV1 was set on its first frame.
    pub is_compressed: bool,
}

/// What one end accepts from its peer (RFC 6455 §5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Our own role: it decides whether the peer has to mask.
    pub role: Role,
    /// Largest payload of a frame and of a whole message in bytes, inclusive. Noise becomes longer when it is compressed: so
    /// may a compressed message be as it comes, by [`Rules::slack`].
    pub max_message_size: usize,
    /// True exactly when text messages must be UTF-8 (RFC 6455 §8.1). Close reasons are always checked.
    pub check_utf8: bool,
    /// True exactly when messages may be compressed: then the first frame of one may have RSV1 set (RFC 7692 §6).
    pub compression: bool,
}

impl Rules {
    /// Bytes by which a compressed message may exceed the limit until it is inflated: a 64th of it, which is more than any sensible
    /// compressor adds to what it cannot compress, and a few for its blocks.
    #[must_use]
    pub const fn slack(max_message_size: usize) -> usize {
        max_message_size / 64 + 64
    }

    /// Whether `header` may come now. `in_progress` is the fragmented message under way, `None` when there is none.
    ///
    /// # Errors
    /// The first rule that is broken. The length is compared with the limit before anything is taken for it.
    #[inline]
    pub fn check(
        &self,
        header: &FrameHeader,
        in_progress: Option<InProgress>,
    ) -> Result<(), ProtocolError> {
        if header.rsv != 0 && !(self.compression && is_compressed(header)) {
            return Err(ProtocolError::ReservedBits);
        }
        if let Opcode::Reserved(bits) = header.opcode {
            return Err(ProtocolError::ReservedOpcode(bits));
        }
        match (self.role, header.mask) {
            (Role::Server, None) => return Err(ProtocolError::UnmaskedFrame),
            (Role::Client, Some(_)) => return Err(ProtocolError::MaskedFrame),
            _ => {}
        }
        if header.opcode.is_control() {
            return check_control(header);
        }
        match (header.opcode, in_progress) {
            (Opcode::Continuation, None) => return Err(ProtocolError::UnexpectedContinuation),
            (Opcode::Text | Opcode::Binary, Some(_)) => {
                return Err(ProtocolError::InterruptedMessage);
            }
            _ => {}
        }
        let compressed = in_progress.map_or(header.rsv != 0, |message| message.is_compressed);
        let limit = match compressed {
            false => self.max_message_size,
            true => self
                .max_message_size
                .saturating_add(Self::slack(self.max_message_size)),
        };
        // In 64 bits the sum cannot wrap: a length is below 2^63, and so is what is in memory.
        let so_far = in_progress.map_or(0, |message| message.len);
        if header.payload_len + so_far as u64 > limit as u64 {
            return Err(ProtocolError::MessageTooBig);
        }
        Ok(())
    }
}

/// True exactly when RSV1 alone is set, on the first frame of a message.
fn is_compressed(header: &FrameHeader) -> bool {
    header.rsv == RSV1 && matches!(header.opcode, Opcode::Text | Opcode::Binary)
}

fn check_control(header: &FrameHeader) -> Result<(), ProtocolError> {
    if !header.fin {
        return Err(ProtocolError::FragmentedControlFrame);
    }
    if header.payload_len > MAX_CONTROL_PAYLOAD as u64 {
        return Err(ProtocolError::ControlFrameTooBig);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules {
        role: Role::Server,
        max_message_size: 1000,
        check_utf8: true,
        compression: false,
    };

    fn masked(opcode: Opcode, payload_len: u64) -> FrameHeader {
        FrameHeader {
            mask: Some([1, 2, 3, 4]),
            ..FrameHeader::new(opcode, payload_len)
        }
    }

    fn plain(len: usize) -> InProgress {
        InProgress {
            len,
            is_compressed: false,
        }
    }

    #[test]
    fn a_compressed_message_may_be_a_little_longer() {
        let rules = Rules {
            compression: true,
            ..RULES
        };
        let first = |len| FrameHeader {
            rsv: RSV1,
            ..masked(Opcode::Binary, len)
        };
        let most = 1000 + Rules::slack(1000);
        assert_eq!(rules.check(&first(most as u64), None), Ok(()));
        let too_big = Err(ProtocolError::MessageTooBig);
        assert_eq!(rules.check(&first(most as u64 + 1), None), too_big);
        assert_eq!(rules.check(&masked(Opcode::Binary, 1001), None), too_big);
        let message = InProgress {
            len: most - 1,
            is_compressed: true,
        };
        let next = |len| masked(Opcode::Continuation, len);
        assert_eq!(rules.check(&next(1), Some(message)), Ok(()));
        assert_eq!(rules.check(&next(2), Some(message)), too_big);
        assert_eq!(rules.check(&next(1), Some(plain(1000))), too_big);
    }

    #[test]
    fn ordinary_frames_pass() {
        for opcode in [
            Opcode::Text,
            Opcode::Binary,
            Opcode::Ping,
            Opcode::Pong,
            Opcode::Close,
        ] {
            assert_eq!(RULES.check(&masked(opcode, 125), None), Ok(()));
        }
        assert_eq!(
            RULES.check(&masked(Opcode::Continuation, 10), Some(plain(5))),
            Ok(())
        );
        assert_eq!(
            RULES.check(&masked(Opcode::Ping, 0), Some(plain(5))),
            Ok(()),
            "control frames come between fragments"
        );
    }

    #[test]
    fn each_rule_has_its_error() {
        let check = |header, in_progress| RULES.check(&header, in_progress).unwrap_err();
        for rsv in [0x40, 0x20, 0x10] {
            assert_eq!(
                check(
                    FrameHeader {
                        rsv,
                        ..masked(Opcode::Text, 1)
                    },
                    None
                ),
                ProtocolError::ReservedBits
            );
        }
        for bits in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
            assert_eq!(
                check(masked(Opcode::Reserved(bits), 1), None),
                ProtocolError::ReservedOpcode(bits)
            );
        }
        assert_eq!(
            check(FrameHeader::new(Opcode::Text, 1), None),
            ProtocolError::UnmaskedFrame
        );
        assert_eq!(
            check(masked(Opcode::Ping, 126), None),
            ProtocolError::ControlFrameTooBig
        );
        assert_eq!(
            check(
                FrameHeader {
                    fin: false,
                    ..masked(Opcode::Ping, 1)
                },
                None
            ),
            ProtocolError::FragmentedControlFrame
        );
        assert_eq!(
            check(masked(Opcode::Continuation, 1), None),
            ProtocolError::UnexpectedContinuation
        );
        assert_eq!(
            check(masked(Opcode::Text, 1), Some(plain(0))),
            ProtocolError::InterruptedMessage
        );
    }

    #[test]
    fn a_client_refuses_masked_frames_and_takes_unmasked_ones() {
        let rules = Rules {
            role: Role::Client,
            ..RULES
        };
        assert_eq!(
            rules.check(&masked(Opcode::Text, 1), None),
            Err(ProtocolError::MaskedFrame)
        );
        assert_eq!(
            rules.check(&FrameHeader::new(Opcode::Text, 1), None),
            Ok(())
        );
    }

    #[test]
    fn the_limit_is_inclusive_and_holds_for_frames_and_sums() {
        assert_eq!(RULES.check(&masked(Opcode::Binary, 1000), None), Ok(()));
        assert_eq!(
            RULES.check(&masked(Opcode::Binary, 1001), None),
            Err(ProtocolError::MessageTooBig)
        );
        assert_eq!(
            RULES.check(&masked(Opcode::Continuation, 400), Some(plain(600))),
            Ok(())
        );
        assert_eq!(
            RULES.check(&masked(Opcode::Continuation, 401), Some(plain(600))),
            Err(ProtocolError::MessageTooBig)
        );
        let huge = i64::MAX as u64;
        assert_eq!(
            RULES.check(
                &masked(Opcode::Continuation, huge),
                Some(plain(usize::MAX >> 1))
            ),
            Err(ProtocolError::MessageTooBig)
        );
    }
}
