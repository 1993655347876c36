//! Streams of shared connections: one that is open and has room, else a connect under way, else a new connection.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;

use super::carrier::Carrier;
use super::connect::{Clocks, ConnectError};
use super::dialling::Dialled;
use super::http2::StreamInUse;
use super::in_use::Active;
use super::order::MAX_ATTEMPTS;
use super::pool::{PoolKey, Reuse};
use super::shared::{SharedConnection, StreamPlace};
use super::target::{Security, Target};
use super::{Admitted, Connected, Upstreams, note_all};
use crate::io;
use crate::policy::PoolLimits;
use crate::tls::AlpnProtocol;

/// Streams that a server is taken to allow before it has said (RFC 9113 §6.5.2 recommends no fewer).
const UNTIL_SETTINGS: usize = 100;

/// What a connection is asked for by.
struct Wish<'w> {
    target: &'w Target<'w>,
    security: &'w Security<'w>,
    clocks: &'w Clocks,
    reuse: Reuse,
}

impl Upstreams {
    /// A stream of a connection to `target`.
    ///
    /// # Errors
    /// As [`lend`](Self::lend).
    pub(super) async fn lend_stream(
        self: &Rc<Self>,
        target: &Target<'_>,
        security: &Security<'_>,
        clocks: &Clocks,
        reuse: Reuse,
    ) -> Result<Carrier<'_>, ConnectError> {
        let wish = Wish { target, security, clocks, reuse };
        let order = self.order(wish.target)?;
        let (mut tried, mut failed) = (Vec::new(), ConnectError::NoEndpoint);
        for _ in 0..MAX_ATTEMPTS {
            let Some(first) = self.next(wish.target, &order, &tried) else { break };
            let rivals = self.rivals(wish.target, first, &tried);
            match self.stream_to(&rivals, &wish).await {
                Ok(carrier) => return Ok(carrier),
                Err(NoStream::Refused(error)) => return Err(error),
                Err(NoStream::Failed(errors)) => failed = note_all(wish.target, errors, &mut tried),
            }
        }
        Err(failed)
    }

    /// A stream to the first of `rivals`, or to whichever of them takes a new connection first.
    async fn stream_to(self: &Rc<Self>, rivals: &[SocketAddr], wish: &Wish<'_>) -> Result<Carrier<'_>, NoStream> {
        let Wish { target, security, clocks, reuse } = *wish;
        let Some(&first) = rivals.first() else { return Err(NoStream::Failed(Vec::new())) };
        let key = PoolKey::new(first, security, target, AlpnProtocol::Http2);
        let limits = target.limits();
        // A connection that its credentials authenticate is nobody else's.
        let is_shared = reuse != Reuse::Never;
        let ready = || is_shared.then(|| self.open_stream(rivals, wish)).flatten();
        let mut may_wait = is_shared;
        let (slot, _pending) = loop {
            if let Some(carrier) = ready() {
                return Ok(carrier);
            }
            if may_wait && let Some(joined) = self.connects.join(&key, capacity(limits) - 1) {
                let _pending = self.wait_in_line(target).map_err(NoStream::Refused)?;
                // One that failed for somebody else may fail here as well: it is seen by a try of one's own.
                may_wait = joined.await != Dialled::Failed;
                continue;
            }
            match self.admit(target, ready).await.map_err(NoStream::Refused)? {
                Admitted::Ready(carrier) => return Ok(carrier),
                Admitted::Limited(slot, pending) => break (Some(slot), Some(pending)),
                Admitted::Unlimited => break (None, None),
            }
        };
        let announced = is_shared.then(|| self.connects.begin(&key));
        let dialled = self.connect(rivals, target, security, clocks, slot, || None::<Infallible>).await;
        let begun = match dialled {
            Ok(Connected::Spare(never)) => match never {},
            Ok(Connected::New(address, stream)) => {
                let begun = SharedConnection::begin(stream, address, &clocks.http2, limits).await;
                begun.map_err(|source| vec![ConnectError::Handshake { address, source }])
            }
            Err(errors) => Err(errors),
        };
        let connection = match begun {
            Ok(connection) => connection,
            Err(errors) => {
                if let Some(announced) = announced {
                    announced.finish(Dialled::Failed);
                }
                return Err(NoStream::Failed(errors));
            }
        };
        let carrier = self.stream_of(Rc::clone(&connection), limits);
        if let Some(announced) = announced {
            if connection.is_open(limits, io::now()) {
                let key = PoolKey::new(connection.address(), security, target, AlpnProtocol::Http2);
                self.pool.borrow_mut().put_shared(key, connection);
                self.sweep();
            }
            announced.finish(Dialled::Up);
        }
        Ok(carrier)
    }

    /// A stream of a connection that is open: to the first of `rivals`, or to the same servers by the other family, against
    /// which the load balancer has not chosen. What a hash promises is one address.
    fn open_stream(&self, rivals: &[SocketAddr], wish: &Wish<'_>) -> Option<Carrier<'_>> {
        let Wish { target, security, .. } = *wish;
        let first = rivals.first()?;
        let is_free = target.choice().hash.is_none();
        let is_asked = |address: &&SocketAddr| *address == first || (is_free && address.is_ipv6() != first.is_ipv6());
        let limits = target.limits();
        rivals.iter().filter(is_asked).find_map(|address| {
            let key = PoolKey::new(*address, security, target, AlpnProtocol::Http2);
            let connection = self.pool.borrow_mut().share(&key, limits, io::now())?;
            Some(self.stream_of(connection, limits))
        })
    }

    fn stream_of(&self, connection: Rc<SharedConnection>, limits: Option<&PoolLimits>) -> Carrier<'_> {
        let active = Active::begin(&self.balancer, connection.address());
        Carrier::Http2(StreamInUse::new(StreamPlace::take(connection, limits), active))
    }
}

/// Why there is no stream.
enum NoStream {
    /// No endpoint is to blame.
    Refused(ConnectError),
    Failed(Vec<ConnectError>),
}

/// Streams that a connection will have room for, as far as is known before there is one; at least one.
fn capacity(limits: Option<&PoolLimits>) -> usize {
    let of = |limit: Option<u32>| limit.map_or(usize::MAX, |limit| limit as usize);
    let streams = of(limits.and_then(|limits| limits.max_concurrent_streams));
    let requests = of(limits.and_then(|limits| limits.max_requests_per_connection));
    UNTIL_SETTINGS.min(streams).min(requests).max(1)
}
