//! The control thread: everything that may wait, allocate and fail, so that no request ever does.
//!
//! It reads configuration and certificates and watches them, resolves names, publishes tables, starts the workers and
//! ends them, and answers operators. Workers learn of its work by one pointer; it learns of theirs by their counters.

pub mod admin;
pub mod admin_client;
mod cgroup;
mod confinement;
pub mod cores;
pub mod dns;
mod dump;
pub(crate) mod expiry;
mod health;
mod housekeeping;
pub mod limits;
mod listen;
mod memory;
mod options;
mod pressure;
mod process;
mod reload;
pub mod resolve;
mod restart;
mod runtime;
mod state;
pub mod watch;
mod watchdog;

use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{Sender, channel};

use crate::control::admin::{Admin, AdminAddresses, AdminServer, BindError};
use crate::control::confinement::Confinement;
use crate::control::dns::{DnsBindError, DnsProxy, DnsSockets, Listed, StateFile, StateFileError};
use crate::control::housekeeping::{Housekeeping, Occasion, WATCH_INTERVAL};
use crate::control::limits::Granted;
use crate::control::pressure::Pressure;
use crate::control::reload::{Reloader, Sources};
use crate::control::resolve::{Resolver, ResolverOptions};
use crate::control::state::State;
use crate::control::watch::Watch;
use crate::io::{EngineError, EngineKind, EngineOptions, EngineSelection, SelectedEngine, select_engine};
use crate::observe::{LogSink, Source, WorkerCounters};
use crate::policy::PolicyTable;
use crate::policy::publish::Published;
use crate::proxy::{Guard, Question};
use crate::tls::{Store, StoreOptions};
use crate::upstream;
use crate::worker::{Order, Worker, WorkerError, WorkerOptions};

pub use options::RunOptions;

/// Ports of egret besides the one that traffic is redirected to.
pub const ADMIN_PORT: u16 = 15000;
pub const HEALTH_PORT: u16 = 15021;
pub const METRICS_PORT: u16 = 15090;

/// Questions about names that workers may have asked and nobody has read.
const QUESTIONS: usize = 1024;
/// How often a draining process looks whether it may end.
const DRAIN_POLL: Duration = Duration::from_millis(100);
/// So long before a drain's deadline nobody new is let in, so that those who are in can be served.
const LAST_CALL: Duration = Duration::from_secs(1);
/// Descriptors that are not connections: rings, listeners, files, the control thread's own.
pub const RESERVED_DESCRIPTORS: u64 = 128;

