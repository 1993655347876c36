//! What a table would make of a connection, in words: which documents decide, what would become of it, what the log
//! would say.
//!
//! It asks the table the questions that the proxy asks, in the proxy's order, and adds nothing to its answers. It knows no
//! file and no socket: where the table came from, whether from files alone or from a running process, is the caller's.

mod log;
mod report;
mod target;
mod words;

use std::sync::Arc;

use crate::config::{Location, Problem, Resources};
use crate::flow::{Hostname, OriginalDst};
use crate::policy::publish::{Addresses, Published};
use crate::policy::{
    Action, Cluster, Decision, Denial, Destination, Facts, FirstLook, HttpRoute, Materials, PolicyTable, RequestView,
    Routed, Sni, Split, Transport, Unread, Workload, compile,
};
use crate::tls::{ClientProfile, ProfileRequest};

pub use log::Logged;
pub use report::{Matched, Report, Share, Verdict};
pub use target::{Question, Speaks, Target, TargetError};

/// A table and where it comes from.
#[derive(Clone, Copy)]
pub struct Known<'k> {
    pub table: &'k PolicyTable,
    pub resources: &'k Resources,
    /// What compiling them found.
    pub problems: &'k [Problem],
    pub material: Material,
}

/// What stands behind a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Material {
    /// Neither keys nor addresses: a cluster's transport says nothing, what TLS would need is told as asked for.
    Missing,
    /// Those of a running process.
    Loaded,
}

/// Notes that names and material are wanted, and gets neither.
struct Offline;

const OFFLINE: &str = "nothing is loaded offline";

impl Materials for Offline {
    fn profile(&mut self, _: &ProfileRequest) -> Result<Arc<ClientProfile>, String> {
        Err(OFFLINE.to_owned())
    }

    fn addresses(&mut self, _: &Hostname) -> Addresses {
        Published::new(Vec::new())
    }
}

/// By the resources alone: no name is resolved, no key is loaded.
#[must_use]
pub fn offline(target: &Target, resources: &Resources, workload: &Workload) -> Report {
    let (table, problems) = compile(resources, workload, &mut Offline);
    explain(target, Known { table: &table, resources, problems: &problems, material: Material::Missing })
}

/// What `known` makes of `target`.
#[must_use]
pub fn explain(target: &Target, known: Known<'_>) -> Report {
    let table = known.table;
    let dst = target.dst(known.resources);
    let first = ask(table, target, dst, 0);
    let shares = first.shares();
    let total: u64 = shares.iter().map(|share| u64::from(share.to.weight)).sum();
    let each = shares.iter().map(|share| (share.to, ask(table, target, dst, share.dice)));
    let each: Vec<_> = each.filter(|_| shares.len() > 1).collect();
    let destinations = each.iter().map(|(to, answer)| {
        let Told { decision, outcome, matched, logged } = told(&answer.asked, target, dst, known);
        Share { name: to.name.clone(), weight: to.weight, of: total, decision, outcome, matched, logged }
    });
    let destinations = destinations.collect();
    let answers = || std::iter::once(&first).chain(each.iter().map(|(_, answer)| answer));
    let Told { decision, outcome, matched, logged } = told(&first.asked, target, dst, known);
    Report {
        url: target.url.clone(),
        policy_version: (known.material == Material::Loaded).then(|| table.version()),
        seen_as: first.seen_as.to_owned(),
        decision,
        outcome,
        outbound_traffic_policy: table.settings().outbound_traffic_policy.name().to_owned(),
        virtual_service: first.asked.route().map(words::route).or(first.split.map(words::split)),
        authorization_policies: distinct(answers().flat_map(|answer| answer.policies(table, target, dst))),
        assumed_address: target.address.is_none().then_some(dst.ip()),
        matched,
        destinations,
        logged,
        warnings: distinct(answers().filter_map(|a| a.asked.cluster(table)).flat_map(|c| warnings(c, known))),
    }
}

/// In order, each once.
fn distinct(texts: impl Iterator<Item = String>) -> Vec<String> {
    let mut seen = Vec::new();
    for text in texts {
        if !seen.contains(&text) {
            seen.push(text);
        }
    }
    seen
}

/// What is told of one way that a connection may go.
struct Told {
    decision: Verdict,
    outcome: String,
    matched: Option<Matched>,
    logged: Logged,
}

fn told(asked: &Asked<'_>, target: &Target, dst: OriginalDst, known: Known<'_>) -> Told {
    let (decision, outcome) = judged(asked, target, dst, known);
    let matched = asked.cluster(known.table).map(|cluster| matched(cluster, target, known));
    Told { decision, outcome, matched, logged: log::logged(asked, target, dst, known) }
}

