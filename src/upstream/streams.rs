//! Streams of shared connections: one that is open and has room, else a connect under way, else a new connection.
//!
//! Where the server chooses what is spoken, what comes of a connect may be a connection of HTTP/1.1, which is nobody else's.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;

use super::admission::Slot;
use super::carrier::Carrier;
use super::connect::ConnectError;
use super::dialling::Dialled;
use super::http2::StreamInUse;
use super::in_use::Active;
use super::order::MAX_ATTEMPTS;
use super::pool::{Idle, PoolKey};
use super::shared::{Made, SharedConnection, StreamPlace};
use super::stream::StreamError;
use super::target::Spoken;
use super::wish::Wish;
use super::{Admitted, Connected, Upstreams, note_all};
use crate::io;
use crate::observe::Http2Side;
use crate::policy::PoolLimits;
use crate::tls::AlpnProtocol;

/// Streams that a server is taken to allow before it has said (RFC 9113 §6.5.2 recommends no fewer).
const UNTIL_SETTINGS: usize = 100;

/// What came of a connect.
#[allow(clippy::large_enum_variant, reason = "it is taken apart at once; a box would cost each connection one")]
enum Begun<'u> {
    Shared(Rc<SharedConnection>),
    Own(Carrier<'u>),
}

/// Why there is no stream.
enum NoStream {
    /// No endpoint is to blame.
    Refused(ConnectError),
    Failed(Vec<ConnectError>),
}

