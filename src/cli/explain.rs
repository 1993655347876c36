//! `egret explain URL`: which documents decide about a connection, and what would become of it.
//!
//! It works offline, on the table that `egret run` would compile: no name is resolved, no key is loaded, nothing is
//! sent. What TLS would need is therefore told as asked for, not as found.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use serde::Serialize;

use crate::cli::explain_target::{Speaks, Target};
use crate::cli::explain_words as words;
use crate::config::{Location, OutboundPolicy, Problem, Resources, Severity};
use crate::flow::{Hostname, OriginalDst};
use crate::policy::publish::{Addresses, Published};
use crate::policy::{
    Cluster, Decision, Denial, Facts, FirstLook, Materials, PolicyTable, RequestView, Routed, Sni, Transport, Unread,
    Workload, compile,
};
use crate::tls::{ClientProfile, ProfileRequest};

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// What the application connects to: http://HOST/…, https://HOST, tls://HOST:PORT or tcp://ADDRESS:PORT
    pub url: String,
    /// Files or folders of *.yaml
    #[arg(long = "config", value_name = "PATH", default_value = "/etc/egret")]
    pub config: Vec<PathBuf>,
    /// Namespace of the pod
    #[arg(long, value_name = "NS", default_value = "default")]
    pub namespace: String,
    /// Labels of the pod
    #[arg(long, value_name = "K=V,…", value_delimiter = ',', value_parser = label)]
    pub labels: Vec<(String, String)>,
    /// The address that the application dials, when HOST is a name: matters where entries have addresses
    #[arg(long, value_name = "IP")]
    pub address: Option<IpAddr>,
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    Text,
    Json,
}

fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("{text:?} is not KEY=VALUE"))?;
    Ok((key.to_owned(), value.to_owned()))
}

/// Prints the explanation. Exit 1 when the configuration has errors, 2 when the URL is none.
pub fn run(args: &Args, load: impl FnOnce(&[PathBuf]) -> (Resources, Vec<Problem>)) -> ExitCode {
    let target = match Target::parse(&args.url, args.address) {
        Ok(target) => target,
        Err(error) => {
            eprintln!("{}: {error}", args.url);
            return ExitCode::from(2);
        }
    };
    let (resources, problems) = load(&args.config);
    let errors: Vec<&Problem> = problems.iter().filter(|problem| problem.severity == Severity::Error).collect();
    if !errors.is_empty() {
        for error in errors {
            eprintln!("{error}");
        }
        return ExitCode::FAILURE;
    }
    let workload = Workload { namespace: args.namespace.clone(), labels: args.labels.iter().cloned().collect() };
    let report = explain(&target, &resources, &workload);
    match args.output {
        Output::Text => print!("{}", report.text()),
        Output::Json => match serde_json::to_string_pretty(&report) {
            Ok(json) => println!("{json}"),
            Err(error) => {
                eprintln!("{error}");
                return ExitCode::FAILURE;
            }
        },
    }
    ExitCode::SUCCESS
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

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    url: String,
    /// What the proxy takes the connection for.
    seen_as: &'static str,
    decision: Verdict,
    /// What would happen, in words.
    outcome: String,
    outbound_traffic_policy: &'static str,
    /// The VirtualService whose route sends it, and what else the route does.
    virtual_service: Option<String>,
    assumed_address: Option<IpAddr>,
    #[serde(flatten)]
    matched: Option<Matched>,
    warnings: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Forward,
    Passthrough,
    Deny,
    Refuse,
    /// By egret itself, as a route says.
    Answer,
}

/// The cluster that a flow belongs to.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Matched {
    cluster: String,
    service_entry: String,
    destination_rule: Option<String>,
    endpoints: Vec<String>,
    tls: Option<words::Tls>,
    limits: Vec<String>,
    rule: Vec<String>,
}

