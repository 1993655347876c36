//! Servers that are wrong, broken or hostile in one way each: the application gets 503 with the reason, the log says it
//! too, and not a byte of a request is sent in plain text. What is merely unusual works.

mod table;

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};

use crate::lab;
use crate::lab::client::HttpClient;
use crate::lab::credentials::Issuing;
use crate::lab::documents::{service_entry, simple_tls, static_tcp};
use crate::lab::pki::Pair;
use crate::lab::server::{HttpServer, Pattern, Server};
use crate::lab::tls_server::{Shows, accept, client_serial};
use crate::lab::{Family, Lab, PATIENCE, utf8};
use table::{ANSWER, CERTIFICATE, Case, Handler, SECRET, address, proper, showing};

#[test]
fn each_server_gets_what_it_deserves_and_never_plain_text() {
    let lab = Lab::new();
    let ca = Issuing::new("root");
    let root = lab.write("root.pem", &ca.pem());
    let cases = table::all(&lab, &ca);
    let mut servers = Vec::new();
    let mut expected = Vec::new();
    for (number, Case { host, serve, tls, status, reason }) in cases.into_iter().enumerate() {
        let at = address(number);
        lab.names.set(host, &[at.ip()]);
        let rule = simple_tls(host, 80, Some(&root)) + &format!("        {tls}\n");
        let entry = service_entry(host, &[(80, "HTTP", Some(at.port()))]);
        lab.configure(&format!("{host}.yaml"), &format!("{entry}---\n{rule}"));
        servers.push(Server::start(&lab, at, serve));
        expected.push((host, status, reason));
    }
    let egret = lab.egret(&["--tls-handshake-timeout", "2s"]);
    let capture = lab.capture();
    let mut failures = 0;
    for (host, status, reason) in &expected {
        let mut client = HttpClient::new(lab.connect(SocketAddr::new(Lab::address(Family::V4, 1), 80)).unwrap());
        let request = format!("GET /{SECRET} HTTP/1.1\r\nHost: {host}\r\nx-secret: {SECRET}\r\n\r\n");
        client.send(request.as_bytes()).unwrap();
        let response = client.response().unwrap_or_else(|error| panic!("{host}: {error}"));
        let body = String::from_utf8_lossy(&response.body);
        assert_eq!(response.head.status, *status, "{host}: {body}");
        let line =
            egret.log_line(&[&format!("\"GET /{SECRET} HTTP/1.1\" {status} "), &format!("outbound|80||{host} ")]);
        for text in [&body, line.as_str()] {
            let all = *status == 503 || reason.is_empty();
            assert!(all && text.to_lowercase().contains(&reason.to_lowercase()), "{host}: {reason:?} is not in {text}");
        }
        failures += failures_of(&line);
        assert!(!body.contains("planted"), "{host}: what came before the handshake must not arrive");
    }
    let captured = capture.finish();
    assert!(!captured.contains(SECRET), "a request left in plain text");
    let sent = captured.streams().into_iter().filter(|stream| stream.from_pod && stream.to_port >= 20_000);
    sent.map(|stream| stream.to_port).for_each(|port| captured.assert_only_tls_to(port));
    let counted = egret.metric("egret_upstream_tls_failures_total");
    assert_eq!(counted, Some(f64::from(failures)), "each failure is counted");
    assert_eq!(egret.get(15021, "/healthz/ready").map(|(status, _)| status), Some(200));
}

/// How often TLS failed for a request, by its line: a connection that could not be had was tried for three times, one that
/// broke behind its handshake was not, and without a revocation list that can be read there is no TLS to fail.
fn failures_of(line: &str) -> u32 {
    [(" 503 URX,UF ", 3), (" 503 UC ", 1)]
        .into_iter()
        .find(|(flags, _)| line.contains(flags))
        .map_or(0, |(_, count)| count)
}

/// A lab with one server for `host` and egret; the root signs whatever the server shows.
fn site(host: &str, serve: impl FnOnce(&Issuing) -> Handler) -> (Lab, Server) {
    let lab = Lab::new();
    let ca = Issuing::new("root");
    let root = lab.write("root.pem", &ca.pem());
    lab.names.set(host, &[address(0).ip()]);
    let entry = service_entry(host, &[(80, "HTTP", Some(address(0).port()))]);
    lab.configure("site.yaml", &format!("{entry}---\n{}", simple_tls(host, 80, Some(&root))));
    let server = Server::start(&lab, address(0), serve(&ca));
    (lab, server)
}

