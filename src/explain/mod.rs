//! What a table would make of a connection, in words: which documents decide, what would become of it, what the log
//! would say.
//!
//! It asks the table the questions that the proxy asks, in the proxy's order, and adds nothing to its answers. It knows no
//! file and no socket: where the table came from, whether from files alone or from a running process, is the caller's.

mod asked;
mod known;
mod log;
mod render;
mod report;
mod target;

use std::sync::Arc;

use crate::config::{Location, Resources};
use crate::flow::{Authority, Host, Hostname, OriginalDst};
use crate::policy::publish::{Addresses, Published};
use crate::policy::{Cluster, ClusterProtocol, Decision, Denial, Materials, PolicyTable, Workload, compile};
use crate::tls::{ClientProfile, ProfileRequest};
use asked::{Asked, ask};
use known::refusal;
use render::Named;

pub use known::{Known, Material};
pub use log::Logged;
pub use report::{Matched, Report, Share, Verdict};
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
    let each = shares.iter().map(|share| (share.to, ask(table, target, dst, share.dice)));
    let each: Vec<_> = each.filter(|_| shares.len() > 1).collect();
    let destinations = each.iter().map(|(to, answer)| {
        let Told { decision, outcome, matched, logged } = told(&answer.asked, target, dst, known);
        Share { name: to.name.clone(), weight: to.weight, of: total, decision, outcome, matched, logged }
    });
    let destinations = destinations.collect();
    let answers = || std::iter::once(&first).chain(each.iter().map(|(_, answer)| answer));
    let Told { decision, outcome, matched, logged } = told(&first.asked, target, dst, known);
    let is_assumed = known.material == Material::Missing && matches!(first.asked, Asked::Unreadable(_));
    let assumed = is_assumed.then(|| ASSUMED.to_owned());
    let of_clusters = answers().filter_map(|a| a.asked.cluster(table)).flat_map(|c| warnings(c, known));
    Report {
        url: target.url.clone(),
        policy_version: (known.material == Material::Loaded).then(|| table.version()),
        seen_as: first.seen_as.to_owned(),
        decision,
        outcome,
        outbound_traffic_policy: table.settings().outbound_traffic_policy.name().to_owned(),
        virtual_service: first.asked.route().map(render::route).or(first.split.map(render::split)),
        authorization_policies: distinct(answers().flat_map(|answer| answer.policies(table, target, dst))),
        connections: carries_requests(&first.asked, known.table).then(|| render::CONNECTIONS.to_owned()),
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
    decision: Verdict,
    outcome: String,
    matched: Option<Matched>,
    logged: Logged,
}

fn told(asked: &Asked<'_>, target: &Target, dst: OriginalDst, known: Known<'_>) -> Told {
    let (decision, outcome) = judged(asked, target, dst, known);
    let rewritten = rewritten_host(asked);
    let named = match &rewritten {
        Some(host) => Named { host, from: "the route's rewrite.authority" },
        None => Named { host: &target.host, from: "the request's host" },
    };
    let matched = asked.cluster(known.table).map(|cluster| matched(cluster, target, named, known));
    Told { decision, outcome, matched, logged: log::logged(asked, target, dst, known) }
}

/// Whether requests are read and sent on.
fn carries_requests(asked: &Asked<'_>, table: &PolicyTable) -> bool {
    match asked {
        Asked::Request(Decision::Passthrough | Decision::ByName) => true,
        Asked::Request(Decision::Forward(_)) | Asked::Sent(..) => {
            asked.cluster(table).is_some_and(|cluster| cluster.protocol != ClusterProtocol::Opaque)
        }
        _ => false,
    }
}

/// The host that a route puts in the place of the request's. TLS names and checks it, where the rule does not say what.
fn rewritten_host(asked: &Asked<'_>) -> Option<Host> {
    let authority = asked.route()?.rewrite.authority.as_deref()?;
    Authority::parse(authority).ok().map(|authority| authority.host)
}

fn judged(asked: &Asked<'_>, target: &Target, dst: OriginalDst, known: Known<'_>) -> (Verdict, String) {
    match asked {
        Asked::Connection(Decision::Forward(cluster))
        | Asked::Request(Decision::Forward(cluster))
        | Asked::Sent(cluster, _) => {
            let refusal = refusal(cluster, known.material);
            let verdict = if refusal.is_some() { Verdict::Refuse } else { Verdict::Forward };
            (verdict, render::forwarded(cluster, refusal, &target.host, target.speaks == Speaks::Http))
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
            (Verdict::Refuse, format!("{} leads nowhere", render::split(split)))
        }
        Asked::Connection(Decision::Deny(denial)) => {
            (Verdict::Deny, denied(known.table, target, dst, *denial, |_| "closed".to_owned()))
        }
        Asked::Request(Decision::Deny(denial)) | Asked::Stopped(denial, _) => {
            (Verdict::Deny, denied(known.table, target, dst, *denial, |status| format!("answered with {status}")))
        }
        Asked::Unreadable(why) => {
            let outcome = format!(
                "closed, logged as {why}: a request in disguise could otherwise leave unseen by the policy of a host that \
                 may be at {}",
                dst.ip()
            );
            (Verdict::Refuse, outcome)
        }
        Asked::Answered(route) => (Verdict::Answer, render::answer(route)),
        Asked::NoRoute(source) => {
            (Verdict::Answer, format!("no route of VirtualService {source} takes it: answered with 404"))
        }
        Asked::AmbiguousPath => {
            (Verdict::Answer, "the path is ambiguous, and routes ask for it: answered with 400".to_owned())
        }
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

fn matched(cluster: &Cluster, target: &Target, named: Named<'_>, known: Known<'_>) -> Matched {
    let settings = known.table.settings();
    Matched {
        cluster: cluster.name.clone(),
        service_entry: cluster.origin.service_entry.to_string(),
        destination_rule: cluster.origin.destination_rule.as_ref().map(ToString::to_string),
        endpoints: render::endpoints(cluster, target.port, known.material),
        tls: cluster.tls_request.as_ref().map(|request| render::tls(request, named)),
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
