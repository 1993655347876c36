//! The endpoints over real sockets, asked by the command line's own client and by hand-written bytes.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::TcpStream as StdStream;

use serde_json::json;
use tokio::task::LocalSet;

use super::*;
use crate::control::admin_client;
use crate::explain::Question;

#[derive(Default)]
struct Recorder {
    done: RefCell<Vec<String>>,
    unready: Option<&'static str>,
}

impl Admin for Recorder {
    fn ready(&self) -> Result<String, String> {
        self.unready.map_or(Ok("engine: x\n".to_owned()), |why| Err(why.to_owned()))
    }

    fn metrics(&self) -> String {
        "egret_up 1\n".to_owned()
    }

    fn server_info(&self) -> serde_json::Value {
        json!({ "state": "LIVE" })
    }

    fn config_dump(&self) -> serde_json::Value {
        // More than the sockets' buffers hold, so that a reader who stops is felt.
        json!({ "big": "x".repeat(16 << 20) })
    }

    fn routes(&self) -> serde_json::Value {
        json!([{ "host": "a.example" }])
    }

    fn endpoints(&self) -> serde_json::Value {
        json!([{ "endpoint": "192.0.2.1:443" }])
    }

    fn explain(&self, question: &Question) -> Result<serde_json::Value, String> {
        Ok(json!({ "asked": format!("{question:?}") }))
    }

    fn dns(&self, name: Option<&str>) -> Result<serde_json::Value, String> {
        name.map_or(Ok(json!({ "names": [] })), |name| Err(format!("{name}: unknown")))
    }

    fn certs(&self) -> serde_json::Value {
        json!([{ "name": "client-credential" }])
    }

    fn connections(&self) -> serde_json::Value {
        json!([])
    }

    fn set_log_level(&self, level: &str) -> Result<(), String> {
        self.done.borrow_mut().push(format!("level {level}"));
        if level == "loud" { Err("no such level: loud".to_owned()) } else { Ok(()) }
    }

    fn drain(&self) {
        self.done.borrow_mut().push("drain".to_owned());
    }

    fn quit(&self) {
        self.done.borrow_mut().push("quit".to_owned());
    }
}

/// Serves while `client` runs on a thread of its own with the three addresses; returns what was done.
fn with_server(unready: Option<&'static str>, client: impl FnOnce([String; 3]) + Send + 'static) -> Vec<String> {
    let admin = Rc::new(Recorder { unready, ..Recorder::default() });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let addresses = AdminAddresses { admin: "127.0.0.1:0".parse().unwrap(), health_port: 0, metrics_port: 0 };
        let server = AdminServer::bind(&addresses).unwrap();
        let ports = server.local_addrs().unwrap().map(|address| format!("127.0.0.1:{}", address.port()));
        let client = tokio::task::spawn_blocking(move || client(ports));
        tokio::select! {
            never = server.serve(Rc::clone(&admin) as Rc<dyn Admin>) => match never {},
            outcome = client => outcome.unwrap(),
        }
    });
    admin.done.take()
}

/// What the server sends back for `bytes` until it closes.
fn exchange(address: &str, bytes: &[u8]) -> String {
    let mut stream = StdStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.write_all(bytes).unwrap();
    let mut response = Vec::new();
    let _ = stream.read_to_end(&mut response);
    String::from_utf8_lossy(&response).into_owned()
}

