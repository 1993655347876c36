//! Where requests come from: the application's side of an exchange.
//!
//! A protocol hands the exchange an [`Incoming`] for each request, and keeps to itself how its connection goes on between
//! them.

mod http1;
mod http1_body;
mod http1_reply;
mod incoming;

pub use http1::{reject_unfinished, rest, serve};
pub use incoming::{Incoming, Reply, RequestBody};
