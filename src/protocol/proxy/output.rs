//! Bytes on their way to the proxy.

use alloc::vec::Vec;
use core::fmt;

/// One message, as far as it is not written yet.
#[derive(Default)]
pub(super) struct Output {
    bytes: Vec<u8>,
    /// At most `bytes.len()`.
    written: usize,
}

impl Output {
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, written: 0 }
    }

    /// What is still to be written; `None` when there is nothing.
    pub(super) fn pending(&self) -> Option<&[u8]> {
        self.bytes
            .get(self.written..)
            .filter(|rest| !rest.is_empty())
    }

    /// Forgets `count` bytes of what is pending; more than that are as good as all.
    pub(super) fn advance(&mut self, count: usize) {
        self.written = self.written.saturating_add(count).min(self.bytes.len());
    }
}

/// Only the length: a password may be in it.
impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} bytes", self.written, self.bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_pending_no_more() {
        let mut output = Output::new(b"abc".to_vec());
        output.advance(0);
        assert_eq!(output.pending(), Some(&b"abc"[..]));
        output.advance(2);
        assert_eq!(output.pending(), Some(&b"c"[..]));
        output.advance(usize::MAX);
        assert_eq!(output.pending(), None);
        assert_eq!(Output::default().pending(), None);
    }
}
