//! How much of a cluster's `connectionPool` is in use, by all workers together.
//!
//! Counts that workers change in common, without a lock, and only where a limit is set. They belong to
//! the cluster's name, not to a table, so that a reload forgets no open connection.

use std::sync::atomic::{AtomicU32, Ordering};

/// The counts of one cluster.
#[derive(Debug, Default)]
pub struct Occupancy {
    /// Open connections, those that wait in a pool included.
    pub connections: Gauge,
    /// Requests without a connection yet.
    pub pending: Gauge,
    /// Requests under way.
    pub requests: Gauge,
    /// Of these, those that are being tried again.
    pub retries: Gauge,
}

/// A count with a limit that is given when it matters.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU32);

impl Gauge {
    /// Counts one more unless there are `limit` already.
    pub fn try_enter(&self, limit: u32) -> bool {
        let more = |now: u32| (now < limit).then_some(now + 1);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    /// Counts one more, whatever the limit.
    pub fn enter(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes back what [`enter`](Self::enter) or a successful [`try_enter`](Self::try_enter) counted.
    pub fn leave(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    #[must_use]
    pub fn now(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gauge_stops_at_its_limit() {
        let gauge = Gauge::default();
        assert!(gauge.try_enter(2) && gauge.try_enter(2) && !gauge.try_enter(2));
        gauge.enter();
        assert_eq!(gauge.now(), 3);
        gauge.leave();
        assert!(!gauge.try_enter(2));
        gauge.leave();
        assert!(gauge.try_enter(2));
    }
}
