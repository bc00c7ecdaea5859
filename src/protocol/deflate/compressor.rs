use core::{error::Error, fmt};

use zlib_rs::{Deflate, DeflateConfig, DeflateFlush};

/// What a flush ends with, and a message leaves out (RFC 7692 §7.2.1).
pub(super) const TAIL: [u8; 4] = [0x00, 0x00, 0xFF, 0xFF];
/// The smallest window that zlib compresses with, as its binary logarithm. It never refers back further than the window less
/// 262 bytes, so that what it makes can be inflated with the next smaller window as well: 512 - 262 < 256.
const MIN_ZLIB_WINDOW_BITS: u8 = 9;

/// Compresses messages (RFC 7692 §7.2.1).
///
/// It takes about 2^(window bits + 2) + 2^(memory level + 9) bytes, and 64 KiB for its tables, all of it at the start.
///
/// ```
/// use wsloop::protocol::{Compressor, Decompressor, InflateStep, Inflating};
///
/// let mut compressor = Compressor::new(6, 15, 8)?;
/// let mut small = [0; 99];
/// let len = compressor.compress([&[b'a'; 100][..]], &mut small, false).expect("it becomes shorter");
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

    /// Compresses a message, given in parts, to the front of `out`; returns how many bytes that is. With `keep_context` it may
    /// refer to the messages before it, and those after it to this one.
    ///
    /// `None` when `out` is too small, which has to have room for five bytes more: then the context is lost, and the message is
    /// best sent as it is. With `out` as long as the message, this is how to find out that compressing does not pay.
    #[must_use]
    pub fn compress<'a>(
        &mut self,
        message: impl IntoIterator<Item = &'a [u8]>,
        out: &mut [u8],
        keep_context: bool,
    ) -> Option<usize> {
        if !keep_context {
            self.reset();
        }
        let len = self.try_compress(message, out);
        if len.is_none() {
            self.reset();
        }
        len
    }

    fn try_compress<'a>(
        &mut self,
        message: impl IntoIterator<Item = &'a [u8]>,
        out: &mut [u8],
    ) -> Option<usize> {
        let mut written = 0;
        let mut is_empty = true;
        for part in message {
            is_empty &= part.is_empty();
            written = self.feed(part, out, written)?;
        }
        if is_empty {
            // RFC 7692 §7.2.3.6. A flush without anything to flush makes nothing.
            *out.first_mut()? = 0;
            return Some(1);
        }
        self.flush(out, written)
    }

    /// Takes in all of `part`; returns how much of `out` is in use then.
    fn feed(&mut self, mut part: &[u8], out: &mut [u8], mut written: usize) -> Option<usize> {
        while !part.is_empty() {
            let (taken, made) = self.step(part, &mut out[written..], DeflateFlush::NoFlush)?;
            part = &part[taken..];
            written += made;
            if taken == 0 && made == 0 {
                return None;
            }
        }
        Some(written)
    }

    /// Ends the message. A flush that fills its room may not be over, and going on with it would make a second tail.
    fn flush(&mut self, out: &mut [u8], written: usize) -> Option<usize> {
        let room = &mut out[written..];
        let (_, made) = self.step(&[], room, DeflateFlush::SyncFlush)?;
        let is_over = made < room.len();
        let len = out[..written + made].strip_suffix(&TAIL)?.len();
        is_over.then_some(len)
    }

    /// One step: how many bytes were taken, how many were made.
    fn step(
        &mut self,
        input: &[u8],
        out: &mut [u8],
        flush: DeflateFlush,
    ) -> Option<(usize, usize)> {
        let (taken, made) = (self.stream.total_in(), self.stream.total_out());
        // Whether it lacks room or input can be seen from the numbers.
        self.stream.compress(input, out, flush).ok()?;
        Some((
            since(taken, self.stream.total_in()),
            since(made, self.stream.total_out()),
        ))
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
