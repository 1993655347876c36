//! What the proxy itself needs of the host: kernel, io_uring, limits, CPUs.

use nix::sys::resource::{Resource, getrlimit};

use super::finding::Finding;
use crate::config::Settings;
use crate::control::limits::{self, Granted};
use crate::control::{RESERVED_DESCRIPTORS, cores};
use crate::io;

/// The oldest kernel that egret was seen to work on, on epoll.
const OLDEST_KERNEL: (u32, u32) = (5, 10);
/// The oldest that it is made for.
const OLDEST_SUPPORTED: (u32, u32) = (5, 15);
/// The oldest kernel with everything that rings need.
const OLDEST_FOR_RINGS: (u32, u32) = (6, 1);
/// Kernels that count the pages of rings as locked memory, of all processes of a user together: from the first to below the
/// second. Seen on 6.16 to 6.18, and neither on 6.12 nor on 7.2.
const RINGS_ARE_COUNTED: [(u32, u32); 2] = [(6, 14), (7, 2)];
/// Who the proxy is where `egret inject` puts it.
const PROXY_UID: u32 = 1337;
/// As many as the pods that a node has by default.
const SIDECARS: u64 = 110;
/// Fewer descriptors than this leave nothing for connections.
const FEWEST_DESCRIPTORS: u64 = 48;
/// Open before there is any connection.
const OPEN_AT_FIRST: u64 = 20;

pub(super) fn findings() -> Vec<Finding> {
    let release = nix::sys::utsname::uname().map(|name| name.release().to_string_lossy().into_owned());
    let release = release.unwrap_or_default();
    let limit = |which| getrlimit(which).map_or(0, |(_, hard)| hard);
    let probed = io::probe();
    let uid = nix::unistd::geteuid().as_raw();
    vec![
        kernel(&release),
        sysctl(std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok().as_deref(), probed.is_ok()),
        engine(probed),
        locked_memory(Locked {
            limit: limit(Resource::RLIMIT_MEMLOCK),
            workers: cores::available() as u64,
            is_counted: counts_rings(&release),
            uid: if uid == 0 { PROXY_UID } else { uid },
        }),
        descriptors(limit(Resource::RLIMIT_NOFILE)),
        cpus(cores::allowed_cpus(), cores::limit_milli(), cores::available()),
    ]
}

/// Major and minor.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(['.', '-', '+']).map_while(|part| part.parse::<u32>().ok());
    Some((numbers.next()?, numbers.next()?))
}

fn kernel(release: &str) -> Finding {
    const CHECK: &str = "kernel";
    let (major, minor) = OLDEST_FOR_RINGS;
    let (oldest_major, oldest_minor) = OLDEST_SUPPORTED;
    match version(release) {
        Some(found) if found >= OLDEST_FOR_RINGS => Finding::ok(CHECK, release),
        Some(found) if found >= OLDEST_SUPPORTED => Finding::warn(
            CHECK,
            format!("{release}: egret runs on epoll; io_uring as it needs it came with {major}.{minor}"),
        ),
        Some(found) if found >= OLDEST_KERNEL => Finding::warn(
            CHECK,
            format!(
                "{release} is older than {oldest_major}.{oldest_minor}, which egret is made for; it runs on epoll; use nodes \
                 with a newer kernel"
            ),
        ),
        Some(_) => Finding::fail(
            CHECK,
            format!("{release} is older than {oldest_major}.{oldest_minor}; use nodes with a newer kernel"),
        ),
        None => Finding::warn(CHECK, format!("{release:?} is no version that can be read; io_uring below decides")),
    }
}

fn counts_rings(release: &str) -> bool {
    let [from, until] = RINGS_ARE_COUNTED;
    version(release).is_some_and(|found| found >= from && found < until)
}

