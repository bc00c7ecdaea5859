use std::ops::Range;

use super::{
    Pools,
    assembly::Assembly,
    streaming::{Piece, Streaming},
};
use crate::{
    memory::Buffer,
    protocol::{
        FrameHeader, InProgress, MessageKind, Opcode, ParsedHeader, PlainHeader, Progress,
        ProtocolError, Role, Rules, apply_mask, is_valid_utf8,
    },
};

/// Turns the bytes of a connection into events.
///
/// The bytes of a read lie in the loop's scratch buffer, and what is complete there is reported as a range into it. The
/// inbox itself keeps only what is unfinished, in leased memory: the start of a frame header or control frame as it came
/// (`raw`), and a message that has not come in one piece (`message`).
#[derive(Default)]
pub(crate) struct Inbox {
    unfinished: Option<Box<Unfinished>>,
}

/// One thing that a connection's input says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A message that is complete in the input.
    Message(MessageKind, Range<usize>),
    /// A compressed message that is complete in the input: to be inflated.
    Compressed(MessageKind, Range<usize>),
    /// A message that is complete in a buffer of its own: fetch it with [`Inbox::take_message`].
    Assembled,
    /// A piece of a message that is passed on as it arrives.
    Piece(Piece, Range<usize>),
    /// A close, ping or pong that is complete in the input.
    Control(Opcode, Range<usize>),
}

/// A message in a buffer of its own.
pub(crate) struct Assembled {
    pub(crate) kind: MessageKind,
    pub(crate) is_compressed: bool,
    /// Leased, and given back by whoever takes the message; empty, and not leased, for an empty message.
    pub(crate) buffer: Buffer,
    /// `len <= buffer.len()`
    pub(crate) len: usize,
}

/// Why a connection's input cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Protocol(ProtocolError),
    /// A bound of the buffer pool is reached.
    OutOfBuffers,
}

impl From<ProtocolError> for Fault {
    fn from(error: ProtocolError) -> Self {
        Self::Protocol(error)
    }
}

#[derive(Default)]
pub(crate) struct Unfinished {
    raw: Raw,
    message: Option<Assembly>,
    pub(super) streaming: Streaming,
}

/// Bytes that nobody has looked at yet.
#[derive(Default)]
struct Raw {
    /// Leased exactly when `len > 0`, or when room was made to read ahead.
    buffer: Buffer,
    len: usize,
    /// True exactly when these bytes were set aside before they were parsed (a pause, a spent budget), so that there may be
    /// whole frames in them.
    held: bool,
}

impl Inbox {
    /// The next event of `input[*position..]`; moves `position` behind what was used up. `None` when the input says nothing
    /// more: what is left behind `position` is the start of a frame and must be kept with [`Inbox::keep`], or stand before what
    /// comes. A whole message of up to `room` bytes, header included, is left there until it is complete.
    #[inline(always)]
    pub(crate) fn next(
        &mut self,
        input: &mut [u8],
        position: &mut usize,
        rules: &Rules,
        room: usize,
        pools: &mut Pools,
    ) -> Result<Option<Event>, Fault> {
        if self.unfinished.is_none() {
            if let Some(event) = plain_message(input, position, rules) {
                return event.map(Some);
            }
        }
        self.next_of_any(input, position, rules, room, pools)
    }

    /// As `next`, whatever the input says.
    fn next_of_any(
        &mut self,
        input: &mut [u8],
        position: &mut usize,
        rules: &Rules,
        room: usize,
        pools: &mut Pools,
    ) -> Result<Option<Event>, Fault> {
        loop {
            if let Some(state) = self
                .unfinished
                .as_deref_mut()
                .filter(|state| state.streams())
                .filter(|state| !state.streaming.leaves(&input[*position..], rules))
            {
                return state.streaming.next(input, position, rules);
            }
            if let Some(message) = self.message_mut() {
                if std::mem::take(&mut message.is_held) {
                    return Ok(Some(Event::Assembled));
                }
                if let Some(remaining) = message.remaining() {
                    let end = input.len().min(position.saturating_add(remaining));
                    let arrived = &input[*position..end];
                    *position = end;
                    if !arrived.is_empty() {
                        let space = message.space(arrived.len(), pools)?;
                        space[..arrived.len()].copy_from_slice(arrived);
                    }
                    match message.arrived(arrived.len(), rules)? {
                        Progress::Message => return Ok(Some(Event::Assembled)),
                        Progress::Frame => continue,
                        Progress::Part => return Ok(None),
                    }
                }
            }
            let bytes = &mut input[*position..];
            let (header, header_len) = match FrameHeader::parse(bytes)? {
                ParsedHeader::Complete(header, len) => (header, len),
                ParsedHeader::Incomplete { .. } => return Ok(None),
            };
            rules.check(&header, self.in_progress())?;
            let whole = header.payload_len <= (bytes.len() - header_len) as u64;
            let starts_at = *position + header_len;
            if whole && (header.opcode.is_control() || (header.fin && self.in_progress().is_none()))
            {
                // A payload that is in memory has a length that fits.
                #[expect(clippy::cast_possible_truncation)]
                let range = starts_at..starts_at + header.payload_len as usize;
                *position = range.end;
                return whole_frame(&header, &mut input[range.clone()], range, rules).map(Some);
            }
            let waits = header.fin
                && self.in_progress().is_none()
                && header.payload_len <= room.saturating_sub(header_len) as u64;
            if header.opcode.is_control() || waits {
                return Ok(None);
            }
            self.begin_frame(&header, pools);
            *position = starts_at;
        }
    }

