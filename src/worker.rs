//! The thread of a core: one engine, its listeners, its connections. Workers share nothing but the policy table.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use crate::io::{Engine, EngineError, EngineOptions, Listener, Remote, Shedding};
use crate::observe::{LogSink, WorkerCounters};
use crate::policy::PolicyTable;
use crate::policy::publish::Published;
use crate::proxy::{self, Context, Guard, Names, Question};
use crate::tls;
use crate::upstream;

/// How often it is looked whether a thread has ended.
const JOIN_INTERVAL: Duration = Duration::from_millis(1);

/// What the control thread may ask of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// A new policy table has been published.
    PolicyChanged,
    /// Finish: answers carry `Connection: close` from now on, and connections that wait for a request end soon; new
    /// connections are still served.
    Drain,
    /// Accept connections, or leave them in the backlog.
    Accept(bool),
    /// Answer no handshake, so that listeners can be closed without resetting who waits in the backlog; or go on.
    HoldBack(bool),
    /// Write the engine's figures into the counters.
    Report,
    /// Say that this has been heard, by [`Worker::heard`].
    Answer(u64),
    /// Stop at once.
    Quit,
    /// For tests, which no release has: the next connection panics, or the worker itself.
    #[cfg(debug_assertions)]
    Panic(Panicking),
}

/// What is to panic.
#[cfg(debug_assertions)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Panicking {
    Connection,
    Worker,
}

/// Everything a worker starts with.
pub struct WorkerOptions {
    /// Counted from 0; names the thread.
    pub number: usize,
    /// Already bound, with SO_REUSEPORT, and listening.
    pub listeners: Vec<TcpListener>,
    pub engine: EngineOptions,
    pub policy: Published<PolicyTable>,
    pub guard: Guard,
    pub counters: Arc<WorkerCounters>,
    pub log: LogSink,
    /// Where names are asked for that only a request tells.
    pub names: mpsc::Sender<Question>,
}

/// A running worker, seen from the control thread.
pub struct Worker {
    thread: JoinHandle<()>,
    orders: Sender<Order>,
    remote: Remote,
    /// Whether it accepts.
    pub shedding: Arc<Shedding>,
    /// Connections of applications that are open now.
    pub open: Arc<AtomicUsize>,
    heard: Arc<AtomicU64>,
}

/// Why a worker could not start.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("worker thread: {0}")]
    Thread(#[from] io::Error),
    /// The thread ended before it said anything: it panicked, and the panic's message is in the log.
    #[error("the worker's thread ended while starting")]
    Died,
}

impl Worker {
    /// Starts the thread and waits until its engine runs.
    ///
    /// # Errors
    /// What the host does not allow, with what to do about it.
    pub fn start(options: WorkerOptions) -> Result<Self, WorkerError> {
        let (orders, inbox) = channel();
        let (report, started) = channel();
        let open = Arc::new(AtomicUsize::new(0));
        let heard = Arc::new(AtomicU64::new(0));
        let told = Told { inbox, open: Arc::clone(&open), heard: Arc::clone(&heard) };
        let thread = std::thread::Builder::new().name(format!("worker-{}", options.number)).spawn(move || {
            // Before it is ready: the generator of each thread is a slow starter.
            tls::seed_randomness();
            match Engine::new(options.engine.clone()) {
                Ok(mut engine) => {
                    if options.number == 0 {
                        tracing::info!("bounds of each worker: {}", engine.bounds());
                    }
                    let _ = report.send(Ok((engine.remote(), engine.shedding())));
                    engine.run(work(options, told));
                }
                Err(error) => {
                    let _ = report.send(Err(error));
                }
            }
        })?;
        let (remote, shedding) = started.recv().map_err(|_| WorkerError::Died)??;
        Ok(Self { thread, orders, remote, shedding, open, heard })
    }

    /// Hands an order over; a worker that has ended ignores it.
    pub fn order(&self, order: Order) {
        if self.orders.send(order).is_ok() {
            self.remote.wake();
        }
    }

    #[must_use]
    pub fn is_running(&self) -> bool {
        !self.thread.is_finished()
    }

    /// The number of the latest [`Order::Answer`] that it has heard.
    #[must_use]
    pub fn heard(&self) -> u64 {
        self.heard.load(Ordering::Relaxed)
    }

    /// Waits for the thread's end, until `deadline`: one that is stuck ends with the process.
    pub fn join(self, deadline: Instant) {
        while self.is_running() {
            if Instant::now() >= deadline {
                return tracing::warn!(
                    worker = self.thread.thread().name(),
                    "a worker does not end; ending without it"
                );
            }
            std::thread::sleep(JOIN_INTERVAL);
        }
        // A panic has been reported by the panic hook; there is nothing to add.
        let _ = self.thread.join();
    }
}

