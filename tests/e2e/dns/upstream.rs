//! Name servers over TLS: what is looked up is seen by nobody on the way, or not looked up at all.

use std::io::{self, Read, Write};
use std::net::IpAddr;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{RData, Record, RecordType};

use super::entry;
use super::tools::{dig, short};
use crate::lab::pki::Leaf;
use crate::lab::server::Server;
use crate::lab::{Lab, eventually, utf8};

const NAME: &str = "dns.example";

/// Answers queries, one after the other, until the client ends.
fn answer(stream: &mut (impl Read + Write)) -> io::Result<()> {
    loop {
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        let mut query = vec![0; u16::from_be_bytes(length).into()];
        stream.read_exact(&mut query)?;
        let mut message = Message::from_vec(&query).map_err(io::Error::other)?.into_response();
        message.edns = None;
        let question = message.queries[0].clone();
        if question.name.to_string().starts_with("nosuch") {
            message.metadata.response_code = ResponseCode::NXDomain;
        } else if question.query_type == RecordType::A {
            message.add_answer(Record::from_rdata(question.name, 5, RData::A(A::new(203, 0, 113, 1))));
        }
        let bytes = message.to_vec().map_err(io::Error::other)?;
        stream.write_all(&[&(bytes.len() as u16).to_be_bytes()[..], &bytes].concat())?;
        stream.flush()?;
    }
}

fn lab() -> Lab {
    let lab = Lab::new();
    lab.pod.write_etc("resolv.conf", "nameserver 203.0.113.5\noptions timeout:3\n");
    let port = "{number: 80, name: http, protocol: HTTP}";
    lab.configure("a.yaml", &entry("www.example.com", port, "  resolution: DNS\n"));
    lab.egret_command(&["init", "--capture-all-dns", "--no-verify"]).succeeded();
    lab
}

fn server(lab: &Lab, name: &str) -> Server {
    let pair = lab.authority.issue(name, Leaf::Good);
    Server::start_tls(lab, "203.0.113.5:853".parse().unwrap(), &pair, |mut stream| answer(&mut stream))
}

fn flags(lab: &Lab) -> [String; 6] {
    ["--dns-transport", "TLS", "--dns-server-name", NAME, "--dns-ca-certificates", utf8(&lab.ca_file())]
        .map(str::to_owned)
}

#[test]
fn lookups_go_over_tls_and_nothing_else() {
    let lab = lab();
    let server = server(&lab, NAME);
    let nginx = "server { listen 203.0.113.1:80; location / { return 200 reached; } }";
    let _nginx = crate::lab::nginx::Nginx::start(&lab, nginx, "203.0.113.1:80".parse().unwrap());
    let flags = flags(&lab);
    let egret = lab.start_egret(&flags.each_ref().map(String::as_str));
    assert_eq!(short(&lab, &["plain.example.org", "A"]), "203.0.113.1");
    assert_eq!(short(&lab, &["+tcp", "other.example.org", "A"]), "203.0.113.1");
    assert!(dig(&lab, &["nosuch.example.org", "A"]).contains("status: NXDOMAIN"));
    // What egret itself resolves.
    assert_eq!(lab.curl(&["http://www.example.com/"]).stdout, "reached");
    for number in 0..20 {
        assert_eq!(short(&lab, &[&format!("n{number}.example.org"), "A"]), "203.0.113.1");
    }
    assert_eq!(lab.names.queries(), 0, "nothing is asked in the clear");
    assert!(server.accepted() <= 6, "connections are kept: {} for some 25 queries", server.accepted());
    drop(egret);
}

#[test]
fn a_server_that_cannot_prove_its_name_is_told_nothing() {
    let lab = lab();
    let server = server(&lab, "other.example");
    let at: [IpAddr; 1] = ["203.0.113.1".parse().unwrap()];
    lab.names.set("plain.example.org", &at);
    let flags = flags(&lab);
    let egret = lab.start_egret(&flags.each_ref().map(String::as_str));
    assert!(dig(&lab, &["plain.example.org", "A"]).contains("status: SERVFAIL"));
    assert_eq!(lab.names.queries(), 0, "no query falls back to the clear");
    assert!(server.accepted() >= 1);
    eventually("egret's own lookups say why", || {
        egret.stderr().contains("www.example.com") && egret.stderr().contains("ertificate")
    });
}

#[test]
fn without_material_no_name_server_is_asked() {
    let lab = lab();
    let at: [IpAddr; 1] = ["203.0.113.1".parse().unwrap()];
    lab.names.set("plain.example.org", &at);
    let missing = lab.dir().join("missing.pem");
    let flags = ["--dns-transport", "TLS", "--dns-server-name", NAME, "--dns-ca-certificates", utf8(&missing)];
    let egret = lab.start_egret(&flags);
    assert!(dig(&lab, &["plain.example.org", "A"]).contains("status: SERVFAIL"));
    assert_eq!(lab.names.queries(), 0);
    assert!(egret.stderr().contains("name servers cannot be asked over TLS"), "{}", egret.stderr());
}

#[test]
fn tls_needs_a_name() {
    let lab = lab();
    lab.configure("s.yaml", "apiVersion: egret/v1\nkind: Settings\nspec: {dnsTransport: TLS}\n");
    let egret = lab.launch_egret(&[]);
    eventually("the error is told", || egret.stderr().contains("dnsTransport TLS needs dnsServerName"));
    assert!(egret.stderr().contains("s.yaml:2:7"), "{}", egret.stderr());
}
