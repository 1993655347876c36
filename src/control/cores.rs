//! How many workers? As many as the cgroup lets run at once, rounded up, and never more than there are CPUs.

use std::fs;
use std::path::{Path, PathBuf};

use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;

use super::cgroup::{CgroupVersion, OwnCgroups};

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
    smallest(&OwnCgroups::of_process())
}

/// The CPUs that this process may be scheduled on.
#[must_use]
pub fn allowed_cpus() -> usize {
    let Ok(set) = sched_getaffinity(Pid::from_raw(0)) else { return 1 };
    (0..CpuSet::count()).filter(|cpu| set.is_set(*cpu).unwrap_or(false)).count().max(1)
}

/// A limit of a folder above holds for all below it.
fn smallest(cgroups: &OwnCgroups) -> Option<u64> {
    let quota = |(version, folder): (CgroupVersion, PathBuf)| quota(version, &folder);
    cgroups.folders("cpu").into_iter().filter_map(quota).min()
}

fn quota(version: CgroupVersion, folder: &Path) -> Option<u64> {
    let read = |name: &str| fs::read_to_string(folder.join(name)).ok();
    match version {
        CgroupVersion::V2 => {
            let text = read("cpu.max")?;
            let (limit, period) = text.trim().split_once(' ')?;
            milli_cpus(limit, period)
        }
        CgroupVersion::V1 => milli_cpus(read("cpu.cfs_quota_us")?.trim(), read("cpu.cfs_period_us")?.trim()),
    }
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
        let root = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let file = root.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        };
        let limit = |listing| smallest(&OwnCgroups::at(root.path(), listing));
        assert_eq!(limit("0::/\n"), None);
        for (text, cpus) in
            [("max 100000\n", None), ("150000 100000\n", Some(1500)), ("50000 100000", Some(500)), ("x", None)]
        {
            write("cpu.max", text);
            assert_eq!(limit("0::/\n"), cpus, "{text:?}");
        }
        // The node's root has no limit, the unit's own has.
        write("system.slice/egret.service/cpu.max", "25000 100000\n");
        assert_eq!(limit("0::/system.slice/egret.service\n"), Some(250));
        write("system.slice/cpu.max", "10000 100000\n");
        assert_eq!(limit("0::/system.slice/egret.service\n"), Some(100));
        for (text, cpus) in [("-1\n", None), ("210000\n", Some(2100))] {
            write("cpu/pod/cpu.cfs_quota_us", text);
            write("cpu/pod/cpu.cfs_period_us", "100000\n");
            assert_eq!(limit("3:cpu,cpuacct:/pod\n"), cpus, "{text:?}");
        }
    }
}
