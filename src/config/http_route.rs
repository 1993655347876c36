//! One HTTP route of a `VirtualService`: what it takes, what becomes of that, and what is changed on the way.

use std::time::Duration;

use super::http_match;
use super::names;
use super::reader::{Field, Object, Report, Shape};
use super::routing::{Destination, Fault, HeaderChanges, HttpAction, HttpRoute, Redirect, Retries, RetryOn, Rewrite};
use super::yaml::quoted;

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

pub(super) fn read_all(field: &Field<'_>, report: &mut Report) -> Vec<HttpRoute> {
    let mut routes = Vec::new();
    for item in field.list(usize::MAX, report) {
        let Some(object) = item.object(report) else { continue };
        routes.extend(read(object, &item, report));
    }
    routes
}

fn read(mut object: Object<'_>, item: &Field<'_>, report: &mut Report) -> Option<HttpRoute> {
    let name = object.optional_text("name", report).map(|(_, text)| text.to_owned());
    let matches = object.optional("match").map(|field| http_match::read_all(&field, report)).unwrap_or_default();
    let action = read_action(&mut object, item, report);
    let rewrite = object.optional("rewrite").and_then(|field| read_rewrite(&field, report)).unwrap_or_default();
    let timeout = object.optional("timeout").and_then(|field| field.duration(report));
    let retries = object.optional("retries").and_then(|field| read_retries(&field, report));
    let fault = object.optional("fault").and_then(|field| read_fault(&field, report)).unwrap_or_default();
    let (request, response) = read_headers(&mut object, report);
    for name in ["mirror", "mirrorPercent", "mirrorPercentage", "mirrors", "corsPolicy"] {
        object.unsupported(name, Shape::Any, report);
    }
    if let Some(field) = object.optional("delegate") {
        field.key_error("delegating to another VirtualService is not supported; write its routes here", report);
    }
    object.finish(report);
    Some(HttpRoute {
        name,
        matches,
        action: action?,
        rewrite,
        timeout: timeout.filter(|timeout| !timeout.is_zero()),
        retries,
        fault,
        request,
        response,
        at: report.location(item.at()),
    })
}

fn read_action(object: &mut Object<'_>, item: &Field<'_>, report: &mut Report) -> Option<HttpAction> {
    let written = ["route", "redirect", "directResponse"].iter().filter(|name| object.has(name)).count();
    if written != 1 && !object.has("delegate") {
        item.error("expected one of route, redirect and directResponse", report);
    }
    let forward = object.optional("route").and_then(|field| read_destinations(&field, read_headers, report));
    let redirect = object.optional("redirect").and_then(|field| read_redirect(&field, report));
    let direct = object.optional("directResponse").and_then(|field| read_direct(&field, report));
    forward.map(HttpAction::Forward).or(redirect.map(HttpAction::Redirect)).or(direct)
}

