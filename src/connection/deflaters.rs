use std::time::Instant;

use crate::{
    config::{Compression, Config},
    memory::Occupancy,
    protocol::{Compressor, Decompressor, DeflateParams, DeflatePolicy, Role},
};

/// The smallest window that can be agreed on (RFC 7692 §7.1.2), as a binary logarithm, and the largest.
const MIN_WINDOW_BITS: u8 = 8;
const MAX_WINDOW_BITS: u8 = 15;
const WINDOWS: usize = (MAX_WINDOW_BITS - MIN_WINDOW_BITS + 1) as usize;

/// The compressors and decompressors of a loop (RFC 7692): those for messages that stand alone, and those that are lent to
/// connections which keep their windows.
pub(crate) struct Deflaters {
    level: u8,
    window_bits: u8,
    memory_level: u8,
    pub(super) threshold: usize,
    /// For messages that stand alone, one for each size of window that a peer has asked for, made for the first message.
    alone: [Option<Box<Compressor>>; WINDOWS],
    pub(super) decompressor: Decompressor,
    /// Where a message is compressed before it is known how long it becomes.
    pub(super) space: Box<[u8]>,
    compressors: Lending<OwnCompressor>,
    decompressors: Lending<Decompressor>,
}

/// The compressor of a connection that keeps its window.
pub(crate) struct OwnCompressor {
    pub(super) compressor: Compressor,
    /// When it is to be found out whether it is still used. `None` until that is known.
    pub(super) check_at: Option<Instant>,
}

/// What a connection has agreed on with its peer. What it is to keep is reserved for it, and made for its first message.
#[derive(Debug, Default)]
pub(crate) struct Agreement {
    pub(super) window: SendWindow,
    /// True exactly when the peer's window is kept from message to message.
    pub(super) keeps_peers: bool,
}

/// The window that one end compresses with. One byte, for it stands in every connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct SendWindow(u8);

impl SendWindow {
    /// It was agreed not to compress.
    pub(super) const NONE: Self = Self(0);
    const KEPT: u8 = 0x80;
    const USED: u8 = 0x40;
    const BITS: u8 = 0x0F;

    pub(super) fn new(bits: u8, is_kept: bool) -> Self {
        Self(if is_kept { bits | Self::KEPT } else { bits })
    }

    /// Its binary logarithm in bytes; 0 for none.
    #[inline]
    pub(super) fn bits(self) -> u8 {
        self.0 & Self::BITS
    }

    /// True exactly when it is kept from message to message.
    #[inline]
    pub(super) fn is_kept(self) -> bool {
        self.0 & Self::KEPT != 0
    }

    /// A message is compressed with it.
    #[inline]
    pub(super) fn note_use(&mut self) {
        self.0 |= Self::USED;
    }

    /// True exactly when it was used since this was asked last.
    pub(super) fn take_use(&mut self) -> bool {
        let was_used = self.0 & Self::USED != 0;
        self.0 &= !Self::USED;
        was_used
    }
}

impl Deflaters {
    /// `None` when nothing is to be compressed.
    pub(crate) fn new(config: &Config) -> Option<Box<Self>> {
        let max = match config.compression {
            Compression::Off => return None,
            Compression::Shared => 0,
            Compression::Dedicated => config.max_compression_contexts,
        };
        Some(Box::new(Self {
            level: config.compression_level,
            window_bits: config.compression_window_bits,
            memory_level: config.compression_memory_level,
            threshold: config.compression_threshold,
            alone: Default::default(),
            decompressor: Decompressor::new(),
            space: vec![0; config.large_buffer_size].into_boxed_slice(),
            compressors: Lending::new(max, config.max_idle_compression_contexts),
            decompressors: Lending::new(max, config.max_idle_compression_contexts),
        }))
    }

    /// What a server accepts.
    pub(crate) fn policy(&self) -> DeflatePolicy {
        self.policy_with(
            Role::Server,
            self.compressors.has_more(),
            self.decompressors.has_more(),
        )
    }

    /// What a client offers, and whether a decompressor is reserved for it in case the server takes up the offer.
    pub(crate) fn offer(&mut self) -> (DeflatePolicy, bool) {
        let keeps_peers = self.decompressors.reserve();
        let policy = self.policy_with(Role::Client, self.compressors.has_more(), keeps_peers);
        (policy, keeps_peers)
    }

    fn policy_with(&self, role: Role, keeps_own: bool, keeps_peers: bool) -> DeflatePolicy {
        // A window that is not kept costs nothing.
        let peers_bits = if keeps_peers {
            self.window_bits
        } else {
            MAX_WINDOW_BITS
        };
        match role {
            Role::Server => DeflatePolicy {
                server_no_context_takeover: !keeps_own,
                client_no_context_takeover: !keeps_peers,
                server_max_window_bits: self.window_bits,
                client_max_window_bits: peers_bits,
            },
            Role::Client => DeflatePolicy {
                server_no_context_takeover: !keeps_peers,
                client_no_context_takeover: !keeps_own,
                server_max_window_bits: peers_bits,
                client_max_window_bits: self.window_bits,
            },
        }
    }

    /// A server agrees. With no windows left, what was kept according to `params` no longer is; a server may say so in its
    /// answer whatever the client has offered (RFC 7692 §7.1.1).
    pub(crate) fn accept(&mut self, params: &mut DeflateParams) -> Agreement {
        let window = self.sending(params, Role::Server);
        let keeps_peers = !params.client_no_context_takeover && self.decompressors.reserve();
        params.server_no_context_takeover = !window.is_kept();
        params.client_no_context_takeover = !keeps_peers;
        Agreement {
            window,
            keeps_peers,
        }
    }

