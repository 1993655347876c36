//! What hosts and applications do to a proxy: no descriptor for the upstream, scans of every port, a worker that is
//! stuck, a clock that jumps, limits from tiny to huge. On both engines.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use crate::lab;
use crate::lab::client::HttpClient;
use crate::lab::documents::origination;
use crate::lab::nginx::{self, Nginx};
use crate::lab::pki::Leaf;
use crate::lab::process::{Kept, finish, run};
use crate::lab::proxy::Egret;
use crate::lab::{Family, Lab, eventually};
use nix::sys::resource::{Resource, getrlimit};

const HOST: &str = "site.example";
const ENGINES: [&str; 2] = ["uring", "epoll"];

fn at(number: u8, port: u16) -> SocketAddr {
    SocketAddr::new(Lab::address(Family::V4, number), port)
}

/// A site behind TLS origination that ends every connection after its answer, so that each request needs a new one.
fn lab(leaf: Leaf) -> (Lab, Nginx) {
    let lab = Lab::new();
    lab.names.set(HOST, &[at(1, 443).ip()]);
    lab.configure("site.yaml", &origination(HOST, Some(&lab.ca_file())));
    let pair = lab.authority.issue(HOST, leaf).write(lab.dir(), HOST);
    let answer = r#"keepalive_timeout 0; location / { return 200 "ok"; }"#;
    let nginx = Nginx::start(&lab, &nginx::secure(at(1, 443), &pair, "TLSv1.2 TLSv1.3", answer), at(1, 443));
    lab.egret_command(&["init"]).succeeded();
    (lab, nginx)
}

/// Status and body of a request on a new connection.
fn ask(lab: &Lab) -> io::Result<(u16, String)> {
    let stream = lab.connect(at(1, 80))?;
    let response = HttpClient::new(stream).get(HOST, "/")?;
    Ok((response.head.status, String::from_utf8_lossy(&response.body).into_owned()))
}

#[track_caller]
fn serves(lab: &Lab) {
    eventually("an ordinary request is served", || ask(lab).is_ok_and(|(status, _)| status == 200));
}

/// Lowers the limit of descriptors so that only `free` more can be opened.
fn leave_descriptors(egret: &Egret<'_>, free: usize) {
    let folder = format!("/proc/{}/fd", egret.pid());
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let used: BTreeSet<usize> = names.map(|name| name.to_str().unwrap().parse().unwrap()).collect();
    let limit = (0..=1 << 20).find(|limit| limit - used.range(..limit).count() == free).unwrap();
    limit_descriptors(egret, &limit.to_string());
}

fn limit_descriptors(egret: &Egret<'_>, soft: &str) {
    // As the proxy's user: others may need a capability for it that root in a container lacks.
    let user = ["--reuid=1337", "--regid=1337", "--clear-groups", "--", "prlimit"];
    run("setpriv", &[&user[..], &["--pid", &egret.pid().to_string(), &format!("--nofile={soft}:")]].concat());
}

#[test]
fn without_a_descriptor_for_the_upstream_a_request_is_answered_and_the_next_one_served() {
    let (lab, _nginx) = lab(Leaf::Good);
    for engine in ENGINES {
        let mut egret = lab.start_egret_behind(&[], engine, &["--workers", "1"]);
        serves(&lab);
        let failures = egret.metric("egret_upstream_connect_failures_total").unwrap();
        // Accepted connections have one, the upstream's socket none.
        leave_descriptors(&egret, 1);
        let mut refused = 0;
        eventually("requests are answered with the reason", || {
            match ask(&lab) {
                Ok((503, body)) if body.contains("Too many open") => refused += 1,
                // A descriptor of the last request was still open when they were counted.
                Ok((200, _)) => leave_descriptors(&egret, 1),
                _ => {}
            }
            refused == 20
        });
        limit_descriptors(&egret, "4096");
        serves(&lab);
        let counted = egret.metric("egret_upstream_connect_failures_total").unwrap() - failures;
        assert!(counted >= 20.0, "{engine}: {counted}");
        egret.log_line(&["503 URX,UF", "Too_many_open_files"]);
        egret.kill();
    }
}