fn client(lab: &Lab) -> HttpClient {
    HttpClient::new(lab.connect(SocketAddr::new(Lab::address(Family::V4, 1), 80)).unwrap())
}

/// Answers one request with these bytes and ends the connection, with close_notify or without.
fn answers(ca: &Issuing, host: &str, answer: &'static [u8], close_notify: bool) -> Handler {
    let config = Arc::new(Shows::pair(&ca.issue(&[host], |_| {})).config());
    Box::new(move |socket| {
        let mut http = HttpServer::new(accept(&config, socket)?);
        http.request()?;
        http.send(answer)?;
        let stream = http.connection().stream();
        if close_notify {
            stream.conn.send_close_notify();
            stream.flush()?;
        }
        stream.sock.shutdown(Shutdown::Write)?;
        io::copy(&mut stream.sock, &mut io::sink()).map(drop)
    })
}

/// C18: without close_notify nobody knows whether a body that ends with the connection is whole.
#[test]
fn a_body_cut_short_is_not_passed_off_as_whole() {
    const UNTIL_CLOSE: &[u8] = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhalf of it";
    for close_notify in [true, false] {
        let (lab, _server) = site("c18.example", |ca| answers(ca, "c18.example", UNTIL_CLOSE, close_notify));
        let egret = lab.egret(&[]);
        let answer = client(&lab).get("c18.example", "/");
        let truncated = egret.metric("egret_upstream_tls_truncated_total");
        if close_notify {
            assert_eq!(answer.unwrap().body, b"half of it");
            egret.log_line(&["\"GET / HTTP/1.1\" 200 - via_upstream"]);
            assert_eq!(truncated, Some(0.0));
        } else {
            let error = answer.expect_err("the application must see that something is missing");
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
            let details = "upstream_reset_after_response_started{connection_termination|TLS_error:";
            egret.log_line(&["\"GET / HTTP/1.1\" 200 UC ", details, "without close_notify"]);
            assert_eq!(truncated, Some(1.0));
        }
    }
}

/// C19, C20: a body that says itself where it ends is whole, but its connection is not used again.
#[test]
fn a_body_with_an_end_of_its_own_needs_no_close_notify() {
    for answer in [ANSWER, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"] {
        let (lab, server) = site("c19.example", |ca| answers(ca, "c19.example", answer, false));
        let egret = lab.egret(&["--workers", "1"]);
        let mut client = client(&lab);
        for count in 1..=3 {
            let response = client.get("c19.example", "/").unwrap();
            assert_eq!((response.head.status, &response.body[..]), (200, &b"ok"[..]));
            assert_eq!(server.accepted(), count, "each on a connection of its own");
        }
        assert_eq!(egret.metric("egret_upstream_tls_truncated_total"), Some(0.0));
    }
}

