use std::ops::Range;

use super::{
    Pools,
    assembly::Assembly,
    kept::Kept,
    reach::{self, Awaited},
    streaming::{Piece, Streaming},
    whole::{plain_message, whole_frame},
};
use crate::{
    memory::{Buffer, front},
    protocol::{
        FrameHeader, InProgress, MessageKind, Opcode, ParsedHeader, Progress, ProtocolError, Role,
        Rules,
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
    /// The first frame of a message, of which the input holds all that has come: to be handed to [`Inbox::adopt`].
    Begun(FrameHeader, Range<usize>),
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
    /// Where in the buffer it lies.
    pub(crate) contents: Range<usize>,
}

/// Bytes that may be missing of a message that is left in the scratch buffer, and is unmasked when all of it is there. Some of
/// it has left the cache by then; but the next message comes to the same memory, which is worth more. What misses more goes
/// on in a buffer of its own, where each read is unmasked by itself.
const MAX_MISSING: usize = 1024 * 1024;
/// The same where what comes is not masked. What is sent on is masked in the place where it came, if that is not the scratch
/// buffer: there most messages are copied.
const MAX_MISSING_UNMASKED: usize = 256 * 1024;

/// What becomes of the start of a message, when the rest of it is not there. One that the scratch buffer has room for where
/// it is may always be [`Event::Begun`], if there is enough of it; what is less, or more, is copied to a buffer of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Partial {
    /// Left where it is if it fits the scratch buffer, for more is about to be read behind it.
    Left,
    /// Not left: nothing is to come before others had their turn.
    Ended,
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
    raw: Kept,
    message: Option<Assembly>,
    pub(super) streaming: Streaming,
}

impl Inbox {
    /// The next event of `input[*position..]`; moves `position` behind what was used up. `None` when the input says nothing
    /// more: what is left behind `position` is the start of a frame and must be kept with [`Inbox::keep`], or stand before what
    /// comes. `input` is the front of the scratch buffer.
    pub(crate) fn next(
        &mut self,
        input: &mut [u8],
        position: &mut usize,
        rules: &Rules,
        partial: Partial,
        pools: &mut Pools,
    ) -> Result<Option<Event>, Fault> {
        match self.next_plain(input, position, rules) {
            Some(message) => {
                let (kind, range) = message?;
                Ok(Some(Event::Message(kind, range)))
            }
            None => self.next_of_any(input, position, rules, partial, pools),
        }
    }

    /// As `next`, of messages that are complete in the input, not compressed, and below 64 KiB. `None` for everything else.
    #[inline(always)]
    pub(crate) fn next_plain(
        &self,
        input: &mut [u8],
        position: &mut usize,
        rules: &Rules,
    ) -> Option<Result<(MessageKind, Range<usize>), ProtocolError>> {
        match self.is_at_rest() {
            true => plain_message(input, position, rules),
            false => None,
        }
    }