/// What the control thread shares with a worker.
struct Told {
    inbox: Receiver<Order>,
    open: Arc<AtomicUsize>,
    heard: Arc<AtomicU64>,
}

async fn work(options: WorkerOptions, told: Told) {
    // Another one in each process: requests are named by it, and all pods would ask the same endpoint first.
    let seed = RandomState::new().hash_one(options.number);
    let names = Names::new(options.names);
    let context = Rc::new(Context::new(options.policy, options.guard, options.counters, options.log, names, seed));
    let listeners: Vec<Rc<Listener>> = options.listeners.into_iter().filter_map(listener).collect();
    for listener in &listeners {
        crate::io::spawn(accept(Rc::clone(&context), Rc::clone(listener), Arc::clone(&told.open)));
    }
    loop {
        crate::io::woken().await;
        loop {
            match told.inbox.try_recv() {
                Ok(Order::PolicyChanged) => {
                    context.upstreams.policy_changed(&context.policy.table());
                    set_keepalive(&listeners, &context);
                }
                Ok(Order::Accept(allowed)) => crate::io::allow_accepting(allowed),
                Ok(Order::Drain) => context.drain.begin(),
                Ok(Order::HoldBack(hold)) => hold_back(&listeners, hold),
                Ok(Order::Answer(number)) => told.heard.store(number, Ordering::Relaxed),
                Ok(Order::Report) => report(&context.counters),
                #[cfg(debug_assertions)]
                Ok(Order::Panic(Panicking::Connection)) => NEXT_PANICS.set(true),
                #[cfg(debug_assertions)]
                Ok(Order::Panic(Panicking::Worker)) => panic!("a test asked for it"),
                Ok(Order::Quit) | Err(TryRecvError::Disconnected) => return context.access_log.flush(),
                Err(TryRecvError::Empty) => break,
            }
        }
    }
}

#[cfg(debug_assertions)]
thread_local! {
    static NEXT_PANICS: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Of this thread's engine.
fn report(counters: &WorkerCounters) {
    let stats = crate::io::stats();
    counters.task_panics.set(stats.task_panics);
    counters.ring_enters.set(stats.turns);
    counters.ring_submissions.set(stats.submissions);
    counters.ring_overflows.set(stats.cq_overflows);
    counters.ring_operations.set(stats.operations as u64);
    counters.receive_buffers.set(stats.recv_buffers_in_use as u64);
    counters.receive_shortages.set(stats.enobufs);
    counters.accept_pauses.set(stats.accept_pauses);
    counters.open_sockets.set(stats.open_sockets as u64);
}

fn listener(socket: TcpListener) -> Option<Rc<Listener>> {
    let listener = Listener::from_std(socket).inspect_err(|error| tracing::error!(%error, "a listener cannot be used"));
    listener.ok().map(Rc::new)
}

/// What is accepted from now on has the keep-alive probes of the Settings in force.
fn set_keepalive(listeners: &[Rc<Listener>], context: &Context) {
    let keepalive = upstream::keepalive(&context.policy.table().settings().tcp_keepalive);
    for listener in listeners {
        if let Err(error) = listener.set_keepalive(keepalive) {
            tracing::warn!(%error, ?keepalive, "keep-alive probes of the applications' connections");
        }
    }
}

fn hold_back(listeners: &[Rc<Listener>], hold: bool) {
    for listener in listeners {
        if let Err(error) = listener.hold_back(hold) {
            tracing::warn!(%error, hold, "a listener's handshakes");
        }
    }
}

async fn accept(context: Rc<Context>, listener: Rc<Listener>, open: Arc<AtomicUsize>) {
    loop {
        match listener.accept().await {
            Ok(socket) => {
                let (context, open) = (Rc::clone(&context), Open::count(&open));
                crate::io::spawn(async move {
                    #[cfg(debug_assertions)]
                    assert!(!NEXT_PANICS.take(), "a test asked for it");
                    proxy::serve(&context, socket).await;
                    drop(open);
                });
            }
            Err(error) => tracing::warn!(%error, "accept failed"),
        }
    }
}

/// One open connection in the gauge, for as long as it lives, however it ends.
struct Open(Arc<AtomicUsize>);

impl Open {
    fn count(gauge: &Arc<AtomicUsize>) -> Self {
        gauge.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(gauge))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
