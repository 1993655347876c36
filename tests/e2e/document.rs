//! Istio's egress pages, step by step: plain HTTP leaves the pod as verified TLS, and HTTPS is left alone.

use std::net::SocketAddr;

use crate::lab;
use crate::lab::documents::{access, origination, service_entry};
use crate::lab::nginx::{self, Nginx};
use crate::lab::pki::Leaf;
use crate::lab::proxy::Egret;
use crate::lab::{Family, Lab};

const HOST: &str = "edition.cnn.com";
const REGISTRY_ONLY: [&str; 2] = ["--outbound-traffic-policy", "REGISTRY_ONLY"];

/// A lab with a site for `host`: HTTP/1.1 and h2 over these TLS versions, and on port 80 a redirect to it.
fn lab_with_site(host: &str, family: Family, protocols: &str) -> (Lab, Nginx) {
    let lab = Lab::new();
    let address = Lab::address(family, 1);
    lab.names.set(host, &[address]);
    let pair = lab.authority.issue(host, Leaf::Good).write(lab.dir(), host);
    let nginx = Nginx::start(&lab, &nginx::site(address, &pair, protocols), SocketAddr::new(address, 443));
    (lab, nginx)
}

/// The page's curl: the heads of every response, redirects followed.
fn heads(lab: &Lab, url: &str) -> Vec<String> {
    let said = lab.curl(&["-L", "-o", "/dev/null", "-D", "-", url]).succeeded();
    let lines =
        said.stdout.lines().filter(|line| line.starts_with("HTTP/") || line.to_lowercase().starts_with("location:"));
    lines.map(|line| line.trim_end().to_owned()).collect()
}

/// The page from its first step to its last, without restarting anything.
fn tell(family: Family, protocols: &str) {
    let (lab, nginx) = lab_with_site(HOST, family, protocols);
    lab.configure("page.yaml", &access(HOST));
    let egret = lab.egret(&[]);

    let capture = lab.capture();
    let first = heads(&lab, "http://edition.cnn.com/politics");
    assert_eq!(first, ["HTTP/1.1 301 Moved Permanently", "Location: https://edition.cnn.com/politics", "HTTP/2 200"]);
    assert!(capture.finish().contains("/politics"), "without origination the path crosses the link in plain text");

    lab.configure("page.yaml", &origination(HOST, Some(&lab.ca_file())));
    lab::within(std::time::Duration::from_secs(5), "the change is in force", || {
        heads(&lab, "http://edition.cnn.com/probe") == ["HTTP/1.1 200 OK"]
    });

    let capture = lab.capture();
    assert_eq!(heads(&lab, "http://edition.cnn.com/politics"), ["HTTP/1.1 200 OK"]);
    assert_eq!(heads(&lab, "https://edition.cnn.com/politics"), ["HTTP/2 200"]);
    let captured = capture.finish();
    assert!(!captured.contains("/politics"), "with origination the path must not cross the link");
    captured.assert_only_tls_to(443);

    let to = SocketAddr::new(Lab::address(family, 1), 443);
    egret.log_line(&[
        "\"GET /politics HTTP/1.1\" 200 - via_upstream - \"-\" 0 ",
        &format!("\"{to}\" outbound|80||{HOST} "),
    ]);
    egret.log_line(&["\"- - -\" 0 - - - \"-\" ", &format!("outbound|443||{HOST} "), &format!(" {HOST} -")]);
    let originated: Vec<_> =
        nginx.seen().into_iter().filter(|seen| seen.request.starts_with("GET /politics HTTP/1.1")).collect();
    let last = originated.last().expect("nginx saw the originated request");
    assert_eq!((last.tls.as_str(), last.sni.as_str(), last.host.as_str()), (protocols, HOST, HOST));
}

#[test]
fn the_page_over_ipv4_with_tls_1_3() {
    tell(Family::V4, "TLSv1.3");
}

#[test]
fn the_page_over_ipv4_with_tls_1_2() {
    tell(Family::V4, "TLSv1.2");
}

#[test]
fn the_page_over_ipv6_with_tls_1_3() {
    tell(Family::V6, "TLSv1.3");
}

#[test]
fn the_page_over_ipv6_with_tls_1_2() {
    tell(Family::V6, "TLSv1.2");
}

#[test]
fn access_log_line_has_every_field() {
    let (lab, _nginx) = lab_with_site(HOST, Family::V4, "TLSv1.3");
    lab.configure("page.yaml", &origination(HOST, Some(&lab.ca_file())));
    let egret = lab.egret(&[]);
    lab.curl(&["-A", "lab/1", "-H", "x-request-id: 7f", "http://edition.cnn.com/a?b=c"]).succeeded();
    let line = egret.log_line(&["\"GET /a?b=c HTTP/1.1\""]);
    let (_, after_time) = line.split_once("] ").expect("a time in brackets");
    // The answer is "secure /a edition.cnn.com\n": 26 bytes.
    let (counts, rest) = after_time.split_at(after_time.find(" \"-\" 0 26 ").expect("byte counts") + 10);
    assert_eq!(counts, "\"GET /a?b=c HTTP/1.1\" 200 - via_upstream - \"-\" 0 26 ");
    let fields: Vec<&str> = rest.split(' ').collect();
    assert!(fields[0].parse::<u64>().is_ok() && fields[1].parse::<u64>().is_ok(), "two durations: {rest}");
    let quoted =
        ["\"-\"", "\"lab/1\"", "\"7f\"", "\"edition.cnn.com\"", "\"203.0.113.1:443\"", "outbound|80||edition.cnn.com"];
    assert_eq!(fields[2..8], quoted, "{rest}");
    assert!(fields[8].starts_with("10.77.0.2:"), "egret's own address: {rest}");
    assert_eq!(fields[9], "203.0.113.1:80", "the original destination: {rest}");
    assert!(fields[10].starts_with("10.77.0.2:"), "the application's address: {rest}");
}

