//! What may leave and what may not, seen from the application: real traffic through the kernel's redirect.

use std::io::{self, Read, Write};
use std::net::SocketAddr;

use crate::lab;
use crate::lab::client::HttpClient;
use crate::lab::documents::{access, static_tcp};
use crate::lab::pki::Leaf;
use crate::lab::server::{HttpServer, Server};
use crate::lab::{Family, Lab};

/// Answers every request with its target.
fn serve(stream: impl Read + Write) -> io::Result<()> {
    let mut server = HttpServer::new(stream);
    while let Some(request) = server.request()? {
        let body = request.target;
        server.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes())?;
    }
    Ok(())
}

fn authorization(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n"
    )
}

/// The status of one request on a connection of its own; 0 where the connection is closed without an answer.
fn status(lab: &Lab, to: SocketAddr, request: &[u8]) -> u16 {
    let mut client = HttpClient::new(lab.connect(to).expect("the redirect accepts"));
    client.send(request).expect("the proxy reads");
    client.head().map_or(0, |head| head.status)
}

const TARGET: &str = "targetRefs: [{group: networking.istio.io, kind: ServiceEntry, name: api-example}]";

/// Reading below /public and of /admin is allowed, and then /admin forbidden.
fn admin_is_closed() -> String {
    let public = format!("{TARGET}, rules: [{{to: [{{operation: {{paths: ['/public/*', /admin]}}}}]}}]");
    let admin = format!("{TARGET}, action: DENY, rules: [{{to: [{{operation: {{paths: [/admin, '/admin/*']}}}}]}}]");
    authorization("public", &public) + &authorization("no-admin", &admin)
}

#[test]
fn requests_are_judged() {
    let lab = Lab::new();
    let at = SocketAddr::new(Lab::address(Family::V4, 1), 80);
    for host in ["api.example", "free.example"] {
        lab.names.set(host, &[at.ip()]);
    }
    let upstream = Server::start(&lab, at, serve);
    lab.configure("entries.yaml", &[access("api.example"), access("free.example")].join("---\n"));
    let seen = authorization("seen", &format!("{TARGET}, action: AUDIT, rules: [{{}}]"));
    lab.configure("policies.yaml", &(admin_is_closed() + &seen));
    let egret = lab.egret(&[]);
    let get =
        |host: &str, path: &str| status(&lab, at, format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes());

    assert_eq!(get("api.example", "/public/x"), 200);
    assert_eq!(get("free.example", "/anything"), 200);
    assert_eq!(get("api.example", "/other"), 403);
    egret.log_line(&["\"GET /other HTTP/1.1\" 403 - rbac_access_denied_matched_policy[none] "]);
    let answer = lab.curl(&["-i", "http://api.example/admin"]).succeeded().stdout;
    assert!(answer.starts_with("HTTP/1.1 403 ") && answer.ends_with("\r\n\r\nRBAC: access denied"), "{answer}");
    egret.log_line(&[
        "\"GET /admin HTTP/1.1\" 403 - rbac_access_denied_matched_policy[ns[default]-policy[no-admin]-rule[0]] ",
        "outbound|80||api.example",
    ]);
    // Each request of a connection is judged.
    let mut kept = HttpClient::new(lab.connect(at).expect("the redirect accepts"));
    let statuses =
        [("free.example", "/a"), ("api.example", "/b"), ("api.example", "/public/c"), ("free.example", "/d")]
            .map(|(host, path)| kept.get(host, path).expect("an answer").head.status);
    assert_eq!(statuses, [200, 403, 200, 200]);
    lab::eventually("audited requests are counted", || egret.metric("egret_authorization_audited_total") == Some(2.0));
    assert!(egret.stderr().contains("default/seen"), "{}", egret.stderr());
    assert!(upstream.accepted() >= 1);
}

