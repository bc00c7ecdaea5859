use std::io::{self, Write};

use bytes::Bytes;

use super::{
    Frames, Pools, SendLimits,
    outbox::{Flushed, Outbox},
    output::Output,
    queue::offer,
    segment::{Segment, Walk},
};
use crate::{
    memory::{Buffer, BufferPool},
    protocol::Role,
};

/// Frames that are put together for many connections at a time, at most.
const MAX_ENTRIES: usize = 256;

/// What many connections are sent alike within a turn, one behind the other in one buffer: each of them only knows from which
/// frames to which it takes part, and writes them from there. So a connection that is sent what others are sent too takes no
/// queue, no buffer and no copy of its own.
#[derive(Default)]
pub(crate) struct Fan {
    /// Leased while there are entries.
    buffer: Buffer,
    entries: Vec<Entry>,
    /// The entry with which the connection that came last began: the next one is likely to begin with it too.
    first: usize,
    /// Connections that have entries to write.
    users: usize,
}

struct Entry {
    /// Kept so that the same frames are known by their address.
    frames: Bytes,
    /// Where they begin in the buffer.
    start: u32,
    len: u32,
}

/// The entries that a connection has to write; none when both are the same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Share {
    first: u16,
    next: u16,
    /// Bytes of them.
    pub(super) len: u32,
}

impl Share {
    #[inline]
    pub(super) fn is_empty(self) -> bool {
        self.first == self.next
    }

    /// One entry more. All of them fit one buffer, so their sum fits too.
    #[inline]
    fn push(&mut self, entry: &Entry) {
        self.next += 1;
        self.len += entry.len;
    }
}

impl Fan {
    /// The entry behind the share, if it is of these frames.
    #[inline]
    fn next(&self, share: Share, frames: &Bytes) -> Option<&Entry> {
        self.at(usize::from(share.next), frames)
    }

    /// A share that begins with these frames, where the last one began or at the end; `None` when they have to be put there.
    #[inline]
    fn begin(&mut self, frames: &Bytes) -> Option<Share> {
        let last = self.entries.len().wrapping_sub(1);
        let first = match self.at(last, frames) {
            Some(_) => last,
            None => self.first,
        };
        let entry = self.at(first, frames)?;
        let index = u16::try_from(first).ok()?;
        let mut share = Share {
            first: index,
            next: index,
            len: 0,
        };
        share.push(entry);
        self.first = first;
        self.users += 1;
        Some(share)
    }

    /// Puts the frames where the share goes on. False when something else is there, or no room.
    fn put(&mut self, share: Share, frames: &Bytes, buffers: &mut BufferPool) -> bool {
        let is_end = share.is_empty() || usize::from(share.next) == self.entries.len();
        is_end && self.add(frames, buffers)
    }

    /// The entry at this place, if it is of these frames.
    #[inline]
    fn at(&self, index: usize, frames: &Bytes) -> Option<&Entry> {
        self.entries.get(index).filter(|entry| {
            entry.frames.as_ptr() == frames.as_ptr() && entry.frames.len() == frames.len()
        })
    }

    /// False when there is no room.
    fn add(&mut self, frames: &Bytes, buffers: &mut BufferPool) -> bool {
        if self.buffer.is_empty() {
            match buffers.lease_spare(buffers.large_buffer_size()) {
                Some(buffer) => self.buffer = buffer,
                None => return false,
            }
        }
        let last = self.entries.last();
        let start = last.map_or(0, |last| last.start + last.len);
        let from = start as usize;
        let Some(space) = self.buffer.get_mut(from..from + frames.len()) else {
            return false;
        };
        let Ok(len) = u32::try_from(frames.len()) else {
            return false;
        };
        match self.entries.len() {
            0 => self.entries.reserve_exact(MAX_ENTRIES),
            MAX_ENTRIES => return false,
            _ => {}
        }
        space.copy_from_slice(frames);
        self.entries.push(Entry {
            frames: frames.clone(),
            start,
            len,
        });
        true
    }

