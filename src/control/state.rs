//! What the control thread knows, shared between its loop and its endpoints. One thread; the cells are never locked.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::config::{MeshLocation, Resources};
use crate::confine::Report;
use crate::control::admin::Admin;
use crate::control::dns::DnsProxy;
use crate::control::dump;
use crate::control::expiry::{self, ExpiryWarnings};
use crate::control::health;
use crate::control::process;
use crate::control::reload::{Reloader, Status};
use crate::control::restart::Waiting;
use crate::control::watchdog::{Observation, Watchdog};
use crate::explain::{Known, Material, Question, Target, explain};
use crate::io::SelectedEngine;
use crate::observe::{
    Exposition, LogSink, Source, WorkerCounters, logging, render_counters, render_http2, render_traffic,
};
use crate::policy::PolicyTable;
use crate::policy::publish::Published;
use crate::tls::Credential;
use crate::worker::{Order, Worker};

/// How long the access log's writer has for its last lines when the process ends.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Most HTTP/2 connections of a worker that are shown one by one.
const MOST_SHOWN: usize = 1000;

/// How long workers have to end.
const LAST_TURNS: Duration = Duration::from_secs(1);

/// The state of a running process.
pub struct State {
    /// Taken while a reload waits for names; whoever asks meanwhile gets `view`.
    reloader: RefCell<Option<Reloader>>,
    view: RefCell<View>,
    workers: RefCell<Vec<(Worker, Arc<WorkerCounters>)>>,
    draining: Cell<bool>,
    quitting: Cell<bool>,
    expiry: RefCell<ExpiryWarnings>,
    asked: Rc<Notify>,
    started: Instant,
    /// Whose traffic the metrics are about.
    source: Source,
    engine: RefCell<SelectedEngine>,
    watchdog: RefCell<Watchdog>,
    confinement: RefCell<Report>,
    log: RefCell<Option<LogSink>>,
    dns: Rc<DnsProxy>,
}

/// What can be said at any time of the latest reload.
#[derive(Default)]
struct View {
    policy: Option<Published<PolicyTable>>,
    resources: Option<Rc<Resources>>,
    status: Status,
    credentials: Vec<Credential>,
    names: Value,
    watched: Vec<PathBuf>,
}

impl State {
    #[must_use]
    pub fn new(reloader: Reloader, source: Source, engine: SelectedEngine, dns: Rc<DnsProxy>) -> Self {
        Self {
            reloader: RefCell::new(Some(reloader)),
            view: RefCell::default(),
            workers: RefCell::default(),
            draining: Cell::new(false),
            quitting: Cell::new(false),
            expiry: RefCell::default(),
            asked: Rc::new(Notify::new()),
            started: Instant::now(),
            source,
            engine: RefCell::new(engine),
            watchdog: RefCell::default(),
            confinement: RefCell::default(),
            log: RefCell::default(),
            dns,
        }
    }

    /// Where the workers' access log goes.
    pub fn set_log(&self, log: LogSink) {
        *self.log.borrow_mut() = Some(log);
    }

    pub fn set_confinement(&self, report: Report) {
        *self.confinement.borrow_mut() = report;
    }

    #[must_use]
    pub fn engine(&self) -> SelectedEngine {
        self.engine.borrow().clone()
    }

    /// The workers do not run on what was chosen at first.
    pub fn set_engine(&self, engine: SelectedEngine) {
        *self.engine.borrow_mut() = engine;
    }

    /// Reads everything anew; true when a new table was published.
    pub async fn reload(&self) -> bool {
        let Some(mut reloader) = self.reloader.take() else { return false };
        let published = reloader.reload().await;
        *self.view.borrow_mut() = View {
            policy: reloader.table().cloned(),
            resources: reloader.resources().cloned(),
            status: reloader.status().clone(),
            credentials: reloader.store().credentials(),
            names: names(&reloader),
            watched: reloader.watched(),
        };
        self.reloader.replace(Some(reloader));
        published
    }

    /// Warns of certificates that expire soon, each at most once a day.
    pub fn warn_of_expiry(&self) {
        let now = jiff::Timestamp::now().as_second();
        let view = self.view.borrow();
        let rules = view.resources.as_ref().map_or(&[][..], |resources| &resources.destination_rules);
        for warning in self.expiry.borrow_mut().due(&view.credentials, rules, now) {
            tracing::warn!("{warning}");
        }
    }

    #[must_use]
    pub fn has_table(&self) -> bool {
        self.view.borrow().policy.is_some()
    }

    #[must_use]
    pub fn policy(&self) -> Option<Published<PolicyTable>> {
        self.view.borrow().policy.clone()
    }

    #[must_use]
    pub fn watched(&self) -> Vec<PathBuf> {
        self.view.borrow().watched.clone()
    }

    pub fn set_workers(&self, workers: Vec<(Worker, Arc<WorkerCounters>)>) {
        *self.workers.borrow_mut() = workers;
    }

    pub fn order(&self, order: Order) {
        self.workers.borrow().iter().for_each(|(worker, _)| worker.order(order));
    }

