//! `fault` of an HTTP route: delays and refusals on purpose.

use std::time::Duration;

use crate::config::reader::{Field, Object, Report};

/// Faults made on purpose; shares are in parts per million of requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fault {
    pub delay: Option<(Duration, u32)>,
    pub abort: Option<(u16, u32)>,
}

/// The names of gRPC's codes, and the HTTP status that Envoy answers in their stead to requests that are not gRPC
/// (`Grpc::Utility::grpcToHttpStatus`; the table of google.rpc.Code).
const GRPC_STATUSES: &[(&str, u16)] = &[
    ("OK", 200),
    ("CANCELLED", 499),
    ("UNKNOWN", 500),
    ("INVALID_ARGUMENT", 400),
    ("DEADLINE_EXCEEDED", 504),
    ("NOT_FOUND", 404),
    ("ALREADY_EXISTS", 409),
    ("PERMISSION_DENIED", 403),
    ("RESOURCE_EXHAUSTED", 429),
    ("FAILED_PRECONDITION", 400),
    ("ABORTED", 409),
    ("OUT_OF_RANGE", 400),
    ("UNIMPLEMENTED", 501),
    ("INTERNAL", 500),
    ("UNAVAILABLE", 503),
    ("DATA_LOSS", 500),
    ("UNAUTHENTICATED", 401),
];

pub(super) fn read(field: &Field<'_>, report: &mut Report) -> Option<Fault> {
    let mut object = field.object(report)?;
    let delay = object.optional("delay").and_then(|field| {
        let mut object = field.object(report)?;
        let share = read_share(&mut object, report);
        let duration: Option<Duration> = object.optional("fixedDelay").and_then(|field| field.duration(report));
        if !object.has("fixedDelay") {
            object.warning("without fixedDelay it has no effect", report);
        }
        object.finish(report);
        Some((duration?, share))
    });
    let abort = object.optional("abort").and_then(|field| read_abort(&field, report));
    object.finish(report);
    Some(Fault { delay, abort })
}

fn read_abort(field: &Field<'_>, report: &mut Report) -> Option<(u16, u32)> {
    let mut object = field.object(report)?;
    let share = read_share(&mut object, report);
    let http = object.optional("httpStatus").and_then(|field| field.whole(&(200..=599), report));
    let grpc = object.optional("grpcStatus").and_then(|field| field.choice(GRPC_STATUSES, report));
    match (object.has("httpStatus"), object.has("grpcStatus")) {
        (true, true) => object.error("only one of httpStatus and grpcStatus may be set", report),
        (false, false) => object.warning("without httpStatus or grpcStatus it has no effect", report),
        _ => {}
    }
    object.finish(report);
    let status = http.and_then(|status| u16::try_from(status).ok()).or(grpc)?;
    Some((status, share))
}

/// In parts per million; all, if nothing is said.
fn read_share(object: &mut Object<'_>, report: &mut Report) -> u32 {
    const ALL: u32 = 1_000_000;
    let whole = object.optional("percent").and_then(|field| field.whole(&(0..=100), report));
    let exact = object.optional("percentage").and_then(|field| {
        let mut object = field.object(report)?;
        let value = object.optional("value").and_then(|field| field.number(&(0.0..=100.0), report));
        object.finish(report);
        value
    });
    match (exact, whole) {
        (Some(exact), _) => (exact * 10_000.0).round() as u32,
        (None, Some(whole)) => whole as u32 * 10_000,
        (None, None) => ALL,
    }
}
