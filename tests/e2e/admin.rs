//! The process's own ports while it runs: who reaches them, that they answer when the data plane is at its limits, and that
//! nothing an application or a server says gets out of its place in logs and metrics.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::lab::client::HttpClient;
use crate::lab::process::Kept;
use crate::lab::proxy::as_proxy;
use crate::lab::server::Server;
use crate::lab::{Family, Lab, eventually, utf8};

fn web() -> SocketAddr {
    SocketAddr::new(Lab::address(Family::V4, 1), 80)
}

/// Every name below `example`, wherever the application goes to find it.
const ALL: &str = "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata:
  name: all
spec:
  hosts: ['*.example']
  ports:
  - {number: 80, name: http, protocol: HTTP}
  resolution: NONE
";

/// A lab whose outside answers every request.
fn lab() -> (Lab, Server) {
    let lab = Lab::new();
    lab.configure("all.yaml", ALL);
    let site = Server::start(&lab, web(), |mut stream| {
        let mut received = Vec::new();
        let mut bytes = [0; 16384];
        loop {
            match stream.read(&mut bytes)? {
                0 => return Ok(()),
                length => received.extend_from_slice(&bytes[..length]),
            }
            while let Some(end) = received.windows(4).position(|window| window == b"\r\n\r\n") {
                received.drain(..end + 4);
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
            }
        }
    });
    (lab, site)
}

#[test]
fn operators_are_local_and_probes_are_not() {
    let (lab, _site) = lab();
    let _egret = lab.egret(&[]);
    for (port, path, reached) in [
        (15000, "/ready", false),
        (15001, "/", false),
        (15021, "/healthz/ready", true),
        (15021, "/quitquitquit", false),
        (15090, "/stats/prometheus", true),
        (15090, "/config_dump", false),
    ] {
        for address in ["10.77.0.2", "fd77::2"] {
            let to = SocketAddr::new(address.parse().unwrap(), port);
            let stream = lab.outside.enter(|| TcpStream::connect(to));
            let response = stream.and_then(|stream| HttpClient::new(stream).get("localhost", path));
            assert_eq!(response.is_ok_and(|response| response.head.status == 200), reached, "{to}{path}");
        }
    }
    // From within the pod, on an address that is not loopback.
    let own = SocketAddr::from(([10, 77, 0, 2], 15000));
    let stream = lab.connect(own).and_then(|stream| HttpClient::new(stream).get("localhost", "/ready"));
    assert!(stream.is_err(), "{stream:?}");
}

#[test]
fn a_full_data_plane_still_tells_how_it_is() {
    let (lab, _site) = lab();
    lab.egret_command(&["init"]).succeeded();
    let config = lab.config_dir();
    let binary = lab.dir().join("egret");
    // What says nothing stays undecided, and has no connection to the outside.
    let detection = "--protocol-detection-timeout=600s";
    let limited = ["--nofile=256:256", utf8(&binary), "run", "--workers=1", detection, "--config", utf8(&config)];
    let mut process = Kept::start(as_proxy(&lab, "prlimit", &limited), lab.dir(), "limited");
    let own = |port: u16, path: &str| -> Option<(u16, String)> {
        let stream = lab.connect(SocketAddr::from(([127, 0, 0, 1], port))).ok()?;
        let response = HttpClient::new(stream).get("localhost", path).ok()?;
        Some((response.head.status, String::from_utf8(response.body).ok()?))
    };
    eventually("egret is ready", || own(15021, "/healthz/ready").is_some_and(|(status, _)| status == 200));
    let mut clients: Vec<HttpClient> = (0..200).map(|_| HttpClient::new(lab.connect(web()).unwrap())).collect();
    eventually("it serves as many as it may", || {
        let text = own(15090, "/stats/prometheus").unwrap().1;
        let active = text.lines().find_map(|line| line.strip_prefix("egret_connections_active "));
        // A few more may arrive before the kernel hears that accepting pauses.
        (64..128).contains(&active.expect("a metric").parse::<u32>().unwrap())
    });
    assert_eq!(own(15021, "/healthz/ready").unwrap().0, 200);
    assert_eq!(own(15000, "/connections").unwrap().0, 200);
    assert_eq!(clients[0].get("a.example", "/").unwrap().head.status, 200, "those that are in are served");
    drop(clients);
    eventually("there is room again", || {
        let stream = lab.connect(web()).and_then(|stream| HttpClient::new(stream).get("a.example", "/"));
        stream.is_ok_and(|response| response.head.status == 200)
    });
    assert!(process.ended().is_none(), "{}", process.stderr());
}