    /// True exactly when nothing is unfinished, and nothing is wanted but whole messages.
    #[inline]
    pub(crate) fn is_at_rest(&self) -> bool {
        self.unfinished.is_none()
    }

    /// The message under way, if there is one.
    #[inline]
    fn in_progress(&self) -> Option<InProgress> {
        let message = self.unfinished.as_ref()?.message.as_ref()?;
        Some(message.incoming.in_progress())
    }

    fn message_mut(&mut self) -> Option<&mut Assembly> {
        self.unfinished.as_mut()?.message.as_mut()
    }

    /// From the next message on: whether messages are passed on in pieces, as they arrive.
    pub(crate) fn stream(&mut self, wanted: bool, pools: &mut Pools) {
        if wanted || self.unfinished.is_some() {
            self.state(pools).streaming.wanted = wanted;
            self.release_if_finished(pools);
        }
    }

    fn state(&mut self, pools: &mut Pools) -> &mut Unfinished {
        self.unfinished
            .get_or_insert_with(|| pools.unfinished.take())
    }

    #[cold]
    fn begin_frame(&mut self, header: &FrameHeader, pools: &mut Pools) {
        let message = &mut self.state(pools).message;
        message
            .get_or_insert_with(|| Assembly::new(header))
            .begin_frame(header);
    }

    /// Room to read payload into directly, empty when no data frame is under way.
    pub(crate) fn direct_space(&mut self, pools: &mut Pools) -> Result<&mut [u8], Fault> {
        match self.message_mut() {
            Some(message) if message.remaining().is_some() => message.space(1, pools),
            _ => Ok(&mut []),
        }
    }

    /// `count` bytes were read into the room that [`Inbox::direct_space`] gave. True exactly when a message is complete.
    pub(crate) fn direct_arrived(&mut self, count: usize, rules: &Rules) -> Result<bool, Fault> {
        match self.message_mut() {
            Some(message) => Ok(message.arrived(count, rules)? == Progress::Message),
            None => Ok(false),
        }
    }

    /// Holds back the message that [`Inbox::direct_arrived`] has completed: it is the next event.
    pub(crate) fn hold_message(&mut self) {
        if let Some(message) = self.message_mut() {
            message.is_held = true;
        }
    }

    /// The message that [`Event::Assembled`] announced.
    pub(crate) fn take_message(&mut self, pools: &mut Pools) -> Option<Assembled> {
        let message = self.unfinished.as_mut()?.message.take()?;
        self.release_if_finished(pools);
        Some(Assembled {
            kind: message.incoming.kind,
            is_compressed: message.incoming.is_compressed,
            buffer: message.buffer,
            len: message.incoming.len,
        })
    }

    /// True exactly when messages are passed on in pieces.
    pub(crate) fn streams(&self) -> bool {
        self.unfinished
            .as_ref()
            .is_some_and(|state| state.streaming.wanted)
    }

    /// Keeps bytes for later: the start of a frame, or input that was set aside unparsed (`held`).
    pub(crate) fn keep(
        &mut self,
        bytes: &[u8],
        held: bool,
        pools: &mut Pools,
    ) -> Result<(), Fault> {
        if bytes.is_empty() {
            return Ok(());
        }
        let mut buffer = pools
            .buffers
            .lease(bytes.len())
            .ok_or(Fault::OutOfBuffers)?;
        buffer[..bytes.len()].copy_from_slice(bytes);
        let raw = &mut self.state(pools).raw;
        debug_assert_eq!(
            raw.len, 0,
            "kept bytes are restored before new ones are kept"
        );
        let previous = std::mem::replace(
            raw,
            Raw {
                buffer,
                len: bytes.len(),
                held,
            },
        );
        pools.give_back(previous.buffer);
        Ok(())
    }

