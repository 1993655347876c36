//! `retries` of an HTTP route.

use std::time::Duration;

use crate::config::reader::{Field, Report, Shape};
use crate::config::yaml::quoted;
use crate::grpc;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retries {
    /// Tries after the first.
    pub attempts: u32,
    pub per_try_timeout: Option<Duration>,
    pub on: Vec<RetryOn>,
}

/// After what a request is sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryOn {
    ConnectFailure,
    /// The connection broke, or a try timed out, before an answer began.
    Reset,
    /// The same, and no byte of the request had left for the server on that connection.
    ResetBeforeRequest,
    /// 502, 503 and 504, and what [`Reset`](Self::Reset) covers.
    GatewayError,
    /// Any 5xx, and what [`Reset`](Self::Reset) covers.
    ServerError,
    Status(u16),
    /// The server has refused the stream of HTTP/2 without looking at it (`REFUSED_STREAM`).
    RefusedStream,
    /// A call was answered with this status of gRPC, before any message.
    Grpc(grpc::Status),
}

/// Istio's where nothing is said.
pub const RETRY_ON: [RetryOn; 4] = [
    RetryOn::ConnectFailure,
    RetryOn::RefusedStream,
    RetryOn::Grpc(grpc::Status::Unavailable),
    RetryOn::Grpc(grpc::Status::Cancelled),
];

/// Conditions of Envoy that egret does not know.
const UNSUPPORTED: [&str; 3] = ["retriable-headers", "envoy-ratelimited", "http3-post-connect-failure"];

pub(super) fn read(field: &Field<'_>, report: &mut Report) -> Option<Retries> {
    let mut object = field.object(report)?;
    let attempts = object.optional("attempts").and_then(|field| field.whole(&(0..=100), report)).unwrap_or(2);
    let per_try_timeout = object.optional("perTryTimeout").and_then(|field| field.whole_milliseconds(report));
    let mut on = Vec::new();
    if let Some((field, text)) = object.optional_text("retryOn", report) {
        on = text.split(',').map(str::trim).filter_map(|word| retry_on(word, &field, report)).collect();
    } else {
        on.extend(RETRY_ON);
    }
    object.unsupported("retryRemoteLocalities", Shape::Boolean, report);
    object.unsupported("retryIgnorePreviousHosts", Shape::Boolean, report);
    object.unsupported("backoff", Shape::Duration, report);
    object.finish(report);
    let per_try_timeout = per_try_timeout.filter(|timeout| !timeout.is_zero());
    Some(Retries { attempts: u32::try_from(attempts).unwrap_or(0), per_try_timeout, on })
}

fn retry_on(word: &str, field: &Field<'_>, report: &mut Report) -> Option<RetryOn> {
    match word {
        "connect-failure" => Some(RetryOn::ConnectFailure),
        "reset" => Some(RetryOn::Reset),
        "reset-before-request" => Some(RetryOn::ResetBeforeRequest),
        "gateway-error" => Some(RetryOn::GatewayError),
        "5xx" => Some(RetryOn::ServerError),
        // The only one that Envoy takes for it: optimistic locks.
        "retriable-4xx" => Some(RetryOn::Status(409)),
        "refused-stream" => Some(RetryOn::RefusedStream),
        "cancelled" => Some(RetryOn::Grpc(grpc::Status::Cancelled)),
        "deadline-exceeded" => Some(RetryOn::Grpc(grpc::Status::DeadlineExceeded)),
        "internal" => Some(RetryOn::Grpc(grpc::Status::Internal)),
        "resource-exhausted" => Some(RetryOn::Grpc(grpc::Status::ResourceExhausted)),
        "unavailable" => Some(RetryOn::Grpc(grpc::Status::Unavailable)),
        // It only announces a list of codes.
        "retriable-status-codes" | "" => None,
        code if code.parse::<u16>().is_ok_and(|code| (100..600).contains(&code)) => {
            code.parse().ok().map(RetryOn::Status)
        }
        _ if UNSUPPORTED.contains(&word) => {
            field.warning(format!("{} is not supported yet and has no effect", quoted(word)), report);
            None
        }
        _ => {
            field.error(format!("{} is not a valid retryOn policy", quoted(word)), report);
            None
        }
    }
}
