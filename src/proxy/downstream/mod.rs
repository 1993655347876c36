//! Where requests come from: the application's side of an exchange.
//!
//! A protocol hands the exchange an [`Incoming`] for each request, and keeps to itself how its connection goes on between
//! them.

mod answered;
mod http1;
mod http1_body;
mod http1_reply;
mod http2;
mod http2_answer;
mod http2_body;
mod http2_reply;
mod incoming;

pub use answered::Answered;
pub use http1::{reject_unfinished, rest, serve as serve_http1};
pub use http2::serve as serve_http2;
pub use incoming::{Incoming, Reply, RequestBody};
