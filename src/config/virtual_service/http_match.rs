//! `match` of an HTTP route: which requests it takes.
//!
//! A condition that egret does not judge must not make a route take more than its author meant: such a match holds for
//! no request, and says so.

use std::collections::BTreeMap;

use super::gateways;
use super::text_match::{self, TextMatch};
use crate::config::metadata;
use crate::config::reader::{Field, Object, Report};

/// Conditions that must all hold.
#[derive(Clone, Debug, Default)]
pub struct HttpMatch {
    /// Of the path without its query.
    pub uri: Option<TextMatch>,
    pub ignore_uri_case: bool,
    pub method: Option<TextMatch>,
    pub authority: Option<TextMatch>,
    /// What the request came over: plain HTTP, whatever it claims.
    pub scheme: Option<TextMatch>,
    /// By lower-case name.
    pub headers: Vec<(String, TextMatch)>,
    pub without_headers: Vec<(String, TextMatch)>,
    /// Of the query as it was written; the first of a name counts.
    pub query: Vec<(String, TextMatch)>,
    /// The port that the application dials.
    pub port: Option<u16>,
    pub source_labels: BTreeMap<String, String>,
    pub source_namespace: Option<String>,
    pub gateways: Vec<String>,
    /// A condition that egret does not judge stands in it, or one that no sidecar meets: it holds for no request, so
    /// that a route never takes more than its author meant.
    pub never: bool,
}

/// How Istio writes a claim of a token that RequestAuthentication has checked, in place of a header field.
const CLAIMS: &str = "@request.auth.claims";

pub(super) fn read_all(field: &Field<'_>, report: &mut Report) -> Vec<HttpMatch> {
    let mut matches = Vec::new();
    for item in field.list(usize::MAX, report) {
        matches.extend(item.object(report).map(|object| read(object, report)));
    }
    matches
}

fn read(mut object: Object<'_>, report: &mut Report) -> HttpMatch {
    object.allow(&["name", "statPrefix"]);
    let text = |object: &mut Object<'_>, name, report: &mut Report| {
        object.optional(name).and_then(|field| text_match::read(&field, report))
    };
    let ignore_uri_case = object.optional("ignoreUriCase").and_then(|field| field.boolean(report)).unwrap_or(false);
    let mut found = HttpMatch {
        uri: text(&mut object, "uri", report),
        ignore_uri_case,
        method: text(&mut object, "method", report),
        authority: text(&mut object, "authority", report),
        scheme: text(&mut object, "scheme", report),
        headers: headers(&mut object, "headers", report),
        without_headers: headers(&mut object, "withoutHeaders", report),
        query: query(&mut object, report),
        port: object.optional("port").and_then(|field| field.port(report)),
        source_labels: labels(&mut object, report),
        source_namespace: source_namespace(&mut object, report),
        gateways: Vec::new(),
        never: false,
    };
    if let Some(field) = object.optional("gateways") {
        found.gateways = field.words(report);
        found.never = gateways::leave_sidecars_out(&found.gateways);
    }
    object.finish(report);
    found
}

pub(super) fn source_namespace(object: &mut Object<'_>, report: &mut Report) -> Option<String> {
    object.optional_text("sourceNamespace", report).and_then(|(field, _)| metadata::namespace(&field, report))
}

/// By the names as they are written: a query has no other form.
fn query(object: &mut Object<'_>, report: &mut Report) -> Vec<(String, TextMatch)> {
    let Some(field) = object.optional("queryParams") else { return Vec::new() };
    let entries = field.entries(report).into_iter();
    entries.filter_map(|(entry, value)| Some((entry.key.clone(), text_match::read(&value, report)?))).collect()
}

pub(super) fn labels(object: &mut Object<'_>, report: &mut Report) -> BTreeMap<String, String> {
    object.optional("sourceLabels").map(|field| metadata::labels(&field, report)).unwrap_or_default()
}

/// As Istio has them (`ValidateHTTPHeaderName`).
fn is_field_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

fn headers(object: &mut Object<'_>, name: &'static str, report: &mut Report) -> Vec<(String, TextMatch)> {
    let Some(field) = object.optional(name) else { return Vec::new() };
    let mut found = Vec::new();
    for (entry, value) in field.entries(report) {
        if entry.key.starts_with(':') {
            value.key_error("not a header field; use uri, method or authority", report);
        } else if entry.key.to_ascii_lowercase().starts_with(CLAIMS) {
            let message = "JWT claim based routing is only supported for gateways: nobody has checked a token here";
            value.key_error(message, report);
        } else if !is_field_name(&entry.key) {
            value.key_error("not the name of a header field: use letters, digits, '-' and '_'", report);
        } else if let Some(wanted) = text_match::read(&value, report) {
            found.push((entry.key.to_ascii_lowercase(), wanted));
        }
    }
    found
}
