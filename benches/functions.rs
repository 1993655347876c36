//! Time of the pure functions that every connection, request or record passes through, and of compiling a policy.

use std::collections::VecDeque;
use std::hint::black_box;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use egret::flow::Host;
use egret::http::{BodyLength, BodyScanner};
use egret::io::Lease;
use egret::sniff::{Detection, detect};
use egret::tls::{
    Alpn, ClientProfile, MinimumVersion, NameCheck, ProfileMode, ProfileRequest, Session, SniSource, TrustSource,
};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection};

mod cases;

#[path = "cases/allocator.rs"]
mod allocator;

/// The engine's own: it is no part of the crate's interface, and needs nothing of it.
#[path = "../src/io/executor/wheel.rs"]
#[allow(dead_code, unused_imports, reason = "a bench sets, clears and sounds alarms; its tests run elsewhere")]
mod wheel;

const SIZES: [usize; 3] = [10, 1_000, 10_000];

fn sniffing(bench: &mut Criterion) {
    let hello = cases::client_hello("api.example.com");
    assert!(matches!(detect(&hello), Detection::Tls(_)), "the hello is one");
    let mut group = bench.benchmark_group("sniff");
    group.bench_function("http1", |b| b.iter(|| detect(black_box(cases::REQUEST))));
    group.bench_function("client hello", |b| b.iter(|| detect(black_box(&hello))));
    group.bench_function("opaque", |b| b.iter(|| detect(black_box(b"\x00\x00\x00\x17\x03database"))));
    group.finish();
}

fn heads(bench: &mut Criterion) {
    let mut group = bench.benchmark_group("heads");
    group.bench_function("request", |b| b.iter(|| cases::request(black_box(cases::REQUEST))));
    group.bench_function("response", |b| b.iter(|| cases::response(black_box(cases::RESPONSE))));
    group.finish();
}

fn framing(bench: &mut Criterion) {
    let body = cases::chunked(64);
    let mut group = bench.benchmark_group("framing");
    group.throughput(Throughput::Bytes(body.len() as u64));
    group.bench_function("64 chunks", |b| {
        b.iter(|| BodyScanner::new(BodyLength::Chunked).advance(black_box(&body)).expect("a chunked body"));
    });
    group.bench_function("counted", |b| {
        b.iter(|| BodyScanner::new(BodyLength::Length(64_000)).advance(black_box(&body)).expect("a body"));
    });
    group.finish();
}

fn policy(bench: &mut Criterion) {
    let mut group = bench.benchmark_group("policy");
    group.sample_size(10);
    for size in SIZES {
        let resources = cases::resources(size);
        let before = allocator::live_bytes();
        let table = cases::table(&resources);
        let bytes = allocator::live_bytes() - before;
        println!("policy: a table of {size} hosts takes {bytes} bytes, {} a host", bytes / size);
        let hosts: Vec<_> = (0..64).map(|at| Host::Name(cases::host(at * size / 64).parse().unwrap())).collect();
        let mut turn = 0;
        group.bench_function(BenchmarkId::new("lookup", size), |b| {
            b.iter(|| {
                turn = (turn + 1) % hosts.len();
                assert!(cases::is_named(&table, &hosts[turn]));
            });
        });
        group.bench_function(BenchmarkId::new("compile", size), |b| b.iter(|| cases::table(&resources)));
        let routed = cases::routed(size);
        group.bench_function(BenchmarkId::new("compile with routes", size), |b| b.iter(|| cases::table(&routed)));
    }
    group.finish();
}

fn records(bench: &mut Criterion) {
    let mut group = bench.benchmark_group("records");
    for size in [100, 16 << 10] {
        let (mut client, mut server) = session();
        let data = vec![7; size];
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::new("open", size), |b| {
            let mut plaintext = VecDeque::new();
            let sealed = || {
                let mut wire = Vec::new();
                server.writer().write_all(&data).unwrap();
                server.write_tls(&mut wire).unwrap();
                Lease::from_vec(wire)
            };
            let open = |record| {
                client.open(record, &mut plaintext).expect("a genuine record");
                plaintext.pop_front()
            };
            b.iter_batched(sealed, open, BatchSize::SmallInput);
        });
        group.bench_function(BenchmarkId::new("seal", size), |b| {
            let mut wire = Vec::with_capacity(size + 256);
            b.iter(|| {
                wire.clear();
                client.seal(&[&data], &mut wire).expect("an open session");
            });
        });
    }
    group.finish();
}

/// An open session and the server at its other end.
fn session() -> (Session, ServerConnection) {
    let key = rcgen::generate_simple_self_signed(vec!["api.example.com".to_owned()]).expect("a certificate");
    let secret = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = builder.with_no_client_auth().with_single_cert(vec![key.cert.der().clone()], secret).unwrap();
    let mut server = ServerConnection::new(Arc::new(config)).unwrap();
    let request = ProfileRequest {
        mode: ProfileMode::Simple,
        trust: TrustSource::Unverified,
        identity: None,
        names: NameCheck::ChainOnly,
        sni: SniSource::FromHost,
        alpn: Alpn::NONE,
    };
    let profile = ClientProfile::new(request, None, None, MinimumVersion::Tls13).unwrap();
    let name = profile.server_name(&Host::Name("api.example.com".parse().unwrap())).unwrap();
    let mut client = Session::new(&profile.client_config(), name).unwrap();
    loop {
        let (mut out, mut back) = (Vec::new(), Vec::new());
        client.take_output(&mut out);
        let mut rest = &out[..];
        while !rest.is_empty() {
            server.read_tls(&mut rest).unwrap();
            server.process_new_packets().unwrap();
        }
        while server.wants_write() {
            server.write_tls(&mut back).unwrap();
        }
        if out.is_empty() && back.is_empty() {
            return (client, server);
        }
        client.open(Lease::from_vec(back), &mut VecDeque::new()).unwrap();
    }
}

fn alarms(bench: &mut Criterion) {
    let mut group = bench.benchmark_group("wheel");
    group.bench_function("set and clear", |b| {
        let mut wheel = wheel::Wheel::new();
        for at in 0..1_000 {
            wheel.insert(10_000 + at * 37, ());
        }
        b.iter(|| {
            let key = wheel.insert(black_box(15_000), ());
            wheel.remove(key)
        });
    });
    group.bench_function("1,000 go off", |b| {
        b.iter(|| {
            let (mut wheel, mut due) = (wheel::Wheel::new(), Vec::new());
            for at in 0..1_000_u64 {
                wheel.insert(at * 7, at);
            }
            wheel.advance(7_000, &mut due);
            assert_eq!((due.len(), wheel.len()), (1_000, 0));
        });
    });
    group.finish();
}

criterion_group! {
    name = functions;
    config = Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    targets = sniffing, heads, framing, policy, records, alarms
}
criterion_main!(functions);
