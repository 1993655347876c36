//! Addresses that let a connection wait in vain, so that the next one begins elsewhere.
//!
//! One worker's memory. It counts only against addresses of names that have others: to whom else should one go? An address
//! that refuses is not remembered; it costs no time.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;

/// Within it a route or a server may come back; RFC 8305 §8 has ten minutes for what a client remembers.
const MEMORY: Duration = Duration::from_secs(300);
/// Addresses remembered. What would be more is forgotten, and costs a head start again.
const MOST: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct Unanswered {
    until: HashMap<SocketAddr, Instant, RandomState>,
}

impl Unanswered {
    pub(super) fn note(&mut self, address: SocketAddr, now: Instant) {
        if self.until.len() >= MOST {
            self.until.retain(|_, until| now < *until);
        }
        if self.until.len() < MOST || self.until.contains_key(&address) {
            self.until.insert(address, now + MEMORY);
        }
    }

    /// It has answered.
    pub(super) fn forget(&mut self, address: SocketAddr) {
        if !self.until.is_empty() {
            self.until.remove(&address);
        }
    }

    pub(super) fn holds(&self, address: SocketAddr, now: Instant) -> bool {
        !self.until.is_empty() && self.until.get(&address).is_some_and(|until| now < *until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_forgets_and_has_a_bound() {
        let (mut unanswered, begun) = (Unanswered::default(), Instant::now());
        let address = |n: u16| SocketAddr::from(([192, 0, 2, 1], n));
        for port in 0..2000 {
            unanswered.note(address(port), begun);
        }
        assert_eq!(unanswered.until.len(), MOST);
        assert!(unanswered.holds(address(0), begun) && !unanswered.holds(address(1999), begun));
        unanswered.forget(address(0));
        assert!(!unanswered.holds(address(0), begun));
        unanswered.note(address(0), begun);
        let later = begun + MEMORY;
        assert!(!unanswered.holds(address(1), later));
        unanswered.note(address(1999), later);
        assert_eq!(unanswered.until.len(), 1, "what is over makes room");
    }
}
