//! The way to the upstream: through a forward proxy, and announced by the PROXY protocol.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::SocketAddr;

use crate::lab::client::HttpClient;
use crate::lab::forward::{ForwardProxy, PLAIN, SECURE};
use crate::lab::nginx::Nginx;
use crate::lab::pki::{Leaf, PairFiles};
use crate::lab::server::Server;
use crate::lab::{Family, Lab, eventually, utf8};

/// A port on which the server speaks first.
const GREETING: u16 = 7000;
const TARGET: &str = "target.example";

fn at(number: u8, port: u16) -> SocketAddr {
    SocketAddr::new(Lab::address(Family::V4, number), port)
}

/// A host with one port, whose only endpoint is elsewhere, under a `trafficPolicy` in YAML's flow form.
fn configure(lab: &Lab, host: &str, port: (u16, &str), endpoint: SocketAddr, policy: &str) {
    let name = host.replace('.', "-");
    let (number, protocol) = port;
    let yaml = format!(
        "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {name}}}
spec:
  hosts: [{host}]
  addresses: [203.0.113.9]
  ports: [{{number: {number}, name: the-port, protocol: {protocol}}}]
  resolution: STATIC
  endpoints: [{{address: {}, ports: {{the-port: {}}}}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: {name}}}
spec: {{host: {host}, trafficPolicy: {policy}}}
",
        endpoint.ip(),
        endpoint.port()
    );
    lab.configure(&format!("{name}.yaml"), &yaml);
}

/// Sites on port 443 of the target that answer with the request's host and the number of the connection.
fn secure_sites(lab: &Lab, sites: &[(&str, &PairFiles)]) -> Nginx {
    let mut servers = String::new();
    for (host, pair) in sites {
        let (certificate, key) = (utf8(&pair.certificate), utf8(&pair.key));
        let contents = "location / { return 200 \"$host $connection\\n\"; }";
        writeln!(
            servers,
            "server {{ listen {} ssl; server_name {host}; ssl_certificate {certificate}; ssl_certificate_key {key}; \
             {contents} }}",
            at(1, 443)
        )
        .expect("a string grows");
    }
    Nginx::start(lab, &servers, at(1, 443))
}

#[test]
fn tunnels_through_a_forward_proxy() {
    let lab = Lab::new();
    lab.outside.write_etc("hosts", &format!("{} {TARGET}\n", Lab::address(Family::V4, 1)));
    let own = lab.authority.issue("www.example", Leaf::Good).write(lab.dir(), "www");
    let origin = lab.authority.issue("api.example", Leaf::Good).write(lab.dir(), "api");
    let proxied = lab.authority.issue("proxy.example", Leaf::Good).write(lab.dir(), "proxy");
    let _nginx = secure_sites(&lab, &[("www.example", &own), ("api.example", &origin)]);
    let _greeter = Server::start(&lab, at(1, GREETING), |mut stream| {
        stream.write_all(b"220 ready\r\n")?;
        let mut line = [0; 4];
        stream.read_exact(&mut line)?;
        stream.write_all(&line)
    });
    let proxy = ForwardProxy::start(&lab, Lab::address(Family::V4, 5), &proxied, GREETING);
    let (ca, plain, secure) = (lab.ca_file(), at(5, PLAIN), at(5, SECURE));
    let ca = utf8(&ca);
    let tunnel = |port: u16| format!("tunnel: {{targetHost: {TARGET}, targetPort: {port}}}");
    let to_proxy =
        format!("tls: {{mode: SIMPLE, caCertificates: {ca}, sni: proxy.example, subjectAltNames: [proxy.example]}}");
    let to_target = format!("tls: {{mode: SIMPLE, caCertificates: {ca}}}");
    configure(&lab, "www.example", (443, "TLS"), plain, &format!("{{{}}}", tunnel(443)));
    configure(&lab, "greeting.example", (GREETING, "TCP"), secure, &format!("{{{}, {to_proxy}}}", tunnel(GREETING)));
    configure(&lab, "api.example", (80, "HTTP"), plain, &format!("{{{}, {to_target}}}", tunnel(443)));
    configure(&lab, "denied.example", (81, "HTTP"), plain, &format!("{{{}}}", tunnel(4444)));
    configure(&lab, "denied-bytes.example", (82, "TCP"), plain, &format!("{{{}}}", tunnel(4444)));
    let egret = lab.egret(&[]);
    let seen = |line: &str| proxy.seen().iter().filter(|seen| *seen == line).count();

    // The application's own TLS.
    lab.names.set("www.example", &[Lab::address(Family::V4, 9)]);
    let out = lab.curl(&["https://www.example/"]).succeeded().stdout;
    assert!(out.starts_with("www.example "), "{out}");
    eventually("the proxy tells", || seen("CONNECT target.example:443 HTTP/1.1 200") == 1);
    egret.log_line(&["outbound|443||www.example", &format!("\"{plain}\"")]);

    // A server that speaks first, and TLS to the proxy.
    let mut stream = lab.connect(at(9, GREETING)).unwrap();
    let mut greeting = [0; 11];
    stream.read_exact(&mut greeting).unwrap();
    assert_eq!(&greeting, b"220 ready\r\n");
    stream.write_all(b"ping").unwrap();
    let mut echo = [0; 4];
    stream.read_exact(&mut echo).unwrap();
    assert_eq!(&echo, b"ping");
    drop(stream);
    eventually("the proxy tells", || seen("CONNECT target.example:7000 HTTP/1.1 200") == 1);

    // TLS of ours inside the tunnel, and one tunnel for several requests.
    let mut client = HttpClient::new(lab.connect(at(9, 80)).unwrap());
    let bodies: BTreeSet<_> = (0..3).map(|_| client.get("api.example", "/").unwrap().body).collect();
    assert_eq!(bodies.len(), 1, "one connection: {bodies:?}");
    assert!(String::from_utf8_lossy(bodies.first().unwrap()).starts_with("api.example "), "{bodies:?}");

    // No tunnel, and nothing sent without one.
    let mut client = HttpClient::new(lab.connect(at(9, 81)).unwrap());
    let refused = client.get("denied.example", "/").unwrap();
    let body = String::from_utf8_lossy(&refused.body).into_owned();
    assert_eq!(refused.head.status, 503);
    assert!(body.contains("the forward proxy answered 403 to CONNECT target.example:4444"), "{body}");
    egret.log_line(&[" 503 URX,UF ", "outbound|81||denied.example"]);
    // The reset may come before the connection is handed to the test.
    let answer = lab.connect(at(9, 82)).and_then(|mut stream| {
        stream.write_all(b"secret")?;
        stream.read(&mut echo)
    });
    assert_eq!(answer.unwrap_or(0), 0);
    egret.log_line(&["UF,URX", "answered 403", "outbound|82||denied-bytes.example"]);
}