/// C23: one address, one port, hosts that differ in SNI, names to verify or client certificate: never one connection.
#[test]
fn destinations_of_one_address_never_share_a_connection() {
    let lab = Lab::new();
    let (ca, clients) = (Issuing::new("root"), Issuing::new("clients"));
    let root = lab.write("root.pem", &ca.pem());
    let names = ["plain.example", "sni.example", "sans.example", "one.example", "two.example", "fixed.example"];
    let server = ca.issue(&names, |_| {});
    let optional = Arc::new(Shows { clients: Some(clients.pem()), ..Shows::pair(&server) }.config());
    let connections = Arc::new(Mutex::new(0));
    let counter = Arc::clone(&connections);
    let _server = Server::start(&lab, address(0), move |socket| {
        let stream = accept(&optional, socket)?;
        let number = {
            let mut count = counter.lock().unwrap();
            *count += 1;
            *count
        };
        let sni = stream.conn.server_name().unwrap_or("-").to_owned();
        let body = format!("{number} {sni} {}", client_serial(&stream).unwrap_or(0));
        let mut http = HttpServer::new(stream);
        while http.request()?.is_some() {
            http.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes())?;
        }
        Ok(())
    });
    let identity = |serial: u64| {
        let files = clients.client(serial).write(lab.dir(), &format!("client{serial}"));
        format!("clientCertificate: {}\n        privateKey: {}", utf8(&files.certificate), utf8(&files.key))
    };
    let wanted = [
        ("plain.example", identity(1), "plain.example 1"),
        ("sni.example", format!("{}\n        sni: fixed.example", identity(1)), "fixed.example 1"),
        ("sans.example", format!("{}\n        subjectAltNames: [two.example]", identity(1)), "sans.example 1"),
        ("one.example", format!("{}\n        sni: fixed.example", identity(2)), "fixed.example 2"),
        (
            "two.example",
            format!("{}\n        sni: fixed.example\n        subjectAltNames: [one.example]", identity(1)),
            "fixed.example 1",
        ),
    ];
    for (host, tls, _) in &wanted {
        lab.names.set(host, &[address(0).ip()]);
        let rule = simple_tls(host, 80, Some(&root)).replace("mode: SIMPLE", &format!("{tls}\n        mode: MUTUAL"));
        let entry = service_entry(host, &[(80, "HTTP", Some(address(0).port()))]);
        lab.configure(&format!("{host}.yaml"), &format!("{entry}---\n{rule}"));
    }
    let egret = lab.egret(&["--workers", "1"]);
    let mut client = client(&lab);
    let mut seen: Vec<String> = Vec::new();
    for round in 0..3 {
        for (index, (host, _, identity)) in wanted.iter().enumerate() {
            let response = client.get(host, "/").unwrap();
            let body = String::from_utf8(response.body).unwrap();
            let (number, what) = body.split_once(' ').unwrap_or_else(|| panic!("{host}: {body}"));
            assert_eq!(what, *identity, "{host}");
            if round == 0 {
                assert!(!seen.contains(&number.to_owned()), "{host} travels over another's connection");
                seen.push(number.to_owned());
            } else {
                assert_eq!(seen[index], number, "{host} keeps its own connection");
            }
        }
    }
    assert_eq!(*connections.lock().unwrap(), wanted.len());
    assert_eq!(egret.metric("egret_upstream_tls_resumptions_total"), Some(0.0), "nor a session");
}

/// C27: a new key with every 16 KiB.
#[test]
fn key_updates_do_not_disturb_a_download() {
    const LENGTH: u64 = 16 << 20;
    let (lab, _server) = site("c27.example", |ca| {
        let config = Arc::new(Shows::pair(&ca.issue(&["c27.example"], |_| {})).config());
        Box::new(move |socket| {
            let mut http = HttpServer::new(accept(&config, socket)?);
            http.request()?;
            http.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n").as_bytes())?;
            let pattern = Pattern::new();
            let mut offset = 0;
            while offset < LENGTH {
                let part = pattern.run(offset, (16 << 10).min(LENGTH - offset));
                http.send(part)?;
                offset += part.len() as u64;
                let stream = http.connection().stream();
                stream.conn.refresh_traffic_keys().map_err(io::Error::other)?;
            }
            io::copy(http.connection().stream(), &mut io::sink()).map(drop)
        })
    });
    let _egret = lab.egret(&[]);
    let response = client(&lab).get("c27.example", "/").unwrap();
    assert_eq!(response.body.len() as u64, LENGTH);
    assert!(Pattern::new().matches(0, &response.body), "not a byte lost, doubled or moved");
}

/// C33: a server that has enough of an upload.
#[test]
fn an_upload_ends_when_the_server_closes() {
    let (lab, _server) = site("c33.example", |ca| {
        let config = Arc::new(Shows::pair(&ca.issue(&["c33.example"], |_| {})).config());
        Box::new(move |socket| {
            let mut http = HttpServer::new(accept(&config, socket)?);
            http.request_head()?;
            let stream = http.connection().stream();
            stream.conn.send_close_notify();
            stream.flush()
        })
    });
    let egret = lab.egret(&[]);
    let mut client = client(&lab);
    client.send(b"POST /up HTTP/1.1\r\nHost: c33.example\r\nContent-Length: 100000000\r\n\r\n").unwrap();
    let part = vec![b'x'; 1 << 16];
    // Until egret takes no more: it has answered, or the kernel says that it has gone.
    for _ in 0..1500 {
        if client.send(&part).is_err() {
            break;
        }
    }
    egret.log_line(&["\"POST /up HTTP/1.1\" 503 UC "]);
}

/// C25, C26: openssl as a server from the past. Ends with the test.
struct Openssl(Child);

