use core::fmt;

use zlib_rs::{Inflate, InflateFlush, Status};

use super::{
    InflateStep, Inflating,
    compressor::{TAIL, since},
};
use crate::protocol::ProtocolError;

/// zlib's window of 32 KiB, in which everything made with a smaller one can be inflated too.
const WINDOW_BITS: u8 = 15;
const WINDOW_LEN: usize = 1 << WINDOW_BITS;

/// Inflates messages (RFC 7692 §7.2.2). It takes about 47 KiB, all of it at the start.
pub struct Decompressor {
    stream: Inflate,
}

impl Decompressor {
    /// One that has seen no message.
    #[must_use]
    pub fn new() -> Self {
        Self {
            stream: Inflate::new(false, WINDOW_BITS),
        }
    }

    /// Goes on with a message: inflates as much as fits to `out[progress.written()..]`. While there is more, call again with a
    /// larger `out` that has the same beginning. `message` is the payload of all its fragments together, and the same in each
    /// call.
    ///
    /// A deflate stream may end within a message (RFC 7692 §7.2.3.4). What follows can refer to what the message has said
    /// before, but not to earlier messages any more: a compressor that ends its stream starts anew.
    ///
    /// # Errors
    /// `InvalidDeflate`. The decompressor is of no more use then, until it is reset.
    pub fn decompress(
        &mut self,
        message: &[u8],
        progress: &mut Inflating,
        out: &mut [u8],
    ) -> Result<InflateStep, ProtocolError> {
        if message.is_empty() {
            // Some senders leave out the one byte that RFC 7692 §7.2.3.6 has for an empty message.
            return Ok(InflateStep::Done);
        }
        if let Some(byte) = progress.spare.take() {
            let Some(place) = out.get_mut(progress.written) else {
                progress.spare = Some(byte);
                return Ok(InflateStep::Full);
            };
            *place = byte;
            progress.written += 1;
        }
        loop {
            let mut beyond = [0; 1];
            let room = out.get_mut(progress.written..).unwrap_or_default();
            let is_full = room.is_empty();
            let room = if is_full { &mut beyond } else { room };
            let offered = room.len();
            let (taken, made, status) =
                self.step(&message[progress.consumed..], room, InflateFlush::SyncFlush)?;
            progress.consumed += taken;
            if is_full && made > 0 {
                progress.spare = Some(beyond[0]);
                return Ok(InflateStep::Full);
            }
            progress.written += made;
            let is_read = progress.consumed == message.len();
            if status == Status::StreamEnd {
                self.begin_next_stream(&out[..progress.written])?;
                if is_read {
                    return Ok(InflateStep::Done);
                }
            } else if is_read && made < offered {
                return self.finish();
            } else if taken == 0 && made == 0 {
                return Err(ProtocolError::InvalidDeflate);
            }
        }
    }

    /// The tail that the sender left out is the rest of an empty block, and the next one would begin just behind it: a message
    /// that was cut off takes it for something else.
    fn finish(&mut self) -> Result<InflateStep, ProtocolError> {
        let mut tail_and_more = [0; 2 * TAIL.len()];
        tail_and_more[..TAIL.len()].copy_from_slice(&TAIL);
        match self.step(&tail_and_more, &mut [0; 1], InflateFlush::Block)? {
            (taken, 0, Status::Ok) if taken == TAIL.len() => Ok(InflateStep::Done),
            _ => Err(ProtocolError::InvalidDeflate),
        }
    }

    fn step(
        &mut self,
        input: &[u8],
        out: &mut [u8],
        flush: InflateFlush,
    ) -> Result<(usize, usize, Status), ProtocolError> {
        let (taken, made) = (self.stream.total_in(), self.stream.total_out());
        let status = self
            .stream
            .decompress(input, out, flush)
            .map_err(|_| ProtocolError::InvalidDeflate)?;
        Ok((
            since(taken, self.stream.total_in()),
            since(made, self.stream.total_out()),
            status,
        ))
    }

    /// A deflate stream has ended within a message, of which `inflated` has come out so far.
    fn begin_next_stream(&mut self, inflated: &[u8]) -> Result<(), ProtocolError> {
        self.stream.reset(false);
        let window = &inflated[inflated.len().saturating_sub(WINDOW_LEN)..];
        self.stream
            .set_dictionary(window)
            .map(|_| ())
            .map_err(|_| ProtocolError::InvalidDeflate)
    }

    /// Forgets the messages so far.
    pub fn reset(&mut self) {
        self.stream.reset(false);
    }
}

impl Default for Decompressor {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Decompressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decompressor").finish_non_exhaustive()
    }
}
