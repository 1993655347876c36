//! gRPC over HTTP/2 as far as a proxy must know it: what is a call, how it ends, how long it may take, how many messages
//! it carries (the gRPC project's `PROTOCOL-HTTP2.md` and `statuscodes.md`). Bytes in, values out.
//!
//! It knows neither connections nor frames of HTTP/2, and no message's content.

mod content_type;
mod messages;
mod status;
mod status_message;
mod timeout;

pub use content_type::{is_grpc, is_grpc_web};
pub use messages::MessageCounter;
pub use status::Status;
pub use status_message::encode_message;
pub use timeout::{parse_timeout, write_timeout};