/// One answer of the table: where several may get a share, that of the one on which the dice fell.
struct Answer<'t> {
    seen_as: &'static str,
    asked: Asked<'t>,
    /// The route for bytes that took it.
    split: Option<&'t Split>,
}

/// A destination that some get, and a number on which the dice fall for it.
struct Fallen<'t> {
    to: &'t Destination,
    dice: u64,
}

impl<'t> Answer<'t> {
    fn plain(seen_as: &'static str, asked: Asked<'t>) -> Self {
        Self { seen_as, asked, split: None }
    }

    fn shares(&self) -> Vec<Fallen<'t>> {
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
    fn policies(&self, table: &'t PolicyTable, target: &Target, dst: OriginalDst) -> Vec<String> {
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
enum Asked<'t> {
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
    fn route(&self) -> Option<&'t HttpRoute> {
        match self {
            Asked::Sent(_, route) | Asked::Stopped(_, route) | Asked::Answered(route) => Some(route),
            _ => None,
        }
    }

    /// Where it goes, or would have gone.
    fn cluster(&self, table: &'t PolicyTable) -> Option<&'t Cluster> {
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

fn ask<'t>(table: &'t PolicyTable, target: &Target, dst: OriginalDst, dice: u64) -> Answer<'t> {
    let connection = |seen_as, decision: Decision<'t>, sni: Sni<'_>| {
        let split = if let Decision::Split(split) = decision { Some(split) } else { None };
        let facts = Facts { destination: dst, sni, request: None };
        Answer { seen_as, asked: Asked::Connection(table.fallen(decision, &facts, dice)), split }
    };
    if let FirstLook::Decided(decision) = table.first_look(dst) {
        return connection("bytes of a declared TCP port, never inspected", decision, Sni::Unread);
    }
    match target.speaks {
        Speaks::Http => ask_routes(table, target, dst, dice),
        Speaks::Tls => {
            let sni = target.sni().map_or(Sni::Absent, Sni::Name);
            connection("TLS of the application, by its SNI", table.tls(dst, target.sni()), sni)
        }
        Speaks::Bytes => {
            let seen_as = "neither HTTP nor TLS, or a server that speaks first";
            match table.must_be_read(dst) {
                Some(why) => Answer::plain(seen_as, Asked::Unreadable(why)),
                None => connection(seen_as, table.opaque(dst, Unread::Unknown), Sni::Absent),
            }
        }
    }
}

/// As a request without header fields but its Host.
fn ask_routes<'t>(table: &'t PolicyTable, target: &Target, dst: OriginalDst, dice: u64) -> Answer<'t> {
    let (authority, path) = (target.authority.as_bytes(), target.path.as_bytes());
    let method = target.method.as_bytes();
    let view = RequestView { host: &target.host, authority, method, target: path, field: &|_| None };
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

fn judged(asked: &Asked<'_>, target: &Target, dst: OriginalDst, known: Known<'_>) -> (Verdict, String) {
    match asked {
        Asked::Connection(Decision::Forward(cluster))
        | Asked::Request(Decision::Forward(cluster))
        | Asked::Sent(cluster, _) => {
            let refusal = refusal(cluster, known.material);
            let verdict = if refusal.is_some() { Verdict::Refuse } else { Verdict::Forward };
            (verdict, words::forwarded(cluster, refusal, &target.host, target.speaks == Speaks::Http))
        }
        Asked::Connection(Decision::Passthrough) | Asked::Request(Decision::Passthrough) => {
            (Verdict::Passthrough, passed(known.table, target, dst))
        }
        Asked::Connection(Decision::ByName) | Asked::Request(Decision::ByName) => {
            let why = unknown(known.table, target, dst);
            let (host, port) = (&target.host, dst.port());
            let outcome = format!(
                "{why}; unknown destinations are allowed: passed on unchanged to what {host} resolves to then, port {port}"
            );
            (Verdict::Passthrough, outcome)
        }
        // The dice have fallen before.
        Asked::Connection(Decision::Split(split)) | Asked::Request(Decision::Split(split)) => {
            (Verdict::Refuse, format!("{} leads nowhere", words::split(split)))
        }
        Asked::Connection(Decision::Deny(denial)) => {
            (Verdict::Deny, denied(known.table, target, dst, *denial, |_| "closed".to_owned()))
        }
        Asked::Request(Decision::Deny(denial)) | Asked::Stopped(denial, _) => {
            (Verdict::Deny, denied(known.table, target, dst, *denial, |status| format!("answered with {status}")))
        }
        Asked::Unreadable(why) => {
            let outcome = format!(
                "closed, logged as {why}: a request in disguise could otherwise leave unseen by this port's policy"
            );
            (Verdict::Refuse, outcome)
        }
        Asked::Answered(route) => (Verdict::Answer, words::answer(route)),
        Asked::NoRoute(source) => {
            (Verdict::Answer, format!("no route of VirtualService {source} takes it: answered with 404"))
        }
        Asked::AmbiguousPath => {
            (Verdict::Answer, "the path is ambiguous, and routes ask for it: answered with 400".to_owned())
        }
    }
}

