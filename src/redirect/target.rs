//! An address to dial that the rules must redirect and that routes from here: what verification needs.
//!
//! Asks the routing table by connecting a UDP socket, which sends nothing. Prefers the documentation networks
//! (RFC 5737, RFC 3849), where a packet that escapes after all meets nobody.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use nix::ifaddrs::getifaddrs;

use super::capture::{Capture, Included};
use super::rules::Family;
use super::tool::run;

/// The first port tried; Istio's own probe uses it, nothing else does.
const PORT: u16 = 15002;
const DOCUMENTATION_V4: [Ipv4Addr; 3] =
    [Ipv4Addr::new(192, 0, 2, 2), Ipv4Addr::new(198, 51, 100, 2), Ipv4Addr::new(203, 0, 113, 2)];
const DOCUMENTATION_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);

/// A destination that must be redirected and to which a packet could be sent from here.
pub fn find(capture: &Capture, family: Family) -> Option<SocketAddr> {
    let local = local_addresses();
    candidates(capture, family, &local).into_iter().find(|target| routes(*target, capture, &local))
}

/// A pair of virtual interfaces with a route to a destination that must be redirected, for a namespace that has only
/// its loopback: there, nothing else would ever meet the rules. Removed when dropped.
pub struct ScratchLink {
    pub target: SocketAddr,
}

const LINK: &str = "egret-v0";

impl ScratchLink {
    /// Nothing where `ip` is not installed or the kernel has no veth.
    pub fn up(capture: &Capture) -> Option<Self> {
        let target = candidates(capture, Family::V4, &[]).into_iter().next()?;
        let link = Self { target };
        let route = format!("{}/32", target.ip());
        let steps: [&[&str]; 4] = [
            &["link", "add", LINK, "type", "veth", "peer", "name", "egret-v1"],
            &["addr", "add", "192.0.2.1/32", "dev", LINK],
            &["link", "set", LINK, "up"],
            &["route", "add", &route, "dev", LINK],
        ];
        for step in steps {
            run("ip", step, "").ok()?;
        }
        Some(link)
    }
}

impl Drop for ScratchLink {
    fn drop(&mut self) {
        // Fails when the first step did, and then there is nothing to delete.
        let _ = run("ip", &["link", "del", LINK], "");
    }
}

struct Local {
    interface: String,
    net: IpNet,
}

