//! What may leave and what may not, seen from the application: real traffic through the kernel's redirect.

mod lab;

use std::io::{self, Read, Write};
use std::net::SocketAddr;

use lab::client::HttpClient;
use lab::documents::{access, static_tcp};
use lab::pki::Leaf;
use lab::server::{HttpServer, Server};
use lab::{Family, Lab};

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
    client.response().map_or(0, |response| response.head.status)
}

#[test]
fn authorization_policies_hold_on_the_wire() {
    let lab = Lab::new();
    let address = Lab::address(Family::V4, 1);
    for host in ["api.example", "free.example"] {
        lab.names.set(host, &[address]);
    }
    let at = SocketAddr::new(address, 80);
    let upstream = Server::start(&lab, at, serve);
    let pair = lab.authority.issue("api.example", Leaf::Good);
    let secure = Server::start_tls(&lab, SocketAddr::new(address, 443), &pair, serve);
    let database = Server::start(&lab, SocketAddr::new(address, 5432), |mut stream| stream.write_all(b"hello"));
    let target = "targetRefs: [{group: networking.istio.io, kind: ServiceEntry, name: api-example}]";
    let public = format!("{target}, rules: [{{to: [{{operation: {{paths: ['/public/*', /admin]}}}}]}}]");
    let admin = format!("{target}, action: DENY, rules: [{{to: [{{operation: {{paths: [/admin, '/admin/*']}}}}]}}]");
    let seen = format!("{target}, action: AUDIT, rules: [{{}}]");
    let db = "action: DENY, rules: [{to: [{operation: {ports: ['5432']}}]}]";
    lab.configure(
        "entries.yaml",
        &[access("api.example"), access("free.example"), static_tcp("db.example", address, 5432)].join("---\n"),
    );
    let policies = [("public", &*public), ("no-admin", &admin), ("seen", &seen), ("no-db", db)];
    lab.configure("policies.yaml", &policies.map(|(name, spec)| authorization(name, spec)).concat());
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
    let long = format!("/{}/../admin", "x".repeat(8 * 1024));
    for path in [
        "//admin",
        "/./admin",
        "/x/../admin",
        "/x/%2e%2e/admin",
        "/%61dmin",
        "/admin%2f",
        "/a%5cadmin",
        "/admin%00",
        "/admin;x=1/",
        "/admin?/public/",
        "/public/..;/admin",
        "/public/%2e%2e%2fadmin",
        "/public/%c0%af",
        "http://api.example/admin",
        &long,
    ] {
        assert_eq!(get("api.example", path), 403, "{path}");
    }
    // No request target has these at all.
    for path in ["/admin#x", "\\admin"] {
        assert_eq!(get("api.example", path), 400, "{path}");
    }
    // Each request of a connection is judged.
    let mut kept = HttpClient::new(lab.connect(at).expect("the redirect accepts"));
    let statuses =
        [("free.example", "/a"), ("api.example", "/b"), ("api.example", "/public/c"), ("free.example", "/d")]
            .map(|(host, path)| kept.get(host, path).expect("an answer").head.status);
    assert_eq!(statuses, [200, 403, 200, 200]);

    // Nothing of HTTP is known of TLS: an ALLOW that asks for it lets nothing out.
    let refused = lab.curl(&["https://api.example/public/x"]);
    assert!(!refused.status.success(), "{refused:?}");
    egret.log_line(&[
        "\"- - -\" 0 - - rbac_access_denied_matched_policy[none] ",
        "outbound|443||api.example",
        " api.example ",
    ]);
    assert_eq!(secure.accepted(), 0);
    let mut bytes = Vec::new();
    let mut refused = lab.connect(SocketAddr::new(address, 5432)).expect("the redirect accepts");
    assert!(refused.read_to_end(&mut bytes).is_err() || bytes.is_empty(), "{bytes:?}");
    egret.log_line(&[
        "rbac_access_denied_matched_policy[ns[default]-policy[no-db]-rule[0]]",
        "outbound|5432||db.example",
    ]);
    assert_eq!(database.accepted(), 0);

    lab::eventually("audited requests are counted", || egret.metric("egret_authorization_audited_total") == Some(2.0));
    assert!(egret.stderr().contains("default/seen"), "{}", egret.stderr());
    assert!(upstream.accepted() >= 2);
}
