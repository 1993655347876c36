//! Child processes: run to the end, or kept and ended with their owner.
//!
//! Only children that a test itself started are ever signalled, by their process id. A kept child also dies with the
//! thread that started it (`--pdeathsig`), so a test that is killed leaves nothing running.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};

use super::eventually;

/// Panics with what to do unless this test may make namespaces and every tool is there.
#[track_caller]
pub fn require_root_and_tools() {
    assert!(geteuid().is_root(), "this test makes network namespaces and needs root: run `make test`");
    let folders = std::env::var("PATH").unwrap_or_default();
    let found = |tool: &str| folders.split(':').any(|folder| Path::new(folder).join(tool).exists());
    for tool in ["ip", "nft", "setpriv", "curl", "openssl", "nginx", "apache2", "tcpdump"] {
        assert!(found(tool), "{tool} is not installed: run `make setup`");
    }
}

/// What a command said and how it ended.
#[derive(Debug)]
pub struct Finished {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Finished {
    /// `None` when a signal ended it.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    #[track_caller]
    pub fn succeeded(self) -> Self {
        assert!(self.status.success(), "a command failed ({}):\n{}{}", self.status, self.stdout, self.stderr);
        self
    }
}

/// Runs a command to its end.
#[track_caller]
pub fn finish(command: Command) -> Finished {
    finish_with(command, b"")
}

/// Runs a command to its end, with `input` to read; no more than a pipe holds.
#[track_caller]
pub fn finish_with(mut command: Command, input: &[u8]) -> Finished {
    command.stdin(if input.is_empty() { Stdio::null() } else { Stdio::piped() });
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.unwrap_or_else(|error| panic!("{command:?} cannot be started: {error}"));
    if let Some(mut pipe) = child.stdin.take() {
        // A command that has ended already says why.
        let _ = pipe.write_all(input);
    }
    let output = child.wait_with_output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    Finished {
        status: output.status,
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Runs a command that must succeed.
#[track_caller]
pub fn run(program: &str, arguments: &[&str]) -> String {
    let mut command = Command::new(program);
    command.args(arguments);
    finish(command).succeeded().stdout
}

/// A child whose output goes to two files; it is terminated when this is dropped.
pub struct Kept {
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Kept {
    /// Starts `command`, whose program must end up as the child itself (`ip netns exec` and `setpriv` both exec).
    #[track_caller]
    pub fn start(mut command: Command, folder: &Path, name: &str) -> Kept {
        let stdout = folder.join(format!("{name}.out"));
        let stderr = folder.join(format!("{name}.err"));
        let create = |path: &Path| File::create(path).expect("the lab's folder is writable");
        command.stdin(Stdio::null()).stdout(create(&stdout)).stderr(create(&stderr));
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?} cannot be started: {error}"));
        Kept { child, stdout, stderr }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.stdout).unwrap_or_default()).into_owned()
    }

    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.stderr).unwrap_or_default()).into_owned()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child of ours")
    }

    pub fn signal(&self, signal: Signal) {
        // An error means that it has already ended.
        let _ = kill(Pid::from_raw(self.pid().cast_signed()), signal);
    }

    /// SIGTERM and up to five seconds' patience, for whoever takes children of its own with it. Does not fail: what drops
    /// a server calls it too, while a failed test unwinds.
    pub fn end_with_children(&mut self) {
        self.signal(Signal::SIGTERM);
        for _ in 0..500 {
            if self.ended().is_some() {
                return;
            }
            std::thread::park_timeout(std::time::Duration::from_millis(10));
        }
    }

    /// Sends the signal and waits for the end.
    #[track_caller]
    pub fn stop(&mut self, signal: Signal) -> ExitStatus {
        self.signal(signal);
        let mut status = None;
        eventually("the process ends after a signal", || {
            status = self.ended();
            status.is_some()
        });
        status.expect("waited for")
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            // Without patience: Drop also runs while a failed test unwinds.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
