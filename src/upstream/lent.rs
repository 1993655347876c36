//! A connection in use by one request: what is kept of it for the next, and whose identity it carries.
//!
//! It knows neither where idle connections wait nor who takes them back.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::pool::PoolKey;
use super::stream::Stream;
use crate::policy::{POOLED_IDLE, PoolLimits};

/// A connection in use by one request, with what is needed to keep it afterwards.
pub struct Lent {
    pub stream: Stream,
    /// This end's address; `None` when the connection was reset before it could be asked for.
    pub local: Option<SocketAddr>,
    pub(super) key: PoolKey,
    pub(super) requests: u32,
    pub(super) since: Instant,
    pub(super) rested: Duration,
    pub(super) bond: Bond,
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

    #[must_use]
    pub fn bond(&self) -> Bond {
        self.bond
    }

    /// Credentials that authenticate it are about to be sent.
    pub fn note_credentials(&mut self) {
        self.bond = Bond::Authenticated;
    }

    /// An answer has come that asks for such credentials, or that does not.
    pub fn note_answer(&mut self, challenges: bool) {
        self.bond = self.bond.after(challenges);
    }
}

/// Whose a connection is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Bond {
    /// Nobody's: any request may travel over it.
    #[default]
    Free,
    /// Its server has asked for credentials that would authenticate it. Whoever answers must do so over the same
    /// connection; until then it carries no identity.
    Challenged,
    /// It carries, or may carry, somebody's identity, until it ends.
    Authenticated,
}

impl Bond {
    pub(super) fn after(self, challenges: bool) -> Self {
        match (self, challenges) {
            (Bond::Authenticated, _) => Bond::Authenticated,
            (Bond::Free | Bond::Challenged, true) => Bond::Challenged,
            // The offer was not taken up.
            (Bond::Free | Bond::Challenged, false) => Bond::Free,
        }
    }
}

/// Until when a connection made at `since` may wait for its next request. The second less than the server says is for
/// the way: a request that arrives as the server closes would be lost.
pub(super) fn expiry(
    now: Instant,
    since: Instant,
    limits: Option<&PoolLimits>,
    keeps_for: Option<Duration>,
) -> Instant {
    const ON_THE_WAY: Duration = Duration::from_secs(1);
    let idle = limits.map_or(POOLED_IDLE, |limits| limits.http_idle_timeout);
    let announced = keeps_for.map_or(idle, |time| time.saturating_sub(ON_THE_WAY));
    let expires = now + idle.min(announced);
    match limits.and_then(|limits| limits.max_connection_duration) {
        Some(duration) => expires.min(since + duration),
        None => expires,
    }
}
