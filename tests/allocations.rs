//! Once a connection and its upstream are warm, a request allocates nothing on the worker's thread, and what connections
//! at rest hold there is small.
//!
//! The allocator of this program counts what one thread asks for: a real worker's, with a real policy, behind the
//! kernel's redirect, with TLS to a server outside. Whoever makes a request allocate learns here where.

#![allow(unsafe_code, reason = "an allocator cannot be declared without")]

mod lab;

use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::cell::Cell;
use std::fs::{self, File};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Mutex, PoisonError};
use std::time::{Duration, Instant};

use egret::config::{self, Resources};
use egret::flow::Hostname;
use egret::io::{EngineKind, EngineOptions};
use egret::observe::{LogSink, WorkerCounters};
use egret::policy::publish::{Addresses, Published};
use egret::policy::{Health, Materials, Occupancy, PolicyTable, Workload, compile};
use egret::proxy::Guard;
use egret::tls::{ClientProfile, ProfileRequest, Store, StoreOptions};
use egret::worker::{Order, Worker, WorkerOptions};
use lab::client::HttpClient;
use lab::pki::Leaf;
use lab::proxy::Engine;
use lab::server::{HttpServer, Server};
use lab::{Family, Lab, PATIENCE, eventually};

const HOST: &str = "warm.example";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\nContent-Type: text/plain\r\n\r\nhello, world\n";

/// Counts the allocations of one thread.
struct Counting;

/// The thread that is watched; 0 for none.
static WATCHED: AtomicI32 = AtomicI32::new(0);
static COUNT: AtomicU64 = AtomicU64::new(0);
/// Bytes that it has asked for and not given back.
static LIVE: AtomicI64 = AtomicI64::new(0);
/// Where the first allocations came from.
static PLACES: Mutex<Vec<String>> = Mutex::new(Vec::new());
/// One test at a time has a worker.
static TURN: Mutex<()> = Mutex::new(());

thread_local! {
    static SELF: Cell<i32> = const { Cell::new(0) };
    static IS_NOTING: Cell<bool> = const { Cell::new(false) };
}

impl Counting {
    /// Notes that this thread has so many bytes more, or less.
    fn note(bytes: isize) {
        let watched = WATCHED.load(Ordering::Relaxed);
        if watched == 0 || IS_NOTING.get() {
            return;
        }
        if SELF.get() == 0 {
            SELF.set(nix::unistd::gettid().as_raw());
        }
        if SELF.get() != watched {
            return;
        }
        LIVE.fetch_add(bytes as i64, Ordering::Relaxed);
        if bytes > 0 && COUNT.fetch_add(1, Ordering::Relaxed) < 40 {
            IS_NOTING.set(true);
            PLACES.lock().unwrap().push(place(&Backtrace::force_capture().to_string()));
            IS_NOTING.set(false);
        }
    }
}

/// The functions that led to an allocation, innermost first.
fn place(backtrace: &str) -> String {
    let frames = backtrace.lines().filter_map(|line| line.trim().split_once(": ")).map(|(_, name)| name);
    let ours = frames.skip_while(|name| !name.contains("alloc::")).filter(|name| !name.starts_with("core::"));
    ours.take(12).collect::<Vec<_>>().join("\n    ")
}

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::note(layout.size() as isize);
        // SAFETY: as for the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        Self::note(-(layout.size() as isize));
        // SAFETY: as for the caller.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Self::note(-(layout.size() as isize));
        Self::note(size as isize);
        // SAFETY: as for the caller.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The allocations of a worker while `body` runs, with the places of the first of them.
fn watched<T>(body: impl FnOnce() -> T) -> (T, u64, String) {
    COUNT.store(0, Ordering::Relaxed);
    PLACES.lock().unwrap().clear();
    WATCHED.store(thread_of_worker(), Ordering::Relaxed);
    let result = body();
    WATCHED.store(0, Ordering::Relaxed);
    (result, COUNT.load(Ordering::Relaxed), PLACES.lock().unwrap().join("\n\n"))
}

