//! The DNS listener: what the pod's applications ask, answered from the table of listed names or passed on.
//!
//! It lives on the control thread, since a query is no request: it may wait and allocate. It listens on loopback alone,
//! where the redirect sends what applications ask of their name servers; its own queries leave with the proxy's uid, which
//! the redirect lets pass, so that it never asks itself. Everything is bounded: queries that wait, connections, sizes.

mod account;
mod forwarder;
mod listed;
mod listener;
mod names;
mod proxy;
mod refusals;
mod routes;
mod sockets;
mod state_file;
mod stats;
mod tcp;
mod transport;
mod udp;

pub use self::account::{DnsAccount, NameAccount};
pub use self::listed::Listed;
pub use self::listener::{DnsBindError, DnsSockets};
pub use self::names::{Names, Unlisted};
pub use self::proxy::{DnsProxy, MAX_IN_FLIGHT};
pub use self::state_file::{StateFile, StateFileError};
pub use self::transport::NameServerTransport;
