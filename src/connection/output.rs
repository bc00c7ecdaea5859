use std::{
    io::{self, IoSlice, Write},
    ops::Range,
};

/// Where a connection's bytes go, and the input that lies still while it is being worked off: what is sent from there is
/// written from there.
pub(crate) struct Output<'a, W> {
    stream: &'a mut W,
    settled: &'a [u8],
    message: Option<usize>,
}

impl<'a, W> Output<'a, W> {
    pub(crate) fn new(stream: &'a mut W, settled: &'a [u8]) -> Self {
        Self {
            stream,
            settled,
            message: None,
        }
    }

    /// The payload of the message at hand begins here in the settled input, behind its header, which nobody needs any more.
    #[inline]
    pub(crate) fn with_message(self, start: Option<usize>) -> Self {
        Self {
            message: start,
            ..self
        }
    }

    pub(super) fn message(&self) -> Option<usize> {
        self.message
    }

    /// The input that lies still.
    pub(super) fn settled(&self) -> &'a [u8] {
        self.settled
    }

    /// Where `bytes` lie in the settled input; `None` when they lie elsewhere.
    #[inline]
    pub(super) fn position(&self, bytes: &[u8]) -> Option<Range<usize>> {
        let start = bytes
            .as_ptr()
            .addr()
            .checked_sub(self.settled.as_ptr().addr())?;
        let end = start.checked_add(bytes.len())?;
        (end <= self.settled.len()).then_some(start..end)
    }
}

impl<W: Write> Write for Output<'_, W> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(bytes)
    }

    #[inline]
    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match slices {
            // The kernel has a shorter way for it.
            [one] => self.stream.write(one),
            _ => self.stream.write_vectored(slices),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_is_found_exactly_where_it_lies() {
        let input: Vec<u8> = vec![0; 64];
        let (settled, rest) = input.split_at(40);
        let mut sink = io::sink();
        let output = Output::new(&mut sink, settled);
        for start in 0..=40 {
            for end in start..=40 {
                assert_eq!(output.position(&input[start..end]), Some(start..end));
            }
        }
        assert_eq!(output.position(&input[39..41]), None);
        assert_eq!(output.position(&rest[1..]), None);
        assert_eq!(output.position(&[0; 8]), None);
    }
}