#[test]
fn paths_in_disguise() {
    const DISGUISED: &str = "//admin /./admin /x/../admin /x/%2e%2e/admin /%61dmin /admin%2f /a%5cadmin /admin%00 \
                             /admin;x=1/ /admin?/public/ /public/..;/admin /public/%2e%2e%2fadmin /public/%c0%af \
                             http://api.example/admin";
    let lab = Lab::new();
    let at = SocketAddr::new(Lab::address(Family::V4, 1), 80);
    lab.names.set("api.example", &[at.ip()]);
    let upstream = Server::start(&lab, at, serve);
    lab.configure("policies.yaml", &(access("api.example") + &admin_is_closed()));
    let egret = lab.egret(&[]);
    let get = |path: &str| status(&lab, at, format!("GET {path} HTTP/1.1\r\nHost: api.example\r\n\r\n").as_bytes());
    let long = format!("/{}/../admin", "x".repeat(8 * 1024));
    for path in DISGUISED.split(' ').filter(|path| !path.is_empty()).chain([&*long]) {
        assert_eq!(get(path), 403, "{path}");
    }
    // No request target has this at all.
    assert_eq!(get("/admin#x"), 400);
    assert_eq!(get("\\admin"), 400);
    // Where requests are judged, what is none does not pass unread.
    assert_eq!(status(&lab, at, b"\0GET /admin HTTP/1.1\r\nHost: api.example\r\n\r\n"), 0);
    egret.log_line(&[" DPE - neither_http1_nor_tls_on_a_port_with_authorization_policies "]);
    assert_eq!(upstream.accepted(), 0);
}

/// Nothing of HTTP is known of other connections: it is no excuse.
#[test]
fn connections_are_judged_by_what_is_known() {
    let lab = Lab::new();
    let address = Lab::address(Family::V4, 1);
    lab.names.set("api.example", &[address]);
    let pair = lab.authority.issue("api.example", Leaf::Good);
    let secure = Server::start_tls(&lab, SocketAddr::new(address, 443), &pair, serve);
    let database = Server::start(&lab, SocketAddr::new(address, 5432), |mut stream| stream.write_all(b"hello"));
    let no_db = authorization("no-db", "action: DENY, rules: [{to: [{operation: {ports: ['5432']}}]}]");
    let entries = [access("api.example"), static_tcp("db.example", address, 5432)].join("---\n");
    lab.configure("policies.yaml", &(entries + &admin_is_closed() + &no_db));
    let egret = lab.egret(&[]);
    let refused = lab.curl(&["https://api.example/public/x"]);
    assert!(!refused.status.success(), "{refused:?}");
    egret.log_line(&[
        "\"- - -\" 0 - - rbac_access_denied_matched_policy[ns[default]-policy[no-admin]-rule[0]] ",
        "outbound|443||api.example",
        " api.example ",
    ]);
    // The reset may come before the connection is handed to the test.
    let mut bytes = Vec::new();
    let refused = lab.connect(SocketAddr::new(address, 5432)).and_then(|mut stream| stream.read_to_end(&mut bytes));
    assert!(refused.is_err() || bytes.is_empty(), "{bytes:?}");
    egret.log_line(&[
        "rbac_access_denied_matched_policy[ns[default]-policy[no-db]-rule[0]]",
        "outbound|5432||db.example",
    ]);
    assert_eq!((secure.accepted(), database.accepted()), (0, 0));
}

fn http(host: &str) -> Vec<u8> {
    format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes()
}

const REGISTRY_ONLY: &str = "---\napiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: only}\n\
                             spec: {outboundTrafficPolicy: {mode: REGISTRY_ONLY}}\n";

fn followed(name: &str, host: &str, rest: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}}}\nspec:\n  hosts: ['{host}']\n  \
         ports: [{{number: 80, name: http, protocol: HTTP}}, {{number: 443, name: tls, protocol: TLS}}]\n  {rest}\n"
    )
}

