//! Connections to servers that one connection of an application has for itself.
//!
//! NTLM, Negotiate (RFC 4559) and Kerberos authenticate the TCP connection: whatever travels over it afterwards is that
//! user's. So such a connection never sees the pool: it is taken from here by the application's connection that it belongs
//! to, and ends with it, as it would without a proxy. This module does not read HTTP: its caller says what was asked for.

use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::Upstreams;
use super::carrier::Carrier;
use super::in_use::{Bond, InUse, expiry};
use super::pool::{Idle, PoolKey};
use super::stream::IdleState;
use super::target::{Security, Target};
use crate::io;
use crate::tls::AlpnProtocol;

/// Most of them that one connection of an application keeps; the oldest goes first. An application that speaks to more
/// hosts than this through one connection has to authenticate to the oldest again.
const MAX_RESERVED: usize = 8;

/// What one connection of an application has for itself. Nothing mostly, so that it is small.
#[derive(Default)]
pub struct Reserved(Vec<Reservation>);

struct Reservation {
    connection: Box<Idle>,
    bond: Bond,
    expires: Instant,
}

/// The connection that carried the application's identity is over; whoever waits for it has to begin again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BondEnded;

impl Reserved {
    /// Until when all of them may be kept; `None` when there are none.
    #[must_use]
    pub fn expires(&self) -> Option<Instant> {
        self.0.iter().map(|entry| entry.expires).min()
    }

    /// Ready when one has ended that carries the application's identity. Those that carry none are let go.
    pub fn poll_ended(&mut self, task: &mut Context<'_>) -> Poll<()> {
        let mut at = 0;
        while let Some(entry) = self.0.get(at) {
            if entry.connection.stream.poll_spent(task).is_pending() {
                at += 1;
            } else if entry.bond == Bond::Authenticated {
                return Poll::Ready(());
            } else {
                self.0.remove(at).connection.stream.close();
            }
        }
        Poll::Pending
    }

    fn push(&mut self, entry: Reservation) {
        if self.0.len() >= MAX_RESERVED {
            self.0.remove(0).connection.stream.close();
        }
        self.0.push(entry);
    }

    /// The one that leads to an address of `target` in the way that the policy of this moment wants.
    fn take(&mut self, target: &Target<'_>, security: &Security<'_>) -> Option<Reservation> {
        if self.0.is_empty() {
            return None;
        }
        let leads = |entry: &Reservation| {
            let address = entry.connection.key.address();
            let mut is_one = false;
            target.each_address(|other, _| is_one |= other == address);
            // What was offered may have been more: where the server chooses, credentials are sent in HTTP/1.1 alone.
            is_one
                && entry.connection.key.is_same_in_http1(&PoolKey::new(address, security, target, AlpnProtocol::Http1))
        };
        // The newest first: should there be two, it is the one whose handshake goes on.
        let at = self.0.iter().rposition(leads)?;
        Some(self.0.remove(at))
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        for entry in self.0.drain(..) {
            entry.connection.stream.close();
        }
    }
}

impl Upstreams {
    /// The connection to `target` that the application has for itself, whichever endpoint would be chosen now.
    ///
    /// # Errors
    /// There was one that carried its identity, and it has ended.
    pub fn lend_reserved(
        &self,
        reserved: &mut Reserved,
        target: &Target<'_>,
        security: &Security<'_>,
    ) -> Result<Option<Carrier<'_>>, BondEnded> {
        while let Some(entry) = reserved.take(target, security) {
            // Asked of the kernel: it cannot be sent again elsewhere.
            if entry.expires > io::now() && entry.connection.stream.idle_state_now() == IdleState::Usable {
                let used = self.used(entry.connection);
                return Ok(Some(Carrier::Http1(InUse { bond: entry.bond, ..used })));
            }
            entry.connection.stream.close();
            if entry.bond == Bond::Authenticated {
                return Err(BondEnded);
            }
        }
        Ok(None)
    }

    /// Keeps a connection for the application's connection alone, for as long as it may be idle; false when it may not.
    /// `maxRequestsPerConnection` is not asked: it would cut handshakes in two.
    pub fn reserve(
        &self,
        carrier: Carrier<'_>,
        target: &Target<'_>,
        keeps_for: Option<Duration>,
        reserved: &mut Reserved,
    ) -> bool {
        // Nothing of HTTP/2 is ever bound to one application: its connections serve many.
        let Carrier::Http1(used) = carrier else { return false };
        let now = io::now();
        let (expires, bond) = (expiry(now, used.connection.since, target.limits(), keeps_for), used.bond);
        if expires <= now {
            used.connection.stream.close();
            return false;
        }
        reserved.push(Reservation { connection: used.connection, bond, expires });
        true
    }
}

#[cfg(test)]
#[path = "tests/reserved.rs"]
mod tests;
