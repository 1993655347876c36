//! What a `VirtualService` says, once it has been read and found valid: which requests, and what becomes of them.
//!
//! Whether a destination exists is not known here; that is `policy`'s concern.

use std::collections::BTreeMap;
use std::time::Duration;

use ipnet::IpNet;

use super::resources::{ExportTo, HostPattern, Location, Meta};
use super::text_match::TextMatch;
use crate::flow::Hostname;

#[derive(Clone, Debug)]
pub struct VirtualService {
    pub meta: Meta,
    pub hosts: Vec<HostPattern>,
    pub export_to: Vec<ExportTo>,
    /// The first that matches holds.
    pub http: Vec<HttpRoute>,
    /// For the application's own TLS, by its server name.
    pub tls: Vec<ByteRoute>,
    /// For bytes that are not looked into.
    pub tcp: Vec<ByteRoute>,
}

/// Where connections go that are not read.
#[derive(Clone, Debug)]
pub struct ByteRoute {
    /// Any of them; none matches everything, which only a `tcp` route may.
    pub matches: Vec<ByteMatch>,
    /// At least one, with a weight above zero in all; none changes header fields.
    pub destinations: Vec<Destination>,
    pub at: Location,
}

/// Conditions that must all hold.
#[derive(Clone, Debug, Default)]
pub struct ByteMatch {
    /// Any of them; of a `tls` route at least one.
    pub sni_hosts: Vec<HostPattern>,
    /// Any of them; none means every address.
    pub destination_subnets: Vec<IpNet>,
    /// The port that the application dials.
    pub port: Option<u16>,
    pub source_labels: BTreeMap<String, String>,
    pub source_namespace: Option<String>,
    /// As in [`HttpMatch`].
    pub never: bool,
}

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
    pub at: Location,
}

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
    /// A condition that egret does not judge stands in it, or one that no sidecar meets: it holds for no request, so
    /// that a route never takes more than its author meant.
    pub never: bool,
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
}

#[derive(Clone, Debug)]
pub struct Destination {
    pub host: Hostname,
    pub port: Option<u16>,
    pub subset: Option<String>,
    pub weight: u32,
    pub request: HeaderChanges,
    pub response: HeaderChanges,
    pub at: Location,
}

/// What is not given stays as it was requested.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// Replaces the whole path, query included.
    pub uri: Option<String>,
    pub authority: Option<String>,
    pub scheme: Option<String>,
    pub port: Option<u16>,
    pub code: u16,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rewrite {
    /// Replaces the prefix that matched, or the whole path where something else matched.
    pub uri: Option<String>,
    pub authority: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retries {
    /// Tries after the first.
    pub attempts: u32,
    pub per_try_timeout: Option<Duration>,
    pub on: Vec<RetryOn>,
}

/// After what a request is sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryOn {
    ConnectFailure,
    /// The connection broke, or a try timed out, before an answer began.
    Reset,
    /// The same, and no byte of the request had left for the server on that connection.
    ResetBeforeRequest,
    /// 502, 503 and 504, and what [`Reset`](Self::Reset) covers.
    GatewayError,
    /// Any 5xx, and what [`Reset`](Self::Reset) covers.
    ServerError,
    Status(u16),
}

/// Faults made on purpose; shares are in parts per million of requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fault {
    pub delay: Option<(Duration, u32)>,
    pub abort: Option<(u16, u32)>,
}

/// Changes of header fields: first what is removed, then what is set (replacing) and added. Names are valid tokens that
/// frame no message, values have no control characters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderChanges {
    pub set: Vec<(String, String)>,
    pub add: Vec<(String, String)>,
    pub remove: Vec<String>,
}