#[test]
fn a_forward_proxy_may_answer_anything() {
    let lab = Lab::new();
    let answers: [(&[u8], &str); 4] = [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "is no HTTP"),
        (b"", "ended the connection before it answered"),
        (b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n", "answered 407"),
        (b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad", "sent data of its own"),
    ];
    let mut servers = Vec::new();
    for (number, (answer, _)) in (0_u16..).zip(answers) {
        let port = 4000 + number;
        servers.push(Server::start(&lab, at(5, port), move |mut stream| {
            let mut request = [0; 256];
            let _ = stream.read(&mut request)?;
            stream.write_all(answer)
        }));
        let policy = "{tunnel: {targetHost: a.example, targetPort: 80}}";
        configure(&lab, &format!("h{number}.example"), (80, "HTTP"), at(5, port), policy);
    }
    // A head without an end.
    servers.push(Server::start(&lab, at(5, 4100), |mut stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\n")?;
        for number in 0..100_000 {
            stream.write_all(format!("x-{number}: {number}\r\n").as_bytes())?;
        }
        Ok(())
    }));
    configure(&lab, "endless.example", (80, "HTTP"), at(5, 4100), "{tunnel: {targetHost: a.example, targetPort: 80}}");
    let _egret = lab.egret(&[]);
    let refused = |host: &str| {
        let response = HttpClient::new(lab.connect(at(9, 80)).unwrap()).get(host, "/").unwrap();
        assert_eq!(response.head.status, 503, "{host}");
        String::from_utf8_lossy(&response.body).into_owned()
    };
    for (number, (_, words)) in answers.iter().enumerate() {
        let body = refused(&format!("h{number}.example"));
        assert!(body.contains("tunnel through 203.0.113.5:4") && body.contains(words), "{words}: {body}");
    }
    let body = refused("endless.example");
    assert!(body.contains("is no HTTP"), "{body}");
}

#[test]
fn the_upstream_learns_who_connects() {
    let lab = Lab::new();
    let pair = lab.authority.issue("secure.example", Leaf::Good).write(lab.dir(), "secure");
    let (certificate, key) = (utf8(&pair.certificate), utf8(&pair.key));
    let told = "$proxy_protocol_addr:$proxy_protocol_port $proxy_protocol_server_addr:$proxy_protocol_server_port";
    let contents = format!("location / {{ return 200 \"{told} $connection\"; }}");
    let servers = format!(
        "server {{ listen {} proxy_protocol; {contents} }}
server {{ listen {} ssl proxy_protocol; ssl_certificate {certificate}; ssl_certificate_key {key}; {contents} }}
",
        at(1, 8080),
        at(1, 8443)
    );
    let _nginx = Nginx::start(&lab, &servers, at(1, 8443));
    let ca = lab.ca_file();
    let tls = format!("tls: {{mode: SIMPLE, caCertificates: {}}}", utf8(&ca));
    configure(&lab, "plain.example", (80, "HTTP"), at(1, 8080), "{proxyProtocol: {}}");
    configure(&lab, "secure.example", (80, "HTTP"), at(1, 8443), &format!("{{proxyProtocol: {{version: V2}}, {tls}}}"));
    configure(&lab, "bytes.example", (81, "TCP"), at(1, 8080), "{proxyProtocol: {version: V1}}");
    let _egret = lab.egret(&["--workers", "1"]);
    let ask = |client: &mut HttpClient, port: u16, host: &str| {
        let response = client.get(host, "/").unwrap();
        let body = String::from_utf8_lossy(&response.body).into_owned();
        let expected = format!("{} 203.0.113.9:{port} ", client.stream().local_addr().unwrap());
        body.strip_prefix(&expected).unwrap_or_else(|| panic!("{body:?} does not begin with {expected:?}")).to_owned()
    };
    let open = |port| HttpClient::new(lab.connect(at(9, port)).unwrap());
    for host in ["plain.example", "secure.example"] {
        let (mut one, mut other) = (open(80), open(80));
        let first = ask(&mut one, 80, host);
        assert_eq!(ask(&mut one, 80, host), first, "the same application's connection is used again");
        assert_ne!(ask(&mut other, 80, host), first, "another's is not");
        assert_eq!(ask(&mut one, 80, host), first);
    }
    ask(&mut open(81), 81, "bytes.example");
}
