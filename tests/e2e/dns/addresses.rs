//! Addresses that egret gives to hosts: told to applications, known to policy, and never another host's.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;

use super::entry;
use super::tools::{RealNames, short};
use crate::lab::nginx::Nginx;
use crate::lab::pki::Leaf;
use crate::lab::server::Server;
use crate::lab::{Lab, eventually, utf8};

const POSTGRES: &str = "{number: 5432, name: tcp, protocol: TCP}";
const DNS: &str = "  resolution: DNS\n";

fn databases() -> String {
    [entry("db1.example.com", POSTGRES, DNS), entry("db2.example.com", POSTGRES, DNS)].concat()
}

/// A server that says a word to whoever comes.
fn says(lab: &Lab, at: &'static str, word: &'static [u8]) {
    let listener = lab.outside.enter(|| TcpListener::bind(at)).unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.write_all(word);
        }
    });
}

fn hear(lab: &Lab, to: &str, port: u16) -> std::io::Result<String> {
    let ip = to.parse().unwrap_or_else(|error| panic!("{to:?}: {error}"));
    let mut stream = lab.connect(SocketAddr::new(ip, port))?;
    let mut heard = String::new();
    stream.read_to_string(&mut heard)?;
    Ok(heard)
}

fn started(names: &RealNames, yaml: &str) {
    names.lab.configure("a.yaml", yaml);
    names.lab.egret_command(&["init", "--capture-dns"]).succeeded();
}

#[test]
fn two_databases_on_one_port_are_told_apart_by_name() {
    let names = RealNames::new();
    let lab = &names.lab;
    for (at, word) in [("203.0.113.1:5432", &b"one"[..]), ("203.0.113.2:5432", b"two")] {
        says(lab, at, word);
    }
    started(&names, &databases());
    let egret = lab.start_egret(&[]);
    for kind in ["A", "AAAA"] {
        let (first, second) = (short(lab, &["db1.example.com", kind]), short(lab, &["db2.example.com", kind]));
        let start = if kind == "A" { "240.240." } else { "2001:2:" };
        assert!(first.starts_with(start) && second.starts_with(start) && first != second, "{first} {second}");
        assert_eq!(hear(lab, &first, 5432).unwrap(), "one");
        assert_eq!(hear(lab, &second, 5432).unwrap(), "two");
    }
    egret.log_line(&["outbound|5432||db1.example.com"]);
    egret.log_line(&["outbound|5432||db2.example.com"]);
}

#[test]
fn what_is_answered_can_be_asked_for() {
    let names = RealNames::new();
    let lab = &names.lab;
    started(&names, &databases());
    let egret = lab.start_egret(&[]);
    let ip = short(lab, &["db1.example.com", "A"]);
    let explained = |name: &str| lab.egret_command(&["explain", "dns", name]).succeeded().stdout;
    let said = explained("DB1.example.com");
    assert!(said.contains(&ip) && said.contains("a ServiceEntry lists it") && said.contains("10.77.0.1:53"), "{said}");
    let said = explained("plain.example.org");
    assert!(said.contains("a name server's") && said.contains("no ServiceEntry lists it"), "{said}");
    let json = lab.egret_command(&["explain", "dns", "db1.example.com", "-o", "json"]).succeeded().stdout;
    assert!(json.contains("\"answer\": \"table\""), "{json}");
    for wrong in
        [&["explain", "dns"][..], &["explain", "http://a.test", "b.test"], &["explain", "dns", "a", "--config", "/"]]
    {
        assert_eq!(lab.egret_command(wrong).code(), Some(2), "{wrong:?}");
    }
    assert_eq!(lab.egret_command(&["explain", "dns", "a b"]).code(), Some(1));
    let (status, all) = egret.get(15000, "/dns").unwrap();
    assert!(status == 200 && all.contains("db2.example.com") && all.contains("\"PLAIN\""), "{all}");
}

