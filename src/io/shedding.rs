//! What other threads may know of a worker that has stopped accepting: how often, and whether it rests now.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Written by the engine's thread alone.
#[derive(Debug, Default)]
pub struct Shedding {
    pauses: AtomicU64,
    resting: AtomicBool,
}

impl Shedding {
    pub(super) fn begin(&self) {
        self.pauses.store(self.pauses() + 1, Ordering::Relaxed);
        self.resting.store(true, Ordering::Relaxed);
    }

    pub(super) fn end(&self) {
        self.resting.store(false, Ordering::Relaxed);
    }

    /// Times that accepting stopped for want of descriptors, connections or memory.
    pub fn pauses(&self) -> u64 {
        self.pauses.load(Ordering::Relaxed)
    }

    /// Are connections left in the backlog now?
    pub fn is_resting(&self) -> bool {
        self.resting.load(Ordering::Relaxed)
    }
}