    #[must_use]
    pub fn workers_run(&self) -> bool {
        self.workers.borrow().iter().all(|(worker, _)| worker.is_running())
    }

    /// Have workers stopped answering? Call it as often as [`Watchdog`] wants; false when one is beyond hope.
    #[must_use]
    pub fn workers_answer(&self) -> bool {
        let look = self.watchdog.borrow_mut().look(self.workers.borrow().iter().map(|(worker, _)| worker.heard()));
        match look {
            Observation::Ask(number) => self.order(Order::Answer(number)),
            Observation::Silent { workers, news: true } => {
                tracing::warn!(workers, "workers do not answer; connections that they hold are not served meanwhile");
            }
            Observation::Rest | Observation::Silent { .. } => {}
            Observation::GivenUp => return false,
        }
        true
    }

    #[must_use]
    pub fn open_connections(&self) -> usize {
        self.workers.borrow().iter().map(|(worker, _)| worker.open.load(Ordering::Relaxed)).sum()
    }

    /// How often any worker stopped accepting.
    #[must_use]
    pub fn accept_pauses(&self) -> u64 {
        self.workers.borrow().iter().map(|(worker, _)| worker.shedding.pauses()).sum()
    }

    fn resting_workers(&self) -> usize {
        self.workers.borrow().iter().filter(|(worker, _)| worker.shedding.is_resting()).count()
    }

    pub fn stop_workers(&self) {
        end_workers(self.workers.take());
        // What cannot be written by then is lost with the process.
        let _ = self.log.take().map(|log| log.flush(LAST_LINES));
    }

    pub fn set_draining(&self) {
        self.draining.set(true);
    }

    /// Shortest and longest time between being told to end and the end.
    #[must_use]
    pub fn drain_durations(&self) -> (Duration, Duration) {
        let policy = self.policy();
        policy.map_or((Duration::ZERO, Duration::ZERO), |policy| {
            let table = policy.load();
            (table.settings().minimum_drain_duration, table.settings().drain_duration)
        })
    }

    /// Whether the operator wants the end at once, without a drain.
    #[must_use]
    pub fn is_quitting(&self) -> bool {
        self.quitting.get()
    }

    /// Notified when an operator asks the process to end.
    #[must_use]
    pub fn stop_asked(&self) -> Rc<Notify> {
        Rc::clone(&self.asked)
    }
}

impl State {
    /// The namespace of the ServiceEntry behind each cluster, by the cluster's name. As in Istio, what is outside of the mesh has
    /// none.
    fn namespaces(&self) -> BTreeMap<String, String> {
        let Some(policy) = self.policy() else { return BTreeMap::new() };
        let table = policy.load();
        let each = table.clusters().iter().filter(|cluster| cluster.origin.location == MeshLocation::Internal);
        each.map(|cluster| (cluster.name.clone(), cluster.origin.service_entry.namespace.clone())).collect()
    }
}

/// Tells workers to end, and waits a moment for it.
pub(super) fn end_workers(workers: Vec<(Worker, Arc<WorkerCounters>)>) {
    for (worker, _) in &workers {
        worker.order(Order::Quit);
    }
    let deadline = Instant::now() + LAST_TURNS;
    for (worker, _) in workers {
        worker.join(deadline);
    }
}

fn names(reloader: &Reloader) -> Value {
    let rows = reloader.resolver().snapshot().into_iter().map(|status| {
        json!({
            "name": status.name.as_str(),
            "addresses": status.addresses,
            "expires_in_s": status.expires_in.map(|left| left.as_secs()),
            "last_error": status.last_error,
        })
    });
    rows.collect()
}

impl Admin for State {
    fn ready(&self) -> Result<String, String> {
        if self.draining.get() {
            return Err("draining".to_owned());
        }
        let view = self.view.borrow();
        match (&view.policy, view.status.error()) {
            (None, Some(error)) => Err(format!("configuration not usable: {error}")),
            (None, None) => Err("configuration not read yet".to_owned()),
            (Some(_), _) if self.workers.borrow().is_empty() => Err("workers not started yet".to_owned()),
            (Some(_), _) => {
                let SelectedEngine { kind, reason } = self.engine();
                Ok(format!("engine: {} ({reason})\n", kind.name()))
            }
        }
    }