    /// The server has taken up an offer; `keeps_peers` as [`Deflaters::offer`] said.
    pub(crate) fn accepted(&mut self, params: &DeflateParams, keeps_peers: bool) -> Agreement {
        let window = self.sending(params, Role::Client);
        if params.server_no_context_takeover {
            self.not_accepted(keeps_peers);
        }
        Agreement {
            window,
            keeps_peers: keeps_peers && !params.server_no_context_takeover,
        }
    }

    /// Nobody has taken up an offer; `keeps_peers` as [`Deflaters::offer`] said.
    pub(crate) fn not_accepted(&mut self, keeps_peers: bool) {
        if keeps_peers {
            self.decompressors.take_back(None);
        }
    }

    /// What one end sends with. It need not keep its window although it might.
    fn sending(&mut self, params: &DeflateParams, role: Role) -> SendWindow {
        let direction = params.direction(role);
        let bits = direction.window_bits.min(self.window_bits);
        SendWindow::new(
            bits,
            direction.context_takeover && self.compressors.reserve(),
        )
    }

    /// The compressor that was reserved for a connection, for its first message.
    pub(super) fn lend_compressor(&mut self, window: SendWindow) -> Option<Box<OwnCompressor>> {
        let (level, bits, memory_level) = (self.level, window.bits(), self.memory_level);
        self.compressors.lend(
            |own| own.window_bits() == bits,
            || {
                Some(OwnCompressor {
                    compressor: Compressor::new(level, bits, memory_level).ok()?,
                    check_at: None,
                })
            },
        )
    }

    /// The decompressor that was reserved for a connection, for its first message.
    pub(super) fn lend_decompressor(&mut self) -> Option<Box<Decompressor>> {
        self.decompressors
            .lend(|_| true, || Some(Decompressor::new()))
    }

    /// A connection has no use for its compressor for now. What was reserved for it stays so.
    pub(super) fn give_back_compressor(&mut self, mut own: Box<OwnCompressor>) {
        own.renew();
        self.compressors.give_back(own);
    }

    /// The connection is over, or never began.
    pub(crate) fn take_back(
        &mut self,
        agreement: &Agreement,
        mut compressor: Option<Box<OwnCompressor>>,
        mut decompressor: Option<Box<Decompressor>>,
    ) {
        if agreement.window.is_kept() {
            compressor.iter_mut().for_each(|it| it.renew());
            self.compressors.take_back(compressor);
        }
        if agreement.keeps_peers {
            decompressor.iter_mut().for_each(|it| it.reset());
            self.decompressors.take_back(decompressor);
        }
    }

    /// The compressor for messages that stand alone, and for peers with such a window.
    pub(super) fn alone(&mut self, window_bits: u8) -> Option<&mut Compressor> {
        let place = usize::from(window_bits.checked_sub(MIN_WINDOW_BITS)?);
        let place = self.alone.get_mut(place)?;
        if place.is_none() {
            *place = Compressor::new(self.level, window_bits, self.memory_level)
                .ok()
                .map(Box::new);
        }
        place.as_deref_mut()
    }

    /// Windows that are reserved for connections: their own, and their peers'.
    pub(crate) fn contexts(&self) -> (Occupancy, Occupancy) {
        (self.compressors.occupancy, self.decompressors.occupancy)
    }
}

impl OwnCompressor {
    fn window_bits(&self) -> u8 {
        self.compressor.window_bits()
    }

    /// As good as new, for the next connection.
    fn renew(&mut self) {
        self.compressor.reset();
        self.check_at = None;
    }
}

/// Things that are reserved, made or lent when they are first needed, and kept for the next one. To reserve one takes no memory,
/// and who has reserved one gets it.
struct Lending<T> {
    /// No more than `max_free`: the others are freed.
    free: Vec<Box<T>>,
    max_free: usize,
    /// How many are with those who have reserved them.
    lent: usize,
    /// Of what is reserved.
    occupancy: Occupancy,
}

impl<T> Lending<T> {
    fn new(max: usize, max_free: usize) -> Self {
        Self {
            free: Vec::new(),
            max_free,
            lent: 0,
            occupancy: Occupancy {
                max,
                ..Occupancy::default()
            },
        }
    }

    fn has_more(&self) -> bool {
        self.occupancy.current < self.occupancy.max
    }

    /// False at the bound.
    fn reserve(&mut self) -> bool {
        let has_more = self.has_more();
        if has_more {
            self.occupancy.current += 1;
            self.occupancy.peak = self.occupancy.peak.max(self.occupancy.current);
        }
        has_more
    }

    /// What was reserved: one that fits, a new one if none does. `None` when none can be made.
    fn lend(
        &mut self,
        fits: impl Fn(&T) -> bool,
        make: impl FnOnce() -> Option<T>,
    ) -> Option<Box<T>> {
        debug_assert!(self.lent < self.occupancy.current, "nothing is reserved");
        let lent = match self.free.iter().rposition(|free| fits(free)) {
            Some(at) => self.free.swap_remove(at),
            None => {
                // Those that fit nobody now make room, so that no more than the bound are ever there.
                if self.free.len() + self.lent >= self.occupancy.max {
                    self.free.pop();
                }
                Box::new(make()?)
            }
        };
        self.lent += 1;
        Some(lent)
    }

    /// Ends a reservation; `lent` is what was made of it.
    fn take_back(&mut self, lent: Option<Box<T>>) {
        self.occupancy.current -= 1;
        if let Some(lent) = lent {
            self.give_back(lent);
        }
    }

    /// What was lent is for others, until it is needed again.
    fn give_back(&mut self, lent: Box<T>) {
        self.lent -= 1;
        if self.free.len() < self.max_free {
            self.free.push(lent);
        }
    }
}

#[cfg(all(test, feature = "deflate"))]
#[path = "deflaters_tests.rs"]
mod tests;