#[test]
fn a_port_that_no_entry_lists_is_closed_and_logged() {
    for policy in ["ALLOW_ANY", "REGISTRY_ONLY"] {
        let names = RealNames::new();
        let lab = &names.lab;
        started(&names, &databases());
        let egret = lab.start_egret(&["--outbound-traffic-policy", policy]);
        for kind in ["A", "AAAA"] {
            let ip = short(lab, &["db1.example.com", kind]);
            let heard = hear(lab, &ip, 9999);
            assert!(heard.is_err(), "{policy}: {heard:?}");
            egret.log_line(&["automatic_address_port_not_listed[db1.example.com]", ":9999"]);
        }
        let ip = short(lab, &["db2.example.com", "A"]);
        let said = lab.curl(&["-i", &format!("http://{ip}:8080/")]).stdout;
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 502"), "{policy}: {said}");
    }
}

/// Clients keep an address longer than they were told to.
#[test]
fn addresses_stay_over_reloads_and_restarts() {
    let names = RealNames::new();
    let lab = &names.lab;
    says(lab, "203.0.113.1:5432", b"one");
    started(&names, &databases());
    let state: PathBuf = lab.dir().join("state");
    std::fs::create_dir(&state).unwrap();
    crate::lab::process::run("chmod", &["777", utf8(&state)]);
    let file = state.join("dns");
    let flags = ["--dns-state", utf8(&file)];
    let mut egret = lab.start_egret(&flags);
    let both = || (short(lab, &["db1.example.com", "A"]), short(lab, &["db1.example.com", "AAAA"]));
    let before = both();
    lab.configure("0.yaml", &entry("db0.example.com", POSTGRES, DNS));
    eventually("the new host is listed", || short(lab, &["db0.example.com", "A"]).starts_with("240.240."));
    let added = short(lab, &["db0.example.com", "A"]);
    assert_eq!(both(), before);
    egret.kill();
    let egret = lab.start_egret(&flags);
    assert_eq!(both(), before);
    assert_eq!(short(lab, &["db0.example.com", "A"]), added);
    // Gone from the files: who still has its address is refused, and not led to another host.
    std::fs::remove_file(lab.config_dir().join("a.yaml")).unwrap();
    eventually("the host is listed no more", || !short(lab, &["db1.example.com", "A"]).starts_with("240."));
    assert!(hear(lab, &before.0, 5432).is_err());
    egret.log_line(&["automatic_address_port_not_listed[db1.example.com]"]);
    let written = std::fs::read_to_string(&file).unwrap();
    assert!(written.contains(&format!("db1.example.com {} {}", before.0, before.1)), "{written}");
}

#[test]
fn a_control_planes_addresses_come_first_and_a_label_keeps_an_entry_from_having_any() {
    let names = RealNames::new();
    let lab = &names.lab;
    says(lab, "203.0.113.1:5432", b"one");
    let given = entry("db1.example.com", POSTGRES, DNS).replace(
        "---\n",
        "status: {addresses: [{value: 240.240.7.7, host: db1.example.com}, {value: '2001:2::77', host: db1.example.com}]}\n---\n",
    );
    let without = entry("db2.example.com", POSTGRES, DNS)
        .replace("name: x", "labels: {networking.istio.io/enable-autoallocate-ip: 'false'}, name: x");
    started(&names, &[given, without].concat());
    let _egret = lab.start_egret(&[]);
    assert_eq!(short(lab, &["db1.example.com", "A"]), "240.240.7.7");
    assert_eq!(short(lab, &["db1.example.com", "AAAA"]), "2001:2::77");
    assert_eq!(short(lab, &["db2.example.com", "A"]), "203.0.113.2");
    assert_eq!(hear(lab, "240.240.7.7", 5432).unwrap(), "one");
}

#[test]
fn a_range_that_the_pod_has_a_route_for_is_refused() {
    let names = RealNames::new();
    let lab = &names.lab;
    lab.pod.ip(&["route", "add", "240.240.3.0/24", "dev", "lo"]);
    started(&names, &databases());
    let egret = lab.start_egret(&[]);
    assert_eq!(short(lab, &["db1.example.com", "A"]), "");
    assert!(short(lab, &["db1.example.com", "AAAA"]).starts_with("2001:2:"));
    assert!(egret.stderr().contains("240.240.0.0/16 overlaps the route 240.240.3.0/24"), "{}", egret.stderr());
}

