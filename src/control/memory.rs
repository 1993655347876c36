//! How much memory this process may use, and how much it does.
//!
//! The limit is the smallest of its cgroup and those above it, version 2 or 1. What is used is what cannot be dropped:
//! resident pages, and where the cgroup tells it, socket buffers.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::cgroup::{CgroupVersion, OwnCgroups};

/// Above this share of the limit nothing is accepted; below the second it goes on.
const HIGH_PERCENT: u64 = 90;
const LOW_PERCENT: u64 = 80;

/// The limit in bytes; `None` without one.
pub fn limit() -> Option<u64> {
    smallest(&OwnCgroups::of_process())
}

fn smallest(cgroups: &OwnCgroups) -> Option<u64> {
    let limit = |(version, folder): (CgroupVersion, PathBuf)| match version {
        CgroupVersion::V2 => bytes(&folder.join("memory.max")),
        CgroupVersion::V1 => bytes(&folder.join("memory.limit_in_bytes")),
    };
    cgroups.folders("memory").into_iter().filter_map(limit).min()
}

/// `max`, and version 1's number near 2⁶³, mean no limit.
fn bytes(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok().filter(|limit| *limit < 1 << 60)
}

/// Looks at memory in use. The process's own file is opened once, for it is read twice a second.
pub struct Gauge {
    limit: u64,
    resident: File,
    /// `memory.stat` of the own cgroup.
    statistics: PathBuf,
    page: u64,
    high: bool,
}

impl Gauge {
    /// `None` without a limit, or without a way to know.
    pub fn new() -> Option<Self> {
        let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok()??;
        let resident = File::open("/proc/self/statm").ok()?;
        let statistics = OwnCgroups::of_process().own().join("memory.stat");
        Some(Self { limit: limit()?, resident, statistics, page: page as u64, high: false })
    }

    /// Is memory short? It stays so until a good part is free again.
    pub fn is_short(&mut self) -> bool {
        let used = self.used().unwrap_or(0);
        self.high = used * 100 > self.limit * if self.high { LOW_PERCENT } else { HIGH_PERCENT };
        self.high
    }

    /// Bytes; proc(5): the second figure of `statm` is resident pages.
    fn used(&self) -> Option<u64> {
        let mut text = [0; 128];
        let length = self.resident.read_at(&mut text, 0).ok()?;
        let pages: u64 = std::str::from_utf8(&text[..length]).ok()?.split(' ').nth(1)?.parse().ok()?;
        Some(pages * self.page + sockets(&self.statistics).unwrap_or(0))
    }
}

/// Socket buffers of the process's own cgroup, version 2: those of others are not its memory.
fn sockets(statistics: &Path) -> Option<u64> {
    let text = fs::read_to_string(statistics).ok()?;
    text.lines().find_map(|line| line.strip_prefix("sock "))?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_limit_above_counts() {
        let root = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let file = root.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        };
        let limit = |own: &str| smallest(&OwnCgroups::at(root.path(), own));
        assert_eq!(limit("0::/\n"), None);
        write("memory.max", "max\n");
        assert_eq!(limit("0::/\n"), None);
        write("pod/memory.max", "1000\n");
        write("pod/egret/memory.max", "max\n");
        assert_eq!(limit("0::/pod/egret\n"), Some(1000));
        write("memory/x/memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(limit("4:memory:/x\n0::/\n"), None);
        write("memory/x/memory.limit_in_bytes", "33554432\n");
        assert_eq!(limit("4:cpu,memory:/x\n0::/\n"), Some(33_554_432));
        write("memory.max", "500\n");
        assert_eq!(limit("0::/hidden/by/a/namespace\n"), Some(500));
    }

    #[test]
    fn sockets_of_neighbours_are_not_its_memory() {
        let root = tempfile::tempdir().unwrap();
        let own = root.path().join("system.slice/egret.service");
        fs::create_dir_all(&own).unwrap();
        fs::write(root.path().join("memory.stat"), "anon 1\nsock 9000\n").unwrap();
        fs::write(own.join("memory.stat"), "anon 1\nsock 70\nshmem 0\n").unwrap();
        let of = |listing| sockets(&OwnCgroups::at(root.path(), listing).own().join("memory.stat"));
        assert_eq!(of("0::/system.slice/egret.service\n"), Some(70));
        assert_eq!(of("0::/\n"), Some(9000));
        // Without the controller nobody knows; what stands above is everybody's.
        assert_eq!(of("0::/system.slice\n"), None);
    }
}
