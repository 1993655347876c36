//! What the tests ask with, and whom.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::lab::process::{self, Kept};
use crate::lab::{Lab, eventually};

/// A lab whose name server is dnsmasq, on all addresses of the outside.
pub struct RealNames {
    pub lab: Lab,
    dnsmasq: Kept,
}

impl RealNames {
    pub fn new() -> Self {
        Self::with(&[])
    }

    pub fn with(more: &[&str]) -> Self {
        let mut lab = Lab::new();
        lab.names.stop();
        let records = [
            "--host-record=plain.example.org,203.0.113.1,2001:db8::1",
            "--host-record=db1.example.com,203.0.113.1",
            "--host-record=db2.example.com,203.0.113.2",
            "--host-record=www.example.com,203.0.113.3",
            "--txt-record=db1.example.com,text of db1",
            "--txt-record=plain.example.org,text of plain",
            "--local=/com/",
            "--local=/org/",
            "--local=/net/",
            "--local=/test/",
            "--local=/local/",
        ];
        let fixed = [
            "-k",
            "--conf-file=/dev/null",
            "--no-resolv",
            "--no-hosts",
            "--pid-file=",
            "--log-facility=-",
            "--log-queries",
        ];
        let arguments: Vec<&str> = fixed.iter().chain(&records).chain(more).copied().collect();
        let dnsmasq = Kept::start(lab.outside.command("dnsmasq", &arguments), lab.dir(), "dnsmasq");
        let names = Self { lab, dnsmasq };
        eventually("dnsmasq answers", || names.ask_directly("plain.example.org").contains("203.0.113.1"));
        names
    }

    /// Past egret, from outside.
    fn ask_directly(&self, name: &str) -> String {
        let flags = ["+short", "+tries=1", "+timeout=1", "@10.77.0.1", name, "A"];
        process::finish(self.lab.outside.command("dig", &flags)).stdout
    }

    /// What the name server has been asked so far.
    pub fn asked(&self) -> String {
        self.dnsmasq.stderr()
    }
}

/// dig as the application: everything that it prints.
pub fn dig(lab: &Lab, arguments: &[&str]) -> String {
    let mut all = vec!["+tries=1", "+timeout=5"];
    all.extend(arguments);
    lab.app("dig", &all).stdout
}

/// The records alone, one a line.
pub fn short(lab: &Lab, arguments: &[&str]) -> String {
    let mut all = vec!["+short"];
    all.extend(arguments);
    dig(lab, &all).trim_end().to_owned()
}

/// A name server of which a test says what it answers; none, one or several datagrams.
pub struct Server {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub fn udp(lab: &Lab, at: &str, behave: impl Fn(&[u8]) -> Vec<Vec<u8>> + Send + 'static) -> Self {
        let at: SocketAddr = at.parse().unwrap();
        let socket = lab.outside.enter(|| UdpSocket::bind(at)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        Self::start(move |asked| {
            let mut buffer = [0; 4096];
            if let Ok((length, client)) = socket.recv_from(&mut buffer) {
                asked.fetch_add(1, Ordering::Relaxed);
                for answer in behave(&buffer[..length]) {
                    let _ = socket.send_to(&answer, client);
                }
            }
        })
    }

    pub fn tcp(lab: &Lab, at: &str, behave: impl Fn(&[u8]) -> Vec<u8> + Send + 'static) -> Self {
        let at: SocketAddr = at.parse().unwrap();
        let listener = lab.outside.enter(|| TcpListener::bind(at)).unwrap();
        listener.set_nonblocking(true).unwrap();
        Self::start(move |asked| match listener.accept() {
            Ok((mut stream, _)) => {
                use std::io::{Read, Write};
                stream.set_nonblocking(false).unwrap();
                stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
                let mut length = [0; 2];
                let Ok(()) = stream.read_exact(&mut length) else { return };
                let mut query = vec![0; u16::from_be_bytes(length).into()];
                let Ok(()) = stream.read_exact(&mut query) else { return };
                asked.fetch_add(1, Ordering::Relaxed);
                let answer = behave(&query);
                let length = u16::try_from(answer.len()).unwrap().to_be_bytes();
                let _ = stream.write_all(&[&length[..], &answer].concat());
            }
            Err(_) => std::thread::park_timeout(Duration::from_millis(10)),
        })
    }

    fn start(serve: impl Fn(&AtomicU64) + Send + 'static) -> Self {
        let (stop, queries) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (ends, counter) = (Arc::clone(&stop), Arc::clone(&queries));
        let thread = std::thread::spawn(move || {
            while !ends.load(Ordering::Relaxed) {
                serve(&counter);
            }
        });
        Self { stop, asked: queries, thread: Some(thread) }
    }

    /// Queries so far.
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
