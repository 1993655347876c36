//! Idle connections, kept per worker and handed out last in, first out.
//!
//! A connection is found again only under its whole identity: the address, the cluster, and for TLS the server name and
//! the digest of everything that it was verified with and against. A new trust, revocation list, name rule or client
//! identity has another digest, so no request can travel over a connection made under older rules.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;

use super::admission::Share;
use super::shared::SharedConnection;
use super::stream::{IdleState, Stream};
use super::target::{ConnectionPrelude, Security, Target};
use crate::flow::Host;
use crate::policy::PoolLimits;
use crate::tls::{Alpn, AlpnProtocol};

/// Most idle connections kept under one key and worker; the oldest goes first.
const MAX_IDLE_PER_KEY: usize = 512;

/// Servers close what has been idle for long, at a time that nobody else knows. Below this age it is very unlikely, and
/// the few servers with a shorter limit announce it (`Keep-Alive: timeout=1`).
const RECENT: Duration = Duration::from_secs(1);

/// How long a server that closed a connection within [`RECENT`], unannounced, gets what cannot be sent twice over new
/// connections only: it will do so again.
const WARY: Duration = Duration::from_secs(60);

/// Servers that are remembered for it.
const MAX_WARY: usize = 1024;

/// Whether a request may travel over a connection that carried another before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    Allowed,
    /// Only over one that was used a moment ago: for requests that cannot be sent again when the server has closed the
    /// connection meanwhile.
    Recent,
    Never,
}

/// The identity of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PoolKey {
    address: SocketAddr,
    /// What is spoken on it.
    protocol: AlpnProtocol,
    /// The profile, what is offered in its handshake, and the name.
    tls: Option<([u8; 32], Alpn, Host)>,
    prelude: Option<Box<ConnectionPrelude>>,
    /// The cluster, as in Envoy: its rules hold for its connections (keep-alive, idle time, requests a connection), and its
    /// limits count them. Another cluster of the same address would take what they do not know.
    of: Option<Belonging>,
}

impl PoolKey {
    #[must_use]
    pub fn new(address: SocketAddr, security: &Security<'_>, target: &Target<'_>, protocol: AlpnProtocol) -> Self {
        let tls = match security {
            Security::Plaintext => None,
            Security::Tls { profile, name, alpn } => Some((profile.digest(), *alpn, (*name).clone())),
        };
        Self { address, protocol, tls, prelude: target.prelude(), of: Belonging::of(target) }
    }

    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether both are the same for one that speaks HTTP/1 on the connection, whatever was offered beside it.
    pub(super) fn is_same_in_http1(&self, other: &Self) -> bool {
        let identity = |key: &Self| key.tls.as_ref().map(|(digest, _, name)| (*digest, name.clone()));
        let is_http1 = |key: &Self| key.protocol == AlpnProtocol::Http1;
        is_http1(self)
            && is_http1(other)
            && self.address == other.address
            && self.of == other.of
            && self.prelude == other.prelude
            && identity(self) == identity(other)
    }
}

/// Whose a connection is: a cluster, told from others by where its counts are, which outlive reloads; and whether it is
/// counted there. A connection that is counted holds its counts, so that their place is nobody else's as long as there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Belonging {
    cluster: usize,
    is_counted: bool,
}

impl Belonging {
    fn of(target: &Target<'_>) -> Option<Self> {
        let cluster = target.cluster()?;
        Some(Self { cluster: Arc::as_ptr(&cluster.occupancy).addr(), is_counted: target.limited().is_some() })
    }
}

/// A connection between two requests.
pub struct Idle {
    /// What it is found by. Here too, so that whoever has the connection can give it back.
    pub key: PoolKey,
    pub stream: Stream,
    /// This end's address, asked for once: every request's log line names it.
    pub local: Option<SocketAddr>,
    /// Requests that it has carried.
    pub requests: u32,
    /// When it was made.
    pub since: Instant,
    /// How long it had been idle when it was taken.
    pub rested: Duration,
}

impl Idle {
    /// One that is new.
    pub(super) fn new(key: PoolKey, stream: Stream) -> Box<Self> {
        let local = stream.socket().local_addr().ok();
        Box::new(Self { key, stream, local, requests: 0, since: crate::io::now(), rested: Duration::ZERO })
    }
}

struct Entry {
    connection: Box<Idle>,
    idle_since: Instant,
    expires: Instant,
}

/// One worker's idle connections.
#[derive(Default)]
pub struct Pool {
    idle: HashMap<PoolKey, Vec<Entry>, RandomState>,
    total: usize,
    /// Connections of HTTP/2, which serve many requests at once, also while they do.
    shared: HashMap<PoolKey, Vec<Rc<SharedConnection>>, RandomState>,
    /// Until when to be wary of servers that close soon.
    wary: HashMap<PoolKey, Instant>,
}

