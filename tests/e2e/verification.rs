//! Upstreams that must not be trusted: the application gets 503 with the reason, and the outside gets no byte of the
//! request.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr};

use crate::lab::documents::origination;
use crate::lab::nginx::{self, Nginx};
use crate::lab::pki::{Authority, Leaf};
use crate::lab::server::Server;
use crate::lab::{Family, Lab};

/// Host, and what the reason must say (any case).
const REFUSED: [(&str, &[&str]); 7] = [
    ("expired.example", &["CERTIFICATE_VERIFY_FAILED", "expired"]),
    ("future.example", &["CERTIFICATE_VERIFY_FAILED", "not"]),
    ("wrong-name.example", &["CERTIFICATE_VERIFY_FAILED", "other.example"]),
    ("untrusted.example", &["CERTIFICATE_VERIFY_FAILED"]),
    ("self-signed.example", &["CERTIFICATE_VERIFY_FAILED"]),
    ("plaintext.example", &["TLS"]),
    ("stalling.example", &["timeout"]),
];

/// In the path, a header and the body of every request that must not leave.
const SECRET: &str = "never-in-plain-text";

fn address(family: Family, index: usize) -> IpAddr {
    Lab::address(family, u8::try_from(index + 1).unwrap())
}

fn servers(lab: &Lab, family: Family) -> (Nginx, Vec<Server>) {
    let stranger = Authority::new("a root that nobody trusts");
    let leaf = |host: &str| match host {
        "expired.example" => Some(lab.authority.issue(host, Leaf::Expired)),
        "future.example" => Some(lab.authority.issue(host, Leaf::NotYetValid)),
        "wrong-name.example" => Some(lab.authority.issue("other.example", Leaf::Good)),
        "untrusted.example" => Some(stranger.issue(host, Leaf::Good)),
        "self-signed.example" => Some(lab.authority.issue(host, Leaf::SelfSigned)),
        "good.example" => Some(lab.authority.issue(host, Leaf::Good)),
        _ => None,
    };
    let (mut blocks, mut servers) = (String::new(), Vec::new());
    for (index, host) in REFUSED.map(|(host, _)| host).into_iter().chain(["good.example"]).enumerate() {
        let at = SocketAddr::new(address(family, index), 443);
        lab.names.set(host, &[at.ip()]);
        lab.configure(&format!("{host}.yaml"), &origination(host, Some(&lab.ca_file())));
        match leaf(host) {
            Some(pair) => {
                let pair = pair.write(lab.dir(), host);
                blocks += &nginx::secure(at, &pair, "TLSv1.2 TLSv1.3", r#"location / { return 200 "trusted"; }"#);
            }
            None if host == "plaintext.example" => servers.push(plain_http(lab, at)),
            None => servers.push(silence(lab, at)),
        }
    }
    let ready = SocketAddr::new(address(family, REFUSED.len()), 443);
    (Nginx::start(lab, &blocks, ready), servers)
}

/// Answers whatever arrives with plain HTTP.
fn plain_http(lab: &Lab, at: SocketAddr) -> Server {
    Server::start(lab, at, |mut stream| {
        let _ = stream.read(&mut [0; 4096])?;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nin plain")
    })
}

/// Takes everything and never answers.
fn silence(lab: &Lab, at: SocketAddr) -> Server {
    Server::start(lab, at, |mut stream| std::io::copy(&mut stream, &mut std::io::sink()).map(drop))
}

fn refuse_all(family: Family) {
    let lab = Lab::new();
    let _servers = servers(&lab, family);
    let egret = lab.egret(&["--tls-handshake-timeout", "1s"]);
    let capture = lab.capture();
    for (host, reason) in REFUSED {
        let url = format!("http://{host}/{SECRET}");
        let header = format!("x-secret: {SECRET}");
        let said = lab.curl(&["-H", &header, "-d", SECRET, "-w", " %{http_code}", &url]).succeeded().stdout;
        assert!(said.ends_with(" 503"), "{host}: {said}");
        let line = egret.log_line(&["\"POST /never-in-plain-text HTTP/1.1\" 503 ", &format!("outbound|80||{host} ")]);
        assert!(line.contains("UF"), "{host}: the flag of a failed upstream connection: {line}");
        for part in reason {
            for text in [&said, &line] {
                assert!(text.to_lowercase().contains(&part.to_lowercase()), "{host}: {part:?} is not in {text:?}");
            }
        }
    }
    assert_eq!(lab.curl(&["-H", "x-secret: in-tls-only", "http://good.example/"]).succeeded().stdout, "trusted");
    let captured = capture.finish();
    assert!(!captured.contains(SECRET) && !captured.contains("in-tls-only"), "a request left in plain text");
    captured.assert_only_tls_to(443);
    assert!(captured.streams().iter().all(|stream| !stream.from_pod || stream.to_port == 443), "only to port 443");
}

#[test]
fn untrustworthy_upstreams_get_nothing_over_ipv4() {
    refuse_all(Family::V4);
}

#[test]
fn untrustworthy_upstreams_get_nothing_over_ipv6() {
    refuse_all(Family::V6);
}
