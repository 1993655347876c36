//! What a worker lends to each of its connections. Owned by one thread; nothing here is locked.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::AccessLogFormat;
use crate::flow::Hostname;
use crate::io;
use crate::observe::{AccessRecord, Counter, LogBuffer, LogFormat, LogSink, Traffic, WorkerCounters};
use crate::policy::publish::Published;
use crate::policy::{Flow, PolicyTable, Transport, Verdict};
use crate::proxy::drain::Drain;
use crate::proxy::guard::{Guard, Refusal};
use crate::proxy::held::WORKER_ROOM;
use crate::proxy::names::Names;
use crate::proxy::opaque::End;
use crate::tls::{self, TlsError};
use crate::upstream::{Carrier, ConnectError, Stream, StreamError, Target, Upstreams};

/// Lines are handed to the writer at most this often, unless many wait; the first after a pause at once.
const LOG_INTERVAL: Duration = Duration::from_millis(20);
/// How often idle upstream connections are looked over while there are any.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// A worker is quiet when it has had few completions for so long: longer than idle connections take to be swept.
const QUIET_AFTER: Duration = Duration::from_millis(1500);
const FEW_COMPLETIONS: u64 = 64;
/// What must have happened for giving memory back to be worth its while.
const MANY_COMPLETIONS: u64 = 1024;

/// One worker's share of everything.
pub struct Context {
    pub policy: Published<PolicyTable>,
    pub guard: Guard,
    pub upstreams: Upstreams,
    pub counters: Arc<WorkerCounters>,
    pub drain: Drain,
    pub names: Names,
    /// Bytes of requests' bodies that may still be held for another try.
    pub body_room: Cell<usize>,
    traffic: Traffic,
    log: RefCell<LogBuffer>,
    sink: LogSink,
    log_flushed: Cell<Instant>,
    flush_pending: Cell<bool>,
    random_state: Cell<u64>,
    sweep_pending: Cell<bool>,
    /// A task waits for the end of what this worker is busy with.
    is_busy: Cell<bool>,
    /// The engine's completions when memory was last given back.
    released_at: Cell<u64>,
    /// The table as this worker's requests share it: the count of the process's pointer is a cache line that all workers
    /// would write for each request.
    #[allow(clippy::redundant_allocation, reason = "the outer count is the worker's own")]
    table: RefCell<Rc<Arc<PolicyTable>>>,
}

impl Context {
    #[must_use]
    pub fn new(
        policy: Published<PolicyTable>,
        guard: Guard,
        counters: Arc<WorkerCounters>,
        sink: LogSink,
        names: Names,
        seed: u64,
    ) -> Self {
        let table = RefCell::new(Rc::new(policy.load_full()));
        Self {
            table,
            policy,
            guard,
            upstreams: Upstreams::new(seed),
            counters,
            drain: Drain::default(),
            names,
            body_room: Cell::new(WORKER_ROOM),
            traffic: Traffic::default(),
            log: RefCell::default(),
            sink,
            log_flushed: Cell::new(io::now()),
            flush_pending: Cell::new(false),
            // Never zero, from which xorshift does not come away.
            random_state: Cell::new(seed | 1),
            sweep_pending: Cell::new(false),
            is_busy: Cell::new(false),
            released_at: Cell::new(0),
        }
    }

    /// The table of this moment, for holding across a wait.
    #[allow(clippy::redundant_allocation, reason = "the outer count is the worker's own")]
    pub fn table(&self) -> Rc<Arc<PolicyTable>> {
        let now = self.policy.load();
        let mut table = self.table.borrow_mut();
        if !Arc::ptr_eq(&now, &table) {
            *table = Rc::new(Arc::clone(&now));
        }
        Rc::clone(&table)
    }

    /// A number that is as good as any other; for shares of requests, not for secrets.
    pub fn random(&self) -> u64 {
        let mut state = self.random_state.get();
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        self.random_state.set(state);
        state >> 11
    }

    /// Something is to be done: when it is over, what was needed for it is given back.
    pub fn note_busy(self: &Rc<Self>) {
        if !self.is_busy.replace(true) {
            let context = Rc::clone(self);
            io::spawn(async move { context.release_when_quiet().await });
        }
    }

    async fn release_when_quiet(&self) {
        let completions = || io::stats().completions;
        let mut before = completions();
        loop {
            io::sleep(QUIET_AFTER).await;
            let now = completions();
            let is_quiet = now.saturating_sub(before) < FEW_COMPLETIONS;
            before = now;
            if is_quiet {
                break;
            }
        }
        self.is_busy.set(false);
        // What the first requests needed, above all the code of handshakes, is needed seldom afterwards.
        let is_first = self.released_at.get() == 0;
        if is_first || before.saturating_sub(self.released_at.get()) >= MANY_COMPLETIONS {
            self.released_at.set(before);
            io::release_spares();
            io::release_heap();
            io::release_program();
        }
    }

    /// Counts what the record tells, and writes its access-log line unless the log is off.
    pub fn log(self: &Rc<Self>, record: &AccessRecord<'_>, format: AccessLogFormat) {
        self.traffic.count(record, &self.counters.traffic);
        let format = match format {
            AccessLogFormat::Text => LogFormat::Text,
            AccessLogFormat::Json => LogFormat::Json,
            AccessLogFormat::Off => return,
        };
        let is_full = {
            let mut log = self.log.borrow_mut();
            log.push(record, format);
            log.is_full()
        };
        if is_full || self.flush_due() <= io::now() {
            self.flush_log();
        } else if !self.flush_pending.replace(true) {
            let context = Rc::clone(self);
            io::spawn(async move { context.flush_while_needed().await });
        }
    }

