//! Tests of the whole engine over real loopback sockets, on io_uring and (once more, in a child process) on epoll.

mod closing;
mod limits;
mod streams;
mod tasks;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::*;

/// Far longer than any test needs: reaching it is a failure, not a measurement.
const DEADLINE: Duration = Duration::from_secs(60);

/// Set in the child process that runs these tests on epoll.
const ON_EPOLL: &str = "EGRET_TEST_ON_EPOLL";

fn kind() -> EngineKind {
    if std::env::var_os(ON_EPOLL).is_some() { EngineKind::Epoll } else { EngineKind::Uring }
}

fn options() -> EngineOptions {
    EngineOptions { kind: kind(), restrict_ring: true, ..Default::default() }
}

#[test]
fn all_of_it_on_epoll() {
    if kind() == EngineKind::Epoll {
        return;
    }
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .arg("io::tests::")
        .env(ON_EPOLL, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success(), "{text}{}", String::from_utf8_lossy(&child.stderr));
    assert!(text.contains("test result: ok") && !text.contains(" 0 passed"), "{text}");
}

/// Runs `main` on a new engine; afterwards nothing of it is left.
fn run_with<T>(mut options: EngineOptions, main: impl Future<Output = T>) -> T {
    options.kind = kind();
    options.restrict_ring = true;
    let mut engine = Engine::new(options).unwrap();
    let output = engine.run(async {
        let output = timeout(DEADLINE, main).await.expect("the test must end");
        settled(|stats| stats.open_sockets == 0 && stats.operations == 1 && stats.timers <= 1).await;
        output
    });
    let left = engine.run(async { stats() });
    assert_eq!((left.operations, left.open_sockets, left.timers, left.recv_buffers_in_use), (1, 0, 0, 0), "{left:?}");
    output
}

fn run<T>(main: impl Future<Output = T>) -> T {
    run_with(EngineOptions::default(), main)
}

/// Waits until the figures of the engine are as they should be, or else fails and shows them.
async fn settled(reached: impl Fn(&EngineStats) -> bool) {
    let reached_in_time = timeout(DEADLINE, async {
        while !reached(&stats()) {
            sleep(Duration::from_millis(1)).await;
        }
    });
    assert!(reached_in_time.await.is_ok(), "{:?}", stats());
}

fn listen() -> (Listener, SocketAddr) {
    let listener = Listener::from_std(std::net::TcpListener::bind("127.0.0.1:0").unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Two ends of a connection.
async fn pair() -> (Socket, Socket) {
    let (listener, address) = listen();
    let near = Socket::connect(address, &ConnectOptions::default()).await.unwrap();
    let far = listener.accept().await.unwrap();
    (near, far)
}

/// Everything that comes until the end of the stream.
async fn read_all(socket: &Socket) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some(lease) = socket.recv().await.unwrap() {
        bytes.extend_from_slice(&lease);
    }
    bytes
}

/// Bytes that depend on their place, so that a lost or swapped piece shows.
fn pattern(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let step = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..length).map(step).collect()
}

/// Which kernel object a descriptor is: numbers are given out again, to other tests as well.
fn identity(socket: &Socket) -> PathBuf {
    std::fs::read_link(format!("/proc/self/fd/{}", socket.connection.descriptor())).unwrap()
}

fn is_open(identity: &PathBuf) -> bool {
    let links =
        std::fs::read_dir("/proc/self/fd").unwrap().filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    links.into_iter().any(|link| link == *identity)
}
