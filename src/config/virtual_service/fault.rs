//! `fault` of an HTTP route: delays and refusals on purpose.

use std::time::Duration;

use crate::config::reader::{Field, Object, Report, Shape};

/// Faults made on purpose; shares are in parts per million of requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fault {
    pub delay: Option<(Duration, u32)>,
    pub abort: Option<(u16, u32)>,
}

pub(super) fn read(field: &Field<'_>, report: &mut Report) -> Option<Fault> {
    let mut object = field.object(report)?;
    let delay = object.optional("delay").and_then(|field| {
        let mut object = field.object(report)?;
        let share = read_share(&mut object, report);
        let duration: Option<Duration> = object.required("fixedDelay").and_then(|field| field.duration(report));
        object.finish(report);
        Some((duration?, share))
    });
    let abort = object.optional("abort").and_then(|field| {
        let mut object = field.object(report)?;
        let share = read_share(&mut object, report);
        object.unsupported("grpcStatus", Shape::Word, report);
        let status = object.required("httpStatus").and_then(|field| field.whole(&(200..=599), report));
        object.finish(report);
        Some((u16::try_from(status?).ok()?, share))
    });
    object.finish(report);
    Some(Fault { delay, abort })
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