#[test]
fn from_64_to_a_million_descriptors() {
    let (lab, _nginx) = lab(Leaf::Good);
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let may_raise = finish({
        let mut raise = std::process::Command::new("prlimit");
        raise.args(["--nofile=1048576:1048576", "true"]);
        raise
    });
    let most = if may_raise.status.success() { 1_048_576 } else { most };
    println!("up to {most} descriptors, which is what this machine allows");
    for engine in ENGINES {
        for limit in [64, 256, 1024, most] {
            let limits = format!("--nofile={limit}:{limit}");
            let mut egret = lab.start_egret_behind(&["prlimit", &limits], engine, &[]);
            serves(&lab);
            let said = egret.stderr().contains(&format!("RLIMIT_NOFILE {limit} allows"));
            assert!(said || limit > 1024, "{engine}, {limit}: {}", egret.stderr());
            let (granted, resident) = (egret.metric("process_max_fds"), egret.memory().resident_kib);
            assert_eq!(granted, Some(limit as f64));
            println!("{engine}: {limit} descriptors, {resident} KiB");
            egret.kill();
        }
    }
}

/// A connection that carries nothing, ended in one of the ways there are.
fn knock(to: SocketAddr, number: usize) {
    let Ok(stream) = TcpStream::connect_timeout(&to, lab::PATIENCE) else { return };
    match number % 8 {
        0 => drop(stream),
        // A FIN, and the other side's: both close at once.
        1 => stream.shutdown(Shutdown::Both).unwrap_or_default(),
        2 => stream.shutdown(Shutdown::Write).unwrap_or_default(),
        // As scanners do it, and without leaving the kernel with a hundred thousand connections that wait to be forgotten.
        _ => drop(socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))),
    }
}

#[test]
fn a_hundred_thousand_empty_connections_leave_nothing() {
    const SCANNERS: usize = 4;
    const EACH: usize = 100_000 / ENGINES.len() / SCANNERS;
    let (lab, _nginx) = lab(Leaf::Good);
    for engine in ENGINES {
        let mut egret = lab.start_egret_behind(&[], engine, &[]);
        serves(&lab);
        let (descriptors, memory) = (egret.descriptors(), egret.memory());
        std::thread::scope(|scope| {
            for scanner in 0..SCANNERS {
                let lab = &lab;
                scope.spawn(move || {
                    lab.pod.enter(|| {
                        for number in 0..EACH {
                            // Ports with a policy, and every other one in turn.
                            let port = [80, 443, 1 + (number % 10_000) as u16][number % 3];
                            knock(at(1 + scanner as u8, port), number);
                        }
                    });
                });
            }
        });
        serves(&lab);
        eventually("no connection is open", || egret.metric("egret_connections_active") == Some(0.0));
        eventually("every descriptor is back", || egret.descriptors() <= descriptors + 8);
        let after = egret.memory();
        println!("{engine}: {} empty connections, {memory:?} to {after:?}", EACH * SCANNERS);
        assert!(after.resident_kib < memory.resident_kib + 32 * 1024, "{engine}: {memory:?} to {after:?}");
        egret.kill();
    }
}

/// The thread of that name.
fn thread(egret: &Egret<'_>, name: &str) -> String {
    let tasks = fs::read_dir(format!("/proc/{}/task", egret.pid())).unwrap();
    let mut tasks = tasks.map(|task| task.unwrap().path());
    let is_called = |task: &Path| fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim() == name);
    let task = tasks.find(|task| is_called(task)).unwrap_or_else(|| panic!("no thread {name}"));
    task.file_name().unwrap().to_str().unwrap().to_owned()
}

#[test]
fn a_stuck_worker_is_noticed_and_the_others_serve() {
    let (lab, _nginx) = lab(Leaf::Good);
    for engine in ENGINES {
        let mut egret = lab.start_egret_behind(&[], engine, &["--workers", "2"]);
        serves(&lab);
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lab/stop_thread.py");
        let mut hold = std::process::Command::new("/usr/bin/python3");
        hold.args([script, &thread(&egret, "worker-1")]);
        let mut hold = Kept::start(hold, lab.dir(), "hold");
        eventually("the worker is stopped", || hold.stdout().contains("stopped"));
        // The kernel deals connections out without asking who serves them.
        let mut clients: Vec<HttpClient> = (0..40)
            .map(|_| {
                let mut client = HttpClient::new(lab.connect(at(1, 80)).unwrap());
                client.stream().set_read_timeout(Some(Duration::from_millis(300))).unwrap();
                client.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n").as_bytes()).unwrap();
                client
            })
            .collect();
        let (served, waiting): (Vec<_>, Vec<_>) =
            clients.iter_mut().map(|client| client.response().is_ok()).partition(|served| *served);
        assert!(!served.is_empty() && !waiting.is_empty(), "{engine}: {} of 40 served", served.len());
        eventually("the silence is noticed", || egret.metric("egret_workers_silent") == Some(1.0));
        assert!(egret.stderr().contains("workers do not answer"), "{}", egret.stderr());
        assert_eq!(egret.get(15021, "/healthz/ready").map(|(status, _)| status), Some(200));
        hold.end_with_children();
        eventually("it answers again", || egret.metric("egret_workers_silent") == Some(0.0));
        serves(&lab);
        egret.kill();
    }
}

