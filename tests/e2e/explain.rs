//! `egret explain` held against what then happens: each URL is explained, by the running proxy and by the files, and then
//! really requested through the redirect. Outcome, encryption and log line must be the ones foretold.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr};

use crate::lab;
use crate::lab::client::HttpClient;
use crate::lab::pki::Leaf;
use crate::lab::proxy::Egret;
use crate::lab::server::Server;
use crate::lab::{Family, Lab, utf8};
use serde_json::Value;

/// Where registered names lead, and where an application goes that asks for others.
fn known() -> IpAddr {
    Lab::address(Family::V4, 1)
}

fn elsewhere() -> IpAddr {
    Lab::address(Family::V4, 9)
}

/// Answers whatever comes first with `tag`, and closes.
fn tag(mut stream: impl Read + Write, tag: &str) -> io::Result<()> {
    if stream.read(&mut [0; 4096])? > 0 {
        let length = tag.len();
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{tag}");
        stream.write_all(answer.as_bytes())?;
        stream.flush()?;
    }
    Ok(())
}

fn servers(lab: &Lab) -> Vec<Server> {
    let pair = lab.authority.issue("secure.example", Leaf::Good);
    let plain = [(known(), 80), (known(), 5432), (known(), 8080), (elsewhere(), 80), (elsewhere(), 9000)];
    let plain = plain.map(|(ip, port)| Server::start(lab, SocketAddr::new(ip, port), |stream| tag(stream, "plain")));
    let secure =
        [known(), elsewhere()].map(|ip| Server::start_tls(lab, SocketAddr::new(ip, 443), &pair, |s| tag(s, "tls")));
    plain.into_iter().chain(secure).collect()
}

fn entry(host: &str, ports: &str, rest: &str) -> String {
    let name = host.replace('.', "-");
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}}}\nspec: {{hosts: \
         [{host}], ports: [{ports}], {rest}}}\n"
    )
}

fn object(kind: &str, name: &str, spec: &str) -> String {
    let group = if kind == "AuthorizationPolicy" { "security" } else { "networking" };
    format!("---\napiVersion: {group}.istio.io/v1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n")
}

const HTTP: &str = "{number: 80, name: http, protocol: HTTP}";
const ORIGINATED: &str = "{number: 80, name: http, protocol: HTTP, targetPort: 443}";
const HTTPS: &str = "{number: 443, name: https, protocol: HTTPS}";
const DNS: &str = "resolution: DNS";

fn configuration(lab: &Lab, mode: &str) -> String {
    let ca = lab.ca_file();
    let rule = |name: &str, host: &str, port: u16, tls: &str| {
        let policy = format!("portLevelSettings: [{{port: {{number: {port}}}, tls: {{{tls}}}}}]");
        object("DestinationRule", name, &format!("host: {host}, trafficPolicy: {{{policy}}}"))
    };
    let selected = rule("missing", "missing.example", 80, "mode: MUTUAL, credentialName: nowhere")
        .replace("spec: {", "spec: {workloadSelector: {matchLabels: {app: sleep}}, ");
    let routes = "http: [{match: [{uri: {exact: /old}}], redirect: {uri: /new}}, {name: direct, match: [{uri: {exact: \
                  /direct}}], directResponse: {status: 418, body: {string: tea}}}, {match: [{uri: {exact: /gone}}], \
                  route: [{destination: {host: nowhere.example}}]}, {name: rest, timeout: 5s, route: [{destination: \
                  {host: plain.example, port: {number: 80}}}]}]";
    let guard = "targetRefs: [{group: networking.istio.io, kind: ServiceEntry, name: guarded-example}], action: DENY, \
                 rules: [{to: [{operation: {paths: [/admin]}}]}, {to: [{operation: {methods: [DELETE]}}]}]";
    let address = known();
    let all = [
        entry("secure.example", &format!("{ORIGINATED}, {HTTPS}"), DNS),
        rule("secure", "secure.example", 80, &format!("mode: SIMPLE, caCertificates: {}", ca.display())),
        entry("plain.example", HTTP, DNS),
        entry("missing.example", ORIGINATED, DNS),
        selected,
        entry("unselected.example", ORIGINATED, DNS),
        rule("unselected", "unselected.example", 80, "mode: MUTUAL, credentialName: nowhere"),
        entry("double.example", HTTPS, DNS),
        rule("double", "double.example", 443, "mode: SIMPLE"),
        entry(
            "db.example",
            "{number: 5432, name: tcp, protocol: TCP}",
            &format!("addresses: [{address}], resolution: STATIC, endpoints: [{{address: {address}}}]"),
        ),
        entry("routed.example", HTTP, DNS),
        object("VirtualService", "routed", &format!("hosts: [routed.example], {routes}")),
        entry("partial.example", HTTP, DNS),
        object(
            "VirtualService",
            "partial",
            "hosts: [partial.example], http: [{match: [{uri: {prefix: /api}}], redirect: {uri: /}}]",
        ),
        entry("guarded.example", HTTP, DNS),
        object("AuthorizationPolicy", "guard", guard),
        object("Sidecar", "only", &format!("outboundTrafficPolicy: {{mode: {mode}}}")),
    ];
    all.concat()
}

