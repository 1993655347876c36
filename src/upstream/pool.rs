//! Warm connections, kept per worker and handed out last in, first out.
//!
//! A connection is found again only under its whole identity: the address, and for TLS the server name and the digest
//! of everything that it was verified with and against. A new trust, revocation list, name rule or client identity has
//! another digest, so no request can travel over a connection made under older rules.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;

use super::stream::{Idle, Stream};
use super::target::Security;

/// Most idle connections kept under one key and worker; the oldest goes first.
const MAX_IDLE_PER_KEY: usize = 512;

/// The identity of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PoolKey {
    address: SocketAddr,
    tls: Option<([u8; 32], ServerName<'static>)>,
}

impl PoolKey {
    #[must_use]
    pub fn new(address: SocketAddr, security: &Security) -> Self {
        let tls = match security {
            Security::Plaintext => None,
            Security::Tls { profile, name } => Some((profile.digest(), name.clone())),
        };
        Self { address, tls }
    }

    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// A connection between two requests.
pub struct Warm {
    pub stream: Stream,
    /// Requests that it has carried.
    pub requests: u32,
}

struct Entry {
    warm: Warm,
    expires: Instant,
}

/// One worker's idle connections.
#[derive(Default)]
pub struct Pool {
    idle: HashMap<PoolKey, Vec<Entry>>,
    total: usize,
}

impl Pool {
    /// The connection used last under `key` that is still open and silent.
    pub fn take(&mut self, key: &PoolKey, now: Instant) -> Option<Warm> {
        let entries = self.idle.get_mut(key)?;
        while let Some(entry) = entries.pop() {
            self.total -= 1;
            if entry.expires > now && entry.warm.stream.idle_state() == Idle::Usable {
                return Some(entry.warm);
            }
            entry.warm.stream.close();
        }
        None
    }

    /// Keeps a connection for the next request, for at most `idle_timeout`.
    pub fn put(&mut self, key: PoolKey, warm: Warm, now: Instant, idle_timeout: Duration) {
        let entries = self.idle.entry(key).or_default();
        if entries.len() >= MAX_IDLE_PER_KEY {
            entries.remove(0).warm.stream.close();
            self.total -= 1;
        }
        entries.push(Entry { warm, expires: now + idle_timeout });
        self.total += 1;
    }

    /// Lets go of what the servers closed and of what is too old.
    pub fn sweep(&mut self, now: Instant) {
        self.retain(|entry| entry.expires > now && entry.warm.stream.idle_state() == Idle::Usable);
    }

    /// Lets go of connections that were verified under a profile which no policy uses any more.
    pub fn retain_profiles(&mut self, current: &HashSet<[u8; 32]>) {
        let stale = |key: &PoolKey| key.tls.as_ref().is_some_and(|(digest, _)| !current.contains(digest));
        for (_, entries) in self.idle.extract_if(|key, _| stale(key)) {
            self.total -= entries.len();
            close_all(entries);
        }
    }

    fn retain(&mut self, mut keep: impl FnMut(&Entry) -> bool) {
        let mut total = 0;
        self.idle.retain(|_, entries| {
            let (kept, spent) = std::mem::take(entries).into_iter().partition(&mut keep);
            *entries = kept;
            close_all(spent);
            total += entries.len();
            !entries.is_empty()
        });
        self.total = total;
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.total
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.total == 0
    }
}

fn close_all(entries: Vec<Entry>) {
    for entry in entries {
        entry.warm.stream.close();
    }
}
