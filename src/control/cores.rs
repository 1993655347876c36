//! How many workers? As many as the cgroup lets run at once, rounded up, and never more than there are CPUs.

use std::fs;
use std::path::Path;

use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;

const CGROUP: &str = "/sys/fs/cgroup";
const MILLI: u64 = 1000;

/// The default number of workers.
#[must_use]
pub fn available() -> usize {
    let cpus = allowed_cpus();
    limit_milli().map_or(cpus, |limit| usize::try_from(limit.div_ceil(MILLI)).unwrap_or(cpus).clamp(1, cpus))
}

/// The cgroup's CPU limit in thousandths of a CPU; `None` without one.
#[must_use]
pub fn limit_milli() -> Option<u64> {
    quota(Path::new(CGROUP))
}

/// The CPUs that this process may be scheduled on.
#[must_use]
pub fn allowed_cpus() -> usize {
    let Ok(set) = sched_getaffinity(Pid::from_raw(0)) else { return 1 };
    (0..CpuSet::count()).filter(|cpu| set.is_set(*cpu).unwrap_or(false)).count().max(1)
}

/// cgroup v2 first, then v1.
fn quota(root: &Path) -> Option<u64> {
    let read = |name: &str| fs::read_to_string(root.join(name)).ok();
    if let Some(v2) = read("cpu.max") {
        let (limit, period) = v2.trim().split_once(' ')?;
        return milli_cpus(limit, period);
    }
    milli_cpus(read("cpu/cpu.cfs_quota_us")?.trim(), read("cpu/cpu.cfs_period_us")?.trim())
}

/// `max` and `-1` mean no limit.
fn milli_cpus(limit: &str, period: &str) -> Option<u64> {
    let (limit, period): (u64, u64) = (limit.parse().ok()?, period.parse().ok()?);
    limit.checked_mul(MILLI).map(|limit| limit.div_ceil(period.max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_from_either_version() {
        let v2 = tempfile::tempdir().unwrap();
        for (text, cpus) in
            [("max 100000\n", None), ("150000 100000\n", Some(1500)), ("50000 100000", Some(500)), ("x", None)]
        {
            fs::write(v2.path().join("cpu.max"), text).unwrap();
            assert_eq!(quota(v2.path()), cpus, "{text:?}");
        }
        let v1 = tempfile::tempdir().unwrap();
        fs::create_dir(v1.path().join("cpu")).unwrap();
        fs::write(v1.path().join("cpu/cpu.cfs_period_us"), "100000\n").unwrap();
        for (text, cpus) in [("-1\n", None), ("210000\n", Some(2100))] {
            fs::write(v1.path().join("cpu/cpu.cfs_quota_us"), text).unwrap();
            assert_eq!(quota(v1.path()), cpus, "{text:?}");
        }
        assert_eq!(quota(Path::new("/nonexistent")), None);
    }
}