#[test]
fn nobody_comes_to_a_protected_address_by_accident() {
    let lab = Lab::new();
    let metadata = "169.254.169.254".parse().expect("an address");
    lab.outside.ip(&["addr", "add", "169.254.169.254/32", "dev", "lo"]);
    let (near, far) = (SocketAddr::new(Lab::address(Family::V4, 1), 80), SocketAddr::new(metadata, 80));
    lab.names.set("rebinding.example", &[metadata]);
    let _near = Server::start(&lab, near, serve);
    let secret = Server::start(&lab, far, serve);
    let entries = [
        followed("open", "open.example", "resolution: NONE"),
        followed("rebinding", "rebinding.example", "resolution: DNS"),
    ];
    lab.configure("entries.yaml", &(entries.concat() + REGISTRY_ONLY));
    let egret = lab.egret(&[]);
    assert_eq!(status(&lab, near, &http("open.example")), 200);
    assert_eq!(status(&lab, far, &http("open.example")), 403);
    egret.log_line(&[" 403 - protected_address ", "outbound|80||open.example"]);
    assert_eq!(status(&lab, far, &http("169.254.169.254")), 502);
    assert_eq!(status(&lab, near, &http("rebinding.example")), 503);
    let refused = lab.curl(&["--connect-to", "open.example:443:169.254.169.254:443", "https://open.example/"]);
    assert!(!refused.status.success(), "{refused:?}");
    egret.log_line(&["\"- - -\" 0 - - protected_address ", "outbound|443||open.example"]);
    assert_eq!(secret.accepted(), 0);
    // Only an entry that lists it.
    lab.configure(
        "metadata.yaml",
        &followed("metadata", "metadata.example", "addresses: [169.254.169.254]\n  resolution: NONE"),
    );
    lab::eventually("the entry opens it", || status(&lab, far, &http("169.254.169.254")) == 200);
    assert_eq!(status(&lab, far, &http("open.example")), 403);
}

#[test]
fn strict_binds_names_to_addresses() {
    let lab = Lab::new();
    let [own, other] = [1, 2].map(|n| SocketAddr::new(Lab::address(Family::V4, n), 80));
    lab.names.set("open.example", &[own.ip()]);
    let _own = Server::start(&lab, own, serve);
    let stranger = Server::start(&lab, other, serve);
    let pair = lab.authority.issue("open.example", Leaf::Good);
    let _secure = Server::start_tls(&lab, SocketAddr::new(own.ip(), 443), &pair, serve);
    let entries = [("open", "open.example"), ("nowhere", "nowhere.example"), ("wild", "*.wild.example")];
    lab.configure("entries.yaml", &entries.map(|(name, host)| followed(name, host, "resolution: NONE")).concat());
    let egret = lab.egret(&["--strict"]);
    for (to, host, expected, details) in [
        (own, "open.example", 200, "via_upstream"),
        (other, "open.example", 403, "strict_address_is_not_of_this_name"),
        (own, "nowhere.example", 403, "strict_name_not_resolved"),
        (own, "a.wild.example", 403, "strict_host_cannot_be_resolved"),
    ] {
        assert_eq!(status(&lab, to, &http(host)), expected, "{host} at {to}");
        egret.log_line(&[&format!(" {expected} - {details} "), &format!("\"{host}\""), &format!(" {to} ")]);
    }
    assert_eq!(lab.curl(&["https://open.example/x"]).succeeded().stdout, "/x");
    let claimed = format!("open.example:443:{}:443", other.ip());
    assert!(!lab.curl(&["--connect-to", &claimed, "https://open.example/"]).status.success());
    egret.log_line(&["\"- - -\" 0 - - strict_address_is_not_of_this_name ", "outbound|443||open.example"]);
    assert_eq!(stranger.accepted(), 0);
    // The name moves: the new address is known with the next answer, and the old one for a while longer.
    lab.names.set("open.example", &[other.ip()]);
    lab::eventually("the name's new address is its own", || status(&lab, other, &http("open.example")) == 200);
    assert_eq!(status(&lab, own, &http("open.example")), 200);
}