/// `kernel.io_uring_disabled` (kernel 6.6). `works`: this process may use io_uring.
fn sysctl(text: Option<&str>, works: bool) -> Finding {
    const CHECK: &str = "io_uring sysctl";
    match text.map(str::trim) {
        None => Finding::ok(CHECK, "kernel.io_uring_disabled is not there: nothing is forbidden"),
        Some("0") => Finding::ok(CHECK, "kernel.io_uring_disabled=0"),
        Some("1") if works => Finding::ok(
            CHECK,
            "kernel.io_uring_disabled=1, and this process may use io_uring: it has the group of kernel.io_uring_group, or \
             CAP_SYS_ADMIN, which the proxy will not have",
        ),
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

/// What rings may lock.
#[derive(Clone, Copy)]
struct Locked {
    /// Bytes.
    limit: u64,
    workers: u64,
    /// The kernel counts rings.
    is_counted: bool,
    /// Whose account it is.
    uid: u32,
}

fn locked_memory(Locked { limit, workers, is_counted, uid }: Locked) -> Finding {
    const CHECK: &str = "RLIMIT_MEMLOCK";
    const REMEDY: &str = "(ulimit -l, or the container runtime's default limits)";
    let each = io::EngineOptions::default().locked_bytes();
    let needed = workers * each;
    let rings = format!("the rings of {workers} workers lock {needed} bytes ({each} each)");
    if limit < needed {
        let message = format!(
            "{limit} bytes, and where the kernel counts them (6.14 to 6.18 do) {rings}: they become smaller, or egret runs \
             on epoll; raise it to {} {REMEDY}",
            needed * if is_counted { SIDECARS } else { 1 }
        );
        return Finding::warn(CHECK, message);
    }
    if limit == u64::MAX || !is_counted {
        return Finding::ok(CHECK, amount(limit, "bytes"));
    }
    let sidecars = limit / needed;
    let message = format!(
        "{limit} bytes for all processes of uid {uid} on this node together, and {rings}: enough for {sidecars} such sidecars"
    );
    if sidecars >= SIDECARS {
        return Finding::ok(CHECK, message);
    }
    let raised = needed * SIDECARS;
    Finding::warn(
        CHECK,
        format!(
            "{message}; the next have smaller rings, and then run on epoll; for {SIDECARS} raise it to {raised} {REMEDY}, or \
             give pods uids of their own (`egret init --proxy-uid`)"
        ),
    )
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
        check(&kernel("5.10.0"), Warn, "it runs on epoll");
        check(&kernel("5.4.0"), Fail, "newer kernel");
        check(&kernel("5.15.0"), Warn, "epoll");
        check(&kernel("6.0.19"), Warn, "6.1");
        check(&kernel("weird"), Warn, "io_uring below");
        check(&sysctl(None, false), Ok, "nothing is forbidden");
        check(&sysctl(Some("0\n"), true), Ok, "=0");
        check(&sysctl(Some("1\n"), false), Warn, "kernel.io_uring_group");
        check(&sysctl(Some("1\n"), true), Ok, "has the group");
        check(&sysctl(Some("2\n"), false), Warn, "set it to 0");
        check(&engine(Err(io::EngineError::Memory { step: "x" })), Warn, "RLIMIT_MEMLOCK");
        let locked = |limit, workers, is_counted| locked_memory(Locked { limit, workers, is_counted, uid: PROXY_UID });
        check(&locked(0, 2, false), Warn, "ulimit -l");
        check(&locked(0, 2, true), Warn, "the rings of 2 workers lock 114688 bytes");
        check(&locked(u64::MAX, 2, true), Ok, "unlimited");
        check(&locked(8 << 20, 2, false), Ok, "8388608 bytes");
        check(&locked(8 << 20, 2, true), Warn, "uid 1337 on this node together");
        check(&locked(8 << 20, 2, true), Warn, "enough for 73 such sidecars");
        check(&locked(16 << 20, 2, true), Ok, "enough for 146 such sidecars");
        let counted = ["6.12.0", "6.14.1", "6.18.44-cloud", "7.1.0", "7.2.0"].map(counts_rings);
        assert_eq!(counted, [false, true, true, true, false]);
        check(&descriptors(32), Fail, "raise the hard limit");
        check(&descriptors(64), Warn, "13 connections");
        check(&descriptors(1024), Warn, "435 connections");
        check(&descriptors(1 << 20), Ok, "1048576 descriptors");
        check(&cpus(8, None, 8), Ok, "default: 8");
        check(&cpus(8, Some(1500), 2), Ok, "1500m: workers by default: 2");
        check(&cpus(8, Some(100), 1), Warn, "raise it to 1000m");
    }
}
