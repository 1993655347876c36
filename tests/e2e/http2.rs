//! HTTP/2 from applications, without TLS: each stream is a request of its own, whatever the server speaks.

use std::net::SocketAddr;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use h2::Reason;

use crate::lab::client::HttpClient;
use crate::lab::documents::{origination, service_entry};
use crate::lab::http2_client::{Body, Http2Client, call, head, reset_reason, whole};
use crate::lab::http2_server::{self, Manner};
use crate::lab::nginx::{self, Nginx};
use crate::lab::pki::Leaf;
use crate::lab::server::{HttpServer, Pattern, Server};
use crate::lab::{Family, Lab, PATIENCE, eventually};

const HOST: &str = "web.example";

fn site() -> SocketAddr {
    SocketAddr::new(Lab::address(Family::V4, 1), 80)
}

fn open(lab: &Lab) -> Http2Client {
    Http2Client::new(lab.connect(site()).unwrap())
}

/// A lab with one host of the protocol HTTP, without TLS.
fn plain_lab() -> Lab {
    lab_of("HTTP")
}

fn lab_of(protocol: &str) -> Lab {
    let lab = Lab::new();
    lab.names.set(HOST, &[site().ip()]);
    lab.configure("web.yaml", &service_entry(HOST, &[(80, protocol, None)]));
    lab
}

/// A request for WebSocket over a stream.
fn websocket(path: &str) -> http::Request<()> {
    let mut request = head("CONNECT", HOST, path, &[("sec-websocket-version", "13")]);
    request.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
    request
}

#[test]
fn curl_gets_a_site_over_http2_whose_server_gets_tls() {
    let lab = Lab::new();
    lab.names.set(HOST, &[site().ip()]);
    let pair = lab.authority.issue(HOST, Leaf::Good).write(lab.dir(), HOST);
    let nginx = Nginx::start(&lab, &nginx::site(site().ip(), &pair, "TLSv1.3"), SocketAddr::new(site().ip(), 443));
    lab.configure("web.yaml", &origination(HOST, Some(&lab.ca_file())));
    let egret = lab.egret(&[]);
    let format = "%{http_version} %{http_code}\n";
    for path in ["/one", "/two"] {
        let url = format!("http://web.example{path}");
        let said = lab.curl(&["--http2-prior-knowledge", "-o", "/dev/null", "-w", format, &url]).succeeded();
        assert_eq!(said.stdout, "2 200\n");
        egret.log_line(&[&format!("\"GET {path} HTTP/2\" 200 - via_upstream"), "outbound|80||web.example"]);
    }
    eventually("nginx has seen both", || nginx.seen().len() == 2);
    assert!(nginx.seen().iter().all(|seen| seen.tls == "TLSv1.3"));
}

/// What came, and in which form, at a server that speaks HTTP/1.1.
fn recorder(lab: &Lab, answer: &'static [u8]) -> (Server, mpsc::Receiver<(String, Vec<u8>)>) {
    let (tell, told) = mpsc::channel();
    let tell = Mutex::new(tell);
    let server = Server::start(lab, site(), move |stream| {
        let mut server = HttpServer::new(stream);
        while let Some(request) = server.request()? {
            tell.lock().unwrap().send((request.head.text, request.body)).unwrap();
            server.send(answer)?;
        }
        Ok(())
    });
    (server, told)
}

