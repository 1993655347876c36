//! What a stream, or a connection whose version of HTTP the server chooses, is asked for by. It knows no pool.

use std::net::SocketAddr;

use super::connect::Clocks;
use super::pool::{PoolKey, Reuse};
use super::target::{Security, Spoken, Target};
use crate::tls::AlpnProtocol;

/// What a connection is asked for by.
#[derive(Clone, Copy)]
pub(super) struct Wish<'w> {
    pub(super) target: &'w Target<'w>,
    pub(super) security: &'w Security<'w>,
    pub(super) clocks: &'w Clocks,
    pub(super) reuse: Reuse,
    pub(super) spoken: Spoken,
}

impl Wish<'_> {
    pub(super) fn key(&self, address: SocketAddr, protocol: AlpnProtocol) -> PoolKey {
        PoolKey::new(address, self.security, self.target, protocol)
    }

    /// A connection that its credentials authenticate is nobody else's.
    pub(super) fn is_shared(&self) -> bool {
        self.reuse != Reuse::Never
    }

    /// Those of `rivals` whose connections will do: of the first, or of the same servers by the other family, against which
    /// the load balancer has not chosen. What a hash promises is one address.
    pub(super) fn asked<'r>(&self, rivals: &'r [SocketAddr]) -> impl Iterator<Item = &'r SocketAddr> {
        let is_free = self.target.choice().hash.is_none();
        let first = rivals.first();
        rivals.iter().filter(move |address| {
            first.is_some_and(|first| *address == first || (is_free && address.is_ipv6() != first.is_ipv6()))
        })
    }
}
