//! Which of a name's addresses comes first: destination address selection, RFC 6724 §6.
//!
//! Asked of the kernel is only what its routes and this host's addresses come to: from where it would connect to each. Not
//! looked at are rule 3 (deprecated source addresses, which are kept out by source address selection already), rules 4 and 7
//! (mobile IP and tunnels, of which nothing is known), and rule 9, which the RFC lets whoever balances between addresses
//! leave out: within a family the order stays.

use std::cmp::Reverse;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use ipnet::Ipv6Net;

/// Any port: no packet is sent.
const PORT: u16 = 9;

/// The source address for `destination`; `None` where there is no route. Connecting a UDP socket sends nothing.
pub fn source_of(destination: IpAddr) -> Option<IpAddr> {
    let any: IpAddr = match destination {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(SocketAddr::new(destination, PORT)).ok()?;
    socket.local_addr().ok().map(|local| local.ip())
}

/// The addresses, best first; equal ones in the order in which they came.
pub fn order(mut addresses: Vec<IpAddr>, source_of: impl Fn(IpAddr) -> Option<IpAddr>) -> Vec<IpAddr> {
    // One family has nothing to choose: an unreachable address of it is known by trying.
    if addresses.iter().any(IpAddr::is_ipv4) && addresses.iter().any(IpAddr::is_ipv6) {
        addresses.sort_by_cached_key(|destination| rank(*destination, source_of(*destination)));
    }
    addresses
}

/// Rules 1, 2, 5, 6 and 8: the smaller, the better.
fn rank(destination: IpAddr, source: Option<IpAddr>) -> (bool, bool, bool, Reverse<u8>, u8) {
    let (precedence, label) = policy(destination);
    let differs = |of: fn(IpAddr) -> u8| source.is_none_or(|source| of(source) != of(destination));
    let other_label = source.is_none_or(|source| policy(source).1 != label);
    (source.is_none(), differs(scope), other_label, Reverse(precedence), scope(destination))
}

/// §2.1: precedence and label. The longest prefix wins; the list is in that order.
fn policy(ip: IpAddr) -> (u8, u8) {
    const TABLE: [(Ipv6Net, u8, u8); 6] = [
        (prefix(0, 96), 1, 3),
        (prefix(0x2001, 32), 5, 5),
        (prefix(0x2002, 16), 30, 2),
        (prefix(0x3ffe, 16), 1, 12),
        (prefix(0xfec0, 10), 1, 11),
        (prefix(0xfc00, 7), 3, 13),
    ];
    match ip {
        // ::ffff:0:0/96
        IpAddr::V4(_) => (35, 4),
        IpAddr::V6(ip) if ip.is_loopback() => (50, 0),
        IpAddr::V6(ip) => {
            let found = TABLE.iter().find(|(prefix, ..)| prefix.contains(&ip));
            found.map_or((40, 1), |(_, precedence, label)| (*precedence, *label))
        }
    }
}

const fn prefix(first: u16, length: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(first, 0, 0, 0, 0, 0, 0, 0), length)
}

/// §3.1 and §3.2: link-local (loopback too), site-local, global. Private IPv4 addresses are global.
fn scope(ip: IpAddr) -> u8 {
    const LINK: u8 = 0x2;
    const SITE: u8 = 0x5;
    const GLOBAL: u8 = 0xe;
    match ip {
        IpAddr::V4(ip) if ip.is_loopback() || ip.is_link_local() => LINK,
        IpAddr::V6(ip) if ip.is_loopback() || ip.is_unicast_link_local() => LINK,
        IpAddr::V6(ip) if ip.segments()[0] & 0xffc0 == 0xfec0 => SITE,
        _ => GLOBAL,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of §10.2, and what pods have.
    #[test]
    fn destinations_are_ordered() {
        for (what, destinations, sources, expected) in [
            (
                "matching scope",
                "2001:db8:1::1 198.51.100.121",
                "2001:db8:1::2 169.254.13.78",
                "2001:db8:1::1 198.51.100.121",
            ),
            (
                "matching scope, too",
                "2001:db8:1::1 198.51.100.121",
                "fe80::1 198.51.100.117",
                "198.51.100.121 2001:db8:1::1",
            ),
            ("higher precedence", "10.1.2.3 2001:db8:1::1", "10.1.2.4 2001:db8:1::2", "2001:db8:1::1 10.1.2.3"),
            (
                "one family, of two scopes: as it came",
                "2001:db8:1::1 fe80::1",
                "2001:db8:1::2 fe80::2",
                "2001:db8:1::1 fe80::1",
            ),
            (
                "a pod whose IPv6 address is unique local",
                "2001:db8::1 203.0.113.1",
                "fd77::2 10.77.0.2",
                "203.0.113.1 2001:db8::1",
            ),
            ("a service within the cluster", "fd00::10 10.96.0.10", "fd77::2 10.77.0.2", "10.96.0.10 fd00::10"),
            ("no route for IPv6", "2001:db8::1 203.0.113.1", "- 10.77.0.2", "203.0.113.1 2001:db8::1"),
            ("no route for IPv4", "203.0.113.1 2001:db8::1", "- fd77::2", "2001:db8::1 203.0.113.1"),
            ("6to4", "2002:c633:6401::1 203.0.113.1", "2001:db8::2 10.0.0.2", "203.0.113.1 2002:c633:6401::1"),
            ("one family: as it came", "203.0.113.2 203.0.113.1", "- 10.0.0.2", "203.0.113.2 203.0.113.1"),
            (
                "each family as it came",
                "203.0.113.2 203.0.113.1 2001:db8::9 2001:db8::1",
                "10.0.0.2 10.0.0.2 2001:db8::2 2001:db8::2",
                "2001:db8::9 2001:db8::1 203.0.113.2 203.0.113.1",
            ),
        ] {
            let parse = |text: &str| text.split(' ').map(|ip| ip.parse::<IpAddr>().ok()).collect::<Vec<_>>();
            let of: Vec<IpAddr> = parse(destinations).into_iter().flatten().collect();
            let sources = parse(sources);
            let source_of = |ip| sources[of.iter().position(|other| *other == ip).unwrap()];
            let found: Vec<String> = order(of.clone(), source_of).iter().map(ToString::to_string).collect();
            assert_eq!(found.join(" "), expected, "{what}");
        }
    }

    #[test]
    fn this_host_connects_to_itself_from_itself() {
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        assert_eq!(source_of(loopback), Some(loopback));
    }
}
