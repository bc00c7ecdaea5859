//! Frames as bytes, written without any of the libraries under test.

use std::io::Write;

use flate2::{Compression, write::DeflateEncoder};

/// Bytes of a mask key.
pub(crate) const MASK_LEN: usize = 4;
/// The key of every frame: which it is does not matter, only that it is not 0.
pub(crate) const KEY: [u8; MASK_LEN] = [0x12, 0x34, 0x56, 0x78];
const FINAL_BINARY: u8 = 0x82;
const COMPRESSED: u8 = 0x40;
const MASKED: u8 = 0x80;

/// Bytes of an unmasked frame.
pub(crate) fn server_frame_len(payload: usize) -> usize {
    server_header(payload).len() + payload
}

/// Bytes of a masked frame.
pub(crate) fn client_frame_len(payload: usize) -> usize {
    client_header_len(payload) + payload
}

/// The header of an unmasked frame.
pub(crate) fn server_header(payload: usize) -> Vec<u8> {
    header(FINAL_BINARY, 0, payload)
}

/// Bytes of the header of a masked frame.
pub(crate) fn client_header_len(payload: usize) -> usize {
    server_header(payload).len() + MASK_LEN
}

/// The header of a masked frame, key included.
pub(crate) fn client_header(payload: usize) -> Vec<u8> {
    let mut header = header(FINAL_BINARY, MASKED, payload);
    header.extend_from_slice(&KEY);
    header
}

/// An unmasked frame.
pub(crate) fn server_frame(payload: &[u8], compressed: bool) -> Vec<u8> {
    let first = if compressed {
        FINAL_BINARY | COMPRESSED
    } else {
        FINAL_BINARY
    };
    let mut frame = header(first, 0, payload.len());
    frame.extend_from_slice(payload);
    frame
}

/// A masked frame.
pub(crate) fn client_frame(payload: &[u8], compressed: bool) -> Vec<u8> {
    let first = if compressed {
        FINAL_BINARY | COMPRESSED
    } else {
        FINAL_BINARY
    };
    let mut frame = header(first, MASKED, payload.len());
    frame.extend_from_slice(&KEY);
    frame.extend(
        payload
            .iter()
            .zip(KEY.iter().cycle())
            .map(|(byte, key)| byte ^ key),
    );
    frame
}

/// A masked frame with any key, as the unmasked one that says the same.
pub(crate) fn unmasked(frame: &[u8]) -> Option<Vec<u8>> {
    let (header, rest) = parse(frame)?;
    let (key, payload) = frame[header..].split_at_checked(MASK_LEN)?;
    let payload: Vec<u8> = payload
        .iter()
        .zip(key.iter().cycle())
        .map(|(byte, key)| byte ^ key)
        .collect();
    (rest == payload.len() + MASK_LEN).then(|| server_frame(&payload, false))
}

/// A payload that was compressed by itself (RFC 7692 §7.2.1).
pub(crate) fn compress(payload: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(payload)?;
    encoder.flush()?;
    let mut bytes = encoder.get_ref().clone();
    // The empty block at the end of a flush is left out.
    bytes.truncate(bytes.len() - 4);
    Ok(bytes)
}

fn header(first: u8, mask: u8, payload: usize) -> Vec<u8> {
    let mut header = vec![first];
    match payload {
        0..=125 => header.push(mask | payload as u8),
        126..=0xFFFF => {
            header.push(mask | 126);
            header.extend_from_slice(&(payload as u16).to_be_bytes());
        }
        _ => {
            header.push(mask | 127);
            header.extend_from_slice(&(payload as u64).to_be_bytes());
        }
    }
    header
}

/// Counts the frames in a stream of bytes, whatever is in them.
#[derive(Debug, Default)]
pub(crate) struct Counter {
    /// Bytes of a header that is not whole.
    header: Vec<u8>,
    /// Bytes of a payload, and its key, that are still to come.
    skip: usize,
}

impl Counter {
    /// The frames that end in these bytes.
    pub(crate) fn count(&mut self, mut bytes: &[u8]) -> usize {
        let mut frames = 0;
        loop {
            if self.skip > bytes.len() || (self.skip > 0 && bytes.is_empty()) {
                self.skip -= bytes.len();
                return frames;
            }
            if self.skip > 0 {
                bytes = &bytes[self.skip..];
                self.skip = 0;
                frames += 1;
            }
            if bytes.is_empty() {
                return frames;
            }
            // Nearly always the header is here as a whole.
            let whole = if self.header.is_empty() {
                parse(bytes)
            } else {
                None
            };
            match whole {
                Some((header, rest)) => {
                    bytes = &bytes[header..];
                    self.skip = rest;
                }
                None => {
                    self.header.push(bytes[0]);
                    bytes = &bytes[1..];
                    let Some((_, rest)) = parse(&self.header) else {
                        continue;
                    };
                    self.header.clear();
                    self.skip = rest;
                }
            }
            if self.skip == 0 {
                frames += 1;
            }
        }
    }
}

/// Bytes of the header without a key, and of what follows; `None` while the header is not whole.
fn parse(bytes: &[u8]) -> Option<(usize, usize)> {
    let second = *bytes.get(1)?;
    let key = if second & MASKED == 0 { 0 } else { MASK_LEN };
    let (header, payload) = match second & !MASKED {
        126 => (
            4,
            usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)),
        ),
        127 => (
            10,
            u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?) as usize,
        ),
        len => (2, usize::from(len)),
    };
    Some((header, payload + key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_counted_however_they_are_cut() {
        let mut stream = Vec::new();
        let sizes = [0, 20, 125, 126, 1000, 70_000, 0, 1];
        for size in sizes {
            stream.extend(server_frame(&vec![7; size], false));
            stream.extend(client_frame(&vec![7; size], false));
        }
        for cut in [1, 2, 3, 7, 100, 4096, stream.len()] {
            let mut counter = Counter::default();
            let frames: usize = stream.chunks(cut).map(|chunk| counter.count(chunk)).sum();
            assert_eq!(frames, 2 * sizes.len(), "{cut}");
        }
    }
}
