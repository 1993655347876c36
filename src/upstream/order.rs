//! The addresses that one request may try, in turn. It does not know who put them in order.

use std::net::SocketAddr;
use std::ops::Deref;

/// Most endpoints tried for one request: the first and Istio's default of two retries after a failed connect.
pub const MAX_ATTEMPTS: usize = 3;

/// The addresses to try for one request, in turn. Made for every request, so without an allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    addresses: [SocketAddr; MAX_ATTEMPTS],
    length: usize,
}

impl Order {
    /// At most [`MAX_ATTEMPTS`] of `addresses`; those that follow are left out.
    pub(super) fn of(addresses: impl IntoIterator<Item = SocketAddr>) -> Self {
        let mut order = Self { addresses: [SocketAddr::from(([0, 0, 0, 0], 0)); MAX_ATTEMPTS], length: 0 };
        for address in addresses.into_iter().take(MAX_ATTEMPTS) {
            order.addresses[order.length] = address;
            order.length += 1;
        }
        order
    }

    /// `address` as the next; there is room for it.
    pub(super) fn push(&mut self, address: SocketAddr) {
        self.addresses[self.length] = address;
        self.length += 1;
    }
}

impl Deref for Order {
    type Target = [SocketAddr];

    fn deref(&self) -> &[SocketAddr] {
        &self.addresses[..self.length]
    }
}
