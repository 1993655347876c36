//! The routes of VirtualServices, compiled, and which of them takes a request.
//!
//! It knows requests only as borrowed texts and clusters as finished. Paths are matched in their one normal form
//! (`http::normal_path`); a request that has none is not asked about where a rule speaks of paths.

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;

use crate::config::{Fault, FormattedField, HostPattern, HttpMatch, Redirect, Retries, Rewrite, TextMatch};
use crate::flow::Host;
use crate::http::{FieldEdits, normal_path, query_parameter, split_query};
use crate::policy::facts::RequestView;
use crate::policy::table::cluster::{Cluster, Source, Transport};
use crate::policy::table::host_map::HostMap;

/// How a route took a request.
#[derive(Clone, Copy, Debug)]
pub struct RouteMatch<'t> {
    pub route: &'t HttpRoute,
    /// The one that was picked; `None` where the route forwards nothing.
    pub destination: Option<&'t Destination>,
    /// Bytes of the normal path that a rewriting replaces; `None` replaces all of it.
    prefix: Option<usize>,
}

/// Why the routes of a request's host do not take it.
#[derive(Clone, Copy, Debug)]
pub(in crate::policy) enum Unrouted<'t> {
    /// No route of this VirtualService does.
    NoRoute(&'t Source),
    /// They ask for paths, and this one has no normal form.
    AmbiguousPath,
}

/// One route of a VirtualService.
#[derive(Debug)]
pub struct HttpRoute {
    /// ROUTE_NAME of the access log.
    pub name: Option<String>,
    pub source: Source,
    pub action: Action,
    pub timeout: Option<Duration>,
    pub retries: Option<Retries>,
    pub fault: Fault,
    pub rewrite: Rewrite,
    /// Changes of answers that egret gives itself; those of a destination hold for its own.
    pub response: FieldEdits,
    /// The same with Envoy's operators in their values.
    pub formatted: Vec<FormattedField>,
    /// Where copies of its requests go.
    pub(in crate::policy) mirrors: Vec<Mirror>,
    pub(in crate::policy) matches: Vec<HttpMatch>,
}

/// Where copies of a share of the requests go.
#[derive(Debug)]
pub(in crate::policy) struct Mirror {
    pub to: Destination,
    /// In parts per million.
    pub share: u32,
}

/// Fields with Envoy's operators in their values, which each request fills in.
#[derive(Debug, Default)]
pub struct Formats {
    pub request: Vec<FormattedField>,
    pub response: Vec<FormattedField>,
}

impl Formats {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.request.is_empty() && self.response.is_empty()
    }
}

#[derive(Debug)]
pub enum Action {
    Forward(Vec<Destination>),
    Answer(Answer),
}

/// What a route answers itself.
#[derive(Debug)]
pub enum Answer {
    Redirect(Redirect),
    Direct { status: u16, body: String },
}

#[derive(Debug)]
pub struct Destination {
    pub weight: u32,
    /// `outbound|port|subset|host`, also where there is no such cluster; without a port, the one dialled is meant.
    pub name: String,
    pub request: FieldEdits,
    pub response: FieldEdits,
    pub formats: Formats,
    /// The host, with or without a port, that requests ask for in the place of their own.
    pub authority: Option<String>,
    pub(in crate::policy) clusters: Clusters,
}

#[derive(Debug)]
pub(in crate::policy) enum Clusters {
    One(Option<Arc<Cluster>>),
    /// By the port that the application dialled.
    ByPort(Vec<Arc<Cluster>>),
}

impl Destination {
    /// Where requests to port `dialled` go; `None` when the port is not one of the destination's.
    #[must_use]
    pub fn cluster(&self, dialled: u16) -> Option<&Arc<Cluster>> {
        match &self.clusters {
            Clusters::One(cluster) => cluster.as_ref(),
            Clusters::ByPort(clusters) => clusters.iter().find(|cluster| cluster.origin.port == dialled),
        }
    }

    /// The first of its clusters.
    pub(in crate::policy) fn any_cluster(&self) -> Option<&Arc<Cluster>> {
        self.all().next()
    }