impl Pool {
    /// The connection used last under `key` that is still open and silent; idle for less than [`RECENT`] if `reuse` asks
    /// for that.
    pub fn take(&mut self, key: &PoolKey, now: Instant, reuse: Reuse) -> Option<Box<Idle>> {
        let is_wary = || self.wary.get(key).is_some_and(|until| now < *until);
        let (oldest, look): (_, fn(&Stream) -> IdleState) = match reuse {
            Reuse::Allowed => (None, Stream::idle_state),
            Reuse::Recent => (Some(if is_wary() { Duration::ZERO } else { RECENT }), Stream::idle_state_now),
            Reuse::Never => return None,
        };
        let entries = self.idle.get_mut(key)?;
        let mut found = None;
        while let Some(mut entry) = entries.pop_if(|entry| oldest.is_none_or(|age| now < entry.idle_since + age)) {
            self.total -= 1;
            let rested = now.saturating_duration_since(entry.idle_since);
            if entry.expires > now {
                if look(&entry.connection.stream) == IdleState::Usable {
                    entry.connection.rested = rested;
                    found = Some(entry.connection);
                    break;
                }
                be_wary(&mut self.wary, key, rested, now);
            }
            entry.connection.stream.close();
        }
        if found.is_none() {
            self.drop_oldest(key);
        }
        found
    }

    /// The server closed a connection under `key` that had been idle for `rested`, before it answered.
    pub fn note_closed(&mut self, key: &PoolKey, rested: Duration, now: Instant) {
        be_wary(&mut self.wary, key, rested, now);
    }

    /// Makes room for the connection that is opened although there are idle ones: with each pause of a client that sends
    /// bodies there would be more of them.
    fn drop_oldest(&mut self, key: &PoolKey) {
        if let Some(entries) = self.idle.get_mut(key).filter(|entries| !entries.is_empty()) {
            entries.remove(0).connection.stream.close();
            self.total -= 1;
        }
    }

    /// Keeps a connection for the next request, until `expires` at the latest.
    pub fn put(&mut self, connection: Box<Idle>, now: Instant, expires: Instant) {
        let entries = match self.idle.get_mut(&connection.key) {
            Some(entries) => entries,
            None => self.idle.entry(connection.key.clone()).or_default(),
        };
        if entries.len() >= MAX_IDLE_PER_KEY {
            entries.remove(0).connection.stream.close();
            self.total -= 1;
        }
        entries.push(Entry { connection, idle_since: now, expires });
        self.total += 1;
    }

    /// Keeps a connection that serves many requests at once.
    pub(super) fn put_shared(&mut self, key: PoolKey, connection: Rc<SharedConnection>) {
        self.shared.entry(key).or_default().push(connection);
    }

    /// The oldest connection under `key` that can take one more stream.
    pub(super) fn share(
        &mut self,
        key: &PoolKey,
        limits: Option<&PoolLimits>,
        now: Instant,
    ) -> Option<Rc<SharedConnection>> {
        let connections = self.shared.get_mut(key)?;
        // What is let go of here drains: it ends with its last stream.
        connections.retain(|connection| connection.is_open(limits, now));
        let found = connections.iter().find(|connection| connection.has_room(limits, now)).map(Rc::clone);
        if let Some(last) = found.as_ref().filter(|connection| connection.requests_left(limits) == 1) {
            connections.retain(|connection| !Rc::ptr_eq(connection, last));
        }
        if connections.is_empty() {
            self.shared.remove(key);
        }
        found
    }

    /// A connection under `key` whose server has not said yet how many streams it takes, and is still expected to.
    pub(super) fn settling(&self, key: &PoolKey, now: Instant) -> Option<Rc<SharedConnection>> {
        let mut connections = self.shared.get(key)?.iter();
        connections.find(|connection| connection.is_settling(now) && !connection.is_over(now)).map(Rc::clone)
    }

    /// Lets go of the connection that has been idle longest of those that count for `share`; false when there is none that
    /// ends at once.
    pub(super) fn evict(&mut self, share: &Rc<Share>) -> bool {
        let counts = |entry: &Entry| entry.connection.stream.share().is_some_and(|of| Rc::ptr_eq(of, share));
        let first = |entries: &Vec<Entry>| entries.iter().position(counts).map(|at| (at, entries[at].idle_since));
        let candidates = self.idle.values_mut().filter_map(|entries| first(entries).map(|found| (entries, found)));
        let Some((entries, (at, _))) = candidates.min_by_key(|(_, (_, idle_since))| *idle_since) else {
            self.evict_shared(share);
            return false;
        };
        entries.remove(at).connection.stream.close();
        self.total -= 1;
        true
    }