/// Why the process cannot run, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    #[error("--engine uring: {0}; --engine auto would take epoll here")]
    Engine(EngineError),
    #[error("the control thread's runtime: {0}")]
    Runtime(std::io::Error),
    #[error(transparent)]
    Listen(#[from] listen::ListenError),
    #[error(transparent)]
    Dns(#[from] DnsBindError),
    #[error(transparent)]
    DnsState(#[from] StateFileError),
    #[error(transparent)]
    Worker(#[from] WorkerError),
    #[error(transparent)]
    Admin(#[from] BindError),
    #[error("the access log's writer: {0}")]
    Log(std::io::Error),
    #[error("signals: {0}")]
    Signals(std::io::Error),
    /// Running on with fewer workers would leave connections in a listener that nobody serves.
    #[error("a worker thread ended; stopping, so that traffic is refused rather than left waiting")]
    WorkerDied,
    #[error(
        "a worker has not answered for half a minute; stopping, so that traffic is refused rather than left waiting"
    )]
    WorkerStuck,
}

/// Runs the proxy until it is told to stop.
///
/// # Errors
/// What the host does not allow, or what failed beyond repair.
pub fn run(options: RunOptions) -> Result<(), ControlError> {
    let engine = select_engine(options.engine).map_err(ControlError::Engine)?;
    tracing::info!(engine = engine.kind.name(), reason = engine.reason, "engine");
    let confinement = Confinement::begin(&options, engine.kind);
    runtime::block_on(engine.kind, serve(options, engine, confinement)).map_err(ControlError::Runtime)?
}

async fn serve(options: RunOptions, engine: SelectedEngine, mut confinement: Confinement) -> Result<(), ControlError> {
    let sources = Sources { config: options.config, workload: options.workload, overrides: options.overrides };
    let store = Store::new(
        StoreOptions {
            namespace: sources.workload.namespace.clone(),
            secrets_dir: Some(options.secrets),
            ssl_cert_file: std::env::var_os("SSL_CERT_FILE"),
            ..StoreOptions::default()
        },
        &[],
    );
    let mut watch = Watch::new(sources.config.clone());
    let resolver = Resolver::new(ResolverOptions::default());
    let (dns, listed) = start_dns(options.dns_port, options.dns_state.as_deref(), &resolver).await?;
    let (names, questions) = channel(QUESTIONS);
    resolver.answer(questions);
    let source = Source { namespace: sources.workload.namespace.clone(), labels: sources.workload.labels.clone() };
    let state = Rc::new(State::new(Reloader::new(sources, store, resolver, listed), source, engine, dns));
    let endpoints = AdminServer::bind(&AdminAddresses::default())?;
    tokio::task::spawn_local(endpoints.serve(Rc::clone(&state) as Rc<dyn Admin>));
    let mut stop = Stop::new(Rc::clone(&state))?;
    let hangup = signal(SignalKind::hangup()).map_err(ControlError::Signals)?;

    if !first_table(&state, &mut watch, &mut stop).await {
        return Ok(());
    }
    // Before files are confined: these are read where nothing else is.
    let granted = granted();
    let pressure = Pressure::new(Rc::clone(&state));
    confinement.before_workers(state.watched());
    let plan = WorkerPlan {
        workers: options.workers,
        batch_wait: options.batch_wait,
        allow_loopback: options.allow_loopback,
        port: options.proxy_port,
        dns_port: options.dns_port,
        restrict_ring: confinement.restricts_rings(),
        may_change: options.engine == EngineSelection::Auto && state.engine().kind == EngineKind::Uring,
        granted,
        names,
    };
    state.set_workers(start_workers(&plan, &state)?);
    confinement.after_workers();
    state.set_confinement(confinement.report());
    tracing::info!("ready");
    crate::io::release_heap();
    crate::io::release_program();
    state.warn_of_expiry();
    let mut housekeeping = Housekeeping::new(Rc::clone(&state), watch, confinement, pressure, hangup);
    loop {
        let why = tokio::select! {
            () = stop.requested() => break,
            why = housekeeping.reason() => why,
        };
        housekeeping.look(why).await;
        if !state.workers_run() {
            return Err(ControlError::WorkerDied);
        }
        if !state.workers_answer() {
            return Err(ControlError::WorkerStuck);
        }
    }
    if !state.is_quitting() {
        drain(&mut housekeeping, &mut stop).await;
    }
    state.stop_workers();
    Ok(())
}

/// The DNS listener, which fails every query until there is a policy, and what is to tell it of one.
async fn start_dns(
    port: u16,
    state: Option<&Path>,
    resolver: &Resolver,
) -> Result<(Rc<DnsProxy>, Listed), ControlError> {
    let state = state.map(StateFile::open).transpose()?;
    let proxy = Rc::new(DnsProxy::new(resolver.name_servers(), limits::dns_queries(descriptors())));
    DnsSockets::bind(port).await?.serve(&proxy).map_err(ControlError::Runtime)?;
    let listed = Listed::new(Rc::clone(&proxy), state);
    Ok((proxy, listed))
}

/// Reads until there is a table; false when told to stop before.
async fn first_table(state: &State, watch: &mut Watch, stop: &mut Stop) -> bool {
    state.reload().await;
    watch.set_paths(state.watched());
    while !state.has_table() {
        tokio::select! {
            () = stop.requested() => return false,
            () = tokio::time::sleep(WATCH_INTERVAL) => {}
        }
        if watch.changed() {
            state.reload().await;
            watch.set_paths(state.watched());
        }
    }
    true
}

/// How the workers are to be started.
struct WorkerPlan {
    workers: Option<usize>,
    batch_wait: u32,
    allow_loopback: bool,
    port: u16,
    dns_port: u16,
    restrict_ring: bool,
    /// To epoll, where rings that should work do not.
    may_change: bool,
    granted: Granted,
    names: Sender<Question>,
}

fn start_workers(plan: &WorkerPlan, state: &State) -> Result<Workers, ControlError> {
    let policy = state.policy().expect("workers start after the first table");
    let settings = policy.load().settings().clone();
    let wanted = plan.workers.unwrap_or_else(cores::available);
    let engine = EngineOptions {
        kind: state.engine().kind,
        restrict_ring: plan.restrict_ring,
        batch_micros: plan.batch_wait,
        ..EngineOptions::default()
    };
    let limits = limits::plan(plan.granted, settings.max_connections, wanted, engine);
    limits.reduced.iter().for_each(|what| tracing::warn!("{what}"));
    let log = LogSink::stdout().map_err(ControlError::Log)?;
    state.set_log(log.clone());
    match start_on(&limits.engine, limits.workers, plan, &policy, &log) {
        // What a trial ring was allowed, a ring for each worker may not be: locked memory counts for all of them.
        Err(ControlError::Worker(WorkerError::Engine(error))) if plan.may_change => {
            let reason = format!("a worker's ring, after a trial that went well: {error}");
            tracing::warn!(reason, "running on epoll");
            state.set_engine(SelectedEngine { kind: EngineKind::Epoll, reason });
            let engine = EngineOptions { kind: EngineKind::Epoll, ..limits.engine };
            start_on(&engine, limits.workers, plan, &policy, &log)
        }
        outcome => outcome,
    }
}

type Workers = Vec<(Worker, Arc<WorkerCounters>)>;

/// All workers, or none.
fn start_on(
    engine: &EngineOptions,
    count: usize,
    plan: &WorkerPlan,
    policy: &Published<PolicyTable>,
    log: &LogSink,
) -> Result<Workers, ControlError> {
    let own_ports = vec![plan.port, ADMIN_PORT, HEALTH_PORT, METRICS_PORT, plan.dns_port];
    let guard = Guard { own_ports, allow_loopback: plan.allow_loopback };
    let keepalive = upstream::keepalive(&policy.load().settings().tcp_keepalive);
    let mut sets = listen::listeners(plan.port, count, keepalive)?;
    tracing::info!(workers = count, connections_a_worker = engine.max_connections, port = plan.port, "starting");
    let mut workers = Workers::with_capacity(count);
    for number in (0..count).rev() {
        let counters = Arc::new(WorkerCounters::default());
        let worker = Worker::start(WorkerOptions {
            number,
            listeners: sets.pop().expect("a set of listeners a worker"),
            engine: engine.clone(),
            policy: policy.clone(),
            guard: guard.clone(),
            counters: Arc::clone(&counters),
            log: log.clone(),
            names: plan.names.clone(),
        });
        match worker {
            Ok(worker) => workers.push((worker, counters)),
            Err(error) => {
                state::end_workers(workers);
                return Err(error.into());
            }
        }
    }
    Ok(workers)
}

fn descriptor_limits() -> (u64, u64) {
    getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((1024, 1024))
}

/// Descriptors that there may be, now or once the limit is raised.
fn descriptors() -> u64 {
    descriptor_limits().1
}

/// Raises the soft descriptor limit to the hard one; says what is granted.
fn granted() -> Granted {
    let (soft, hard) = descriptor_limits();
    let raised = setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok();
    let open = std::fs::read_dir("/proc/self/fd").map_or(RESERVED_DESCRIPTORS, |entries| entries.count() as u64);
    Granted { descriptors: if raised { hard } else { soft }, open, memory: memory::limit() }
}

/// Serves on while applications have connections open, until the deadline or a second request to stop.
async fn drain(housekeeping: &mut Housekeeping, stop: &mut Stop) {
    let state = Rc::clone(&housekeeping.state);
    let (minimum, longest) = state.drain_durations();
    let (began, mut looked_at) = (Instant::now(), Instant::now());
    tracing::info!(open = state.open_connections(), "draining");
    state.set_draining();
    state.order(Order::Drain);
    let last_call = longest.saturating_sub(LAST_CALL.min(longest / 2));
    let mut closing = false;
    while began.elapsed() < longest {
        let idle = state.open_connections() == 0;
        if idle && closing {
            return;
        }
        // Closing a listener resets who waits in its backlog. So nobody is let into it any more, those who are in it are
        // served, and only if that leaves nobody, the listeners may go.
        let close = began.elapsed() >= minimum && (idle || began.elapsed() >= last_call);
        if close != closing {
            closing = close;
            state.order(Order::HoldBack(closing));
        }
        tokio::select! {
            () = stop.requested() => return,
            () = tokio::time::sleep(DRAIN_POLL) => {}
        }
        if looked_at.elapsed() >= WATCH_INTERVAL {
            looked_at = Instant::now();
            housekeeping.look(Occasion::Due).await;
        }
    }
}

/// The ways to be told to stop: SIGTERM, SIGINT, `/quitquitquit`.
struct Stop {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    state: Rc<State>,
}

impl Stop {
    fn new(state: Rc<State>) -> Result<Self, ControlError> {
        let terminate = signal(SignalKind::terminate()).map_err(ControlError::Signals)?;
        let interrupt = signal(SignalKind::interrupt()).map_err(ControlError::Signals)?;
        Ok(Self { terminate, interrupt, state })
    }

    /// Resolves at the next request; each counts once.
    async fn requested(&mut self) {
        let asked = self.state.stop_asked();
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            () = asked.notified() => {}
        }
    }
}
