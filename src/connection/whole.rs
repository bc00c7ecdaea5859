use std::ops::Range;

use super::inbox::{Event, Fault};
use crate::protocol::{
    FrameHeader, MessageKind, Opcode, PlainHeader, ProtocolError, Role, Rules, apply_mask,
    is_valid_utf8,
};

/// A message that is complete in the input, if it is of the kind that nearly all are; `None` for everything else, also for
/// what breaks a rule of frames.
#[inline(always)]
pub(super) fn plain_message(
    input: &mut [u8],
    position: &mut usize,
    rules: &Rules,
) -> Option<Result<(MessageKind, Range<usize>), ProtocolError>> {
    let bytes = input.get_mut(*position..)?;
    let header = PlainHeader::parse(bytes, rules.role == Role::Server)?;
    if header.payload_len > rules.max_message_size {
        return None;
    }
    let payload = bytes.get_mut(header.len..)?.get_mut(..header.payload_len)?;
    let start = *position + header.len;
    let range = start..start + header.payload_len;
    *position = range.end;
    if let Some(key) = header.mask {
        apply_mask(key, 0, payload);
    }
    if header.kind == MessageKind::Text && rules.check_utf8 && !is_valid_utf8(payload) {
        return Some(Err(ProtocolError::InvalidUtf8));
    }
    Some(Ok((header.kind, range)))
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
