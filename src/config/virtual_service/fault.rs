//! `fault` of an HTTP route: delays and refusals on purpose.

use std::fmt;
use std::time::Duration;

use crate::config::reader::{Field, Object, Report};
use crate::grpc;

/// Faults made on purpose; shares are in parts per million of requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fault {
    pub delay: Option<(Duration, u32)>,
    pub abort: Option<(Abort, u32)>,
}

/// The answer to a request that is refused on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Abort {
    Http(u16),
    Grpc(grpc::Status),
}

impl fmt::Display for Abort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(status) => status.fmt(f),
            Self::Grpc(status) => write!(f, "grpc-status {} ({status})", status.code()),
        }
    }
}

pub(super) fn read(field: &Field<'_>, report: &mut Report) -> Option<Fault> {
    let mut object = field.object(report)?;
    if !object.has("delay") && !object.has("abort") {
        object.error("must have at least one of delay and abort", report);
    }
    let delay = object.optional("delay").and_then(|field| {
        let mut object = field.object(report)?;
        let share = read_share(&mut object, report);
        let duration: Option<Duration> =
            object.optional("fixedDelay").and_then(|field| field.at_least_a_millisecond(report));
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

fn read_abort(field: &Field<'_>, report: &mut Report) -> Option<(Abort, u32)> {
    let mut object = field.object(report)?;
    let share = read_share(&mut object, report);
    let http = object.optional("httpStatus").and_then(|field| field.whole(&(200..=599), report));
    let grpc = object.optional("grpcStatus").and_then(|field| field.choice(&grpc::Status::NAMES, report));
    match (object.has("httpStatus"), object.has("grpcStatus")) {
        (true, true) => object.error("only one of httpStatus and grpcStatus may be set", report),
        (false, false) => object.warning("without httpStatus or grpcStatus it has no effect", report),
        _ => {}
    }
    object.finish(report);
    let http = http.and_then(|status| u16::try_from(status).ok()).map(Abort::Http);
    Some((http.or(grpc.map(Abort::Grpc))?, share))
}

/// In parts per million.
pub(super) const ALL: u32 = 1_000_000;

/// Whether `share`, in parts per million, falls on the request of this random number.
#[must_use]
pub fn falls_on(share: u32, random: u64) -> bool {
    random % u64::from(ALL) < u64::from(share)
}

/// Per cent in parts per million.
pub(super) fn parts(percent: f64) -> u32 {
    (percent * 10_000.0).round() as u32
}

/// In parts per million; all, if nothing is said.
fn read_share(object: &mut Object<'_>, report: &mut Report) -> u32 {
    let whole = object.optional("percent").and_then(|field| field.whole(&(0..=100), report));
    let exact = object.optional("percentage").and_then(|field| {
        let mut object = field.object(report)?;
        let value = object.optional("value").and_then(|field| {
            let value = field.number(&(0.0..=100.0), report)?;
            if value > 0.0 && value < 0.0001 {
                field.error("must be 0, or at least 0.0001", report);
            }
            Some(value)
        });
        object.finish(report);
        value
    });
    match (exact, whole) {
        (Some(exact), _) => parts(exact),
        (None, Some(whole)) => whole as u32 * 10_000,
        (None, None) => ALL,
    }
}
