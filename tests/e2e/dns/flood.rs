//! Many queries, hostile ones, and clients that do not let go: each asker has its own answer, and nothing grows.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{Name, RData, Record, RecordType};

use crate::dns::tools::{Server, dig, short};
use crate::lab::{Lab, PATIENCE, eventually};

const SERVER: &str = "10.77.0.1:53";

fn lab(options: &str) -> Lab {
    let mut lab = Lab::new();
    lab.names.stop();
    lab.pod.write_etc("resolv.conf", &format!("nameserver 10.77.0.1\n{options}"));
    let port = "{number: 5432, name: tcp, protocol: TCP}";
    let more = "  resolution: STATIC\n  addresses: [192.0.2.7]\n  endpoints: [{address: 203.0.113.1}]\n";
    lab.configure("a.yaml", &crate::dns::entry("x.example.com", port, more));
    lab.egret_command(&["init", "--capture-dns"]).succeeded();
    lab
}

fn query(id: u16, name: &str) -> Vec<u8> {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
    message.to_vec().unwrap()
}

/// An address that follows from the name: `n-300.test` is 10.0.1.44.
fn by_name(query: &[u8]) -> Vec<Vec<u8>> {
    let mut message = Message::from_vec(query).unwrap().into_response();
    let name = message.queries[0].name.clone();
    let number: u32 = name.to_string().trim_start_matches("n-").split('.').next().unwrap().parse().unwrap();
    message.add_answer(Record::from_rdata(name, 5, RData::A(A::from(std::net::Ipv4Addr::from(0x0a00_0000 + number)))));
    vec![message.to_vec().unwrap()]
}

fn client(lab: &Lab) -> UdpSocket {
    let socket = lab.pod.enter(|| UdpSocket::bind("0.0.0.0:0")).unwrap();
    socket.connect(SERVER).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
    socket
}

/// Four askers with sixteen queries each on their way, ids alike: each answer belongs to its question.
#[test]
fn every_asker_has_its_own_answers() {
    const QUERIES: u32 = 3000;
    const WINDOW: usize = 16;
    let lab = lab("");
    let _server = Server::udp(&lab, "10.77.0.1:53", by_name);
    let egret = lab.start_egret(&[]);
    std::thread::scope(|scope| {
        for asker in 0..4_u32 {
            let socket = client(&lab);
            scope.spawn(move || {
                let (mut next, mut waiting) = (0, HashMap::new());
                while next < QUERIES || !waiting.is_empty() {
                    while next < QUERIES && waiting.len() < WINDOW {
                        let (id, number) = (next as u16, next * 4 + asker);
                        socket.send(&query(id, &format!("n-{number}.test."))).unwrap();
                        waiting.insert(id, number);
                        next += 1;
                    }
                    let mut buffer = [0; 512];
                    let length = socket.recv(&mut buffer).expect("none is lost");
                    let answer = Message::from_vec(&buffer[..length]).unwrap();
                    let number = waiting.remove(&answer.metadata.id).expect("an answer to a query that waits");
                    assert_eq!(answer.queries[0].name.to_string(), format!("n-{number}.test."));
                    let RData::A(ip) = &answer.answers[0].data else { panic!("{answer:?}") };
                    assert_eq!(u32::from(ip.0), 0x0a00_0000 + number);
                }
            });
        }
    });
    assert_eq!(egret.sample("egret_dns_queries_total{answer=\"forwarded\"}"), Some(f64::from(QUERIES * 4)));
    assert_eq!(egret.metric("egret_dns_queries_in_flight"), Some(0.0));
}