/// The sum of a metric's series with these labels.
fn counts(egret: &Egret<'_>, metric: &str, labels: &[&str]) -> u64 {
    let (_, text) = egret.get(15090, "/stats/prometheus").expect("the metrics are there");
    let start = format!("{metric}{{");
    let series =
        text.lines().filter(|line| line.starts_with(&start) && labels.iter().all(|label| line.contains(label)));
    series.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum()
}

#[test]
fn unknown_destinations_pass_by_default() {
    for family in [Family::V4, Family::V6] {
        let (lab, _nginx) = lab_with_site("www.google.com", family, "TLSv1.3");
        let egret = lab.egret(&[]);
        let said = lab.curl(&["-I", "https://www.google.com"]).succeeded();
        assert!(said.stdout.starts_with("HTTP/2 200"), "{}", said.stdout);
        assert!(lab.curl(&["-I", "http://www.google.com"]).succeeded().stdout.starts_with("HTTP/1.1 301"));
        for port in [443, 80] {
            egret.log_line(&["\"- - -\" 0 - - - \"-\" ", &format!(":{port}\" PassthroughCluster ")]);
        }
        let name = "destination_service_name=\"PassthroughCluster\"";
        lab::eventually("the metrics name it", || counts(&egret, "istio_tcp_connections_opened_total", &[name]) == 2);
    }
}

#[test]
fn unknown_destinations_are_refused_when_only_the_registry_counts() {
    for family in [Family::V4, Family::V6] {
        let (lab, nginx) = lab_with_site("www.google.com", family, "TLSv1.3");
        let egret = lab.egret(&REGISTRY_ONLY);
        let refused = lab.curl(&["-I", "https://www.google.com"]);
        assert_eq!(refused.code(), Some(35), "curl's code for a failed TLS connection: {}", refused.stderr);
        let status = lab.curl(&["-o", "/dev/null", "-w", "%{http_code}", "http://www.google.com/secret"]).succeeded();
        assert_eq!(status.stdout, "502");
        egret.log_line(&["\"GET /secret HTTP/1.1\" 502 - direct_response", " block_all"]);
        egret.log_line(&["\"- - -\" 0 UH ", " BlackHoleCluster "]);
        assert_eq!(nginx.seen(), [], "nothing may arrive");
        let (name, closed) = ("destination_service_name=\"BlackHoleCluster\"", "istio_tcp_connections_closed_total");
        lab::eventually("the metrics name it", || {
            counts(&egret, "istio_requests_total", &[name, "reporter=\"source\"", "response_code=\"502\""]) == 1
                && counts(&egret, closed, &[name, "reporter=\"source\""]) == 1
        });
    }
}

#[test]
fn the_registry_opens_what_it_names() {
    for family in [Family::V4, Family::V6] {
        let (lab, nginx) = lab_with_site("httpbin.org", family, "TLSv1.3");
        lab.configure("entry.yaml", &service_entry("httpbin.org", &[(80, "HTTP", None)]));
        let egret = lab.egret(&REGISTRY_ONLY);
        let said = lab.curl(&["-o", "/dev/null", "-w", "%{http_code}", "http://httpbin.org/headers"]).succeeded();
        assert_eq!(said.stdout, "301", "the site's own answer");
        egret.log_line(&["\"GET /headers HTTP/1.1\" 301 - via_upstream - \"-\"", " outbound|80||httpbin.org "]);
        assert_eq!(lab.curl(&["-I", "https://httpbin.org"]).code(), Some(35), "port 443 is not in the entry");
        assert_eq!(nginx.seen().len(), 1);
    }
}

#[test]
fn a_dead_proxy_fails_closed() {
    for family in [Family::V4, Family::V6] {
        let (lab, nginx) = lab_with_site(HOST, family, "TLSv1.3");
        lab.configure("page.yaml", &origination(HOST, Some(&lab.ca_file())));
        let mut egret = lab.egret(&[]);
        assert_eq!(heads(&lab, "http://edition.cnn.com/alive"), ["HTTP/1.1 200 OK"]);
        lab::eventually("nginx logs the one request", || nginx.seen().len() == 1);
        egret.kill();
        let capture = lab.capture();
        for url in ["http://edition.cnn.com/dead", "https://edition.cnn.com/dead"] {
            assert_eq!(lab.curl(&[url]).code(), Some(7), "curl's code for a refused connection");
        }
        let escaped = capture.finish().streams();
        assert!(escaped.iter().all(|stream| !stream.from_pod), "connections left the pod: {escaped:?}");
        assert_eq!(nginx.seen().len(), 1);
        let _egret = lab.start_egret(&[]);
        assert_eq!(heads(&lab, "http://edition.cnn.com/back"), ["HTTP/1.1 200 OK"]);
    }
}
