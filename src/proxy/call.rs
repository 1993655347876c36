//! What a gRPC call is beside a request of HTTP: how it ended, and how many messages went each way. Other requests cost a
//! look at their content type.

use std::cell::Cell;
use std::time::Duration;

use crate::grpc::{self, MessageCounter, Status};
use crate::http::ResponseHead;
use crate::observe::GrpcCall;
use crate::proxy::request::Request;
use crate::upstream::{Form, Part};

/// One request, as far as it may be a call.
#[derive(Debug, Default)]
pub struct Call {
    is_grpc: bool,
    status: Cell<Option<Status>>,
    requests: Cell<MessageCounter>,
    responses: Cell<MessageCounter>,
}

impl Call {
    #[must_use]
    pub fn of(request: &Request) -> Self {
        Self { is_grpc: is_call(request), ..Self::default() }
    }

    /// Bytes of the request's body go, in `form`. Between HTTP/1's frames no message is looked for.
    pub fn see_request(&self, form: Form, bytes: &[u8]) {
        self.see(&self.requests, form, bytes);
    }

    /// The same of the response's.
    pub fn see_response(&self, form: Form, bytes: &[u8]) {
        self.see(&self.responses, form, bytes);
    }

    fn see(&self, counter: &Cell<MessageCounter>, form: Form, bytes: &[u8]) {
        if self.is_grpc && form == Form::Data {
            let mut count = counter.get();
            count.see(bytes);
            counter.set(count);
        }
    }

    /// The final response's head, whose bytes are `raw`: in an answer without messages the status stands there.
    pub fn see_head(&self, head: &ResponseHead, raw: &[u8]) {
        if self.is_grpc {
            self.status.set(head.field(raw, "grpc-status").and_then(|value| Status::parse(&value)));
        }
    }

    /// A part of the response's body: its trailers tell the status.
    pub fn see_part(&self, form: Form, part: &Part) {
        match part {
            Part::Bytes(bytes) => self.see_response(form, bytes.as_ref()),
            Part::Trailers(lines) if self.is_grpc => self.status.set(status_of(lines).or(self.status.get())),
            Part::Trailers(_) => {}
        }
    }

    /// The status that the call ended with, as far as it is known.
    #[must_use]
    pub fn status(&self) -> Option<Status> {
        self.status.get()
    }

    #[must_use]
    pub fn is_grpc(&self) -> bool {
        self.is_grpc
    }

    /// For the log and the metrics; `None` where it is no call.
    #[must_use]
    pub fn record(&self) -> Option<GrpcCall> {
        self.is_grpc.then(|| GrpcCall {
            status: self.status.get(),
            request_messages: self.requests.get().count(),
            response_messages: self.responses.get().count(),
        })
    }
}

/// Whether `request` is a call of gRPC.
#[must_use]
pub fn is_call(request: &Request) -> bool {
    request.head.content_type.is_some_and(|at| grpc::is_grpc(at.of(&request.raw)))
}

/// How long its client waits for a call (`grpc-timeout`); `None` where it does not say, or waits for ever.
#[must_use]
pub fn timeout(request: &Request) -> Option<Duration> {
    // Asked first: it was noted as the head was read, and every request is asked.
    if !is_call(request) {
        return None;
    }
    let value = request.head.field(&request.raw, "grpc-timeout")?;
    grpc::parse_timeout(&value).filter(|timeout| !timeout.is_zero())
}

/// The status in trailers.
fn status_of(lines: &[u8]) -> Option<Status> {
    lines.split(|&byte| byte == b'\n').find_map(|line| {
        let colon = line.iter().position(|&byte| byte == b':')?;
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        if name.eq_ignore_ascii_case(b"grpc-status") { Status::parse(value.trim_ascii()) } else { None }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_in_trailers() {
        for (lines, expected) in [
            ("grpc-status: 14\r\ngrpc-message: no\r\n", Some(Status::Unavailable)),
            ("x: y\r\nGrpc-Status:0\r\n", Some(Status::Ok)),
            ("grpc-message: 14\r\n", None),
            ("grpc-status: x\r\n", None),
            ("", None),
        ] {
            assert_eq!(status_of(lines.as_bytes()), expected, "{lines:?}");
        }
    }
}