/// Ways to name a host past the list of hosts, and header fields that must steer nothing.
#[test]
fn hosts_in_disguise() {
    let lab = Lab::new();
    let at = SocketAddr::new(Lab::address(Family::V4, 1), 80);
    let elsewhere = SocketAddr::new(Lab::address(Family::V4, 2), 80);
    lab.names.set("allowed.example", &[at.ip()]);
    lab.names.set("a.suffix.example", &[at.ip()]);
    let service = "pay.default.svc.cluster.local";
    lab.names.set(service, &[at.ip()]);
    let _server = Server::start(&lab, at, serve);
    let stranger = Server::start(&lab, elsewhere, serve);
    let gets = "rules: [{to: [{operation: {methods: [GET]}}]}]";
    let wild = followed("suffix", "*.suffix.example", "resolution: NONE");
    let listed = [access("allowed.example"), access(service)].join("---\n");
    lab.configure("entries.yaml", &(listed + &wild + REGISTRY_ONLY + &authorization("gets", gets)));
    let _egret = lab.egret(&[]);
    for (host, expected) in [
        ("ALLOWED.example", 200),
        ("allowed.example.", 200),
        ("allowed.example:80", 200),
        ("allowed.example:22", 200),
        ("a.suffix.example", 200),
        ("pay", 200),
        ("pay.default:80", 200),
        ("Pay.default.svc.", 200),
        ("pay.bank", 502),
        ("pay.default.svc.cluster", 502),
        ("allowed.example.evil", 502),
        ("evilallowed.example", 502),
        ("evilsuffix.example", 502),
        ("suffix.example", 502),
        ("xn--allowed-example", 502),
        ("[::ffff:7f00:1]", 502),
        ("allowed\u{3002}example", 400),
        ("0x7f.1", 400),
        ("2130706433", 400),
        ("127.1", 400),
        ("allowed.example, evil.example", 400),
        ("evil.example@allowed.example", 400),
    ] {
        assert_eq!(status(&lab, at, &http(host)), expected, "{host}");
    }
    let steering = format!(
        "GET / HTTP/1.1\r\nHost: allowed.example\r\nx-envoy-original-dst-host: {elsewhere}\r\nl5d-dst-override: {elsewhere}\r\n\
         X-Forwarded-Host: evil.example\r\nX-HTTP-Method-Override: DELETE\r\nx-envoy-original-path: /admin\r\n\r\n"
    );
    assert_eq!(status(&lab, at, steering.as_bytes()), 200);
    assert_eq!(stranger.accepted(), 0);
    // Methods are told apart, and each request of a pipeline is judged.
    for (method, expected) in [("get", 400), ("HEAD", 403), ("POST", 403)] {
        let request = format!("{method} / HTTP/1.1\r\nHost: allowed.example\r\n\r\n");
        assert_eq!(status(&lab, at, request.as_bytes()), expected, "{method}");
    }
    let mut pipelined = HttpClient::new(lab.connect(at).expect("the redirect accepts"));
    let second = "DELETE / HTTP/1.1\r\nHost: allowed.example\r\n\r\n";
    pipelined
        .send(&[http("allowed.example"), second.into(), http("allowed.example")].concat())
        .expect("the proxy reads");
    let statuses = [(); 3].map(|()| pipelined.response().expect("an answer").head.status);
    assert_eq!(statuses, [200, 403, 200]);
}

/// The beginning of a TLS connection for `name`.
fn client_hello(name: &str) -> Vec<u8> {
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder =
        builder.expect("the provider has both versions").with_root_certificates(rustls::RootCertStore::empty());
    let name = name.to_owned().try_into().expect("a name");
    let connection = rustls::ClientConnection::new(builder.with_no_client_auth().into(), name);
    let mut bytes = Vec::new();
    connection.expect("a sound configuration").write_tls(&mut bytes).expect("a Vec takes everything");
    bytes
}