    fn flush_due(&self) -> Instant {
        self.log_flushed.get() + LOG_INTERVAL
    }

    /// Under load this goes on and on, so that no task is made for each interval.
    async fn flush_while_needed(&self) {
        while !self.log.borrow().is_empty() {
            let due = self.flush_due();
            io::sleep_until(due).await;
            // A full buffer may have been handed over meanwhile.
            if self.flush_due() == due {
                self.flush_log();
                io::sleep(LOG_INTERVAL).await;
            }
        }
        self.flush_pending.set(false);
    }

    /// Hands what has been logged to the writer.
    pub fn flush_log(&self) {
        self.log_flushed.set(io::now());
        let mut log = self.log.borrow_mut();
        log.hand_over(&self.sink);
        self.counters.log_lines_dropped.set(log.dropped());
    }

    /// Tells of a flow that AUDIT policies are about.
    pub fn audit(&self, verdict: &Verdict<'_>, flow: &Flow<'_>) {
        for policy in verdict.audits(flow) {
            self.counters.audited.increment();
            let sni = flow.server_name().map(Hostname::as_str);
            let destination = flow.destination;
            if let Some(request) = flow.request() {
                let (method, target) = (request.method.escape_ascii(), request.target.escape_ascii());
                tracing::info!(policy, %destination, host = %request.host, %method, %target, "audited request");
            } else {
                tracing::info!(policy, %destination, sni, "audited connection");
            }
        }
    }

    /// Takes back an upstream connection that may carry another request.
    pub fn keep(self: &Rc<Self>, carrier: Carrier<'_>, target: &Target<'_>, keeps_for: Option<Duration>) {
        self.upstreams.give_back(carrier, target, keeps_for);
        if !self.sweep_pending.replace(true) {
            let context = Rc::clone(self);
            io::spawn(async move { context.sweep_while_needed().await });
        }
    }

    async fn sweep_while_needed(&self) {
        while self.upstreams.idle_connections() > 0 {
            io::sleep(SWEEP_INTERVAL).await;
            self.upstreams.sweep();
        }
        self.sweep_pending.set(false);
    }

    /// Counts the beginning of a connection that is not read; its end is counted with its line.
    pub fn count_opened(&self, cluster: Option<&str>) {
        self.traffic.count_opened(cluster, &self.counters.traffic);
    }

    /// Counts a connection that is closed without having been served.
    pub fn count_refusal(&self, refusal: Refusal) {
        match refusal {
            Refusal::NotRedirected => self.counters.refused_no_original_dst.increment(),
            Refusal::OwnPort => self.counters.refused_loop.increment(),
            Refusal::Loopback | Refusal::NotUnicast => self.counters.refused_address.increment(),
        }
    }

    /// Counts why no upstream connection could be had.
    pub fn count_connect_error(&self, error: &ConnectError) {
        if let ConnectError::Overflow(_) = error {
            return self.counters.upstream_overflow.increment();
        }
        self.counters.upstream_connect_failures.increment();
        match error.is_unverified() {
            Some(true) => self.counters.tls_failures_verification.increment(),
            Some(false) => self.counters.tls_failures_other.increment(),
            None => {}
        }
        if let Some(refusal) = error.refusal() {
            self.unverified(refusal).increment();
        }
    }

    /// Counts a connection whose bytes were carried until its time was over.
    pub fn count_expiry(&self, end: &End) {
        match end {
            End::Idle => self.counters.expired_idle.increment(),
            End::Duration => self.counters.expired_duration.increment(),
            End::Complete | End::Client(_) | End::Upstream(_) => {}
        }
    }

    fn unverified(&self, refusal: &tls::CertError) -> &Counter {
        use tls::CertError as R;
        match refusal {
            R::Expired { .. } | R::NotYetValid { .. } => &self.counters.unverified_validity,
            R::UntrustedIssuer { .. } | R::SelfSigned { .. } => &self.counters.unverified_issuer,
            R::WrongName { .. } | R::NoName { .. } => &self.counters.unverified_name,
            R::Revoked { .. } => &self.counters.unverified_revoked,
            R::NoCrl { .. } | R::CrlExpired { .. } | R::CrlSignature(_) => &self.counters.unverified_crl,
            R::Purpose { .. } | R::Signature | R::Algorithm | R::Constraint(_) | R::Malformed(_) => {
                &self.counters.unverified_other
            }
        }
    }

    /// Counts how TLS ended a connection that was in use: without close_notify, or with an alert. A server of TLS 1.3
    /// that refuses the client certificate says so only after the handshake (RFC 8446 §4.4.2.4).
    pub fn count_broken(&self, error: &StreamError) {
        match error {
            StreamError::Tls(TlsError::Truncated) => self.counters.tls_truncated.increment(),
            StreamError::Tls(_) => self.counters.tls_failures_established.increment(),
            StreamError::Io(_) | StreamError::SpokeFirst => {}
        }
    }

    /// Counts a new upstream connection.
    pub fn count_connect(&self, stream: &Stream) {
        self.counters.upstream_connects.increment();
        if let Some(negotiated) = stream.negotiated() {
            self.counters.tls_handshakes.increment();
            if negotiated.resumed {
                self.counters.tls_resumptions.increment();
            }
        }
    }

    /// A new table is in force: connections that no profile of it would have made are let go.
    pub fn policy_changed(&self) {
        let table = self.table();
        let profiles = table.clusters().iter().filter_map(|cluster| match &cluster.transport {
            Transport::Tls(profile) => Some(profile.digest()),
            Transport::Plaintext | Transport::Refused(_) => None,
        });
        self.upstreams.retain_profiles(&profiles.collect::<HashSet<_>>());
    }
}
