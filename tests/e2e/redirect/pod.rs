//! A pod as the kernel sees one: a network namespace with an application, joined by veth to another one that is the
//! outside. Removed when dropped.
//!
//! Everything is real: the rules, the connections, the identities. Sockets are made by threads that enter the
//! namespace and take the filesystem identity that the rules look at.

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use nix::unistd::{Gid, Uid, setfsgid, setfsuid};
use socket2::{Domain, Protocol, Socket, Type};

/// An application, and the proxy.
pub const APP: u32 = 1000;
pub const PROXY: u32 = 1337;
/// Longer than anything on one host takes, shorter than a person's patience.
pub const PATIENCE: Duration = Duration::from_secs(5);
pub const OUTSIDE_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 1, 1));
pub const OUTSIDE_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd77, 1, 0, 0, 0, 0, 0, 1));
pub const OWN_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 1, 2));

pub struct Pod {
    name: String,
    outside: String,
}

impl Pod {
    /// A pod with both families and default routes to the outside.
    pub fn new() -> Self {
        let pod = Self::alone();
        let (inside, outside) = (&*pod.name, &*pod.outside);
        ip(&["link", "add", "v0", "netns", inside, "type", "veth", "peer", "name", "v1", "netns", outside]);
        ip(&["-n", inside, "addr", "add", "10.77.1.2/24", "dev", "v0"]);
        ip(&["-n", outside, "addr", "add", "10.77.1.1/24", "dev", "v1"]);
        ip(&["-n", inside, "addr", "add", "fd77:1::2/64", "dev", "v0", "nodad"]);
        ip(&["-n", outside, "addr", "add", "fd77:1::1/64", "dev", "v1", "nodad"]);
        ip(&["-n", inside, "link", "set", "v0", "up"]);
        ip(&["-n", outside, "link", "set", "v1", "up"]);
        ip(&["-n", inside, "route", "add", "default", "via", "10.77.1.1"]);
        ip(&["-n", inside, "-6", "route", "add", "default", "via", "fd77:1::1"]);
        pod
    }

    /// A pod with nothing but its loopback.
    pub fn alone() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        assert!(nix::unistd::geteuid().is_root(), "these tests make network namespaces: run them as root");
        for tool in ["nft", "iptables-nft", "iptables-legacy", "ip6tables-legacy"] {
            let found = Command::new(tool).arg("--version").output();
            assert!(found.is_ok(), "{tool} is missing: apt-get install nftables iptables iproute2");
        }
        let name = format!("redirect-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let pod = Self { outside: format!("{name}-out"), name };
        for namespace in [&pod.name, &pod.outside] {
            ip(&["netns", "add", namespace]);
            ip(&["-n", namespace, "link", "set", "lo", "up"]);
        }
        pod
    }

