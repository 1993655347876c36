//! What a lookup depends on besides the servers: `resolv.conf`, the hosts file, the address families of this host.
//!
//! Files are compared by identity, time and size at each look rather than watched: the kubelet bind-mounts both, and a
//! watch on a bind mount misses a replaced file. A file that is being rewritten is read again once it is whole, since
//! its time and size move on.

use std::fs::{self, Metadata};
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::{InterfaceFlags, if_nametoindex};

use crate::dns::hosts::Hosts;
use crate::dns::resolv_conf::{Aaaa, ResolvConf};

/// Which addresses of a name are asked for and used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Families {
    /// Those that this host can have a route for: IPv4 if an interface other than loopback has an IPv4 address, IPv6
    /// if one has a global or unique local IPv6 address; both if neither has any.
    Auto,
    V4,
    V6,
    Both,
}

impl Families {
    /// Those of `ips` that can be used; all of them if that is none, so that the hosts file's word is never lost.
    pub fn of(self, ips: &[IpAddr]) -> Vec<IpAddr> {
        let usable = |ip: &&IpAddr| match self {
            Families::V4 => ip.is_ipv4(),
            Families::V6 => ip.is_ipv6(),
            Families::Auto | Families::Both => true,
        };
        let usable: Vec<IpAddr> = ips.iter().filter(usable).copied().collect();
        if usable.is_empty() { ips.to_vec() } else { usable }
    }
}

/// Whether anything is otherwise than at the look before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Unchanged,
    Changed,
}

/// The files' contents and the families, as of the latest [`look`](Environment::look).
pub struct Environment {
    pub conf: Rc<ResolvConf>,
    pub hosts: Rc<Hosts>,
    /// Never `Auto`.
    pub families: Families,
    /// This host's addresses that can have a route, by which destinations are ordered.
    own: Vec<IpAddr>,
    wanted: Families,
    port: u16,
    conf_file: Watched,
    hosts_file: Watched,
}

struct Watched {
    path: PathBuf,
    seen: Option<Stamp>,
}

/// Device, inode, size, change of content and of the inode (seconds, nanoseconds).
type Stamp = (u64, u64, u64, (i64, i64), (i64, i64));

impl Environment {
    /// Knows of no file until the first look. `port` is where name servers listen.
    pub fn new(resolv_conf: PathBuf, hosts: PathBuf, wanted: Families, port: u16) -> Self {
        let mut conf = ResolvConf::default();
        conf.servers.iter_mut().for_each(|server| server.set_port(port));
        let own = own_routable();
        Self {
            conf: Rc::new(conf),
            hosts: Rc::default(),
            families: settle(wanted, &own),
            own,
            wanted,
            port,
            conf_file: Watched { path: resolv_conf, seen: None },
            hosts_file: Watched { path: hosts, seen: None },
        }
    }

    /// Reads what changed since the look before.
    pub fn look(&mut self) -> Change {
        let mut change = Change::Unchanged;
        if self.conf_file.changed() {
            change = Change::Changed;
            self.conf = Rc::new(read_conf(&self.conf_file.path, self.port));
        }
        if self.hosts_file.changed() {
            change = Change::Changed;
            self.hosts = Rc::new(Hosts::parse(&read(&self.hosts_file.path)));
        }
        change
    }

    /// Asks the kernel for this host's addresses: dearer than a [`look`](Self::look), and they change less often.
    pub fn look_at_interfaces(&mut self) -> Change {
        let own = own_routable();
        if own == self.own {
            return Change::Unchanged;
        }
        self.families = settle(self.wanted, &own);
        self.own = own;
        Change::Changed
    }

    /// The families that are asked for: `no-aaaa` speaks of those that nobody has chosen.
    pub fn asked(&self) -> Families {
        match (self.conf.aaaa, self.wanted) {
            (Aaaa::NotAsked, Families::Auto | Families::Both) => Families::V4,
            _ => self.families,
        }
    }
}

impl Watched {
    fn changed(&mut self) -> bool {
        let now = fs::metadata(&self.path).ok().map(|metadata| stamp(&metadata));
        now != std::mem::replace(&mut self.seen, now)
    }
}

fn stamp(m: &Metadata) -> Stamp {
    (m.dev(), m.ino(), m.size(), (m.mtime(), m.mtime_nsec()), (m.ctime(), m.ctime_nsec()))
}

/// The file's text; a missing file is an empty one, as for every resolver.
fn read(path: &Path) -> String {
    match fs::read(path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(e) => {
            tracing::warn!(path = %path.display(), error = %e, "cannot read the file; going on as if it were empty");
            String::new()
        }
    }
}