    #[inline]
    fn bytes(&self, share: Share) -> &[u8] {
        let first = self.entries.get(usize::from(share.first));
        let start = first.map_or(0, |first| first.start as usize);
        &self.buffer[start..start + share.len as usize]
    }

    fn frames(&self, index: u16) -> Bytes {
        self.entries[usize::from(index)].frames.clone()
    }

    /// At the end of a turn: what everybody has written is forgotten.
    pub(crate) fn release(&mut self, buffers: &mut BufferPool) {
        if self.users == 0 && !self.entries.is_empty() {
            self.entries.clear();
            self.first = 0;
        }
        if self.entries.is_empty() && !self.buffer.is_empty() {
            buffers.give_back(std::mem::take(&mut self.buffer));
        }
    }
}

impl Outbox {
    /// Stages frames that stand in the fan behind what is staged, as in a broadcast of several messages all but the first do for
    /// almost every connection: this is their whole way, so it is short. False for any others, of which nothing is staged.
    #[inline]
    pub(crate) fn follow(
        &mut self,
        frames: &Frames,
        limits: &SendLimits,
        pools: &mut Pools,
    ) -> bool {
        let (frames, is_compressed) = frames.for_window(self.window.bits());
        let Some(fan) = &pools.fan else {
            return false;
        };
        // There is no share but a server's, between messages.
        if self.share.is_empty() {
            return false;
        }
        let Some(entry) = fan.next(self.share, frames.shared()) else {
            return false;
        };
        if self.share.len as usize + entry.len as usize > limits.backlog {
            return false;
        }
        self.share.push(entry);
        if is_compressed {
            self.forget_window();
        }
        true
    }

    /// As `follow`, with nothing staged before.
    #[inline]
    pub(crate) fn join(&mut self, frames: &Frames, pools: &mut Pools) -> bool {
        let is_free = self.may_share() && self.share.is_empty();
        if !is_free || self.open.is_some() || self.role == Role::Client {
            return false;
        }
        let (frames, is_compressed) = frames.for_window(self.window.bits());
        let Some(fan) = &mut pools.fan else {
            return false;
        };
        let Some(share) = fan.begin(frames.shared()) else {
            return false;
        };
        self.share = share;
        if is_compressed {
            self.forget_window();
        }
        true
    }

    /// Stages frames that others may be sent too, as the first of them. False when they have to be staged by themselves.
    pub(super) fn lead(&mut self, frames: &Bytes, pools: &mut Pools) -> bool {
        let Some(fan) = &mut pools.fan else {
            return false;
        };
        if !self.may_share() || !fan.put(self.share, frames, &mut pools.buffers) {
            return false;
        }
        if self.share.is_empty() {
            self.share = fan.begin(frames).unwrap_or_default();
            return !self.share.is_empty();
        }
        let entry = fan.next(self.share, frames);
        entry.map(|entry| self.share.push(entry)).is_some()
    }

    /// True exactly when nothing else is staged.
    #[inline]
    fn may_share(&self) -> bool {
        self.queue.is_none() && self.corked == 0 && !self.blocked
    }

    /// Writes the share.
    #[inline]
    pub(super) fn flush_share(
        &mut self,
        out: &mut Output<'_, impl Write>,
        pools: &mut Pools,
    ) -> io::Result<Flushed> {
        let bytes = pools
            .fan
            .as_ref()
            .map_or(&[][..], |fan| fan.bytes(self.share));
        let (offered, taken) = offer(bytes.len(), || out.write(bytes))?;
        if taken < offered {
            self.blocked = true;
            self.queue_share(taken, pools);
            return Ok(Flushed::Blocked);
        }
        self.discard_share(pools);
        Ok(Flushed::All)
    }