#[test]
fn what_is_no_query_harms_nobody() {
    let lab = lab("options timeout:1\n");
    let server = Server::udp(&lab, "10.77.0.1:53", |_| Vec::new());
    let mut egret = lab.start_egret(&[]);
    let socket = client(&lab);
    // A multiplicative generator from a fixed seed.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        state = state.wrapping_mul(0xd129_0d3f_5a3d_5a35).wrapping_add(1);
        (state >> 33) as u32
    };
    for round in 0..4000_u32 {
        let mut message = if round % 2 == 0 { query(round as u16, "some.name.of.a.host.test.") } else { Vec::new() };
        message.resize((random() % 600) as usize + 1, 0);
        for _ in 0..random() % 8 {
            let at = random() as usize % message.len();
            message[at] = random() as u8;
        }
        // The socket's buffer may be full; what is lost was not needed.
        let _ = socket.send(&message);
    }
    eventually("the flood is read", || short(&lab, &["+timeout=1", "x.example.com", "A"]) == "192.0.2.7");
    // A pointer to itself, an answer, an update, no question, two questions.
    let good = query(7, "a.test.");
    let mut codes = Vec::new();
    for (change, expected) in [
        ((2, 0x29), Some(ResponseCode::NotImp)),
        ((5, 0), Some(ResponseCode::FormErr)),
        ((5, 2), Some(ResponseCode::FormErr)),
        ((12, 0xc0), Some(ResponseCode::FormErr)),
        ((2, 0x81), None),
    ] {
        let fresh = client(&lab);
        let mut bad = good.clone();
        bad[change.0] = change.1;
        fresh.send(&bad).unwrap();
        fresh.set_read_timeout(Some(Duration::from_millis(if expected.is_some() { 3000 } else { 300 }))).unwrap();
        let mut buffer = [0; 512];
        let got = fresh.recv(&mut buffer).ok().map(|length| Message::from_vec(&buffer[..length]).unwrap());
        codes.push((got.map(|message| message.metadata.response_code), expected));
    }
    assert!(codes.iter().all(|(got, expected)| got == expected), "{codes:?}");
    assert_eq!(short(&lab, &["x.example.com", "A"]), "192.0.2.7");
    assert!(egret.is_running());
    drop(server);
}

/// A server that says nothing holds no more than so many queries, and listed names are answered meanwhile.
#[test]
fn queries_that_wait_are_bounded() {
    let lab = lab("options timeout:3\n");
    let _server = Server::udp(&lab, "10.77.0.1:53", |_| Vec::new());
    let egret = lab.start_egret(&[]);
    let before = egret.descriptors();
    let socket = client(&lab);
    let (mut sent, mut failed) = (0_u32, 0);
    let until = Instant::now() + PATIENCE;
    socket.set_nonblocking(true).unwrap();
    while failed < 200 {
        assert!(Instant::now() < until, "{sent} sent, {failed} refused");
        sent += u32::from(socket.send(&query(sent as u16, &format!("n-{sent}.test."))).is_ok());
        let mut buffer = [0; 512];
        while let Ok(length) = socket.recv(&mut buffer) {
            let answer = Message::from_vec(&buffer[..length]).unwrap();
            assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
            failed += 1;
        }
    }
    assert!(egret.metric("egret_dns_queries_in_flight").unwrap() <= 1024.0);
    assert!(egret.descriptors() <= before + 1024 + 16, "{}", egret.descriptors());
    assert_eq!(short(&lab, &["x.example.com", "A"]), "192.0.2.7");
    eventually("all of them end", || egret.metric("egret_dns_queries_in_flight") == Some(0.0));
    eventually("and hold nothing", || egret.descriptors() <= before + 16);
}

/// More connections than are served at once, all silent: they end, and others have their turn.
#[test]
fn silent_connections_make_room() {
    let lab = lab("");
    let _server = Server::udp(&lab, "10.77.0.1:53", by_name);
    let egret = lab.start_egret(&[]);
    let to: SocketAddr = SERVER.parse().unwrap();
    let silent: Vec<TcpStream> = (0..100).map(|_| lab.connect(to).unwrap()).collect();
    eventually("as many as may be are served", || egret.metric("egret_dns_connections").unwrap() >= 48.0);
    assert!(egret.metric("egret_dns_connections").unwrap() <= 64.0);
    eventually("another one is answered", || {
        dig(&lab, &["+tcp", "+timeout=10", "x.example.com", "A"]).contains("192.0.2.7")
    });
    drop(silent);
    // Two queries at once, the second in halves: answered in their order.
    let mut stream = lab.connect(to).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let framed = |id| {
        let query = query(id, "x.example.com.");
        [&(query.len() as u16).to_be_bytes()[..], &query].concat()
    };
    let second = framed(2);
    stream.write_all(&[&framed(1)[..], &second[..9]].concat()).unwrap();
    let mut read = || {
        let mut length = [0; 2];
        stream.read_exact(&mut length).unwrap();
        let mut answer = vec![0; u16::from_be_bytes(length).into()];
        stream.read_exact(&mut answer).unwrap();
        (Message::from_vec(&answer).unwrap().metadata.id, stream.try_clone().unwrap())
    };
    let (first, mut rest) = read();
    rest.write_all(&second[9..]).unwrap();
    assert_eq!((first, read().0), (1, 2));
}
