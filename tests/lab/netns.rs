//! A network namespace with its own `/etc/hosts` and `/etc/resolv.conf`, made with `ip netns`.
//!
//! Sockets belong to the namespace in which they were made, for good. So a short-lived thread enters, makes the
//! socket and ends; the test's own threads never change namespace.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;

use nix::sched::{CloneFlags, setns};

use super::process::{finish, finish_with, run};

const PREFIX: &str = "egret-lab-";

pub struct Namespace {
    name: String,
}

impl Namespace {
    pub fn new(tag: &str) -> Namespace {
        let name = format!("{PREFIX}{tag}");
        run("ip", &["netns", "add", &name]);
        let namespace = Namespace { name };
        fs::create_dir_all(namespace.etc()).expect("root may write /etc/netns");
        namespace
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    fn etc(&self) -> PathBuf {
        Path::new("/etc/netns").join(&self.name)
    }

    /// Writes `/etc/NAME` as processes in this namespace see it. In place: each of them holds a mount of this very file.
    pub fn write_etc(&self, name: &str, text: &str) {
        fs::write(self.etc().join(name), text).expect("root may write /etc/netns");
    }

    /// Runs `ip` on this namespace.
    #[track_caller]
    pub fn ip(&self, arguments: &[&str]) {
        let mut all = vec!["-n", &self.name];
        all.extend(arguments);
        run("ip", &all);
    }

    /// Runs each line of `commands` on this namespace, by one process.
    #[track_caller]
    pub fn ip_batch(&self, commands: &str) {
        let mut command = Command::new("ip");
        command.args(["-n", &self.name, "-batch", "-"]);
        finish_with(command, commands.as_bytes()).succeeded();
    }

    /// A command that will run in this namespace.
    pub fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]).args(arguments);
        command
    }

    /// Runs `body` on a thread inside this namespace.
    #[track_caller]
    pub fn enter<T: Send>(&self, body: impl FnOnce() -> T + Send) -> T {
        let path = Path::new("/run/netns").join(&self.name);
        let namespace = File::open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let inside = move || {
            setns(namespace, CloneFlags::CLONE_NEWNET).expect("root may enter a namespace");
            body()
        };
        std::thread::scope(|scope| scope.spawn(inside).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

/// Removes the namespaces of test processes that were killed before they could.
pub fn remove_left_over() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let entries = fs::read_dir("/run/netns").into_iter().flatten().flatten();
        for name in entries.filter_map(|entry| entry.file_name().into_string().ok()) {
            let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
            if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
                remove(&name);
            }
        }
    });
}

fn remove(name: &str) {
    let mut command = Command::new("ip");
    command.args(["netns", "del", name]);
    // Drop may run while a test unwinds: a second failure would hide the first.
    let _ = finish(command);
    let _ = fs::remove_dir_all(Path::new("/etc/netns").join(name));
}
