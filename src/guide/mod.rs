//! How to use the library well, one page for each question.
//!
//! | page | answers |
//! | --- | --- |
//! | [`buffers`] | how long do things live, and who copies what? |
//! | [`back_pressure`] | what happens when a peer does not read? |
//! | [`compression`] | what does it save, and what does it take? |
//! | [`embedding`] | how does the loop live inside my program? |
//! | [`sizing`] | how large should the pools be? |

#[doc = include_str!("buffers.md")]
pub mod buffers {}

#[doc = include_str!("back_pressure.md")]
pub mod back_pressure {}

#[doc = include_str!("compression.md")]
pub mod compression {}

#[doc = include_str!("embedding.md")]
pub mod embedding {}

#[doc = include_str!("sizing.md")]
pub mod sizing {}
