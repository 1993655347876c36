//! How often a request is sent: as the route's `retries` say, or Istio's default does, and never more.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::lab::client::HttpClient;
use crate::lab::documents::{origination, service_entry};
use crate::lab::pki::Leaf;
use crate::lab::server::{HttpServer, Server};
use crate::lab::{Family, Lab, process};
use crate::site::{HOST, Site};

fn at(number: u8, port: u16) -> SocketAddr {
    SocketAddr::new(Lab::address(Family::V4, number), port)
}

/// A VirtualService of [`HOST`] with one route.
fn route(retries: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: site}}\nspec:\n  hosts: [{HOST}]\n  \
         http: [{{{retries}, route: [{{destination: {{host: {HOST}}}}}]}}]\n"
    )
}

/// Reads every request; answers those for `/good` and resets its connection at all others. Counts what arrived.
fn resetting(seen: &Arc<AtomicUsize>) -> impl Fn(TcpStream) -> io::Result<()> + Send + Sync + use<> {
    let seen = Arc::clone(seen);
    move |stream| {
        let socket = stream.try_clone()?;
        let mut server = HttpServer::new(stream);
        while let Some(request) = server.request()? {
            if request.target != "/good" {
                seen.fetch_add(1, Ordering::SeqCst);
                return socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO));
            }
            server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
        }
        Ok(())
    }
}

/// One request of `method` on a new connection, `pooled`: over a connection that has carried another.
fn status(site: &Site, method: &str, pooled: bool) -> u16 {
    let mut client = site.open();
    if pooled {
        assert_eq!(client.get(HOST, "/good").unwrap().head.status, 200);
    }
    let fields = if method == "POST" { "Content-Length: 0\r\n" } else { "" };
    client.send(format!("{method} /bad HTTP/1.1\r\nHost: {HOST}\r\n{fields}\r\n").as_bytes()).unwrap();
    client.response().unwrap().head.status
}

#[test]
fn what_was_read_and_reset_is_sent_as_often_as_the_route_says() {
    for (retries, method, pooled, expected) in [
        // All kinds of `retries`: src/proxy/tests/tries.rs.
        ("retries: {attempts: 2, retryOn: reset}", "POST", false, 3),
        ("retries: {attempts: 0}", "GET", true, 1),
        ("timeout: 20s", "GET", true, 2),
    ] {
        let seen = Arc::new(AtomicUsize::new(0));
        let site = Site::new("{}", resetting(&seen));
        site.lab.configure("route.yaml", &route(retries));
        let egret = site.lab.egret(&["--workers", "1"]);
        assert_eq!(status(&site, method, pooled), 503, "{retries}, {method}");
        assert_eq!(seen.load(Ordering::SeqCst), expected, "{retries}, {method}, pooled: {pooled}");
        let line = egret.log_line(&[&format!("\"{method} /bad "), " 503 "]);
        let is_spent = expected > 1 && (retries.contains("reset") || retries.contains("5xx"));
        assert!(line.contains("UC") && line.contains("URX") == is_spent, "{retries}, {method}: {line}");
    }
}

/// Requests to `host`, and the line that is logged of one.
fn ask(lab: &Lab, host: &str) -> u16 {
    HttpClient::new(lab.connect(at(9, 80)).unwrap()).get(host, "/").unwrap().head.status
}

#[test]
fn a_connection_that_cannot_be_had_is_tried_for_thrice_however_it_fails() {
    let lab = Lab::new();
    let hosts = ["silent.example", "plain.example", "stranger.example", "refused.example"];
    for (host, number) in hosts.iter().zip(1..) {
        lab.names.set(host, &[at(number, 80).ip()]);
        let rule = origination(host, Some(&lab.ca_file()))
            .replace("      tls:\n", "      connectionPool: {tcp: {connectTimeout: 300ms}}\n      tls:\n");
        lab.configure(&format!("{host}.yaml"), &rule);
    }
    // 1 drops, 2 speaks no TLS, 3 shows another's certificate, nobody listens at 4.
    let table = "add table inet lab; add chain inet lab in { type filter hook input priority 0; }; \
                 add rule inet lab in ip daddr 203.0.113.1 tcp dport 443 drop";
    process::finish(lab.outside.command("nft", &[table])).succeeded();
    let plain = Server::start(&lab, at(2, 443), |stream| {
        let mut server = HttpServer::new(stream);
        server.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    });
    let pair = lab.authority.issue("other.example", Leaf::Good);
    let stranger = Server::start_tls(&lab, at(3, 443), &pair, |_| Ok(()));
    let egret = lab.egret(&["--workers", "1"]);
    for (host, number) in hosts.iter().zip(1..) {
        assert_eq!(ask(&lab, host), 503);
        egret.log_line(&[&format!("outbound|80||{host} "), " 503 URX,UF "]);
        let failures = egret.metric("egret_upstream_connect_failures_total");
        assert_eq!(failures, Some(3.0 * f64::from(number)), "{host}");
    }
    assert_eq!((plain.accepted(), stranger.accepted()), (3, 3));
}

