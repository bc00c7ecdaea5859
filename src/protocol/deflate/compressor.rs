use core::{error::Error, fmt};

use zlib_rs::{Deflate, DeflateConfig, DeflateFlush};

/// What a flush ends with, and a message leaves out (RFC 7692 §7.2.1).
pub(super) const TAIL: [u8; 4] = [0x00, 0x00, 0xFF, 0xFF];
/// The smallest window that zlib compresses with, as its binary logarithm. It never refers back further than the window less
/// 262 bytes, so that what it makes can be inflated with the next smaller window as well: 512 - 262 < 256.
const MIN_ZLIB_WINDOW_BITS: u8 = 9;

/// Compresses messages (RFC 7692 §7.2.1).
///
/// It takes about 131 KiB + 2^(window bits + 2) + 7 · 2^(memory level + 6) bytes, all of it at the start: 371 KiB for
/// zlib's own 15 and 8, 287 KiB for 15 and 6, 136 KiB for 10 and 1. All but the last part is written to at the start as well, and
/// three sevenths of that.
///
/// ```
/// use wsloop::protocol::{Compressor, Decompressor, InflateStep, Inflating};
///
/// let mut compressor = Compressor::new(6, 15, 8)?;
/// let mut small = [0; Compressor::room_for(100)];
/// let len = compressor.compress([&[b'a'; 100][..]], &mut small, false).expect("there is room");
/// assert!(len < 10);
///
/// let mut room = [0; 100];
/// let mut progress = Inflating::default();
/// let step = Decompressor::new().decompress(&small[..len], &mut progress, &mut room)?;
/// assert_eq!((step, room), (InflateStep::Done, [b'a'; 100]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Compressor {
    stream: Deflate,
    window_bits: u8,
}

/// Parameters that no compressor can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompressorError;

impl Compressor {
    /// `level` from 0 (not at all) and 1 (fast) to 9 (small), binary logarithm of the window in bytes from 8 to 15, memory
    /// level from 1 to 9. A window of 256 bytes is one of 512 of which only so much is used.
    ///
    /// # Errors
    /// A parameter out of its range.
    pub fn new(level: u8, window_bits: u8, memory_level: u8) -> Result<Self, CompressorError> {
        let in_range =
            level <= 9 && (8..=15).contains(&window_bits) && (1..=9).contains(&memory_level);
        if !in_range {
            return Err(CompressorError);
        }
        let config = DeflateConfig {
            level: i32::from(level),
            // Below zero: without zlib's own header.
            window_bits: -i32::from(window_bits.max(MIN_ZLIB_WINDOW_BITS)),
            mem_level: i32::from(memory_level),
            ..DeflateConfig::default()
        };
        Ok(Self {
            stream: Deflate::new_with_config(config),
            window_bits,
        })
    }

    /// Binary logarithm of the window in bytes that is needed to inflate what comes out.
    #[must_use]
    pub fn window_bits(&self) -> u8 {
        self.window_bits
    }

    /// The room in bytes that compressing a message of `len` bytes may take: not only what comes out, but also what it takes to
    /// find out that it does not become shorter.
    #[must_use]
    pub const fn room_for(len: usize) -> usize {
        // Nine bits for each byte are the most that any block takes, beside its frame.
        len.saturating_add(len / 8)
            .saturating_add(len / 128)
            .saturating_add(64)
    }

    /// Compresses a message, given in parts, to the front of `out`; returns how many bytes that is. With `keep_context` it may
    /// refer to the messages before it, and those after it to this one.
    ///
    /// `None`, with nothing changed, when `out` is shorter than [`room_for`](Self::room_for) the message.
    #[must_use]
    pub fn compress<'a>(
        &mut self,
        message: impl IntoIterator<Item = &'a [u8], IntoIter: Clone>,
        out: &mut [u8],
        keep_context: bool,
    ) -> Option<usize> {
        let message = message.into_iter();
        let len = message.clone().map(<[u8]>::len).sum();
        // zlib-rs panics at level 1 when it is out of room in the middle of a message.
        if out.len() < Self::room_for(len) {
            return None;
        }
        if !keep_context {
            self.reset();
        }
        if len == 0 {
            // RFC 7692 §7.2.3.6. A flush without anything to flush makes nothing.
            out[0] = 0;
            return Some(1);
        }
        let mut written = 0;
        for part in message {
            written += self.step(part, &mut out[written..], DeflateFlush::NoFlush)?;
        }
        written += self.step(&[], &mut out[written..], DeflateFlush::SyncFlush)?;
        let without_tail = out[..written].strip_suffix(&TAIL);
        without_tail.map(<[u8]>::len)
    }

    /// Takes in all of `input`; returns how many bytes were made.
    fn step(&mut self, mut input: &[u8], out: &mut [u8], flush: DeflateFlush) -> Option<usize> {
        let mut made = 0;
        loop {
            let before = (self.stream.total_in(), self.stream.total_out());
            self.stream.compress(input, &mut out[made..], flush).ok()?;
            let taken = since(before.0, self.stream.total_in());
            made += since(before.1, self.stream.total_out());
            input = &input[taken..];
            if input.is_empty() {
                return Some(made);
            }
            // There is room for all of it: no progress would be none for ever.
            if taken == 0 {
                return None;
            }
        }
    }

    /// Forgets the messages so far.
    pub fn reset(&mut self) {
        self.stream.reset();
    }
}

/// How far a counter of bytes has come. What was counted lies in memory.
pub(super) fn since(before: u64, after: u64) -> usize {
    usize::try_from(after - before).unwrap_or(usize::MAX)
}

impl fmt::Debug for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compressor")
            .field("window_bits", &self.window_bits)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for CompressorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no such compression level, window or memory level")
    }
}

impl Error for CompressorError {}
