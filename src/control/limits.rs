//! What the descriptors and the memory that this process may use allow, and what is reduced so that it fits: the proxy
//! accepts what it can carry and leaves the rest in the kernel's backlog.
//!
//! Pure figures; who reads the limits and who says what was reduced is the caller.

use crate::control::dns::MAX_IN_FLIGHT;
use crate::io::EngineOptions;

/// Descriptors of each worker besides connections: ring or epoll, wake-up, two listeners, one to spare.
const OF_A_WORKER: u64 = 5;

/// Below this a container is small: buffers shrink.
const SMALL_MEMORY: u64 = 128 << 20;
/// From this on memory says nothing about how many connections there may be.
const AMPLE_MEMORY: u64 = 512 << 20;
/// What the process needs without any connection: code, tables, certificates.
const BASE_MEMORY: u64 = 12 << 20;
/// An application's connection and its upstream with slow readers at both ends, in user space and in the kernel.
const OF_A_CONNECTION: u64 = 96 << 10;

/// Of the descriptors one in so many may be a query to a name server.
const OF_QUERIES: u64 = 16;

/// What the host grants.
#[derive(Clone, Copy, Debug)]
pub struct Granted {
    /// The hard limit of descriptors, and how many are open already.
    pub descriptors: u64,
    pub open: u64,
    /// Bytes, where the cgroup has a limit.
    pub memory: Option<u64>,
}

/// What to start with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub workers: usize,
    /// For each worker.
    pub engine: EngineOptions,
    /// What was reduced, and what to raise, for people.
    pub reduced: Vec<String>,
}

/// How many DNS queries may wait for a name server at once, each on a socket of its own.
pub fn dns_queries(descriptors: u64) -> usize {
    usize::try_from(descriptors / OF_QUERIES).unwrap_or(MAX_IN_FLIGHT).clamp(1, MAX_IN_FLIGHT)
}

/// Fits `connections` (of the process) and `workers` into what is granted.
pub fn plan(granted: Granted, connections: usize, workers: usize, engine: EngineOptions) -> Plan {
    let mut reduced = Vec::new();
    let workers = fewer_workers(granted, workers, &mut reduced);
    let descriptors = free_descriptors(granted, workers);
    let mut allowed = connections;
    let pairs = usize::try_from(descriptors / 2).unwrap_or(usize::MAX).max(1);
    if pairs < allowed {
        let wanted = connections as u64 * 2 + (granted.descriptors - descriptors);
        reduced.push(format!(
            "RLIMIT_NOFILE {} allows {pairs} connections at once, not {connections} (maxConnections); raise it to {wanted}",
            granted.descriptors
        ));
        allowed = pairs;
    }
    let mut engine = engine;
    if let Some(memory) = granted.memory.filter(|memory| *memory < AMPLE_MEMORY) {
        let fit = usize::try_from(memory.saturating_sub(BASE_MEMORY) / OF_A_CONNECTION).unwrap_or(usize::MAX).max(1);
        if fit < allowed {
            reduced.push(format!(
                "the memory limit of {} MiB allows {fit} connections at once, not {allowed}; raise it to {} MiB",
                memory >> 20,
                (BASE_MEMORY + allowed as u64 * OF_A_CONNECTION).div_ceil(1 << 20).min(AMPLE_MEMORY >> 20)
            ));
            allowed = fit;
        }
        // Of a connection's share no more may wait for a slow reader than the high-water mark.
        engine.send_ahead = 0;
        if memory < SMALL_MEMORY {
            engine = small(&engine, workers);
            reduced.push(format!("the memory limit of {} MiB makes buffers small", memory >> 20));
        }
    }
    let each = |all: usize| (all / workers).max(1);
    let upstream = usize::try_from(descriptors).unwrap_or(usize::MAX).saturating_sub(allowed);
    engine.max_upstream_connections = each(upstream).min(engine.max_upstream_connections).max(each(allowed));
    engine.max_connections = each(allowed);
    Plan { workers, engine, reduced }
}

/// One worker where descriptors are few: each needs some for itself.
fn fewer_workers(granted: Granted, workers: usize, reduced: &mut Vec<String>) -> usize {
    let most = usize::try_from(granted.descriptors.saturating_sub(granted.open) / (4 * OF_A_WORKER)).unwrap_or(workers);
    if workers <= most.max(1) {
        return workers;
    }
    reduced.push(format!("RLIMIT_NOFILE {} is enough for {} workers, not {workers}", granted.descriptors, most.max(1)));
    most.max(1)
}

/// What is left for connections. Some are kept for files that are read again and for operators who ask.
fn free_descriptors(granted: Granted, workers: usize) -> u64 {
    let spare = (granted.descriptors / 8).clamp(8, 64) + dns_queries(granted.descriptors) as u64;
    granted.descriptors.saturating_sub(granted.open + workers as u64 * OF_A_WORKER + spare)
}

/// Buffers of a small container: a TLS record each way, and little in the kernel.
fn small(engine: &EngineOptions, workers: usize) -> EngineOptions {
    EngineOptions {
        recv_buffers: 64,
        recv_high_water: engine.recv_buffer_bytes as usize,
        recv_blocks: 8 / workers.clamp(1, 8),
        send_high_water: 16 * 1024,
        socket_buffer: Some(32 * 1024),
        ..engine.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(descriptors: u64, memory: Option<u64>) -> Plan {
        plan(Granted { descriptors, open: 20, memory }, 10_000, 2, EngineOptions::default())
    }

    #[test]
    fn what_fits() {
        for (descriptors, memory_mib, workers, connections, reductions) in [
            (1 << 20, None, 2, 10_000, 0),
            (1 << 20, Some(1024), 2, 10_000, 0),
            (1024, None, 2, 866 / 2, 1),
            (64, None, 2, 22 / 2, 1),
            (48, None, 1, 12 / 2, 2),
            (16, None, 1, 1, 2),
            (1 << 20, Some(256), 2, 2602, 1),
            (1 << 20, Some(32), 2, 213, 2),
            (1 << 20, Some(8), 2, 1, 2),
        ] {
            let plan = of(descriptors, memory_mib.map(|mib: u64| mib << 20));
            let each = (connections / workers).max(1);
            assert_eq!((plan.workers, plan.engine.max_connections), (workers, each), "{plan:?}");
            assert_eq!(plan.reduced.len(), reductions, "{plan:?}");
            assert!(plan.engine.max_upstream_connections >= each, "{plan:?}");
        }
    }

    #[test]
    fn a_small_container_holds_every_slow_reader() {
        let Plan { workers, engine, .. } = of(1 << 20, Some(32 << 20));
        let queued =
            engine.max_connections * workers * (engine.recv_high_water + engine.send_high_water.max(engine.send_ahead));
        let shared = workers * usize::from(engine.recv_buffers) * engine.recv_buffer_bytes as usize;
        assert!(queued + shared < 12 << 20, "{} KiB", (queued + shared) >> 10);
    }
}
