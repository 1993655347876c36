//! Connections to the outside: which endpoint, over which security, new or warm.
//!
//! One [`Upstreams`] a worker; nothing here is shared between threads. It knows addresses and TLS, and of HTTP only how to
//! ask a forward proxy for a tunnel: whether a connection may be used again is for the caller to say.

mod admission;
mod balance;
mod budget;
mod connect;
mod hash_table;
mod outliers;
mod pool;
mod proxy_protocol;
mod stream;
mod target;
mod tunnel;

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use budget::{Counted, Retry, begin, retry};
pub use connect::{Clocks, ConnectError, Patience, keepalive};
pub use hash_table::hash;
pub use outliers::note;
pub use pool::{Pool, PoolKey, Warm};
pub use stream::{Idle, Stream, StreamError};
pub use target::{Security, Target};

use admission::{Admission, Pending, Share, Slot};
use balance::{Balancer, Endpoints, Order};
use connect::Deadline;
use tunnel::TunnelError;

use crate::io::{self, Socket};
use crate::policy::{Outcome, POOLED_IDLE, PoolLimits};
use crate::tls::ClientProfile;

/// A connection in use by one request, with what is needed to keep it afterwards.
pub struct Lent {
    pub stream: Stream,
    /// This end's address; `None` when the connection was reset before it could be asked for.
    pub local: Option<SocketAddr>,
    key: PoolKey,
    requests: u32,
    since: Instant,
    rested: Duration,
}

impl Lent {
    /// Whether an earlier request used it: the server may have closed it while this one was on its way.
    #[must_use]
    pub fn is_reused(&self) -> bool {
        self.requests > 1
    }

    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.key.address()
    }
}

/// One worker's upstream connections.
pub struct Upstreams {
    pool: RefCell<Pool>,
    admission: Admission,
    balancer: RefCell<Balancer>,
    /// Room for what is balanced between.
    endpoints: RefCell<Endpoints>,
    /// One client configuration a profile: its session cache belongs to this worker and this trust alone.
    configs: RefCell<HashMap<[u8; 32], Arc<rustls::ClientConfig>>>,
}

