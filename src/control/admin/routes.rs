//! Requests to responses: which path and verb exist at which listener, and what they answer.
//!
//! It does not read a body (nothing here takes one) and does not know of connections. `GET` never changes anything;
//! whatever does is `POST`.

use std::fmt::Write as _;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Body;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::{Method, Request, Response, StatusCode};

use super::guard;
use super::surface::{Admin, Surface};
use crate::explain::Question;

const TEXT: &str = "text/plain; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";
const JSON: &str = "application/json";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The most that a request may bring along and be answered; it is not read.
const MAX_BODY: u64 = 1024;

type HttpReply = Response<Full<Bytes>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Get,
    Post,
}

struct Route {
    path: &'static str,
    verb: Verb,
    /// Where it exists besides the admin port.
    also: Option<Surface>,
    about: &'static str,
    answer: fn(&dyn Admin, Option<&str>) -> HttpReply,
}

const ROUTES: &[Route] = &[
    Route { path: "/", verb: Verb::Get, also: None, about: "this page", answer: |_, _| page() },
    Route { path: "/ready", verb: Verb::Get, also: None, about: "200 LIVE, or 503 and why not", answer: ready },
    Route {
        path: "/healthz/ready",
        verb: Verb::Get,
        also: Some(Surface::Health),
        about: "the same, for the kubelet",
        answer: ready,
    },
    Route {
        path: "/stats/prometheus",
        verb: Verb::Get,
        also: Some(Surface::Metrics),
        about: "metrics",
        answer: |admin, _| reply(StatusCode::OK, PROMETHEUS, admin.metrics()),
    },
    Route {
        path: "/config_dump",
        verb: Verb::Get,
        also: None,
        about: "the policy in force: objects and their places, settings, warnings, the last error",
        answer: |admin, _| json(&admin.config_dump()),
    },
    Route {
        path: "/routes",
        verb: Verb::Get,
        also: None,
        about: "what the policy decides by",
        answer: |admin, _| json(&admin.routes()),
    },
    Route {
        path: "/endpoints",
        verb: Verb::Get,
        also: None,
        about: "where connections go now",
        answer: |admin, _| json(&admin.endpoints()),
    },
    Route {
        path: "/explain",
        verb: Verb::Get,
        also: None,
        about: "what would become of a connection: ?url=http://host/path, and address=, method= and header= where they matter",
        answer: explain,
    },
    Route {
        path: "/dns",
        verb: Verb::Get,
        also: None,
        about: "names that have addresses where DNS is captured; ?name= says what is answered for one",
        answer: dns,
    },
    Route {
        path: "/certs",
        verb: Verb::Get,
        also: None,
        about: "trust anchors and client certificates, with their expiry",
        answer: |admin, _| json(&admin.certs()),
    },
    Route {
        path: "/connections",
        verb: Verb::Get,
        also: None,
        about: "open connections",
        answer: |admin, _| json(&admin.connections()),
    },
    Route {
        path: "/server_info",
        verb: Verb::Get,
        also: None,
        about: "version, state, options",
        answer: |admin, _| json(&admin.server_info()),
    },
    Route {
        path: "/logging",
        verb: Verb::Post,
        also: None,
        about: "?level=debug, or ?level=info,egret::io=trace",
        answer: set_log_level,
    },
    Route {
        path: "/drain",
        verb: Verb::Post,
        also: None,
        about: "finish what is open, be unready",
        answer: |admin, _| {
            admin.drain();
            text(StatusCode::OK, "draining\n")
        },
    },
    Route {
        path: "/quitquitquit",
        verb: Verb::Post,
        also: None,
        about: "end the process now",
        answer: |admin, _| {
            admin.quit();
            text(StatusCode::OK, "quitting\n")
        },
    },
    #[cfg(debug_assertions)]
    Route {
        path: "/panic",
        verb: Verb::Post,
        also: None,
        about: "for tests: ?in=connection or ?in=worker",
        answer: panic,
    },
];

/// The response to `request`, whose body is not read.
pub fn respond<B: Body>(surface: Surface, request: &Request<B>, admin: &dyn Admin) -> HttpReply {
    if surface == Surface::Admin
        && let Err(refusal) = guard::check(request)
    {
        return text(StatusCode::FORBIDDEN, format!("{refusal}\n"));
    }
    if request.body().size_hint().upper().is_none_or(|most| most > MAX_BODY) {
        return text(StatusCode::PAYLOAD_TOO_LARGE, "nothing here takes a body\n");
    }
    let path = request.uri().path();
    let Some(route) = here(surface).find(|route| route.path == path) else {
        return text(StatusCode::NOT_FOUND, not_found(surface));
    };
    if !route.verb.accepts(request.method()) {
        let mut reply = text(StatusCode::METHOD_NOT_ALLOWED, format!("{path} wants {}\n", route.verb.allowed()));
        reply.headers_mut().insert(ALLOW, HeaderValue::from_static(route.verb.allowed()));
        return reply;
    }
    (route.answer)(admin, request.uri().query())
}

fn here(surface: Surface) -> impl Iterator<Item = &'static Route> {
    ROUTES.iter().filter(move |route| surface == Surface::Admin || route.also == Some(surface))
}

impl Verb {
    fn accepts(self, method: &Method) -> bool {
        match self {
            Verb::Get => matches!(*method, Method::GET | Method::HEAD),
            Verb::Post => *method == Method::POST,
        }
    }

    fn allowed(self) -> &'static str {
        match self {
            Verb::Get => "GET, HEAD",
            Verb::Post => "POST",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Verb::Get => "GET",
            Verb::Post => "POST",
        }
    }
}

fn not_found(surface: Surface) -> String {
    here(surface).fold("no such path; there are:\n".to_owned(), |mut list, route| {
        let _ = writeln!(list, "  {:<4} {:<18} {}", route.verb.name(), route.path, route.about);
        list
    })
}

