//! egret itself in the pod: `egret init` as root, `egret run` as uid 1337, and what can be read of the process.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::Signal;

use super::client::HttpClient;
use super::process::{Finished, Kept, finish};
use super::{Lab, eventually, utf8};

/// The proxy's user, as `egret init` exempts it from redirection.
const PROXY: [&str; 5] = ["--reuid=1337", "--regid=1337", "--clear-groups", "--pdeathsig=KILL", "--"];

pub struct Egret<'l> {
    process: Kept,
    lab: &'l Lab,
}

impl Lab {
    /// Redirects the pod's traffic, starts the proxy on the lab's configuration and waits until it says it is ready.
    #[track_caller]
    pub fn egret(&self, flags: &[&str]) -> Egret<'_> {
        self.egret_command(&["init"]).succeeded();
        self.start_egret(flags)
    }

    /// Starts the proxy alone, and waits until it says it is ready.
    #[track_caller]
    pub fn start_egret(&self, flags: &[&str]) -> Egret<'_> {
        let mut egret = self.launch_egret(flags);
        eventually("egret is ready", || {
            assert!(egret.process.ended().is_none(), "egret ended: {}", egret.stderr());
            egret.get(15021, "/healthz/ready").is_some_and(|(status, _)| status == 200)
        });
        egret
    }

    /// Starts the proxy alone, ready or not.
    #[track_caller]
    pub fn launch_egret(&self, flags: &[&str]) -> Egret<'_> {
        let config = self.config_dir();
        let binary = self.binary();
        let mut arguments = PROXY.to_vec();
        arguments.extend([utf8(&binary), "run", "--config", utf8(&config)]);
        arguments.extend(flags);
        let process = Kept::start(self.pod.command("setpriv", &arguments), self.dir(), "egret");
        Egret { process, lab: self }
    }

    /// Runs one of egret's commands in the pod as root, to its end.
    pub fn egret_command(&self, arguments: &[&str]) -> Finished {
        let binary = self.binary();
        finish(self.pod.command(utf8(&binary), arguments))
    }

    /// A copy that the proxy's user may execute; the build's own folder is often private.
    fn binary(&self) -> PathBuf {
        let copy = self.dir().join("egret");
        if !copy.exists() {
            let built = std::env::var("EGRET_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_egret").to_owned());
            fs::copy(&built, &copy).unwrap_or_else(|error| panic!("{built}: {error}"));
            super::process::run("chmod", &["755", utf8(&copy)]);
        }
        copy
    }
}

/// Memory of the process in KiB, from `/proc/PID/status`.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    pub resident_kib: u64,
    pub peak_kib: u64,
}

impl Egret<'_> {
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    pub fn stderr(&self) -> String {
        self.process.stderr()
    }

    /// The access log so far.
    pub fn access_log(&self) -> Vec<String> {
        let text = self.process.stdout();
        let whole = text.rsplit_once('\n').map_or("", |(lines, _)| lines);
        whole.lines().filter(|line| line.starts_with('[')).map(str::to_owned).collect()
    }

    /// Waits for an access-log line that contains every one of `parts`, and returns it.
    #[track_caller]
    pub fn log_line(&self, parts: &[&str]) -> String {
        let mut found = None;
        let start = std::time::Instant::now();
        while found.is_none() {
            let log = self.access_log();
            found = log.iter().find(|line| parts.iter().all(|part| line.contains(part))).cloned();
            let late = start.elapsed() > super::PATIENCE;
            assert!(found.is_some() || !late, "no access-log line with {parts:?} in {log:#?}\n{}", self.stderr());
            std::thread::park_timeout(std::time::Duration::from_millis(20));
        }
        found.expect("the loop ended")
    }

    /// Status and body of a request to one of the process's own ports; `None` when nothing answers there.
    pub fn get(&self, port: u16, path: &str) -> Option<(u16, String)> {
        let at = SocketAddr::from(([127, 0, 0, 1], port));
        let mut client = HttpClient::new(self.lab.connect(at).ok()?);
        client.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes()).ok()?;
        let response = client.response().ok()?;
        Some((response.head.status, String::from_utf8_lossy(&response.body).into_owned()))
    }

    /// The sum of every sample of a metric, whatever its labels; `None` when there is none.
    pub fn metric(&self, name: &str) -> Option<f64> {
        let (_, text) = self.get(15090, "/stats/prometheus")?;
        let samples = text.lines().filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            (series.split('{').next() == Some(name)).then(|| value.parse::<f64>().ok())?
        });
        samples.fold(None, |sum, value| Some(sum.unwrap_or(0.0) + value))
    }

    pub fn descriptors(&self) -> usize {
        self.proc("fd").read_dir().expect("egret runs").count()
    }

    pub fn memory(&self) -> Memory {
        let status = fs::read_to_string(self.proc("status")).expect("egret runs");
        let kib = |field: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("proc(5)");
            line.trim().trim_end_matches(" kB").parse().expect("proc(5): a number of kB")
        };
        Memory { resident_kib: kib("VmRSS:"), peak_kib: kib("VmHWM:") }
    }

    /// CPU time of all threads so far in nanoseconds, by `/proc/PID/task/*/schedstat`.
    pub fn cpu_ns(&self) -> u64 {
        let tasks = self.proc("task").read_dir().expect("egret runs");
        let of_task = |task: fs::DirEntry| {
            let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
            text.split(' ').next()?.parse::<u64>().ok()
        };
        tasks.flatten().filter_map(of_task).sum()
    }

    fn proc(&self, name: &str) -> PathBuf {
        Path::new("/proc").join(self.pid().to_string()).join(name)
    }

    /// Ends the process as the kernel does when memory runs out.
    pub fn kill(&mut self) {
        self.process.stop(Signal::SIGKILL);
    }

    /// Sends a signal and does not wait for what comes of it.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.process.ended().is_none()
    }
}

/// A command that is not egret's, run in the pod as the proxy's user.
pub fn as_proxy(lab: &Lab, program: &str, arguments: &[&str]) -> Command {
    let mut all = PROXY.to_vec();
    all.push(program);
    all.extend(arguments);
    lab.pod.command("setpriv", &all)
}
