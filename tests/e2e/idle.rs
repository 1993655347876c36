//! A proxy that has nothing to do does nothing, and a connection that has nothing to say costs little memory.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::lab;
use crate::lab::client::HttpClient;
use crate::lab::documents::origination;
use crate::lab::nginx::{self, Nginx};
use crate::lab::pki::Leaf;
use crate::lab::{Family, Lab, eventually};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

const HOST: &str = "idle.example";
/// Per wall-clock time: one part in a hundred. The control thread looks at its files once a second.
const CPU_SHARE: u32 = 100;

/// Idle connections; `EGRET_IDLE` asks for more.
fn connections() -> u32 {
    std::env::var("EGRET_IDLE").map_or(5000, |all| all.parse().expect("a number of connections"))
}

fn lab() -> (Lab, Nginx) {
    // This process has one end of each connection, the proxy, which inherits the limit, the other.
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    assert!(hard > 2 * u64::from(connections()), "the limit of open files is {hard}: raise it (ulimit -Hn 65536)");
    let lab = Lab::new();
    let at = SocketAddr::new(Lab::address(Family::V4, 1), 443);
    lab.names.set(HOST, &[at.ip()]);
    lab.configure("idle.yaml", &origination(HOST, Some(&lab.ca_file())));
    let pair = lab.authority.issue(HOST, Leaf::Good).write(lab.dir(), HOST);
    let nginx = Nginx::start(&lab, &nginx::secure(at, &pair, "TLSv1.3", r#"location / { return 200 "ok"; }"#), at);
    (lab, nginx)
}

fn ask(lab: &Lab) -> HttpClient {
    let mut client = HttpClient::new(lab.connect(SocketAddr::new(Lab::address(Family::V4, 1), 80)).unwrap());
    assert_eq!(client.get(HOST, "/").unwrap().body, b"ok");
    client
}

/// CPU time that the proxy spends while two seconds pass, and how long they really were.
fn idle_cpu(egret: &lab::proxy::Egret<'_>) -> (Duration, Duration) {
    let (start, before) = (Instant::now(), egret.cpu_ns());
    eventually("two seconds pass", || start.elapsed() > Duration::from_secs(2));
    (Duration::from_nanos(egret.cpu_ns() - before), start.elapsed())
}

#[test]
fn an_idle_proxy_uses_no_cpu() {
    let (lab, _nginx) = lab();
    let egret = lab.egret(&[]);
    let _open = ask(&lab);
    let (cpu, wall) = idle_cpu(&egret);
    println!("idle: {cpu:?} of CPU in {wall:?}; {:?}", egret.memory());
    assert!(cpu < wall / CPU_SHARE, "{cpu:?} of CPU in {wall:?}");
}

/// The median of a hundred requests, each on a connection of its own.
fn latency(lab: &Lab) -> Duration {
    let mut times: Vec<Duration> = (0..100)
        .map(|_| {
            let start = Instant::now();
            ask(lab);
            start.elapsed()
        })
        .collect();
    times.sort_unstable();
    times[times.len() / 2]
}

#[test]
fn thousands_of_idle_connections() {
    let (lab, _nginx) = lab();
    let egret = lab.egret(&[]);
    drop(ask(&lab));
    let (count, descriptors) = (connections(), egret.descriptors());
    let (alone, memory) = (latency(&lab), egret.memory());
    let open: Vec<HttpClient> = (0..count).map(|_| ask(&lab)).collect();
    let with_all = egret.memory();
    let each = with_all.resident_kib.saturating_sub(memory.resident_kib) * 1024 / u64::from(count);
    let (cpu, wall) = idle_cpu(&egret);
    println!("{count} idle connections: {each} B of RSS each ({memory:?} to {with_all:?}), {cpu:?} of CPU in {wall:?}");
    println!("a new connection and a request: {alone:?} without them, {:?} beside them", latency(&lab));
    assert!(egret.descriptors() >= descriptors + count as usize, "they are really open");
    assert!(each < 16 * 1024, "{each} B each: an idle connection holds a buffer");
    assert!(cpu < wall / CPU_SHARE, "{cpu:?} of CPU in {wall:?}");
    drop(open);
    eventually("every descriptor is back", || egret.descriptors() <= descriptors + 8);
}