/// Why nothing can be sent to `cluster`. Without material, a cluster that asked for some is not to be blamed.
fn refusal(cluster: &Cluster, material: Material) -> Option<&str> {
    match &cluster.transport {
        Transport::Refused(reason) if material == Material::Loaded || cluster.tls_request.is_none() => Some(reason),
        Transport::Refused(_) | Transport::Plaintext | Transport::Tls(_) => None,
    }
}

fn passed(table: &PolicyTable, target: &Target, dst: OriginalDst) -> String {
    format!(
        "{}; unknown destinations are allowed: passed on unchanged to the address dialled",
        unknown(table, target, dst)
    )
}

fn denied(
    table: &PolicyTable,
    target: &Target,
    dst: OriginalDst,
    denial: Denial<'_>,
    answer: impl Fn(u16) -> String,
) -> String {
    match denial {
        Denial::BlackHole => {
            format!("{}; unknown destinations are forbidden: {}", unknown(table, target, dst), answer(502))
        }
        Denial::NoCluster(name) => format!("the route leads to {name}, which no ServiceEntry lists: {}", answer(503)),
        Denial::Forbidden { details, cluster } => format!(
            "an AuthorizationPolicy forbids it on the way to {}: {}, logged as {details}",
            cluster.unwrap_or("what no ServiceEntry lists"),
            answer(403),
        ),
        Denial::Unreachable { why, .. } => format!("{}: {}", why.reason(), answer(403)),
    }
}

/// Why nothing matched, with the ports on which the host would have.
fn unknown(table: &PolicyTable, target: &Target, dst: OriginalDst) -> String {
    let host = target.host.to_string();
    let mut ports: Vec<u16> = table.clusters().iter().filter(|c| c.host == host).map(|c| c.origin.port).collect();
    ports.sort_unstable();
    ports.dedup();
    if ports.is_empty() {
        return format!("no ServiceEntry lists {host}");
    }
    let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
    format!("no ServiceEntry takes this to {dst} ({host} is listed on port {})", ports.join(", "))
}

fn matched(cluster: &Cluster, target: &Target, known: Known<'_>) -> Matched {
    let settings = known.table.settings();
    Matched {
        cluster: cluster.name.clone(),
        service_entry: cluster.origin.service_entry.to_string(),
        destination_rule: cluster.origin.destination_rule.as_ref().map(ToString::to_string),
        endpoints: words::endpoints(cluster, target.port, known.material),
        tls: cluster.tls_request.as_ref().map(|request| words::tls(request, &target.host)),
        limits: words::limits(cluster, settings),
        rule: words::rule(cluster),
    }
}

/// The warnings that stand at the two documents, and at rules for the same host that do not hold.
fn warnings(cluster: &Cluster, known: Known<'_>) -> Vec<String> {
    let Known { resources, problems, .. } = known;
    let mut places: Vec<&Location> = vec![&cluster.origin.service_entry.at];
    let entry = resources.service_entries.iter().find(|entry| entry.meta.at == cluster.origin.service_entry.at);
    let port = entry.and_then(|entry| entry.ports.iter().find(|port| port.number == cluster.origin.port));
    places.extend(port.map(|port| &port.at));
    if let Some(rule) = &cluster.origin.destination_rule {
        places.push(&rule.at);
        let rule = resources.destination_rules.iter().find(|other| other.meta.at == rule.at);
        let policy = rule.and_then(|rule| rule.traffic_policy.as_ref());
        let all = policy.into_iter().flat_map(|policy| {
            std::iter::once(&policy.all).chain(policy.ports.iter().map(|(_, own)| own)).filter_map(|p| p.tls.as_ref())
        });
        places.extend(all.map(|tls| &tls.at));
    }
    let same_host = resources.destination_rules.iter().filter(|rule| rule.host.to_string() == cluster.host);
    places.extend(same_host.map(|rule| &rule.meta.at));
    let here = problems.iter().filter(|problem| problem.at.as_ref().is_some_and(|at| places.contains(&at)));
    here.map(ToString::to_string).filter(|message| !message.contains(OFFLINE)).collect()
}

#[cfg(test)]
mod tests;
