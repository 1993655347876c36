//! What the proxy itself needs of the host: kernel, io_uring, limits, CPUs.

use nix::sys::resource::{Resource, getrlimit};

use super::finding::Finding;
use crate::config::Settings;
use crate::control::limits::{self, Granted};
use crate::control::{RESERVED_DESCRIPTORS, cores};
use crate::io;

/// The oldest kernel that egret is made for, on epoll.
const OLDEST_KERNEL: (u32, u32) = (5, 15);
/// The oldest kernel with everything that rings need.
const OLDEST_FOR_RINGS: (u32, u32) = (6, 1);
/// Pinned pages of a worker's receive ring and of what older accounting adds; the smallest default of any runtime.
const LOCKED_BYTES: u64 = 64 * 1024;
/// Fewer descriptors than this leave nothing for connections.
const FEWEST_DESCRIPTORS: u64 = 48;
/// Open before there is any connection.
const OPEN_AT_FIRST: u64 = 20;

pub(super) fn findings() -> Vec<Finding> {
    let release = nix::sys::utsname::uname().map(|name| name.release().to_string_lossy().into_owned());
    let limit = |which| getrlimit(which).map_or(0, |(_, hard)| hard);
    vec![
        kernel(&release.unwrap_or_default()),
        sysctl(std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok().as_deref()),
        engine(io::probe()),
        locked_memory(limit(Resource::RLIMIT_MEMLOCK)),
        descriptors(limit(Resource::RLIMIT_NOFILE)),
        cpus(cores::allowed_cpus(), cores::limit_milli(), cores::available()),
    ]
}

fn kernel(release: &str) -> Finding {
    let mut numbers = release.split(['.', '-', '+']).map_while(|part| part.parse::<u32>().ok());
    let (oldest_major, oldest_minor) = OLDEST_KERNEL;
    match (numbers.next(), numbers.next()) {
        (Some(major), Some(minor)) if (major, minor) >= OLDEST_FOR_RINGS => Finding::ok("kernel", release),
        (Some(major), Some(minor)) if (major, minor) >= OLDEST_KERNEL => {
            let (major, minor) = OLDEST_FOR_RINGS;
            let message = format!("{release}: egret runs on epoll; io_uring as it needs it came with {major}.{minor}");
            Finding::warn("kernel", message)
        }
        (Some(_), Some(_)) => Finding::fail(
            "kernel",
            format!("{release} is older than {oldest_major}.{oldest_minor}; use nodes with a newer kernel"),
        ),
        _ => Finding::warn("kernel", format!("{release:?} is no version that can be read; io_uring below decides")),
    }
}

/// `kernel.io_uring_disabled` (kernel 6.6).
fn sysctl(text: Option<&str>) -> Finding {
    const CHECK: &str = "io_uring sysctl";
    match text.map(str::trim) {
        None => Finding::ok(CHECK, "kernel.io_uring_disabled is not there: nothing is forbidden"),
        Some("0") => Finding::ok(CHECK, "kernel.io_uring_disabled=0"),
        Some("1") => Finding::warn(
            CHECK,
            "kernel.io_uring_disabled=1: only a group may use io_uring; set it to 0 on the node, or give the proxy the \
             group of kernel.io_uring_group",
        ),
        Some(value) => Finding::warn(
            CHECK,
            format!(
                "kernel.io_uring_disabled={value}: nobody may use io_uring, so egret runs on epoll; for io_uring set it to \
                 0 on the node"
            ),
        ),
    }
}

fn engine(probed: Result<io::Features, io::EngineError>) -> Finding {
    match probed {
        Ok(features) => Finding::ok("io_uring", format!("works here; {features}")),
        Err(error) => Finding::warn("io_uring", format!("egret runs on epoll: {error}")),
    }
}