#[test]
fn requests_are_translated_with_bodies_cookies_and_trailers() {
    const ANSWER: &[u8] =
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: x-hop\r\nX-Hop: 1\r\nX-A: 1\r\n\r\n\
        3\r\nabc\r\n0\r\nX-Sum: 6\r\n\r\n";
    let lab = plain_lab();
    let (_server, told) = recorder(&lab, ANSWER);
    let egret = lab.egret(&[]);
    let client = open(&lab);
    let fields = [("cookie", "a=1"), ("cookie", "b=2"), ("te", "trailers"), ("x-b", "2")];
    let body = Body { data: b"hello", trailers: &[("x-check", "5")] };
    let answer = client.request(head("POST", HOST, "/up?q=1", &fields), Some(body)).unwrap();
    assert_eq!((answer.status, &answer.body[..], answer.field("x-a")), (200, &b"abc"[..], Some("1")));
    assert_eq!(
        (answer.field("x-hop"), answer.field("transfer-encoding"), answer.field("connection")),
        (None, None, None)
    );
    assert_eq!(answer.trailers.unwrap()["x-sum"], "6");
    let (text, body) = told.recv().unwrap();
    assert!(text.starts_with("POST /up?q=1 HTTP/1.1\r\nhost: web.example\r\n"), "{text}");
    for line in ["cookie: a=1; b=2\r\n", "te: trailers\r\n", "transfer-encoding: chunked\r\n", "x-b: 2\r\n"] {
        assert!(text.contains(line), "{line:?} in {text}");
    }
    assert_eq!(body, b"hello");
    egret.log_line(&["\"POST /up?q=1 HTTP/2\" 200 - via_upstream - \"-\" 5 3 ", "\"web.example\""]);

    // A length that is known stays, and a request without a body has neither length nor chunks.
    client
        .request(head("PUT", HOST, "/", &[("content-length", "2")]), Some(Body { data: b"hi", trailers: &[] }))
        .unwrap();
    let (text, body) = told.recv().unwrap();
    assert!(text.contains("content-length: 2\r\n") && !text.contains("transfer-encoding"), "{text}");
    assert_eq!(body, b"hi");
    client.get(HOST, "/").unwrap();
    let (text, _) = told.recv().unwrap();
    assert!(!text.contains("content-length") && !text.contains("transfer-encoding"), "{text}");
}

#[test]
fn answers_without_a_body_end_with_their_head() {
    let lab = plain_lab();
    let _server = Server::start(&lab, site(), |stream| {
        let mut server = HttpServer::new(stream);
        while let Some(request) = server.request()? {
            server.send(match request.target.as_str() {
                "/204" => b"HTTP/1.1 204 No Content\r\n\r\n",
                "/304" => b"HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\nContent-Length: 5\r\n\r\n",
                "/head" => b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n",
                "/hints" => {
                    b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
                }
                _ => b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            })?;
        }
        Ok(())
    });
    let _egret = lab.egret(&[]);
    let client = open(&lab);
    for (method, path, status, length) in [
        ("GET", "/204", 204, None),
        ("GET", "/304", 304, Some("5")),
        ("HEAD", "/head", 200, Some("1000")),
        ("GET", "/empty", 200, Some("0")),
        ("GET", "/hints", 200, Some("2")),
    ] {
        let answer = client.request(head(method, HOST, path, &[]), None).unwrap();
        assert_eq!((answer.status, answer.field("content-length")), (status, length), "{path}");
    }
}

#[test]
fn many_streams_share_a_connection_and_none_waits_for_another() {
    let lab = plain_lab();
    let (release, released) = mpsc::channel::<()>();
    let released = Arc::new(Mutex::new(released));
    let _server = Server::start(&lab, site(), move |stream| {
        let mut server = HttpServer::new(stream);
        while let Some(request) = server.request()? {
            if request.target == "/slow" {
                released.lock().unwrap().recv().unwrap();
            }
            let body = request.target;
            server.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes())?;
        }
        Ok(())
    });
    let egret = lab.egret(&[]);
    let client = open(&lab);
    client.run(async {
        let (slow, _) =
            client.sender().ready().await.unwrap().send_request(head("GET", HOST, "/slow", &[]), true).unwrap();
        let mut answers = Vec::new();
        for number in 0..200 {
            let head = head("GET", HOST, &format!("/{number}"), &[]);
            answers.push(client.sender().ready().await.unwrap().send_request(head, true).unwrap().0);
        }
        for (number, answer) in answers.into_iter().enumerate() {
            assert_eq!(whole(answer).await.unwrap().body, format!("/{number}").into_bytes());
        }
        release.send(()).unwrap();
        assert_eq!(whole(slow).await.unwrap().body, b"/slow");
    });
    assert_eq!(egret.metric("egret_connections_accepted_total"), Some(1.0));
}

