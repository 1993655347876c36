//! What happens at the limits of connections, descriptors and operations.

use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::rc::Rc;

use super::*;

#[test]
fn accepting_pauses_at_the_limit_and_goes_on_below_it() {
    let options = EngineOptions { max_connections: 2, max_upstream_connections: 8, ..Default::default() };
    run_with(options, async {
        let (listener, address) = listen();
        let mut clients = Vec::new();
        let mut taken = Vec::new();
        for _ in 0..2 {
            clients.push(Socket::connect(address, &ConnectOptions::default()).await.unwrap());
            taken.push(listener.accept().await.unwrap());
        }
        clients.push(Socket::connect(address, &ConnectOptions::default()).await.unwrap());
        let third = timeout(Duration::from_millis(50), listener.accept()).await;
        assert!(third.is_err(), "the third connection waits in the backlog");
        taken.pop();
        taken.push(timeout(DEADLINE, listener.accept()).await.unwrap().unwrap());
        assert!(stats().accept_pauses >= 1);
    });
}

#[test]
fn a_reset_with_bytes_queued_makes_room_at_once() {
    let options = EngineOptions { max_connections: 1, max_upstream_connections: 8, ..Default::default() };
    run_with(options, async {
        let (listener, address) = listen();
        let _first = Socket::connect(address, &ConnectOptions::default()).await.unwrap();
        let taken = listener.accept().await.unwrap();
        let _second = Socket::connect(address, &ConnectOptions::default()).await.unwrap();
        let paused = timeout(Duration::from_millis(50), listener.accept()).await;
        assert!(paused.is_err(), "the second waits");
        drop(taken.send(b"never sent"));
        taken.abort();
        // Nothing else happens that would give the engine another turn.
        assert!(timeout(DEADLINE / 2, listener.accept()).await.is_ok());
    });
}

#[test]
fn connecting_beyond_the_limit_is_refused() {
    run_with(EngineOptions { max_upstream_connections: 1, ..Default::default() }, async {
        let (near, _far) = pair().await;
        let (_listener, address) = listen();
        let error = Socket::connect(address, &ConnectOptions::default()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::QuotaExceeded);
        drop(near);
        settled(|stats| stats.open_sockets == 1).await;
        assert!(Socket::connect(address, &ConnectOptions::default()).await.is_ok());
    });
}

#[test]
fn more_operations_than_the_queue_has_entries() {
    run_with(EngineOptions { submission_entries: 8, ..Default::default() }, async {
        let (listener, address) = listen();
        let echoed = Rc::new(std::cell::Cell::new(0));
        for number in 0..100_u8 {
            let near = Socket::connect(address, &ConnectOptions::default()).await.unwrap();
            let far = listener.accept().await.unwrap();
            let echoed = Rc::clone(&echoed);
            spawn(async move {
                far.send(vec![number]).await.unwrap();
                assert_eq!(&near.recv().await.unwrap().unwrap()[..], [number]);
                echoed.set(echoed.get() + 1);
            });
        }
        settled(|stats| stats.tasks == 0).await;
        assert_eq!(echoed.get(), 100);
    });
}

/// Set in the child process that runs [`child_without_descriptors`] for real.
const CHILD: &str = "EGRET_TEST_WITHOUT_DESCRIPTORS";

/// In a process of its own, since the limit would hold for every test.
#[test]
fn accepting_recovers_from_a_lack_of_descriptors() {
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "io::tests::limits::child_without_descriptors", "--nocapture"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && text.contains("recovered"), "{text}{}", String::from_utf8_lossy(&child.stderr));
}

#[test]
fn child_without_descriptors() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    run(async {
        use nix::sys::resource::{Resource, getrlimit, setrlimit};
        let (listener, address) = listen();
        let filler: Vec<_> = (0..20).map(|_| std::fs::File::open("/dev/null").unwrap()).collect();
        let open = std::fs::read_dir("/proc/self/fd").unwrap().count() as u64;
        let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, open + 10, most).unwrap();
        let mut clients: Vec<TcpStream> = std::iter::from_fn(|| TcpStream::connect(address).ok()).collect();
        assert!(clients.len() >= 5, "{} clients", clients.len());

        let before = stats().turns;
        let late = timeout(Duration::from_millis(350), listener.accept()).await;
        assert!(late.is_err(), "there is no descriptor for an accepted connection");
        let (pauses, turns) = (stats().accept_pauses, stats().turns - before);
        assert!(pauses >= 1 && turns < 40, "{pauses} pauses in {turns} turns");

        drop(filler);
        let mut taken = Vec::new();
        while taken.len() < clients.len() {
            taken.push(timeout(DEADLINE, listener.accept()).await.unwrap().unwrap());
        }
        drop(taken);
        settled(|stats| stats.open_sockets == 0).await;
        for client in &mut clients {
            assert_eq!(client.read(&mut [0]).unwrap(), 0);
        }
        println!("recovered");
    });
}
