//! Without the feature `deflate`: the same shapes, of which none is ever used, for nothing is ever agreed on.

use super::{InflateStep, Inflating};
use crate::protocol::ProtocolError;

#[derive(Debug)]
pub(crate) struct Compressor;

#[derive(Debug, Default)]
pub(crate) struct Decompressor;

#[derive(Debug)]
pub(crate) struct Absent;

impl Compressor {
    pub(crate) fn new(_level: u8, _window_bits: u8, _memory_level: u8) -> Result<Self, Absent> {
        Err(Absent)
    }

    pub(crate) fn window_bits(&self) -> u8 {
        0
    }

    pub(crate) const fn room_for(len: usize) -> usize {
        len
    }

    pub(crate) fn compress<'a>(
        &mut self,
        _message: impl IntoIterator<Item = &'a [u8], IntoIter: Clone>,
        _out: &mut [u8],
        _keep_context: bool,
    ) -> Option<usize> {
        None
    }

    pub(crate) fn reset(&mut self) {}
}

impl Decompressor {
    pub(crate) fn new() -> Self {
        Self
    }

    pub(crate) fn decompress(
        &mut self,
        _message: &[u8],
        _progress: &mut Inflating,
        _out: &mut [u8],
    ) -> Result<InflateStep, ProtocolError> {
        Err(ProtocolError::ReservedBits)
    }

    pub(crate) fn reset(&mut self) {}
}