    fn all(&self) -> impl Iterator<Item = &Arc<Cluster>> {
        self.clusters.all()
    }
}

impl Clusters {
    pub(in crate::policy) fn all(&self) -> impl Iterator<Item = &Arc<Cluster>> {
        match self {
            Clusters::One(cluster) => cluster.as_slice().iter(),
            Clusters::ByPort(clusters) => clusters.iter(),
        }
    }
}

/// The destination that `random`, any number, picks by weight.
pub(in crate::policy) fn pick(all: &[Destination], random: u64) -> Option<&Destination> {
    let total: u64 = all.iter().map(|to| u64::from(to.weight)).sum();
    let mut left = random % total.max(1);
    all.iter().find(|to| match left.checked_sub(u64::from(to.weight)) {
        Some(less) => {
            left = less;
            false
        }
        None => true,
    })
}

impl HttpRoute {
    /// What it is called: the name of its VirtualService where it has none of its own.
    #[must_use]
    pub fn title(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.source.name)
    }

    fn rewrites_path(&self) -> bool {
        let redirects = matches!(&self.action, Action::Answer(Answer::Redirect(redirect)) if redirect.prefix.is_some());
        self.rewrite.changes_path() || redirects
    }
}

impl RouteMatch<'_> {
    /// Path and query that go upstream instead of `target`; `None` leaves them as they were written.
    #[must_use]
    pub fn rewritten(&self, target: &[u8]) -> Option<Vec<u8>> {
        let (new, regex) = match &self.route.action {
            Action::Answer(Answer::Redirect(redirect)) => (redirect.prefix.as_ref(), None),
            _ => (self.route.rewrite.uri.as_ref(), self.route.rewrite.uri_regex.as_ref()),
        };
        if new.is_none() && regex.is_none() {
            return None;
        }
        let (path, query) = split_query(target);
        let normal = normal_path(path).ok()?;
        if let Some(regex) = regex {
            let replaced = regex.apply(&normal);
            // A path begins with a slash, whatever an expression leaves of it.
            let slash: &[u8] = if replaced.starts_with(b"/") { b"" } else { b"/" };
            return Some([slash, &replaced, query].concat());
        }
        let new = new?;
        let rest = self.prefix.and_then(|end| normal.get(end..)).unwrap_or_default();
        Some([new.as_bytes(), rest, query].concat())
    }
}

impl Answer {
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Answer::Redirect(redirect) => redirect.code,
            Answer::Direct { status, .. } => *status,
        }
    }
}

impl Redirect {
    /// The Location for a request for `target` (as the route rewrites it) of `authority`, which came over plain HTTP.
    #[must_use]
    pub fn location(&self, authority: &str, target: &str) -> String {
        let scheme = self.scheme.as_deref().unwrap_or("http");
        let authority = self.authority.as_deref().unwrap_or(authority);
        let (new, query) = match &self.uri {
            Some(new) if new.contains('?') => (new.as_str(), ""),
            Some(new) => (new.as_str(), target.find('?').map_or("", |at| &target[at..])),
            None => (target, ""),
        };
        let path = format!("{new}{query}");
        match self.port {
            Some(port) => {
                let host = crate::flow::Authority::parse(authority).map(|named| named.host.to_string());
                format!("{scheme}://{}:{port}{path}", host.as_deref().unwrap_or(authority))
            }
            None => format!("{scheme}://{authority}{path}"),
        }
    }
}

/// The routes of every host that a VirtualService names.
#[derive(Debug, Default)]
pub(in crate::policy) struct HttpServices {
    pub(in crate::policy) by_host: HostMap<usize>,
    pub(in crate::policy) by_address: HashMap<IpAddr, usize, RandomState>,
    pub(in crate::policy) services: Vec<HttpService>,
}

#[derive(Debug)]
pub(in crate::policy) struct HttpService {
    pub(in crate::policy) source: Source,
    pub(in crate::policy) routes: Vec<HttpRoute>,
}

