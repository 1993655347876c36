//! HTTP/2 (RFC 9113) on connections of either side: streams in and out, and heads that look as in HTTP/1.
//!
//! Frames, HPACK and flow control are the `h2` crate's, over anything that reads and writes as tokio's traits say; time and
//! tasks are the engine's. What it adds: every limit has a name ([`Limits`]); a source waits while its stream has much
//! queued; a peer that floods is sent away; header blocks become heads that the strict parsers of [`http`](crate::http)
//! judge, and heads become header blocks.
//!
//! It knows no policy, no pool, and nothing of what requests are for.

mod client;
mod data_joiner;
mod field_size;
mod frame_meter;
mod frame_rules;
mod frame_walker;
mod keepalive;
mod limits;
mod outgoing;
mod outgoing_head;
mod received_body;
mod request_head;
mod responder;
mod response_head;
mod sent_body;
mod server;
mod stream_error;
mod trailers;
mod wire;

#[cfg(test)]
mod tests;

pub use client::{
    ClientConnection, ClientEnd, ClientResponse, ClientStream, Driver, OpenStream, ResponseParts, connect,
};
pub use h2::Reason;
pub use keepalive::KeepaliveClocks;
pub use limits::{FrameBudget, Limits};
pub use outgoing_head::{Unsayable, outgoing_request, outgoing_response, outgoing_trailers};
pub use received_body::{Received, ReceivedBody};
pub use request_head::{Beside, Unfit, canonical_limits, needs_websocket_key, write_request_head};
pub use responder::Responder;
pub use response_head::{AnswerTo, Answered, has_no_body, write_response_head};
pub use sent_body::SentBody;
pub use server::{Incoming, ServerClocks, ServerEnd, Unserved, serve};
pub use stream_error::{StreamError, reason_name};
pub use trailers::trailer_lines;
