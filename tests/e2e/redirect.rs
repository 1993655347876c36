//! `egret init` against the kernel: golden rules for both backends, and real connections in network namespaces.
//!
//! Needs root, nftables, iptables and iproute2, and fails without them. `UPDATE_GOLDEN=1` writes the golden files anew.

mod dns;
mod golden;
mod interrupted;
mod pod;

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use golden::GOLDEN;
use pod::{APP, OUTSIDE_V4, OUTSIDE_V6, OWN_V4, PROXY, Pod, arrival, arrivals};

const EGRET: &str = env!("CARGO_BIN_EXE_egret");
const BACKENDS: [&str; 3] = ["nft", "iptables-nft", "iptables-legacy"];

fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

#[test]
fn rules_are_the_golden_ones_from_flags_from_variables_and_from_the_script() {
    for (name, settings) in GOLDEN {
        for backend in ["nft", "iptables"] {
            let golden = file(&format!("tests/golden/redirect/{name}.{backend}"));
            let rules = from_flags(settings, backend);
            if std::env::var_os("UPDATE_GOLDEN").is_some() {
                fs::write(&golden, &rules).unwrap();
            }
            let want = fs::read_to_string(&golden).unwrap_or_else(|error| panic!("{}: {error}", golden.display()));
            assert_eq!(rules, want, "{name}, {backend}, flags");
            assert_eq!(from_variables(settings, EGRET, &["init", "--dry-run", "--backend", backend]), want, "{name}");
            let script = file("iptables/redirect.sh");
            assert_eq!(from_variables(settings, script.to_str().unwrap(), &["print", backend]), want, "{name}, script");
        }
    }
}

fn from_flags(settings: &[(&str, &str)], backend: &str) -> String {
    let flag = |(name, value): &(&str, &str)| {
        let name = format!("--{}", name.to_lowercase().replace('_', "-"));
        if *value == "true" { vec![name] } else { vec![name, (*value).to_owned()] }
    };
    let mut command = Command::new(EGRET);
    command.args(["init", "--dry-run", "--backend", backend]).args(settings.iter().flat_map(flag));
    printed(&mut command)
}

fn from_variables(settings: &[(&str, &str)], program: &str, arguments: &[&str]) -> String {
    let variables: Vec<_> = settings.iter().map(|(name, value)| (format!("EGRET_{name}"), *value)).collect();
    from_variables_of(&variables, program, arguments)
}

fn from_variables_of<K: AsRef<std::ffi::OsStr>>(variables: &[(K, &str)], program: &str, arguments: &[&str]) -> String {
    printed(Command::new(program).args(arguments).envs(variables.iter().map(|(name, value)| (name, value))))
}

fn printed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn contradictions_and_nonsense_are_usage_errors() {
    for flags in [
        &["--proxy-uid", ""][..],
        &["--proxy-port", "0"],
        &["--include-outbound-cidrs", "*,10.0.0.0/8"],
        &["--exclude-interfaces", "a\" accept #"],
        &["--capture-dns", "--dns-port", "15001"],
        &["--capture-dns", "--exclude-outbound-ports", "53"],
        &["--capture-all-dns", "--exclude-outbound-ports", "53"],
        &["--dns-servers", "ns.example.com"],
        &["--backend", "ebtables"],
    ] {
        let output = Command::new(EGRET).arg("init").arg("--dry-run").args(flags).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{flags:?}");
    }
}

#[test]
fn every_golden_case_is_taken_by_every_backend() {
    for backend in BACKENDS {
        let pod = Pod::new();
        for (name, settings) in GOLDEN {
            let variables = settings.iter().map(|(name, value)| (format!("EGRET_{name}"), *value));
            let mut command = pod.command(EGRET);
            let output = command.args(["init", "--backend", backend]).envs(variables).output().unwrap();
            assert!(output.status.success(), "{name}, {backend}: {output:?}");
        }
    }
}

