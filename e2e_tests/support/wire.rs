//! Frames and requests by hand: the tests must not share the library's own encoder.

/// A frame as it was received.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    pub fin: bool,
    pub rsv: u8,
    pub opcode: u8,
    pub payload: Vec<u8>,
}

/// Of a long payload only its beginning: a failed test should be readable.
impl std::fmt::Debug for Frame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let start = &self.payload[..self.payload.len().min(32)];
        write!(
            f,
            "Frame(fin {}, rsv {:#x}, opcode {:#x}, {} bytes: \"{}\")",
            self.fin,
            self.rsv,
            self.opcode,
            self.payload.len(),
            start.escape_ascii()
        )
    }
}

impl Frame {
    pub fn text(text: &str) -> Self {
        Self {
            fin: true,
            rsv: 0,
            opcode: 1,
            payload: text.as_bytes().to_vec(),
        }
    }

    pub fn binary(payload: impl Into<Vec<u8>>) -> Self {
        Self {
            fin: true,
            rsv: 0,
            opcode: 2,
            payload: payload.into(),
        }
    }

    pub fn close(code: u16, reason: &str) -> Self {
        Self {
            fin: true,
            rsv: 0,
            opcode: 8,
            payload: close_payload(code, reason),
        }
    }

    pub fn ping(payload: &[u8]) -> Self {
        Self {
            fin: true,
            rsv: 0,
            opcode: 9,
            payload: payload.to_vec(),
        }
    }

    pub fn pong(payload: &[u8]) -> Self {
        Self {
            fin: true,
            rsv: 0,
            opcode: 10,
            payload: payload.to_vec(),
        }
    }

    /// The code of a close frame.
    pub fn close_code(&self) -> Option<u16> {
        match self.payload[..] {
            [high, low, ..] if self.opcode == 8 => Some(u16::from_be_bytes([high, low])),
            _ => None,
        }
    }
}

pub fn close_payload(code: u16, reason: &str) -> Vec<u8> {
    [&code.to_be_bytes()[..], reason.as_bytes()].concat()
}

/// A frame with any first byte (FIN, reserved bits, opcode), unmasked.
pub fn frame(first_byte: u8, payload: &[u8]) -> Vec<u8> {
    encode(first_byte, payload, None)
}

/// A frame with any first byte (FIN, reserved bits, opcode), masked.
pub fn masked_frame(first_byte: u8, payload: &[u8]) -> Vec<u8> {
    let len = payload.len() as u32;
    encode(
        first_byte,
        payload,
        Some((len.wrapping_mul(0x9E37_79B9) ^ 0xA5C3_1E77).to_be_bytes()),
    )
}

fn encode(first_byte: u8, payload: &[u8], key: Option<[u8; 4]>) -> Vec<u8> {
    let mask_bit = if key.is_some() { 0x80 } else { 0 };
    let mut wire = vec![first_byte];
    match payload.len() {
        len @ 0..=125 => wire.push(mask_bit | len as u8),
        len @ 126..=0xFFFF => {
            wire.push(mask_bit | 126);
            wire.extend((len as u16).to_be_bytes());
        }
        len => {
            wire.push(mask_bit | 127);
            wire.extend((len as u64).to_be_bytes());
        }
    }
    wire.extend(key.iter().flatten());
    let key = key.unwrap_or_default();
    wire.extend(
        payload
            .iter()
            .zip(key.iter().cycle())
            .map(|(byte, key)| byte ^ key),
    );
    wire
}

/// A good request for `path`, with further header lines (each with its line end).
pub fn upgrade_request(path: &str, more: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{more}\r\n"
    )
}
