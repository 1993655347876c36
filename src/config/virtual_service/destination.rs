//! `route`: where requests or connections go. Whether a destination exists is not known here; that is `policy`'s concern.

use super::header_changes::{HeaderChanges, Headers};
use crate::config::destination_rule::subset_name;
use crate::config::names;
use crate::config::problem::Location;
use crate::config::reader::{Field, Object, Report};
use crate::flow::Hostname;

#[derive(Clone, Debug)]
pub struct Destination {
    pub host: Hostname,
    pub port: Option<u16>,
    pub subset: Option<String>,
    pub weight: u32,
    pub request: HeaderChanges,
    pub response: HeaderChanges,
    /// Whom requests that go here are for, instead of `rewrite.authority`.
    pub authority: Option<String>,
    pub at: Location,
}

/// `changes` reads what a destination changes of header fields: nothing where none are seen.
pub(super) fn read_all(
    field: &Field<'_>,
    changes: impl Fn(&mut Object<'_>, &mut Report) -> Headers,
    report: &mut Report,
) -> Option<Vec<Destination>> {
    let items = field.list(usize::MAX, report);
    let (count, only) = (items.len(), items.len() == 1);
    let mut found = Vec::new();
    for item in items {
        let Some(mut object) = item.object(report) else { continue };
        let to = object.required("destination").and_then(|field| read_destination(&field, report));
        let weight = object.optional("weight").and_then(|field| field.whole(&(0..=i64::from(u32::MAX)), report));
        let Headers { request, response, authority } = changes(&mut object, report);
        object.finish(report);
        let weight = weight.and_then(|weight| u32::try_from(weight).ok()).unwrap_or(0);
        let weight = if only { weight.max(1) } else { weight };
        let Some((host, port, subset)) = to else { continue };
        let at = report.location(item.at());
        found.push(Destination { host, port, subset, weight, request, response, authority, at });
    }
    // What could not be read has been complained of.
    if found.len() < count {
        return None;
    }
    if found.iter().all(|to| to.weight == 0) {
        field.error("at least one destination needs a weight above 0", report);
        return None;
    }
    Some(found)
}

/// `destination` alone, as copies have it.
pub(super) fn read_bare(field: &Field<'_>, report: &mut Report) -> Option<Destination> {
    let (host, port, subset) = read_destination(field, report)?;
    let (request, response) = (HeaderChanges::default(), HeaderChanges::default());
    let at = report.location(field.at());
    Some(Destination { host, port, subset, weight: 1, request, response, authority: None, at })
}

type To = (Hostname, Option<u16>, Option<String>);

fn read_destination(field: &Field<'_>, report: &mut Report) -> Option<To> {
    let mut object = field.object(report)?;
    let host = object.required("host").and_then(|field| {
        let text = field.word(report)?;
        names::host_name(text, text).map_err(|message| field.error(message, report)).ok()
    });
    let port = object.optional("port").and_then(|field| {
        let mut object = field.object(report)?;
        let number = object.required("number").and_then(|field| field.port(report));
        object.finish(report);
        number
    });
    let subset = object.optional_text("subset", report).and_then(|(field, _)| subset_name(&field, report));
    object.finish(report);
    Some((host?, port, subset))
}