/// What `/explain` wants to know, to be filled in.
const EXPLAIN_FORM: &str = "<form action=\"/explain\">\
     <input name=\"url\" size=\"40\" required placeholder=\"http://host/path, https://host, tcp://address:port\"> \
     <input name=\"address\" placeholder=\"address dialled\"> <input name=\"method\" size=\"8\" placeholder=\"GET\"> \
     <input name=\"header\" placeholder=\"name:value\"> \
     <button>explain</button></form>";

fn page() -> HttpReply {
    let mut rows = String::new();
    for route in ROUTES {
        let Route { path, about, .. } = route;
        let _ = match route.verb {
            Verb::Get if *path == "/explain" => {
                writeln!(rows, "<tr><td>{path}</td><td>{about}{EXPLAIN_FORM}</td></tr>")
            }
            Verb::Get => writeln!(rows, "<tr><td><a href=\"{path}\">{path}</a></td><td>{about}</td></tr>"),
            Verb::Post => writeln!(rows, "<tr><td><code>curl -X POST …{path}</code></td><td>{about}</td></tr>"),
        };
    }
    let page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>egret</title>\n<h1>egret</h1>\n\
         <p>Transparent egress proxy, version {}.</p>\n<table>\n{rows}</table>\n</html>\n",
        env!("CARGO_PKG_VERSION")
    );
    reply(StatusCode::OK, HTML, page)
}

fn ready(admin: &dyn Admin, _: Option<&str>) -> HttpReply {
    match admin.ready() {
        Ok(detail) => text(StatusCode::OK, format!("LIVE\n{detail}")),
        Err(why) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

#[cfg(debug_assertions)]
fn panic(admin: &dyn Admin, query: Option<&str>) -> HttpReply {
    admin.panic(query == Some("in=worker"));
    text(StatusCode::OK, "as asked\n")
}

fn explain(admin: &dyn Admin, query: Option<&str>) -> HttpReply {
    // A form sends what was not filled in as empty.
    let value = |name| query.and_then(|query| parameter(query, name)).filter(|value| !value.is_empty());
    let Some(url) = value("url") else {
        return text(StatusCode::BAD_REQUEST, "say which: /explain?url=http://host/path\n");
    };
    let address = value("address").map(|text| text.parse().map_err(|_| text)).transpose();
    let headers = query.map(|query| parameters(query, "header").filter(|line| !line.is_empty()).collect());
    let (method, headers) = (value("method"), headers.unwrap_or_default());
    let explained = match address {
        Ok(address) => admin.explain(&Question { url, address, method, headers }),
        Err(text) => Err(format!("{text:?} is no IP address")),
    };
    match explained {
        Ok(value) => json(&value),
        Err(why) => text(StatusCode::BAD_REQUEST, format!("{why}\n")),
    }
}

fn dns(admin: &dyn Admin, query: Option<&str>) -> HttpReply {
    let name = query.and_then(|query| parameter(query, "name")).filter(|name| !name.is_empty());
    match admin.dns(name.as_deref()) {
        Ok(value) => json(&value),
        Err(why) => text(StatusCode::BAD_REQUEST, format!("{why}\n")),
    }
}

fn set_log_level(admin: &dyn Admin, query: Option<&str>) -> HttpReply {
    let Some(level) = query.and_then(|query| parameter(query, "level")) else {
        return text(StatusCode::BAD_REQUEST, "say which: /logging?level=debug\n");
    };
    match admin.set_log_level(&level) {
        Ok(()) => text(StatusCode::OK, format!("level is {level}\n")),
        Err(why) => text(StatusCode::BAD_REQUEST, format!("{why}\n")),
    }
}

/// The value of `name` in a query string, percent-decoded.
fn parameter(query: &str, name: &str) -> Option<String> {
    let pair = query.split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name)?;
    percent_decode(pair.1)
}

/// The values of all parameters of this name.
fn parameters(query: &str, name: &str) -> impl Iterator<Item = String> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.filter(move |(key, _)| *key == name).filter_map(|(_, value)| percent_decode(value))
}

/// `None` for a broken escape, or if the result is not text.
fn percent_decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        out.push((digit()? * 16 + digit()?) as u8);
    }
    String::from_utf8(out).ok().filter(|text| !text.contains(char::is_control))
}

fn json(value: &serde_json::Value) -> HttpReply {
    reply(StatusCode::OK, JSON, format!("{value:#}\n"))
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> HttpReply {
    reply(status, TEXT, body)
}

fn reply(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> HttpReply {
    let mut reply = Response::new(Full::new(body.into()));
    *reply.status_mut() = status;
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Dumps hold names that others chose; a browser must not take them for a page.
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    reply
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded() {
        for (query, expected) in [
            ("level=debug", Some("debug")),
            ("x=1&level=info%2Cegret%3A%3Aio%3dtrace", Some("info,egret::io=trace")),
            ("level=info,egret::io=trace", Some("info,egret::io=trace")),
            ("level=", Some("")),
            ("levels=debug", None),
            ("level", None),
            ("level=%2", None),
            ("level=%zz", None),
            ("level=%ff", None),
            ("level=a%0ab", None),
        ] {
            assert_eq!(parameter(query, "level").as_deref(), expected, "{query}");
        }
    }

    #[test]
    fn every_surface_has_its_own_routes() {
        let paths = |surface| here(surface).map(|route| route.path).collect::<Vec<_>>();
        assert_eq!(paths(Surface::Health), ["/healthz/ready"]);
        assert_eq!(paths(Surface::Metrics), ["/stats/prometheus"]);
        assert_eq!(paths(Surface::Admin).len(), ROUTES.len());
    }
}