/// Material for the table: certificates from files, one address for every name.
struct Lent {
    store: Store,
    address: IpAddr,
}

impl Materials for Lent {
    fn profile(&mut self, wanted: &ProfileRequest) -> Result<Arc<ClientProfile>, String> {
        self.store.profile(wanted)
    }

    fn addresses(&mut self, _: &Hostname) -> Addresses {
        Published::new(vec![self.address])
    }

    fn bound_addresses(&mut self, name: &Hostname) -> Addresses {
        self.addresses(name)
    }

    fn occupancy(&mut self, _: &str) -> Arc<Occupancy> {
        Arc::default()
    }

    fn health(&mut self, _: &str) -> Arc<Health> {
        Arc::default()
    }
}

fn table(lab: &Lab, address: IpAddr) -> PolicyTable {
    lab.configure("host.yaml", &lab::documents::origination(HOST, Some(&lab.ca_file())));
    let loaded = config::load(&[lab.config_dir()]);
    assert!(loaded.problems.is_empty(), "{:?}", loaded.problems);
    let resources: Resources = loaded.resources;
    let mut store = Store::new(StoreOptions::default(), &[]);
    store.begin_round();
    compile(&resources, &Workload::default(), &mut Lent { store, address }).0
}

/// A worker in the pod, with an access log.
fn worker(lab: &Lab, table: PolicyTable) -> Worker {
    let kind = match Engine::of_this_run() {
        Engine::Epoll => EngineKind::Epoll,
        _ => EngineKind::Uring,
    };
    let log = LogSink::over(File::create(lab.dir().join("access.log")).unwrap()).unwrap();
    lab.pod.enter(|| {
        let listener = TcpListener::bind("127.0.0.1:15001").unwrap();
        Worker::start(WorkerOptions {
            number: 0,
            listeners: vec![listener],
            engine: EngineOptions { kind, ..EngineOptions::default() },
            policy: Published::new(table),
            guard: Guard { own_ports: vec![15001], allow_loopback: false },
            counters: Arc::new(WorkerCounters::default()),
            log,
            names: tokio::sync::mpsc::channel(1).0,
        })
        .unwrap()
    })
}

/// The kernel's number of the worker's thread.
fn thread_of_worker() -> i32 {
    let tasks = fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap());
    let named = tasks.filter(|task| fs::read_to_string(task.path().join("comm")).is_ok_and(|n| n.trim() == "worker-0"));
    let numbers: Vec<i32> = named.map(|task| task.file_name().to_str().unwrap().parse().unwrap()).collect();
    assert_eq!(numbers.len(), 1, "one worker");
    numbers[0]
}

/// An outside server of [`HOST`] that gives every request [`ANSWER`], once `may_answer` returns.
fn server(lab: &Lab, may_answer: impl Fn() + Send + Sync + 'static) -> Server {
    let pair = lab.authority.issue(HOST, Leaf::Good);
    Server::start_tls(lab, SocketAddr::new(Lab::address(Family::V4, 1), 443), &pair, move |stream| {
        let mut server = HttpServer::new(stream);
        while server.request()?.is_some() {
            may_answer();
            server.send(ANSWER)?;
        }
        Ok(())
    })
}

fn clients(lab: &Lab, count: usize) -> Vec<HttpClient> {
    let to = SocketAddr::new(Lab::address(Family::V4, 1), 80);
    (0..count).map(|_| HttpClient::new(lab.connect(to).unwrap())).collect()
}

fn get(client: &mut HttpClient) {
    let answer = client.get(HOST, "/a/path?with=query").unwrap();
    assert_eq!((answer.head.status, answer.body.len()), (200, 13));
}

/// A lab with a worker behind the redirect. It runs as root here, whom the rules do not exempt: what it dials itself is
/// exempt by its port.
fn warm_lab() -> (Lab, Worker) {
    let lab = Lab::new();
    lab.egret_command(&["init", "--exclude-outbound-ports", "443"]).succeeded();
    let worker = worker(&lab, table(&lab, Lab::address(Family::V4, 1)));
    (lab, worker)
}