#[test]
fn a_second_run_changes_nothing_and_a_cleanup_leaves_nothing() {
    for backend in BACKENDS {
        let pod = Pod::new();
        let flags = ["--backend", backend, "--capture-dns", "--block-quic"];
        assert!(pod.must_init(&flags).contains("rules: applied"), "{backend}");
        let first = pod.rules();
        assert!(pod.must_init(&flags).contains("nothing changed"), "{backend}");
        assert_eq!(pod.rules(), first, "{backend}");

        assert!(pod.must_init(&["--backend", backend]).contains("rules: applied"), "{backend}");
        let changed = pod.rules();
        assert!(!changed.contains("dport 443") && changed.contains("15001"), "{backend}: {changed}");
        assert!(pod.must_init(&flags).contains("rules: applied"), "{backend}");
        // nft prints chains in the order in which they were made.
        let sorted = |rules: &str| rules.lines().map(str::to_owned).collect::<BTreeSet<_>>();
        assert_eq!(sorted(&pod.rules()), sorted(&first), "{backend}: back to the first flags");

        assert!(pod.must_init(&["--cleanup"]).contains("removed the rules of"), "{backend}");
        assert!(!pod.rules().to_lowercase().contains("egret"), "{backend}: {}", pod.rules());
        assert!(pod.must_init(&["--cleanup"]).contains("nothing to remove"), "{backend}");
    }
}

#[test]
fn a_rule_that_somebody_removed_comes_back_and_foreign_rules_stay() {
    let foreign = [
        ("iptables-nft", "-t nat -A OUTPUT -d 10.9.9.9 -j ACCEPT"),
        ("iptables-legacy", "-t filter -A OUTPUT -d 10.9.9.8 -j ACCEPT"),
        ("nft", "add table inet foreign"),
    ];
    let damage = [
        "nft flush chain inet egret output",
        "iptables-nft -t nat -D EGRET_OUTPUT 1",
        "iptables-legacy -t nat -D OUTPUT -j EGRET_OUTPUT",
    ];
    for (backend, damage) in BACKENDS.into_iter().zip(damage) {
        let pod = Pod::new();
        let run = |line: &str| {
            let (program, arguments) = line.split_once(' ').unwrap();
            let output = pod.run(program, &arguments.split(' ').collect::<Vec<_>>());
            assert!(output.status.success(), "{line}: {output:?}");
        };
        for (program, arguments) in foreign {
            run(&format!("{program} {arguments}"));
        }
        pod.must_init(&["--backend", backend]);
        let whole = pod.rules();
        run(damage);
        assert_ne!(pod.rules(), whole, "{backend}");
        assert!(pod.must_init(&["--backend", backend]).contains("rules: applied"), "{backend}");
        assert_eq!(pod.rules(), whole, "{backend}");
        pod.must_init(&["--cleanup"]);
        for kept in ["10.9.9.9", "10.9.9.8", "table inet foreign"] {
            assert!(pod.rules().contains(kept), "{backend}: {kept} is gone");
        }
    }
}

#[test]
fn another_backends_rules_are_replaced() {
    let pod = Pod::new();
    let mut before = None;
    for backend in BACKENDS.into_iter().cycle().take(4) {
        let text = pod.must_init(&["--backend", backend]);
        if let Some(before) = before {
            assert!(text.contains(&format!("removed those that {before} had left")), "{text}");
        }
        before = Some(backend);
    }
    assert!(!pod.rules().contains("EGRET_"));
}

#[test]
fn connections_arrive_with_their_destination_and_exempt_ones_pass() {
    for backend in BACKENDS {
        let pod = Pod::new();
        let outside = [80, 22, 8080].map(|port| pod.serve_outside(port));
        let flags =
            ["--backend", backend, "--exclude-outbound-ports", "22", "--exclude-outbound-cidrs", "203.0.113.0/24"];
        pod.must_init(&flags);
        for target in [OUTSIDE_V4, OUTSIDE_V6] {
            let refused = pod.connect(APP, (target, 80)).map_err(|error| error.kind());
            assert_eq!(
                refused.err(),
                Some(ErrorKind::ConnectionRefused),
                "{backend}: without the proxy nothing leaves"
            );
        }
        let proxy = [pod.serve_inside("127.0.0.1:15001"), pod.serve_inside("[::1]:15001")];

        for (at, target) in proxy.iter().zip([OUTSIDE_V4, OUTSIDE_V6]) {
            let target = SocketAddr::from((target, 80));
            let _client = pod.connect(APP, target).expect("redirected");
            assert_eq!(arrival(at).unwrap(), target, "{backend}");
        }
        let nowhere: SocketAddr = "198.51.100.9:443".parse().unwrap();
        let _client = pod.connect(APP, nowhere).expect("redirected");
        assert_eq!(arrival(&proxy[0]).unwrap(), nowhere, "{backend}");
        assert_eq!(outside.each_ref().map(|at| arrivals(at, 0)), [0, 0, 0], "{backend}");

        for target in [OUTSIDE_V4, OUTSIDE_V6] {
            pod.connect(PROXY, (target, 8080)).expect("the proxy's own connections pass");
            pod.connect(APP, (target, 22)).expect("an excluded port passes");
        }
        let [redirected, excluded, own] = &outside;
        let counts = [arrivals(excluded, 2), arrivals(own, 2), arrivals(redirected, 0)];
        assert_eq!(counts, [2, 2, 0], "{backend}");
        let refused = pod.connect(APP, (OWN_V4, 81)).map_err(|error| error.kind());
        assert_eq!(refused.err(), Some(ErrorKind::ConnectionRefused), "{backend}: the pod's own address is untouched");
        assert_eq!(proxy.each_ref().map(|at| arrivals(at, 0)), [0, 0], "{backend}");
    }
}

