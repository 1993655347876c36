//! How many interim (1xx) responses a server may send before its answer. Some work for hours and say so every few seconds
//! (102, RFC 2518 §10.1), so their number says nothing; a server that sends nothing else is not answering.

use std::time::Instant;

/// So many may come at once.
const AT_ONCE: f64 = 128.0;

/// And so many a second over time.
const PER_SECOND: f64 = 16.0;

/// What is left of the allowance.
#[derive(Debug)]
pub struct InterimRate {
    left: f64,
    at: Instant,
}

impl InterimRate {
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { left: AT_ONCE, at: now }
    }

    /// Whether one that comes `now` may pass.
    pub fn take(&mut self, now: Instant) -> bool {
        let earned = now.saturating_duration_since(self.at).as_secs_f64() * PER_SECOND;
        self.at = now;
        self.left = (self.left + earned).min(AT_ONCE) - 1.0;
        self.left >= 0.0
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn their_rate_counts_and_not_their_number() {
        let start = Instant::now();
        let mut steady = InterimRate::new(start);
        assert!((0..10_000).all(|at| steady.take(start + Duration::from_millis(100) * at)));
        let mut burst = InterimRate::new(start);
        assert_eq!((0..1000).take_while(|_| burst.take(start)).count(), 128);
        // An hour of silence earns no more than that.
        let later = start + Duration::from_secs(3600);
        let mut rested = InterimRate::new(start);
        assert_eq!((0..1000).take_while(|_| rested.take(later)).count(), 128);
    }
}
