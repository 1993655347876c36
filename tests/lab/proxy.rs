//! egret itself in the pod: `egret init` as root, `egret run` as uid 1337, and what can be read of the process.

use std::cell::Cell;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
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
        self.launch_egret(flags).wait()
    }

    /// [`start_egret`](Self::start_egret), run by the command `wrapper`, with `EGRET_ENGINE` as given.
    #[track_caller]
    pub fn start_egret_behind(&self, wrapper: &[&str], engine: &str, flags: &[&str]) -> Egret<'_> {
        self.launch(wrapper, &[], engine, flags).wait()
    }

    /// Starts the proxy with `NAME=value` variables that the programs before it do not see.
    #[track_caller]
    pub fn start_egret_with(&self, variables: &[&str], engine: &str, flags: &[&str]) -> Egret<'_> {
        self.launch(&[], variables, engine, flags).wait()
    }

    /// Starts the proxy alone, ready or not.
    #[track_caller]
    pub fn launch_egret(&self, flags: &[&str]) -> Egret<'_> {
        let engine = Engine::of_this_run();
        self.launch(engine.wrapper(), &[], engine.choice(), flags)
    }

    #[track_caller]
    fn launch(&self, wrapper: &[&str], variables: &[&str], engine: &str, flags: &[&str]) -> Egret<'_> {
        let config = self.config_dir();
        let binary = self.binary();
        let mut arguments = wrapper.to_vec();
        arguments.push("setpriv");
        arguments.extend(PROXY);
        arguments.push("env");
        arguments.extend(variables);
        arguments.extend([utf8(&binary), "run", "--config", utf8(&config)]);
        arguments.extend(flags);
        let mut command = self.pod.command("env", &arguments);
        command.env("EGRET_ENGINE", engine);
        Egret { process: Kept::start(command, self.dir(), "egret"), lab: self }
    }

    /// Runs one of egret's commands in the pod as root, to its end.
    pub fn egret_command(&self, arguments: &[&str]) -> Finished {
        let binary = self.binary();
        finish(self.pod.command(utf8(&binary), arguments))
    }

    /// A place where the proxy's user may execute it; the build's own folder is often private. A second name of the same
    /// file where that can be, so that all labs' processes share its pages.
    fn binary(&self) -> PathBuf {
        let copy = self.dir().join("egret");
        if !copy.exists() {
            let built = std::env::var("EGRET_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_egret").to_owned());
            let for_all = fs::metadata(&built).is_ok_and(|built| built.permissions().mode() & 0o005 == 0o005);
            if !for_all || fs::hard_link(&built, &copy).is_err() {
                // Not by this process: a child that another test makes meanwhile would hold the file open for writing, and
                // what is open for writing cannot be executed.
                super::process::run("install", &["-m", "755", &built, utf8(&copy)]);
            }
        }
        copy
    }
}

thread_local! {
    static ON_EPOLL: Cell<bool> = const { Cell::new(false) };
}

/// Runs a test whose proxies are on epoll, where the run itself leaves the choice to them.
pub fn on_epoll(test: impl FnOnce()) {
    ON_EPOLL.set(true);
    test();
    ON_EPOLL.set(false);
}

/// Which engine every proxy of this run of the tests has, by the variable `EGRET_TEST_ENGINE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// Unset: what the proxy chooses.
    Auto,
    Uring,
    Epoll,
    /// `denied`: what the proxy chooses where io_uring is forbidden as the default profiles of runtimes forbid it.
    Denied,
}

impl Engine {
    pub fn of_this_run() -> Engine {
        match std::env::var("EGRET_TEST_ENGINE").as_deref() {
            Err(_) | Ok("" | "auto") if ON_EPOLL.get() => Engine::Epoll,
            Err(_) | Ok("" | "auto") => Engine::Auto,
            Ok("uring") => Engine::Uring,
            Ok("epoll") => Engine::Epoll,
            Ok("denied") => Engine::Denied,
            Ok(other) => panic!("EGRET_TEST_ENGINE={other}: write auto, uring, epoll or denied"),
        }
    }

    fn choice(self) -> &'static str {
        match self {
            Engine::Auto | Engine::Denied => "auto",
            Engine::Uring => "uring",
            Engine::Epoll => "epoll",
        }
    }

    /// The command that runs the proxy's.
    fn wrapper(self) -> &'static [&'static str] {
        if self == Engine::Denied { &WITHOUT_IO_URING } else { &[] }
    }
}

/// Runs the command that follows it with io_uring forbidden.
pub const WITHOUT_IO_URING: [&str; 2] =
    ["/usr/bin/python3", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lab/without_io_uring.py")];

/// Memory of the process in KiB, from `/proc/PID/status`.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    pub resident_kib: u64,
    pub peak_kib: u64,
    /// Of `resident_kib`, the pages of files: mostly the program, which an unoptimised build makes large.
    pub kib_of_files: u64,
}

impl Egret<'_> {
    #[track_caller]
    fn wait(mut self) -> Self {
        eventually("egret is ready", || {
            assert!(self.process.ended().is_none(), "egret ended: {}", self.stderr());
            self.get(15021, "/healthz/ready").is_some_and(|(status, _)| status == 200)
        });
        self
    }

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

    /// The access log so far, where its format is JSON.
    pub fn json_log(&self) -> Vec<serde_json::Value> {
        let text = self.process.stdout();
        let whole = text.rsplit_once('\n').map_or("", |(lines, _)| lines);
        whole.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
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

    /// One sample, by its name and labels as they are written.
    pub fn sample(&self, series: &str) -> Option<f64> {
        let (_, text) = self.get(15090, "/stats/prometheus")?;
        text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
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
        Memory { resident_kib: kib("VmRSS:"), peak_kib: kib("VmHWM:"), kib_of_files: kib("RssFile:") }
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
