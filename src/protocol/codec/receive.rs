use alloc::vec::Vec;
use core::ops::Range;

use super::{Codec, Deflate, Event};
use crate::protocol::{
    ClosePayload, FrameHeader, Incoming, InflateStep, Inflating, MessageKind, Opcode, ParsedHeader,
    Progress, ProtocolError, RSV1, Rules, apply_mask, is_valid_utf8,
};

/// Bytes by which the room to inflate to begins.
const FIRST_ROOM: usize = 4096;
/// How much larger that room becomes when it is full.
const GROWTH: usize = 4;

/// Something that is complete, and where it lies.
enum Found {
    /// In the input.
    Message(MessageKind, Range<usize>),
    Control(Opcode, Range<usize>),
    /// In the codec's own buffers.
    Gathered(MessageKind),
    GatheredControl(Opcode, Range<usize>),
    Inflated(MessageKind),
}

impl Codec {
    /// Goes on with the peer's bytes, however they are cut: returns the next thing that they say, if they say one, and how many
    /// of them it took. Without an event all were taken, and what is unfinished is kept. Call again with the rest while there is
    /// an event.
    ///
    /// Memory is taken for bytes that have arrived, not for those that were announced.
    ///
    /// # Errors
    /// What the peer broke; it is the same for all later calls. The connection is to be failed: [`fail`](Self::fail) encodes the
    /// close frame for it.
    pub fn process<'a>(
        &'a mut self,
        input: &'a mut [u8],
    ) -> Result<(Option<Event<'a>>, usize), ProtocolError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let mut position = 0;
        let found = self.find(input, &mut position);
        let found = found.inspect_err(|error| self.note_failure(*error))?;
        let event = match found {
            None => None,
            Some(Found::Message(kind, range)) => Some(Event::Message(kind, &input[range])),
            Some(Found::Gathered(kind)) => Some(Event::Message(kind, &self.message)),
            Some(Found::Inflated(kind)) => {
                let inflated = self.deflate.as_ref().map(|deflate| &deflate.inflated[..]);
                Some(Event::Message(kind, inflated.unwrap_or_default()))
            }
            Some(Found::Control(Opcode::Close, range)) => {
                Some(Event::Close(ClosePayload::parse(&input[range])?))
            }
            Some(Found::GatheredControl(Opcode::Close, range)) => {
                Some(Event::Close(ClosePayload::parse(&self.raw[range])?))
            }
            Some(Found::Control(opcode, range)) => Some(control(opcode, &input[range])),
            Some(Found::GatheredControl(opcode, range)) => Some(control(opcode, &self.raw[range])),
        };
        Ok((event, position))
    }

    fn note_failure(&mut self, error: ProtocolError) {
        self.failed = Some(error);
        // Nothing of the peer's is awaited any more.
        let _ = self.state.fail();
        self.finish_closing();
    }

    fn find(
        &mut self,
        input: &mut [u8],
        position: &mut usize,
    ) -> Result<Option<Found>, ProtocolError> {
        loop {
            if !self.state.reads_frames() {
                // Behind its close frame a peer has nothing to say.
                *position = input.len();
                return Ok(None);
            }
            if let Some(remaining) = self.incoming.as_ref().and_then(Incoming::remaining) {
                let end = input.len().min(position.saturating_add(remaining));
                let arrived = &mut input[*position..end];
                *position = end;
                match self.gather(arrived)? {
                    Progress::Part => return Ok(None),
                    Progress::Frame => continue,
                    Progress::Message => return self.gathered().map(Some),
                }
            }
            let Some((header, starts_at)) = self.header(input, position)? else {
                return Ok(None);
            };
            if header.opcode.is_control() {
                return self.control_frame(&header, starts_at, input, position);
            }
            let whole = header.payload_len <= (input.len() - *position) as u64;
            if whole && header.fin && self.incoming.is_none() {
                // A payload that is in memory has a length that fits.
                #[expect(clippy::cast_possible_truncation)]
                let range = *position..*position + header.payload_len as usize;
                *position = range.end;
                self.raw_len = 0;
                return self.whole_message(&header, input, range).map(Some);
            }
            self.raw_len = 0;
            self.begin_frame(&header);
        }
    }

    /// The next header, checked, and where its payload starts in `self.raw` if a part of it had to be kept. Moves `position`
    /// behind it. `None` when it goes on.
    fn header(
        &mut self,
        input: &[u8],
        position: &mut usize,
    ) -> Result<Option<(FrameHeader, Option<usize>)>, ProtocolError> {
        let (header, starts_at) = loop {
            let kept = self.raw_len;
            let bytes = if kept == 0 {
                &input[*position..]
            } else {
                &self.raw[..kept]
            };
            match FrameHeader::parse(bytes)? {
                ParsedHeader::Complete(header, len) if kept == 0 => {
                    *position += len;
                    break (header, None);
                }
                ParsedHeader::Complete(header, len) => break (header, Some(len)),
                ParsedHeader::Incomplete { missing } => {
                    // A header that lies in the input as a whole is not copied.
                    let wanted = if kept == 0 {
                        bytes.len()
                    } else {
                        missing.min(input.len() - *position)
                    };
                    self.keep(&input[*position..*position + wanted]);
                    *position += wanted;
                    if kept == 0 || wanted < missing {
                        return Ok(None);
                    }
                }
            }
        };
        let in_progress = self.incoming.as_ref().map(Incoming::in_progress);
        self.rules.check(&header, in_progress)?;
        Ok(Some((header, starts_at)))
    }

    fn keep(&mut self, bytes: &[u8]) {
        self.raw[self.raw_len..self.raw_len + bytes.len()].copy_from_slice(bytes);
        self.raw_len += bytes.len();
    }

    fn control_frame(
        &mut self,
        header: &FrameHeader,
        starts_at: Option<usize>,
        input: &mut [u8],
        position: &mut usize,
    ) -> Result<Option<Found>, ProtocolError> {
        // At most 125 bytes, or the check would have failed.
        #[expect(clippy::cast_possible_truncation)]
        let len = header.payload_len as usize;
        if let (None, true) = (starts_at, len <= input.len() - *position) {
            let range = *position..*position + len;
            *position = range.end;
            unmask(header, &mut input[range.clone()]);
            self.hear_control(header.opcode, &input[range.clone()])?;
            return Ok(Some(Found::Control(header.opcode, range)));
        }
        let starts_at = match starts_at {
            Some(starts_at) => starts_at,
            None => {
                // Its header is kept with it, so that it is found again.
                let header_len = header.encoded_len();
                self.keep(&input[*position - header_len..*position]);
                header_len
            }
        };
        let missing = starts_at + len - self.raw_len;
        let arrived = missing.min(input.len() - *position);
        self.keep(&input[*position..*position + arrived]);
        *position += arrived;
        if arrived < missing {
            return Ok(None);
        }
        self.raw_len = 0;
        let range = starts_at..starts_at + len;
        unmask(header, &mut self.raw[range.clone()]);
        let payload = self.raw;
        self.hear_control(header.opcode, &payload[range.clone()])?;
        Ok(Some(Found::GatheredControl(header.opcode, range)))
    }

    fn hear_control(&mut self, opcode: Opcode, payload: &[u8]) -> Result<(), ProtocolError> {
        if opcode == Opcode::Close {
            ClosePayload::parse(payload)?;
            let _ = self.state.close_remote();
            self.finish_closing();
        }
        Ok(())
    }

    fn begin_frame(&mut self, header: &FrameHeader) {
        if self.incoming.is_none() {
            self.message.clear();
        }
        self.incoming
            .get_or_insert_with(|| Incoming::new(header))
            .begin_frame(header);
    }

    fn gather(&mut self, arrived: &mut [u8]) -> Result<Progress, ProtocolError> {
        let Some(incoming) = &mut self.incoming else {
            return Ok(Progress::Part);
        };
        let progress = incoming.take(arrived, &self.rules)?;
        self.message.extend_from_slice(arrived);
        Ok(progress)
    }

    fn gathered(&mut self) -> Result<Found, ProtocolError> {
        let Some(incoming) = self.incoming.take() else {
            return Err(ProtocolError::UnexpectedContinuation);
        };
        if incoming.is_compressed {
            let message = core::mem::take(&mut self.message);
            let inflated = self.inflate(incoming.kind, &message);
            self.message = message;
            return inflated;
        }
        Ok(Found::Gathered(incoming.kind))
    }

    fn whole_message(
        &mut self,
        header: &FrameHeader,
        input: &mut [u8],
        range: Range<usize>,
    ) -> Result<Found, ProtocolError> {
        let kind = match header.opcode {
            Opcode::Text => MessageKind::Text,
            _ => MessageKind::Binary,
        };
        let payload = &mut input[range.clone()];
        unmask(header, payload);
        if header.rsv == RSV1 {
            return self.inflate(kind, payload);
        }
        check_text(kind, payload, &self.rules)?;
        Ok(Found::Message(kind, range))
    }

    fn inflate(&mut self, kind: MessageKind, message: &[u8]) -> Result<Found, ProtocolError> {
        let Some(deflate) = &mut self.deflate else {
            return Err(ProtocolError::ReservedBits);
        };
        inflate(deflate, message, self.rules.max_message_size)?;
        check_text(kind, &deflate.inflated, &self.rules)?;
        Ok(Found::Inflated(kind))
    }
}