#[test]
fn large_bodies_go_both_ways() {
    let lab = plain_lab();
    let _server = Server::start(&lab, site(), |stream| {
        let mut server = HttpServer::new(stream);
        while let Some(request) = server.request()? {
            server.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", request.body.len()).as_bytes())?;
            server.send(&request.body)?;
        }
        Ok(())
    });
    let _egret = lab.egret(&[]);
    let client = open(&lab);
    let body = Pattern::new().take(8 << 20);
    let answer = client.request(head("POST", HOST, "/", &[]), Some(Body { data: &body, trailers: &[] })).unwrap();
    assert!(answer.body == body);
}

/// A refused stream gets its own answer; the connection and the others stay.
#[test]
fn streams_are_judged_one_by_one() {
    let lab = plain_lab();
    let (_server, _told) = recorder(&lab, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    lab.configure(
        "deny.yaml",
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: deny}\nspec: {action: DENY, rules: [{to: \
         [{operation: {paths: [/secret]}}]}]}\n---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: \
         web}\nspec: {hosts: [web.example], http: [{match: [{uri: {prefix: /late}}], timeout: 50ms, route: [{destination: {host: \
         web.example}}]}, {match: [{uri: {exact: /none}}], directResponse: {status: 404}}, {route: [{destination: {host: \
         web.example}}]}]}\n",
    );
    let egret = lab.egret(&["--outbound-traffic-policy", "REGISTRY_ONLY"]);
    let client = open(&lab);
    for (host, path, status, grpc) in [
        (HOST, "/", 200, None),
        (HOST, "/secret", 403, Some(("7", "RBAC: access denied"))),
        ("other.example", "/", 502, Some(("14", ""))),
        (HOST, "/none", 404, Some(("12", ""))),
        (HOST, "/", 200, None),
    ] {
        assert_eq!(client.get(host, path).unwrap().status, status, "{host}{path}");
        let Some((code, message)) = grpc else { continue };
        // A gRPC client gets a status of gRPC, in a head that is the end too.
        let answer = client.request(call(host, path), Some(Body::default())).unwrap();
        assert_eq!((answer.status, answer.field("content-type")), (200, Some("application/grpc")), "{host}{path}");
        assert_eq!(answer.field("grpc-status"), Some(code), "{host}{path}");
        assert_eq!(answer.field("grpc-message").unwrap_or_default(), message, "{host}{path}");
        assert!(answer.body.is_empty() && answer.trailers.is_none());
    }
    egret.log_line(&["\"GET /secret HTTP/2\" 403 - rbac_access_denied_matched_policy"]);
    egret.log_line(&["\"POST /secret HTTP/2\" 200 - rbac_access_denied_matched_policy"]);
    egret.log_line(&["\"GET / HTTP/2\" 502 - direct_response", "\"other.example\"", " block_all"]);
    assert_eq!(egret.metric("egret_connections_accepted_total"), Some(1.0));
}

