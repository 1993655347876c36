//! The process itself in the names that every Prometheus client has for it. Read from `/proc/self` at each scrape; what
//! cannot be read is left out.

use std::fs;

use crate::observe::Exposition;

/// Bytes of memory, descriptors, CPU time.
pub(super) fn render(out: &mut Exposition) {
    out.family("egret_build_info", "gauge", "The version that runs.");
    out.sample("egret_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    if let Some(bytes) = resident_bytes() {
        out.family("process_resident_memory_bytes", "gauge", "Resident memory.");
        out.sample("process_resident_memory_bytes", &[], bytes);
    }
    if let Ok(entries) = fs::read_dir("/proc/self/fd") {
        out.family("process_open_fds", "gauge", "Open file descriptors.");
        // One of them reads the folder.
        out.sample("process_open_fds", &[], entries.count().saturating_sub(1));
    }
    if let Ok((soft, _)) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE) {
        out.family("process_max_fds", "gauge", "Most file descriptors that may be open.");
        out.sample("process_max_fds", &[], soft);
    }
    if let Ok(usage) = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF) {
        let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
        out.family("process_cpu_seconds_total", "counter", "CPU time of all threads, user and system.");
        out.sample("process_cpu_seconds_total", &[], seconds(usage.user_time()) + seconds(usage.system_time()));
    }
}

/// Of `/proc/self/status`, which gives it in KiB.
fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib * 1024)
}