impl HttpService {
    /// The first route that takes the request to port `dialled`, and the destination that `random` picks.
    ///
    /// # Errors
    /// None takes it.
    pub(in crate::policy) fn route(
        &self,
        dialled: u16,
        request: &RequestView<'_>,
        random: u64,
    ) -> Result<RouteMatch<'_>, Unrouted<'_>> {
        let path = match normal_path(split_query(request.target).0) {
            Ok(path) => path,
            Err(_) if self.asks_for_paths() => return Err(Unrouted::AmbiguousPath),
            Err(_) => Cow::Borrowed(&b"/"[..]),
        };
        for route in &self.routes {
            let prefix = if route.matches.is_empty() {
                Some(1)
            } else {
                let Some(one) = route.matches.iter().find(|one| holds(one, &path, dialled, request)) else { continue };
                match &one.uri {
                    None => Some(1),
                    Some(TextMatch::Prefix(prefix)) => Some(prefix.len()),
                    Some(_) => None,
                }
            };
            let all = if let Action::Forward(all) = &route.action { all.as_slice() } else { &[] };
            return Ok(RouteMatch { route, destination: pick(all, random), prefix });
        }
        Err(Unrouted::NoRoute(&self.source))
    }

    fn originates_tls(&self) -> bool {
        let destinations = self.routes.iter().flat_map(|route| match &route.action {
            Action::Forward(all) => all.as_slice(),
            Action::Answer(_) => &[],
        });
        destinations.flat_map(Destination::all).any(|cluster| !matches!(cluster.transport, Transport::Plaintext))
    }

    fn asks_for_paths(&self) -> bool {
        self.routes.iter().any(|route| route.rewrites_path() || route.matches.iter().any(|one| one.uri.is_some()))
    }
}

impl HttpServices {
    pub(in crate::policy) fn of(&self, host: &Host) -> Option<&HttpService> {
        match host {
            Host::Name(name) => self.by_host.find(name.as_str()).map(|id| &self.services[*id]),
            Host::Ip(ip) => self.by_address.get(ip).map(|id| &self.services[*id]),
        }
    }

    /// The addresses that are hosts whose routes may send requests over TLS.
    pub(in crate::policy) fn addresses_with_tls(&self) -> impl Iterator<Item = IpAddr> {
        let with_tls = self.by_address.iter().filter(|(_, id)| self.services[**id].originates_tls());
        with_tls.map(|(ip, _)| *ip)
    }

    /// The hosts whose routes may send requests over TLS.
    pub(in crate::policy) fn hosts_with_tls(&self) -> impl Iterator<Item = HostPattern> {
        let originate: Vec<bool> = self.services.iter().map(HttpService::originates_tls).collect();
        self.by_host.iter().filter_map(move |(host, id)| originate[*id].then_some(host))
    }
}

fn holds(one: &HttpMatch, path: &[u8], dialled: u16, request: &RequestView<'_>) -> bool {
    let is = |wanted: &Option<TextMatch>, text: &[u8]| wanted.as_ref().is_none_or(|w| w.is_match(text, false));
    let has = |name: &str, wanted: &TextMatch| (request.any_value)(name, &mut |value| wanted.is_match(value, false));
    // Istio asks Envoy to take a field that is not there for an empty one (`treat_missing_header_as_empty`), unless any
    // value is meant.
    let takes_nothing = |wanted: &TextMatch| !matches!(wanted, TextMatch::Present) && wanted.is_match(b"", false);
    let is_absent = |name: &str| !(request.any_value)(name, &mut |_| true);
    let is_seen = |name: &str, wanted: &TextMatch| has(name, wanted) || takes_nothing(wanted) && is_absent(name);
    !one.never
        && one.port.is_none_or(|port| port == dialled)
        && one.uri.as_ref().is_none_or(|uri| uri.is_match(path, one.ignore_uri_case))
        && is(&one.method, request.method)
        && is(&one.authority, request.authority)
        && is(&one.scheme, b"http")
        && one.query.iter().all(|(name, wanted)| {
            query_parameter(request.target, name).is_some_and(|value| wanted.is_match(value, false))
        })
        && one.headers.iter().all(|(name, wanted)| has(name, wanted))
        && !one.without_headers.iter().any(|(name, wanted)| is_seen(name, wanted))
}