fn explain(target: &Target, resources: &Resources, workload: &Workload) -> Report {
    let (table, problems) = compile(resources, workload, &mut Offline);
    let dst = target.dst(resources);
    let (seen_as, decision, virtual_service) = match ask(&table, target, dst) {
        (seen_as, Asked::Decided(Decision::Split(split))) => {
            let sni = target.sni().map_or(Sni::Absent, Sni::Name);
            let facts = Facts { destination: dst, sni, request: None };
            (seen_as, table.fallen(Decision::Split(split), &facts, 0), Some(words::split(split)))
        }
        (seen_as, Asked::Decided(decision)) => (seen_as, decision, None),
        (seen_as, Asked::Sent(cluster, route)) => (seen_as, Decision::Forward(cluster), Some(route)),
        (seen_as, Asked::Answered(outcome)) => return Report::answered(target, &table, dst, seen_as, outcome),
    };
    let (verdict, outcome, cluster) = match decision {
        Decision::Passthrough => (Verdict::Passthrough, passed(&table, target, dst), None),
        Decision::Split(split) => (Verdict::Deny, words::split(split), None),
        Decision::ByName => (Verdict::Passthrough, by_name(&table, target, dst), None),
        Decision::Deny(denial) => (Verdict::Deny, denied(&table, target, dst, denial), None),
        Decision::Forward(cluster) => {
            let refused = cluster.tls_request.is_none() && matches!(cluster.transport, Transport::Refused(_));
            let verdict = if refused { Verdict::Refuse } else { Verdict::Forward };
            (verdict, words::forwarded(cluster, &target.host, target.speaks == Speaks::Http), Some(cluster))
        }
    };
    Report {
        url: target.url.clone(),
        seen_as,
        decision: verdict,
        outcome,
        outbound_traffic_policy: outbound_policy(&table),
        virtual_service,
        assumed_address: target.address.is_none().then_some(dst.ip()),
        matched: cluster.map(|cluster| matched(cluster, target)),
        warnings: cluster.map(|cluster| warnings(cluster, resources, &problems)).unwrap_or_default(),
    }
}

fn outbound_policy(table: &PolicyTable) -> &'static str {
    match table.settings().outbound_traffic_policy {
        OutboundPolicy::AllowAny => "ALLOW_ANY",
        OutboundPolicy::AllowAnyDynamicDns => "ALLOW_ANY_DYNAMIC_DNS",
        OutboundPolicy::RegistryOnly => "REGISTRY_ONLY",
    }
}

/// What the table says of a connection.
enum Asked<'t> {
    Decided(Decision<'t>),
    /// By a route, in words.
    Sent(&'t Arc<Cluster>, String),
    /// Egret answers itself, in words.
    Answered(String),
}

fn ask<'t>(table: &'t PolicyTable, target: &Target, dst: OriginalDst) -> (&'static str, Asked<'t>) {
    if let FirstLook::Decided(decision) = table.first_look(dst) {
        return ("bytes of a declared TCP port, never inspected", Asked::Decided(decision));
    }
    match target.speaks {
        Speaks::Http => ("plain HTTP", ask_routes(table, target, dst)),
        Speaks::Tls => ("TLS of the application, by its SNI", Asked::Decided(table.tls(dst, target.sni()))),
        Speaks::Bytes => {
            ("neither HTTP nor TLS, or a server that speaks first", Asked::Decided(table.opaque(dst, Unread::Unknown)))
        }
    }
}

/// As a GET without header fields.
fn ask_routes<'t>(table: &'t PolicyTable, target: &Target, dst: OriginalDst) -> Asked<'t> {
    let (authority, path) = (target.authority.as_bytes(), target.path.as_bytes());
    let view = RequestView { host: &target.host, authority, method: b"GET", target: path, field: &|_| None };
    match table.http_request(dst, &view) {
        Routed::Unrouted(decision) => Asked::Decided(decision),
        Routed::Route(route, _) => match route.destination(0).and_then(|to| to.cluster(dst.port())) {
            Some(cluster) => match table.admit_routed(cluster, dst, &view) {
                Ok(()) => Asked::Sent(cluster, words::route(route)),
                Err(denial) => Asked::Decided(Decision::Deny(denial)),
            },
            None => Asked::Answered(words::answer(route)),
        },
        Routed::NoRoute(source) => {
            Asked::Answered(format!("no route of VirtualService {source} takes it: answered with 404"))
        }
        Routed::AmbiguousPath => {
            Asked::Answered("the path is ambiguous, and routes ask for it: answered with 400".into())
        }
    }
}

fn passed(table: &PolicyTable, target: &Target, dst: OriginalDst) -> String {
    format!(
        "{}; unknown destinations are allowed: passed on unchanged to the address dialled",
        unknown(table, target, dst)
    )
}

fn by_name(table: &PolicyTable, target: &Target, dst: OriginalDst) -> String {
    let (why, host, port) = (unknown(table, target, dst), &target.host, dst.port());
    format!("{why}; unknown destinations are allowed: passed on unchanged to what {host} resolves to then, port {port}")
}