/// A socket that is bound to an interface, or goes to a link-local address, cannot be redirected: its packets leave by that
/// interface. It learns so at once, and nothing of it arrives.
#[test]
fn what_is_bound_to_an_interface_is_refused_at_once() {
    for backend in BACKENDS {
        let pod = Pod::new();
        let outside = [80, 22].map(|port| pod.serve_outside(port));
        pod.must_init(&["--backend", backend, "--exclude-outbound-ports", "22"]);
        let proxy = [pod.serve_inside("127.0.0.1:15001"), pod.serve_inside("[::1]:15001")];
        let refused = |bound: io::Result<TcpStream>, to: &str| {
            let error = bound.err().map(|error| error.kind());
            assert_eq!(error, Some(ErrorKind::ConnectionRefused), "{backend}: {to}");
        };
        for target in ["10.77.1.1:80", "198.51.100.9:443", "[fd77:1::1]:80", "[2001:db8::9]:443"] {
            refused(pod.connect_bound(APP, target), target);
        }
        for id in [APP, PROXY] {
            let link_local = pod.connect_link_local(id, 80);
            if id == PROXY {
                link_local.expect("the proxy's own connections pass");
            } else {
                refused(link_local, "link-local");
            }
        }
        let passes = pod.connect_bound(APP, "10.77.1.1:22");
        passes.expect("an excluded port passes, bound or not");
        for target in [OUTSIDE_V4, OUTSIDE_V6] {
            let _client = pod.connect(APP, (target, 80)).expect("others are redirected");
        }
        assert_eq!(proxy.each_ref().map(|at| arrivals(at, 1)), [1, 1], "{backend}");
        assert_eq!(outside.each_ref().map(|at| arrivals(at, 1)), [1, 1], "{backend}");
    }
}

#[test]
fn only_included_networks_and_ports_are_redirected() {
    for backend in BACKENDS {
        let pod = Pod::new();
        let outside = [80, 81].map(|port| pod.serve_outside(port));
        let flags = ["--include-outbound-cidrs", "fd77::/16", "--include-outbound-ports", "81"];
        pod.must_init(&[&["--backend", backend][..], &flags].concat());
        let proxy = [pod.serve_inside("127.0.0.1:15001"), pod.serve_inside("[::1]:15001")];
        let clients = [(OUTSIDE_V4, 80), (OUTSIDE_V4, 81), (OUTSIDE_V6, 80), (OUTSIDE_V6, 81)];
        let _clients = clients.map(|to| pod.connect(APP, to).unwrap());
        assert_eq!([arrivals(&proxy[0], 1), arrivals(&proxy[1], 2)], [1, 2], "{backend}");
        assert_eq!([arrivals(&outside[0], 1), arrivals(&outside[1], 0)], [1, 0], "{backend}");
    }
}

#[test]
fn a_listed_loopback_network_is_redirected() {
    for backend in BACKENDS {
        let pod = Pod::new();
        pod.must_init(&["--backend", backend, "--include-outbound-cidrs", "127.1.2.3/32"]);
        let proxy = pod.serve_inside("127.0.0.1:15001");
        let target: SocketAddr = "127.1.2.3:99".parse().unwrap();
        let _client = pod.connect(APP, target).expect("redirected");
        assert_eq!(arrival(&proxy).unwrap(), target, "{backend}");
    }
}

