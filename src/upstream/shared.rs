//! Connections that many requests share: one stream of HTTP/2 each (RFC 9113 §5).
//!
//! A connection takes as many streams as its server and the cluster allow; when all are full another is opened. It lives as
//! long as it is in the pool or a stream is open on it: whoever drops it from the pool lets it drain. It knows neither what
//! a stream is used for nor where connections are looked up.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::admission::Share;
use super::duplex::Duplex;
use super::message::CarrierError;
use super::stream::{Stream, StreamError};
use crate::http2::{self, ClientConnection, ClientEnd, ClientStream, KeepaliveClocks, Limits};
use crate::observe::Http2Listed;
use crate::policy::{POOLED_IDLE, PoolLimits};
use crate::tls::Negotiated;

/// How long a server's settings are waited for: as long as the connection took to be made, within these bounds.
const LEAST_PATIENCE: Duration = Duration::from_millis(20);
const MOST_PATIENCE: Duration = Duration::from_secs(1);

/// A connection that HTTP/2 is to be spoken on.
pub(super) struct Made {
    pub(super) stream: Stream,
    pub(super) address: SocketAddr,
    /// How long the server may need to be heard, at most.
    pub(super) round_trip: Duration,
    pub(super) listed: Http2Listed,
}

/// A connection of HTTP/2 to a server.
pub struct SharedConnection {
    handle: Rc<ClientConnection>,
    address: SocketAddr,
    /// This end's address, asked for once: every request's log line names it.
    local: Option<SocketAddr>,
    negotiated: Option<Negotiated>,
    listed: Http2Listed,
    /// The limited cluster that it counts for.
    share: Option<Rc<Share>>,
    /// Requests that it has been lent to.
    requests: Cell<u32>,
    /// Of them those that are not over.
    streams: Cell<usize>,
    /// Until when its server is waited for to say how many streams it takes.
    settles_by: Instant,
    /// From when on it takes no further streams (`maxConnectionDuration`).
    until: Option<Instant>,
    /// When its last stream ended.
    idle_since: Cell<Instant>,
    idle_timeout: Cell<Duration>,
}

impl SharedConnection {
    /// Begins HTTP/2 on what was made; a task drives it to its end.
    ///
    /// # Errors
    /// The connection's.
    pub(super) async fn begin(made: Made, limits: &Limits, pool: Option<&PoolLimits>) -> Result<Rc<Self>, StreamError> {
        let Made { stream, address, round_trip, listed } = made;
        let (local, negotiated) = (stream.socket().local_addr().ok(), stream.negotiated());
        let share = stream.share().map(Rc::clone);
        let keepalive = pool
            .and_then(|pool| pool.http2_keepalive)
            .map(|set| KeepaliveClocks { interval: set.interval, timeout: set.timeout });
        let begun = http2::connect(Duplex::new(stream, None), limits, keepalive).await;
        let (handle, driver) = begun.map_err(|error| StreamError::Io(io::Error::other(error)))?;
        crate::io::spawn(async move {
            let end = driver.run().await;
            match end {
                ClientEnd::Closed => tracing::debug!(%address, "HTTP/2 connection closed"),
                end => tracing::debug!(%address, %end, "HTTP/2 connection ended"),
            }
        });
        let now = crate::io::now();
        Ok(Rc::new(Self {
            handle,
            address,
            local,
            negotiated,
            listed,
            share,
            requests: Cell::new(0),
            streams: Cell::new(0),
            settles_by: now + round_trip.clamp(LEAST_PATIENCE, MOST_PATIENCE),
            until: pool.and_then(|pool| pool.max_connection_duration).map(|time| now + time),
            idle_since: Cell::new(now),
            idle_timeout: Cell::new(POOLED_IDLE),
        }))
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn local(&self) -> Option<SocketAddr> {
        self.local
    }

    pub(super) fn negotiated(&self) -> Option<Negotiated> {
        self.negotiated
    }

    /// Whether its server takes extended CONNECT (RFC 8441); false until it has said.
    pub(super) fn takes_upgrades(&self) -> bool {
        self.handle.takes_extended_connect()
    }

    /// Resolves when the server has said what it takes.
    pub(super) async fn settled(&self) {
        self.handle.settled().await;
    }

    pub(super) fn is_secure(&self) -> bool {
        self.negotiated.is_some()
    }

    /// Whether it may be lent again at all, now or when streams have ended.
    pub(super) fn is_open(&self, limits: Option<&PoolLimits>, now: Instant) -> bool {
        self.requests_left(limits) > 0 && !self.is_over(now)
    }

    /// How many more requests it may carry.
    pub(super) fn requests_left(&self, limits: Option<&PoolLimits>) -> u32 {
        let most = limits.and_then(|limits| limits.max_requests_per_connection).unwrap_or(u32::MAX);
        most.saturating_sub(self.requests.get())
    }

    /// Whether nothing more will be carried, whatever the limits are: it has ended, is ending, or has lasted long enough.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        !self.handle.is_usable() || self.until.is_some_and(|until| until <= now)
    }

