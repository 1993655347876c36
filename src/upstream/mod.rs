//! Connections to the outside: which endpoint, over which security, new or warm.
//!
//! One [`Upstreams`] a worker; nothing here is shared between threads. It knows addresses and TLS, not HTTP: whether a
//! connection may be used again is for the caller to say.

mod balance;
mod connect;
mod pool;
mod stream;
mod target;

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

pub use connect::{Clocks, ConnectError};
pub use pool::{Pool, PoolKey, Warm};
pub use stream::{Idle, Stream, StreamError};
pub use target::{Security, Target};

use balance::Balancer;

use crate::config::LoadBalancer;
use crate::io;
use crate::tls::ClientProfile;

/// How long an idle connection is kept where no `connectionPool.http.idleTimeout` says otherwise: Istio's hour.
const DEFAULT_IDLE_TIMEOUT: Duration = Duration::from_secs(3600);

/// A connection in use by one request, with what is needed to keep it afterwards.
pub struct Lent {
    pub stream: Stream,
    key: PoolKey,
    requests: u32,
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
    balancer: RefCell<Balancer>,
    /// One client configuration a profile: its session cache belongs to this worker and this trust alone.
    configs: RefCell<HashMap<[u8; 32], Arc<rustls::ClientConfig>>>,
}

impl Upstreams {
    /// `seed` varies the order of endpoints between workers.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { pool: RefCell::default(), balancer: RefCell::new(Balancer::new(seed)), configs: RefCell::default() }
    }

    /// A connection to `target`: the warmest that fits, else a new one to the first endpoint that answers.
    ///
    /// # Errors
    /// Why none could be had; of several failed endpoints the last one's.
    pub async fn lend(
        &self,
        target: &Target,
        security: &Security,
        clocks: &Clocks,
        reuse: Reuse,
    ) -> Result<Lent, ConnectError> {
        let mut failed = ConnectError::NoEndpoint;
        for address in self.order(target) {
            let key = PoolKey::new(address, security);
            if reuse == Reuse::Allowed
                && let Some(warm) = self.pool.borrow_mut().take(&key, io::now())
            {
                self.balancer.borrow_mut().begin(address);
                return Ok(Lent { stream: warm.stream, key, requests: warm.requests + 1 });
            }
            match self.connect(address, target, security, clocks).await {
                Ok(stream) if stream.spoke_first() => {
                    stream.abort().await;
                    failed = ConnectError::Handshake { address, source: StreamError::SpokeFirst };
                }
                Ok(stream) => {
                    self.balancer.borrow_mut().begin(address);
                    return Ok(Lent { stream, key, requests: 1 });
                }
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    /// A new connection that will not be pooled, for opaque bytes.
    ///
    /// # Errors
    /// As [`lend`](Self::lend).
    pub async fn dial(&self, target: &Target, security: &Security, clocks: &Clocks) -> Result<Stream, ConnectError> {
        let mut failed = ConnectError::NoEndpoint;
        for address in self.order(target) {
            match self.connect(address, target, security, clocks).await {
                Ok(stream) => return Ok(stream),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    /// Takes a connection back after a complete exchange, to be used again if its limits allow.
    pub fn give_back(&self, lent: Lent, target: &Target) {
        self.balancer.borrow_mut().end(lent.key.address());
        let limits = target.limits();
        let spent = limits.and_then(|l| l.max_requests_per_connection).is_some_and(|most| lent.requests >= most);
        if spent {
            return lent.stream.close();
        }
        let idle_timeout = limits.map_or(DEFAULT_IDLE_TIMEOUT, |l| l.http_idle_timeout);
        let warm = Warm { stream: lent.stream, requests: lent.requests };
        self.pool.borrow_mut().put(lent.key, warm, io::now(), idle_timeout);
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
    }

    /// Lets go of idle connections that were closed by their server or are too old.
    pub fn sweep(&self) {
        self.pool.borrow_mut().sweep(io::now());
    }

    #[must_use]
    pub fn idle_connections(&self) -> usize {
        self.pool.borrow().len()
    }

    fn order(&self, target: &Target) -> Vec<SocketAddr> {
        let by = match target {
            Target::Cluster { cluster, .. } => cluster.load_balancer,
            Target::Passthrough(_) => LoadBalancer::Passthrough,
        };
        self.balancer.borrow_mut().order(target.name(), by, target.addresses())
    }

    async fn connect(
        &self,
        address: SocketAddr,
        target: &Target,
        security: &Security,
        clocks: &Clocks,
    ) -> Result<Stream, ConnectError> {
        let clocks = clocks.with_limits(target.limits());
        let socket = connect::tcp(address, target.limits().and_then(|l| l.tcp_keepalive), &clocks).await?;
        match security {
            Security::Plaintext => Ok(Stream::plaintext(socket)),
            Security::Tls { profile, name } => {
                let config = self.config(profile);
                connect::tls(socket, address, &config, name.clone(), &clocks).await
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
    Never,
}