#[test]
fn ipv6_that_cannot_be_redirected_is_rejected() {
    let tools = tempfile::tempdir().unwrap();
    for name in ["iptables-legacy-save", "iptables-legacy-restore", "ip6tables-legacy-save"] {
        std::os::unix::fs::symlink(format!("/usr/sbin/{name}"), tools.path().join(name)).unwrap();
    }
    let without_nat = "#!/bin/sh\nrules=$(/bin/cat)\ncase $rules in *'*nat'*) echo 'no table nat' >&2; exit 3;; esac\n\
                       printf '%s\\n' \"$rules\" | /usr/sbin/ip6tables-legacy-restore \"$@\"\n";
    write_script(&tools.path().join("ip6tables-legacy-restore"), without_nat);

    let pod = Pod::new();
    let outside = pod.serve_outside(80);
    let init = |flags: &[&str]| {
        let output = pod.command(EGRET).arg("init").args(flags).env("PATH", tools.path()).output().unwrap();
        (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    };
    let (code, text) = init(&["--ipv6", "on"]);
    assert!(code == Some(1) && text.contains("--ipv6 on"), "{text}");
    let (code, text) = init(&[]);
    assert!(code == Some(0) && text.contains("ipv6: rejected"), "{text}");
    assert!(text.contains("[2001:db8::2]:15002 was rejected"), "{text}");
    let refused = pod.connect(APP, (OUTSIDE_V6, 80)).map_err(|error| error.kind());
    assert_eq!(refused.err(), Some(ErrorKind::ConnectionRefused));
    pod.connect(PROXY, (OUTSIDE_V6, 80)).expect("the proxy's own connections pass");
    assert_eq!(arrivals(&outside, 1), 1);
    let inbound = pod.inside(APP, || std::net::TcpListener::bind("[::]:7000").unwrap());
    pod.outside(|| TcpStream::connect("[fd77:1::2]:7000").expect("connections from outside are answered"));
    drop(inbound);
}

#[test]
fn without_ipv6_there_is_nothing_to_fail_on() {
    for backend in BACKENDS {
        let pod = Pod::new();
        let off = "net.ipv6.conf.all.disable_ipv6=1";
        assert!(pod.run("sysctl", &["-q", off]).status.success());
        pod.must_init(&["--backend", backend]);
    }
}

#[test]
fn nothing_escapes_while_rules_change() {
    let pod = Pod::new();
    let outside = pod.serve_outside(9000);
    let proxy = [pod.serve_inside("127.0.0.1:15001"), pod.serve_inside("[::1]:15001")];
    pod.must_init(&["--no-verify"]);
    let done = Arc::new(AtomicBool::new(false));
    let arrived = Arc::new(AtomicUsize::new(0));
    let mut threads = Vec::new();
    for listener in proxy {
        let (done, arrived) = (done.clone(), arrived.clone());
        threads.push(thread::spawn(move || {
            while !done.load(Ordering::Relaxed) {
                arrived.fetch_add(arrivals(&listener, 0), Ordering::Relaxed);
                thread::yield_now();
            }
        }));
    }
    for target in [OUTSIDE_V4, OUTSIDE_V6] {
        let done = done.clone();
        threads.push(pod.inside(APP, move || dial_until(done, target)));
    }
    for flags in CHANGES.iter().cycle().take(CHANGES.len() * 4) {
        pod.must_init(&[&["--no-verify"], *flags].concat());
    }
    done.store(true, Ordering::Relaxed);
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(arrivals(&outside, 0), 0, "connections escaped");
    assert!(arrived.load(Ordering::Relaxed) > 100, "hardly anything was tried: {arrived:?}");
}

/// Changes within a backend, between backends, and between redirecting and rejecting IPv6.
const CHANGES: &[&[&str]] = &[
    &["--backend", "nft", "--exclude-outbound-ports", "22"],
    &["--backend", "nft", "--ipv6", "off"],
    &["--backend", "nft", "--include-outbound-cidrs", "10.0.0.0/8,fd77::/16"],
    &["--backend", "iptables-nft"],
    &["--backend", "iptables-nft", "--ipv6", "off", "--capture-dns"],
    &["--backend", "iptables-nft", "--exclude-outbound-ports", "22"],
    &["--backend", "iptables-legacy"],
    &["--backend", "iptables-legacy", "--ipv6", "off", "--block-quic"],
    &["--backend", "iptables-legacy", "--include-outbound-cidrs", "10.0.0.0/8,fd77::/16"],
];

/// The thread inherits the namespace and identity of the one that starts it.
fn dial_until(done: Arc<AtomicBool>, target: IpAddr) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        while !done.load(Ordering::Relaxed) {
            // Refused or redirected are both fine; what must not happen is counted outside.
            let _ = TcpStream::connect_timeout(&(target, 9000).into(), pod::PATIENCE);
        }
    })
}

#[test]
fn rules_without_effect_end_with_126() {
    for backend in BACKENDS {
        let pod = Pod::new();
        let drops = "add table inet foreign; add chain inet foreign c { type filter hook output priority -300; }; \
                     add rule inet foreign c tcp dport 15002 drop";
        assert!(pod.run("nft", &[drops]).status.success());
        let (code, text) = pod.init(&["--backend", backend]);
        assert_eq!(code, 126, "{backend}: {text}");
        let last = text.lines().last().unwrap();
        assert!(last.contains("verification failed") && last.contains("192.0.2.2:15002"), "{last}");
        assert!(pod.must_init(&["--backend", backend, "--no-verify"]).contains("skipped"), "{backend}");
    }
}