    /// As `next`, whatever the input says.
    fn next_of_any(
        &mut self,
        input: &mut [u8],
        position: &mut usize,
        rules: &Rules,
        partial: Partial,
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
            let is_message = header.fin && self.in_progress().is_none();
            if whole && (header.opcode.is_control() || is_message) {
                // A payload that is in memory has a length that fits.
                #[expect(clippy::cast_possible_truncation)]
                let range = starts_at..starts_at + header.payload_len as usize;
                *position = range.end;
                return whole_frame(&header, &mut input[range.clone()], range, rules).map(Some);
            }
            let arrived = starts_at..input.len();
            let fits_behind = |at: usize| {
                let room = pools.buffers.scratch_size().saturating_sub(at);
                is_message && header.payload_len <= room as u64
            };
            let leave = partial == Partial::Left && fits_behind(header_len);
            let missing = header.payload_len.saturating_sub(arrived.len() as u64);
            let max_missing = match rules.role {
                Role::Server => MAX_MISSING,
                Role::Client => MAX_MISSING_UNMASKED,
            };
            if header.opcode.is_control() || (leave && missing <= max_missing as u64) {
                return Ok(None);
            }
            if fits_behind(starts_at) && pools.buffers.may_exchange(arrived.len()) {
                *position = arrived.end;
                return Ok(Some(Event::Begun(header, arrived)));
            }
            if leave {
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
        self.message().map(|message| message.incoming.in_progress())
    }

    #[inline]
    fn message(&self) -> Option<&Assembly> {
        self.unfinished.as_ref()?.message.as_ref()
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

    /// Goes on with the message that [`Event::Begun`] announced in the scratch buffer itself, which is exchanged for another.
    pub(crate) fn adopt(
        &mut self,
        header: &FrameHeader,
        arrived: Range<usize>,
        scratch: &mut Buffer,
        rules: &Rules,
        pools: &mut Pools,
    ) -> Result<(), Fault> {
        let count = arrived.len();
        if let Some(buffer) = pools.buffers.exchange(scratch, count) {
            let message = Assembly::within(header, buffer, arrived.start);
            self.state(pools).message = Some(message);
        } else {
            self.begin_frame(header, pools);
            self.space(count, pools)?[..count].copy_from_slice(&scratch[arrived]);
        }
        self.direct_arrived(count, rules).map(drop)
    }

    /// Bytes that the next read is to bring at most. `kept` lies before them in the scratch buffer.
    #[inline]
    pub(crate) fn read_limit(&self, kept: &[u8], pools: &Pools) -> usize {
        if kept.is_empty() && self.is_at_rest() {
            return reach::MAX_READ;
        }
        let under_way = self.message().and_then(Assembly::awaited);
        let awaited = under_way.or_else(|| Awaited::frame(kept));
        let buffers = &pools.buffers;
        reach::limit(awaited, buffers.scratch_size(), buffers.read_buffer_size())
    }

    /// Room to read payload into directly, empty when no data frame is under way.
    pub(crate) fn direct_space(&mut self, pools: &mut Pools) -> Result<&mut [u8], Fault> {
        self.space(1, pools)
    }

    /// As `direct_space`: at least `min` bytes unless it is empty.
    fn space(&mut self, min: usize, pools: &mut Pools) -> Result<&mut [u8], Fault> {
        match self.message_mut() {
            Some(message) if message.remaining().is_some() => message.space(min, pools),
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
            contents: message.contents(),
            buffer: message.buffer,
        })
    }

    /// True exactly when messages are passed on in pieces.
    pub(crate) fn streams(&self) -> bool {
        self.unfinished
            .as_ref()
            .is_some_and(|state| state.streaming.wanted)
    }

    /// Keeps bytes of the scratch buffer for later: the start of a frame, or input that was set aside unparsed (`held`).
    pub(crate) fn keep(
        &mut self,
        scratch: &mut Buffer,
        bytes: Range<usize>,
        held: bool,
        pools: &mut Pools,
    ) -> Result<(), Fault> {
        if bytes.is_empty() {
            return Ok(());
        }
        let kept = Kept::take(scratch, bytes, held, &mut pools.buffers);
        let kept = kept.ok_or(Fault::OutOfBuffers)?;
        let raw = &mut self.state(pools).raw;
        debug_assert!(
            raw.is_empty(),
            "kept bytes are restored before new ones are kept"
        );
        let previous = std::mem::replace(raw, kept);
        pools.give_back(previous.buffer);
        Ok(())
    }

    /// Moves the kept bytes to the scratch buffer; returns where they lie and whether they were held.
    #[inline]
    pub(crate) fn restore(
        &mut self,
        scratch: &mut Buffer,
        pools: &mut Pools,
    ) -> (Range<usize>, bool) {
        match &self.unfinished {
            None => (front(scratch), false),
            Some(_) => self.restore_kept(scratch, pools),
        }
    }

    fn restore_kept(&mut self, scratch: &mut Buffer, pools: &mut Pools) -> (Range<usize>, bool) {
        let Some(state) = &mut self.unfinished else {
            return (0..0, false);
        };
        let mut raw = std::mem::take(&mut state.raw);
        let bytes = raw.restore(scratch);
        pools.give_back(raw.buffer);
        let held = raw.held || state.holds_message();
        self.release_if_finished(pools);
        (bytes, held)
    }

    /// Room behind the kept bytes, up to the end of one fixed read buffer: for reading ahead during a pause. Empty when it
    /// is used up.
    pub(crate) fn read_ahead_space(&mut self, pools: &mut Pools) -> Result<&mut [u8], Fault> {
        let size = pools.buffers.read_buffer_size();
        let kept = self.unfinished.as_ref().map(|state| &state.raw);
        if kept.is_none_or(|kept| kept.buffer.is_empty()) {
            let buffer = pools.buffers.lease(size).ok_or(Fault::OutOfBuffers)?;
            self.state(pools).raw.buffer = buffer;
        }
        Ok(self.state(pools).raw.room(size))
    }

    /// `count` bytes were read into the room that [`Inbox::read_ahead_space`] gave.
    pub(crate) fn read_ahead_arrived(&mut self, count: usize) {
        if let Some(state) = &mut self.unfinished {
            state.raw.arrived(count);
        }
    }

    /// Gives back room that was made to read ahead, if nothing was read into it.
    pub(crate) fn release_room(&mut self, pools: &mut Pools) {
        if let Some(state) = &mut self.unfinished {
            if state.raw.is_empty() {
                pools.give_back(std::mem::take(&mut state.raw.buffer));
            }
            self.release_if_finished(pools);
        }
    }

    /// The bytes that are kept and not parsed.
    pub(crate) fn kept(&self) -> &[u8] {
        self.unfinished
            .as_ref()
            .map_or(&[], |state| state.raw.bytes())
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

#[cfg(test)]
#[path = "inbox_tests.rs"]
mod tests;
