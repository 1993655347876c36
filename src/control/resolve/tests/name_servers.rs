//! Name servers for the resolver's tests: real sockets on loopback, behaviour as a closure, and a clock for the test.

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Instant as RealInstant;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::LocalSet;

use super::super::*;
use crate::dns::resolv_conf::Transport;

/// A query as a server saw it.
#[derive(Clone)]
pub struct Seen {
    /// Which server, counted from 0.
    pub server: usize,
    pub transport: Transport,
    pub name: String,
    pub kind: RecordType,
    pub from: SocketAddr,
    pub message: Message,
}

impl Seen {
    pub fn is(&self, name: &str, kind: RecordType) -> bool {
        self.name == name && self.kind == kind
    }

    pub fn reply(&self) -> Message {
        let mut message = self.message.clone().into_response();
        message.edns = None;
        message
    }

    pub fn code(&self, code: ResponseCode) -> Vec<Message> {
        let mut message = self.reply();
        message.metadata.response_code = code;
        vec![message]
    }

    pub fn addresses(&self, ttl: u32, ips: &[&str]) -> Vec<Message> {
        let mut message = self.reply();
        for ip in ips {
            let data = match ip.parse().unwrap() {
                IpAddr::V4(ip) => RData::A(A(ip)),
                IpAddr::V6(ip) => RData::AAAA(AAAA(ip)),
            };
            let fits = data.record_type() == self.kind;
            fits.then(|| message.add_answer(Record::from_rdata(Name::from_ascii(&self.name).unwrap(), ttl, data)));
        }
        vec![message]
    }
}

pub type Behaviour = Rc<dyn Fn(&Seen, usize) -> Vec<Message>>;

/// What the servers saw, and how they behave: told the query and how many there were before it.
#[derive(Clone)]
pub struct Servers {
    pub seen: Rc<RefCell<Vec<Seen>>>,
    behaviour: Behaviour,
}

impl Servers {
    fn answer(&self, server: usize, transport: Transport, from: SocketAddr, bytes: &[u8]) -> Vec<Vec<u8>> {
        let message = Message::from_vec(bytes).unwrap();
        let query = message.queries[0].clone();
        let (name, kind) = (query.name().to_ascii(), query.query_type());
        let seen = Seen { server, transport, name, kind, from, message };
        let before = self.seen.borrow().len();
        self.seen.borrow_mut().push(seen.clone());
        (self.behaviour)(&seen, before).iter().map(|message| message.to_vec().unwrap()).collect()
    }

    async fn serve_udp(self, server: usize, socket: UdpSocket) {
        let mut buffer = [0; 2048];
        loop {
            let (len, from) = socket.recv_from(&mut buffer).await.unwrap();
            for datagram in self.answer(server, Transport::Udp, from, &buffer[..len]) {
                socket.send_to(&datagram, from).await.unwrap();
            }
        }
    }

    async fn serve_tcp(self, server: usize, listener: TcpListener) {
        loop {
            let (mut stream, from) = listener.accept().await.unwrap();
            let mut query = vec![0; stream.read_u16().await.unwrap().into()];
            stream.read_exact(&mut query).await.unwrap();
            for message in self.answer(server, Transport::Tcp, from, &query) {
                stream.write_u16(message.len() as u16).await.unwrap();
                stream.write_all(&message).await.unwrap();
            }
        }
    }

    pub fn count(&self) -> usize {
        self.seen.borrow().len()
    }
}

/// A resolver, its files and its servers at 127.0.0.1, 127.0.0.2… on one port.
pub struct Bench {
    pub dir: tempfile::TempDir,
    pub servers: Servers,
    pub options: ResolverOptions,
}

impl Bench {
    pub async fn new(servers: usize, extra: &str, behaviour: impl Fn(&Seen, usize) -> Vec<Message> + 'static) -> Self {
        let bench = Self {
            dir: tempfile::tempdir().unwrap(),
            servers: Servers { seen: Rc::default(), behaviour: Rc::new(behaviour) },
            options: ResolverOptions::default(),
        };
        let port = bench.listen(servers).await;
        let hosts = (1..=servers).map(|n| format!("nameserver 127.0.0.{n}\n"));
        bench.write("resolv.conf", &(hosts.collect::<String>() + extra));
        let [resolv_conf, hosts] = ["resolv.conf", "hosts"].map(|file| bench.dir.path().join(file));
        let families = Families::Both;
        // The same on every machine: only IPv4 has a route.
        let source_of = |ip: IpAddr| ip.is_ipv4().then_some(ip);
        Self { options: ResolverOptions { resolv_conf, hosts, families, port, source_of, ..bench.options }, ..bench }
    }

    async fn listen(&self, servers: usize) -> u16 {
        let ip = |server: usize| Ipv4Addr::new(127, 0, 0, server as u8 + 1);
        'port: loop {
            let first = TcpListener::bind((ip(0), 0)).await.unwrap();
            let port = first.local_addr().unwrap().port();
            let mut sockets = Vec::new();
            let mut first = Some(first);
            for server in 0..servers {
                let tcp = match first.take() {
                    Some(first) => Ok(first),
                    None => TcpListener::bind((ip(server), port)).await,
                };
                match (tcp, UdpSocket::bind((ip(server), port)).await) {
                    (Ok(tcp), Ok(udp)) => sockets.push((tcp, udp)),
                    _ => continue 'port,
                }
            }
            for (server, (tcp, udp)) in sockets.into_iter().enumerate() {
                tokio::task::spawn_local(self.servers.clone().serve_tcp(server, tcp));
                tokio::task::spawn_local(self.servers.clone().serve_udp(server, udp));
            }
            return port;
        }
    }

    pub fn write(&self, file: &str, text: &str) {
        std::fs::write(self.dir.path().join("new"), text).unwrap();
        std::fs::rename(self.dir.path().join("new"), self.dir.path().join(file)).unwrap();
    }

    pub fn resolver(&self) -> Resolver {
        Resolver::new(self.options.clone())
    }
}

/// Runs a test on one thread, its clock standing still: a blocking task in progress keeps tokio from moving it on.
pub fn with_still_clock<F: Future>(test: impl FnOnce() -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let (done, wait) = std::sync::mpsc::channel::<()>();
        let held = tokio::task::spawn_blocking(move || wait.recv());
        test().await;
        drop(done);
        let _ = held.await.unwrap();
    });
}

/// Waits for `condition`, ten real seconds at most.
pub async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = RealInstant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(RealInstant::now() < deadline, "never came: {what}");
        tokio::task::yield_now().await;
    }
}
