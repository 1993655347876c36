//! Clients that change nothing and see what they would see: dig, the C library, Python.

use std::net::{SocketAddr, TcpListener, UdpSocket};

use crate::dns::entry;
use crate::dns::tools::{RealNames, dig, short};
use crate::lab::eventually;

fn listed() -> String {
    let port = "{number: 5432, name: tcp, protocol: TCP}";
    [
        entry(
            "vip.example.com",
            port,
            "  addresses: [192.0.2.7, 2001:db8:7::7]\n  resolution: STATIC\n  endpoints: [{address: 203.0.113.1}]\n",
        ),
        entry(
            "only4.example.com",
            port,
            "  addresses: [192.0.2.8]\n  resolution: STATIC\n  endpoints: [{address: 203.0.113.1}]\n",
        ),
        entry(
            "range.example.com",
            port,
            "  addresses: [198.51.100.0/24]\n  resolution: STATIC\n  endpoints: [{address: 203.0.113.1}]\n",
        ),
        entry("www.example.com", "{number: 443, name: tls, protocol: TLS}", "  resolution: NONE\n"),
    ]
    .concat()
}

#[test]
fn lookups_are_answered_or_passed_on_with_every_backend() {
    for backend in ["nft", "iptables-nft", "iptables-legacy"] {
        let names = RealNames::new();
        let lab = &names.lab;
        lab.pod.write_etc("resolv.conf", "nameserver 10.77.0.1\nnameserver fd77::1\nsearch shop.svc.cluster.local\n");
        lab.configure("a.yaml", &listed());
        lab.egret_command(&["init", "--backend", backend, "--capture-dns"]).succeeded();
        let egret = lab.start_egret(&[]);

        for server in ["@10.77.0.1", "@fd77::1"] {
            for transport in ["+notcp", "+tcp"] {
                let ask = |name: &str, kind: &str| short(lab, &[server, transport, name, kind]);
                assert_eq!(ask("vip.example.com", "A"), "192.0.2.7", "{backend} {server} {transport}");
                assert_eq!(ask("vip.example.com", "AAAA"), "2001:db8:7::7", "{backend} {server} {transport}");
                assert_eq!(ask("plain.example.org", "A"), "203.0.113.1", "{backend} {server} {transport}");
                assert_eq!(ask("plain.example.org", "AAAA"), "2001:db8::1", "{backend} {server} {transport}");
                assert_eq!(ask("plain.example.org", "TXT"), "\"text of plain\"", "{backend} {server} {transport}");
            }
        }
        let answer = dig(lab, &["VIP.Example.com", "A"]);
        assert!(answer.contains("flags: qr aa rd ra;"), "{answer}");
        assert!(answer.contains("VIP.Example.com.\t30\tIN\tA\t192.0.2.7"), "{answer}");
        for (name, kind) in [("only4.example.com", "AAAA"), ("vip.example.com", "HTTPS"), ("vip.example.com", "SVCB")] {
            let answer = dig(lab, &[name, kind]);
            assert!(answer.contains("status: NOERROR") && answer.contains("ANSWER: 0"), "{backend}: {answer}");
        }
        assert!(dig(lab, &["nosuch.example.com", "A"]).contains("status: NXDOMAIN"));
        // A range is no answer, and an entry that follows the application has none to give.
        assert!(dig(lab, &["range.example.com", "A"]).contains("status: NXDOMAIN"));
        assert_eq!(short(lab, &["www.example.com", "A"]), "203.0.113.3");
        let searched = short(lab, &["+search", "+ndots=5", "vip.example.com", "A"]);
        assert_eq!(searched, "vip.example.com.\n192.0.2.7");
        assert!(!names.asked().contains("vip.example.com.shop"), "{}", names.asked());

        // What init connects to stands, or the proxy would have reset it before init can look.
        let _reached = lab.outside.enter(|| TcpListener::bind("[2001:db8::2]:15002")).unwrap();
        let said = lab.egret_command(&["init", "--backend", backend, "--capture-dns"]).succeeded().stdout;
        assert!(said.contains("was answered at 127.0.0.1:15053 by the proxy that runs already"), "{said}");
        assert!(said.contains("was answered at [::1]:15053"), "{said}");
        assert!(egret.sample("egret_dns_queries_total{answer=\"forwarded\"}").unwrap() >= 10.0);
        assert!(egret.sample("egret_dns_queries_total{answer=\"table\"}").unwrap() >= 10.0);
    }
}