#[test]
fn what_has_no_twin_in_http1_is_reset_and_what_is_refused_there_is_refused_here() {
    let lab = plain_lab();
    let (_server, _told) = recorder(&lab, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let egret = lab.egret(&["--max-head-bytes", "4096"]);
    let client = open(&lab);
    let long = "x".repeat(5000);
    for fields in [&[("host", "other.example")][..], &[("x-a", "blank ")]] {
        let outcome = client.request(head("GET", HOST, "/", fields), None);
        assert_eq!(reset_reason(&outcome), Some(Reason::PROTOCOL_ERROR), "{fields:?}");
    }
    for (fields, status) in [(&[("x-long", long.as_str())][..], 431), (&[], 200)] {
        assert_eq!(client.request(head("GET", HOST, "/", fields), None).unwrap().status, status, "{fields:?}");
    }
    assert_eq!(client.request(head("get", HOST, "/", &[]), None).unwrap().status, 400);
    egret.log_line(&["431 DPE http2.headers_too_large"]);
    egret.log_line(&["400 DPE http1.codec_error"]);
}

/// Calls end with a status of their own, which the log, the metrics and tries go by.
#[test]
fn calls_are_known_by_their_own_status() {
    const TRAILERS: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nTransfer-Encoding: chunked\r\n\r\n\
        e\r\n\0\0\0\0\x02hi\0\0\0\0\x02yo\r\n0\r\nGrpc-Status: 5\r\nGrpc-Message: no%20such\r\n\r\n";
    const AT_ONCE: &[u8] =
        b"HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nGrpc-Status: 14\r\nContent-Length: 0\r\n\r\n";
    let lab = plain_lab();
    let (tell, told) = mpsc::channel();
    let tell = Mutex::new(tell);
    let _server = Server::start(&lab, site(), move |stream| {
        let mut server = HttpServer::new(stream);
        while let Some(request) = server.request()? {
            tell.lock().unwrap().send(request.body).unwrap();
            server.send(if request.target == "/t.T/Late" { TRAILERS } else { AT_ONCE })?;
        }
        Ok(())
    });
    lab.configure("fault.yaml", "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: web}\nspec: {hosts: \
        [web.example], http: [{match: [{uri: {prefix: /t.T/Fault}}], fault: {abort: {grpcStatus: RESOURCE_EXHAUSTED}}, route: \
        [{destination: {host: web.example}}]}, {route: [{destination: {host: web.example}}]}]}\n");
    let egret = lab.egret(&["--access-log", "JSON"]);
    let client = open(&lab);
    let message = Body { data: b"\0\0\0\0\x03abc", trailers: &[] };
    let late = client.request(call(HOST, "/t.T/Late"), Some(message.clone())).unwrap();
    assert_eq!((&late.trailers.unwrap()["grpc-status"], late.body.len()), (&"5".parse().unwrap(), 14));
    assert_eq!(told.recv().unwrap(), message.data);
    // Istio's default: twice more after UNAVAILABLE, with the body that has gone.
    let at_once = client.request(call(HOST, "/t.T/AtOnce"), Some(message.clone())).unwrap();
    assert_eq!(at_once.field("grpc-status"), Some("14"));
    for _ in 0..3 {
        assert_eq!(told.recv().unwrap(), message.data);
    }
    assert!(told.try_recv().is_err(), "no more than that");
    // The same request without its content type is none of gRPC's.
    client.request(head("POST", HOST, "/t.T/AtOnce", &[]), Some(message.clone())).unwrap();
    assert!(told.recv().is_ok() && told.try_recv().is_err());
    assert_eq!(client.request(call(HOST, "/t.T/Fault"), Some(message)).unwrap().field("grpc-status"), Some("8"));
    let metrics = |name: &str, labels: &str| {
        let (_, text) = egret.get(15090, "/stats/prometheus").unwrap();
        let line = text.lines().find(|line| line.starts_with(name) && line.contains(labels)).map(str::to_owned);
        line.and_then(|line| line.rsplit_once(' ').map(|(_, value)| value.to_owned()))
    };
    for (name, status, value) in [
        ("istio_requests_total", 5, "1"),
        ("istio_request_messages_total", 5, "1"),
        ("istio_response_messages_total", 5, "2"),
        ("istio_request_messages_total", 14, "1"),
        ("istio_requests_total", 8, "1"),
    ] {
        let labels = format!("request_protocol=\"grpc\",response_code=\"200\",grpc_response_status=\"{status}\"");
        eventually("the call is counted", || metrics(name, &labels).is_some());
        assert_eq!(metrics(name, &labels).as_deref(), Some(value), "{name} {status}");
    }
    let log = egret.json_log();
    let statuses: Vec<_> = log.iter().map(|line| line["grpc_status"].as_str().unwrap_or("-").to_owned()).collect();
    assert_eq!(statuses, ["NOT_FOUND", "UNAVAILABLE", "-", "RESOURCE_EXHAUSTED"]);
}

/// RFC 9113 §8.1: whoever resets a stream wants nothing more of it.
#[test]
fn a_cancelled_stream_ends_its_request_at_the_server() {
    let lab = plain_lab();
    let (tell, told) = mpsc::channel();
    let tell = Mutex::new(tell);
    let _server = Server::start(&lab, site(), move |stream| {
        let mut server = HttpServer::new(stream);
        while let Some(request) = server.request()? {
            if request.target == "/wait" {
                tell.lock().unwrap().send("begun").unwrap();
                let ended = server.request();
                tell.lock().unwrap().send(if matches!(ended, Ok(Some(_))) { "another" } else { "ended" }).unwrap();
                return Ok(());
            }
            server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?;
        }
        Ok(())
    });
    let egret = lab.egret(&[]);
    let client = open(&lab);
    client.run(async {
        let (answer, mut stream) =
            client.sender().ready().await.unwrap().send_request(head("GET", HOST, "/wait", &[]), true).unwrap();
        while told.try_recv() != Ok("begun") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        stream.send_reset(Reason::CANCEL);
        drop(answer);
        let (other, _) =
            client.sender().ready().await.unwrap().send_request(head("GET", HOST, "/", &[]), true).unwrap();
        assert_eq!(whole(other).await.unwrap().status, 200);
    });
    assert_eq!(told.recv_timeout(PATIENCE), Ok("ended"));
    egret.log_line(&["\"GET /wait HTTP/2\" 0 DC downstream_remote_disconnect"]);
}

/// RFC 8441: WebSocket over a stream, to a server that knows it in HTTP/1.1.
#[test]
fn a_websocket_over_a_stream_reaches_an_http1_server() {
    let lab = plain_lab();
    let _server = Server::start(&lab, site(), |stream| {
        let mut server = HttpServer::new(stream);
        let (_, target, request) = server.request_head()?.unwrap();
        let key = request.field("sec-websocket-key").unwrap();
        let proof = if target == "/wrong" { "wrong".to_owned() } else { egret::http::websocket_accept(key.as_bytes()) };
        assert_eq!((request.field("upgrade"), request.field("connection")), (Some("websocket"), Some("upgrade")));
        server.send(format!("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {proof}\r\n\r\nhello ").as_bytes())?;
        let mut byte = [0];
        while std::io::Read::read(server.connection().stream(), &mut byte)? == 1 {
            server.send(&byte.map(|byte| byte.to_ascii_uppercase()))?;
        }
        server.send(b"!")
    });
    let egret = lab.egret(&[]);
    let client = open(&lab);
    // The server's settings allow it, which have come with the first answer at the latest.
    assert_eq!(client.get("nobody.invalid", "/").map_or(502, |answer| answer.status) / 100, 5);
    let answer = client.run(async {
        let (answer, mut stream) =
            client.sender().ready().await.unwrap().send_request(websocket("/chat"), false).unwrap();
        let answer = answer.await.unwrap();
        assert_eq!(answer.status(), 200);
        assert!(answer.headers().get("sec-websocket-accept").is_none() && answer.headers().get("upgrade").is_none());
        stream.send_data("there".into(), true).unwrap();
        let (mut body, mut text) = (answer.into_body(), Vec::new());
        while let Some(data) = body.data().await {
            text.extend_from_slice(&data.unwrap());
        }
        String::from_utf8(text).unwrap()
    });
    assert_eq!(answer, "hello THERE!");
    egret.log_line(&["\"GET /chat HTTP/2\" 101 - via_upstream"]);
    let wrong = client.request(websocket("/wrong"), Some(Body::default()));
    assert!(wrong.as_ref().map_or(true, |answer| answer.status == 502), "{wrong:?}");
}

/// The server's side of it in HTTP/2: what an application of HTTP/1.1 asks for becomes extended CONNECT, and its answer 101.
#[test]
fn a_websocket_reaches_an_http2_server_from_either_version() {
    let lab = lab_of("HTTP2");
    let manner = Manner { takes_upgrades: true, ..Manner::default() };
    let _server = http2_server::start(&lab, site(), manner, |mut stream| async move {
        let protocol =
            stream.request.extensions().get::<h2::ext::Protocol>().map(|protocol| protocol.as_str().to_owned());
        assert_eq!(protocol.as_deref(), Some("websocket"));
        assert!(stream.request.headers().get("sec-websocket-key").is_none());
        let response = http::Response::builder().header("sec-websocket-protocol", "chat").body(()).unwrap();
        let mut answer = stream.respond.send_response(response, false).unwrap();
        while let Some(Ok(data)) = stream.request.body_mut().data().await {
            answer.send_data(data.to_ascii_uppercase().into(), false).unwrap();
        }
        answer.send_data("!".into(), true).unwrap();
    });
    let egret = lab.egret(&[]);
    let mut old = HttpClient::new(lab.connect(site()).unwrap());
    let key = "dGhlIHNhbXBsZSBub25jZQ==";
    let upgrade = format!(
        "GET /chat HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: {key}\r\n\r\n"
    );
    old.send(upgrade.as_bytes()).unwrap();
    let answer = old.head().unwrap();
    assert_eq!((answer.status, answer.field("sec-websocket-protocol")), (101, Some("chat")));
    assert_eq!(answer.field("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    old.send(b"hello").unwrap();
    assert_eq!(old.take(5), b"HELLO");
    old.stream().shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(old.take(1), b"!");
    egret.log_line(&["\"GET /chat HTTP/1.1\" 101 - via_upstream"]);

    let client = open(&lab);
    client.get("nobody.invalid", "/").unwrap();
    let text = client.run(async {
        let (answer, mut stream) =
            client.sender().ready().await.unwrap().send_request(websocket("/new"), false).unwrap();
        let answer = answer.await.unwrap();
        assert_eq!((answer.status(), answer.headers().len()), (http::StatusCode::OK, 1), "{:?}", answer.headers());
        stream.send_data("there".into(), true).unwrap();
        let (mut body, mut text) = (answer.into_body(), Vec::new());
        while let Some(data) = body.data().await {
            text.extend_from_slice(&data.unwrap());
        }
        text
    });
    assert_eq!(text, b"THERE!");
    egret.log_line(&["\"GET /new HTTP/2\" 101 - via_upstream"]);
}

/// A server that does not take it is not asked, and whoever asks is told why.
#[test]
fn a_websocket_to_a_server_that_takes_none_is_refused() {
    let lab = lab_of("HTTP2");
    let _server =
        http2_server::start(&lab, site(), Manner::default(), |mut stream| async move { stream.answer(b"no", &[]) });
    let egret = lab.egret(&[]);
    let mut old = HttpClient::new(lab.connect(site()).unwrap());
    let upgrade = format!("GET /chat HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    old.send(upgrade.as_bytes()).unwrap();
    let answer = old.response().unwrap();
    assert!(answer.head.status >= 500 && String::from_utf8_lossy(&answer.body).contains("RFC 8441"), "{answer:?}");
    egret.log_line(&["\"GET /chat HTTP/1.1\" 5"]);
}

/// On a port that is declared nothing, and where no entry leads, the server is spoken to as the application speaks.
#[test]
fn http2_passes_as_http2_where_nothing_else_is_asked_for() {
    let lab = Lab::new();
    lab.configure(
        "any.yaml",
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: any}\nspec: {hosts: [any.example], ports: \
         [{number: 8081, name: any}], resolution: STATIC, endpoints: [{address: 203.0.113.1}]}\n",
    );
    let ports = [8081, 8082].map(|port| SocketAddr::new(site().ip(), port));
    let _servers = ports.map(|at| {
        http2_server::start(&lab, at, Manner::default(), |mut stream| async move {
            let (body, trailers) = stream.body().await;
            assert!(trailers.is_some());
            stream.answer(&body, &[("x-version", "2")]);
        })
    });
    let egret = lab.egret(&["--outbound-traffic-policy", "ALLOW_ANY_DYNAMIC_DNS"]);
    for (at, cluster) in ports.into_iter().zip(["outbound|8081||any.example", "PassthroughCluster"]) {
        let host = if at.port() == 8081 { "any.example:8081".to_owned() } else { at.to_string() };
        let client = Http2Client::new(lab.connect(at).unwrap());
        let body = Body { data: b"as it is", trailers: &[("x-sum", "8")] };
        let answer = client.request(head("POST", &host, "/x", &[]), Some(body)).unwrap();
        assert_eq!((answer.status, &answer.body[..]), (200, &b"as it is"[..]));
        assert_eq!(answer.trailers.unwrap()["x-version"], "2");
        egret.log_line(&["\"POST /x HTTP/2\" 200 - via_upstream", cluster]);
    }
}
