//! Floor 1: what the loop's memory is made of. Everything here is bounded, reused, and knows nothing of connections.
//!
//! | to fix | look in |
//! | --- | --- |
//! | buffers: classes, bounds, preheating | `buffers` |
//! | where in the scratch buffer reading begins | `placing` |
//! | buffers that the application holds | `pool_buf` |
//! | generation-checked slots | `slots` |
//! | waiting control frames | `control_ring` |
//! | deadlines | `timers` |
//! | boxes that are used again | `recycler` |

mod buffers;
mod control_ring;
mod placing;
mod pool_buf;
mod recycler;
mod slots;
mod timers;

pub use buffers::Occupancy;
pub(crate) use buffers::{Buffer, BufferPool, MAX_MOVED};
pub(crate) use control_ring::{CAPACITY as CONTROL_RING_LEN, ControlRing, MAX_FRAME_LEN};
pub(crate) use placing::{front, place};
pub use pool_buf::PoolBuf;
pub(crate) use recycler::Recycler;
pub(crate) use slots::{Key, Slots};
pub(crate) use timers::{TimerId, Timers};