    /// Runs a program in the pod.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Output {
        self.command(program).args(arguments).output().expect("`ip` runs")
    }

    /// A program in the pod, to be completed by the caller.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("/usr/sbin/ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// `egret init` with these flags: its exit code and everything it printed.
    pub fn init(&self, flags: &[&str]) -> (i32, String) {
        let output = self.command(env!("CARGO_BIN_EXE_egret")).arg("init").args(flags).output().expect("`ip` runs");
        let text = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&text).into_owned())
    }

    /// `egret init` that must succeed.
    pub fn must_init(&self, flags: &[&str]) -> String {
        let (code, text) = self.init(flags);
        assert_eq!(code, 0, "egret init {flags:?}: {text}");
        text
    }

    /// Every rule of every backend, without counters and dates.
    pub fn rules(&self) -> String {
        // nft prints the extensions of iptables without their parameters, so each speaks for itself.
        let commands: [(&str, &[&str]); 5] = [
            ("nft", &["-s", "list", "ruleset"]),
            ("iptables-nft-save", &[]),
            ("ip6tables-nft-save", &[]),
            ("iptables-legacy-save", &[]),
            ("ip6tables-legacy-save", &[]),
        ];
        let mut rules = String::new();
        for (program, arguments) in commands {
            let output = self.run(program, arguments);
            assert!(output.status.success(), "{program}: {output:?}");
            for line in String::from_utf8_lossy(&output.stdout).lines().filter(|line| !line.starts_with('#')) {
                rules.push_str(line.split(" [").next().unwrap_or_default());
                rules.push('\n');
            }
        }
        rules
    }

    /// Runs `work` in the pod as a user and group of that number.
    pub fn inside<T: Send + 'static>(&self, id: u32, work: impl FnOnce() -> T + Send + 'static) -> T {
        within(&self.name, id, work)
    }

    /// Runs `work` outside.
    pub fn outside<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        within(&self.outside, 0, work)
    }

    /// A connection from inside the pod.
    pub fn connect(&self, id: u32, to: impl Into<SocketAddr>) -> io::Result<TcpStream> {
        let to = to.into();
        self.inside(id, move || TcpStream::connect_timeout(&to, PATIENCE))
    }

    /// A connection from inside the pod, from a socket that is bound to its interface.
    pub fn connect_bound(&self, id: u32, to: &str) -> io::Result<TcpStream> {
        let to: SocketAddr = to.parse().expect("an address of the test");
        // The device is for root to choose; whose the packets are is the thread's filesystem identity.
        self.inside(id, move || {
            let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
            socket.bind_device(Some(b"v0"))?;
            socket.connect_timeout(&to.into(), PATIENCE)?;
            Ok(socket.into())
        })
    }

    /// A connection from inside the pod to the outside's link-local address.
    pub fn connect_link_local(&self, id: u32, port: u16) -> io::Result<TcpStream> {
        let output =
            Command::new("/usr/sbin/ip").args(["-n", &self.outside, "-6", "addr", "show", "dev", "v1"]).output();
        let text = String::from_utf8(output.expect("`ip` runs").stdout).expect("text");
        let address =
            text.split_whitespace().find_map(|word| word.strip_suffix("/64").filter(|a| a.starts_with("fe80")));
        let address: Ipv6Addr = address.expect("the interface has one").parse().expect("an address");
        let scope = self.inside(0, || nix::net::if_::if_nametoindex("v0")).expect("the interface exists");
        self.connect(id, std::net::SocketAddrV6::new(address, port, 0, scope))
    }

    /// A server on the outside, on both families.
    pub fn serve_outside(&self, port: u16) -> TcpListener {
        self.outside(move || listen((Ipv6Addr::UNSPECIFIED, port).into()))
    }

    /// A listener inside the pod, as the proxy.
    pub fn serve_inside(&self, at: &str) -> TcpListener {
        let at: SocketAddr = at.parse().expect("an address of the test");
        self.inside(PROXY, move || listen(at))
    }

    /// A UDP socket inside the pod; no answer within the patience is an error.
    pub fn udp(&self, id: u32, at: &str) -> UdpSocket {
        let at: SocketAddr = at.parse().expect("an address of the test");
        let socket = self.inside(id, move || UdpSocket::bind(at)).expect("the port is free");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        socket
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        for namespace in [&self.name, &self.outside] {
            let _ = Command::new("/usr/sbin/ip").args(["netns", "del", namespace]).output();
        }
    }
}

fn ip(arguments: &[&str]) {
    let output = Command::new("/usr/sbin/ip").args(arguments).output();
    let output = output.expect("`ip` is missing: apt-get install iproute2");
    assert!(output.status.success(), "ip {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn within<T: Send + 'static>(namespace: &str, id: u32, work: impl FnOnce() -> T + Send + 'static) -> T {
    let namespace = File::open(format!("/run/netns/{namespace}")).expect("the namespace exists");
    let thread = thread::spawn(move || {
        setns(namespace, CloneFlags::CLONE_NEWNET).expect("root may enter a namespace");
        setfsgid(Gid::from_raw(id));
        setfsuid(Uid::from_raw(id));
        work()
    });
    thread.join().expect("the work does not panic")
}

fn listen(at: SocketAddr) -> TcpListener {
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, Some(Protocol::TCP)).expect("a socket");
    if at.is_ipv6() {
        socket.set_only_v6(!at.ip().is_unspecified()).expect("an option of IPv6");
    }
    socket.set_reuse_address(true).expect("an option of sockets");
    socket.bind(&at.into()).expect("the port is free");
    socket.listen(1024).expect("a bound socket can listen");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
    socket.into()
}

/// Waits for a connection and says what it was meant for.
pub fn arrival(listener: &TcpListener) -> io::Result<SocketAddr> {
    let (connection, _) = listener.accept()?;
    let socket = Socket::from(connection);
    let v4 = socket.local_addr()?.as_socket_ipv4().is_some();
    let original = if v4 { socket.original_dst_v4() } else { socket.original_dst_v6() };
    original?.as_socket().ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// How many connections came (they are closed): waits until it is as many as expected, then looks for more.
pub fn arrivals(listener: &TcpListener, expected: usize) -> usize {
    let awaited = (0..expected).map_while(|_| listener.accept().ok()).count();
    listener.set_nonblocking(true).expect("a listener can be set non-blocking");
    let more = std::iter::from_fn(|| listener.accept().ok()).count();
    listener.set_nonblocking(false).expect("a listener can be set blocking");
    awaited + more
}
