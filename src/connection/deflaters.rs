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
    compressors: Lending<Compressor>,
    decompressors: Lending<Decompressor>,
}

/// What a connection has agreed on with its peer, with the windows that it keeps.
#[derive(Default)]
pub(crate) struct Agreement {
    /// As in [`Outbox`](super::outbox::Outbox).
    pub(super) window_bits: u8,
    pub(super) compressor: Option<Box<Compressor>>,
    /// `Some` exactly when the peer's window is kept from message to message.
    pub(super) decompressor: Option<Box<Decompressor>>,
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
            compressors: Lending::new(max),
            decompressors: Lending::new(max),
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

    /// What a client offers, and the decompressor that it has to have when the server takes up the offer.
    pub(crate) fn offer(&mut self) -> (DeflatePolicy, Option<Box<Decompressor>>) {
        let decompressor = self.lend_decompressor();
        let policy = self.policy_with(
            Role::Client,
            self.compressors.has_more(),
            decompressor.is_some(),
        );
        (policy, decompressor)
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
        let (window_bits, compressor) = self.sending(params, Role::Server);
        let decompressor = if params.client_no_context_takeover {
            None
        } else {
            self.lend_decompressor()
        };
        params.server_no_context_takeover = compressor.is_none();
        params.client_no_context_takeover = decompressor.is_none();
        Agreement {
            window_bits,
            compressor,
            decompressor,
        }
    }

    /// The server has taken up what a client offered with `decompressor`.
    pub(crate) fn accepted(
        &mut self,
        params: &DeflateParams,
        decompressor: Option<Box<Decompressor>>,
    ) -> Agreement {
        let (window_bits, compressor) = self.sending(params, Role::Client);
        let decompressor = if params.server_no_context_takeover {
            self.take_back_decompressor(decompressor);
            None
        } else {
            decompressor
        };
        Agreement {
            window_bits,
            compressor,
            decompressor,
        }
    }

    /// What one end sends with. It need not keep its window although it might.
    fn sending(&mut self, params: &DeflateParams, role: Role) -> (u8, Option<Box<Compressor>>) {
        let direction = params.direction(role);
        let bits = direction.window_bits.min(self.window_bits);
        let own = if direction.context_takeover {
            let (level, memory_level) = (self.level, self.memory_level);
            self.compressors.lend(
                |compressor| compressor.window_bits() == bits,
                || Compressor::new(level, bits, memory_level).ok(),
            )
        } else {
            None
        };
        (bits, own)
    }

    fn lend_decompressor(&mut self) -> Option<Box<Decompressor>> {
        self.decompressors
            .lend(|_| true, || Some(Decompressor::new()))
    }

    /// The connection is over, or never began.
    pub(crate) fn take_back(&mut self, agreement: Agreement) {
        if let Some(mut compressor) = agreement.compressor {
            compressor.reset();
            self.compressors.take_back(compressor);
        }
        self.take_back_decompressor(agreement.decompressor);
    }

    pub(crate) fn take_back_decompressor(&mut self, decompressor: Option<Box<Decompressor>>) {
        if let Some(mut decompressor) = decompressor {
            decompressor.reset();
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

    /// Windows that connections keep: their own, and their peers'.
    pub(crate) fn contexts(&self) -> (Occupancy, Occupancy) {
        (self.compressors.occupancy, self.decompressors.occupancy)
    }
}

/// Things that are made when they are first needed, lent, and kept for the next one.
struct Lending<T> {
    free: Vec<Box<T>>,
    occupancy: Occupancy,
}

impl<T> Lending<T> {
    fn new(max: usize) -> Self {
        Self {
            free: Vec::new(),
            occupancy: Occupancy {
                max,
                ..Occupancy::default()
            },
        }
    }

    fn has_more(&self) -> bool {
        self.occupancy.current < self.occupancy.max
    }

    /// One that fits, a new one if none does. `None` at the bound.
    fn lend(
        &mut self,
        fits: impl Fn(&T) -> bool,
        make: impl FnOnce() -> Option<T>,
    ) -> Option<Box<T>> {
        if !self.has_more() {
            return None;
        }
        let lent = match self.free.iter().rposition(|free| fits(free)) {
            Some(at) => self.free.swap_remove(at),
            None => {
                // Those that fit nobody now make room, so that no more than the bound are ever there.
                if self.free.len() + self.occupancy.current >= self.occupancy.max {
                    self.free.pop();
                }
                Box::new(make()?)
            }
        };
        self.occupancy.current += 1;
        self.occupancy.peak = self.occupancy.peak.max(self.occupancy.current);
        Some(lent)
    }

    fn take_back(&mut self, lent: Box<T>) {
        self.occupancy.current -= 1;
        self.free.push(lent);
    }
}