    /// Moves the share to the queue, behind the first `written` bytes: something else comes behind it, or the kernel does not
    /// take it all.
    #[cold]
    pub(super) fn queue_share(&mut self, mut written: usize, pools: &mut Pools) {
        let share = self.share;
        self.discard_share(pools);
        for index in share.first..share.next {
            let Some(frames) = pools.fan.as_ref().map(|fan| fan.frames(index)) else {
                return;
            };
            if written >= frames.len() {
                written -= frames.len();
                continue;
            }
            let walk = Walk {
                written: std::mem::take(&mut written),
                boundary: 0,
            };
            self.queue(pools).push(Segment::Shared(walk, frames));
        }
    }

    /// Forgets the share.
    #[inline]
    pub(super) fn discard_share(&mut self, pools: &mut Pools) {
        if !self.share.is_empty() {
            self.share = Share::default();
            if let Some(fan) = &mut pools.fan {
                fan.users -= 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

    use super::{super::choppy::below, *};
    use crate::{
        config::Config,
        connection::SendErrorKind,
        protocol::{MessageKind, Opcode},
    };

    const LIMITS: SendLimits = SendLimits {
        queue: 1,
        backlog: 1 << 20,
    };

    /// Takes at most so many bytes at a time.
    struct Kernel {
        wire: Vec<u8>,
        room: usize,
        writes: usize,
    }

    impl Write for Kernel {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = bytes.len().min(self.room);
            self.wire.extend(&bytes[..count]);
            self.writes += 1;
            match count {
                0 => Err(io::ErrorKind::WouldBlock.into()),
                _ => Ok(count),
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Conn {
        outbox: Outbox,
        kernel: Kernel,
        expected: Vec<u8>,
    }

    impl Conn {
        fn new() -> Self {
            Self {
                outbox: Outbox::new(Role::Server),
                kernel: Kernel {
                    wire: Vec::new(),
                    room: usize::MAX,
                    writes: 0,
                },
                expected: Vec::new(),
            }
        }

        fn send(&mut self, frames: &Frames, pools: &mut Pools) {
            self.outbox.send_frames(frames, &LIMITS, pools).unwrap();
            self.expected.extend(frames.as_bytes());
        }

        fn flush(&mut self, pools: &mut Pools) {
            let out = &mut Output::new(&mut self.kernel, &[]);
            self.outbox.flush(out, pools, |_| {}).unwrap();
        }

        fn drain(&mut self, pools: &mut Pools) {
            self.kernel.room = usize::MAX;
            while !self.outbox.is_empty() {
                self.outbox.writable();
                self.flush(pools);
            }
        }
    }

    fn pools() -> Pools {
        let config = Config::default()
            .initial_read_buffers(0)
            .initial_large_buffers(0);
        Pools::new(&Arc::new(config), false)
    }

    fn messages(count: usize) -> Vec<Frames> {
        (0..count)
            .map(|number| Frames::message(MessageKind::Binary, &vec![number as u8; 60 + number]))
            .collect()
    }

    fn leased_at_the_end(pools: &mut Pools) -> usize {
        pools.end_turn();
        pools.buffers.leased()
    }

    #[test]
    fn many_are_written_to_from_one_buffer_in_either_order_of_sending() {
        for by_message in [true, false] {
            let mut pools = pools();
            let mut conns: Vec<Conn> = (0..50).map(|_| Conn::new()).collect();
            let messages = messages(16);
            for outer in 0..if by_message { 16 } else { 50 } {
                for inner in 0..if by_message { 50 } else { 16 } {
                    let (conn, message) = match by_message {
                        true => (inner, outer),
                        false => (outer, inner),
                    };
                    conns[conn].send(&messages[message], &mut pools);
                }
            }
            assert_eq!(pools.buffers.leased(), 1);
            for conn in &mut conns {
                assert_eq!(conn.outbox.backlog(), conn.expected.len());
                conn.flush(&mut pools);
                assert!(conn.kernel.wire == conn.expected && conn.outbox.is_empty());
                assert_eq!(conn.kernel.writes, 1);
            }
            assert_eq!(leased_at_the_end(&mut pools), 0);
        }
    }

    #[test]
    fn nothing_is_forgotten_while_somebody_has_it_to_write() {
        let mut pools = pools();
        let (mut early, mut late) = (Conn::new(), Conn::new());
        let messages = messages(3);
        early.send(&messages[0], &mut pools);
        late.send(&messages[0], &mut pools);
        early.flush(&mut pools);
        assert_eq!(leased_at_the_end(&mut pools), 1);
        late.send(&messages[1], &mut pools);
        early.send(&messages[2], &mut pools);
        late.outbox.discard_all(&mut pools, |_| {});
        early.drain(&mut pools);
        assert!(early.kernel.wire == early.expected && late.kernel.wire.is_empty());
        assert_eq!(leased_at_the_end(&mut pools), 0);
    }

    #[test]
    fn what_follows_meets_the_limit_of_the_backlog() {
        let mut pools = pools();
        let messages = messages(3);
        let backlog = messages[0].as_bytes().len() + messages[1].as_bytes().len();
        let limits = SendLimits { queue: 1, backlog };
        let (mut first, mut second) = (Conn::new(), Conn::new());
        for frames in &messages {
            first.send(frames, &mut pools);
        }
        for frames in &messages[..2] {
            second
                .outbox
                .send_frames(frames, &limits, &mut pools)
                .unwrap();
        }
        let refused = second.outbox.send_frames(&messages[2], &limits, &mut pools);
        assert_eq!(refused, Err(SendErrorKind::BacklogFull));
        assert_eq!(second.outbox.backlog(), backlog);
        second.flush(&mut pools);
        assert!(second.kernel.wire == first.expected[..backlog]);
    }

    #[test]
    fn who_may_not_take_part_does_not() {
        let mut pools = pools();
        pools
            .mask_keys
            .supply(Box::new(ChaCha8Rng::seed_from_u64(0)));
        let messages = messages(1);
        let (mut server, mut amid, mut client) = (Conn::new(), Conn::new(), Conn::new());
        server.send(&messages[0], &mut pools);
        amid.outbox.open = Some(MessageKind::Text);
        let refused = amid.outbox.send_frames(&messages[0], &LIMITS, &mut pools);
        assert_eq!(refused, Err(SendErrorKind::MessageOpen));
        client.outbox = Outbox::new(Role::Client);
        client.send(&messages[0], &mut pools);
        client.flush(&mut pools);
        assert_eq!(client.kernel.wire[1], 0x80 | 60, "masked");
    }

    /// Connections that are sent some of the same, and other things between, and whose kernels take now more and now less.
    #[test]
    fn everybody_gets_what_it_was_sent() {
        for seed in 0..200 {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let mut pools = pools();
            let mut conns: Vec<Conn> = (0..8).map(|_| Conn::new()).collect();
            let messages = messages(12);
            for _ in 0..300 {
                let conn = &mut conns[below(&mut rng, 8)];
                let frames = &messages[below(&mut rng, 12)];
                match below(&mut rng, 10) {
                    0..6 => conn.send(frames, &mut pools),
                    6 => {
                        conn.kernel.room = [0, 1, 70, usize::MAX][below(&mut rng, 4)];
                        conn.flush(&mut pools);
                    }
                    7 => conn.outbox.writable(),
                    8 if conn.outbox.is_empty() => {
                        // Behind nothing, so that its place is known.
                        conn.outbox.control(Opcode::Ping, b"", &mut pools).unwrap();
                        conn.expected.extend([0x89, 0]);
                    }
                    _ => pools.end_turn(),
                }
            }
            for conn in &mut conns {
                conn.drain(&mut pools);
                assert!(conn.kernel.wire == conn.expected, "seed {seed}");
            }
            assert_eq!(leased_at_the_end(&mut pools), 0);
        }
    }
}
