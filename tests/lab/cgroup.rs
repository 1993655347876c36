//! A memory limit as a container has one: a control group of its own, of either version, that the kernel enforces.
//!
//! Where this machine gives its tests no memory controller (a container without a writable `/sys/fs/cgroup`), the limit
//! is only shown to the proxy, and that is said loudly: the test must look at the process's memory in any case.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use super::process::finish;

static COUNT: AtomicU32 = AtomicU32::new(0);

pub struct MemoryLimit {
    bytes: u64,
    /// `None`: no controller is to be had.
    group: Option<Group>,
}

struct Group {
    folder: PathBuf,
    version: u8,
}

impl MemoryLimit {
    pub fn of(bytes: u64) -> MemoryLimit {
        let name = format!("egret-lab-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let group = Group::new(&name, bytes);
        if group.is_none() {
            eprintln!(
                "\n{0}\nNO MEMORY CONTROLLER HERE: the limit of {bytes} bytes is shown to the proxy and enforced by \
                 nobody.\nRun this test where /sys/fs/cgroup can be written.\n{0}",
                "=".repeat(80)
            );
        }
        MemoryLimit { bytes, group }
    }

    /// The command in front of the proxy's: joins the group, with `/sys/fs/cgroup` as it is outside of the pod's network
    /// namespace, whose own /sys has none.
    pub fn wrapper(&self) -> [String; 4] {
        let place = "/sys/fs/cgroup";
        let join = match &self.group {
            Some(Group { folder, version: 1 }) => format!(
                "mount -t tmpfs none {place} && mkdir {place}/memory && mount -t cgroup -o memory none {place}/memory \
                 && echo $$ >{place}/memory/{}/cgroup.procs",
                name(folder)
            ),
            Some(Group { folder, .. }) => {
                format!("mount -t cgroup2 none {place} && echo $$ >{place}/{}/cgroup.procs", name(folder))
            }
            None => format!("mount -t tmpfs none {place} && echo {} >{place}/memory.max", self.bytes),
        };
        ["sh", "-c", &format!("{join} && exec \"$@\""), "sh"].map(str::to_owned)
    }

    /// Processes that the kernel has killed in this group; 0 where nobody would.
    pub fn kills(&self) -> u64 {
        let Some(Group { folder, version }) = &self.group else { return 0 };
        let file = if *version == 1 { "memory.oom_control" } else { "memory.events" };
        let text = fs::read_to_string(folder.join(file)).expect("cgroups(7)");
        let kills = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        kills.and_then(|number| number.parse().ok()).expect("cgroups(7): how many were killed")
    }

    /// For people: how much the group used at most, and how often it met its limit.
    pub fn used(&self) -> String {
        let Some(Group { folder, version }) = &self.group else { return "not enforced".to_owned() };
        let read = |file: &str| fs::read_to_string(folder.join(file)).unwrap_or_default().replace('\n', " ");
        if *version == 1 {
            let (peak, met) = (read("memory.max_usage_in_bytes"), read("memory.failcnt"));
            return format!("at most {peak}bytes, met the limit {met}times");
        }
        format!("at most {}bytes; {}", read("memory.peak"), read("memory.events"))
    }
}

impl Group {
    fn new(name: &str, bytes: u64) -> Option<Group> {
        let mounts = fs::read_to_string("/proc/mounts").ok()?;
        let mounts: Vec<Vec<&str>> = mounts.lines().map(|line| line.split(' ').collect()).collect();
        let mounted = |kind: &str, option: &str| {
            let found = mounts.iter().find(|mount| {
                mount[2] == kind && (option.is_empty() || mount[3].split(',').any(|word| word == option))
            });
            found.map(|mount| PathBuf::from(mount[1]))
        };
        if let Some(root) = mounted("cgroup", "memory") {
            return make(root.join(name), 1, "memory.limit_in_bytes", bytes);
        }
        let root = mounted("cgroup2", "")?;
        fs::write(root.join("cgroup.subtree_control"), "+memory").ok()?;
        make(root.join(name), 2, "memory.max", bytes)
    }
}

fn make(folder: PathBuf, version: u8, file: &str, bytes: u64) -> Option<Group> {
    fs::create_dir(&folder).ok()?;
    let group = Group { folder, version };
    fs::write(group.folder.join(file), bytes.to_string()).ok()?;
    Some(group)
}

fn name(folder: &Path) -> &str {
    folder.file_name().and_then(|name| name.to_str()).expect("a name of ours")
}

impl Drop for Group {
    fn drop(&mut self) {
        // Its processes have ended, or die with the test. By a command, which is patient without sleeping here.
        let mut remove = Command::new("sh");
        remove.args(["-c", "for i in 1 2 3 4 5 6 7 8 9; do rmdir \"$1\" && break; sleep 0.1; done", "sh"]);
        let _ = finish({
            remove.arg(&self.folder);
            remove
        });
    }
}
