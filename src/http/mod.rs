//! HTTP/1 on the wire: heads, body framing, local replies (RFC 9110, RFC 9112). Bytes in, values out; no sockets.
//!
//! A proxy that forwards bytes untouched must never forward bytes that two readers could understand in two ways. So
//! what is accepted here is narrower than what servers accept: exact line ends, one length, one host, no folding. All
//! else is refused with a status, and what is accepted goes on exactly as it was written, hop-by-hop fields apart. Answers of old
//! servers are taken more liberally (`lenient_head`, `lenient_body`): what they mean is written anew, and judged as strictly.
//!
//! This module knows nothing of policy, connections or time; `proxy` holds the state of an exchange.

mod body;
mod body_length;
mod chunks;
mod date;
mod edits;
mod error;
mod fields;
mod forward;
mod grammar;
mod head;
mod lenient_body;
mod lenient_head;
mod method;
mod path;
mod recent;
mod reply;
mod request;
mod response;
pub(crate) mod scan;
mod schemes;
mod target;
mod trailer;
mod values;
mod websocket;

#[cfg(test)]
#[path = "tests/corpus.rs"]
mod corpus;

pub use body::{BodyScanner, Chunk};
pub use body_length::BodyLength;
pub use chunks::{CHUNK_END, chunk_start, last_chunk};
pub use date::CivilTime;
pub use edits::{FieldEdits, RequestEdits, RouterEdits};
pub use error::{BodyError, HeadError, RequestError, ResponseError};
pub use head::{HeadLimits, Parsed, Span, Version};
pub use lenient_body::{AnswerBody, Passed};
pub use lenient_head::{Answer, Doubt, parse_answer};
pub use method::Method;
pub use path::{AmbiguousPath, normal_path, parameterless_path, query_parameter, split_query};
pub use reply::{ReplyOptions, local_reply, local_reply_with, reason_phrase};
pub use request::{RequestHead, first_line, parse_request};
pub use response::{ClientContext, Delivery, RequestContext, ResponseHead, parse_response};
pub use target::TargetForm;
pub use trailer::is_trailer_field;
pub use values::any_value;
pub use websocket::{websocket_accept, websocket_key};