    /// The same of those that serve many: it ends as soon as its goodbye is said, and releases its place then.
    fn evict_shared(&mut self, share: &Rc<Share>) {
        let idle = |connection: &Rc<SharedConnection>| connection.idle_for(share);
        let oldest = self.shared.values().flatten().filter_map(idle).min();
        let Some(oldest) = oldest else { return };
        for connections in self.shared.values_mut() {
            if let Some(at) = connections.iter().position(|connection| idle(connection) == Some(oldest)) {
                connections.remove(at);
                return;
            }
        }
    }

    /// Lets go of what the servers closed and of what is too old.
    pub fn sweep(&mut self, now: Instant) {
        self.wary.retain(|_, until| now < *until);
        self.shared.retain(|_, connections| {
            connections.retain(|connection| !connection.is_over(now) && !connection.is_expired(now));
            !connections.is_empty()
        });
        self.retain(|entry| {
            if entry.idle_since + RECENT <= now {
                entry.connection.stream.relax();
            }
            entry.expires > now && entry.connection.stream.idle_state() == IdleState::Usable
        });
    }

    /// Lets go of connections that were verified under a profile which no policy uses any more.
    pub fn retain_profiles(&mut self, current: &HashSet<[u8; 32]>) {
        let stale = |key: &PoolKey| key.tls.as_ref().is_some_and(|(digest, ..)| !current.contains(digest));
        // Streams that are open end on the connection they began on.
        self.shared.retain(|key, _| !stale(key));
        self.wary.retain(|key, _| !stale(key));
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
        self.total == 0 && self.shared.is_empty()
    }
}

fn be_wary(wary: &mut HashMap<PoolKey, Instant>, key: &PoolKey, rested: Duration, now: Instant) {
    if rested >= RECENT {
        return;
    }
    if wary.len() >= MAX_WARY {
        wary.clear();
    }
    wary.insert(key.clone(), now + WARY);
}

fn close_all(entries: Vec<Entry>) {
    for entry in entries {
        entry.connection.stream.close();
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;
    use crate::io::{self, ConnectOptions, Engine, EngineKind, EngineOptions, Socket};

    const PROFILE: [u8; 32] = [7; 32];

    fn run<T>(main: impl Future<Output = T>) -> T {
        Engine::new(EngineOptions { kind: EngineKind::Epoll, ..EngineOptions::default() }).unwrap().run(main)
    }

    fn key(profile: Option<[u8; 32]>) -> PoolKey {
        let name = || Host::Ip(Ipv4Addr::LOCALHOST.into());
        let address = SocketAddr::from(([192, 0, 2, 1], 443));
        let tls = profile.map(|digest| (digest, Alpn::HTTP1, name()));
        PoolKey { address, protocol: AlpnProtocol::Http1, tls, prelude: None, of: None }
    }

    async fn idle(key: PoolKey, listener: &TcpListener) -> Box<Idle> {
        let socket = Socket::connect(listener.local_addr().unwrap(), &ConnectOptions::default()).await.unwrap();
        let stream = Stream::plaintext(socket);
        Idle::new(key, stream)
    }

    #[test]
    fn what_is_past_its_time_is_not_lent_though_no_sweep_came() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        run(async {
            let (mut pool, now) = (Pool::default(), io::now());
            for (seconds, is_lent) in [(59, true), (60, false), (61, false)] {
                pool.put(idle(key(None), &listener).await, now, now + Duration::from_secs(60));
                let taken = pool.take(&key(None), now + Duration::from_secs(seconds), Reuse::Allowed);
                assert_eq!((taken.is_some(), pool.len()), (is_lent, 0), "after {seconds} s");
            }
        });
    }

    #[test]
    fn connections_of_a_profile_that_is_no_more_are_dropped() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        run(async {
            let (mut pool, now) = (Pool::default(), io::now());
            let kinds = [None, Some(PROFILE), Some([8; 32])];
            for profile in kinds {
                pool.put(idle(key(profile), &listener).await, now, now + Duration::from_secs(60));
            }
            pool.retain_profiles(&HashSet::from([PROFILE]));
            assert_eq!(pool.len(), 2);
            let left = kinds.map(|profile| pool.take(&key(profile), now, Reuse::Allowed).is_some());
            assert_eq!(left, [true, true, false]);
        });
    }

    #[test]
    fn a_connection_of_one_cluster_is_not_found_by_others() {
        let of = |cluster, is_counted| Belonging { cluster, is_counted };
        let (one, other, uncounted) = (of(1, true), of(2, true), of(1, false));
        for (near, far) in
            [(Some(one), Some(other)), (Some(one), Some(uncounted)), (Some(one), None), (None, Some(other))]
        {
            assert_ne!(PoolKey { of: near, ..key(None) }, PoolKey { of: far, ..key(None) });
        }
    }
}
