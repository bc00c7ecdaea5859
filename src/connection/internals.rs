//! Doors to the inbox and the outbox for wsloop's own benchmarks, which drive them as the loop does, without a socket.

use std::{
    fmt,
    hint::black_box,
    io::{self, IoSlice, Write},
    ops::Range,
    sync::Arc,
};

use rand_chacha::rand_core::CryptoRng;

use super::{
    Event, Fault, Output, Partial, Pools, SendErrorKind, SendLimits,
    inbox::Inbox,
    outbox::{Flushed, Outbox},
};
use crate::{
    config::Config,
    memory::Buffer,
    protocol::{MessageKind, Role, Rules},
};

/// The input of a connection.
pub struct InboxBench {
    inbox: Inbox,
    rules: Rules,
    scratch: Buffer,
    pools: Pools,
}

impl InboxBench {
    /// Nothing has come yet.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        let config = Config::default();
        Self {
            inbox: Inbox::default(),
            rules,
            scratch: vec![0; config.scratch_size].into_boxed_slice(),
            pools: Pools::new(&Arc::new(config), false),
        }
    }

    /// Handles what comes in one read, no more than the scratch buffer holds; returns how many messages it completes, `None`
    /// for a peer that breaks the rules. It is copied, once, as the kernel would.
    #[inline]
    pub fn feed(&mut self, read: &[u8]) -> Option<usize> {
        let messages = self.receive(read);
        if messages.is_err() {
            self.inbox.clear(&mut self.pools);
        }
        messages.ok()
    }

    fn receive(&mut self, read: &[u8]) -> Result<usize, Fault> {
        let (kept, _) = self.inbox.restore(&mut self.scratch, &mut self.pools);
        let (direct, completed) = self.receive_directly(read)?;
        let end = kept.end + read.len() - direct;
        self.scratch[kept.end..end].copy_from_slice(&read[direct..]);
        Ok(completed + self.dispatch(kept.start..end)?)
    }

    /// The kernel would have put the payload of a message under way into its own buffer. How many bytes that are, and how many
    /// messages they complete.
    fn receive_directly(&mut self, read: &[u8]) -> Result<(usize, usize), Fault> {
        let space = self.inbox.direct_space(&mut self.pools)?;
        let count = space.len().min(read.len());
        if count == 0 {
            return Ok((0, 0));
        }
        space[..count].copy_from_slice(&read[..count]);
        let is_complete = self.inbox.direct_arrived(count, &self.rules)?;
        if is_complete {
            self.take_message();
        }
        Ok((count, usize::from(is_complete)))
    }

    fn dispatch(&mut self, bytes: Range<usize>) -> Result<usize, Fault> {
        let (mut position, len, mut messages) = (bytes.start, bytes.end, 0);
        let (rules, partial) = (self.rules, Partial::Ended);
        loop {
            let (input, pools) = (&mut self.scratch[..len], &mut self.pools);
            let event = self
                .inbox
                .next(input, &mut position, &rules, partial, pools)?;
            match event {
                Some(event) => messages += self.deliver(event)?,
                None => break,
            }
        }
        let (scratch, pools) = (&mut self.scratch, &mut self.pools);
        self.inbox.keep(scratch, position..len, false, pools)?;
        Ok(messages)
    }

    /// How many messages the event is.
    #[inline]
    fn deliver(&mut self, event: Event) -> Result<usize, Fault> {
        match event {
            Event::Message(kind, range) | Event::Compressed(kind, range) => {
                black_box((kind, &self.scratch[range]));
            }
            Event::Assembled => self.take_message(),
            Event::Begun(header, arrived) => {
                let (scratch, pools) = (&mut self.scratch, &mut self.pools);
                self.inbox
                    .adopt(&header, arrived, scratch, &self.rules, pools)?;
                return Ok(0);
            }
            Event::Piece(..) | Event::Control(..) => return Ok(0),
        }
        Ok(1)
    }

    fn take_message(&mut self) {
        if let Some(message) = self.inbox.take_message(&mut self.pools) {
            self.pools.give_back(message.buffer);
        }
    }
}

impl fmt::Debug for InboxBench {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InboxBench").finish_non_exhaustive()
    }
}

/// The output of a connection, behind which a kernel takes everything at once.
pub struct OutboxBench {
    outbox: Outbox,
    limits: SendLimits,
    pools: Pools,
    kernel: Kernel,
}

