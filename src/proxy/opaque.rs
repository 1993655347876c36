//! Bytes carried both ways without being understood, each direction with its own end.

use std::cell::Cell;
use std::time::{Duration, Instant};

use futures_lite::future;

use crate::io;
use crate::proxy::glance::Glance;
use crate::upstream::{StreamError, TunnelEnd, TunnelSink, TunnelSource};

/// Where so many bytes come at once, more will, and large receives pay.
const MUCH: usize = 16 * 1024;

/// From so many bytes on since the other side last spoke they are a stream, and may wait for each other.
const STREAM: usize = 256 * 1024;

/// How a relayed connection ended, and what went over it.
#[derive(Debug)]
pub struct Relayed {
    /// From the application to the upstream, in bytes.
    pub sent: u64,
    /// From the upstream to the application, in bytes.
    pub received: u64,
    pub end: End,
}

#[derive(Debug)]
pub enum End {
    /// Both sides finished.
    Complete,
    /// The application's side failed.
    Client(StreamError),
    /// The upstream's side failed.
    Upstream(StreamError),
    /// Nothing moved for the idle timeout.
    Idle,
    /// The longest allowed duration was reached.
    Duration,
}

/// Limits on time; `None` is no limit.
#[derive(Clone, Copy, Debug, Default)]
pub struct RelayClocks {
    pub idle: Option<Duration>,
    pub duration: Option<Duration>,
}

/// Carries bytes between `client` and `upstream` (what has arrived already included) until both have ended, one
/// has failed, or time is up. A FIN is passed on as a FIN, so a half-closed connection keeps working the other way.
pub async fn relay(client: TunnelEnd<'_, '_>, upstream: TunnelEnd<'_, '_>, clocks: RelayClocks) -> Relayed {
    relay_seen(client, upstream, clocks, &Glance::averted()).await
}

/// As [`relay`]; what the application says first is shown to `glance` while it passes.
pub async fn relay_seen(
    client: TunnelEnd<'_, '_>,
    upstream: TunnelEnd<'_, '_>,
    clocks: RelayClocks,
    glance: &Glance,
) -> Relayed {
    let traffic = Traffic { sent: Cell::new(0), received: Cell::new(0), moved: Cell::new(io::now()) };
    let (near, far) = (client.sink, upstream.sink);
    let averted = Glance::averted();
    let out = async {
        let Traffic { sent, received, moved } = &traffic;
        match pump(client.source, far, sent, received, moved, glance).await {
            Ok(()) => Ok(None),
            Err(PumpError::Reading(error)) => Err(End::Client(error)),
            // An upstream that takes no more may have sent something before: the application gets all of it.
            Err(PumpError::Writing(error)) => Ok(Some(error)),
        }
    };
    let back = async {
        let Traffic { sent, received, moved } = &traffic;
        pump(upstream.source, near, received, sent, moved, &averted).await.map_err(PumpError::on_way_back)
    };
    let both = async {
        match future::try_zip(out, back).await {
            Ok((None, ())) => End::Complete,
            Ok((Some(error), ())) => End::Upstream(error),
            Err(end) => end,
        }
    };
    // An application that has finished sending may still leave, and the server say nothing for long.
    let left = async { End::Client(near.left().await) };
    let end = future::or(both, future::or(left, expire(&traffic.moved, clocks))).await;
    Relayed { sent: traffic.sent.get(), received: traffic.received.get(), end }
}

struct Traffic {
    sent: Cell<u64>,
    received: Cell<u64>,
    moved: Cell<Instant>,
}

/// Which side of one pump failed.
enum PumpError {
    Reading(StreamError),
    Writing(StreamError),
}

impl PumpError {
    fn on_way_back(self) -> End {
        match self {
            PumpError::Reading(error) => End::Upstream(error),
            PumpError::Writing(error) => End::Client(error),
        }
    }
}

/// One direction: `count` is its bytes, `against` those of the other one.
async fn pump(
    mut from: TunnelSource<'_, '_>,
    to: TunnelSink<'_>,
    count: &Cell<u64>,
    against: &Cell<u64>,
    moved: &Cell<Instant>,
    glance: &Glance,
) -> Result<(), PumpError> {
    let (mut heard, mut run) = (0, 0);
    while let Some(bytes) = from.next().await.map_err(PumpError::Reading)? {
        count.set(count.get() + bytes.len() as u64);
        moved.set(io::now());
        if heard != against.get() {
            (heard, run) = (against.get(), 0);
        }
        run += bytes.len();
        if glance.is_open() {
            glance.see(bytes.as_ref());
        }
        from.expect_more(bytes.len() >= MUCH, run >= STREAM);
        to.send(bytes).map_err(PumpError::Writing)?.await.map_err(|e| PumpError::Writing(e.into()))?;
        // A side that takes its bytes slowly is not idle.
        moved.set(io::now());
    }
    to.finish().await.map_err(|e| PumpError::Writing(e.into()))
}

/// Resolves when nothing moved for the idle timeout, or the whole took too long. One timer, however much moves.
pub(super) async fn expire(moved: &Cell<Instant>, clocks: RelayClocks) -> End {
    let started = io::now();
    loop {
        let idle = clocks.idle.map(|idle| moved.get() + idle);
        let duration = clocks.duration.map(|duration| started + duration);
        let now = io::now();
        match (idle, duration) {
            (Some(at), _) if at <= now => return End::Idle,
            (_, Some(at)) if at <= now => return End::Duration,
            (None, None) => future::pending().await,
            (Some(a), Some(b)) => io::sleep_until(a.min(b)).await,
            (Some(at), None) | (None, Some(at)) => io::sleep_until(at).await,
        }
    }
}