#[test]
fn the_c_library_and_python_find_names() {
    let names = RealNames::new();
    let lab = &names.lab;
    lab.configure("a.yaml", &listed());
    lab.egret_command(&["init", "--capture-dns"]).succeeded();
    let _egret = lab.start_egret(&[]);
    let getent = |name: &str| lab.app("getent", &["ahosts", name]).stdout;
    assert!(getent("vip.example.com").contains("192.0.2.7") && getent("vip.example.com").contains("2001:db8:7::7"));
    assert!(getent("plain.example.org").contains("203.0.113.1"));
    assert_eq!(getent("nosuch.example.org"), "");
    let program = "import socket\n\
                   print(*sorted({a[4][0] for a in socket.getaddrinfo('only4.example.com', 1)}))\n\
                   print(*sorted({a[4][0] for a in socket.getaddrinfo('plain.example.org', 1)}))";
    let found = lab.app("/usr/bin/python3", &["-c", program]).succeeded().stdout;
    assert_eq!(found, "192.0.2.8\n2001:db8::1 203.0.113.1\n");
}

/// Resolvers of their own: c-ares in Node, which asks for all it can, and Java's.
#[test]
fn other_resolvers_find_names() {
    let names = RealNames::new();
    let lab = &names.lab;
    lab.configure("a.yaml", &listed());
    lab.egret_command(&["init", "--capture-dns"]).succeeded();
    let _egret = lab.start_egret(&[]);
    let program = "const d = require('dns').promises; (async () => {\n\
                   const a = async (f, n) => { try { return (await f.call(d, n)).join(' ') } catch (e) { return e.code } };\n\
                   console.log(await a(d.resolve4, 'vip.example.com'), await a(d.resolve6, 'vip.example.com'));\n\
                   console.log(await a(d.resolve4, 'plain.example.org'), await a(d.resolve6, 'only4.example.com'));\n\
                   console.log(await a(d.resolve4, 'nosuch.example.org'), await a(d.resolveTxt, 'plain.example.org'));\n\
                   })()";
    let found = lab.app("node", &["-e", program]).succeeded().stdout;
    assert_eq!(found, "192.0.2.7 2001:db8:7::7\n203.0.113.1 ENODATA\nENOTFOUND text of plain\n");
    let source = "import java.net.InetAddress;\npublic class Lookup { public static void main(String[] names) throws Exception {\n\
                  for (String name : names) System.out.println(InetAddress.getAllByName(name)[0].getHostAddress()); } }\n";
    let file = lab.write("Lookup.java", source);
    let arguments =
        ["-Djava.net.preferIPv4Stack=true", crate::lab::utf8(&file), "vip.example.com", "plain.example.org"];
    let found = lab.app("java", &arguments).succeeded().stdout;
    assert_eq!(found, "192.0.2.7\n203.0.113.1\n");
}

/// A resolver in the pod, which is captured where the application asks it, and asked by egret.
#[test]
fn a_resolver_inside_the_pod_is_captured_too() {
    let names = RealNames::new();
    let lab = &names.lab;
    lab.pod.write_etc("resolv.conf", "nameserver 127.0.0.53\n");
    lab.configure("a.yaml", &listed());
    lab.egret_command(&["init", "--capture-dns"]).succeeded();
    let _egret = lab.start_egret(&[]);
    let flags = [
        "--listen-address=127.0.0.53",
        "--bind-interfaces",
        "-k",
        "--conf-file=/dev/null",
        "--no-hosts",
        "--no-resolv",
        "--server=10.77.0.1",
        "--pid-file=",
        "--user=nobody",
    ];
    let command = lab.pod.command("dnsmasq", &flags);
    let _local = crate::lab::process::Kept::start(command, lab.dir(), "local");
    eventually("the resolver in the pod answers", || short(lab, &["plain.example.org", "A"]) == "203.0.113.1");
    assert_eq!(short(lab, &["vip.example.com", "A"]), "192.0.2.7");
}

