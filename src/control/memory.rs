//! How much memory this process may use, and how much it does.
//!
//! The limit is the smallest of its cgroup and those above it, version 2 or 1. What is used is what cannot be dropped:
//! resident pages, and where the cgroup tells it, socket buffers.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const CGROUP: &str = "/sys/fs/cgroup";

/// Above this share of the limit nothing is accepted; below the second it goes on.
const HIGH_PERCENT: u64 = 90;
const LOW_PERCENT: u64 = 80;

/// The limit in bytes; `None` without one.
pub fn limit() -> Option<u64> {
    limit_below(Path::new(CGROUP), &fs::read_to_string("/proc/self/cgroup").unwrap_or_default())
}

fn limit_below(root: &Path, own: &str) -> Option<u64> {
    let places = own.lines().filter_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        let path = path.trim_start_matches('/');
        if controllers.is_empty() {
            Some((root.to_path_buf(), path, "memory.max"))
        } else {
            controllers
                .split(',')
                .any(|name| name == "memory")
                .then(|| (root.join("memory"), path, "memory.limit_in_bytes"))
        }
    });
    // A cgroup namespace or a mount may hide where it hangs: then the root is the container's own.
    let of_place = |(mount, path, file): (PathBuf, &str, &str)| {
        let folders: Vec<PathBuf> = Path::new(path).ancestors().map(|part| mount.join(part)).collect();
        folders.into_iter().filter_map(|folder| bytes(&folder.join(file))).min()
    };
    places.filter_map(of_place).min()
}

/// `max`, and version 1's number near 2⁶³, mean no limit.
fn bytes(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok().filter(|limit| *limit < 1 << 60)
}

/// Looks at memory in use. The process's own file is opened once, for it is read twice a second.
pub struct Gauge {
    limit: u64,
    resident: File,
    page: u64,
    high: bool,
}

impl Gauge {
    /// `None` without a limit, or without a way to know.
    pub fn new() -> Option<Self> {
        let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok()??;
        Some(Self { limit: limit()?, resident: File::open("/proc/self/statm").ok()?, page: page as u64, high: false })
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
        Some(pages * self.page + sockets().unwrap_or(0))
    }
}

/// Socket buffers of the container, version 2.
fn sockets() -> Option<u64> {
    let text = fs::read_to_string(Path::new(CGROUP).join("memory.stat")).ok()?;
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
        let limit = |own: &str| limit_below(root.path(), own);
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
}
