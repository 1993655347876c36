//! Where this process's cgroup lies, version 2 or 1, by `/proc/self/cgroup` (cgroups(7)).
//!
//! In a container of its own namespace it is the root of the mount. A systemd unit, or a container in the host's namespace,
//! has it below: the files at the root are everybody's there.

use std::fs;
use std::path::{Component, Path, PathBuf};

const MOUNT: &str = "/sys/fs/cgroup";

/// The cgroups of this process.
pub(super) struct OwnCgroups {
    mount: PathBuf,
    listing: String,
}

/// Which version keeps the files, and so how they are named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CgroupVersion {
    V1,
    V2,
}

impl OwnCgroups {
    /// Of the running process.
    pub(super) fn of_process() -> Self {
        Self { mount: MOUNT.into(), listing: fs::read_to_string("/proc/self/cgroup").unwrap_or_default() }
    }

    /// With the mount at another place, and what `/proc/self/cgroup` says.
    #[cfg(test)]
    pub(super) fn at(mount: &Path, listing: &str) -> Self {
        Self { mount: mount.into(), listing: listing.into() }
    }

    /// The folders that may limit `controller`: the process's own first, and those above it.
    pub(super) fn folders(&self, controller: &str) -> Vec<(CgroupVersion, PathBuf)> {
        let places = self.listing.lines().filter_map(|line| self.place(line, controller));
        let above = |(version, mount, path): (CgroupVersion, PathBuf, PathBuf)| {
            let folders: Vec<_> = path.ancestors().map(|part| (version, mount.join(part))).collect();
            folders
        };
        places.flat_map(above).collect()
    }

    /// The process's own folder of version 2.
    pub(super) fn own(&self) -> PathBuf {
        let place =
            self.listing.lines().find_map(|line| self.place(line, "").filter(|(v, ..)| *v == CgroupVersion::V2));
        let own = place.map(|(_, mount, path)| mount.join(path));
        // A namespace or a mount may hide where it hangs: then the root is the container's own.
        own.filter(|folder| folder.is_dir()).unwrap_or_else(|| self.mount.clone())
    }

    /// A line is `NUMBER:CONTROLLERS:PATH`; version 2 has no controllers.
    fn place(&self, line: &str, controller: &str) -> Option<(CgroupVersion, PathBuf, PathBuf)> {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        let path = Path::new(path.trim_start_matches('/'));
        // Outside of the namespace's root, which the mount does not show.
        let is_hidden = path.components().any(|part| part == Component::ParentDir);
        let path = if is_hidden { PathBuf::new() } else { path.to_path_buf() };
        if controllers.is_empty() {
            return Some((CgroupVersion::V2, self.mount.clone(), path));
        }
        let is_its = controllers.split(',').any(|name| name == controller);
        is_its.then(|| (CgroupVersion::V1, self.mount.join(controller), path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_folder_is_the_one_that_the_kernel_names() {
        let mount = tempfile::tempdir().unwrap();
        fs::create_dir_all(mount.path().join("system.slice/egret.service")).unwrap();
        for (listing, own) in [
            ("0::/\n", ""),
            ("0::/system.slice/egret.service\n", "system.slice/egret.service"),
            ("4:memory:/x\n0::/system.slice\n", "system.slice"),
            ("0::/hidden/by/a/namespace\n", ""),
            ("0::/../../system.slice\n", ""),
            ("", ""),
        ] {
            assert_eq!(OwnCgroups::at(mount.path(), listing).own(), mount.path().join(own), "{listing:?}");
        }
    }

    #[test]
    fn folders_above_count_too() {
        let own = OwnCgroups::at(Path::new("/m"), "4:cpu,cpuacct:/a/b\n0::/c\n");
        let folders: Vec<_> = own.folders("cpu").into_iter().map(|(_, folder)| folder).collect();
        assert_eq!(folders, ["/m/cpu/a/b", "/m/cpu/a", "/m/cpu/", "/m/c", "/m/"].map(PathBuf::from));
        let folders: Vec<_> = own.folders("memory").into_iter().map(|(_, folder)| folder).collect();
        assert_eq!(folders, ["/m/c", "/m/"].map(PathBuf::from));
    }
}
