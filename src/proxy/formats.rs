//! Fields of a route whose values are different for each request, filled in.

use std::borrow::Cow;
use std::net::SocketAddr;

use crate::config::{FormatFacts, FormattedField};
use crate::http::FieldEdits;
use crate::policy::Formats;
use crate::proxy::peers::Peers;
use crate::proxy::request::Request;
use crate::proxy::request_id::RequestId;

/// What a route changes of one request and of its response.
pub struct Filled {
    pub request: FieldEdits,
    pub response: FieldEdits,
}

/// Where a request goes, as its operators tell it.
#[derive(Clone, Copy)]
pub struct Way<'w> {
    pub peers: Peers,
    /// `None` where no server is asked.
    pub server: Option<SocketAddr>,
    pub route: Option<&'w str>,
    pub cluster: Option<&'w str>,
    pub id: Option<&'w RequestId>,
}

impl Filled {
    #[must_use]
    pub fn new(
        formats: &Formats,
        (of_request, of_response): (&FieldEdits, &FieldEdits),
        request: &Request,
        way: Way<'_>,
    ) -> Self {
        Self {
            request: fill(of_request, &formats.request, request, way),
            response: fill(of_response, &formats.response, request, way),
        }
    }
}

/// `edits`, and the fields of `formatted` that have something in them.
#[must_use]
pub fn fill(edits: &FieldEdits, formatted: &[FormattedField], request: &Request, way: Way<'_>) -> FieldEdits {
    let mut filled = edits.clone();
    with_facts(request, way, |facts| {
        for field in formatted {
            let Some(value) = field.format.value(facts) else { continue };
            let place = if field.adds { &mut filled.add } else { &mut filled.set };
            place.push((field.name.clone(), value));
        }
    });
    filled
}

fn with_facts(request: &Request, way: Way<'_>, act: impl FnOnce(&FormatFacts<'_>)) {
    let (head, raw) = (&request.head, &request.raw[..]);
    let field = |name: &str| match name {
        ":method" => Some(Cow::Borrowed(head.method_text.of(raw))),
        ":path" => head.path(raw).map(Cow::Borrowed),
        ":authority" | "host" => head.authority_text.map(|at| Cow::Borrowed(at.of(raw))),
        ":scheme" => Some(Cow::Borrowed(&b"http"[..])),
        // The one that was made for it counts as one of its own, as in Envoy.
        "x-request-id" => head.field(raw, name).or(way.id.map(|id| Cow::Borrowed(id.as_bytes()))),
        _ => head.field(raw, name),
    };
    act(&FormatFacts {
        application: way.peers.client.addr(),
        dialled: way.peers.destination.addr(),
        server: way.server,
        protocol: request.protocol.as_str(),
        route: way.route,
        cluster: way.cluster,
        field: &field,
    });
}
