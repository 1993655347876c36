//! At its limits the proxy leaves new connections in the backlog, stays calm, answers operators, and serves again as
//! soon as the pressure ends; nothing is left behind. On both engines.

use std::io::{self, Read};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::lab::cgroup::MemoryLimit;
use crate::lab::client::HttpClient;
use crate::lab::documents::origination;
use crate::lab::nginx::{self, Nginx};
use crate::lab::pki::Leaf;
use crate::lab::proxy::Egret;
use crate::lab::server::{HttpServer, Pattern, Server};
use crate::lab::{Family, Lab, eventually, within};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

const HOST: &str = "limits.example";
const ENGINES: [&str; 2] = ["uring", "epoll"];
/// An ordinary client is to be served within a second; the rest is for a busy machine.
const AGAIN: Duration = Duration::from_secs(5);
/// Of one CPU, while connections are left waiting.
const CPU_PERCENT: u128 = 20;

fn at(port: u16) -> SocketAddr {
    SocketAddr::new(Lab::address(Family::V4, 1), port)
}

fn lab() -> Lab {
    let lab = Lab::new();
    lab.names.set(HOST, &[at(443).ip()]);
    lab.configure("site.yaml", &origination(HOST, Some(&lab.ca_file())));
    lab.egret_command(&["init"]).succeeded();
    lab
}