/// istio-egress: `TestPassthroughTraffic`. An entry has every kind of port, and somebody asks for another host at an
/// address that is not the entry's.
#[test]
fn unknown_destinations_on_the_wire() {
    const PORTS: [(u16, &str); 8] =
        [(80, "HTTP"), (81, ""), (82, "TCP"), (83, "TLS"), (84, "HTTPS"), (85, "GRPC"), (86, "HTTP2"), (7777, "-")];
    let lab = Lab::new();
    let [known, dialled, named] = [1, 9, 8].map(|n| Lab::address(Family::V4, n));
    lab.names.set("istio.io", &[known]);
    lab.names.set("foo.example", &[named]);
    let mut servers = Vec::new();
    for (address, name) in [(known, "K"), (dialled, "D"), (named, "N")] {
        for (port, _) in PORTS {
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\n{name}");
            servers.push(Server::start(&lab, SocketAddr::new(address, port), move |mut stream| {
                let mut first = [0; 4096];
                if stream.read(&mut first)? > 0 {
                    stream.write_all(answer.as_bytes())?;
                }
                Ok(())
            }));
        }
    }
    let entry = |addresses: &str| {
        let ports = PORTS.iter().filter(|(_, protocol)| *protocol != "-").map(|(port, protocol)| {
            let protocol = if protocol.is_empty() { String::new() } else { format!(", protocol: {protocol}") };
            format!("  - {{number: {port}, name: p{port}{protocol}}}\n")
        });
        let ports: String = ports.collect();
        format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: istio}}\nspec:\n  hosts: [istio.io]\n  \
             addresses: [{addresses}]\n  ports:\n{ports}  resolution: DNS\n"
        )
    };
    lab.configure("entry.yaml", &entry("203.0.113.5"));
    let egret = lab.egret(&[]);
    // What the application sees: the server's letter, a status, or nothing.
    let seen = |port: u16, bytes: &[u8]| {
        let mut client = HttpClient::new(lab.connect(SocketAddr::new(dialled, port)).expect("the redirect accepts"));
        client.send(bytes).expect("the proxy reads");
        match client.response() {
            Ok(response) if response.head.status == 200 => String::from_utf8(response.body).expect("a letter"),
            Ok(response) => response.head.status.to_string(),
            Err(_) => "closed".to_owned(),
        }
    };
    let hello = client_hello("foo.example");
    let mut version = 1.0;
    for (addresses, mode, http_unknown, other_unknown) in [
        ("203.0.113.5", "ALLOW_ANY", "D", "D"),
        ("203.0.113.5", "REGISTRY_ONLY", "502", "closed"),
        ("203.0.113.5", "ALLOW_ANY_DYNAMIC_DNS", "N", "D"),
        ("", "ALLOW_ANY_DYNAMIC_DNS", "N", "D"),
        ("", "REGISTRY_ONLY", "502", "closed"),
        ("", "ALLOW_ANY", "D", "D"),
    ] {
        let settings =
            format!("---\napiVersion: egret/v1\nkind: Settings\nspec: {{outboundTrafficPolicy: {{mode: {mode}}}}}\n");
        lab.configure("entry.yaml", &(entry(addresses) + &settings));
        lab::eventually("the new policy is in force", || {
            egret.metric("egret_policy_version").is_some_and(|now| now > version)
        });
        version = egret.metric("egret_policy_version").expect("it was there");
        for (port, protocol) in PORTS {
            let taken = addresses.is_empty();
            let http_seen = if taken && protocol == "TCP" { "K" } else { http_unknown };
            let other_seen = if taken && matches!(protocol, "TCP" | "") { "K" } else { other_unknown };
            assert_eq!(seen(port, &http("foo.example")), http_seen, "HTTP to {port} {protocol}: {mode} [{addresses}]");
            assert_eq!(seen(port, &hello), other_seen, "TLS to {port} {protocol}: {mode} [{addresses}]");
            assert_eq!(seen(port, b"\0\x01bytes\n"), other_seen, "bytes to {port} {protocol}: {mode} [{addresses}]");
        }
    }
}

