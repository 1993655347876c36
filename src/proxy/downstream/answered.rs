//! What an answer in a server's stead became on the wire.

use crate::grpc::Status;

/// How an application was told of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answered {
    /// By the status of HTTP.
    Http,
    /// By this status of gRPC, in a response whose status of HTTP is 200.
    Grpc(Status),
}