#[test]
fn a_clock_that_jumps_moves_no_timer_and_certificates_are_judged_anew() {
    let shim = format!("LD_PRELOAD=/usr/lib/{}-linux-gnu/faketime/libfaketimeMT.so.1", std::env::consts::ARCH);
    let path = shim.split_once('=').unwrap().1;
    assert!(Path::new(path).exists(), "{path} is not installed: run `make setup`");
    let (lab, _nginx) = lab(Leaf::Seasonal);
    lab.configure(
        "settings.yaml",
        "apiVersion: egret/v1\nkind: Settings\nspec: {idleTimeout: 10m, drainDuration: 1m}\n",
    );
    let file = format!("FAKETIME_TIMESTAMP_FILE={}", lab::utf8(&lab.dir().join("clock")));
    for engine in ENGINES {
        lab.write("clock", "+0");
        let variables = [&*shim, &file, "FAKETIME_NO_CACHE=1", "DONT_FAKE_MONOTONIC=1"];
        let mut egret = lab.start_egret_with(&variables, engine, &[]);
        serves(&lab);
        let mut idle = HttpClient::new(lab.connect(at(1, 80)).unwrap());
        assert_eq!(idle.get(HOST, "/").unwrap().head.status, 200);
        for (clock, says) in [("+400d", Some("expired")), ("-1h", None), ("+0", Some("ok"))] {
            lab.write("clock", clock);
            let mut last = None;
            eventually(&format!("at {clock} a request is answered: {says:?}"), || {
                let found = ask(&lab);
                let as_wanted = found.as_ref().is_ok_and(|(_, body)| says.is_none_or(|says| body.contains(says)));
                last = Some(found);
                assert!(egret.is_running(), "{engine}, {clock}: {last:?}");
                as_wanted
            });
            // Ten minutes of idleness have not passed.
            let status = idle.get(HOST, "/").unwrap_or_else(|error| panic!("{engine}, {clock}: {error}")).head.status;
            // An hour back the certificate is not valid yet, but a session that began when it was may be resumed.
            assert!(says.is_none() || (status == 200) == (clock == "+0"), "{engine}, {clock}: {status}");
            assert_eq!(egret.get(15021, "/healthz/ready").map(|(status, _)| status), Some(200));
        }
        egret.kill();
    }
}

/// Since kernel 6.14 the pages of rings count as locked memory, of all processes of a user together. So this one is a user
/// of its own.
#[test]
fn locked_memory_for_the_trial_ring_but_not_for_all_workers_means_epoll() {
    const USER: &str = "1338";
    const FELL_BACK: &str = "a worker's ring, after a trial that went well";
    let (lab, _nginx) = lab(Leaf::Good);
    lab.egret_command(&["init", "--proxy-uid", USER, "--proxy-gid", USER]).succeeded();
    let (config, binary) = (lab.config_dir(), lab.dir().join("egret"));
    let (uid, gid) = (format!("--reuid={USER}"), format!("--regid={USER}"));
    let mut seen = BTreeSet::new();
    for kibibytes in [0, 16, 32, 48, 64, 96, 128, 160, 192, 256, 512, 8192] {
        let limit = format!("--memlock={0}:{0}", kibibytes << 10);
        let command = ["prlimit", &limit, "setpriv", &uid, &gid, "--clear-groups", "--pdeathsig=KILL", "--"];
        let run = [lab::utf8(&binary), "run", "--workers", "4", "--config", lab::utf8(&config)];
        let command = lab.pod.command("env", &[&command[..], &run[..]].concat());
        let mut egret = Kept::start(command, lab.dir(), "locked");
        eventually("it serves, on whatever it has found", || {
            assert!(egret.ended().is_none(), "{kibibytes} KiB: {}", egret.stderr());
            ask(&lab).is_ok_and(|(status, _)| status == 200)
        });
        let said = egret.stderr();
        let epoll = said.contains("egret runs on epoll") || said.contains("engine=\"epoll\"");
        seen.insert(if said.contains(FELL_BACK) {
            "fell back"
        } else if epoll {
            "epoll"
        } else {
            "uring"
        });
        println!("{kibibytes} KiB: {seen:?}");
        egret.stop(nix::sys::signal::Signal::SIGKILL);
    }
    assert!(seen.contains("uring"), "{seen:?}");
    // An older kernel counts nothing, and everything fits.
    assert!(seen.len() == 1 || seen.contains("fell back"), "{seen:?}");
}