impl Openssl {
    fn start(lab: &Lab, at: SocketAddr, pair: &Pair, options: &str) -> Self {
        let files = pair.write(lab.dir(), &format!("openssl-{}", at.port()));
        let accept = at.to_string();
        let mut arguments =
            vec!["s_server", "-accept", &accept, "-cert", utf8(&files.certificate), "-key", utf8(&files.key)];
        arguments.extend(options.split_whitespace());
        let mut command = lab.outside.command("openssl", &arguments);
        let log = std::fs::File::create(lab.dir().join(format!("openssl-{}.log", at.port()))).unwrap();
        command.stdin(Stdio::piped()).stdout(log).stderr(Stdio::null());
        let server = Self(command.spawn().unwrap());
        lab::eventually("s_server listens", || lab.outside.enter(|| TcpStream::connect(at)).is_ok());
        server
    }
}

impl Drop for Openssl {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn servers_from_the_past_are_refused_or_at_least_not_followed() {
    let lab = Lab::new();
    let ca = Issuing::new("root");
    let root = lab.write("root.pem", &ca.pem());
    let olds = [
        ("tls11.example", "-quiet -tls1_1 -cipher ALL:@SECLEVEL=0", "PROTOCOL"),
        ("cbc.example", "-quiet -tls1_2 -cipher ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0", "SSLV3_ALERT_HANDSHAKE_FAILURE"),
        ("renegotiating.example", "-tls1_2 -crlf", ""),
    ];
    let mut servers = Vec::new();
    for (number, (host, options, _)) in olds.iter().enumerate() {
        let at = address(number);
        lab.names.set(host, &[at.ip()]);
        let entry = service_entry(host, &[(80, "HTTP", Some(at.port()))]);
        lab.configure(&format!("{host}.yaml"), &format!("{entry}---\n{}", simple_tls(host, 80, Some(&root))));
        servers.push(Openssl::start(&lab, at, &ca.issue(&[host], |_| {}), options));
    }
    let egret = lab.egret(&[]);
    for (host, _, reason) in &olds[..2] {
        let response = client(&lab).get(host, "/").unwrap();
        let body = String::from_utf8_lossy(&response.body).into_owned();
        assert!(response.head.status == 503 && body.contains(reason), "{host}: {body}");
        egret.log_line(&["\"GET / HTTP/1.1\" 503 ", reason, &format!("outbound|80||{host} ")]);
    }
    // `r` at the beginning of a line asks for a renegotiation, which is declined (no_renegotiation) or ends the session.
    let (host, log) = (olds[2].0, lab.dir().join(format!("openssl-{}.log", address(2).port())));
    let mut client = client(&lab);
    client.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes()).unwrap();
    lab::eventually("s_server shows the request", || {
        std::fs::read_to_string(&log).is_ok_and(|said| said.contains("GET / HTTP/1.1"))
    });
    let input = servers[2].0.stdin.as_mut().unwrap();
    input.write_all(b"r\n").unwrap();
    let response = client.response().unwrap();
    assert_eq!(response.head.status, 503, "openssl gives up where its renegotiation is declined");
    egret.log_line(&["\"GET / HTTP/1.1\" 503 UC ", &format!("outbound|80||{host} ")]);
}

#[test]
fn a_lowest_version_is_kept_to() {
    let (lab, _server) = site("old.example", |ca| {
        proper(&Shows { tls12_only: true, ..Shows::pair(&ca.issue(&["old.example"], |_| {})) })
    });
    let egret = lab.egret(&["--log-level", "info,egret::upstream=debug"]);
    assert_eq!(client(&lab).get("old.example", "/").unwrap().head.status, 200, "TLS 1.2 is spoken by default");
    lab::eventually("version and cipher suite are in the debug log", || {
        let said = egret.stderr();
        said.contains("TLS handshake complete") && said.contains("TLSv1_2") && said.contains("TLS_ECDHE_ECDSA_WITH_")
    });
    lab.configure("settings.yaml", "apiVersion: egret/v1\nkind: Settings\nspec:\n  minTlsVersion: TLSV1_3\n");
    lab::eventually("the setting is in force", || client(&lab).get("old.example", "/").unwrap().head.status == 503);
    egret.log_line(&["\"GET / HTTP/1.1\" 503 ", "PROTOCOL"]);
}