fn local_addresses() -> Vec<Local> {
    let ip = |storage: &nix::sys::socket::SockaddrStorage| {
        let v4 = storage.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
        v4.or_else(|| storage.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
    };
    let local = |entry: nix::ifaddrs::InterfaceAddress| {
        let net = IpNet::with_netmask(ip(entry.address.as_ref()?)?, ip(entry.netmask.as_ref()?)?).ok()?;
        Some(Local { interface: entry.interface_name, net })
    };
    getifaddrs().map(|entries| entries.filter_map(local).collect()).unwrap_or_default()
}

fn candidates(capture: &Capture, family: Family, local: &[Local]) -> Vec<SocketAddr> {
    let anywhere = anywhere(family, local);
    let port = (PORT..=u16::MAX).find(|port| !capture.excluded_ports.contains(port)).unwrap_or(PORT);
    let mut targets: Vec<SocketAddr> = match &capture.included {
        Included::All => anywhere.iter().map(|&ip| (ip, port).into()).collect(),
        Included::Only(nets) => nets.iter().flat_map(inside).map(|ip| (ip, port).into()).collect(),
    };
    let ports = capture.included_ports.iter().filter(|port| !capture.excluded_ports.contains(port));
    targets.extend(ports.flat_map(|&port| anywhere.iter().map(move |&ip| SocketAddr::from((ip, port)))));
    targets.retain(|target| target.is_ipv4() == (family == Family::V4) && is_redirected(*target, capture));
    targets
}

fn is_redirected(target: SocketAddr, capture: &Capture) -> bool {
    let dns = capture.dns.is_some() && target.port() == super::capture::DNS;
    let excluded = capture.excluded.iter().any(|net| net.contains(&target.ip()));
    !dns && !excluded && !capture.spares(target.ip()) && !target.ip().is_unspecified() && !target.ip().is_multicast()
}

fn anywhere(family: Family, local: &[Local]) -> Vec<IpAddr> {
    let documentation: Vec<IpAddr> = match family {
        Family::V4 => DOCUMENTATION_V4.map(IpAddr::V4).into(),
        Family::V6 => vec![IpAddr::V6(DOCUMENTATION_V6)],
    };
    documentation.into_iter().chain(local.iter().filter_map(|local| neighbour(local.net))).collect()
}

/// The other address of the pair that differs in the last bit: in a subnet of two or more always a neighbour.
fn neighbour(net: IpNet) -> Option<IpAddr> {
    if net.prefix_len() == net.max_prefix_len() {
        return None;
    }
    match net.addr() {
        IpAddr::V4(address) if !address.is_loopback() => Some(Ipv4Addr::from(u32::from(address) ^ 1).into()),
        IpAddr::V6(address) if !address.is_unicast_link_local() => Some(Ipv6Addr::from(u128::from(address) ^ 1).into()),
        _ => None,
    }
}

/// A few addresses of the network: one near each end, since one of them may be excluded or local.
fn inside(net: &IpNet) -> Vec<IpAddr> {
    match net {
        IpNet::V4(net) => inside_v4(*net).map(IpAddr::V4).into(),
        IpNet::V6(net) => inside_v6(*net).map(IpAddr::V6).into(),
    }
}

fn inside_v4(net: Ipv4Net) -> [Ipv4Addr; 3] {
    let (first, last) = (u32::from(net.network()), u32::from(net.broadcast()));
    [last.min(first.saturating_add(2)), last.saturating_sub(2).max(first), first].map(Ipv4Addr::from)
}

fn inside_v6(net: Ipv6Net) -> [Ipv6Addr; 3] {
    let (first, last) = (u128::from(net.network()), u128::from(net.broadcast()));
    [last.min(first.saturating_add(2)), last.saturating_sub(2).max(first), first].map(Ipv6Addr::from)
}

/// Whether a packet to the target leaves through an interface on which the rules look at it.
fn routes(target: SocketAddr, capture: &Capture, local: &[Local]) -> bool {
    let any: IpAddr = if target.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let source = UdpSocket::bind((any, 0)).and_then(|socket| socket.connect(target).and_then(|()| socket.local_addr()));
    let Ok(source) = source else { return false };
    if target.ip().is_loopback() {
        return true;
    }
    let interface = local.iter().find(|local| local.net.addr() == source.ip()).map(|local| &local.interface);
    let own = local.iter().any(|local| local.net.addr() == target.ip());
    !own && interface.is_none_or(|name| name != "lo" && !capture.excluded_interfaces.contains(name))
}

#[cfg(test)]
mod tests {
    use super::super::capture::sample;
    use super::*;

    fn first(capture: &Capture, family: Family) -> Option<String> {
        candidates(capture, family, &[]).first().map(ToString::to_string)
    }

    #[test]
    fn the_target_is_one_that_must_be_redirected() {
        let only = |nets: &str| Capture { included: nets.parse().unwrap(), ..sample() };
        let excluding = |net: &str| Capture { excluded: vec![net.parse().unwrap()], ..sample() };
        let v4 = |capture: &Capture| first(capture, Family::V4);
        assert_eq!(v4(&sample()).as_deref(), Some("192.0.2.2:15002"));
        assert_eq!(first(&sample(), Family::V6).as_deref(), Some("[2001:db8::2]:15002"));
        assert_eq!(v4(&only("10.0.0.0/8")).as_deref(), Some("10.0.0.2:15002"));
        assert_eq!(v4(&only("10.0.0.7/32")).as_deref(), Some("10.0.0.7:15002"));
        assert_eq!(v4(&only("127.1.2.3/32")).as_deref(), Some("127.1.2.3:15002"));
        assert_eq!(v4(&only("0.0.0.0/0")).as_deref(), Some("0.0.0.2:15002"));
        assert_eq!(v4(&only("fd00::/8")), None);
        assert_eq!(v4(&only("")), None);
        assert_eq!(v4(&excluding("192.0.2.0/24")).as_deref(), Some("198.51.100.2:15002"));
        assert_eq!(v4(&excluding("0.0.0.0/0")), None);
        let port = Capture { excluded_ports: vec![15002], ..sample() };
        assert_eq!(v4(&port).as_deref(), Some("192.0.2.2:15003"));
        let ports = Capture { included_ports: vec![31000], ..only("") };
        assert_eq!(v4(&ports).as_deref(), Some("192.0.2.2:31000"));
    }

    #[test]
    fn a_neighbour_shares_the_subnet() {
        for (own, want) in [("10.1.2.3/24", Some("10.1.2.2")), ("fd00::1/64", Some("fd00::")), ("10.0.0.1/32", None)] {
            assert_eq!(neighbour(own.parse().unwrap()).map(|ip| ip.to_string()).as_deref(), want, "{own}");
        }
    }
}