#[test]
fn every_route_answers() {
    let done = with_server(None, |[admin, health, metrics]| {
        for (path, expected) in [
            ("/ready", "LIVE\nengine: x\n"),
            ("/healthz/ready", "LIVE\nengine: x\n"),
            ("/stats/prometheus", "egret_up 1\n"),
            ("/certs", "[\n  {\n    \"name\": \"client-credential\"\n  }\n]\n"),
            ("/connections?all", "[]\n"),
            ("/server_info", "{\n  \"state\": \"LIVE\"\n}\n"),
        ] {
            let reply = admin_client::get(&admin, path).unwrap();
            assert_eq!((reply.status, reply.body.as_str()), (200, expected), "{path}");
        }
        for (query, status, expected) in [
            ("?url=http%3A%2F%2Fa.example%2F%3Fq&address=::1&method=POST", 200, "http://a.example/?q"),
            ("?url=tls://b.example", 200, "address: None, method: None"),
            ("?url=http%3A%2F%2Fa.example%2F&address=&method=", 200, "address: None, method: None"),
            ("?url=tls://b.example&address=here", 400, "\"here\" is no IP address"),
            ("?address=::1", 400, "say which"),
            ("?url=&address=", 400, "say which"),
            ("", 400, "say which"),
        ] {
            let reply = admin_client::get(&admin, &format!("/explain{query}")).unwrap();
            assert_eq!(reply.status, status, "{query}");
            assert!(reply.body.contains(expected), "{query}: {}", reply.body);
        }
        assert!(admin_client::get(&admin, "/routes").unwrap().body.contains("a.example"));
        assert!(admin_client::get(&admin, "/endpoints").unwrap().body.contains("192.0.2.1:443"));
        assert!(admin_client::get(&admin, "/config_dump").unwrap().body.len() > 16 << 20);
        let page = admin_client::get(&admin, "/").unwrap().body;
        assert!(page.contains("<a href=\"/config_dump\">") && page.contains("/quitquitquit"), "{page}");
        // Without a URL it answers nothing, so it is asked by a form.
        assert!(page.contains("<form action=\"/explain\"><input name=\"url\"") && !page.contains("href=\"/explain"));
        assert_eq!(admin_client::get(&health, "/healthz/ready").unwrap().status, 200);
        assert_eq!(admin_client::get(&metrics, "/stats/prometheus").unwrap().body, "egret_up 1\n");

        assert_eq!(admin_client::post(&admin, "/logging?level=debug").unwrap().body, "level is debug\n");
        let loud = admin_client::post(&admin, "/logging?level=loud").unwrap();
        assert_eq!((loud.status, loud.body.as_str()), (400, "no such level: loud\n"));
        assert_eq!(admin_client::post(&admin, "/logging").unwrap().status, 400);
        assert_eq!(admin_client::post(&admin, "/drain").unwrap().status, 200);
        assert_eq!(admin_client::post(&admin, "/quitquitquit").unwrap().status, 200);
    });
    assert_eq!(done, ["level debug", "level loud", "drain", "quit"]);
}

#[test]
fn unready_says_why() {
    with_server(Some("the policy is not loaded yet"), |[admin, health, _]| {
        for (address, path) in [(&admin, "/ready"), (&health, "/healthz/ready")] {
            let reply = admin_client::get(address, path).unwrap();
            assert_eq!((reply.status, reply.body.as_str()), (503, "the policy is not loaded yet\n"));
        }
    });
}

#[test]
fn wrong_verbs_and_paths_change_nothing() {
    let done = with_server(None, |[admin, health, metrics]| {
        for path in ["/drain", "/quitquitquit", "/logging?level=debug"] {
            for method in ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "get"] {
                let response =
                    exchange(&admin, format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes());
                assert!(response.starts_with("HTTP/1.1 405 "), "{method} {path}: {response}");
                assert!(response.contains("allow: POST\r\n"), "{method} {path}: {response}");
            }
        }
        assert_eq!(admin_client::post(&admin, "/ready").unwrap().status, 405);
        let head = exchange(&admin, b"HEAD /ready HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert!(head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n"), "{head}");
        let missing = admin_client::get(&admin, "/nothing").unwrap();
        assert_eq!(missing.status, 404);
        assert!(missing.body.contains("POST /quitquitquit"), "{}", missing.body);
        for open in [&health, &metrics] {
            assert_eq!(admin_client::post(open, "/quitquitquit").unwrap().status, 404);
            assert_eq!(admin_client::get(open, "/config_dump").unwrap().status, 404);
        }
        for path in ["//drain", "/./drain", "/drain/", "/%64rain", "/DRAIN"] {
            assert_eq!(admin_client::post(&admin, path).unwrap().status, 404, "{path}");
        }
    });
    assert_eq!(done, Vec::<String>::new());
}

#[test]
fn pages_from_elsewhere_are_kept_out() {
    let done = with_server(None, |[admin, health, _]| {
        for (head, status) in [
            ("GET /config_dump HTTP/1.1\r\nHost: rebound.example\r\n", 403),
            ("GET /config_dump HTTP/1.0\r\n", 403),
            ("POST /drain HTTP/1.1\r\nHost: rebound.example:15000\r\n", 403),
            ("POST /drain HTTP/1.1\r\nHost: localhost\r\nOrigin: https://evil.example\r\n", 403),
            ("POST /drain HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1025\r\n", 413),
            ("POST /drain HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n", 413),
        ] {
            let response = exchange(&admin, format!("{head}\r\n").as_bytes());
            assert!(
                response.starts_with(&format!("HTTP/1.{} {status} ", u8::from(!head.contains("1.0")))),
                "{head}: {response}"
            );
        }
        let probe = exchange(&health, b"GET /healthz/ready HTTP/1.1\r\nHost: 10.0.0.7:15021\r\n\r\n");
        assert!(probe.starts_with("HTTP/1.1 200 "), "the kubelet asks by the pod's address: {probe}");
    });
    assert_eq!(done, Vec::<String>::new());
}

