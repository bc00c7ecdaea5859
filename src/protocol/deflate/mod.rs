//! permessage-deflate (RFC 7692): what two ends agree on, and how messages become shorter.
//!
//! | to fix | look in |
//! | --- | --- |
//! | what is agreed on, and how it is written | `params` |
//! | which offers are accepted, which answers are refused | `negotiate` |
//! | compressing a message | `compressor` |
//! | inflating a message | `decompressor` |

#[cfg(not(feature = "deflate"))]
mod absent;
#[cfg(feature = "deflate")]
mod compressor;
#[cfg(feature = "deflate")]
mod decompressor;
mod negotiate;
#[cfg(test)]
mod negotiate_tests;
mod params;
#[cfg(all(test, feature = "deflate"))]
mod tests;

#[cfg(not(feature = "deflate"))]
pub(crate) use absent::{Compressor, Decompressor};
#[cfg(feature = "deflate")]
pub use compressor::{Compressor, CompressorError};
#[cfg(feature = "deflate")]
pub use decompressor::Decompressor;
pub use negotiate::{ExtensionError, accept_deflate, check_deflate_answer};
pub use params::{DeflateDirection, DeflateParams, DeflatePolicy};

/// How far a message is inflated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Inflating {
    /// Bytes of the message that are used up.
    #[cfg_attr(not(feature = "deflate"), allow(dead_code))]
    consumed: usize,
    written: usize,
    /// A byte that did not fit.
    #[cfg_attr(not(feature = "deflate"), allow(dead_code))]
    spare: Option<u8>,
}

impl Inflating {
    /// Bytes of the message so far.
    #[must_use]
    pub fn written(&self) -> usize {
        self.written
    }
}

/// How a step of inflating ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InflateStep {
    /// The message is complete.
    Done,
    /// The room is full, and at least one more byte is to come.
    Full,
}
