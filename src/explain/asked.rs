//! The proxy's own questions in the proxy's order: what a table says of a connection, once for each destination that it
//! may be given.
//!
//! It knows no words for the answers.

use std::sync::Arc;

use super::target::{Speaks, Target};
use crate::flow::OriginalDst;
use crate::http::any_value;
use crate::policy::{
    Action, Cluster, Decision, Declared, Denial, Destination, Facts, FirstLook, HttpRoute, PolicyTable, RequestView,
    Routed, Sni, Split, Unread,
};

/// One answer of the table: where several may get a share, that of the one on which the dice fell.
pub(super) struct Answer<'t> {
    pub(super) seen_as: &'static str,
    pub(super) asked: Asked<'t>,
    /// The route for bytes that took it.
    pub(super) split: Option<&'t Split>,
}

/// A destination that some get, and a number on which the dice fall for it.
pub(super) struct Fallen<'t> {
    pub(super) to: &'t Destination,
    pub(super) dice: u64,
}

impl<'t> Answer<'t> {
    fn plain(seen_as: &'static str, asked: Asked<'t>) -> Self {
        Self { seen_as, asked, split: None }
    }

    pub(super) fn shares(&self) -> Vec<Fallen<'t>> {
        let destinations = match (self.asked.route(), self.split) {
            (Some(HttpRoute { action: Action::Forward(all), .. }), _) => all.as_slice(),
            (None, Some(split)) => split.destinations.as_slice(),
            _ => &[],
        };
        let mut dice = 0;
        let mut share = |to: &'t Destination| {
            let fallen = Fallen { to, dice };
            dice += u64::from(to.weight);
            fallen
        };
        destinations.iter().filter(|to| to.weight > 0).map(&mut share).collect()
    }

    /// The AuthorizationPolicies that are asked: those of where it was to go, and of where a route sends it.
    pub(super) fn policies(&self, table: &'t PolicyTable, target: &Target, dst: OriginalDst) -> Vec<String> {
        let sent = self.asked.cluster(table);
        let own = match (self.split, self.asked.route()) {
            (Some(split), _) => Some(split.own(table)),
            (None, Some(_)) => match table.http(dst, &target.host) {
                Decision::Forward(cluster) => Some(&**cluster),
                _ => None,
            },
            (None, None) => return table.authorization_policies(sent),
        };
        let mut all = table.authorization_policies(own);
        all.extend(sent.map(|cluster| table.authorization_policies(Some(cluster))).unwrap_or_default());
        all
    }
}

/// What the table says of a connection.
pub(super) enum Asked<'t> {
    /// By its bytes, which are not read as requests.
    Connection(Decision<'t>),
    /// It may be a request that nobody can read: closed.
    Unreadable(&'static str),
    Request(Decision<'t>),
    /// A request that a route sends on.
    Sent(&'t Arc<Cluster>, &'t HttpRoute),
    /// A request that a route sends on, and that may not go there.
    Stopped(Denial<'t>, &'t HttpRoute),
    /// A request that a route answers, or whose destination does not exist.
    Answered(&'t HttpRoute),
    /// No route of the VirtualService takes the request.
    NoRoute(String),
    AmbiguousPath,
}

impl<'t> Asked<'t> {
    pub(super) fn route(&self) -> Option<&'t HttpRoute> {
        match self {
            Asked::Sent(_, route) | Asked::Stopped(_, route) | Asked::Answered(route) => Some(route),
            _ => None,
        }
    }

    /// Where it goes, or would have gone.
    pub(super) fn cluster(&self, table: &'t PolicyTable) -> Option<&'t Cluster> {
        match self {
            Asked::Connection(Decision::Forward(cluster))
            | Asked::Request(Decision::Forward(cluster))
            | Asked::Sent(cluster, _) => Some(&***cluster),
            Asked::Connection(Decision::Deny(denial)) | Asked::Request(Decision::Deny(denial)) => {
                named(table, denial.cluster())
            }
            Asked::Stopped(denial, _) => named(table, denial.cluster()),
            _ => None,
        }
    }
}

fn named<'t>(table: &'t PolicyTable, name: &str) -> Option<&'t Cluster> {
    table.clusters().iter().find(|cluster| cluster.name == name).map(AsRef::as_ref)
}

pub(super) fn ask<'t>(table: &'t PolicyTable, target: &Target, dst: OriginalDst, dice: u64) -> Answer<'t> {
    let connection = |seen_as, decision: Decision<'t>, sni: Sni<'_>| {
        let split = if let Decision::Split(split) = decision { Some(split) } else { None };
        let facts = Facts { destination: dst, sni, request: None };
        Answer { seen_as, asked: Asked::Connection(table.fallen(decision, &facts, dice)), split }
    };
    if let FirstLook::Decided(decision) = table.first_look(dst) {
        let seen_as = match decision {
            Decision::Passthrough => "bytes that no ServiceEntry and no policy is about, carried from the first one",
            _ => "bytes of a declared TCP port, never inspected",
        };
        return connection(seen_as, decision, Sni::Unread);
    }
    match target.speaks {
        Speaks::Http => ask_routes(table, target, dst, dice),
        Speaks::Tls => {
            let sni = target.sni().map_or(Sni::Absent, Sni::Name);
            connection("TLS of the application, by its SNI", table.tls(dst, target.sni()), sni)
        }
        Speaks::Bytes => {
            let seen_as = match table.declared(dst) {
                Declared { http: false, tls: false } => "neither HTTP nor TLS, or a server that speaks first",
                _ => "neither HTTP nor TLS; a server that speaks first would be waited for in vain",
            };
            match table.must_be_read(dst) {
                Some(why) => Answer::plain(seen_as, Asked::Unreadable(why)),
                None => connection(seen_as, table.opaque(dst, Unread::Unknown), Sni::Absent),
            }
        }
    }
}

/// As a request with the header fields that were told, and its Host.
fn ask_routes<'t>(table: &'t PolicyTable, target: &Target, dst: OriginalDst, dice: u64) -> Answer<'t> {
    let (authority, path) = (target.authority.as_bytes(), target.path.as_bytes());
    let method = target.method.as_bytes();
    let any_value = |name: &str, is_wanted: &mut dyn FnMut(&[u8]) -> bool| {
        let lines = target.headers.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_bytes());
        any_value(name, lines, is_wanted)
    };
    let view = RequestView { host: &target.host, authority, method, target: path, any_value: &any_value };
    let mut split = None;
    let asked = match table.http_request(dst, &view) {
        Routed::Unrouted(decision) => {
            split = if let Decision::Split(split) = decision { Some(split) } else { None };
            Asked::Request(table.fallen(decision, &Facts::of_request(dst, &view), dice))
        }
        Routed::Route(route, _) => match route.destination(dice).and_then(|to| to.cluster(dst.port())) {
            Some(cluster) => match table.admit_routed(cluster, dst, &view) {
                Ok(()) => Asked::Sent(cluster, route),
                Err(denial) => Asked::Stopped(denial, route),
            },
            None => Asked::Answered(route),
        },
        Routed::NoRoute(source) => Asked::NoRoute(source.to_string()),
        Routed::AmbiguousPath => Asked::AmbiguousPath,
    };
    Answer { split, ..Answer::plain("plain HTTP", asked) }
}