impl Upstreams {
    /// `seed` varies the order of endpoints between workers.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            pool: RefCell::default(),
            admission: Admission::default(),
            balancer: RefCell::new(Balancer::new(seed)),
            endpoints: RefCell::default(),
            configs: RefCell::default(),
        }
    }

    /// A connection to `target`: the warmest that fits, else a new one to the first endpoint that answers. Where
    /// `connectionPool` allows no further one, waits for one as long as it is polled.
    ///
    /// # Errors
    /// Why none could be had; of several failed endpoints the last one's.
    pub async fn lend(
        &self,
        target: &Target<'_>,
        security: &Security<'_>,
        clocks: &Clocks,
        reuse: Reuse,
    ) -> Result<Lent, ConnectError> {
        let mut failed = ConnectError::NoEndpoint;
        for &address in &*self.order(target)? {
            let key = PoolKey::new(address, security, target);
            if let Some(warm) = self.warm(&key, reuse) {
                return Ok(self.lent(key, warm));
            }
            let (slot, _pending) = match self.admit(target, &key, reuse).await? {
                Admitted::Warm(warm) => return Ok(self.lent(key, warm)),
                Admitted::Limited(slot, pending) => (Some(slot), Some(pending)),
                Admitted::Unlimited => (None, None),
            };
            match Box::pin(self.connect(&key, target, security, clocks, slot)).await {
                Ok(stream) if stream.spoke_first() => {
                    Box::pin(stream.abort()).await;
                    failed = ConnectError::Handshake { address, source: StreamError::SpokeFirst };
                    outliers::note_failure(target, &failed);
                }
                Ok(stream) => {
                    return Ok(self.lent(
                        key,
                        Warm {
                            local: stream.socket().local_addr().ok(),
                            stream,
                            requests: 0,
                            since: io::now(),
                            rested: Duration::ZERO,
                        },
                    ));
                }
                Err(error) => {
                    outliers::note_failure(target, &error);
                    failed = error;
                }
            }
        }
        Err(failed)
    }

    fn warm(&self, key: &PoolKey, reuse: Reuse) -> Option<Warm> {
        self.pool.borrow_mut().take(key, io::now(), reuse)
    }

    fn lent(&self, key: PoolKey, warm: Warm) -> Lent {
        self.balancer.borrow_mut().begin(key.address());
        let Warm { stream, local, requests, since, rested } = warm;
        Lent { stream, local, key, requests: requests + 1, since, rested }
    }

    /// Waits for the right to open a connection, or for one that another request gives back.
    async fn admit(&self, target: &Target<'_>, key: &PoolKey, reuse: Reuse) -> Result<Admitted, ConnectError> {
        let Some((share, limits)) = self.share(target) else { return Ok(Admitted::Unlimited) };
        let pending = share.try_wait(limits.max_pending_requests).ok_or(ConnectError::Overflow("waiting request"))?;
        let mut again = false;
        loop {
            if let Some(slot) = share.try_open(limits.max_connections) {
                return Ok(Admitted::Limited(slot, pending));
            }
            // An idle connection elsewhere in the cluster must not keep this request from going out.
            if !self.pool.borrow_mut().evict(&share) {
                share.released(again).await;
                again = true;
                if let Some(warm) = self.warm(key, reuse) {
                    return Ok(Admitted::Warm(warm));
                }
            }
        }
    }

    /// This worker's part of `target`, where it is limited.
    fn share<'t>(&self, target: &Target<'t>) -> Option<(Rc<Share>, &'t PoolLimits)> {
        let cluster = target.limited()?;
        Some((self.admission.share(cluster), &cluster.limits))
    }

    /// A new connection that will not be pooled, for opaque bytes.
    ///
    /// # Errors
    /// As [`lend`](Self::lend), but nothing waits where the limit of connections is reached.
    pub async fn dial(
        &self,
        target: &Target<'_>,
        security: &Security<'_>,
        clocks: &Clocks,
    ) -> Result<Stream, ConnectError> {
        let mut failed = ConnectError::NoEndpoint;
        for &address in &*self.order(target)? {
            let slot = match self.share(target) {
                Some((share, limits)) => {
                    Some(share.try_open(limits.max_connections).ok_or(ConnectError::Overflow("connection"))?)
                }
                None => None,
            };
            let key = PoolKey::new(address, security, target);
            match self.connect(&key, target, security, clocks, slot).await {
                Ok(stream) => {
                    note(target, address, Outcome::Connected);
                    return Ok(stream);
                }
                Err(error) => {
                    outliers::note_failure(target, &error);
                    failed = error;
                }
            }
        }
        Err(failed)
    }

    /// Takes a connection back after a complete exchange, to be used again if its limits allow. `keeps_for` is how long
    /// its server says that it keeps it open.
    pub fn give_back(&self, lent: Lent, target: &Target<'_>, keeps_for: Option<Duration>) {
        self.balancer.borrow_mut().end(lent.key.address());
        let limits = target.limits();
        let spent = limits.and_then(|l| l.max_requests_per_connection).is_some_and(|most| lent.requests >= most);
        let now = io::now();
        let expires = expiry(now, lent.since, limits, keeps_for);
        if spent || expires <= now {
            return lent.stream.close();
        }
        let share = lent.stream.share().map(Rc::clone);
        let Lent { stream, local, key, requests, since, rested } = lent;
        self.pool.borrow_mut().put(key, Warm { stream, local, requests, since, rested }, now, expires);
        if let Some(share) = share {
            share.release();
        }
    }

    /// Notes that the server closed `lent`, a connection used before, without a byte of an answer.
    pub fn note_closed(&self, lent: &Lent) {
        self.pool.borrow_mut().note_closed(&lent.key, lent.rested, io::now());
    }

    /// Takes a connection back that must not be used again.
    pub fn discard(&self, lent: Lent) -> Stream {
        self.balancer.borrow_mut().end(lent.key.address());
        lent.stream
    }

    /// Forgets what only older policies used: idle connections and session caches of profiles not in `current`.
    pub fn retain_profiles(&self, current: &HashSet<[u8; 32]>) {
        self.pool.borrow_mut().retain_profiles(current);
        self.configs.borrow_mut().retain(|digest, _| current.contains(digest));
        self.admission.forget_unused();
        self.balancer.borrow_mut().forget_tables();
    }

    /// Lets go of idle connections that were closed by their server or are too old.
    pub fn sweep(&self) {
        self.pool.borrow_mut().sweep(io::now());
    }

    #[must_use]
    pub fn idle_connections(&self) -> usize {
        self.pool.borrow().len()
    }

    fn order(&self, target: &Target<'_>) -> Result<Order, ConnectError> {
        let mut endpoints = self.endpoints.borrow_mut();
        outliers::usable(target, &mut endpoints, || self.balancer.borrow_mut().next_random())?;
        Ok(self.balancer.borrow_mut().order(&target.choice(), &mut endpoints, io::now()))
    }

    async fn connect(
        &self,
        key: &PoolKey,
        target: &Target<'_>,
        security: &Security<'_>,
        clocks: &Clocks,
        slot: Option<Slot>,
    ) -> Result<Stream, ConnectError> {
        let deadline = Deadline::begin(clocks, target.limits());
        let options = clocks.options(target.limits().and_then(|limits| limits.tcp_keepalive));
        let address = key.address();
        let socket = connect::tcp(address, &options, &deadline).await?;
        if let Some((version, source, destination)) = key.way().and_then(|way| way.announced) {
            // It is queued; what follows waits for it, and learns of an error.
            drop(socket.send(proxy_protocol::header(version, source, destination)));
        }
        let mut stream = match key.way().and_then(|way| way.tunnel.as_ref()) {
            None => self.secure(socket, address, security, &deadline).await?,
            Some(tunnel) if target.is_opaque() => {
                let stream = self.secure(socket, address, security, &deadline).await?;
                if let Some(early) = connect::tunnel(&stream, address, tunnel, &deadline).await? {
                    stream.unread(early);
                }
                stream
            }
            Some(tunnel) => {
                let plain = Stream::plaintext(socket);
                if connect::tunnel(&plain, address, tunnel, &deadline).await?.is_some() {
                    return Err(ConnectError::Tunnel { address, source: TunnelError::SpokeFirst });
                }
                self.secure(plain.into_socket(), address, security, &deadline).await?
            }
        };
        stream.occupy(slot);
        Ok(stream)
    }

    async fn secure(
        &self,
        socket: Socket,
        address: SocketAddr,
        security: &Security<'_>,
        deadline: &Deadline,
    ) -> Result<Stream, ConnectError> {
        match security {
            Security::Plaintext => Ok(Stream::plaintext(socket)),
            Security::Tls { profile, name } => {
                let config = self.config(profile);
                let name = profile.server_name(name).expect("the name was looked at when the security was decided");
                connect::tls(socket, address, &config, name, deadline).await
            }
        }
    }

    fn config(&self, profile: &ClientProfile) -> Arc<rustls::ClientConfig> {
        let mut configs = self.configs.borrow_mut();
        Arc::clone(configs.entry(profile.digest()).or_insert_with(|| profile.client_config()))
    }
}

/// Whether a request may travel over a connection that carried another before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    Allowed,
    /// Only over one that was used a moment ago: for requests that cannot be sent again when the server has closed the
    /// connection meanwhile.
    Recent,
    Never,
}

/// What came of asking for a connection.
#[allow(clippy::large_enum_variant, reason = "it is taken apart at once; a box would cost each waiting request one")]
enum Admitted {
    /// One that came back while waiting.
    Warm(Warm),
    Limited(Slot, Pending),
    Unlimited,
}

/// Until when a connection made at `since` may wait for its next request. The second less than the server says is for
/// the way: a request that arrives as the server closes would be lost.
fn expiry(now: Instant, since: Instant, limits: Option<&PoolLimits>, keeps_for: Option<Duration>) -> Instant {
    const ON_THE_WAY: Duration = Duration::from_secs(1);
    let idle = limits.map_or(POOLED_IDLE, |limits| limits.http_idle_timeout);
    let announced = keeps_for.map_or(idle, |time| time.saturating_sub(ON_THE_WAY));
    let expires = now + idle.min(announced);
    match limits.and_then(|limits| limits.max_connection_duration) {
        Some(duration) => expires.min(since + duration),
        None => expires,
    }
}
