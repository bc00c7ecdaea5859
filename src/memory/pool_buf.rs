use std::{
    fmt,
    ops::{Deref, DerefMut, Range},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use super::Buffer;

/// Where buffers wait that the application dropped, on whichever thread that was.
#[derive(Default)]
pub(super) struct Home {
    buffers: Mutex<Vec<Buffer>>,
    /// True exactly when a buffer may be waiting; spares the lock when none is.
    occupied: AtomicBool,
}

impl Home {
    fn bring(&self, buffer: Buffer) {
        self.buffers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(buffer);
        self.occupied.store(true, Ordering::Release);
    }

    pub(super) fn take(&self) -> Option<Buffer> {
        if !self.occupied.load(Ordering::Acquire) {
            return None;
        }
        let mut buffers = self.buffers.lock().unwrap_or_else(PoisonError::into_inner);
        let buffer = buffers.pop();
        self.occupied.store(!buffers.is_empty(), Ordering::Release);
        buffer
    }
}

/// A buffer of the loop's pool in the application's hands. It counts against the pool's bounds until it is dropped, and
/// goes back to the pool then, from any thread.
pub struct PoolBuf {
    buffer: Buffer,
    /// `start + len <= buffer.len()`
    start: usize,
    len: usize,
    home: Arc<Home>,
}

impl PoolBuf {
    /// A part of a leased buffer.
    pub(super) fn new(buffer: Buffer, contents: Range<usize>, home: &Arc<Home>) -> Self {
        Self {
            buffer,
            start: contents.start,
            len: contents.len(),
            home: Arc::clone(home),
        }
    }

    /// Makes the contents shorter; does nothing when they are not longer than `len` bytes.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// The buffer itself, for whoever gives it back to the pool directly.
    pub(crate) fn into_buffer(mut self) -> Buffer {
        std::mem::take(&mut self.buffer)
    }
}

impl Drop for PoolBuf {
    fn drop(&mut self) {
        // An empty buffer was never leased, or was given back already.
        if !self.buffer.is_empty() {
            self.home.bring(std::mem::take(&mut self.buffer));
        }
    }
}

impl Deref for PoolBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.buffer[self.start..self.start + self.len]
    }
}

impl DerefMut for PoolBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.buffer[self.start..self.start + self.len]
    }
}

impl AsRef<[u8]> for PoolBuf {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for PoolBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PoolBuf({} of {} bytes)", self.len, self.buffer.len())
    }
}
