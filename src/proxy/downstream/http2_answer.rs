//! Answers in a server's stead on a stream of HTTP/2. A gRPC client reads its own status there, and none of HTTP.

use std::time::SystemTime;

use super::answered::Answered;
use crate::grpc;
use crate::http::{ReplyOptions, Version, local_reply_with};
use crate::http2::{Reason, Responder, outgoing_response};
use crate::proxy::failure::Failure;

/// Sends the answer that tells of `failure`. `is_call`: the request is a gRPC call; `is_head`: it wants no body.
pub fn send(responder: &Responder, failure: &Failure, is_call: bool, is_head: bool) -> Answered {
    if is_call { answer_call(responder, failure) } else { answer_request(responder, failure, is_head) }
}

fn answer_request(responder: &Responder, failure: &Failure, is_head: bool) -> Answered {
    let now = SystemTime::now();
    let options = ReplyOptions { version: Version::Http11, keep_alive: true, head_request: is_head, now };
    let fields: Vec<_> = failure.fields.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    let reply = local_reply_with(failure.status, &fields, &failure.body, options);
    let length = reply.windows(4).position(|end| end == b"\r\n\r\n").map_or(reply.len(), |at| at + 4);
    send_parts(responder, &reply[..length], &reply[length..]);
    Answered::Http
}

/// The answer to a call: trailers alone, as gRPC names a response whose status stands in its head.
fn answer_call(responder: &Responder, failure: &Failure) -> Answered {
    let status = failure.grpc_status();
    let mut head = b"HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\n".to_vec();
    let mut field = |name: &[u8], value: &[u8]| {
        for part in [name, b": ", value, b"\r\n"] {
            head.extend_from_slice(part);
        }
    };
    field(b"grpc-status", status.code().to_string().as_bytes());
    let message = grpc::encode_message(&failure.body);
    if !message.is_empty() {
        field(b"grpc-message", &message);
    }
    failure.fields.iter().for_each(|(name, value)| field(name.as_bytes(), value.as_bytes()));
    head.extend_from_slice(b"\r\n");
    send_parts(responder, &head, b"");
    Answered::Grpc(status)
}

fn send_parts(responder: &Responder, head: &[u8], body: &[u8]) {
    let Ok(response) = outgoing_response(head) else { return responder.reset(Reason::INTERNAL_ERROR) };
    if responder.head(response, body.is_empty()).is_ok() && !body.is_empty() {
        // Whoever is gone needs no answer.
        let _ = responder.data(body.to_vec(), true);
    }
}
