//! `headers` of a route or of one of its destinations.

use super::header_format::{FormattedField, HeaderFormat};
use crate::config::reader::{Field, Object, Report};
use crate::config::yaml::quoted;
use crate::flow::Authority;

/// Changes of header fields: first what is removed, then what is set (replacing) and added. Names are valid tokens that
/// frame no message, values have no control characters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderChanges {
    pub set: Vec<(String, String)>,
    pub add: Vec<(String, String)>,
    pub remove: Vec<String>,
    /// Those with Envoy's operators in them.
    pub formatted: Vec<FormattedField>,
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

/// The changes that `headers` asks for. A `Host` among those of the request is no field to change but who is asked.
#[derive(Debug, Default)]
pub(super) struct Headers {
    pub request: HeaderChanges,
    pub response: HeaderChanges,
    /// As in `rewrite.authority`.
    pub authority: Option<String>,
}

pub(super) fn read_all(object: &mut Object<'_>, report: &mut Report) -> Headers {
    let Some(mut headers) = object.optional("headers").and_then(|field| field.object(report)) else {
        return Headers::default();
    };
    let request = headers.optional("request").and_then(|field| read_changes(&field, true, report)).unwrap_or_default();
    let response =
        headers.optional("response").and_then(|field| read_changes(&field, false, report)).unwrap_or_default();
    headers.finish(report);
    Headers { request: request.0, response: response.0, authority: request.1 }
}

type Changes = (HeaderChanges, Option<String>);

fn read_changes(field: &Field<'_>, of_request: bool, report: &mut Report) -> Option<Changes> {
    let mut object = field.object(report)?;
    let mut authority = None;
    let mut fields = |name, adds, report: &mut Report| {
        let Some(field) = object.optional(name) else { return Fields::default() };
        read_fields(&field, adds, of_request.then_some(&mut authority), report)
    };
    let ((set, replacing), (add, mut formatted)) = (fields("set", false, report), fields("add", true, report));
    formatted.splice(0..0, replacing);
    let mut remove = Vec::new();
    for item in object.optional("remove").map(|field| field.list(usize::MAX, report)).unwrap_or_default() {
        let Some(name) = item.word(report) else { continue };
        if let Err(message) = field_name(name) {
            item.error(message, report);
        }
        remove.push(name.to_owned());
    }
    object.finish(report);
    Some((HeaderChanges { set, add, remove, formatted }, authority))
}

/// As they are, and with operators.
type Fields = (Vec<(String, String)>, Vec<FormattedField>);

/// `authority`: where a `Host` goes, which a request has.
fn read_fields(
    field: &Field<'_>,
    adds: bool,
    mut authority: Option<&mut Option<String>>,
    report: &mut Report,
) -> Fields {
    let (mut found, mut formatted) = Fields::default();
    for (entry, value) in field.entries(report) {
        let names_host = entry.key.eq_ignore_ascii_case("host") || entry.key.eq_ignore_ascii_case(":authority");
        if let (Some(authority), true) = (&mut authority, names_host) {
            let read = read_authority(&value, report);
            if authority.is_some() {
                value.key_error("only one of Host and :authority may be set", report);
            }
            **authority = read.or(authority.take());
            continue;
        }
        if let Err(message) = field_name(&entry.key) {
            value.key_error(message, report);
        }
        let Some(text) = value.text(report) else { continue };
        if !text.chars().all(|c| c == '\t' || !c.is_control()) {
            value.error("a header field's value has no control characters", report);
        }
        match HeaderFormat::parse(text) {
            Ok(format) => match format.literal() {
                Some(text) => found.push((entry.key.clone(), text.trim().to_owned())),
                None => formatted.push(FormattedField { name: entry.key.clone(), adds, format }),
            },
            Err(error) => value.warning(error.to_string(), report),
        }
    }
    (found, formatted)
}

/// A host with or without a port, to be asked for.
pub(super) fn read_authority(field: &Field<'_>, report: &mut Report) -> Option<String> {
    let text = field.word(report)?;
    match Authority::parse(text) {
        Ok(_) => Some(text.to_owned()),
        Err(error) => {
            field.error(format!("{} is no host with or without a port: {error}", quoted(text)), report);
            None
        }
    }
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