/// `changes` reads what a destination changes of header fields: nothing where none are seen.
pub(super) fn read_destinations(
    field: &Field<'_>,
    changes: impl Fn(&mut Object<'_>, &mut Report) -> (HeaderChanges, HeaderChanges),
    report: &mut Report,
) -> Option<Vec<Destination>> {
    let items = field.list(usize::MAX, report);
    let (count, only) = (items.len(), items.len() == 1);
    let mut found = Vec::new();
    for item in items {
        let Some(mut object) = item.object(report) else { continue };
        let to = object.required("destination").and_then(|field| read_destination(&field, report));
        let weight = object.optional("weight").and_then(|field| field.whole(&(0..=i64::from(u32::MAX)), report));
        let (request, response) = changes(&mut object, report);
        object.finish(report);
        let weight = weight.and_then(|weight| u32::try_from(weight).ok()).unwrap_or(0);
        let weight = if only { weight.max(1) } else { weight };
        let Some((host, port, subset)) = to else { continue };
        found.push(Destination { host, port, subset, weight, request, response, at: report.location(item.at()) });
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

type To = (crate::flow::Hostname, Option<u16>, Option<String>);

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
    let subset = object.optional_text("subset", report).map(|(_, text)| text.to_owned());
    object.finish(report);
    Some((host?, port, subset))
}

fn read_redirect(field: &Field<'_>, report: &mut Report) -> Option<Redirect> {
    const CODES: [i64; 5] = [301, 302, 303, 307, 308];
    const SCHEMES: &[(&str, &str)] = &[("http", "http"), ("https", "https")];
    let mut object = field.object(report)?;
    let code = object.optional("redirectCode").and_then(|field| {
        let code = field.whole(&(300..=399), report)?;
        if !CODES.contains(&code) {
            field.error("expected 301, 302, 303, 307 or 308", report);
        }
        u16::try_from(code).ok()
    });
    let uri = object.optional("uri").and_then(|field| path(&field, report));
    let authority = object.optional("authority").and_then(|field| authority(&field, report));
    let scheme = object.optional("scheme").and_then(|field| field.choice(SCHEMES, report)).map(str::to_owned);
    let port = object.optional("port").and_then(|field| field.port(report));
    object.unsupported("derivePort", Shape::Word, report);
    object.finish(report);
    Some(Redirect { uri, authority, scheme, port, code: code.unwrap_or(301) })
}

fn read_direct(field: &Field<'_>, report: &mut Report) -> Option<HttpAction> {
    let mut object = field.object(report)?;
    let status = object.required("status").and_then(|field| field.whole(&(200..=599), report));
    let body = object.optional("body").and_then(|field| {
        let mut body = field.object(report)?;
        let text = body.optional("string").and_then(|field| field.text(report));
        if body.has("bytes") {
            field.error("bytes are not supported; write string", report);
        }
        body.allow(&["bytes"]);
        body.finish(report);
        text
    });
    object.finish(report);
    Some(HttpAction::Direct { status: u16::try_from(status?).ok()?, body: body.unwrap_or("").to_owned() })
}

fn read_rewrite(field: &Field<'_>, report: &mut Report) -> Option<Rewrite> {
    let mut object = field.object(report)?;
    let uri = object.optional("uri").and_then(|field| path(&field, report));
    let authority = object.optional("authority").and_then(|field| authority(&field, report));
    object.unsupported("uriRegexRewrite", Shape::Object(&["match", "rewrite"]), report);
    object.finish(report);
    Some(Rewrite { uri, authority })
}

/// What may stand in a request line as a path.
fn path(field: &Field<'_>, report: &mut Report) -> Option<String> {
    let text = field.word(report)?;
    if !text.starts_with('/') || !text.bytes().all(|b| b.is_ascii_graphic() && b != b'#') {
        field.error(format!("expected a path that begins with \"/\", found {}", quoted(text)), report);
        return None;
    }
    Some(text.to_owned())
}

fn authority(field: &Field<'_>, report: &mut Report) -> Option<String> {
    let text = field.word(report)?;
    match crate::flow::Authority::parse(text) {
        Ok(_) => Some(text.to_owned()),
        Err(error) => {
            field.error(format!("{} is no host with or without a port: {error}", quoted(text)), report);
            None
        }
    }
}

fn read_retries(field: &Field<'_>, report: &mut Report) -> Option<Retries> {
    let mut object = field.object(report)?;
    let attempts = object.optional("attempts").and_then(|field| field.whole(&(0..=100), report)).unwrap_or(2);
    let per_try_timeout = object.optional("perTryTimeout").and_then(|field| field.duration(report));
    let mut on = Vec::new();
    if let Some((field, text)) = object.optional_text("retryOn", report) {
        on = text.split(',').map(str::trim).filter_map(|word| retry_on(word, &field, report)).collect();
    } else {
        on.push(RetryOn::ConnectFailure);
    }
    object.unsupported("retryRemoteLocalities", Shape::Boolean, report);
    object.unsupported("retryIgnorePreviousHosts", Shape::Boolean, report);
    object.unsupported("backoff", Shape::Duration, report);
    object.finish(report);
    let per_try_timeout = per_try_timeout.filter(|timeout| !timeout.is_zero());
    Some(Retries { attempts: u32::try_from(attempts).unwrap_or(0), per_try_timeout, on })
}

fn retry_on(word: &str, field: &Field<'_>, report: &mut Report) -> Option<RetryOn> {
    match word {
        "connect-failure" => Some(RetryOn::ConnectFailure),
        "reset" => Some(RetryOn::Reset),
        "reset-before-request" => Some(RetryOn::ResetBeforeRequest),
        "gateway-error" => Some(RetryOn::GatewayError),
        "5xx" => Some(RetryOn::ServerError),
        // HTTP/2's and gRPC's, which do not occur, and the word that only announces a list of codes.
        "refused-stream"
        | "cancelled"
        | "unavailable"
        | "deadline-exceeded"
        | "internal"
        | "resource-exhausted"
        | "retriable-status-codes"
        | "" => None,
        code if code.parse::<u16>().is_ok_and(|code| (100..600).contains(&code)) => {
            code.parse().ok().map(RetryOn::Status)
        }
        _ => {
            field.warning(format!("{} is not supported yet and has no effect", quoted(word)), report);
            None
        }
    }
}

fn read_fault(field: &Field<'_>, report: &mut Report) -> Option<Fault> {
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

fn read_headers(object: &mut Object<'_>, report: &mut Report) -> (HeaderChanges, HeaderChanges) {
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
