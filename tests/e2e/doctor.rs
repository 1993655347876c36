//! `egret doctor` on a sound host, and with each fault made on purpose: the right line says it, with the remedy.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::lab;
use crate::lab::Lab;
use crate::lab::process::{Finished, finish};
use crate::lab::proxy::WITHOUT_IO_URING;
use serde_json::Value;

const EGRET: &str = env!("CARGO_BIN_EXE_egret");

/// `egret doctor -o json` in the pod, behind `prefix` (`prlimit …`, `setpriv …`).
fn doctor(lab: &Lab, prefix: &[&str]) -> (Finished, Vec<(String, String, String)>) {
    let all = [prefix, &[EGRET, "doctor", "-o", "json"]].concat();
    let said = finish(lab.pod.command("env", &all));
    let report: Vec<Value> = serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{error}: {said:?}"));
    let text = |line: &Value, field: &str| line[field].as_str().unwrap().to_owned();
    let rows = report.iter().map(|line| (text(line, "check"), text(line, "verdict"), text(line, "message")));
    let rows = rows.collect();
    (said, rows)
}

#[track_caller]
fn expect(rows: &[(String, String, String)], check: &str, verdict: &str, says: &str) {
    let row = rows.iter().find(|row| row.0 == check).unwrap_or_else(|| panic!("no line {check}: {rows:#?}"));
    assert!(row.1 == verdict && row.2.contains(says), "wanted {verdict} with {says:?}: {row:?}");
}

/// A folder with these programs and no others.
fn only(lab: &Lab, folder: &str, programs: &[&str]) -> String {
    let folder = lab.dir().join(folder);
    fs::create_dir(&folder).unwrap();
    for program in programs {
        let real = ["/usr/sbin", "/usr/bin", "/sbin"].map(|place| Path::new(place).join(program));
        let real = real.into_iter().find(|path| path.exists()).unwrap_or_else(|| panic!("{program} is not installed"));
        symlink(real, folder.join(program)).unwrap();
    }
    format!("PATH={}", lab::utf8(&folder))
}

#[test]
fn a_sound_host_is_ok_from_the_first_line_to_the_last() {
    let lab = Lab::new();
    let (said, rows) = doctor(&lab, &[]);
    assert_eq!(said.code(), Some(0), "{said:?}");
    // How many CPUs and descriptors the machine grants is not ours to say.
    let granted = ["cpu", "RLIMIT_NOFILE", "RLIMIT_MEMLOCK"];
    let complaints: Vec<_> = rows.iter().filter(|row| row.1 != "ok" && !granted.contains(&&*row.0)).collect();
    assert!(complaints.is_empty(), "{complaints:#?}");
    expect(&rows, "nft", "ok", "egret init uses it");
    expect(&rows, "ipv6", "ok", "redirected like IPv4 by nft");
    let text = finish(lab.pod.command(EGRET, &["doctor"])).stdout;
    assert!(text.starts_with("ok    kernel "), "{text}");
}

#[test]
fn limits_are_judged() {
    let lab = Lab::new();
    let (said, rows) = doctor(&lab, &["prlimit", "--nofile=4:4", "--memlock=0:0"]);
    assert_eq!(said.code(), Some(1));
    expect(&rows, "RLIMIT_NOFILE", "fail", "raise the hard limit to 20128");
    expect(&rows, "io_uring", "warn", "RLIMIT_NOFILE");
    expect(&rows, "RLIMIT_MEMLOCK", "warn", "ulimit -l");
}

#[test]
fn a_sysctl_that_forbids_io_uring_is_named() {
    let lab = Lab::new();
    let file = lab.write("disabled", "2\n");
    // In a mount namespace of its own: the machine's sysctl stays as it is.
    let script = format!("mount --bind {} /proc/sys/kernel/io_uring_disabled && exec \"$@\"", lab::utf8(&file));
    let (said, rows) = doctor(&lab, &["unshare", "--mount", "sh", "-c", &script, "sh"]);
    assert_eq!(said.code(), Some(0));
    expect(&rows, "io_uring sysctl", "warn", "set it to 0 on the node");
}

