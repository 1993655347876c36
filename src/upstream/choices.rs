//! What servers chose that were offered HTTP/2 and HTTP/1.1: who chose HTTP/1.1 is asked for a connection of each request's
//! own, and nobody waits there for one that could be shared.
//!
//! It is a memory, not a rule: what the next handshake says holds.

use std::collections::HashSet;

use foldhash::fast::RandomState;

use super::pool::PoolKey;
use crate::tls::AlpnProtocol;

/// Most servers that are remembered; beyond, all are forgotten. One that is forgotten costs a wait for a handshake.
const MOST: usize = 1024;

/// One worker's memory.
#[derive(Default)]
pub(super) struct Choices {
    http1: HashSet<PoolKey, RandomState>,
}

impl Choices {
    pub(super) fn note(&mut self, key: PoolKey, chosen: AlpnProtocol) {
        match chosen {
            AlpnProtocol::Http2 => {
                self.http1.remove(&key);
            }
            AlpnProtocol::Http1 => {
                if self.http1.len() >= MOST && !self.http1.contains(&key) {
                    self.http1.clear();
                }
                self.http1.insert(key);
            }
        }
    }

    pub(super) fn is_http1(&self, key: &PoolKey) -> bool {
        !self.http1.is_empty() && self.http1.contains(key)
    }

    pub(super) fn clear(&mut self) {
        self.http1.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::super::target::{Security, Target};
    use super::*;
    use crate::flow::OriginalDst;

    fn key(port: u16) -> PoolKey {
        let address = SocketAddr::from(([192, 0, 2, 1], port));
        let target = Target::Passthrough(OriginalDst::new(address));
        PoolKey::new(address, &Security::Plaintext, &target, AlpnProtocol::Http2)
    }

    #[test]
    fn the_latest_choice_holds_and_the_memory_is_bounded() {
        let mut choices = Choices::default();
        choices.note(key(1), AlpnProtocol::Http1);
        assert!(choices.is_http1(&key(1)) && !choices.is_http1(&key(2)));
        choices.note(key(1), AlpnProtocol::Http2);
        assert!(!choices.is_http1(&key(1)));
        for port in 0..3000 {
            choices.note(key(port), AlpnProtocol::Http1);
            assert!(choices.is_http1(&key(port)) && choices.http1.len() <= MOST);
        }
    }
}