fn read_conf(path: &Path, port: u16) -> ResolvConf {
    let (mut conf, notes) = ResolvConf::parse(&read(path), |interface| if_nametoindex(interface).ok());
    for note in notes {
        tracing::warn!(path = %path.display(), line = note.line, "left out: {}", note.text);
    }
    conf.servers.iter_mut().for_each(|server| server.set_port(port));
    tracing::info!(path = %path.display(), servers = ?conf.servers, "name servers");
    conf
}

fn settle(wanted: Families, own: &[IpAddr]) -> Families {
    match wanted {
        Families::Auto => of_addresses(own),
        fixed => fixed,
    }
}

/// The addresses of the interfaces that are up, loopback apart. None at all when the kernel does not say.
fn own_addresses() -> Vec<IpAddr> {
    let Ok(interfaces) = getifaddrs() else { return Vec::new() };
    interfaces
        .filter(|interface| interface.flags.contains(InterfaceFlags::IFF_UP))
        .filter(|interface| !interface.flags.contains(InterfaceFlags::IFF_LOOPBACK))
        .filter_map(|interface| {
            let address = interface.address?;
            let v4 = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())))
        })
        .collect()
}

/// Those of them that can have a route beyond the link, in order.
fn own_routable() -> Vec<IpAddr> {
    let mut own = own_addresses();
    own.retain(|ip| is_routable(*ip));
    own.sort_unstable();
    own
}

fn of_addresses(own: &[IpAddr]) -> Families {
    let v4 = own.iter().any(IpAddr::is_ipv4);
    let v6 = own.iter().any(|ip| ip.is_ipv6() && is_routable(*ip));
    match (v4, v6) {
        (true, false) => Families::V4,
        (false, true) => Families::V6,
        (true, true) | (false, false) => Families::Both,
    }
}

/// IPv4, global unicast (2000::/3) or unique local (fc00::/7).
fn is_routable(ip: IpAddr) -> bool {
    let IpAddr::V6(ip) = ip else { return true };
    let first = ip.segments()[0];
    first & 0xe000 == 0x2000 || first & 0xfe00 == 0xfc00
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_follow_the_hosts_addresses() {
        for (own, expected) in [
            (&[][..], Families::Both),
            (&["10.0.0.7"], Families::V4),
            (&["10.0.0.7", "fe80::1"], Families::V4),
            (&["fe80::1", "2001:db8::7"], Families::V6),
            (&["10.0.0.7", "fd00::7"], Families::Both),
            (&["fe80::1"], Families::Both),
        ] {
            let addresses: Vec<IpAddr> = own.iter().map(|ip| ip.parse().unwrap()).collect();
            assert_eq!(of_addresses(&addresses), expected, "{own:?}");
        }
    }

    #[test]
    fn the_hosts_files_addresses_are_those_that_can_be_used() {
        let [v4, v6] = ["192.0.2.1", "2001:db8::1"].map(|ip| ip.parse::<IpAddr>().unwrap());
        assert_eq!(Families::V4.of(&[v6, v4]), [v4]);
        assert_eq!(Families::V6.of(&[v6, v4]), [v6]);
        assert_eq!(Families::Both.of(&[v6, v4]), [v6, v4]);
        assert_eq!(Families::V4.of(&[v6]), [v6]);
    }

    #[test]
    fn files_are_read_again_when_they_change() {
        let dir = tempfile::tempdir().unwrap();
        let (conf, hosts) = (dir.path().join("resolv.conf"), dir.path().join("hosts"));
        let mut around = Environment::new(conf.clone(), hosts.clone(), Families::Both, 5300);
        assert_eq!(around.look(), Change::Unchanged, "neither file exists, as before the first look");
        assert_eq!(around.conf.servers, ["127.0.0.1:5300".parse().unwrap()]);

        fs::write(&conf, "nameserver 192.0.2.1").unwrap();
        fs::write(&hosts, "192.0.2.7 a.test").unwrap();
        assert_eq!(around.look(), Change::Changed);
        assert_eq!(around.look(), Change::Unchanged);
        assert_eq!(around.conf.servers, ["192.0.2.1:5300".parse().unwrap()]);
        assert_eq!(around.hosts.addresses(&"a.test".parse().unwrap()).len(), 1);

        // Replaced by another file of the same size.
        fs::write(dir.path().join("new"), "192.0.2.8 b.test").unwrap();
        fs::rename(dir.path().join("new"), &hosts).unwrap();
        assert_eq!(around.look(), Change::Changed);
        assert!(around.hosts.addresses(&"a.test".parse().unwrap()).is_empty());

        fs::remove_file(&conf).unwrap();
        assert_eq!(around.look(), Change::Changed);
        assert_eq!(around.conf.servers, ["127.0.0.1:5300".parse().unwrap()]);
    }
}
