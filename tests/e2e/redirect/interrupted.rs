//! `egret init`, killed before each of its calls of nft or iptables in turn: no table holds a part of its rules, and the
//! next run brings the whole.
//!
//! The calls themselves cannot be interrupted half-way: each hands one transaction to the kernel. A pod whose init
//! container was killed does not start its application, whatever stands by then.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::pod::Pod;
use super::{BACKENDS, EGRET};

const TOOLS: [&str; 9] = [
    "nft",
    "iptables-nft-save",
    "iptables-nft-restore",
    "ip6tables-nft-save",
    "ip6tables-nft-restore",
    "iptables-legacy-save",
    "iptables-legacy-restore",
    "ip6tables-legacy-save",
    "ip6tables-legacy-restore",
];

/// In place of a tool: at call number `$KILL_AT` it kills the program that calls it.
const SCRIPT: &str = "#!/bin/sh
count=$(($(cat FOLDER/count) + 1))
echo $count >FOLDER/count
if [ $count = \"$KILL_AT\" ]; then kill -9 $PPID; exit 1; fi
exec /usr/sbin/TOOL \"$@\"
";

fn tools(folder: &Path) {
    for tool in TOOLS {
        let path = folder.join(tool);
        fs::write(&path, SCRIPT.replace("FOLDER", folder.to_str().unwrap()).replace("TOOL", tool)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

/// egret's rules by program and table, sorted; without the chains that hold a digest or nothing but a trial.
fn by_table(pod: &Pod) -> BTreeMap<String, BTreeSet<String>> {
    let programs: [(&str, &[&str]); 5] = [
        ("nft", &["-s", "list", "ruleset", "inet"]),
        ("iptables-nft-save", &[]),
        ("ip6tables-nft-save", &[]),
        ("iptables-legacy-save", &[]),
        ("ip6tables-legacy-save", &[]),
    ];
    let mut tables = BTreeMap::<String, BTreeSet<String>>::new();
    for (program, arguments) in programs {
        let output = pod.run(program, arguments);
        assert!(output.status.success(), "{program}: {output:?}");
        let mut table = String::new();
        for line in String::from_utf8_lossy(&output.stdout).lines().map(|line| line.split(" [").next().unwrap().trim())
        {
            let is_trial = ["EGRET_S_", "EGRET_PROBE", "state_"].iter().any(|name| line.contains(name));
            if line.starts_with("table ") || line.starts_with('*') {
                table = format!("{program} {line}");
            } else if !is_trial && (line.contains("EGRET_") || table.contains("table inet egret ")) {
                tables.entry(table.clone()).or_default().insert(line.to_owned());
            }
        }
    }
    tables
}

#[test]
fn an_init_that_is_killed_leaves_no_part_of_a_table() {
    std::thread::scope(|scope| {
        for backend in BACKENDS {
            scope.spawn(move || killed_before_each_call(backend));
        }
    });
}

fn killed_before_each_call(backend: &str) {
    let folder = tempfile::tempdir().unwrap();
    tools(folder.path());
    let path = format!("PATH={}:/usr/sbin:/usr/bin:/bin", folder.path().display());
    let pod = Pod::new();
    let flags = ["--backend", backend, "--capture-dns", "--block-quic", "--no-verify"];
    pod.must_init(&flags);
    let whole = by_table(&pod);
    assert!(whole.values().any(|lines| lines.len() > 4), "{whole:#?}");
    let mut killed = 0;
    loop {
        pod.must_init(&["--cleanup"]);
        fs::write(folder.path().join("count"), "0").unwrap();
        let kill_at = format!("KILL_AT={}", killed + 1);
        let ended = pod.command("env").args([&path, &kill_at, EGRET, "init"]).args(flags).output().unwrap();
        if ended.status.success() {
            break;
        }
        assert_eq!(ended.status.code(), None, "{backend}: {ended:?}");
        killed += 1;
        for (table, lines) in by_table(&pod) {
            assert_eq!(Some(&lines), whole.get(&table), "{backend}, killed before call {killed}: {table}");
        }
        pod.must_init(&flags);
        assert_eq!(by_table(&pod), whole, "{backend}, after a kill before call {killed}");
    }
    assert!(killed >= 5, "{backend}: killed {killed} times only");
    println!("{backend}: killed before each of {killed} calls");
}