fn denied(table: &PolicyTable, target: &Target, dst: OriginalDst, denial: Denial<'_>) -> String {
    let answer = |status: u16| match target.speaks {
        Speaks::Http => format!("answered with {status}"),
        Speaks::Tls | Speaks::Bytes => "closed".to_owned(),
    };
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

fn matched(cluster: &Cluster, target: &Target) -> Matched {
    Matched {
        cluster: cluster.name.clone(),
        service_entry: cluster.origin.service_entry.to_string(),
        destination_rule: cluster.origin.destination_rule.as_ref().map(ToString::to_string),
        endpoints: words::endpoints(&cluster.endpoints, target.port),
        tls: cluster.tls_request.as_ref().map(|request| words::tls(request, &target.host)),
        limits: words::limits(cluster),
        rule: words::rule(cluster),
    }
}

/// The warnings that stand at the two documents, and at rules for the same host that do not hold.
fn warnings(cluster: &Cluster, resources: &Resources, problems: &[Problem]) -> Vec<String> {
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

impl Report {
    fn answered(
        target: &Target,
        table: &PolicyTable,
        dst: OriginalDst,
        seen_as: &'static str,
        outcome: String,
    ) -> Self {
        Self {
            url: target.url.clone(),
            seen_as,
            decision: Verdict::Answer,
            outcome,
            outbound_traffic_policy: outbound_policy(table),
            virtual_service: None,
            assumed_address: target.address.is_none().then_some(dst.ip()),
            matched: None,
            warnings: Vec::new(),
        }
    }

    fn text(&self) -> String {
        let mut out = String::new();
        let mut row = |name: &str, value: &str| {
            let _ = writeln!(out, "{name:<18} {value}");
        };
        row("URL", &self.url);
        row("seen as", self.seen_as);
        if let Some(address) = self.assumed_address {
            row("address dialled", &format!("{address}, assumed (--address IP to say)"));
        }
        if let Some(route) = &self.virtual_service {
            row("VirtualService", route);
        }
        match &self.matched {
            None => row("outbound policy", self.outbound_traffic_policy),
            Some(matched) => matched.rows(&mut row),
        }
        row("outcome", &self.outcome);
        for warning in &self.warnings {
            row("warning", warning);
        }
        out
    }
}

impl Matched {
    fn rows(&self, row: &mut impl FnMut(&str, &str)) {
        row("ServiceEntry", &self.service_entry);
        row("DestinationRule", self.destination_rule.as_deref().unwrap_or("none"));
        row("cluster", &self.cluster);
        for endpoint in &self.endpoints {
            row("endpoint", endpoint);
        }
        if let Some(tls) = &self.tls {
            row("TLS mode", tls.mode);
            row("SNI", &tls.sni);
            row("trusted CA", &tls.ca);
            row("name check", &tls.names);
            row("client certificate", &tls.client_certificate);
            row("ALPN", tls.alpn);
        }
        row("limits", &self.limits.join(", "));
        if !self.rule.is_empty() {
            row("rule", &self.rule.join(", "));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::cli::explain_target::TargetError;
    use crate::config::PortProtocol::{Http, Https, Mysql, Tcp};
    use crate::config::{Resolution, ServiceEntry, TlsMode, TrafficPolicy};
    use crate::policy::fixture::{entry, rule, tls, with_tls};

    /// The document's entry and rule, and a database with an address.
    fn resources() -> Resources {
        let cnn = entry(&["edition.cnn.com"], &[], Resolution::Dns).with_target(80, Http, 443).with_port(443, Https);
        let plain = entry(&["plain.test"], &[], Resolution::Dns).with_port(8080, Http);
        let database = entry(&["db.test"], &["10.0.0.9"], Resolution::None).with_port(3306, Mysql);
        let double: ServiceEntry = entry(&["double.test"], &[], Resolution::Dns).with_port(443, Https);
        let mut simple = rule("simple", "edition.cnn.com");
        let on_80 = (80, with_tls(tls(TlsMode::Simple)));
        simple.traffic_policy = Some(TrafficPolicy { ports: vec![on_80], ..TrafficPolicy::default() });
        Resources {
            service_entries: vec![cnn, plain, database, double],
            destination_rules: vec![simple, rule("twice", "double.test")],
            ..Resources::default()
        }
    }

    fn explained(url: &str, registry_only: bool) -> Report {
        let mut resources = resources();
        if registry_only {
            resources.settings.outbound_traffic_policy = OutboundPolicy::RegistryOnly;
        }
        explain(&Target::parse(url, None).unwrap(), &resources, &Workload::default())
    }

    #[test]
    fn outcomes() {
        for (url, registry_only, verdict, words) in [
            ("http://edition.cnn.com/politics", true, Verdict::Forward, "encrypted as HTTP/1.1 over TLS"),
            ("https://edition.cnn.com/politics", true, Verdict::Forward, "passed through byte by byte"),
            ("http://plain.test:8080", true, Verdict::Forward, "PLAINTEXT"),
            ("https://double.test", true, Verdict::Refuse, "already speaks TLS on port 443"),
            ("tcp://10.0.0.9:3306", true, Verdict::Forward, "passed through"),
            ("tcp://db.test:3306", true, Verdict::Forward, "passed through"),
            ("tcp://10.0.0.8:3306", true, Verdict::Deny, "closed"),
            ("http://plain.test", true, Verdict::Deny, "plain.test is listed on port 8080"),
            ("http://unknown.test", true, Verdict::Deny, "answered with 502"),
            ("http://unknown.test", false, Verdict::Passthrough, "no ServiceEntry lists unknown.test"),
            ("tls://unknown.test:9000", false, Verdict::Passthrough, "passed on unchanged"),
        ] {
            let report = explained(url, registry_only);
            assert_eq!(report.decision, verdict, "{url}: {report:?}");
            assert!(report.outcome.contains(words), "{url}: {}", report.outcome);
        }
    }

    #[test]
    fn a_match_is_told_with_its_documents() {
        let text = explained("http://edition.cnn.com/politics", false).text();
        for row in [
            "ServiceEntry       /edition.cnn.com (edition.cnn.com.yaml:1:1)",
            "DestinationRule    /simple (simple.yaml:1:1)",
            "cluster            outbound|80||edition.cnn.com",
            "endpoint           edition.cnn.com:443, every address that DNS gives",
            "SNI                edition.cnn.com (from the request's host)",
            "trusted CA         the operating system's bundle",
            "name check         the certificate must be for edition.cnn.com",
            "client certificate none",
            "ALPN               http/1.1",
            "limits             connect timeout 10s, idle timeout 3600s",
        ] {
            assert!(text.lines().any(|line| line == row), "{row}\nnot in\n{text}");
        }
        assert!(!text.contains(OFFLINE), "{text}");
        let json = serde_json::to_value(explained("http://edition.cnn.com", false)).unwrap();
        assert_eq!(json["decision"], "forward");
        assert_eq!(json["tls"]["mode"], "SIMPLE");
        assert_eq!(json["endpoints"][0], "edition.cnn.com:443, every address that DNS gives");
        assert_eq!(json["outboundTrafficPolicy"], "ALLOW_ANY");
    }

    #[test]
    fn warnings_of_the_documents_are_shown_and_no_others() {
        let mut resources = resources();
        resources.service_entries.push(entry(&["swallow.test"], &[], Resolution::Dns).with_port(9, Tcp));
        let of = |url: &str| explain(&Target::parse(url, None).unwrap(), &resources, &Workload::default()).warnings;
        assert!(of("tcp://10.1.1.1:9")[0].contains("takes every connection to port 9"));
        assert_eq!(of("tcp://10.0.0.9:3306"), [""; 0]);
        // The usual reason for unexpected plaintext: --labels forgotten.
        let mut elsewhere = rule("elsewhere", "plain.test");
        elsewhere.workload_selector = Some(BTreeMap::from([("app".to_owned(), "sleep".to_owned())]));
        resources.destination_rules.push(elsewhere);
        let url = Target::parse("http://plain.test:8080", None).unwrap();
        let report = explain(&url, &resources, &Workload::default());
        assert!(report.warnings[0].contains("its workloadSelector wants app=sleep"), "{report:?}");
    }

    #[test]
    fn urls() {
        let at = |target: &Target| target.dst(&resources()).to_string();
        let parsed = |url: &str| Target::parse(url, None).map(|t| (t.speaks, t.host.to_string(), at(&t)));
        let good = |speaks, host: &str, dst: &str| Ok((speaks, host.to_owned(), dst.to_owned()));
        assert_eq!(parsed("HTTP://Example.com./a?b#c"), good(Speaks::Http, "example.com", "192.0.2.1:80"));
        assert_eq!(parsed("https://[2001:db8::1]/"), good(Speaks::Tls, "[2001:db8::1]", "[2001:db8::1]:443"));
        assert_eq!(parsed("tls://a.test:8443"), good(Speaks::Tls, "a.test", "192.0.2.1:8443"));
        assert_eq!(parsed("tcp://10.0.0.1:5432"), good(Speaks::Bytes, "10.0.0.1", "10.0.0.1:5432"));
        assert_eq!(parsed("tcp://10.0.0.1"), Err(TargetError::Port));
        assert_eq!(parsed("example.com"), Err(TargetError::Scheme));
        assert_eq!(parsed("ftp://example.com"), Err(TargetError::Scheme));
        assert!(matches!(parsed("http://user@example.com"), Err(TargetError::Authority(_))));
        let dialled = Target::parse("http://a.test", "10.0.0.1".parse().ok()).unwrap();
        assert_eq!(at(&dialled), "10.0.0.1:80");
    }
}