/// DYNAMIC_DNS, and what becomes of names that lead where nobody may go.
#[test]
fn names_are_looked_up_when_they_are_asked_for() {
    let lab = Lab::new();
    let [own, dialled] = [1, 2].map(|n| Lab::address(Family::V4, n));
    let metadata = "169.254.169.254".parse().expect("an address");
    lab.outside.ip(&["addr", "add", "169.254.169.254/32", "dev", "lo"]);
    let loopback = "127.0.0.1".parse().expect("an address");
    for (name, address) in [("a", own), ("b", own), ("meta", metadata), ("loop", loopback)] {
        lab.names.set(&format!("{name}.dyn.example"), &[address]);
    }
    let plain = Server::start(&lab, SocketAddr::new(own, 80), serve);
    let stranger = Server::start(&lab, SocketAddr::new(dialled, 80), serve);
    let secret = Server::start(&lab, SocketAddr::new(metadata, 80), serve);
    let pair = lab.authority.issue("a.dyn.example", Leaf::Good);
    let secure = Server::start_tls(&lab, SocketAddr::new(own, 443), &pair, serve);
    let ports = "{number: 80, name: http, protocol: HTTP}, {number: 443, name: tls, protocol: TLS}, \
                 {number: 8080, name: up, protocol: HTTP, targetPort: 443}";
    let rule = lab::documents::simple_tls("'*.dyn.example'", 8080, Some(&lab.ca_file()))
        .replace("name: '*-dyn-example'", "name: dyn");
    lab.configure(
        "dynamic.yaml",
        &format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: dyn}}\nspec:\n  hosts: ['*.dyn.example']\n  \
             ports: [{ports}]\n  resolution: DYNAMIC_DNS\n---\n{rule}"
        ),
    );
    let egret = lab.egret(&[]);
    let at = SocketAddr::new(dialled, 80);
    // Whatever address the application dials: the name decides.
    assert_eq!(status(&lab, at, &http("a.dyn.example")), 200);
    egret.log_line(&["\"GET / HTTP/1.1\" 200 ", "outbound|80||*.dyn.example", &format!("\"{own}:80\"")]);
    for (host, expected, details) in [
        ("meta.dyn.example", 403, "403 - protected_address "),
        ("loop.dyn.example", 503, "503 DF dns_resolution_failure{"),
        ("none.dyn.example", 503, "503 DF dns_resolution_failure{"),
    ] {
        assert_eq!(status(&lab, at, &http(host)), expected, "{host}");
        egret.log_line(&[details, &format!("\"{host}\"")]);
    }
    // TLS of the application by its server name, and of ours by the host, whose certificate must be the name's.
    let through = format!("a.dyn.example:443:{dialled}:443");
    assert_eq!(lab.curl(&["--connect-to", &through, "https://a.dyn.example/x"]).succeeded().stdout, "/x");
    let through = format!("a.dyn.example:8080:{dialled}:8080");
    assert_eq!(lab.curl(&["--connect-to", &through, "http://a.dyn.example:8080/y"]).succeeded().stdout, "/y");
    let through = format!("b.dyn.example:8080:{dialled}:8080");
    let refused = lab.curl(&["-i", "--connect-to", &through, "http://b.dyn.example:8080/y"]).succeeded().stdout;
    assert!(refused.starts_with("HTTP/1.1 503 ") && refused.contains("CERTIFICATE_VERIFY_FAILED"), "{refused}");
    let through = format!("none.dyn.example:443:{dialled}:443");
    assert!(!lab.curl(&["--connect-to", &through, "https://none.dyn.example/"]).status.success());
    egret.log_line(&[
        "\"- - -\" 0 DF - dns_resolution_failure{none.dyn.example_has_no_address} ",
        "outbound|443||*.dyn.example",
        " none.dyn.example ",
    ]);
    assert_eq!((stranger.accepted(), secret.accepted()), (0, 0));
    assert!(plain.accepted() >= 1 && secure.accepted() >= 2);
}