/// Hosts are counted under the cluster that the configuration has for them, so that an application cannot make series.
#[test]
fn as_many_hosts_as_one_likes_make_no_more_series() {
    const CLIENTS: usize = 4;
    const BATCH: usize = 50;
    const HOSTS: usize = 30_000;
    let (lab, _site) = lab();
    let egret = lab.egret(&[]);
    let series = || egret.get(15090, "/stats/prometheus").unwrap().1.lines().count();
    assert_eq!(HttpClient::new(lab.connect(web()).unwrap()).get("first.example", "/").unwrap().head.status, 200);
    eventually("the first request is counted", || egret.metric("istio_requests_total") == Some(1.0));
    let (before, memory) = (series(), egret.memory());
    std::thread::scope(|scope| {
        for number in 0..CLIENTS {
            let mut client = HttpClient::new(lab.connect(web()).unwrap());
            scope.spawn(move || {
                for batch in 0..HOSTS / CLIENTS / BATCH {
                    let request = |n| format!("GET / HTTP/1.1\r\nHost: h{number}-{batch}-{n}.example\r\n\r\n");
                    client.send((0..BATCH).map(request).collect::<String>().as_bytes()).unwrap();
                    (0..BATCH).for_each(|_| assert_eq!(client.response().unwrap().head.status, 200));
                }
            });
        }
    });
    eventually("all are counted", || egret.metric("istio_requests_total") == Some(HOSTS as f64 + 1.0));
    assert_eq!(series(), before);
    let after = egret.memory();
    assert!(after.resident_kib < memory.resident_kib + 5 * 1024, "{memory:?} to {after:?}");
}

#[test]
fn what_applications_say_stays_in_its_place_in_the_log_and_secrets_stay_out() {
    let (lab, _site) = lab();
    let egret = lab.egret(&[]);
    let requests: [&[u8]; 7] = [
        b"GET /plain?page=7 HTTP/1.1\r\nHost: a.example\r\nAuthorization: Bearer s3cr3t\r\nCookie: s3cr3t\r\nProxy-Authorization: s3cr3t\r\n\r\n",
        b"GET /a%0d%0a[2026] HTTP/1.1\r\nHost: a.example\r\n\r\n",
        b"GET /\x1b[31mred HTTP/1.1\r\nHost: a.example\r\n\r\n",
        b"GET /quote\" HTTP/1.1\r\nHost: a.example\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a.example\r\nUser-Agent: a\"b\x1b[2J\xff\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\x1b[31m.example\r\n\r\n",
        b"GET /line HTTP/1.1\rX: y\r\nHost: a.example\r\n\r\n",
    ];
    for request in requests {
        let mut client = HttpClient::new(lab.connect(web()).unwrap());
        client.send(request).unwrap();
        let status = client.response().unwrap().head.status;
        assert!(matches!(status, 200 | 400), "{status} for {:?}", String::from_utf8_lossy(request));
    }
    eventually("every request has its line", || egret.access_log().len() >= requests.len());
    let log = egret.access_log();
    assert_eq!(log.len(), requests.len(), "{log:#?}");
    for line in &log {
        assert!(line.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{line:?}");
        assert!(line.starts_with("[20") && !line.contains("s3cr3t"), "{line}");
    }
    // As in Istio's format, the path has its query.
    assert!(log.iter().any(|line| line.contains("\"GET /plain?page=7 HTTP/1.1\"")), "{log:#?}");
    assert!(!egret.stderr().contains("s3cr3t"), "{}", egret.stderr());
}

#[test]
fn a_log_that_cannot_be_written_stops_nothing() {
    let (lab, _site) = lab();
    lab.egret_command(&["init"]).succeeded();
    let config = lab.config_dir();
    let binary = lab.dir().join("egret");
    let script = "exec \"$@\" >/dev/full";
    let full = ["-c", script, "sh", utf8(&binary), "run", "--config", utf8(&config)];
    let mut process = Kept::start(as_proxy(&lab, "sh", &full), lab.dir(), "full");
    let request = || lab.connect(web()).and_then(|stream| HttpClient::new(stream).get("a.example", "/"));
    eventually("egret answers", || request().is_ok_and(|response| response.head.status == 200));
    for _ in 0..100 {
        assert_eq!(request().unwrap().head.status, 200);
    }
    assert!(process.ended().is_none(), "{}", process.stderr());
}
