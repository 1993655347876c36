//! The pure hot functions, each run so often as it is told: what `scripts/instructions` counts the instructions of.
//!
//! Usage: `instructions CASE ROUNDS`; without arguments the names of the cases. Counting two numbers of rounds and taking
//! the difference leaves out the start and the inputs. The cryptography is absent: which code runs depends on the CPU.

use std::hint::black_box;
use std::time::{Duration, SystemTime};

use egret::flow::{ClientAddr, Host, OriginalDst};
use egret::http::{BodyLength, BodyScanner, RequestEdits};
use egret::observe::{AccessRecord, HttpExchange};
use egret::sniff::detect;

mod cases;

#[path = "../src/io/executor/wheel.rs"]
#[allow(dead_code, unused_imports, reason = "alarms are set, cleared and sounded; its tests run elsewhere")]
mod wheel;

type Work = Box<dyn FnMut()>;
/// Its name, and how it is set up.
type Case = (&'static str, fn() -> Work);

const CASES: [Case; 9] = [
    ("sniff-http1", || Box::new(|| drop(black_box(detect(black_box(cases::REQUEST)))))),
    ("sniff-client-hello", || {
        let hello = cases::client_hello("api.example.com");
        Box::new(move || drop(black_box(detect(black_box(&hello)))))
    }),
    ("request-head", || Box::new(|| drop(black_box(cases::request(black_box(cases::REQUEST)))))),
    ("response-head", || Box::new(|| _ = black_box(cases::response(black_box(cases::RESPONSE))))),
    ("request-rewritten", rewriting),
    ("framing-64-chunks", || {
        let body = cases::chunked(64);
        Box::new(move || {
            black_box(BodyScanner::new(BodyLength::Chunked).advance(black_box(&body)).expect("a chunked body"));
        })
    }),
    // Of larger tables the count depends on the seed of their hashes; `functions` times those.
    ("policy-10", || lookup(10)),
    ("access-log-line", logging),
    ("alarm-set-and-clear", alarm),
];

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let Some(name) = arguments.next() else {
        return CASES.iter().for_each(|(name, _)| println!("{name}"));
    };
    let rounds: u32 = arguments.next().and_then(|rounds| rounds.parse().ok()).expect("a number of rounds");
    let (_, make) = CASES.iter().find(|(case, _)| *case == name).expect("a case of the list");
    let mut work = make();
    for _ in 0..rounds {
        work();
    }
}

fn rewriting() -> Work {
    let (head, mut out) = (cases::request(cases::REQUEST), Vec::with_capacity(4096));
    Box::new(move || {
        out.clear();
        let edits = RequestEdits { path: Some(b"/v2/charges"), ..RequestEdits::default() };
        head.write_edited(black_box(cases::REQUEST), edits, &mut out);
    })
}

fn lookup(hosts: usize) -> Work {
    let table = cases::table(&cases::resources(hosts));
    let host = Host::Name(cases::host(hosts / 2).parse().expect("a host name"));
    Box::new(move || assert!(cases::is_named(black_box(&table), black_box(&host))))
}

fn logging() -> Work {
    let address = |text: &str| text.parse().expect("an address");
    let record = AccessRecord {
        http: Some(HttpExchange {
            method: Some(b"POST"),
            path: Some(b"/v1/charges?expand=customer"),
            protocol: Some("HTTP/1.1"),
            upstream_service_time: Some(Duration::from_micros(12_900)),
            user_agent: Some(b"sdk-python/9.3.0 (linux; x86_64)"),
            request_id: Some(b"6f1c1d3e-6a2b-4f0e-9a53-0f7a3f0d3c11"),
            authority: Some(b"api.example.com"),
            forwarded_for: None,
            call: None,
        }),
        response_code: 200,
        response_code_details: Some("via_upstream"),
        bytes_received: 181,
        bytes_sent: 2048,
        duration: Duration::from_millis(13),
        upstream_host: Some(address("203.0.113.7:443")),
        upstream_cluster: Some("outbound|80||api.example.com"),
        upstream_local_address: Some(address("10.0.0.7:44552")),
        downstream_local_address: Some(OriginalDst::new(address("203.0.113.7:80"))),
        downstream_remote_address: Some(ClientAddr::new(address("10.0.0.7:51230"))),
        route_name: Some("default"),
        ..AccessRecord::blank(SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_396_324_007))
    };
    let mut line = Vec::with_capacity(4096);
    Box::new(move || {
        line.clear();
        black_box(&record).write_text(&mut line);
    })
}

fn alarm() -> Work {
    let mut wheel = wheel::Wheel::new();
    for at in 0..1_000 {
        wheel.insert(10_000 + at * 37, ());
    }
    Box::new(move || {
        let key = wheel.insert(black_box(15_000), ());
        black_box(wheel.remove(key));
    })
}