fn site(lab: &Lab) -> Nginx {
    let pair = lab.authority.issue(HOST, Leaf::Good).write(lab.dir(), HOST);
    Nginx::start(lab, &nginx::secure(at(443), &pair, "TLSv1.3", r#"location / { return 200 "ok"; }"#), at(443))
}

/// An application's connection whose request has been sent and whose answer nobody reads.
fn asking(lab: &Lab) -> TcpStream {
    let mut client = HttpClient::new(lab.connect(at(80)).unwrap());
    client.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n").as_bytes()).unwrap();
    client.stream().try_clone().unwrap()
}

fn is_served(lab: &Lab, path: &str) -> bool {
    let ask = || -> io::Result<u16> {
        let stream = lab.connect(at(80))?;
        stream.set_read_timeout(Some(Duration::from_millis(500)))?;
        Ok(HttpClient::new(stream).get(HOST, path)?.head.status)
    };
    ask().is_ok_and(|status| status == 200)
}

/// Two seconds in which operators are answered and the proxy uses little CPU.
#[track_caller]
fn is_calm(egret: &Egret<'_>) {
    let (start, before) = (Instant::now(), egret.cpu_ns());
    eventually("two seconds pass", || start.elapsed() > Duration::from_secs(2));
    let (spent, wall) = (u128::from(egret.cpu_ns() - before), start.elapsed().as_nanos());
    assert!(spent * 100 < wall * CPU_PERCENT, "{} ms of CPU in {} ms", spent / 1_000_000, wall / 1_000_000);
    assert_eq!(egret.get(15021, "/healthz/ready").map(|(status, _)| status), Some(200));
    assert!(egret.get(15000, "/server_info").is_some_and(|(status, _)| status == 200));
}

/// An ordinary client is served again, and all but `descriptors` are given back.
#[track_caller]
fn recovers(lab: &Lab, egret: &Egret<'_>, path: &str, descriptors: usize) {
    let start = Instant::now();
    within(AGAIN, "an ordinary client is served again", || is_served(lab, path));
    println!("served again after {:?}; {:?}", start.elapsed(), egret.memory());
    eventually("every descriptor is back", || egret.descriptors() <= descriptors);
    eventually("no connection is open", || egret.metric("egret_connections_active") == Some(0.0));
}

#[test]
fn sixty_four_descriptors_and_five_hundred_clients() {
    let lab = lab();
    let _nginx = site(&lab);
    for engine in ENGINES {
        let mut egret = lab.start_egret_behind(&["prlimit", "--nofile=64:64"], engine, &[]);
        assert!(egret.stderr().contains("RLIMIT_NOFILE 64 allows"), "{}", egret.stderr());
        assert!(is_served(&lab, "/"));
        let descriptors = egret.descriptors();
        let clients: Vec<TcpStream> = (0..500).map(|_| asking(&lab)).collect();
        eventually("it has stopped accepting", || egret.metric("egret_workers_resting").is_some_and(|n| n > 0.0));
        is_calm(&egret);
        assert!(egret.metric("egret_accept_pauses_total").is_some_and(|pauses| pauses > 0.0));
        drop(clients);
        // What remains are idle connections to the upstream, for the next requests.
        recovers(&lab, &egret, "/", descriptors + 32);
        egret.kill();
    }
}

/// Slow readers of a gibibyte each, in a container with so much memory.
fn slow_readers(mebibytes: u64, readers: usize, carried: f64) {
    let lab = lab();
    let pair = lab.authority.issue(HOST, Leaf::Good);
    let pattern = Pattern::new();
    let _server = Server::start_tls(&lab, at(443), &pair, move |stream| {
        let mut server = HttpServer::new(stream);
        while let Some(request) = server.request()? {
            let length = if request.target == "/small" { 2 } else { 1 << 30 };
            server.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n").as_bytes())?;
            pattern.write(length, server.connection().stream())?;
        }
        Ok(())
    });
    for engine in ENGINES {
        let limit = MemoryLimit::of(mebibytes << 20);
        let wrapper = limit.wrapper();
        let mut egret = lab.start_egret_behind(&wrapper.each_ref().map(String::as_str), engine, &[]);
        let said = format!("the memory limit of {mebibytes} MiB");
        assert!(egret.stderr().contains(&said), "{}", egret.stderr());
        assert!(is_served(&lab, "/small"));
        let descriptors = egret.descriptors();
        let mut clients: Vec<TcpStream> = (0..readers).map(|_| asking(&lab)).collect();
        eventually("as many as fit are waiting for their reader", || {
            egret.metric("egret_connections_active").is_some_and(|open| open >= carried)
        });
        is_calm(&egret);
        for client in &mut clients {
            // Some wait in the backlog still.
            client.set_nonblocking(true).unwrap();
            let _ = client.read(&mut [0; 1]);
        }
        drop(clients);
        recovers(&lab, &egret, "/small", descriptors + 8);
        println!("{engine}: {readers} slow readers: {:?}, its group: {}", egret.memory(), limit.used());
        assert_eq!(limit.kills(), 0);
        let memory = egret.memory();
        assert!(memory.peak_kib - memory.kib_of_files < mebibytes << 10, "{engine}: {memory:?}");
        egret.kill();
    }
}

#[test]
fn thirty_two_mebibytes_and_two_hundred_slow_readers() {
    slow_readers(32, 200, 150.0);
}

#[test]
fn sixty_four_mebibytes_and_a_thousand_slow_readers() {
    // Both ends of each are in this process.
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    slow_readers(64, 1000, 500.0);
}

#[test]
fn a_full_disk_under_the_access_log() {
    let lab = lab();
    let _nginx = site(&lab);
    for engine in ENGINES {
        let mut egret = lab.start_egret_behind(&["sh", "-c", "exec \"$@\" >/dev/full", "sh"], engine, &[]);
        let descriptors = egret.descriptors();
        for _ in 0..50 {
            assert!(is_served(&lab, "/"));
        }
        eventually("what was lost is counted", || {
            egret.metric("egret_access_log_write_failures_total").is_some_and(|count| count > 0.0)
        });
        is_calm(&egret);
        recovers(&lab, &egret, "/", descriptors + 8);
        egret.kill();
    }
}

/// As Kubernetes runs it with the strictest settings.
#[test]
fn in_a_pod_that_grants_nothing() {
    let lab = lab();
    let _nginx = site(&lab);
    let strict = "mount -o remount,ro,bind / && mount --bind /proc/sys /proc/sys \
                  && mount -o remount,ro,bind /proc/sys && exec prlimit --memlock=65536:65536 \"$@\"";
    // Whether so little locked memory is enough for rings is the kernel's business: it must be found out.
    for engine in ["auto", "epoll"] {
        let mut egret = lab.start_egret_behind(&["sh", "-c", strict, "sh"], engine, &[]);
        assert!(is_served(&lab, "/"), "{}", egret.stderr());
        egret.kill();
    }
}
