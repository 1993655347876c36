//! Numbers that are as good as any other: for shares of requests, not for secrets.

use std::cell::Cell;

/// A worker's source of numbers (xorshift64).
pub struct Random(Cell<u64>);

impl Random {
    #[must_use]
    pub fn new(seed: u64) -> Self {
        // Never zero, from which xorshift does not come away.
        Self(Cell::new(seed | 1))
    }

    /// The next number, of 53 bits.
    pub fn draw(&self) -> u64 {
        let mut state = self.0.get();
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        self.0.set(state);
        state >> 11
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_come_out_as_asked_whatever_the_seed() {
        for seed in [0, 1, u64::MAX] {
            let random = Random::new(seed);
            let hits = (0..10_000).filter(|_| random.draw() % 100 < 30).count();
            assert!((2800..3200).contains(&hits), "{hits} of 10000 at 30 %, seed {seed}");
        }
    }
}
