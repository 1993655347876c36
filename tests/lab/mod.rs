//! The lab: a pod and an outside world in two network namespaces, and what runs in them.
//!
//! Everything is real: kernel redirect, nginx, curl, openssl, tcpdump, a DNS server on port 53. Nothing here knows what
//! egret ought to do; tests say that. A lab that cannot be built (no root, a tool missing) panics with what to do: a
//! test that cannot run must never pass. Each lab has namespaces of its own, so that tests run side by side and all
//! of them may use the same addresses and ports; dropping it removes everything, also after a panic.
//!
//! ```text
//!   pod 10.77.0.2, fd77::2   ── veth ──   outside 10.77.0.1, fd77::1
//!   curl (uid 1000)                       203.0.113.1-9, 2001:db8::1-9 on lo
//!   egret (uid 1337)                      DNS, nginx, servers made by a test
//! ```
#![allow(dead_code, reason = "each test file uses its own part of the lab")]

pub mod capture;
pub mod cgroup;
pub mod client;
pub mod credentials;
pub mod documents;
pub mod forward;
pub mod frames;
pub mod http2_client;
pub mod http2_server;
pub mod names;
pub mod netns;
pub mod nginx;
pub mod ntlm;
pub mod pki;
pub mod process;
pub mod proxy;
pub mod server;
pub mod tls_server;

use std::fs;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use names::NameServer;
use netns::Namespace;
use pki::Authority;
use process::Finished;
use tempfile::TempDir;

/// How long a condition may take to become true on a busy machine. Never a measure of speed.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The uid and gid of the application; egret's own are 1337.
const APP: [&str; 5] = ["--reuid=1000", "--regid=1000", "--clear-groups", "--pdeathsig=KILL", "--"];

/// Labs made by this process, for names of their own.
static COUNT: AtomicU32 = AtomicU32::new(0);

/// Which address family a test uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

pub struct Lab {
    pub pod: Namespace,
    pub outside: Namespace,
    pub names: NameServer,
    /// Signs the certificates of outside servers; its certificate is at [`Lab::ca_file`].
    pub authority: Authority,
    folder: TempDir,
}

impl Lab {
    pub fn new() -> Lab {
        process::require_root_and_tools();
        netns::remove_left_over();
        let tag = format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = tempfile::Builder::new().prefix("egret-lab-").tempdir().expect("a temporary folder");
        // The proxy and curl run as other users.
        process::run("chmod", &["755", utf8(folder.path())]);
        let pod = Namespace::new(&format!("{tag}-pod"));
        let outside = Namespace::new(&format!("{tag}-out"));
        join(&pod, &outside);
        pod.write_etc("resolv.conf", "nameserver 10.77.0.1\noptions timeout:1 attempts:3\n");
        pod.write_etc("hosts", "127.0.0.1 localhost\n");
        let names = NameServer::start(&outside);
        let authority = Authority::new("lab root");
        let lab = Lab { pod, outside, names, authority, folder };
        lab.write("ca.pem", &lab.authority.pem());
        fs::create_dir(lab.config_dir()).expect("the lab's folder is ours");
        lab
    }

    pub fn dir(&self) -> &Path {
        self.folder.path()
    }

    /// The configuration folder of the proxy.
    pub fn config_dir(&self) -> PathBuf {
        self.dir().join("config")
    }

    pub fn ca_file(&self) -> PathBuf {
        self.dir().join("ca.pem")
    }

    /// Writes a file that every user may read, under the lab's folder; returns its path.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir().join(name);
        write_atomically(&path, text);
        path
    }

    /// Writes `name` into the configuration folder as a careful operator does: complete, then renamed into place.
    pub fn configure(&self, name: &str, yaml: &str) {
        write_atomically(&self.config_dir().join(name), yaml);
    }

    /// Outside address number `n` (1 to 9) of a family.
    pub fn address(family: Family, n: u8) -> IpAddr {
        let text = match family {
            Family::V4 => format!("203.0.113.{n}"),
            Family::V6 => format!("2001:db8::{n}"),
        };
        text.parse().expect("an address in text form")
    }

    /// curl as the application's user, with the lab's names and certificates.
    pub fn curl(&self, arguments: &[&str]) -> Finished {
        let ca = self.ca_file();
        let mut all = APP.to_vec();
        all.extend(["curl", "-sS", "-m", "20", "--cacert", utf8(&ca)]);
        all.extend(arguments);
        process::finish(self.pod.command("setpriv", &all))
    }

    /// A program as the application's user, run to its end.
    pub fn app(&self, program: &str, arguments: &[&str]) -> Finished {
        let mut all = APP.to_vec();
        all.push(program);
        all.extend(arguments);
        process::finish(self.pod.command("setpriv", &all))
    }

    /// A connection from the pod by a process that is not the proxy's user.
    pub fn connect(&self, to: SocketAddr) -> std::io::Result<TcpStream> {
        let stream = self.pod.enter(|| TcpStream::connect_timeout(&to, PATIENCE))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

/// Joins the two namespaces by a veth pair and gives both their addresses and routes.
fn join(pod: &Namespace, outside: &Namespace) {
    process::run(
        "ip",
        &["link", "add", "v0", "netns", pod.name(), "type", "veth", "peer", "name", "v1", "netns", outside.name()],
    );
    pod.ip_batch(
        "addr add 10.77.0.2/24 dev v0
         addr add fd77::2/64 dev v0 nodad
         link set lo up
         link set v0 up
         route add default via 10.77.0.1
         route add ::/0 via fd77::1",
    );
    let servers =
        (1..=9).map(|n| format!("addr add 203.0.113.{n}/32 dev lo\naddr add 2001:db8::{n}/128 dev lo nodad\n"));
    outside.ip_batch(&format!(
        "addr add 10.77.0.1/24 dev v1
         addr add fd77::1/64 dev v1 nodad
         link set lo up
         link set v1 up
         {}",
        servers.collect::<String>()
    ));
}

/// Waits until `condition` holds; panics with `what` when it does not within [`PATIENCE`].
#[track_caller]
pub fn eventually(what: &str, condition: impl FnMut() -> bool) {
    within(PATIENCE, what, condition);
}

/// [`eventually`] with a limit that is part of what is tested.
#[track_caller]
pub fn within(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < limit, "after {limit:?} still not: {what}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

pub fn utf8(path: &Path) -> &str {
    path.to_str().expect("temporary paths are UTF-8")
}

fn write_atomically(path: &Path, text: &str) {
    let folder = path.parent().expect("a file in a folder");
    let mut file = tempfile::NamedTempFile::new_in(folder).expect("the lab's folder is writable");
    std::io::Write::write_all(&mut file, text.as_bytes()).expect("space for a small file");
    process::run("chmod", &["644", utf8(file.path())]);
    file.persist(path).expect("a rename within one folder");
}
