//! What a worker lends to each of its connections. Owned by one thread; nothing here is locked.
//!
//! It only holds what they share, each in a type of its own.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use crate::observe::{LogSink, WorkerCounters};
use crate::policy::PolicyTable;
use crate::policy::publish::Published;
use crate::proxy::access_log::AccessLog;
use crate::proxy::counters::Counters;
use crate::proxy::drain::Drain;
use crate::proxy::guard::Guard;
use crate::proxy::held::WORKER_ROOM;
use crate::proxy::memory_release::MemoryRelease;
use crate::proxy::names::Names;
use crate::proxy::random::Random;
use crate::proxy::table_cache::TableCache;
use crate::upstream::Upstreams;

/// One worker's share of everything.
pub struct Context {
    pub policy: TableCache,
    pub guard: Guard,
    pub upstreams: Rc<Upstreams>,
    pub counters: Counters,
    pub access_log: Rc<AccessLog>,
    pub drain: Drain,
    pub names: Names,
    pub random: Random,
    pub memory: Rc<MemoryRelease>,
    /// Bytes of requests' bodies that may still be held for another try.
    pub body_room: Cell<usize>,
    /// Copies of requests under way.
    pub mirrors: Cell<usize>,
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
        Self {
            policy: TableCache::new(policy),
            guard,
            upstreams: Rc::new(Upstreams::new(seed, Arc::clone(&counters.http2))),
            access_log: Rc::new(AccessLog::new(sink, Arc::clone(&counters))),
            counters: Counters::new(counters),
            drain: Drain::default(),
            names,
            random: Random::new(seed),
            memory: Rc::default(),
            body_room: Cell::new(WORKER_ROOM),
            mirrors: Cell::default(),
        }
    }
}
