//! The outside world's DNS server: real packets on port 53, over UDP and TCP, from a table that a test may change.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::{RData, Record, RecordType};

use super::netns::Namespace;

/// Seconds; short, so that a change is seen soon.
const TTL: u32 = 1;

pub struct NameServer {
    state: Arc<Mutex<State>>,
    threads: Vec<JoinHandle<()>>,
}

struct State {
    /// Lower-case names without the last dot.
    table: BTreeMap<String, Vec<IpAddr>>,
    queries: u64,
    /// Of every answer, in seconds.
    ttl: u32,
    silent: bool,
    stopped: bool,
}

impl NameServer {
    pub fn start(namespace: &Namespace) -> NameServer {
        let state = State { table: BTreeMap::new(), queries: 0, ttl: TTL, silent: false, stopped: false };
        let state = Arc::new(Mutex::new(state));
        let bound = || (UdpSocket::bind("[::]:53"), TcpListener::bind("[::]:53"));
        let (udp, tcp) = namespace.enter(bound);
        let udp = udp.expect("port 53 of a new namespace is free");
        let tcp = tcp.expect("port 53 of a new namespace is free");
        udp.set_read_timeout(Some(Duration::from_millis(50))).expect("a fresh socket");
        tcp.set_nonblocking(true).expect("a fresh socket");
        let (for_udp, for_tcp) = (Arc::clone(&state), Arc::clone(&state));
        let threads = vec![
            std::thread::spawn(move || serve_udp(&udp, &for_udp)),
            std::thread::spawn(move || serve_tcp(&tcp, &for_tcp)),
        ];
        NameServer { state, threads }
    }

    /// From now on `name` has exactly these addresses; none of a family means an empty answer for it.
    pub fn set(&self, name: &str, addresses: &[IpAddr]) {
        lock(&self.state).table.insert(name.to_owned(), addresses.to_vec());
    }

    /// From now on answers have this time to live, in seconds.
    pub fn set_ttl(&self, ttl: u32) {
        lock(&self.state).ttl = ttl;
    }

    /// Queries received so far.
    pub fn queries(&self) -> u64 {
        lock(&self.state).queries
    }

    /// Leaves port 53 to another server.
    pub fn stop(&mut self) {
        lock(&self.state).stopped = true;
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }

    /// Whether to answer nothing from now on, as a dead server does.
    pub fn set_silent(&self, silent: bool) {
        lock(&self.state).silent = silent;
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.stop();
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve_udp(socket: &UdpSocket, state: &Mutex<State>) {
    let mut buffer = [0; 4096];
    while !lock(state).stopped {
        // The read timeout is what lets the loop see `stopped`.
        if let Ok((length, peer)) = socket.recv_from(&mut buffer)
            && let Some(answer) = answer(&buffer[..length], &mut lock(state))
        {
            // A client that is gone by now is its own affair.
            let _ = socket.send_to(&answer, peer);
        }
    }
}

fn serve_tcp(listener: &TcpListener, state: &Mutex<State>) {
    while !lock(state).stopped {
        match listener.accept() {
            Ok((stream, _)) => drop(serve_stream(stream, state)),
            Err(_) => std::thread::park_timeout(Duration::from_millis(50)),
        }
    }
}

/// One query a connection (RFC 1035 §4.2.2: two bytes of length, then the message).
fn serve_stream(mut stream: TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut query = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut query)?;
    if let Some(answer) = answer(&query, &mut lock(state)) {
        let length = u16::try_from(answer.len()).expect("answers of the lab are short");
        stream.write_all(&length.to_be_bytes())?;
        stream.write_all(&answer)?;
    }
    Ok(())
}

fn answer(query: &[u8], state: &mut State) -> Option<Vec<u8>> {
    state.queries += 1;
    if state.silent {
        return None;
    }
    let query = Message::from_vec(query).ok()?;
    let question = query.queries.first()?.clone();
    let name = question.name.to_string().trim_end_matches('.').to_ascii_lowercase();
    let mut response = Message::new(query.metadata.id, MessageType::Response, OpCode::Query);
    response.metadata.recursion_desired = query.metadata.recursion_desired;
    response.metadata.recursion_available = true;
    response.add_query(question.clone());
    match state.table.get(&name) {
        None => response.metadata.response_code = ResponseCode::NXDomain,
        Some(addresses) => {
            for data in addresses.iter().filter_map(|address| record_data(*address, question.query_type)) {
                response.add_answer(Record::from_rdata(question.name.clone(), state.ttl, data));
            }
        }
    }
    response.to_vec().ok()
}

fn record_data(address: IpAddr, wanted: RecordType) -> Option<RData> {
    match (address, wanted) {
        (IpAddr::V4(v4), RecordType::A) => Some(RData::A(v4.into())),
        (IpAddr::V6(v6), RecordType::AAAA) => Some(RData::AAAA(v6.into())),
        _ => None,
    }
}