    /// Whether a stream can be had now. The first is opened at once (RFC 9113 §3.4); others wait for a moment until the server
    /// has said how many it takes, since it refuses what is too much.
    pub(super) fn has_room(&self, limits: Option<&PoolLimits>, now: Instant) -> bool {
        let own = limits.and_then(|limits| limits.max_concurrent_streams).map_or(usize::MAX, |most| most as usize);
        let allowed = if self.is_settling(now) { 1 } else { self.handle.allowed() };
        self.streams.get() < allowed.min(own)
    }

    /// Whether its server has not said how many streams it takes, and is still waited for.
    pub(super) fn is_settling(&self, now: Instant) -> bool {
        !self.handle.is_settled() && now < self.settles_by
    }

    /// Resolves when it has said so, or is waited for no longer.
    pub(super) async fn settled_soon(&self) {
        let left = self.settles_by.saturating_duration_since(crate::io::now());
        let _ = crate::io::timeout(left, self.handle.settled()).await;
    }

    /// Whether it has carried nothing for as long as it may.
    pub(super) fn is_expired(&self, now: Instant) -> bool {
        self.streams.get() == 0 && self.idle_since.get() + self.idle_timeout.get() <= now
    }

    /// Since when nothing has been carried for a cluster that `share` counts.
    pub(super) fn idle_for(&self, share: &Rc<Share>) -> Option<Instant> {
        let counts = self.share.as_ref().is_some_and(|of| Rc::ptr_eq(of, share));
        (counts && self.streams.get() == 0).then(|| self.idle_since.get())
    }

    /// Opens a stream; `is_last`: the request has no body.
    ///
    /// # Errors
    /// Nothing was sent.
    pub(super) fn open(&self, request: ::http::Request<()>, is_last: bool) -> Result<ClientStream, http2::StreamError> {
        self.handle.open(request, is_last)
    }

    /// What became of a stream, with what is known of its connection.
    pub(super) fn error(&self, error: http2::StreamError) -> CarrierError {
        match error {
            http2::StreamError::Unprocessed(why) => CarrierError::Refused(why),
            http2::StreamError::Reset(reason) => CarrierError::Reset(reason),
            http2::StreamError::Protocol(what) => CarrierError::Protocol(what),
            http2::StreamError::Connection(what) => {
                let what = match self.handle.end() {
                    Some(ClientEnd::Closed) | None => what,
                    Some(end) => end.to_string(),
                };
                CarrierError::Ended(Some(StreamError::Io(io::Error::new(io::ErrorKind::ConnectionReset, what))))
            }
        }
    }
}

/// The right to one stream of a connection, for as long as it lives.
pub(super) struct StreamPlace {
    connection: Rc<SharedConnection>,
    is_reused: bool,
}

impl StreamPlace {
    pub(super) fn take(connection: Rc<SharedConnection>, limits: Option<&PoolLimits>) -> Self {
        let is_reused = connection.requests.get() > 0;
        connection.requests.set(connection.requests.get().saturating_add(1));
        connection.streams.set(connection.streams.get() + 1);
        connection.listed.stream_begins();
        connection.idle_timeout.set(limits.map_or(POOLED_IDLE, |limits| limits.http_idle_timeout));
        Self { connection, is_reused }
    }

    pub(super) fn connection(&self) -> &Rc<SharedConnection> {
        &self.connection
    }

    /// Whether an earlier request used the connection.
    pub(super) fn is_reused(&self) -> bool {
        self.is_reused
    }
}

impl Drop for StreamPlace {
    fn drop(&mut self) {
        let connection = &self.connection;
        connection.streams.set(connection.streams.get() - 1);
        connection.listed.stream_ends();
        connection.idle_since.set(crate::io::now());
        if let Some(share) = &connection.share {
            share.release();
        }
    }
}