impl OutboxBench {
    /// A server's, whose frames are not masked.
    #[must_use]
    pub fn server() -> Self {
        let config = Arc::new(Config::default());
        Self {
            outbox: Outbox::new(Role::Server),
            limits: SendLimits {
                queue: config.send_queue,
                backlog: config.max_backlog,
            },
            pools: Pools::new(&config, false),
            kernel: Kernel::default(),
        }
    }

    /// A client's, with the generator of its mask keys.
    #[must_use]
    pub fn client(rng: impl CryptoRng + Send + 'static) -> Self {
        let mut client = Self {
            outbox: Outbox::new(Role::Client),
            ..Self::server()
        };
        client.pools.mask_keys.supply(Box::new(rng));
        client
    }

    /// Stages a copy of a binary message. A large one of a server's goes out at once.
    ///
    /// # Errors
    /// As [`Conn::send_copy`](crate::Conn::send_copy).
    #[inline]
    pub fn stage(&mut self, payload: &[u8]) -> Result<(), SendErrorKind> {
        let kind = MessageKind::Binary;
        if self
            .outbox
            .cork_short(kind, payload, &self.limits, &mut self.pools)
        {
            return Ok(());
        }
        self.outbox.send_copy(
            kind,
            &[IoSlice::new(payload)],
            &self.limits,
            &mut self.pools,
            &mut Output::new(&mut self.kernel, &[]),
            drop,
        )
    }

    /// Writes what is staged; returns how many bytes were written since the last time.
    #[inline]
    pub fn flush(&mut self) -> usize {
        let out = &mut Output::new(&mut self.kernel, &[]);
        let flushed = self.outbox.flush(out, &mut self.pools, drop);
        debug_assert!(matches!(flushed, Ok(Flushed::All)));
        std::mem::take(&mut self.kernel.taken)
    }
}

impl fmt::Debug for OutboxBench {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutboxBench").finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Kernel {
    /// Bytes.
    taken: usize,
}

impl Write for Kernel {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = black_box(bytes).len();
        self.taken += count;
        Ok(count)
    }

    #[inline]
    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let count = black_box(slices).iter().map(|slice| slice.len()).sum();
        self.taken += count;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

    use super::{super::choppy::frame, *};

    const TEXT: u8 = 0x81;
    const TEXT_PART: u8 = 0x01;
    const LAST: u8 = 0x80;
    const PING: u8 = 0x89;

    fn inbox() -> InboxBench {
        InboxBench::new(Rules {
            role: Role::Server,
            max_message_size: 1000,
            check_utf8: true,
            compression: false,
        })
    }

    #[test]
    fn every_message_is_counted_wherever_the_reads_cut() {
        let key = Some([1, 2, 3, 4]);
        let wire = [
            frame(TEXT, key, b"whole"),
            frame(TEXT_PART, key, &[b'a'; 300]),
            frame(PING, key, b"between"),
            frame(LAST, key, b"fragmented"),
            frame(TEXT, key, b""),
        ]
        .concat();
        let mut inbox = inbox();
        for cut in 0..=wire.len() {
            let first = inbox.feed(&wire[..cut]).unwrap();
            let second = inbox.feed(&wire[cut..]).unwrap();
            assert_eq!(first + second, 3, "cut at {cut}");
            assert_eq!(inbox.inbox.kept(), b"");
        }
    }

    #[test]
    fn a_peer_that_breaks_the_rules_is_no_count() {
        let mut inbox = inbox();
        assert_eq!(inbox.feed(&frame(TEXT, None, b"unmasked")), None);
        let masked = frame(TEXT, Some([9; 4]), b"masked");
        assert_eq!(inbox.feed(&masked), Some(1));
    }

    #[test]
    fn what_is_staged_is_written() {
        let mut server = OutboxBench::server();
        server.stage(&[0; 20]).unwrap();
        server.stage(&[0; 200]).unwrap();
        assert_eq!(server.flush(), 22 + 204);
        server.stage(&[0; 20_000]).unwrap();
        assert_eq!(server.flush(), 20_004);
        let mut client = OutboxBench::client(ChaCha8Rng::seed_from_u64(1));
        client.stage(&[0; 20]).unwrap();
        assert_eq!(client.flush(), 26);
        assert_eq!(client.flush(), 0);
    }
}
