//! One HTTP route of a `VirtualService`: what it takes, what becomes of that, and what is changed on the way.

use std::time::Duration;

use super::delegate::{self, Delegate, Written};
use super::destination::{self, Destination};
use super::fault::{self, Fault};
use super::header_changes::{self, HeaderChanges, Headers, read_authority};
use super::http_match::{self, HttpMatch};
use super::mirror::{self, Mirror};
use super::retries::{self, Retries};
use super::rewrite::{self, Rewrite, path};
use crate::config::problem::Location;
use crate::config::reader::{Field, Object, Report, Shape};

#[derive(Clone, Debug)]
pub struct HttpRoute {
    pub name: Option<String>,
    /// Any of them; none matches everything.
    pub matches: Vec<HttpMatch>,
    pub action: HttpAction,
    pub rewrite: Rewrite,
    /// `None` waits as long as it takes.
    pub timeout: Option<Duration>,
    pub retries: Option<Retries>,
    pub fault: Fault,
    pub request: HeaderChanges,
    pub response: HeaderChanges,
    pub mirrors: Vec<Mirror>,
    pub at: Location,
}

#[derive(Clone, Debug)]
pub enum HttpAction {
    /// At least one, with a weight above zero in all.
    Forward(Vec<Destination>),
    Redirect(Redirect),
    Direct {
        status: u16,
        body: String,
    },
    /// Another VirtualService says it.
    Delegate(Delegate),
}

/// What is not given stays as it was requested.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// Replaces the whole path. The query stays, unless this has one.
    pub uri: Option<String>,
    /// Replaces the prefix that matched, or the whole path where something else matched.
    pub prefix: Option<String>,
    pub authority: Option<String>,
    pub scheme: Option<String>,
    pub port: Option<u16>,
    pub code: u16,
}

pub(super) fn read_all(field: &Field<'_>, written: Written, report: &mut Report) -> Vec<HttpRoute> {
    let mut routes = Vec::new();
    for item in field.list(usize::MAX, report) {
        let Some(object) = item.object(report) else { continue };
        routes.extend(read(object, &item, written, report));
    }
    routes
}

fn read(mut object: Object<'_>, item: &Field<'_>, written: Written, report: &mut Report) -> Option<HttpRoute> {
    let name = object.optional_text("name", report).map(|(_, text)| text.to_owned());
    let matches = object.optional("match").map(|field| http_match::read_all(&field, report)).unwrap_or_default();
    let action = read_action(&mut object, item, written, report);
    if written == Written::InDelegate || object.has("delegate") {
        delegate::refuse_expressions(&matches, item, report);
    }
    let mut rewrite = object.optional("rewrite").and_then(|field| rewrite::read(&field, report)).unwrap_or_default();
    let timeout = object.optional("timeout").and_then(|field| field.whole_milliseconds(report));
    let retries = object.optional("retries").and_then(|field| retries::read(&field, report));
    let fault = object.optional("fault").and_then(|field| fault::read(&field, report)).unwrap_or_default();
    let Headers { request, response, authority } = header_changes::read_all(&mut object, report);
    if rewrite.authority.is_some() && authority.is_some() {
        item.error("only one of rewrite.authority and a Host in headers may be set", report);
    }
    rewrite.authority = rewrite.authority.or(authority);
    let mirrors = mirror::read_all(&mut object, report);
    object.unsupported("corsPolicy", Shape::Any, report);
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
        mirrors,
        at: report.location(item.at()),
    })
}

fn read_action(object: &mut Object<'_>, item: &Field<'_>, written: Written, report: &mut Report) -> Option<HttpAction> {
    let count = ["route", "redirect", "directResponse", "delegate"].iter().filter(|name| object.has(name)).count();
    if count != 1 {
        item.error("expected one of route, redirect, directResponse and delegate", report);
    }
    for (answer, beside) in
        [("redirect", "fault"), ("redirect", "rewrite"), ("directResponse", "fault"), ("directResponse", "rewrite")]
    {
        if object.has(answer) && object.has(beside) {
            item.error(format!("only one of {answer} and {beside} may be set"), report);
        }
    }
    let delegate = object.optional("delegate").and_then(|field| delegate::read_reference(&field, written, report));
    let forward =
        object.optional("route").and_then(|field| destination::read_all(&field, header_changes::read_all, report));
    let redirect = object.optional("redirect").and_then(|field| read_redirect(&field, report));
    let direct = object.optional("directResponse").and_then(|field| read_direct(&field, report));
    let delegate = delegate.map(HttpAction::Delegate);
    forward.map(HttpAction::Forward).or(redirect.map(HttpAction::Redirect)).or(direct).or(delegate)
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
    let prefix = object.optional("prefixRewrite").and_then(|field| path(&field, report));
    if object.has("uri") && object.has("prefixRewrite") {
        object.error("only one of uri and prefixRewrite may be set", report);
    }
    if !["uri", "prefixRewrite", "authority", "scheme", "port", "derivePort"].iter().any(|name| object.has(name)) {
        object.error("must have at least one of uri, prefixRewrite, authority, scheme and port", report);
    }
    let authority = object.optional("authority").and_then(|field| read_authority(&field, report));
    let scheme = object.optional("scheme").and_then(|field| field.choice(SCHEMES, report)).map(str::to_owned);
    let port = object.optional("port").and_then(|field| field.port(report));
    object.unsupported("derivePort", Shape::Word, report);
    object.finish(report);
    Some(Redirect { uri, prefix, authority, scheme, port, code: code.unwrap_or(301) })
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
