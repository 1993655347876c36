//! What the running proxy has given up, as the kernel sees it, on both engines; and that it says so. What the confined
//! process cannot do any more is tried from inside by the tests of `src/confine/`.

use std::fs;
use std::net::SocketAddr;

use crate::lab;
use crate::lab::documents::origination;
use crate::lab::nginx::{self, Nginx};
use crate::lab::pki::Leaf;
use crate::lab::proxy::Egret;
use crate::lab::{Family, Lab, eventually};

const HOST: &str = "confined.example";

fn at() -> SocketAddr {
    SocketAddr::new(Lab::address(Family::V4, 1), 443)
}

fn lab() -> (Lab, Nginx) {
    let lab = Lab::new();
    lab.names.set(HOST, &[at().ip()]);
    lab.configure("site.yaml", &origination(HOST, Some(&lab.ca_file())));
    let pair = lab.authority.issue(HOST, Leaf::Good).write(lab.dir(), HOST);
    let nginx = Nginx::start(&lab, &nginx::secure(at(), &pair, "TLSv1.3", r#"location / { return 200 "ok"; }"#), at());
    lab.egret_command(&["init"]).succeeded();
    (lab, nginx)
}

/// A field of `/proc/PID/task/TID/status`, of every thread.
fn of_threads(egret: &Egret<'_>, field: &str) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{}/task", egret.pid())).unwrap();
    let status = tasks.map(|task| fs::read_to_string(task.unwrap().path().join("status")).unwrap());
    let value = |text: String| {
        let line =
            text.lines().find_map(|line| line.strip_prefix(&format!("{field}:")).map(|rest| rest.trim().to_owned()));
        line.unwrap_or_else(|| panic!("proc(5): no {field} in {text}"))
    };
    status.map(value).collect()
}

#[track_caller]
fn serves(lab: &Lab) {
    assert_eq!(lab.curl(&[&format!("http://{HOST}/")]).succeeded().stdout, "ok");
}

#[test]
fn every_thread_is_confined() {
    let (lab, _nginx) = lab();
    for engine in ["uring", "epoll"] {
        let mut egret = lab.start_egret_behind(&[], engine, &["--confine", "all"]);
        serves(&lab);
        let status = lab.egret_command(&["status"]).succeeded().stdout;
        for part in ["0 capabilities dropped", "read only, beneath /etc", "system calls left"] {
            assert!(status.contains(part), "{engine}: no {part:?} in {status}");
        }
        assert_eq!(status.contains("ring is closed to all but its own operations"), engine == "uring", "{status}");
        for (field, value) in [("NoNewPrivs", "1"), ("Seccomp", "2"), ("CapEff", "0000000000000000")] {
            let threads = of_threads(&egret, field);
            assert!(threads.len() >= 3 && threads.iter().all(|of| of == value), "{engine}: {field} {threads:?}");
        }
        egret.kill();
    }
}

#[test]
fn each_step_can_be_switched_off() {
    let (lab, _nginx) = lab();
    let egret = lab.start_egret_behind(&[], "auto", &["--confine", "none"]);
    serves(&lab);
    assert!(of_threads(&egret, "Seccomp").iter().all(|of| of == "0"));
    for step in ["privileges", "files", "calls", "rings"] {
        let line = egret.stderr().lines().find(|line| line.contains(&format!("step=\"{step}\""))).map(str::to_owned);
        assert!(line.as_ref().is_some_and(|line| line.contains("switched off")), "{step}: {line:?}");
    }
}

#[test]
fn a_path_that_cannot_be_read_any_more_is_named() {
    let (lab, _nginx) = lab();
    let egret = lab.start_egret_behind(&[], "auto", &["--confine", "all"]);
    let elsewhere = tempfile::Builder::new().prefix("egret-elsewhere-").tempdir().unwrap();
    lab::process::run("chmod", &["755", lab::utf8(elsewhere.path())]);
    let ca = elsewhere.path().join("ca.pem");
    fs::copy(lab.ca_file(), &ca).unwrap();
    lab.configure("site.yaml", &origination(HOST, Some(&ca)));
    eventually("the warning is there", || {
        let text = egret.stderr();
        text.contains(lab::utf8(&ca)) && text.contains("--confine-path")
    });
    drop(egret);
    let folder = lab::utf8(elsewhere.path());
    lab.configure("site.yaml", &origination(HOST, Some(&lab.ca_file())));
    let _egret = lab.start_egret_behind(&[], "auto", &["--confine", "all", "--confine-path", folder]);
    lab.configure("site.yaml", &origination(HOST, Some(&ca)));
    eventually("the new path is in use", || {
        let dump = lab.egret_command(&["secrets", "-o", "json"]).stdout;
        dump.contains(lab::utf8(&ca))
    });
    serves(&lab);
}