#[test]
fn a_seccomp_profile_that_forbids_io_uring_is_named() {
    let lab = Lab::new();
    let (said, rows) = doctor(&lab, &WITHOUT_IO_URING);
    assert_eq!(said.code(), Some(0));
    expect(&rows, "io_uring", "warn", "egret runs on epoll: io_uring_setup: io_uring is forbidden (EPERM)");
    expect(&rows, "io_uring", "warn", "seccomp");
}

#[test]
fn a_small_share_of_a_cpu_is_named() {
    let lab = Lab::new();
    let shown = "mount -t tmpfs none /sys/fs/cgroup && echo '10000 100000' >/sys/fs/cgroup/cpu.max && exec \"$@\"";
    let (said, rows) = doctor(&lab, &["unshare", "--mount", "sh", "-c", shown, "sh"]);
    assert_eq!(said.code(), Some(0));
    expect(&rows, "cpu", "warn", "the CPU limit is 100m");
    expect(&rows, "cpu", "warn", "raise it to 1000m");
}

#[test]
fn missing_tools_and_tables_are_named() {
    let lab = Lab::new();
    let none = only(&lab, "none", &[]);
    let (said, rows) = doctor(&lab, &["env", &none]);
    assert_eq!(said.code(), Some(1));
    for backend in ["nft", "iptables-nft", "iptables-legacy"] {
        expect(&rows, backend, "fail", "not installed: add the package nftables or iptables");
    }
    let legacy = only(&lab, "legacy", &["iptables-legacy-save", "iptables-legacy-restore"]);
    let (said, rows) = doctor(&lab, &["env", &legacy]);
    assert_eq!(said.code(), Some(1));
    expect(&rows, "nft", "fail", "not installed");
    expect(&rows, "ipv6", "fail", "can be neither redirected nor rejected");
    let both = ["iptables-legacy-save", "iptables-legacy-restore", "ip6tables-legacy-save", "ip6tables-legacy-restore"];
    let both = only(&lab, "both", &both);
    let (said, rows) = doctor(&lab, &["env", &both]);
    assert_eq!(said.code(), Some(0));
    expect(&rows, "nft", "ok", "not needed, iptables-legacy works");
    // An nft that the kernel gives no nat chains, as it answers on nodes without nft_chain_nat.
    let broken = only(&lab, "broken", &["sh"]);
    let script = "#!/bin/sh\ncase $* in *list*) echo 'Error: No such file or directory' >&2; exit 1;; esac\n\
                  echo 'Error: Could not process rule: Operation not supported' >&2\nexit 1\n";
    let fake = lab.write("broken/nft", script);
    lab::process::run("chmod", &["755", lab::utf8(&fake)]);
    let (said, rows) = doctor(&lab, &["env", &broken]);
    assert_eq!(said.code(), Some(1));
    expect(&rows, "nft", "fail", "load nft_chain_nat and nft_redir");
}

#[test]
fn without_privilege_it_says_what_it_cannot_judge() {
    let lab = Lab::new();
    let (said, rows) = doctor(&lab, &["setpriv", "--reuid=1337", "--regid=1337", "--clear-groups", "--"]);
    assert_eq!(said.code(), Some(0), "{said:?}");
    expect(&rows, "capabilities", "warn", "run this as root with NET_ADMIN");
    expect(&rows, "nft", "warn", "CAP_NET_ADMIN");
    expect(&rows, "other redirectors", "warn", "cannot be looked for");
    expect(&rows, "io_uring", "ok", "works here");
}

#[test]
fn another_redirector_is_found_and_egrets_own_rules_are_not() {
    let lab = Lab::new();
    finish(lab.pod.command(EGRET, &["init"])).succeeded();
    expect(&doctor(&lab, &[]).1, "other redirectors", "ok", "none");
    for arguments in [
        &["-t", "nat", "-N", "ISTIO_REDIRECT"][..],
        &["-t", "nat", "-A", "ISTIO_REDIRECT", "-p", "tcp", "-j", "REDIRECT", "--to-ports", "15001"],
    ] {
        finish(lab.pod.command("iptables-legacy", arguments)).succeeded();
    }
    let (said, rows) = doctor(&lab, &[]);
    assert_eq!(said.code(), Some(0));
    expect(&rows, "other redirectors", "warn", "ip nat ISTIO_REDIRECT");
    expect(&rows, "other redirectors", "warn", "sidecar.istio.io/inject");
}
