use super::{
    SendErrorKind,
    frames::{MAX_CONTROL_FRAME, encode_close, encode_control},
};
use crate::{
    memory::{CONTROL_RING_LEN, ControlRing, MAX_FRAME_LEN},
    protocol::{ClosePayload, FIN, MAX_CONTROL_PAYLOAD, MaskKeys, Opcode, Role},
};

/// Room for everything of a server's that may wait, the ring and the automatic pong, and for one frame more, so that the last
/// one is never left behind for want of a few bytes. A client's mask keys may make it two writes.
const OUTGOING_LEN: usize = CONTROL_RING_LEN + 2 * MAX_CONTROL_FRAME;

/// The control frames of a connection: those that wait, and those that stand among the data and are being written.
pub(super) struct Control {
    ring: ControlRing,
    /// The payload of the newest ping, to be answered; `None` when all are.
    pong: Option<Pong>,
    /// The frames of `Segment::Control`, while there is one.
    outgoing: [u8; OUTGOING_LEN],
    outgoing_len: usize,
    /// The frame of `Segment::Close`, while there is one.
    close: [u8; MAX_CONTROL_FRAME],
    close_len: usize,
}

struct Pong {
    payload: [u8; MAX_CONTROL_PAYLOAD],
    len: usize,
}

impl Default for Control {
    fn default() -> Self {
        Self {
            ring: ControlRing::default(),
            pong: None,
            outgoing: [0; OUTGOING_LEN],
            outgoing_len: 0,
            close: [0; MAX_CONTROL_FRAME],
            close_len: 0,
        }
    }
}

impl Control {
    /// Puts a ping or pong into the ring. `payload` has at most 125 bytes.
    pub(super) fn push(&mut self, opcode: Opcode, payload: &[u8]) -> Result<(), SendErrorKind> {
        self.ring
            .push(FIN | opcode.bits(), payload)
            .map_err(|_| SendErrorKind::QueueFull)
    }

    /// Replaces the pong that waits. `payload` has at most 125 bytes.
    pub(super) fn set_pong(&mut self, payload: &[u8]) {
        let empty = Pong {
            payload: [0; MAX_CONTROL_PAYLOAD],
            len: 0,
        };
        let pong = self.pong.get_or_insert(empty);
        pong.len = payload.len().min(MAX_CONTROL_PAYLOAD);
        pong.payload[..pong.len].copy_from_slice(&payload[..pong.len]);
    }

    pub(super) fn has_pong(&self) -> bool {
        self.pong.is_some()
    }

    /// True exactly when a frame waits.
    #[inline]
    pub(super) fn is_waiting(&self) -> bool {
        !self.ring.is_empty() || self.pong.is_some()
    }

    /// Drops what waits.
    pub(super) fn clear(&mut self) {
        self.ring.clear();
        self.pong = None;
    }

    /// Forgets the frames that were being written, so that new ones can be collected.
    pub(super) fn start_outgoing(&mut self) {
        self.outgoing_len = 0;
    }

    /// Moves what waits behind the frames that are being written, as far as there is room: the pong first, then the ring in
    /// its order.
    pub(super) fn collect(&mut self, role: Role, keys: &mut MaskKeys) {
        self.collect_pong(role, keys);
        let mut frame = [0; MAX_CONTROL_FRAME];
        let mut entry = [0; MAX_FRAME_LEN];
        while self.has_room() {
            let Some(entry_len) = self.ring.pop(&mut entry) else {
                return;
            };
            let (opcode, payload) = (Opcode::from_bits(entry[0]), &entry[2..entry_len]);
            let len = encode_control(opcode, payload, keys.for_frame(role), &mut frame);
            self.add(&frame[..len]);
        }
    }

    /// Moves the pong that waits behind the frames that are being written, if there is room.
    pub(super) fn collect_pong(&mut self, role: Role, keys: &mut MaskKeys) {
        if self.has_room() {
            if let Some(pong) = self.pong.take() {
                let mut frame = [0; MAX_CONTROL_FRAME];
                let payload = &pong.payload[..pong.len];
                let len = encode_control(Opcode::Pong, payload, keys.for_frame(role), &mut frame);
                self.add(&frame[..len]);
            }
        }
    }

    /// True exactly when the largest frame still fits.
    fn has_room(&self) -> bool {
        OUTGOING_LEN - self.outgoing_len >= MAX_CONTROL_FRAME
    }

    fn add(&mut self, frame: &[u8]) {
        self.outgoing[self.outgoing_len..self.outgoing_len + frame.len()].copy_from_slice(frame);
        self.outgoing_len += frame.len();
    }

    /// The frames that are being written.
    pub(super) fn outgoing(&self) -> &[u8] {
        &self.outgoing[..self.outgoing_len]
    }

    /// Encodes the close frame; what waits is dropped, for nothing may follow it.
    pub(super) fn set_close(&mut self, payload: &ClosePayload<'_>, key: Option<[u8; 4]>) {
        self.clear();
        self.close_len = encode_close(payload, key, &mut self.close);
    }

    /// The close frame.
    pub(super) fn close(&self) -> &[u8] {
        &self.close[..self.close_len]
    }
}