/// What became of a URL.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    /// This server answered: `plain` or `tls`, by how it was spoken to.
    Served(String),
    /// egret answered.
    Answered(u16),
    Closed,
}

/// Requests `url` at `ip`, as an application would.
fn request(lab: &Lab, url: &str, method: &str, ip: IpAddr) -> Seen {
    let (scheme, rest) = url.split_once("://").expect("a scheme");
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let path = if path.is_empty() { "/" } else { path };
    let (host, port) = authority.rsplit_once(':').unwrap_or((authority, if scheme == "http" { "80" } else { "443" }));
    let to = SocketAddr::new(ip, port.parse().expect("a port"));
    if scheme == "https" {
        let target = format!("{host}:{port}:{ip}:{port}");
        let done = lab.curl(&["-k", "--connect-to", &target, &format!("https://{host}:{port}{path}")]);
        return if done.status.success() { Seen::Served(done.stdout) } else { Seen::Closed };
    }
    let Ok(stream) = lab.connect(to) else { return Seen::Closed };
    let mut client = HttpClient::new(stream);
    let bytes = match scheme {
        "http" => format!("{method} {path} HTTP/1.1\r\nHost: {authority}\r\n\r\n").into_bytes(),
        _ => b"\0\x01bytes\n".to_vec(),
    };
    match client.send(&bytes).and_then(|()| client.response()) {
        Err(_) => Seen::Closed,
        Ok(response) => match (response.head.status, String::from_utf8_lossy(&response.body).into_owned()) {
            (200, body) if body == "plain" || body == "tls" => Seen::Served(body),
            (status, _) => Seen::Answered(status),
        },
    }
}

fn explained(lab: &Lab, arguments: &[&str]) -> Value {
    let mut all = vec!["explain", "-o", "json"];
    all.extend(arguments);
    serde_json::from_str(&lab.egret_command(&all).succeeded().stdout).expect("JSON")
}

/// What must be seen if the explanation is right.
fn foretold(url: &str, report: &Value) -> Seen {
    let encrypts = !report["tls"].is_null();
    let own_tls = url.starts_with("https:");
    match report["decision"].as_str().expect("a decision") {
        "forward" | "passthrough" => Seen::Served(if encrypts || own_tls { "tls" } else { "plain" }.to_owned()),
        "deny" | "refuse" | "answer" if url.starts_with("http:") => {
            let code = report["logged"]["responseCode"].as_u64().expect("egret's own status");
            Seen::Answered(u16::try_from(code).expect("a status"))
        }
        "deny" | "refuse" => Seen::Closed,
        other => panic!("{other}"),
    }
}

/// The parts of the log line that were foretold, in its order.
fn parts(logged: &Value) -> [String; 3] {
    let field = |name: &str| logged[name].as_str().unwrap_or_else(|| panic!("{name} of {logged}")).to_owned();
    let code = logged["responseCode"].as_u64().unwrap_or(200);
    let (request, flags, details) = (field("request"), field("responseFlags"), field("responseCodeDetails"));
    let head = format!("\"{request}\" {code} {flags} {details} {} ", field("connectionTerminationDetails"));
    let tail = format!(" {} {}", field("requestedServerName"), field("routeName"));
    [head, format!(" {} ", field("upstreamCluster")), tail]
}

