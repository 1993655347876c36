//! Where io_uring is forbidden the proxy runs on epoll and says so everywhere; who insists on io_uring is told why not.

use std::net::SocketAddr;

use crate::lab::documents::origination;
use crate::lab::nginx::{self, Nginx};
use crate::lab::pki::Leaf;
use crate::lab::process::finish;
use crate::lab::proxy::{Egret, WITHOUT_IO_URING};
use crate::lab::{Family, Lab};

const HOST: &str = "engine.example";

fn lab() -> (Lab, Nginx) {
    let lab = Lab::new();
    let at = SocketAddr::new(Lab::address(Family::V4, 1), 443);
    lab.names.set(HOST, &[at.ip()]);
    lab.configure("engine.yaml", &origination(HOST, Some(&lab.ca_file())));
    let pair = lab.authority.issue(HOST, Leaf::Good).write(lab.dir(), HOST);
    let nginx = Nginx::start(&lab, &nginx::secure(at, &pair, "TLSv1.3", r#"location / { return 200 "ok"; }"#), at);
    (lab, nginx)
}

/// The engine is named by the log, the health endpoint, `egret status` and a metric, with the reason where there is room.
#[track_caller]
fn says(lab: &Lab, egret: &Egret<'_>, engine: &str, reason: &str) {
    let said = lab.curl(&[&format!("http://{HOST}/")]).succeeded();
    assert_eq!(said.stdout, "ok");
    let (_, ready) = egret.get(15021, "/healthz/ready").unwrap();
    let status = lab.egret_command(&["status"]).succeeded().stdout;
    for (place, text) in [("log", egret.stderr()), ("ready", ready), ("status", status)] {
        assert!(text.contains(engine) && text.contains(reason), "{place}: {text}");
    }
    let (_, metrics) = egret.get(15090, "/stats/prometheus").unwrap();
    assert!(metrics.contains(&format!("egret_engine_info{{engine=\"{engine}\"}} 1")), "{metrics}");
}

#[test]
fn forbidden_io_uring_means_epoll() {
    let (lab, _nginx) = lab();
    lab.egret_command(&["init"]).succeeded();
    let egret = lab.start_egret_behind(&WITHOUT_IO_URING, "auto", &[]);
    says(&lab, &egret, "epoll", "io_uring is forbidden (EPERM)");
}

#[test]
fn allowed_io_uring_is_taken() {
    let (lab, _nginx) = lab();
    lab.egret_command(&["init"]).succeeded();
    let egret = lab.start_egret_behind(&[], "auto", &[]);
    says(&lab, &egret, "uring", "this host allows io_uring");
}

#[test]
fn epoll_on_demand() {
    let (lab, _nginx) = lab();
    lab.egret_command(&["init"]).succeeded();
    let egret = lab.start_egret_behind(&[], "uring", &["--engine", "epoll"]);
    says(&lab, &egret, "epoll", "chosen by --engine epoll");
}

#[test]
fn who_insists_on_io_uring_is_told_why_not() {
    let lab = Lab::new();
    let binary = env!("CARGO_BIN_EXE_egret");
    let arguments = [&WITHOUT_IO_URING[..], &[binary, "run", "--engine", "uring"]].concat();
    let ended = finish(lab.pod.command("env", &arguments));
    assert_eq!(ended.code(), Some(1), "{ended:?}");
    for part in ["--engine uring: ", "io_uring is forbidden (EPERM)", "--engine auto would take epoll"] {
        assert!(ended.stderr.contains(part), "{ended:?}");
    }
}