#[test]
fn monstrous_heads_are_refused() {
    with_server(None, |[admin, _, _]| {
        let many = "a: b\r\n".repeat(10_000);
        let long = format!("a: {}\r\n", "b".repeat(100_000));
        for head in [many, long] {
            let response = exchange(&admin, format!("GET /ready HTTP/1.1\r\nHost: localhost\r\n{head}\r\n").as_bytes());
            assert!(!response.starts_with("HTTP/1.1 200"), "{response}");
        }
        assert_eq!(admin_client::get(&admin, "/ready").unwrap().status, 200);
    });
}

#[test]
fn slow_connections_give_way_to_new_ones() {
    with_server(None, |[_, health, _]| {
        let mut slow: Vec<StdStream> = (0..=MAX_CONNECTIONS)
            .map(|_| {
                let mut stream = StdStream::connect(&health).unwrap();
                stream.write_all(b"GET /healthz/ready HTT").unwrap();
                stream
            })
            .collect();
        // None of them is near its deadline, yet the probe is answered, and the oldest has gone.
        assert_eq!(admin_client::get(&health, "/healthz/ready").unwrap().status, 200);
        slow[0].set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let end = slow[0].read(&mut [0; 16]);
        assert!(!matches!(end, Ok(1..)), "{end:?}");
    });
}

#[test]
fn only_the_oldest_connection_gives_way() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let mut open = Open::default();
        let tasks: Vec<_> =
            (0..=MAX_CONNECTIONS).map(|_| tokio::task::spawn_local(std::future::pending::<()>())).collect();
        for task in &tasks {
            open.add(task.abort_handle());
        }
        tokio::task::yield_now().await;
        let ended: Vec<usize> = (0..tasks.len()).filter(|n| tasks[*n].is_finished()).collect();
        assert_eq!(ended, [0]);
        drop(open);
        for task in tasks {
            assert!(task.await.unwrap_err().is_cancelled(), "all end with the listener");
        }
    });
}

#[test]
fn a_reader_who_stops_holds_nobody_up() {
    with_server(None, |[admin, _, _]| {
        let mut stuck = StdStream::connect(&admin).unwrap();
        stuck.write_all(b"GET /config_dump HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        stuck.read_exact(&mut [0; 16]).unwrap();
        assert_eq!(admin_client::get(&admin, "/ready").unwrap().status, 200);
        drop(stuck);
    });
}

#[test]
fn a_head_that_never_ends_is_cut_off() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = StdStream::connect(listener.local_addr().unwrap()).unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nHost: loc").unwrap();
        let (server, _) = listener.accept().unwrap();
        server.set_nonblocking(true).unwrap();
        let started = tokio::time::Instant::now();
        // With the clock paused, waiting moves it on: the head's deadline comes, not the connection's.
        serve_one(TcpStream::from_std(server).unwrap(), Surface::Admin, Rc::new(Recorder::default())).await;
        assert!(started.elapsed() < CONNECTION_DEADLINE);
    });
}

#[test]
fn addresses_that_cannot_be_had_are_named() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _entered = runtime.enter();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let held = std::net::TcpListener::bind(taken).unwrap();
    let options = AdminAddresses { admin: taken, health_port: 0, metrics_port: 0 };
    let error = AdminServer::bind(&options).unwrap_err().to_string();
    let port = taken.port();
    let expected = format!(
        "port {port} for admin is in use; end the process that listens on 127.0.0.1:{port} or choose another port"
    );
    assert_eq!(error, expected);
    drop(held);
    let open = AdminAddresses { admin: "0.0.0.0:0".parse().unwrap(), ..options };
    let error = AdminServer::bind(&open).unwrap_err().to_string();
    assert!(error.starts_with("the admin address 0.0.0.0:0 is not a loopback address"), "{error}");
}