/// Explains `url`, requests it, compares; gives the decision.
fn hold(lab: &Lab, egret: &Egret<'_>, url: &str, method: &str, ip: IpAddr) -> String {
    let address = ip.to_string();
    let question = [url, "--address", &address, "-X", method];
    let report = explained(lab, &question);
    let config = lab.config_dir();
    let offline = [&question[..], &["--config", utf8(&config), "--labels", "app=sleep"]].concat();
    let offline = explained(lab, &offline);
    // Files alone cannot know that a Secret is missing, nor which addresses are those of names.
    if !url.contains("missing.example") && url != "tcp://203.0.113.9:80" {
        for field in ["decision", "outcome", "cluster", "tls", "limits", "virtualService", "logged"] {
            assert_eq!(offline[field], report[field], "{url}: {field} by files and by the proxy");
        }
    }
    let before = egret.access_log().len();
    let seen = request(lab, url, method, ip);
    assert_eq!(seen, foretold(url, &report), "{url}: {report:#}");
    let mut line = String::new();
    lab::eventually(&format!("{url} is logged"), || {
        line = egret.access_log().get(before).cloned().unwrap_or_default();
        !line.is_empty()
    });
    let [head, cluster, tail] = parts(&report["logged"]);
    assert!(line.contains(&head) && line.contains(&cluster) && line.ends_with(&tail), "{url}: {line}\n{report:#}");
    report["decision"].as_str().expect("a decision").to_owned()
}

#[test]
fn what_is_foretold_happens() {
    let lab = Lab::new();
    let _servers = servers(&lab);
    for name in ["secure", "plain", "missing", "unselected", "double", "routed", "partial", "guarded"] {
        lab.names.set(&format!("{name}.example"), &[known()]);
    }
    lab.configure("all.yaml", &configuration(&lab, "REGISTRY_ONLY"));
    let egret = lab.egret(&["--labels", "app=sleep"]);
    let (k, e) = (known(), elsewhere());
    for (url, method, ip, decision) in [
        ("http://secure.example/a?b", "GET", k, "forward"),
        ("http://secure.example:80/a", "POST", e, "forward"),
        ("https://secure.example/", "GET", k, "forward"),
        ("http://plain.example/", "GET", e, "forward"),
        ("http://missing.example/", "GET", k, "refuse"),
        ("http://unselected.example/", "GET", k, "refuse"),
        ("https://double.example/", "GET", k, "refuse"),
        ("tcp://203.0.113.1:5432", "GET", k, "forward"),
        ("http://routed.example/old", "GET", k, "answer"),
        ("http://routed.example/direct", "GET", k, "answer"),
        ("http://routed.example/gone", "GET", k, "answer"),
        ("http://routed.example/%2e%2e/x", "GET", k, "forward"),
        ("http://routed.example/else", "GET", k, "forward"),
        ("http://partial.example/x", "GET", k, "answer"),
        ("http://guarded.example/admin", "GET", k, "deny"),
        ("http://guarded.example/", "DELETE", k, "deny"),
        ("http://guarded.example/open", "GET", k, "forward"),
        ("http://unknown.example/", "GET", e, "deny"),
        ("http://plain.example:8080/", "GET", k, "deny"),
        ("https://unknown.example/", "GET", e, "deny"),
        ("tcp://203.0.113.9:9000", "GET", e, "deny"),
    ] {
        assert_eq!(hold(&lab, &egret, url, method, ip), decision, "{url}");
    }
    let version = egret.metric("egret_policy_version");
    lab.configure("all.yaml", &configuration(&lab, "ALLOW_ANY"));
    lab::eventually("the other policy is in force", || egret.metric("egret_policy_version") > version);
    for (url, ip, decision) in [
        ("http://unknown.example/", e, "passthrough"),
        ("http://plain.example:8080/", k, "passthrough"),
        ("https://unknown.example/", e, "passthrough"),
        ("tcp://203.0.113.9:9000", e, "passthrough"),
        // It may be a request in disguise to a host there, and that one's requests leave as TLS.
        ("tcp://203.0.113.1:80", k, "refuse"),
        ("tcp://203.0.113.9:80", e, "passthrough"),
    ] {
        assert_eq!(hold(&lab, &egret, url, "GET", ip), decision, "{url}");
    }
    let text = lab.egret_command(&["explain", "http://secure.example/"]).succeeded().stdout;
    assert!(text.contains("every address that DNS gives: 203.0.113.1 now"), "{text}");
    let version = egret.metric("egret_policy_version").expect("a metric");
    assert!(text.contains(&format!("version {version} of the running proxy")), "{text}");
}