#[test]
fn no_second_try_is_claimed_where_there_was_none() {
    let lab = Lab::new();
    for (host, number) in [(HOST, 1), ("once.example", 2), ("several.example", 3)] {
        lab.names.set(host, &[at(number, 80).ip()]);
        lab.configure(&format!("{host}.yaml"), &service_entry(host, &[(80, "HTTP", None)]));
    }
    lab.names.set("several.example", &[3, 4, 5, 6].map(|number| at(number, 80).ip()));
    lab.configure("route.yaml", &route("retries: {attempts: 0}"));
    lab.configure(
        "other.yaml",
        &route("retries: {attempts: 2, retryOn: \"503\"}")
            .replace(HOST, "once.example")
            .replace("name: site", "name: x"),
    );
    let egret = lab.egret(&["--workers", "1"]);
    // An unlisted host has no route, and Istio's catch-all no retries; four endpoints are more than three tries.
    for (host, connects, flags) in [
        (HOST, 1.0, " 503 UF "),
        ("once.example", 1.0, " 503 UF "),
        ("unlisted.example", 1.0, " 503 UF "),
        ("several.example", 4.0, " 503 URX,UF "),
    ] {
        let before = egret.metric("egret_upstream_connect_failures_total").unwrap();
        assert_eq!(ask(&lab, host), 503);
        egret.log_line(&[&format!("\"{host}\""), flags]);
        let connects_made = egret.metric("egret_upstream_connect_failures_total").unwrap() - before;
        assert!(connects_made <= connects, "{host}: {connects_made}");
    }
    assert_eq!(egret.metric("egret_requests_retried_total"), Some(0.0));
}

/// What a TLS server was asked for: its SNI, and the Host of each request.
type Asked = Arc<Mutex<Vec<(Option<String>, String)>>>;

fn named_server(lab: &Lab, number: u8, certificate: &str, asked: &Asked) -> Server {
    let (pair, asked) = (lab.authority.issue(certificate, Leaf::Good), Arc::clone(asked));
    Server::start_tls(lab, at(number, 443), &pair, move |stream| {
        let name = stream.conn.server_name().map(str::to_owned);
        let mut server = HttpServer::new(stream);
        while let Some(request) = server.request()? {
            let host = request.head.field("host").unwrap_or_default().to_owned();
            asked.lock().unwrap().push((name.clone(), host));
            server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
        }
        Ok(())
    })
}

#[test]
fn tls_names_the_host_that_the_route_writes() {
    let lab = Lab::new();
    let asked = Asked::default();
    // The rule of the second says itself what is named and checked.
    let _servers = [named_server(&lab, 1, "inner.example", &asked), named_server(&lab, 2, "fixed.example", &asked)];
    for (host, number) in [(HOST, 1), ("other.example", 2)] {
        lab.names.set(host, &[at(number, 80).ip()]);
        let mut yaml = origination(host, Some(&lab.ca_file()));
        if number == 2 {
            yaml += "        sni: fixed.example\n        subjectAltNames: [fixed.example]\n";
        }
        lab.configure(&format!("{host}.yaml"), &yaml);
        let route = route("rewrite: {authority: \"Inner.example:8443\"}");
        let route = route.replace(HOST, host).replace("name: site", &format!("name: r{number}"));
        lab.configure(&format!("route-{number}.yaml"), &route);
    }
    let egret = lab.egret(&["--workers", "1"]);
    for (host, name) in [(HOST, "inner.example"), ("other.example", "fixed.example")] {
        assert_eq!(ask(&lab, host), 200, "{}", egret.access_log().join("\n"));
        let (sni, written) = asked.lock().unwrap().pop().unwrap();
        assert_eq!((sni.as_deref(), &*written), (Some(name), "Inner.example:8443"), "{host}");
        let explained = lab.egret_command(&["explain", &format!("http://{host}/")]).succeeded().stdout;
        assert!(explained.contains(&format!("{name} (from ")), "{explained}");
        let checked = ["for inner.example", "for one of fixed.example"][usize::from(host != HOST)];
        assert!(explained.contains(checked), "{explained}");
    }
}
