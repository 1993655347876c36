//! `mirror` and `mirrors` of an HTTP route: where copies of its requests go, whose answers nobody reads.

use super::destination::{self, Destination};
use super::fault::{ALL, parts};
use crate::config::reader::{Field, Object, Report};

/// Where copies go.
#[derive(Clone, Debug)]
pub struct Mirror {
    pub to: Destination,
    /// Of the requests, in parts per million.
    pub share: u32,
}

pub(super) fn read_all(object: &mut Object<'_>, report: &mut Report) -> Vec<Mirror> {
    let mut found = Vec::new();
    let single = object.optional("mirror");
    // The newer of three forms counts, as in Istio.
    let exact = object.optional("mirrorPercentage").and_then(|field| percentage(&field, report));
    let whole = ["mirrorPercent", "mirror_percent"].map(|name| {
        object.optional(name).and_then(|field| field.whole(&(0..=100), report)).map(|percent| percent as u32 * 10_000)
    });
    let share = exact.or(whole[0]).or(whole[1]).unwrap_or(ALL);
    if let Some(field) = &single {
        found.extend(destination::read_bare(field, report).map(|to| Mirror { to, share }));
    }
    if let Some(list) = object.optional("mirrors") {
        if single.is_some() {
            list.key_error("only one of mirror and mirrors may be set", report);
        }
        for item in list.list(usize::MAX, report) {
            let Some(mut object) = item.object(report) else { continue };
            let to = object.required("destination").and_then(|field| destination::read_bare(&field, report));
            let share = object.optional("percentage").and_then(|field| percentage(&field, report)).unwrap_or(ALL);
            object.finish(report);
            found.extend(to.map(|to| Mirror { to, share }));
        }
    }
    found.retain(|mirror| mirror.share > 0);
    found
}

fn percentage(field: &Field<'_>, report: &mut Report) -> Option<u32> {
    let mut object = field.object(report)?;
    let value = object.optional("value").and_then(|field| field.number(&(0.0..=100.0), report));
    object.finish(report);
    Some(parts(value.unwrap_or(0.0)))
}