fn locked_memory(limit: u64) -> Finding {
    const CHECK: &str = "RLIMIT_MEMLOCK";
    if limit < LOCKED_BYTES {
        let message = format!(
            "{limit} bytes: registering buffers may fail; raise it to {LOCKED_BYTES} (ulimit -l, or the container \
             runtime's default limits)"
        );
        return Finding::warn(CHECK, message);
    }
    Finding::ok(CHECK, amount(limit, "bytes"))
}

fn descriptors(limit: u64) -> Finding {
    const CHECK: &str = "RLIMIT_NOFILE";
    let wanted = Settings::default().max_connections as u64 * 2 + RESERVED_DESCRIPTORS;
    if limit < FEWEST_DESCRIPTORS {
        return Finding::fail(CHECK, format!("{limit}: too few for any connection; raise the hard limit to {wanted}"));
    }
    if limit < wanted {
        let granted = Granted { descriptors: limit, open: OPEN_AT_FIRST, memory: None };
        let wanted_pairs = Settings::default().max_connections;
        let plan = limits::plan(granted, wanted_pairs, 1, io::EngineOptions::default());
        let pairs = plan.engine.max_connections;
        let message = format!(
            "{limit} is enough for {pairs} connections, fewer than maxConnections; raise the hard limit to {wanted} \
             (ulimit -Hn, or the container runtime's default limits)"
        );
        return Finding::warn(CHECK, message);
    }
    Finding::ok(CHECK, amount(limit, "descriptors"))
}

fn amount(limit: u64, unit: &str) -> String {
    if limit == u64::MAX { "unlimited".to_owned() } else { format!("{limit} {unit}") }
}

fn cpus(allowed: usize, limit_milli: Option<u64>, workers: usize) -> Finding {
    const CHECK: &str = "cpu";
    match limit_milli {
        Some(limit @ ..1000) => Finding::warn(
            CHECK,
            format!(
                "the CPU limit is {limit}m: once used up, every connection waits for the next period; raise it to \
                 1000m, or have a request and no limit"
            ),
        ),
        Some(limit) => Finding::ok(CHECK, format!("{allowed} CPUs, limit {limit}m: workers by default: {workers}")),
        None => Finding::ok(CHECK, format!("{allowed} CPUs, no limit: workers by default: {workers}")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict::{self, Fail, Ok, Warn};
    use super::*;

    fn check(finding: &Finding, verdict: Verdict, says: &str) {
        assert_eq!(finding.verdict, verdict, "{finding:?}");
        assert!(finding.message.contains(says), "{finding:?}");
    }

    #[test]
    fn each_state_has_its_verdict_and_its_remedy() {
        check(&kernel("6.1.0-18-amd64"), Ok, "6.1.0");
        check(&kernel("7.0"), Ok, "7.0");
        check(&kernel("5.10.0"), Fail, "newer kernel");
        check(&kernel("5.15.0"), Warn, "epoll");
        check(&kernel("6.0.19"), Warn, "6.1");
        check(&kernel("weird"), Warn, "io_uring below");
        check(&sysctl(None), Ok, "nothing is forbidden");
        check(&sysctl(Some("0\n")), Ok, "=0");
        check(&sysctl(Some("1\n")), Warn, "kernel.io_uring_group");
        check(&sysctl(Some("2\n")), Warn, "set it to 0");
        check(&engine(Err(io::EngineError::Memory { step: "x" })), Warn, "RLIMIT_MEMLOCK");
        check(&locked_memory(0), Warn, "ulimit -l");
        check(&locked_memory(u64::MAX), Ok, "unlimited");
        check(&descriptors(32), Fail, "raise the hard limit");
        check(&descriptors(64), Warn, "13 connections");
        check(&descriptors(1024), Warn, "435 connections");
        check(&descriptors(1 << 20), Ok, "1048576 descriptors");
        check(&cpus(8, None, 8), Ok, "default: 8");
        check(&cpus(8, Some(1500), 2), Ok, "1500m: workers by default: 2");
        check(&cpus(8, Some(100), 1), Warn, "raise it to 1000m");
    }
}
