use super::{Link, Pools, inbox::Fault};
use crate::{
    memory::{Buffer, BufferPool},
    protocol::{
        Decompressor, InflateStep, Inflating, MessageKind, ProtocolError, Rules, is_valid_utf8,
    },
};

/// How much larger the room for a message becomes when it is full.
const GROWTH: usize = 4;

/// Where a message lies that was inflated.
pub(crate) enum Inflated {
    /// In so many bytes at the front of the room that was given.
    There(usize),
    /// In so many bytes at the front of a leased buffer.
    Leased(Buffer, usize),
}

impl Link {
    /// Inflates a message (RFC 7692 §7.2.2), whole as it came, into `room`, or into a leased buffer when it is too large for
    /// that. Inflating stops at the largest message that the rules allow, whatever would follow.
    pub(crate) fn inflate(
        &mut self,
        (kind, message): (MessageKind, &[u8]),
        room: &mut [u8],
        rules: &Rules,
        pools: &mut Pools,
    ) -> Result<Inflated, Fault> {
        let inflated = self.inflate_bytes(message, room, rules.max_message_size, pools)?;
        let check_utf8 = kind == MessageKind::Text && rules.check_utf8;
        let bytes = match &inflated {
            Inflated::There(len) => &room[..*len],
            Inflated::Leased(buffer, len) => &buffer[..*len],
        };
        if check_utf8 && !is_valid_utf8(bytes) {
            if let Inflated::Leased(buffer, _) = inflated {
                pools.give_back(buffer);
            }
            return Err(ProtocolError::InvalidUtf8.into());
        }
        Ok(inflated)
    }

    fn inflate_bytes(
        &mut self,
        message: &[u8],
        room: &mut [u8],
        limit: usize,
        pools: &mut Pools,
    ) -> Result<Inflated, Fault> {
        let Pools {
            buffers, deflaters, ..
        } = pools;
        let Some(deflaters) = deflaters else {
            return Err(ProtocolError::ReservedBits.into());
        };
        if self.keeps_peers && self.decompressor.is_none() {
            self.decompressor = deflaters.lend_decompressor();
        }
        if let Some(own) = &mut self.decompressor {
            return inflate(own, message, room, limit, buffers);
        }
        let shared = &mut deflaters.decompressor;
        let inflated = inflate(shared, message, room, limit, buffers);
        // The next message may be another connection's.
        shared.reset();
        inflated
    }
}

fn inflate(
    decompressor: &mut Decompressor,
    message: &[u8],
    room: &mut [u8],
    limit: usize,
    buffers: &mut BufferPool,
) -> Result<Inflated, Fault> {
    let mut progress = Inflating::default();
    let end = room.len().min(limit);
    let step = decompressor.decompress(message, &mut progress, &mut room[..end])?;
    if step == InflateStep::Done {
        return Ok(Inflated::There(progress.written()));
    }
    let mut buffer = Buffer::default();
    let grown = loop {
        let have = progress.written();
        if have >= limit {
            break Err(ProtocolError::MessageTooBig.into());
        }
        let size = have
            .saturating_mul(GROWTH)
            .clamp(buffers.large_buffer_size().min(limit), limit);
        let Some(mut larger) = buffers.lease(size) else {
            break Err(Fault::OutOfBuffers);
        };
        let before = if buffer.is_empty() { &*room } else { &buffer };
        larger[..have].copy_from_slice(&before[..have]);
        give_back(std::mem::replace(&mut buffer, larger), buffers);
        let end = buffer.len().min(limit);
        match decompressor.decompress(message, &mut progress, &mut buffer[..end]) {
            Ok(InflateStep::Done) => break Ok(progress.written()),
            Ok(InflateStep::Full) => {}
            Err(error) => break Err(error.into()),
        }
    };
    match grown {
        Ok(len) => Ok(Inflated::Leased(buffer, len)),
        Err(fault) => {
            give_back(buffer, buffers);
            Err(fault)
        }
    }
}

fn give_back(buffer: Buffer, buffers: &mut BufferPool) {
    if !buffer.is_empty() {
        buffers.give_back(buffer);
    }
}