impl Upstreams {
    /// A stream of a connection to a server, or a connection of HTTP/1.1 where the server chose that.
    ///
    /// # Errors
    /// As [`lend`](Self::lend).
    pub(super) async fn lend_stream(self: &Rc<Self>, wish: &Wish<'_>) -> Result<Carrier<'_>, ConnectError> {
        let order = self.order(wish.target)?;
        let (mut tried, mut failed) = (Vec::new(), ConnectError::NoEndpoint);
        for _ in 0..MAX_ATTEMPTS {
            let Some(first) = self.next(wish.target, &order, &tried) else { break };
            let rivals = self.rivals(wish.target, first, &tried);
            match self.stream_to(&rivals, wish).await {
                Ok(carrier) => return Ok(carrier),
                Err(NoStream::Refused(error)) => return Err(error),
                Err(NoStream::Failed(errors)) => failed = note_all(wish.target, errors, &mut tried),
            }
        }
        Err(failed)
    }

    /// A stream to the first of `rivals`, or to whichever of them takes a new connection first.
    async fn stream_to(self: &Rc<Self>, rivals: &[SocketAddr], wish: &Wish<'_>) -> Result<Carrier<'_>, NoStream> {
        let Some(&first) = rivals.first() else { return Err(NoStream::Failed(Vec::new())) };
        let (target, key) = (wish.target, wish.key(first, AlpnProtocol::Http2));
        let limits = target.limits();
        let mut may_wait = wish.is_shared() && !self.choices.borrow().is_http1(&key);
        let (slot, _pending) = loop {
            if let Some(carrier) = self.ready(rivals, wish) {
                return Ok(carrier);
            }
            if let Some(settling) = self.settling(&key, wish) {
                let _pending = self.wait_in_line(target).map_err(NoStream::Refused)?;
                settling.settled_soon().await;
                continue;
            }
            if may_wait && let Some(joined) = self.connects.join(&key, capacity(limits) - 1) {
                let _pending = self.wait_in_line(target).map_err(NoStream::Refused)?;
                // One that failed for somebody else may fail here as well: it is seen by a try of one's own.
                may_wait = matches!(joined.await, Dialled::Up | Dialled::Abandoned);
                continue;
            }
            match self.admit(target, || self.ready(rivals, wish)).await.map_err(NoStream::Refused)? {
                Admitted::Ready(carrier) => return Ok(carrier),
                Admitted::Limited(slot, pending) => break (Some(slot), Some(pending)),
                Admitted::Unlimited => break (None, None),
            }
        };
        let announced = wish.is_shared().then(|| self.connects.begin(&key));
        let (outcome, carrier) = match Box::pin(self.begin(rivals, wish, slot)).await {
            Ok(Begun::Shared(connection)) => {
                let carrier = self.stream_of(Rc::clone(&connection), limits);
                if announced.is_some() && connection.is_open(limits, io::now()) {
                    let key = wish.key(connection.address(), AlpnProtocol::Http2);
                    self.pool.borrow_mut().put_shared(key, connection);
                    self.sweep();
                }
                (Dialled::Up, Ok(carrier))
            }
            Ok(Begun::Own(carrier)) => (Dialled::Alone, Ok(carrier)),
            Err(errors) => (Dialled::Failed, Err(NoStream::Failed(errors))),
        };
        if let Some(announced) = announced {
            announced.finish(outcome);
        }
        carrier
    }

    /// A new connection to whichever of `rivals` takes it first.
    async fn begin(
        &self,
        rivals: &[SocketAddr],
        wish: &Wish<'_>,
        slot: Option<Slot>,
    ) -> Result<Begun<'_>, Vec<ConnectError>> {
        let Wish { target, security, clocks, spoken, .. } = *wish;
        let begun = io::now();
        let (address, stream) =
            match self.connect(rivals, target, security, clocks, slot, || None::<Infallible>).await? {
                Connected::Spare(never) => match never {},
                Connected::New(address, stream) => (address, stream),
            };
        if let Spoken::Negotiated { needs_http2 } = spoken {
            // A server that says nothing of protocols is one of HTTP/1.1, as Envoy takes it.
            let chosen = stream.negotiated().and_then(|agreed| agreed.alpn).unwrap_or(AlpnProtocol::Http1);
            self.choices.borrow_mut().note(wish.key(address, AlpnProtocol::Http2), chosen);
            match chosen {
                AlpnProtocol::Http2 => {}
                AlpnProtocol::Http1 if needs_http2 => {
                    stream.close();
                    return Err(vec![ConnectError::NotHttp2 { address }]);
                }
                AlpnProtocol::Http1 if stream.spoke_first() => {
                    stream.abort().await;
                    return Err(vec![ConnectError::Handshake { address, source: StreamError::SpokeFirst }]);
                }
                AlpnProtocol::Http1 => {
                    return Ok(Begun::Own(self.in_use(Idle::new(wish.key(address, AlpnProtocol::Http1), stream))));
                }
            }
        }
        let round_trip = io::now().saturating_duration_since(begun);
        let listed = self.http2.list(Http2Side::Upstream, address, Some(target.name()));
        let made = Made { stream, address, round_trip, listed };
        let connection = SharedConnection::begin(made, &clocks.http2, target.limits()).await;
        connection.map(Begun::Shared).map_err(|source| vec![ConnectError::Handshake { address, source }])
    }

    /// What can be used at once: a stream of a connection that is open, or an idle connection of HTTP/1.1 whose server chose it.
    fn ready(&self, rivals: &[SocketAddr], wish: &Wish<'_>) -> Option<Carrier<'_>> {
        let Wish { target, security, reuse, spoken, .. } = *wish;
        let shared = if wish.is_shared() { self.open_stream(rivals, wish) } else { None };
        if shared.is_some() || spoken != (Spoken::Negotiated { needs_http2: false }) {
            return shared;
        }
        self.idle_at(wish.asked(rivals), target, security, reuse)
    }

    fn open_stream(&self, rivals: &[SocketAddr], wish: &Wish<'_>) -> Option<Carrier<'_>> {
        let limits = wish.target.limits();
        wish.asked(rivals).find_map(|address| {
            let key = wish.key(*address, AlpnProtocol::Http2);
            let connection = self.pool.borrow_mut().share(&key, limits, io::now())?;
            Some(self.stream_of(connection, limits))
        })
    }

    /// A connection whose server has not said yet how many streams it takes: it is about to.
    fn settling(&self, key: &PoolKey, wish: &Wish<'_>) -> Option<Rc<SharedConnection>> {
        if wish.is_shared() { self.pool.borrow().settling(key, io::now()) } else { None }
    }

    fn stream_of(&self, connection: Rc<SharedConnection>, limits: Option<&PoolLimits>) -> Carrier<'_> {
        let active = Active::begin(&self.balancer, connection.address());
        Carrier::Http2(StreamInUse::new(StreamPlace::take(connection, limits), active))
    }
}

/// Streams that a connection will have room for, as far as is known before there is one; at least one.
fn capacity(limits: Option<&PoolLimits>) -> usize {
    let of = |limit: Option<u32>| limit.map_or(usize::MAX, |limit| limit as usize);
    let streams = of(limits.and_then(|limits| limits.max_concurrent_streams));
    let requests = of(limits.and_then(|limits| limits.max_requests_per_connection));
    UNTIL_SETTINGS.min(streams).min(requests).max(1)
}
