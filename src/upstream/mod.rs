//! Connections to the outside: which endpoint, over which security, new or idle.
//!
//! One [`Upstreams`] a worker; nothing here is shared between threads. It knows addresses, TLS and how a request travels over
//! a connection ([`carrier`]); what becomes of a request that fails, and whether a connection may be used again, is for the
//! caller to say.

mod admission;
mod balance;
mod candidates;
mod carrier;
mod choices;
mod connect;
mod dialling;
mod duplex;
mod hash_table;
mod http1;
mod http2;
mod in_use;
mod message;
mod order;
mod outliers;
mod pool;
mod proxy_protocol;
mod race;
mod reader;
mod reserved;
mod retry_budget;
mod shared;
mod stream;
mod streams;
mod sweep;
mod target;
mod tunnel;
mod tunnel_end;
mod unanswered;
mod wish;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

pub use carrier::{Carrier, Downlink, Uplink};
pub use connect::{Clocks, ConnectError, Patience, TlsFailure, keepalive};
pub use duplex::Duplex;
pub use hash_table::hash;
pub use http1::expect;
pub use http2::StreamInUse;
pub use in_use::{Bond, InUse};
pub use message::{CarrierError, Form, Outgoing, Part, Sending};
pub use outliers::note;
pub use pool::{Idle, Pool, PoolKey, Reuse};
pub use reader::Reader;
pub use reserved::{BondEnded, Reserved};
pub use retry_budget::{Counted, Retry, begin, retry};
pub use stream::{IdleState, Stream, StreamError};
pub use target::{Demand, Security, Spoken, Target};
pub use tunnel_end::{TunnelEnd, TunnelSink, TunnelSource};

use admission::{Admission, Pending, Share, Slot};
use balance::{Balancer, Endpoints};
use choices::Choices;
use connect::Deadline;
use dialling::Connects;
use in_use::Active;
use order::{MAX_ATTEMPTS, Order};
use race::{Finish, Race};
use tunnel::TunnelError;
use unanswered::Unanswered;
use wish::Wish;

use crate::config::CloseNotify;
use crate::io::{self, Socket};
use crate::observe::Http2Connections;
use crate::policy::{Candidate, Outcome, PoolLimits};
use crate::tls::{Alpn, AlpnProtocol, ClientProfile};

type Configs = HashMap<([u8; 32], Alpn), Arc<rustls::ClientConfig>>;

/// One worker's upstream connections.
pub struct Upstreams {
    pool: RefCell<Pool>,
    admission: Admission,
    balancer: RefCell<Balancer>,
    /// Room for what may be dialled, and for what of it is balanced between.
    usable: RefCell<Vec<Candidate>>,
    endpoints: RefCell<Endpoints>,
    unanswered: RefCell<Unanswered>,
    /// One client configuration a profile and what it offers: its session cache belongs to this worker and this trust alone.
    configs: RefCell<Configs>,
    /// Connects that others may wait for.
    connects: Connects,
    /// What servers chose that were asked to.
    choices: RefCell<Choices>,
    /// A task looks the idle connections over.
    is_sweeping: Cell<bool>,
    /// Where connections of HTTP/2 are listed.
    http2: Arc<Http2Connections>,
}

impl Upstreams {
    /// `seed` varies the order of endpoints between workers; `http2` lists connections for whoever looks.
    #[must_use]
    pub fn new(seed: u64, http2: Arc<Http2Connections>) -> Self {
        Self {
            pool: RefCell::default(),
            admission: Admission::default(),
            balancer: RefCell::new(Balancer::new(seed)),
            usable: RefCell::default(),
            endpoints: RefCell::default(),
            unanswered: RefCell::default(),
            configs: RefCell::default(),
            connects: Connects::default(),
            choices: RefCell::default(),
            is_sweeping: Cell::default(),
            http2,
        }
    }