    /// Moves the kept bytes to the front of `scratch`; returns how many they are and whether they were held.
    #[inline]
    pub(crate) fn restore(&mut self, scratch: &mut [u8], pools: &mut Pools) -> (usize, bool) {
        match &self.unfinished {
            None => (0, false),
            Some(_) => self.restore_kept(scratch, pools),
        }
    }

    fn restore_kept(&mut self, scratch: &mut [u8], pools: &mut Pools) -> (usize, bool) {
        let Some(state) = &mut self.unfinished else {
            return (0, false);
        };
        let raw = std::mem::take(&mut state.raw);
        scratch[..raw.len].copy_from_slice(&raw.buffer[..raw.len]);
        pools.give_back(raw.buffer);
        let held = raw.held || state.holds_message();
        self.release_if_finished(pools);
        (raw.len, held)
    }

    /// Room behind the kept bytes, up to the end of one fixed read buffer: for reading ahead during a pause. Empty when it
    /// is used up.
    pub(crate) fn read_ahead_space(&mut self, pools: &mut Pools) -> Result<&mut [u8], Fault> {
        let size = pools.buffers.read_buffer_size();
        if self
            .unfinished
            .as_ref()
            .is_none_or(|state| state.raw.buffer.is_empty())
        {
            let buffer = pools.buffers.lease(size).ok_or(Fault::OutOfBuffers)?;
            self.state(pools).raw.buffer = buffer;
        }
        let raw = &mut self.state(pools).raw;
        Ok(raw.buffer.get_mut(raw.len..size).unwrap_or_default())
    }

    /// `count` bytes were read into the room that [`Inbox::read_ahead_space`] gave.
    pub(crate) fn read_ahead_arrived(&mut self, count: usize) {
        if let Some(state) = &mut self.unfinished {
            state.raw.len += count;
            state.raw.held |= count > 0;
        }
    }

    /// Gives back room that was made to read ahead, if nothing was read into it.
    pub(crate) fn release_room(&mut self, pools: &mut Pools) {
        if let Some(state) = &mut self.unfinished {
            if state.raw.len == 0 {
                pools.give_back(std::mem::take(&mut state.raw.buffer));
            }
            self.release_if_finished(pools);
        }
    }

    /// The bytes that are kept and not parsed.
    pub(crate) fn kept(&self) -> &[u8] {
        self.unfinished
            .as_ref()
            .map_or(&[], |state| &state.raw.buffer[..state.raw.len])
    }

    /// True exactly when kept bytes may hold whole frames, or a whole message is held back.
    pub(crate) fn has_held(&self) -> bool {
        self.unfinished
            .as_ref()
            .is_some_and(|state| state.raw.held || state.holds_message())
    }

    /// Gives all memory back; what is unfinished is lost.
    pub(crate) fn clear(&mut self, pools: &mut Pools) {
        if let Some(mut state) = self.unfinished.take() {
            let state_now = std::mem::take(&mut *state);
            pools.give_back(state_now.raw.buffer);
            if let Some(message) = state_now.message {
                pools.give_back(message.buffer);
            }
            pools.unfinished.give_back(state);
        }
    }

    fn release_if_finished(&mut self, pools: &mut Pools) {
        let finished = |state: &mut Box<Unfinished>| {
            state.raw.buffer.is_empty() && state.message.is_none() && !state.streaming.is_on()
        };
        if let Some(state) = self.unfinished.take_if(finished) {
            pools.unfinished.give_back(state);
        }
    }
}

impl Unfinished {
    /// True exactly when the input goes on with a message, or a control frame, of a stream. A message that is assembled
    /// already is finished as such.
    fn streams(&self) -> bool {
        self.message.is_none() && self.streaming.is_on()
    }

    fn holds_message(&self) -> bool {
        self.message.as_ref().is_some_and(|message| message.is_held)
    }
}

/// A message that is complete in the input, if it is of the kind that nearly all are; `None` for everything else, also for
/// what breaks a rule.
#[inline(always)]
fn plain_message(
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

#[cfg(test)]
#[path = "inbox_tests.rs"]
mod tests;