/// Leaves the message in `deflate.inflated`.
fn inflate(deflate: &mut Deflate, message: &[u8], limit: usize) -> Result<(), ProtocolError> {
    let inflated: &mut Vec<u8> = &mut deflate.inflated;
    let mut progress = Inflating::default();
    inflated.clear();
    loop {
        let room = inflated.len().saturating_mul(GROWTH);
        inflated.resize(room.max(FIRST_ROOM).min(limit), 0);
        let decompressor = &mut deflate.decompressor;
        match decompressor.decompress(message, &mut progress, inflated)? {
            InflateStep::Done => break,
            InflateStep::Full if inflated.len() < limit => {}
            InflateStep::Full => return Err(ProtocolError::MessageTooBig),
        }
    }
    inflated.truncate(progress.written());
    if !deflate.keeps_peers {
        deflate.decompressor.reset();
    }
    Ok(())
}

fn check_text(kind: MessageKind, bytes: &[u8], rules: &Rules) -> Result<(), ProtocolError> {
    if kind == MessageKind::Text && rules.check_utf8 && !is_valid_utf8(bytes) {
        return Err(ProtocolError::InvalidUtf8);
    }
    Ok(())
}

fn unmask(header: &FrameHeader, payload: &mut [u8]) {
    if let Some(key) = header.mask {
        apply_mask(key, 0, payload);
    }
}

fn control(opcode: Opcode, payload: &[u8]) -> Event<'_> {
    match opcode {
        Opcode::Ping => Event::Ping(payload),
        _ => Event::Pong(payload),
    }
}
