//! A connection in use by one request: what is kept of it for the next, and whose identity it carries.
//!
//! It knows neither where idle connections wait nor who takes them back.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::balance::Balancer;
use super::pool::Idle;
use crate::policy::{POOLED_IDLE, PoolLimits};

/// An HTTP/1 connection in use by one request, with what is needed to keep it afterwards.
pub struct InUse<'u> {
    /// Boxed, once for all its requests: a request hands it on a dozen times.
    pub(super) connection: Box<Idle>,
    pub(super) bond: Bond,
    /// Bytes that had left for the server before this request.
    pub(super) sent_before: u64,
    pub(super) _active: Active<'u>,
}

impl<'u> InUse<'u> {
    pub(super) fn new(mut connection: Box<Idle>, active: Active<'u>) -> Self {
        connection.requests += 1;
        Self { connection, bond: Bond::Free, sent_before: 0, _active: active }
    }

    /// Whether an earlier request used it: the server may have closed it while this one was on its way.
    pub(super) fn is_reused(&self) -> bool {
        self.connection.requests > 1
    }
}

/// One request to an address in the load balancer's count, for as long as it lives.
pub(super) struct Active<'u> {
    balancer: &'u RefCell<Balancer>,
    address: SocketAddr,
}

impl<'u> Active<'u> {
    pub(super) fn begin(balancer: &'u RefCell<Balancer>, address: SocketAddr) -> Self {
        balancer.borrow_mut().begin(address);
        Self { balancer, address }
    }
}

impl Drop for Active<'_> {
    fn drop(&mut self) {
        self.balancer.borrow_mut().end(self.address);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_counts_as_long_as_it_lives() {
        let (balancer, address) = (RefCell::new(Balancer::new(1)), SocketAddr::from(([192, 0, 2, 1], 443)));
        let counted = || balancer.borrow().active(address);
        let first = Active::begin(&balancer, address);
        let second = Active::begin(&balancer, address);
        assert_eq!(counted(), 2);
        drop(first);
        assert_eq!(counted(), 1);
        drop(second);
        assert_eq!(counted(), 0);
    }
}
