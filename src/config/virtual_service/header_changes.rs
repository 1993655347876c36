//! `headers` of a route or of one of its destinations.

use crate::config::reader::{Field, Object, Report};
use crate::config::yaml::quoted;

/// Changes of header fields: first what is removed, then what is set (replacing) and added. Names are valid tokens that
/// frame no message, values have no control characters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderChanges {
    pub set: Vec<(String, String)>,
    pub add: Vec<(String, String)>,
    pub remove: Vec<String>,
}

/// Names whose fields egret writes or reads itself: changing them would change where a message ends, or to whom it goes.
const KEPT: [&str; 12] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
];

pub(super) fn read_both(object: &mut Object<'_>, report: &mut Report) -> (HeaderChanges, HeaderChanges) {
    let Some(mut headers) = object.optional("headers").and_then(|field| field.object(report)) else {
        return Default::default();
    };
    let request = headers.optional("request").and_then(|field| read_changes(&field, report)).unwrap_or_default();
    let response = headers.optional("response").and_then(|field| read_changes(&field, report)).unwrap_or_default();
    headers.finish(report);
    (request, response)
}

fn read_changes(field: &Field<'_>, report: &mut Report) -> Option<HeaderChanges> {
    let mut object = field.object(report)?;
    let set = object.optional("set").map(|field| read_fields(&field, report)).unwrap_or_default();
    let add = object.optional("add").map(|field| read_fields(&field, report)).unwrap_or_default();
    let mut remove = Vec::new();
    for item in object.optional("remove").map(|field| field.list(usize::MAX, report)).unwrap_or_default() {
        let Some(name) = item.word(report) else { continue };
        if let Err(message) = field_name(name) {
            item.error(message, report);
        }
        remove.push(name.to_owned());
    }
    object.finish(report);
    Some(HeaderChanges { set, add, remove })
}

fn read_fields(field: &Field<'_>, report: &mut Report) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (entry, value) in field.entries(report) {
        if let Err(message) = field_name(&entry.key) {
            value.key_error(message, report);
        }
        let Some(text) = value.text(report) else { continue };
        if !text.chars().all(|c| c == '\t' || !c.is_control()) {
            value.error("a header field's value has no control characters", report);
        }
        if text.contains('%') {
            value.error("Envoy's %…% formats are not supported in header fields; write the value out", report);
        }
        found.push((entry.key.clone(), text.trim().to_owned()));
    }
    found
}

fn field_name(name: &str) -> Result<(), String> {
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if KEPT.iter().any(|kept| kept.eq_ignore_ascii_case(name)) || name.eq_ignore_ascii_case(":authority") {
        let hint =
            if name.eq_ignore_ascii_case("host") || name.starts_with(':') { "; use rewrite.authority" } else { "" };
        return Err(format!("{} may not be changed here{hint}", quoted(name)));
    }
    if name.is_empty() || !name.bytes().all(is_token) {
        return Err(format!("{} is not the name of a header field", quoted(name)));
    }
    Ok(())
}