    /// A connection to `target` on which `spoken` is: the one used last that fits, else a new one to the first endpoint that answers; the addresses of
    /// one endpoint's name race for it. Where
    /// `connectionPool` allows no further one, waits for one as long as it is polled.
    ///
    /// # Errors
    /// Why none could be had; of several failed endpoints the last one's.
    pub async fn lend(
        self: &Rc<Self>,
        target: &Target<'_>,
        security: &Security<'_>,
        clocks: &Clocks,
        reuse: Reuse,
        spoken: Spoken,
    ) -> Result<Carrier<'_>, ConnectError> {
        if spoken != Spoken::Http1 {
            let wish = Wish { target, security, clocks, reuse, spoken };
            return Box::pin(self.lend_stream(&wish)).await;
        }
        let order = self.order(target)?;
        let (mut tried, mut failed) = (Vec::new(), ConnectError::NoEndpoint);
        for _ in 0..MAX_ATTEMPTS {
            let Some(first) = self.next(target, &order, &tried) else { break };
            let key = PoolKey::new(first, security, target, AlpnProtocol::Http1);
            if let Some(idle) = self.idle(&key, reuse) {
                return Ok(self.in_use(idle));
            }
            let rivals = self.rivals(target, first, &tried);
            // To the same servers by the other family: the load balancer has not chosen against it. What a hash promises is
            // one address.
            let is_free = target.choice().hash.is_none();
            let is_other = |address: &&SocketAddr| is_free && address.is_ipv6() != first.is_ipv6();
            if let Some(carrier) = self.idle_at(rivals.iter().filter(is_other), target, security, reuse) {
                return Ok(carrier);
            }
            let (slot, _pending) = match self.admit(target, || self.idle(&key, reuse)).await? {
                Admitted::Ready(idle) => return Ok(self.in_use(idle)),
                Admitted::Limited(slot, pending) => (Some(slot), Some(pending)),
                Admitted::Unlimited => (None, None),
            };
            let spare = || self.idle_at(rivals.iter().skip(1), target, security, reuse);
            match Box::pin(self.connect(&rivals, target, security, clocks, slot, spare)).await {
                Ok(Connected::Spare(carrier)) => return Ok(carrier),
                Ok(Connected::New(address, stream)) if stream.spoke_first() => {
                    Box::pin(stream.abort()).await;
                    let source = StreamError::SpokeFirst;
                    failed = note_all(target, vec![ConnectError::Handshake { address, source }], &mut tried);
                }
                Ok(Connected::New(address, stream)) => {
                    let key = PoolKey::new(address, security, target, AlpnProtocol::Http1);
                    return Ok(self.in_use(Idle::new(key, stream)));
                }
                Err(errors) => failed = note_all(target, errors, &mut tried),
            }
        }
        Err(failed)
    }

    /// The address to begin the next try with: the load balancer's next choice, else another of the same name.
    fn next(&self, target: &Target<'_>, order: &Order, tried: &[SocketAddr]) -> Option<SocketAddr> {
        let chosen = order.iter().find(|address| !tried.contains(address)).copied();
        chosen.or_else(|| self.rivals(target, *order.first()?, tried).get(1).copied())
    }

    /// `first`, and the other addresses of its name that have not been `tried`, in the order in which they race.
    fn rivals(&self, target: &Target<'_>, first: SocketAddr, tried: &[SocketAddr]) -> Vec<SocketAddr> {
        let mut endpoint = None;
        target.each_candidate(|candidate| {
            if candidate.address == first {
                endpoint.get_or_insert(candidate.endpoint);
            }
        });
        let mut others = Vec::new();
        target.each_candidate(|Candidate { address, endpoint: of, .. }| {
            let is_new = address != first && !tried.contains(&address);
            if endpoint == Some(of) && is_new && !outliers::is_ejected(target, address) {
                others.push(address);
            }
        });
        candidates::rivals(first, others, &self.unanswered.borrow(), io::now())
    }

    fn idle_at<'a>(
        &self,
        mut addresses: impl Iterator<Item = &'a SocketAddr>,
        target: &Target<'_>,
        security: &Security<'_>,
        reuse: Reuse,
    ) -> Option<Carrier<'_>> {
        addresses.find_map(|address| {
            let key = PoolKey::new(*address, security, target, AlpnProtocol::Http1);
            self.idle(&key, reuse).map(|idle| self.in_use(idle))
        })
    }

    fn idle(&self, key: &PoolKey, reuse: Reuse) -> Option<Box<Idle>> {
        self.pool.borrow_mut().take(key, io::now(), reuse)
    }

    fn in_use(&self, idle: Box<Idle>) -> Carrier<'_> {
        Carrier::Http1(self.used(idle))
    }

    fn used(&self, idle: Box<Idle>) -> InUse<'_> {
        let active = Active::begin(&self.balancer, idle.key.address());
        InUse::new(idle, active)
    }

    /// Waits for the right to open a connection, or for what another request gives back and `ready` finds.
    async fn admit<T>(&self, target: &Target<'_>, ready: impl Fn() -> Option<T>) -> Result<Admitted<T>, ConnectError> {
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
                if let Some(ready) = ready() {
                    return Ok(Admitted::Ready(ready));
                }
            }
        }
    }

    /// A place among the requests of `target` that wait, where their number is limited.
    fn wait_in_line(&self, target: &Target<'_>) -> Result<Option<Pending>, ConnectError> {
        let Some((share, limits)) = self.share(target) else { return Ok(None) };
        share.try_wait(limits.max_pending_requests).map(Some).ok_or(ConnectError::Overflow("waiting request"))
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
        let order = self.order(target)?;
        let (mut tried, mut failed) = (Vec::new(), ConnectError::NoEndpoint);
        for _ in 0..MAX_ATTEMPTS {
            let Some(first) = self.next(target, &order, &tried) else { break };
            let slot = match self.share(target) {
                Some((share, limits)) => {
                    Some(share.try_open(limits.max_connections).ok_or(ConnectError::Overflow("connection"))?)
                }
                None => None,
            };
            let rivals = self.rivals(target, first, &tried);
            match self.connect(&rivals, target, security, clocks, slot, || None::<Infallible>).await {
                Ok(Connected::New(address, stream)) => {
                    note(target, address, Outcome::Connected);
                    return Ok(stream);
                }
                Ok(Connected::Spare(never)) => match never {},
                Err(errors) => failed = note_all(target, errors, &mut tried),
            }
        }
        Err(failed)
    }

    /// Notes that the server closed the connection of `carrier`, used before, without a byte of an answer.
    pub fn note_closed(&self, carrier: &Carrier<'_>) {
        // Shared ones are announced to be closing, or say which requests they have seen.
        let Carrier::Http1(used) = carrier else { return };
        self.pool.borrow_mut().note_closed(&used.connection.key, used.connection.rested, io::now());
    }

    fn order(&self, target: &Target<'_>) -> Result<Order, ConnectError> {
        let (mut usable, mut endpoints) = (self.usable.borrow_mut(), self.endpoints.borrow_mut());
        outliers::usable(target, &mut usable, || self.balancer.borrow_mut().next_random())?;
        candidates::balanced(&usable, &self.unanswered.borrow(), io::now(), &mut endpoints);
        Ok(self.balancer.borrow_mut().order(&target.choice(), &mut endpoints, io::now()))
    }

    /// A new connection, to whichever of `rivals` takes it first; or the `spare` one that has come free by the time that the
    /// first should have.
    async fn connect<W>(
        &self,
        rivals: &[SocketAddr],
        target: &Target<'_>,
        security: &Security<'_>,
        clocks: &Clocks,
        slot: Option<Slot>,
        spare: impl FnMut() -> Option<W>,
    ) -> Result<Connected<W>, Vec<ConnectError>> {
        let deadline = Deadline::begin(clocks, target.limits());
        let options = clocks.options(target.limits().and_then(|limits| limits.tcp_keepalive));
        let mut race = Race::new(rivals, &options);
        let finish = race.run(&deadline, spare).await;
        let failures = race.failures();
        if rivals.len() > 1 {
            self.remember(&race, &failures);
        }
        // Those that lost are closed here, before anything is said on the one that won.
        drop(race);
        let (address, socket) = match finish {
            None => return Err(failures),
            Some(Finish::Spare(spare)) => return Ok(Connected::Spare(spare)),
            Some(Finish::Connected(address, socket)) => (address, socket),
        };
        self.unanswered.borrow_mut().forget(address);
        for error in &failures {
            outliers::note_failure(target, error);
        }
        let mut stream = match self.prepare(socket, address, target, security, &deadline).await {
            Ok(stream) => stream,
            Err(error) => return Err(vec![error]),
        };
        stream.occupy(slot);
        if target.cluster().is_some_and(|cluster| cluster.close_notify == CloseNotify::Ignore) {
            stream.take_any_end();
        }
        Ok(Connected::New(address, stream))
    }

    /// Notes who did not answer.
    fn remember(&self, race: &Race<'_>, failures: &[ConnectError]) {
        let late = failures.iter().filter(|error| matches!(error, ConnectError::TcpTimeout { .. }));
        let mut unanswered = self.unanswered.borrow_mut();
        for address in late.filter_map(ConnectError::address).chain(race.unanswered()) {
            tracing::debug!(%address, "did not answer; other addresses of its name come first for a while");
            unanswered.note(address, io::now());
        }
    }

    /// What happens on a connection before it is used: announced, led through a tunnel, secured.
    async fn prepare(
        &self,
        socket: Socket,
        address: SocketAddr,
        target: &Target<'_>,
        security: &Security<'_>,
        deadline: &Deadline,
    ) -> Result<Stream, ConnectError> {
        let prelude = target.prelude();
        if let Some((version, source, destination)) = prelude.as_ref().and_then(|prelude| prelude.announced) {
            // It is queued; what follows waits for it, and learns of an error.
            drop(socket.send(proxy_protocol::header(version, source, destination)));
        }
        let Some(tunnel) = prelude.as_ref().and_then(|prelude| prelude.tunnel.as_ref()) else {
            return self.secure(socket, address, target, security, deadline).await;
        };
        if target.is_opaque() {
            let stream = self.secure(socket, address, target, security, deadline).await?;
            if let Some(early) = connect::tunnel(&stream, address, tunnel, deadline).await? {
                stream.unread(early);
            }
            return Ok(stream);
        }
        let plain = Stream::plaintext(socket);
        if connect::tunnel(&plain, address, tunnel, deadline).await?.is_some() {
            return Err(ConnectError::Tunnel { address, source: TunnelError::SpokeFirst });
        }
        self.secure(plain.into_socket(), address, target, security, deadline).await
    }

    async fn secure(
        &self,
        socket: Socket,
        address: SocketAddr,
        target: &Target<'_>,
        security: &Security<'_>,
        deadline: &Deadline,
    ) -> Result<Stream, ConnectError> {
        match security {
            Security::Plaintext => Ok(Stream::plaintext(socket)),
            Security::Tls { profile, name, alpn } => {
                let config = self.config(profile, *alpn);
                let name = profile.server_name(name).expect("the name was looked at when the security was decided");
                let secured = connect::tls(socket, address, &config, name, deadline).await;
                secured.map_err(|error| error.of_offer(*alpn, target))
            }
        }
    }

    fn config(&self, profile: &ClientProfile, alpn: Alpn) -> Arc<rustls::ClientConfig> {
        let mut configs = self.configs.borrow_mut();
        Arc::clone(configs.entry((profile.digest(), alpn)).or_insert_with(|| profile.client_config_offering(alpn)))
    }
}

/// A connection that was waited for.
#[allow(clippy::large_enum_variant, reason = "it is taken apart at once; a box would cost each connection one")]
enum Connected<W> {
    New(SocketAddr, Stream),
    Spare(W),
}

/// Notes what the errors of one try say of the endpoints, and whom not to ask again; gives the last.
fn note_all(target: &Target<'_>, errors: Vec<ConnectError>, tried: &mut Vec<SocketAddr>) -> ConnectError {
    let mut last = ConnectError::NoEndpoint;
    for error in errors {
        outliers::note_failure(target, &error);
        tried.extend(error.address());
        last = error;
    }
    last
}

/// What came of asking for a connection.
#[allow(clippy::large_enum_variant, reason = "it is taken apart at once; a box would cost each waiting request one")]
enum Admitted<T> {
    /// What came back while waiting.
    Ready(T),
    Limited(Slot, Pending),
    Unlimited,
}
