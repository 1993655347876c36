//! One count, written by one thread and read by whoever asks for metrics.
//!
//! Because one thread writes, adding is a load and a store and no locked instruction; because readers only want a
//! recent value, no order is asked for.

use std::sync::atomic::{AtomicU64, Ordering};

/// One count. Only the thread that owns it may change it: two writers would lose counts.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn increment(&self) {
        self.add(1);
    }

    pub fn add(&self, amount: u64) {
        self.0.store(self.get().wrapping_add(amount), Ordering::Relaxed);
    }

    /// For gauges. Never below zero.
    pub fn decrement(&self) {
        self.0.store(self.get().saturating_sub(1), Ordering::Relaxed);
    }

    /// For gauges, and for counts that are kept elsewhere.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
