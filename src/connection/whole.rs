use std::ops::Range;

use super::inbox::{Event, Fault};
use crate::protocol::{
    FrameHeader, MessageKind, Opcode, PlainHeader, ProtocolError, Role, Rules, apply_mask,
    is_valid_utf8,
};

/// A message that is complete in the input, if it is of the kind that nearly all are; `None` for everything else, also for
/// what breaks a rule.
#[inline(always)]
pub(super) fn plain_message(
    input: &mut [u8],
    position: &mut usize,
    rules: &Rules,
) -> Option<Result<Event, Fault>> {
    let header = PlainHeader::parse(&input[*position..])?;
    let range = *position + header.len..*position + header.len + header.payload_len;
    let is_allowed = header.mask.is_some() == (rules.role == Role::Server)
        && header.payload_len <= rules.max_message_size;
    let payload = input.get_mut(range.clone()).filter(|_| is_allowed)?;
    *position = range.end;
    let header = FrameHeader {
        mask: header.mask,
        ..FrameHeader::new(header.kind.opcode(), header.payload_len as u64)
    };
    Some(whole_frame(&header, payload, range, rules))
}

/// Unmasks and checks a frame that is complete in the input.
#[inline]
pub(super) fn whole_frame(
    header: &FrameHeader,
    payload: &mut [u8],
    range: Range<usize>,
    rules: &Rules,
) -> Result<Event, Fault> {
    if let Some(key) = header.mask {
        apply_mask(key, 0, payload);
    }
    match header.opcode {
        Opcode::Text if header.rsv != 0 => Ok(Event::Compressed(MessageKind::Text, range)),
        Opcode::Binary if header.rsv != 0 => Ok(Event::Compressed(MessageKind::Binary, range)),
        Opcode::Text if rules.check_utf8 && !is_valid_utf8(payload) => {
            Err(ProtocolError::InvalidUtf8.into())
        }
        Opcode::Text => Ok(Event::Message(MessageKind::Text, range)),
        Opcode::Binary => Ok(Event::Message(MessageKind::Binary, range)),
        control => Ok(Event::Control(control, range)),
    }
}