#[test]
fn a_request_over_warm_connections_allocates_nothing() {
    const WARM: usize = 300;
    const COUNTED: usize = 2000;
    // `PAUSE` of proxy/downstream/http1.rs.
    const PAUSE: Duration = Duration::from_millis(20);
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let (lab, worker) = warm_lab();
    let _server = server(&lab, || {});
    let mut clients = clients(&lab, 4);
    // Returns before how many requests their connection can have paused: so long had it been since its last one was sent.
    let mut sent = [Instant::now(); 4];
    let mut run = |requests: usize| {
        let paused = |number: &usize| {
            let before = std::mem::replace(&mut sent[number % 4], Instant::now());
            get(&mut clients[number % 4]);
            before.elapsed() >= PAUSE
        };
        (0..requests).filter(paused).count() as u64
    };
    run(WARM);
    let (pauses, count, places) = watched(|| run(COUNTED));
    // What a pause costs: the room for the next exchange, and for what is received and sent, five pieces. A busy machine makes
    // pauses of itself, and a batch of log lines longer than any before makes its memory grow. What a request did itself,
    // all would do.
    let most = (COUNTED as u64 / 20 + pauses * 6).min(COUNTED as u64 / 2);
    assert!(count < most, "{count} in {COUNTED} requests; the first of them:\n\n{places}");
    println!("{count} allocations in {COUNTED} requests, {pauses} of them after a pause");

    // That it would have been seen: a new connection cannot be had for nothing.
    let ((), count, _) = watched(|| self::clients(&lab, 1).iter_mut().for_each(get));
    assert!(count > 0, "the counter counts nothing");
    eventually("the log is written", || {
        fs::read_to_string(lab.dir().join("access.log")).is_ok_and(|log| log.lines().count() > WARM + COUNTED)
    });
    worker.order(Order::Quit);
    worker.join(Instant::now() + PATIENCE);
}

#[test]
fn connections_at_rest_are_small() {
    const COUNT: usize = 120;
    const PER_CLIENT: i64 = 1536;
    const PER_UPSTREAM: i64 = 8192;
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let (lab, worker) = warm_lab();
    // The last requests are answered only when all have arrived, so that each needs an upstream connection of its own.
    let together = Arc::new((AtomicBool::new(false), Barrier::new(COUNT)));
    let gate = Arc::clone(&together);
    let server = server(&lab, move || {
        if gate.0.load(Ordering::SeqCst) {
            gate.1.wait();
        }
    });
    let mut first = clients(&lab, 1);
    first.iter_mut().for_each(get);

    LIVE.store(0, Ordering::Relaxed);
    let small = |bytes: i64| LIVE.load(Ordering::Relaxed) / COUNT as i64 <= bytes;
    let figure = || LIVE.load(Ordering::Relaxed) / COUNT as i64;
    let (mut clients, ..) = watched(|| {
        let mut clients = clients(&lab, COUNT);
        clients.iter_mut().for_each(get);
        eventually(&format!("{PER_CLIENT} bytes for each client at rest ({})", figure()), || small(PER_CLIENT));
        clients
    });
    println!("{} bytes for each client at rest", figure());

    LIVE.store(0, Ordering::Relaxed);
    together.0.store(true, Ordering::SeqCst);
    watched(|| {
        for client in &mut clients {
            client.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n").as_bytes()).unwrap();
        }
        for client in &mut clients {
            assert_eq!(client.response().unwrap().head.status, 200);
        }
        assert!(server.accepted() >= COUNT, "{} upstream connections", server.accepted());
        eventually(&format!("{PER_UPSTREAM} bytes for each upstream at rest ({})", figure()), || small(PER_UPSTREAM));
    });
    println!("{} bytes for each upstream connection at rest", figure());
    worker.order(Order::Quit);
    worker.join(Instant::now() + PATIENCE);
}
