//! What a table would make of a connection, in words: which documents decide, what would become of it, what the log
//! would say.
//!
//! It asks the table what the proxy asks, and adds nothing to its answers. It knows no
//! file and no socket: where the table came from, whether from files alone or from a running process, is the caller's.

mod answer;
mod known;
mod log;
mod render;
mod report;
mod target;

use std::sync::Arc;

use crate::config::{Location, Resources};
use crate::flow::{Authority, Host, Hostname, OriginalDst};
use crate::policy::publish::{Addresses, Published};
use crate::policy::{Cluster, ClusterProtocol, Decision, Materials, PolicyTable, Refusal, Workload, compile};
use crate::tls::{ClientProfile, ProfileRequest};
use answer::{Answer, ask};
use known::refusal;
use render::Named;

pub use known::{Known, Material};
pub use log::Logged;
pub use report::{DecisionKind, Matched, Report, Share};
pub use target::{Question, Speaks, Target, TargetError};

/// Notes that names and material are wanted, and gets neither.
struct Offline;

/// Of bytes that are refused because of where they go.
const ASSUMED: &str = "names are not resolved offline: an address that is none of such a host's passes";

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
    let each = shares.iter().map(|share| (share.to, ask(table, target, dst, share.random)));
    let each: Vec<_> = each.filter(|_| shares.len() > 1).collect();
    let destinations = each.iter().map(|(to, answer)| {
        let Told { decision, outcome, matched, logged } = told(answer, target, dst, known);
        Share { name: to.name.clone(), weight: to.weight, of: total, decision, outcome, matched, logged }
    });
    let destinations = destinations.collect();
    let answers = || std::iter::once(&first).chain(each.iter().map(|(_, answer)| answer));
    let Told { decision, outcome, matched, logged } = told(&first, target, dst, known);
    let is_unreadable = matches!(first.verdict.decision, Decision::Refuse(Refusal::Unreadable { .. }));
    let assumed = (known.material == Material::Missing && is_unreadable).then(|| ASSUMED.to_owned());
    let of_clusters = answers().filter_map(|answer| answer.verdict.cluster()).flat_map(|c| warnings(c, known));
    Report {
        url: target.url.clone(),
        policy_version: (known.material == Material::Loaded).then(|| table.version()),
        seen_as: first.seen_as.to_owned(),
        decision,
        outcome,
        outbound_traffic_policy: table.settings().outbound_traffic_policy.name().to_owned(),
        virtual_service: first.http_route().map(render::route).or(first.byte_route().map(render::split)),
        authorization_policies: distinct(answers().flat_map(|answer| answer.verdict.judged_by())),
        connections: carries_requests(&first).then(|| render::CONNECTIONS.to_owned()),
        assumed_address: target.address.is_none().then_some(dst.ip()),
        matched,
        destinations,
        logged,
        warnings: distinct(of_clusters.chain(assumed)),
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
    decision: DecisionKind,
    outcome: String,
    matched: Option<Matched>,
    logged: Logged,
}

fn told(answer: &Answer<'_>, target: &Target, dst: OriginalDst, known: Known<'_>) -> Told {
    let logged = log::logged(answer, target, known);
    let (decision, outcome) = decided(answer, target, dst, known, logged.response_code);
    let rewritten = rewritten_host(answer);
    let named = match &rewritten {
        Some(host) => Named { host, from: "the route's rewrite.authority" },
        None => Named { host: &target.host, from: "the request's host" },
    };
    let matched = answer.verdict.cluster().map(|cluster| matched(cluster, target, named, known));
    Told { decision, outcome, matched, logged }
}

/// Whether requests are read and sent on.
fn carries_requests(answer: &Answer<'_>) -> bool {
    answer.verdict.is_request()
        && match answer.verdict.decision {
            Decision::Passthrough | Decision::ByName => true,
            Decision::Forward(cluster) => cluster.protocol != ClusterProtocol::Opaque,
            Decision::Answer(..) | Decision::Refuse(_) => false,
        }
}

/// The host that a route puts in the place of the request's. TLS names and checks it, where the rule does not say what.
fn rewritten_host(answer: &Answer<'_>) -> Option<Host> {
    let authority = answer.destination()?.authority.as_deref()?;
    Authority::parse(authority).ok().map(|authority| authority.host)
}