#[test]
fn a_running_proxy_is_used_for_the_proof() {
    let pod = Pod::new();
    let proxy = pod.serve_inside("127.0.0.1:15001");
    let text = pod.must_init(&[]);
    assert!(text.contains("192.0.2.2:15002 arrived at 127.0.0.1:15001, at "), "{text}");
    assert_eq!(arrival(&proxy).unwrap(), "192.0.2.2:15002".parse().unwrap());
}

#[test]
fn an_exempt_identity_is_left_for_the_proof() {
    let pod = Pod::new();
    pod.must_init(&["--proxy-uid", "0", "--proxy-gid", "0"]);
    let capabilities = ["--bounding-set", "-setuid,-setgid", EGRET, "init", "--proxy-uid", "0"];
    assert_eq!(pod.run("setpriv", &capabilities).status.code(), Some(126));
}

#[test]
fn a_pod_with_nothing_but_its_loopback_is_proven_too() {
    for backend in BACKENDS {
        let pod = Pod::alone();
        let text = pod.must_init(&["--backend", backend]);
        assert!(text.contains("temporary interface"), "{text}");
        let links = String::from_utf8(pod.run("ip", &["link"]).stdout).unwrap();
        assert!(!links.contains("egret"), "{links}");
    }
}

#[test]
fn lack_of_privilege_and_of_tools_is_said() {
    let pod = Pod::new();
    let output = pod.run("setpriv", &["--bounding-set", "-net_admin", EGRET, "init"]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && text.contains("CAP_NET_ADMIN"), "{text}");
    let output = pod.command(EGRET).arg("init").env("PATH", "/nonexistent").output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && text.contains("not installed"), "{text}");
}

#[test]
fn a_tool_without_kernel_support_is_passed_over() {
    let tools = tempfile::tempdir().unwrap();
    let without_nat = "#!/bin/sh\nrules=$(cat)\ncase $rules in *'type nat'*) echo 'Error: no such chain type' >&2; exit 1;; esac\n\
                       printf '%s\\n' \"$rules\" | /usr/sbin/nft \"$@\"\n";
    write_script(&tools.path().join("nft"), without_nat);
    let path = format!("{}:{}", tools.path().display(), std::env::var("PATH").unwrap());
    let pod = Pod::new();
    let output = pod.command(EGRET).arg("init").env("PATH", path).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("backend: iptables-nft (") && text.contains("no such chain type"), "{text}");

    let output = pod.command(EGRET).args(["init", "--cleanup"]).env("PATH", tools.path()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("note: iptables-nft does not work here"), "{text}");
}

fn write_script(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn quic_is_rejected() {
    for backend in BACKENDS {
        let pod = Pod::new();
        pod.must_init(&["--backend", backend, "--block-quic"]);
        for (at, target) in [("0.0.0.0:0", OUTSIDE_V4), ("[::]:0", OUTSIDE_V6)] {
            let socket = pod.udp(APP, at);
            socket.connect((target, 443)).unwrap();
            // Netfilter's rejection reaches the sender at once (EPERM) or as an ICMP error on the next call.
            let answer = socket.send(b"initial").map(drop).and_then(|()| socket.recv(&mut [0]).map(drop));
            let kind = answer.unwrap_err().kind();
            assert!(matches!(kind, ErrorKind::ConnectionRefused | ErrorKind::PermissionDenied), "{backend}: {kind}");
        }
    }
}

#[test]
fn the_script_applies_and_removes_the_same_rules() {
    let script = file("iptables/redirect.sh");
    for backend in BACKENDS {
        let pod = Pod::new();
        for _ in 0..2 {
            let output = pod.run(script.to_str().unwrap(), &["apply", backend]);
            assert!(output.status.success(), "{backend}: {output:?}");
        }
        let proxy = pod.serve_inside("[::1]:15001");
        let target = SocketAddr::from((OUTSIDE_V6, 80));
        let _client = pod.connect(APP, target).expect("redirected");
        assert_eq!(arrival(&proxy).unwrap(), target, "{backend}");
        assert!(pod.run(script.to_str().unwrap(), &["remove"]).status.success());
        assert!(!pod.rules().to_lowercase().contains("egret"), "{backend}: {}", pod.rules());
    }
}