/// C37: the name moves to a server with another certificate.
#[test]
fn a_name_that_moves_is_verified_anew() {
    let (lab, _first) = site("c37.example", |ca| showing(&ca.issue(&["c37.example"], |_| {})));
    let elsewhere = SocketAddr::new(Lab::address(Family::V4, 2), address(0).port());
    let other = Issuing::new("another root").issue(&["c37.example"], |_| {});
    let _second = Server::start(&lab, elsewhere, showing(&other));
    let egret = lab.egret(&[]);
    let mut client = client(&lab);
    assert_eq!(client.get("c37.example", "/").unwrap().head.status, 200);
    lab.names.set("c37.example", &[elsewhere.ip()]);
    lab::eventually("the name has moved", || client.get("c37.example", "/").unwrap().head.status == 503);
    egret.log_line(&["\"GET / HTTP/1.1\" 503 ", CERTIFICATE, &format!("\"{elsewhere}\"")]);
    lab.names.set("c37.example", &[address(0).ip()]);
    lab::eventually("the name is back", || client.get("c37.example", "/").unwrap().head.status == 200);
}

/// A port of protocol TCP with a `tls` block: any protocol, whoever speaks first.
#[test]
fn bytes_that_are_not_http_get_tls_too() {
    let lab = Lab::new();
    let ca = Issuing::new("root");
    let root = lab.write("root.pem", &ca.pem());
    let serve = |host: &str, number, alpn: &[&'static str], greets: bool| {
        let config = Arc::new(Shows { alpn: alpn.to_vec(), ..Shows::pair(&ca.issue(&[host], |_| {})) }.config());
        Server::start(&lab, address(number), move |socket| {
            let mut stream = accept(&config, socket)?;
            if greets {
                stream.write_all(b"220 secret greeting\r\n")?;
            }
            let mut line = [0; 64];
            loop {
                match stream.read(&mut line)? {
                    0 => break,
                    count => stream.write_all(&line[..count].to_ascii_uppercase())?,
                }
            }
            stream.write_all(b"bye")?;
            stream.conn.send_close_notify();
            stream.flush()
        })
    };
    let hosts = ["greeting.example", "listening.example", "wrong.example"];
    let _servers =
        [serve(hosts[0], 0, &["never"], true), serve(hosts[1], 1, &[], false), serve("other.example", 2, &[], true)];
    for (number, host) in hosts.iter().enumerate() {
        let port = address(number).port();
        let rule =
            simple_tls(host, port, Some(&root)) + &format!("        sni: {host}\n        subjectAltNames: [{host}]\n");
        lab.configure(&format!("{host}.yaml"), &format!("{}---\n{rule}", static_tcp(host, address(number).ip(), port)));
    }
    let egret = lab.egret(&["--protocol-detection-timeout", "0s"]);
    let capture = lab.capture();
    for (number, greeting) in [(0, &b"220 secret greeting\r\n"[..]), (1, b"")] {
        let mut stream = lab.connect(address(number)).unwrap();
        let mut greeted = vec![0; greeting.len()];
        stream.read_exact(&mut greeted).unwrap();
        assert_eq!(greeted, greeting);
        stream.write_all(b"secret line\r\n").unwrap();
        let mut answer = [0; 13];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"SECRET LINE\r\n");
        // The application's end becomes close_notify; the server's last word still arrives.
        stream.shutdown(Shutdown::Write).unwrap();
        let mut last = Vec::new();
        stream.read_to_end(&mut last).unwrap();
        assert_eq!(last, b"bye");
        egret.log_line(&[
            "\"- - -\" 0 - - - \"-\" 13 ",
            &format!("outbound|{}||{} ", address(number).port(), hosts[number]),
        ]);
    }
    let mut refused = lab.connect(address(2)).unwrap();
    refused.set_read_timeout(Some(PATIENCE)).unwrap();
    let end = refused.read(&mut [0; 64]);
    assert!(
        matches!(&end, Ok(0)) || end.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::ConnectionReset),
        "{end:?}"
    );
    egret.log_line(&["\"- - -\" 0 UF,URX ", CERTIFICATE, "wrong.example"]);
    let captured = capture.finish();
    assert!(!captured.contains("secret"), "bytes left in plain text");
    (0..3).for_each(|number| captured.assert_only_tls_to(address(number).port()));
}