/// Of a route that shares by weight: every request is one of those foretold, and each of those comes.
#[test]
fn every_share_that_is_foretold_comes() {
    let lab = Lab::new();
    let _servers = servers(&lab);
    for name in ["plain", "secure"] {
        lab.names.set(&format!("{name}.example"), &[known()]);
    }
    let ca = lab.ca_file();
    let tls =
        format!("mode: SIMPLE, caCertificates: {}, sni: secure.example, subjectAltNames: [secure.example]", utf8(&ca));
    let policy = format!(
        "host: secure.example, trafficPolicy: {{portLevelSettings: [{{port: {{number: 80}}, tls: {{{tls}}}}}]}}"
    );
    let shares = "hosts: [plain.example], http: [{name: shares, route: [{destination: {host: plain.example}, weight: 2}, \
                  {destination: {host: secure.example}, weight: 1}, {destination: {host: nowhere.example}, weight: 1}]}]";
    let documents = [
        entry("plain.example", HTTP, DNS),
        entry("secure.example", ORIGINATED, DNS),
        object("DestinationRule", "secure", &policy),
        object("VirtualService", "shares", shares),
    ];
    lab.configure("shares.yaml", &documents.concat());
    let egret = lab.egret(&["--workers", "1"]);
    let url = "http://plain.example/";
    let report = explained(&lab, &[url, "--address", &known().to_string()]);
    let foretold = report["destinations"].as_array().expect("several");
    let weights: Vec<_> = foretold.iter().map(|share| (share["weight"].as_u64(), share["of"].as_u64())).collect();
    assert_eq!(weights, [2, 1, 1].map(|weight| (Some(weight), Some(4))));
    let mut came = [0; 3];
    for number in 0..40 {
        let seen = request(&lab, url, "GET", known());
        lab::eventually("it is logged", || egret.access_log().len() > number);
        let line = &egret.access_log()[number];
        let is_it = |share: &Value| {
            let [head, cluster, tail] = parts(&share["logged"]);
            foretold_of(share) == seen && line.contains(&head) && line.contains(&cluster) && line.ends_with(&tail)
        };
        let share = foretold.iter().position(is_it).unwrap_or_else(|| panic!("{seen:?} {line}\n{report:#}"));
        came[share] += 1;
    }
    assert!(came.iter().all(|times| *times > 0), "{came:?}");
}

/// [`foretold`] of plain HTTP.
fn foretold_of(share: &Value) -> Seen {
    foretold("http:", share)
}

#[test]
fn questions_that_cannot_be_answered() {
    let lab = Lab::new();
    let nobody = lab.egret_command(&["explain", "http://a.example/"]);
    assert_eq!(nobody.code(), Some(1));
    assert!(nobody.stderr.contains("no egret is listening on 127.0.0.1:15000"), "{nobody:?}");
    assert!(nobody.stderr.contains("--config PATH"), "{nobody:?}");
    for arguments in
        [&["explain", "a.example"][..], &["explain", "tcp://1.2.3.4"], &["explain", "http://a.example", "-X", "A B"]]
    {
        assert_eq!(lab.egret_command(arguments).code(), Some(2), "{arguments:?}");
    }
    // Whose namespace and labels are asked about, a running proxy knows itself.
    assert_eq!(lab.egret_command(&["explain", "http://a.example", "--namespace", "shop"]).code(), Some(2));
}
