//! Tests of the whole engine over real loopback sockets.

mod closing;
mod limits;
mod streams;
mod tasks;

use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::time::Duration;

use super::*;

/// Far longer than any test needs: reaching it is a failure, not a measurement.
const DEADLINE: Duration = Duration::from_secs(60);

/// Runs `main` on a new engine; afterwards nothing of it is left.
fn run_with<T>(options: EngineOptions, main: impl Future<Output = T>) -> T {
    let mut engine = Engine::new(options).unwrap();
    let output = engine.run(async {
        let output = timeout(DEADLINE, main).await.expect("the test must end");
        settled(|stats| stats.open_sockets == 0 && stats.timers <= 1).await;
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

/// Descriptors of this process that are sockets of these addresses' ports would be hard to tell apart from those of
/// other tests, so a test asks for the one number that it knows.
fn is_open(fd: i32) -> bool {
    std::fs::symlink_metadata(format!("/proc/self/fd/{fd}")).is_ok()
}

fn number_of(socket: &Socket) -> i32 {
    use std::os::fd::AsFd;
    socket.connection.as_fd().as_raw_fd()
}