/// Ways past a list of hosts that lead over addresses and ports instead of names.
#[test]
fn addresses_and_ports_are_no_way_around() {
    let lab = Lab::new();
    let (v4, v6) = (Lab::address(Family::V4, 1), Lab::address(Family::V6, 1));
    let shared = [SocketAddr::new(v4, 80), SocketAddr::new(v6, 80)];
    for (name, addresses) in [("allowed", &[v4, v6][..]), ("denied", &[v4, v6]), ("only-v6", &[v6])] {
        lab.names.set(&format!("{name}.example"), addresses);
    }
    let secure = [v4, v6].map(|ip| SocketAddr::new(ip, 443));
    let servers = shared.map(|at| Server::start(&lab, at, serve));
    let pair = lab.authority.issue("allowed.example", Leaf::Good);
    let _secure = secure.map(|at| Server::start_tls(&lab, at, &pair, serve));
    let database = Server::start(&lab, SocketAddr::new(v4, 5432), |mut stream| {
        stream.read_exact(&mut [0; 2])?;
        stream.write_all(b"K")
    });
    let entries = [access("allowed.example"), access("only-v6.example"), static_tcp("db.example", v4, 5432)];
    lab.configure("entries.yaml", &(entries.join("---\n") + REGISTRY_ONLY));
    let egret = lab.egret(&[]);
    // Another name, a literal, IPv6, and IPv4 written as IPv6: the same policy.
    let mapped = |port: u16| SocketAddr::new(format!("::ffff:{v4}").parse().expect("an address"), port);
    for at in [shared[0], shared[1], mapped(80)] {
        assert_eq!(status(&lab, at, &http("allowed.example")), 200, "{at}");
        assert_eq!(status(&lab, at, &http("denied.example")), 502, "{at}");
        assert_eq!(status(&lab, at, &http(&v4.to_string())), 502, "{at}");
        assert_eq!(status(&lab, at, &http(&format!("[{v6}]"))), 502, "{at}");
    }
    assert_eq!(lab.curl(&["http://only-v6.example/x"]).succeeded().stdout, "/x");
    // A name decides where HTTP goes: an address where nothing listens does no harm.
    let nowhere = SocketAddr::new(Lab::address(Family::V4, 7), 80);
    assert_eq!(status(&lab, nowhere, &http("allowed.example")), 200);
    let spoken = |at: SocketAddr, bytes: &[u8]| {
        let mut answer = Vec::new();
        let sent = lab.connect(at).and_then(|mut stream| {
            stream.write_all(bytes)?;
            stream.read_to_end(&mut answer)
        });
        if sent.is_err() { Vec::new() } else { answer }
    };
    for at in [secure[0], secure[1], mapped(443)] {
        assert!(spoken(at, &client_hello("denied.example")).is_empty(), "{at}");
        // Plain HTTP where TLS is expected, and the other way round.
        assert_eq!(status(&lab, at, &http("allowed.example")), 502, "{at}");
        let port_80 = SocketAddr::new(at.ip(), 80);
        assert!(spoken(port_80, &client_hello("allowed.example")).is_empty(), "{port_80}");
    }
    egret.log_line(&["\"- - -\" 0 UH - ", "BlackHoleCluster", " denied.example "]);
    // An address that an entry lists, in both forms; its neighbour is none.
    for (at, expected) in [(SocketAddr::new(v4, 5432), "K"), (mapped(5432), "K"), (SocketAddr::new(v6, 5432), "")] {
        assert_eq!(String::from_utf8_lossy(&spoken(at, b"\0x")), expected, "{at}");
    }
    assert_eq!(database.accepted(), 2);
    assert!(servers.iter().all(|server| server.accepted() >= 1));
}