#[test]
fn rules_alone_and_a_proxy_that_ended_refuse() {
    let names = RealNames::new();
    let lab = &names.lab;
    lab.configure("a.yaml", &listed());
    let said = lab.egret_command(&["init", "--capture-dns"]).succeeded().stdout;
    assert!(said.contains("a DNS query to 10.77.0.1:53 arrived at 127.0.0.1:15053"), "{said}");
    let refused = |what: &str| {
        for transport in ["+notcp", "+tcp"] {
            let answer = dig(lab, &[transport, "plain.example.org", "A"]);
            assert!(
                answer.contains("connection refused") && !answer.contains("203.0.113.1"),
                "{what} {transport}: {answer}"
            );
        }
    };
    refused("rules alone");
    let mut egret = lab.start_egret(&[]);
    assert_eq!(short(lab, &["plain.example.org", "A"]), "203.0.113.1");
    egret.kill();
    refused("the proxy is gone");
    lab.egret_command(&["init", "--cleanup"]).succeeded();
    assert_eq!(short(lab, &["plain.example.org", "A"]), "203.0.113.1");
}

#[test]
fn doctor_asks_through_the_listener() {
    let names = RealNames::new();
    let lab = &names.lab;
    lab.configure("a.yaml", &listed());
    let doctor = || {
        let mut command = lab.pod.command("env", &["EGRET_CAPTURE_DNS=1", env!("CARGO_BIN_EXE_egret"), "doctor"]);
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    assert!(doctor().contains("not answered by egret"), "{}", doctor());
    lab.egret_command(&["init", "--capture-dns"]).succeeded();
    let _egret = lab.start_egret(&[]);
    let said = doctor();
    assert!(said.contains("queries to the name servers are answered by egret "), "{said}");
}

/// The file is read again, as the resolver of egret itself reads it.
#[test]
fn other_servers_in_resolv_conf_are_asked_from_then_on() {
    let names = RealNames::new();
    let lab = &names.lab;
    lab.pod.write_etc("resolv.conf", "nameserver 203.0.113.9\noptions timeout:1\n");
    lab.configure("a.yaml", &listed());
    lab.egret_command(&["init", "--capture-all-dns"]).succeeded();
    lab.outside.ip(&["addr", "del", "203.0.113.9/32", "dev", "lo"]);
    let _egret = lab.start_egret(&[]);
    let answer = dig(lab, &["plain.example.org", "A"]);
    assert!(answer.contains("status: SERVFAIL"), "{answer}");
    lab.pod.write_etc("resolv.conf", "nameserver 10.77.0.1\n");
    eventually("the other server is asked", || short(lab, &["plain.example.org", "A"]) == "203.0.113.1");
}

/// Some clients vary letters and want them back, beside the right id and port.
#[test]
fn letters_ids_and_sizes_come_back_as_they_were_sent() {
    let names = RealNames::new();
    let lab = &names.lab;
    let many: Vec<String> = (1..=120).map(|n| format!("192.0.2.{n}")).collect();
    let more =
        format!("  addresses: [{}]\n  resolution: STATIC\n  endpoints: [{{address: 203.0.113.1}}]\n", many.join(", "));
    lab.configure("a.yaml", &entry("many.example.com", "{number: 5432, name: tcp, protocol: TCP}", &more));
    lab.egret_command(&["init", "--capture-dns"]).succeeded();
    let _egret = lab.start_egret(&[]);
    let server: SocketAddr = "10.77.0.1:53".parse().unwrap();
    let socket = lab.pod.enter(|| UdpSocket::bind("0.0.0.0:0")).unwrap();
    socket.set_read_timeout(Some(crate::lab::PATIENCE)).unwrap();
    for name in ["pLaIn.eXaMpLe.OrG", "MANY.example.COM"] {
        let mut query = vec![0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            query.push(label.len() as u8);
            query.extend(label.as_bytes());
        }
        query.extend([0, 0, 1, 0, 1]);
        socket.send_to(&query, server).unwrap();
        let mut buffer = [0; 2048];
        let (length, from) = socket.recv_from(&mut buffer).unwrap();
        assert_eq!(from, server);
        assert_eq!(buffer[..2], [0xab, 0xcd]);
        assert_eq!(buffer[12..query.len()], query[12..], "{name}");
        assert!(length <= 512, "{name}: {length}");
    }
    let cut = dig(lab, &["+noedns", "+ignore", "many.example.com", "A"]);
    assert!(cut.contains("flags: qr aa tc rd ra;"), "{cut}");
    // dig asks again over TCP by itself, and what fits a larger size is whole.
    assert_eq!(short(lab, &["+noedns", "many.example.com", "A"]).lines().count(), 120);
    assert_eq!(short(lab, &["+bufsize=4096", "+notcp", "+ignore", "many.example.com", "A"]).lines().count(), 120);
}
