//! Name servers that are silent, late, lying, or of few words.

use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{RData, Record};

use crate::dns::entry;
use crate::dns::tools::{Server, dig, short};
use crate::lab::Lab;

fn lab(resolv_conf: &str) -> Lab {
    let mut lab = Lab::new();
    lab.names.stop();
    lab.pod.write_etc("resolv.conf", resolv_conf);
    let port = "{number: 5432, name: tcp, protocol: TCP}";
    lab.configure(
        "a.yaml",
        &entry("x.example.com", port, "  resolution: STATIC\n  endpoints: [{address: 203.0.113.1}]\n"),
    );
    lab.egret_command(&["init", "--capture-all-dns", "--no-verify"]).succeeded();
    lab
}

fn answer(query: &[u8], change: impl FnOnce(&mut Message)) -> Vec<u8> {
    let mut message = Message::from_vec(query).unwrap().into_response();
    change(&mut message);
    message.to_vec().unwrap()
}

fn address(query: &[u8], last: u8) -> Vec<u8> {
    answer(query, |message| {
        let name = message.queries[0].name.clone();
        message.add_answer(Record::from_rdata(name, 5, RData::A(A::new(192, 0, 2, last))));
    })
}

fn with_code(query: &[u8], code: ResponseCode) -> Vec<u8> {
    answer(query, |message| message.metadata.response_code = code)
}

#[test]
fn a_server_that_is_silent_gone_or_unwilling_is_followed_by_the_next() {
    type Behaviour = fn(&[u8]) -> Vec<Vec<u8>>;
    let first: [(&str, Option<Behaviour>); 5] = [
        ("silent", Some(|_| Vec::new())),
        ("gone", None),
        ("SERVFAIL", Some(|query| vec![with_code(query, ResponseCode::ServFail)])),
        ("REFUSED", Some(|query| vec![with_code(query, ResponseCode::Refused)])),
        ("NOTIMP", Some(|query| vec![with_code(query, ResponseCode::NotImp)])),
    ];
    for (what, behave) in first {
        let lab = lab("nameserver 203.0.113.1\nnameserver 203.0.113.2\noptions timeout:2\n");
        let _first = behave.map(|behave| Server::udp(&lab, "203.0.113.1:53", behave));
        let second = Server::udp(&lab, "203.0.113.2:53", |query| vec![address(query, 2)]);
        let _egret = lab.start_egret(&[]);
        for name in ["a.test", "b.test"] {
            assert_eq!(short(&lab, &[name, "A"]), "192.0.2.2", "{what}");
        }
        assert!(second.asked() >= 2, "{what}");
    }
}

/// The client has an answer in its own time, and from then on without a wait.
#[test]
fn a_silent_server_comes_last_for_a_while() {
    let lab = lab("nameserver 203.0.113.1\nnameserver 203.0.113.2\noptions timeout:2\n");
    let first = Server::udp(&lab, "203.0.113.1:53", |_| Vec::new());
    let _second = Server::udp(&lab, "203.0.113.2:53", |query| vec![address(query, 2)]);
    let _egret = lab.start_egret(&[]);
    assert_eq!(short(&lab, &["a.test", "A"]), "192.0.2.2");
    let before = first.asked();
    for _ in 0..5 {
        assert_eq!(short(&lab, &["b.test", "A"]), "192.0.2.2");
    }
    assert_eq!(first.asked(), before);
}

#[test]
fn no_server_at_all_is_servfail_and_listed_names_have_their_answer() {
    let lab = lab("nameserver 203.0.113.1\nnameserver 203.0.113.2\noptions timeout:1\n");
    let egret = lab.start_egret(&[]);
    assert!(dig(&lab, &["a.test", "A"]).contains("status: SERVFAIL"));
    assert!(dig(&lab, &["+tcp", "a.test", "A"]).contains("status: SERVFAIL"));
    assert!(short(&lab, &["x.example.com", "A"]).starts_with("240.240."));
    assert!(egret.sample("egret_dns_queries_total{answer=\"error\"}").unwrap() >= 2.0);
}