    fn metrics(&self) -> String {
        // What only a worker knows it writes down when asked: the figures of engines are those of the scrape before.
        self.order(Order::Report);
        let view = self.view.borrow();
        let mut out = Exposition::new();
        let workers = self.workers.borrow();
        render_counters(&mut out, workers.iter().map(|(_, counters)| &**counters));
        let namespaces = self.namespaces();
        render_http2(&mut out, workers.iter().map(|(_, counters)| &*counters.http2));
        render_traffic(&mut out, &self.source, &namespaces, workers.iter().map(|(_, counters)| &counters.traffic));
        out.family("egret_policy_version", "gauge", "Policy tables published so far.");
        out.sample("egret_policy_version", &[], view.status.version);
        out.family("egret_reload_failures_total", "counter", "Reloads that changed nothing.");
        out.sample("egret_reload_failures_total", &[], view.status.failures);
        let failed = self.log.borrow().as_ref().map_or(0, |log| log.stats().batches_failed);
        let help = "Writes of the access log that failed, and lost at least a part of what they held.";
        out.family("egret_access_log_write_failures_total", "counter", help);
        out.sample("egret_access_log_write_failures_total", &[], failed);
        out.family("egret_workers_resting", "gauge", "Workers that leave new connections in the backlog now.");
        out.sample("egret_workers_resting", &[], self.resting_workers() as u64);
        out.family("egret_workers_silent", "gauge", "Workers that have stopped answering the control thread.");
        out.sample("egret_workers_silent", &[], self.watchdog.borrow().silent() as u64);
        out.family("egret_engine_info", "gauge", "How sockets are driven: 1 for the engine in use.");
        out.sample("egret_engine_info", &[("engine", self.engine().kind.name())], 1);
        process::render(&mut out);
        self.dns.render(&mut out);
        if let Some(policy) = &view.policy {
            health::render(policy.load().clusters(), &mut out);
        }
        expiry::render(&view.credentials, jiff::Timestamp::now().as_second(), &mut out);
        out.finish()
    }

    fn server_info(&self) -> Value {
        let engine = self.engine();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "state": if self.draining.get() { "DRAINING" } else if self.ready().is_ok() { "LIVE" } else { "PRE_INITIALIZING" },
            "uptime_s": self.started.elapsed().as_secs(),
            "engine": engine.kind.name(),
            "engine_reason": engine.reason,
            "confinement": self.confinement.borrow().lines().iter().cloned().collect::<BTreeMap<_, _>>(),
            "workers": self.workers.borrow().len(),
            "policy_version": self.view.borrow().status.version,
            "waiting_for_restart": self.view.borrow().status.waiting.iter().map(Waiting::summary).collect::<Vec<_>>(),
            "open_connections": self.open_connections(),
        })
    }

    fn config_dump(&self) -> Value {
        let view = self.view.borrow();
        let table = view.policy.as_ref().map(Published::load_full);
        let in_force = table.as_deref().zip(view.resources.as_deref());
        dump::config_dump(&view.status, in_force, &self.source.namespace, &view.names)
    }

    fn routes(&self) -> Value {
        self.policy().map(|policy| policy.load().routes()).map_or_else(|| json!([]), |rows| json!(rows))
    }

    fn endpoints(&self) -> Value {
        self.policy().map(|policy| policy.load().endpoints()).map_or_else(|| json!([]), |rows| json!(rows))
    }

    fn explain(&self, question: &Question) -> Result<Value, String> {
        let target = Target::parse(question).map_err(|error| format!("{}: {error}", question.url))?;
        let view = self.view.borrow();
        let (Some(policy), Some(resources)) = (&view.policy, &view.resources) else {
            return Err("there is no policy yet: the configuration has not been usable so far".to_owned());
        };
        let table = policy.load();
        let known = Known { table: &table, resources, problems: &view.status.warnings, material: Material::Loaded };
        serde_json::to_value(explain(&target, known)).map_err(|error| error.to_string())
    }

    fn dns(&self, name: Option<&str>) -> Result<Value, String> {
        let account = match name {
            Some(name) => serde_json::to_value(self.dns.account_of(name)?),
            None => serde_json::to_value(self.dns.account()),
        };
        account.map_err(|error| error.to_string())
    }

    fn certs(&self) -> Value {
        let now = jiff::Timestamp::now().as_second();
        let rows: Vec<_> = self.view.borrow().credentials.iter().map(|credential| credential.row(now)).collect();
        serde_json::to_value(rows).unwrap_or_default()
    }

    fn connections(&self) -> Value {
        let per_worker: Vec<_> =
            self.workers.borrow().iter().map(|(worker, _)| worker.open.load(Ordering::Relaxed)).collect();
        let workers = self.workers.borrow();
        let each = || workers.iter().map(|(_, counters)| &counters.http2);
        let shown = each().enumerate().flat_map(|(worker, http2)| http2.shown(worker, MOST_SHOWN));
        json!({
            "open": per_worker.iter().sum::<usize>(),
            "by_worker": per_worker,
            "http2_connections": each().map(|http2| http2.count()).sum::<usize>(),
            "http2": shown.collect::<Vec<_>>(),
        })
    }

    fn set_log_level(&self, level: &str) -> Result<(), String> {
        logging::set_level(level)
    }

    fn drain(&self) {
        self.draining.set(true);
        self.order(Order::Drain);
    }

    fn quit(&self) {
        self.quitting.set(true);
        self.asked.notify_one();
    }

    #[cfg(debug_assertions)]
    fn panic(&self, worker: bool) {
        use crate::worker::Panicking;
        self.order(Order::Panic(if worker { Panicking::Worker } else { Panicking::Connection }));
    }
}