/// TLS without a server name, and requests that name nobody.
#[test]
fn what_has_no_name_is_known_by_its_address() {
    let names = RealNames::new();
    let lab = &names.lab;
    let site = "server { listen 203.0.113.1:80; location / { return 200 \"one $http_host\"; } }\n\
                server { listen 203.0.113.2:80; location / { return 200 \"two $http_host\"; } }";
    let _nginx = Nginx::start(lab, site, "203.0.113.2:80".parse().unwrap());
    let pair = lab.authority.issue("db.example.com", Leaf::Good);
    let tls = |at: &str, word: &'static [u8]| {
        Server::start_tls(lab, at.parse().unwrap(), &pair, move |mut stream| stream.write_all(word))
    };
    let _servers = [tls("203.0.113.1:8443", b"one"), tls("203.0.113.2:8443", b"two")];
    let ports = "{number: 80, name: http, protocol: HTTP}, {number: 8443, name: tls, protocol: TLS}";
    started(&names, &[entry("db1.example.com", ports, DNS), entry("db2.example.com", ports, DNS)].concat());
    let egret = lab.start_egret(&[]);
    for (name, word) in [("db1.example.com", "one"), ("db2.example.com", "two")] {
        let ip = short(lab, &[name, "A"]);
        let get = |host: &str| lab.curl(&["-H", &format!("Host: {host}"), &format!("http://{ip}/")]).stdout;
        assert!(get(name).starts_with(word), "{}", get(name));
        assert!(get(&ip).starts_with(word), "{}", get(&ip));
        assert_eq!(get("nobody.example"), format!("{word} nobody.example"));
        let old = lab.curl(&["--http1.0", "-H", "Host:", &format!("http://{ip}/")]);
        assert!(old.stdout.starts_with(word), "{old:?}");
        let unnamed = ["s_client", "-quiet", "-noservername", "-connect", &format!("{ip}:8443")];
        assert_eq!(lab.app("openssl", &unnamed).stdout, word);
        egret.log_line(&[&format!("outbound|8443||{name}")]);
    }
    // A name that is listed goes where it is listed, whatever the address.
    let ip = short(lab, &["db1.example.com", "A"]);
    let other = lab.curl(&["-H", "Host: db2.example.com", &format!("http://{ip}/")]).stdout;
    assert_eq!(other, "two db2.example.com");
}

/// Nobody comes to a server by naming a host that no entry lists, where that is forbidden.
#[test]
fn a_request_for_nobody_is_refused_where_only_listed_hosts_may_leave() {
    let names = RealNames::new();
    let lab = &names.lab;
    let site = "server { listen 203.0.113.1:80; location / { return 200 reached; } }";
    let _nginx = Nginx::start(lab, site, "203.0.113.1:80".parse().unwrap());
    started(&names, &entry("db1.example.com", "{number: 80, name: http, protocol: HTTP}", DNS));
    let _egret = lab.start_egret(&["--outbound-traffic-policy", "REGISTRY_ONLY"]);
    let ip = short(lab, &["db1.example.com", "A"]);
    assert_eq!(lab.curl(&[&format!("http://{ip}/")]).stdout, "reached");
    let refused = lab.curl(&["-i", "-H", "Host: nobody.example", &format!("http://{ip}/")]).stdout;
    assert!(refused.starts_with("HTTP/1.1 502"), "{refused}");
}

/// A wildcard has one address for all of its names, and the name that is asked for says where it leads.
#[test]
fn a_wildcard_that_is_looked_up_has_an_address() {
    let names = RealNames::new();
    let lab = &names.lab;
    let site = "server { listen 203.0.113.3:80; location / { return 200 \"www $http_host\"; } }";
    let _nginx = Nginx::start(lab, site, "203.0.113.3:80".parse().unwrap());
    started(&names, &entry("*.example.com", "{number: 80, name: http, protocol: HTTP}", "  resolution: DYNAMIC_DNS\n"));
    let _egret = lab.start_egret(&[]);
    let (www, other) = (short(lab, &["www.example.com", "A"]), short(lab, &["a.b.example.com", "A"]));
    assert!(www.starts_with("240.240.") && www == other, "{www} {other}");
    assert!(short(lab, &["example.com", "A"]).is_empty());
    assert_eq!(lab.curl(&["http://www.example.com/"]).stdout, "www www.example.com");
}