/// Neither a wrong id nor another question is believed; the right answer behind them is.
#[test]
fn lies_are_ignored() {
    let lab = lab("nameserver 203.0.113.1\noptions timeout:2\n");
    let _server = Server::udp(&lab, "203.0.113.1:53", |query| {
        let mut id = address(query, 66);
        id[0] ^= 1;
        let question = address(&other_question(query), 66);
        let echo = query.to_vec();
        vec![id, question, echo, vec![1, 2, 3], address(query, 1)]
    });
    let _egret = lab.start_egret(&[]);
    for name in ["a.test", "b.test", "c.test", "d.test"] {
        assert_eq!(short(&lab, &[name, "A"]), "192.0.2.1");
    }
}

fn other_question(query: &[u8]) -> Vec<u8> {
    let mut other = query.to_vec();
    // The first letter of the name.
    other[13] = b'z';
    other
}

#[test]
fn nothing_but_lies_ends_over_tcp() {
    let lab = lab("nameserver 203.0.113.1\noptions timeout:2\n");
    let _udp = Server::udp(&lab, "203.0.113.1:53", |query| {
        let mut wrong = address(query, 66);
        wrong[1] ^= 1;
        vec![wrong; 20]
    });
    let _tcp = Server::tcp(&lab, "203.0.113.1:53", |query| address(query, 1));
    let _egret = lab.start_egret(&[]);
    assert_eq!(short(&lab, &["a.test", "A"]), "192.0.2.1");
}

#[test]
fn a_server_over_tcp_only_is_asked_over_tcp() {
    for resolv_conf in ["nameserver 203.0.113.1\n", "nameserver 203.0.113.1\noptions use-vc\n"] {
        let lab = lab(resolv_conf);
        let server = Server::tcp(&lab, "203.0.113.1:53", |query| {
            answer(query, |message| {
                let name = message.queries[0].name.clone();
                for last in 1..=60 {
                    message.add_answer(Record::from_rdata(name.clone(), 5, RData::A(A::new(192, 0, 2, last))));
                }
            })
        });
        let _egret = lab.start_egret(&[]);
        // Longer than the client takes: cut, and whole over TCP.
        let cut = dig(&lab, &["+noedns", "+ignore", "a.test", "A"]);
        assert!(cut.contains(" tc "), "{resolv_conf}: {cut}");
        assert_eq!(short(&lab, &["+noedns", "a.test", "A"]).lines().count(), 60, "{resolv_conf}");
        assert!(server.asked() >= 3, "{resolv_conf}");
    }
}

#[test]
fn a_cut_answer_is_passed_on_and_the_client_asks_over_tcp() {
    let lab = lab("nameserver 203.0.113.1\n");
    let _udp =
        Server::udp(&lab, "203.0.113.1:53", |query| vec![answer(query, |message| message.metadata.truncation = true)]);
    let _tcp = Server::tcp(&lab, "203.0.113.1:53", |query| address(query, 1));
    let _egret = lab.start_egret(&[]);
    assert_eq!(short(&lab, &["a.test", "A"]), "192.0.2.1");
}

/// What comes after its time meets no other query.
#[test]
fn late_answers_do_no_harm() {
    let lab = lab("nameserver 203.0.113.1\noptions timeout:1\n");
    let server = Server::udp(&lab, "203.0.113.1:53", |query| {
        let is_slow = Message::from_vec(query).unwrap().queries[0].name.to_string().starts_with("slow");
        if is_slow {
            std::thread::sleep(Duration::from_millis(1500));
        }
        vec![address(query, if is_slow { 66 } else { 1 })]
    });
    let _egret = lab.start_egret(&[]);
    assert!(dig(&lab, &["slow.test", "A"]).contains("status: SERVFAIL"));
    for _ in 0..3 {
        assert_eq!(short(&lab, &["+tries=3", "+timeout=2", "quick.test", "A"]), "192.0.2.1");
    }
    assert!(server.asked() >= 4);
}

#[test]
fn rotate_asks_each_server() {
    let lab = lab("nameserver 203.0.113.1\nnameserver 203.0.113.2\noptions rotate\n");
    let first = Server::udp(&lab, "203.0.113.1:53", |query| vec![address(query, 1)]);
    let second = Server::udp(&lab, "203.0.113.2:53", |query| vec![address(query, 2)]);
    let _egret = lab.start_egret(&[]);
    for _ in 0..8 {
        short(&lab, &["a.test", "A"]);
    }
    assert!(first.asked() >= 2 && second.asked() >= 2, "{} {}", first.asked(), second.asked());
}