/// `code` is that of the log: what is not answered has none.
fn decided(
    answer: &Answer<'_>,
    target: &Target,
    dst: OriginalDst,
    known: Known<'_>,
    code: Option<u16>,
) -> (DecisionKind, String) {
    match &answer.verdict.decision {
        Decision::Forward(cluster) => {
            let refusal = refusal(cluster, known.material);
            let kind = if refusal.is_some() { DecisionKind::Refuse } else { DecisionKind::Forward };
            (kind, render::forwarded(cluster, refusal, &target.host, target.speaks == Speaks::Http))
        }
        Decision::Passthrough => {
            let why = unknown(known.table, target, dst);
            let outcome = "unknown destinations are allowed: passed on unchanged to the address dialled";
            (DecisionKind::Passthrough, format!("{why}; {outcome}"))
        }
        Decision::ByName => {
            let why = unknown(known.table, target, dst);
            let (host, port) = (&target.host, dst.port());
            let outcome = format!(
                "{why}; unknown destinations are allowed: passed on unchanged to what {host} resolves to then, port {port}"
            );
            (DecisionKind::Passthrough, outcome)
        }
        Decision::Answer(route, answer) => (DecisionKind::Answer, render::answer(route, answer)),
        Decision::Refuse(refusal) => {
            let end = code.filter(|code| *code > 0).map_or("closed".to_owned(), |code| format!("answered with {code}"));
            refused(answer, *refusal, target, dst, known.table, &end)
        }
    }
}

/// `end`: how the connection or the request ends.
fn refused(
    answer: &Answer<'_>,
    refusal: Refusal<'_>,
    target: &Target,
    dst: OriginalDst,
    table: &PolicyTable,
    end: &str,
) -> (DecisionKind, String) {
    match (refusal, answer.http_route()) {
        (Refusal::BlackHole, _) => {
            let why = unknown(table, target, dst);
            (DecisionKind::Deny, format!("{why}; unknown destinations are forbidden: {end}"))
        }
        (Refusal::UnlistedPort(of), _) => {
            let host = &of.host;
            let outcome = format!("the address stands for {host}, whose ServiceEntry has no such port: {end}");
            (DecisionKind::Deny, outcome)
        }
        (Refusal::Forbidden { details, cluster }, _) => {
            let whither = cluster.map_or("what no ServiceEntry lists", |cluster| &cluster.name);
            let outcome =
                format!("an AuthorizationPolicy forbids it on the way to {whither}: {end}, logged as {details}");
            (DecisionKind::Deny, outcome)
        }
        (Refusal::Unreachable { why, .. }, _) => (DecisionKind::Deny, format!("{}: {end}", why.reason())),
        (Refusal::NoCluster(_), Some(route)) => (DecisionKind::Answer, render::no_destination(route, end)),
        (Refusal::NoCluster(name), None) => {
            (DecisionKind::Deny, format!("the route leads to {name}, which no ServiceEntry lists: {end}"))
        }
        (Refusal::NoRoute(source), _) => {
            (DecisionKind::Answer, format!("no route of VirtualService {source} takes it: {end}"))
        }
        (Refusal::AmbiguousPath, _) => {
            (DecisionKind::Answer, format!("the path is ambiguous, and routes ask for it: {end}"))
        }
        (Refusal::Unreadable { why, dialled }, _) => {
            let ip = dialled.ip();
            let outcome = format!(
                "{end}, logged as {why}: a request in disguise could otherwise leave unseen by the policy of a host that \
                 may be at {ip}"
            );
            (DecisionKind::Refuse, outcome)
        }
        (Refusal::Tunnel(why), _) => (DecisionKind::Deny, format!("{why}: {end}")),
        (Refusal::NoTls(why), _) => (DecisionKind::Refuse, format!("{why}: {end}")),
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

fn matched(cluster: &Cluster, target: &Target, named: Named<'_>, known: Known<'_>) -> Matched {
    let settings = known.table.settings();
    Matched {
        cluster: cluster.name.clone(),
        service_entry: cluster.origin.service_entry.to_string(),
        destination_rule: cluster.origin.destination_rule.as_ref().map(ToString::to_string),
        endpoints: render::endpoints(cluster, target.port, known.material),
        tls: cluster.tls_request.as_ref().map(|request| render::tls(request, cluster, named)),
        limits: render::limits(cluster, settings),
        rule: render::rule(cluster),
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
