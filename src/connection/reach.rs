//! How far a read reaches, and where it goes on.

use std::ops::Range;

use crate::{
    memory::{MAX_MOVED, place},
    protocol::{FrameHeader, ParsedHeader},
};

/// Bytes that one read brings at most, so that what was read first is still in the cache when it is unmasked; and a message of
/// which no more than this is missing is read to its end. Measured with messages of 1 MiB, a second read costs more than what has
/// left the cache meanwhile.
pub(super) const MAX_READ: usize = 1024 * 1024;

/// Of messages that are larger a read brings a few, however large the scratch buffer is.
const FEW: usize = 256 * 1024;

/// What the next bytes of a connection go on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Awaited {
    /// Bytes of it in all, as far as they are announced.
    pub(super) whole: usize,
    /// Bytes of these that have not come.
    pub(super) missing: usize,
}

impl Awaited {
    /// The frame that starts with these bytes. `None` when its header is not all there.
    pub(super) fn frame(start: &[u8]) -> Option<Self> {
        let Ok(ParsedHeader::Complete(header, header_len)) = FrameHeader::parse(start) else {
            return None;
        };
        let payload_len = usize::try_from(header.payload_len).ok()?;
        let whole = payload_len.checked_add(header_len)?;
        let missing = whole.saturating_sub(start.len());
        Some(Self { whole, missing })
    }
}

/// Bytes that a read is to bring at most.
///
/// Small messages come as many at a time as there are. A message of which a read brings only a few is read to its end and `ahead`
/// bytes further, which are enough for the next one's header: more of that one would lie behind it, where there is no room for
/// all of it, or be copied when it has to wait for this one's answer.
pub(super) fn limit(awaited: Option<Awaited>, scratch_size: usize, ahead: usize) -> usize {
    match awaited {
        Some(Awaited { whole, missing })
            if whole > FEW.min(scratch_size / 2) && missing <= MAX_READ =>
        {
            missing + ahead
        }
        _ => MAX_READ,
    }
}

/// Where in the scratch buffer the frame is read on that starts here, and fits: where it is, if it is too much to be moved and
/// there is room for the rest of it; otherwise where it is moved to.
pub(crate) fn goes_on_at(scratch: &[u8], start: &Range<usize>) -> usize {
    let awaited = Awaited::frame(&scratch[start.clone()]);
    // While the header is not whole at least one byte is to come, and room for it has to be there.
    let missing = awaited.map_or(1, |awaited| awaited.missing);
    let fits_at = |at: usize| missing <= scratch.len().saturating_sub(at + start.len());
    if start.len() > MAX_MOVED && fits_at(start.start) {
        return start.start;
    }
    let place = place(scratch, start.len());
    if fits_at(place) { place } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{MAX_HEADER_LEN, Opcode};

    const AHEAD: usize = 4096;
    const SCRATCH: usize = 2 * MAX_READ;

    /// The front of a frame: its header, and what is there of its payload.
    fn frame(payload_len: usize, arrived: usize) -> Vec<u8> {
        let mut header = [0; MAX_HEADER_LEN];
        let len = FrameHeader::new(Opcode::Binary, payload_len as u64).encode(&mut header);
        [&header[..len], &vec![0; arrived]].concat()
    }

    #[test]
    fn a_frame_is_awaited_from_its_whole_header_on() {
        let start = frame(70_000, 100);
        let awaited = |len: usize| Awaited::frame(&start[..len]);
        assert_eq!((awaited(0), awaited(9)), (None, None));
        for len in [10, 11, 110] {
            let (whole, missing) = (70_010, 70_010 - len);
            assert_eq!(awaited(len), Some(Awaited { whole, missing }), "{len}");
        }
        let largest = frame(usize::MAX >> 1, 3);
        assert_eq!(
            Awaited::frame(&largest).map(|awaited| awaited.missing),
            Some((usize::MAX >> 1) - 3)
        );
        // Length fields that are not minimal.
        assert_eq!(Awaited::frame(&[0x82, 126, 0, 5]), None);
    }

    #[test]
    fn small_messages_are_read_as_many_as_there_are() {
        let of = |whole, missing| limit(Some(Awaited { whole, missing }), SCRATCH, AHEAD);
        assert_eq!(limit(None, SCRATCH, AHEAD), MAX_READ);
        assert_eq!(of(20, 1), MAX_READ);
        assert_eq!(of(FEW, 1), MAX_READ);
        // Of a smaller scratch buffer a smaller message takes most.
        let whole = 70_000;
        let awaited = Some(Awaited { whole, missing: 9 });
        assert_eq!(limit(awaited, 140_000, AHEAD), MAX_READ);
        assert_eq!(limit(awaited, 139_999, AHEAD), 9 + AHEAD);
    }

    #[test]
    fn a_large_message_is_read_to_its_end_and_little_further() {
        let of = |whole, missing| limit(Some(Awaited { whole, missing }), SCRATCH, AHEAD);
        assert_eq!(of(FEW + 1, 1), 1 + AHEAD);
        assert_eq!(of(4 * MAX_READ, MAX_READ), MAX_READ + AHEAD);
        assert_eq!(of(4 * MAX_READ, MAX_READ + 1), MAX_READ);
        assert_eq!(of(usize::MAX, usize::MAX), MAX_READ);
    }

    #[test]
    fn a_long_start_goes_on_where_it_is_if_the_rest_fits_behind_it() {
        let start = frame(100_000, 50_000);
        let behind = start.len() + 50_000;
        for (at, spare, expected) in [(0, 0, 0), (7, 0, 7), (7, 100, 7), (7, -1, 0)] {
            let mut scratch = vec![0; (at + behind).strict_add_signed(spare)];
            let range = at..at + start.len();
            scratch[range.clone()].copy_from_slice(&start);
            assert_eq!(goes_on_at(&scratch, &range), expected, "{at} {spare}");
        }
    }

    #[test]
    fn a_short_start_goes_on_at_its_place() {
        let start = frame(100_000, MAX_MOVED);
        let mut scratch = vec![0; SCRATCH];
        let place = place(&scratch, 1);
        for at in [0, place, place + 7] {
            scratch[at..at + start.len()].copy_from_slice(&start);
            assert_eq!(goes_on_at(&scratch, &(at..at + 1)), place);
            assert_eq!(goes_on_at(&scratch, &(at..at + MAX_MOVED)), place);
            assert_eq!(goes_on_at(&scratch, &(at..at + MAX_MOVED + 1)), at);
        }
    }

    #[test]
    fn there_is_room_behind_what_is_not_understood() {
        let mut scratch = vec![0; 2 * MAX_MOVED];
        scratch[2..].fill(0xFF);
        assert_eq!(goes_on_at(&scratch, &(2..2 * MAX_MOVED)), 0);
    }

    #[test]
    fn a_frame_that_needs_all_the_room_goes_on_at_the_front() {
        let start = frame(100_000, 1000);
        let whole = start.len() - 1000 + 100_000;
        let mut scratch = vec![0; whole + 5000];
        let place = place(&scratch, start.len());
        for (len, expected) in [(whole + place, place), (whole, 0)] {
            let scratch = &mut scratch[..len];
            scratch[50_000..50_000 + start.len()].copy_from_slice(&start);
            let range = 50_000..50_000 + start.len();
            assert_eq!(goes_on_at(scratch, &range), expected, "{len}");
        }
    }
}
