//! The first question about a redirected connection: may its original destination be dialled at all?
//!
//! A proxy that dials itself loops until descriptors run out, and one that dials loopback on behalf of whoever reaches
//! its port lends out its own network position. Both end here, before a byte is read.

use std::net::{IpAddr, SocketAddr};

use crate::flow::{Authority, Host, OriginalDst};

/// Which destinations are egret itself.
#[derive(Clone, Debug)]
pub struct Guard {
    /// Every port that egret listens on.
    pub own_ports: Vec<u16>,
    /// `--allow-loopback`: redirected connections to loopback addresses are served (never to egret's own ports).
    pub allow_loopback: bool,
}

/// Why a connection is closed without being served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// The kernel knows no original destination: the connection was not redirected, or its conntrack entry is gone.
    #[error("no_original_destination")]
    NotRedirected,
    /// The original destination is egret.
    #[error("destination_is_egret_itself")]
    OwnPort,
    /// The original destination is a loopback address.
    #[error("destination_is_loopback")]
    Loopback,
    /// The original destination is no unicast address.
    #[error("destination_is_not_unicast")]
    NotUnicast,
}

impl Guard {
    /// Whether an application may ask for a tunnel to `authority` at all. A name is resolved elsewhere; those that mean
    /// the host itself are known (RFC 6761 §6.3).
    ///
    /// # Errors
    /// Why not.
    pub fn check_tunnel(&self, authority: &Authority) -> Result<(), Refusal> {
        match &authority.host {
            Host::Ip(ip) => self.check(OriginalDst::new(SocketAddr::new(*ip, authority.port.unwrap_or(0)))),
            Host::Name(name) => {
                let last = name.as_str().rsplit('.').next();
                if last == Some("localhost") { Err(Refusal::Loopback) } else { Ok(()) }
            }
        }
    }

    /// # Errors
    /// Why `dst` must not be dialled.
    pub fn check(&self, dst: OriginalDst) -> Result<(), Refusal> {
        let ip = dst.ip();
        if self.own_ports.contains(&dst.port()) && (is_this_host(ip) || is_local_address(ip)) {
            return Err(Refusal::OwnPort);
        }
        if is_multicast_or_broadcast(ip) || dst.port() == 0 {
            return Err(Refusal::NotUnicast);
        }
        if is_this_host(ip) && !self.allow_loopback {
            return Err(Refusal::Loopback);
        }
        Ok(())
    }
}

/// Loopback, and `0.0.0.0/8` and `::`, which the kernel connects to loopback.
fn is_this_host(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_loopback() || ip.octets()[0] == 0,
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unspecified(),
    }
}

fn is_multicast_or_broadcast(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_multicast() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_multicast(),
    }
}

/// Whether an interface of this network namespace has the address. Asked only for egret's own port numbers, so that the
/// list can be read anew each time and an address added later is known.
fn is_local_address(ip: IpAddr) -> bool {
    let Ok(interfaces) = nix::ifaddrs::getifaddrs() else {
        // Without the list the port alone decides: refusing a stranger's port 15001 is better than a loop.
        return true;
    };
    interfaces.filter_map(|interface| interface.address).any(|address| {
        let v4 = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
        let v6 = address.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip()));
        v4.or(v6) == Some(ip)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tunnels_to_this_host_are_refused_under_any_name() {
        let guard = Guard { own_ports: vec![15001], allow_loopback: false };
        for (authority, allowed) in [
            ("site.example:443", true),
            ("localhost.example:443", true),
            ("192.0.2.1:443", true),
            ("localhost:443", false),
            ("a.LOCALHOST.:443", false),
            ("127.0.0.1:443", false),
            ("[::ffff:127.0.0.1]:15001", false),
            ("0.0.0.0:443", false),
            ("[::1]:443", false),
            ("224.0.0.1:443", false),
        ] {
            let authority = Authority::parse(authority).unwrap();
            assert_eq!(guard.check_tunnel(&authority).is_ok(), allowed, "{authority}");
        }
    }

    #[test]
    fn refuses_itself_loopback_and_what_cannot_be_dialled() {
        let guard = Guard { own_ports: vec![15001, 15000], allow_loopback: false };
        let open = Guard { allow_loopback: true, ..guard.clone() };
        for (dst, strict, lenient) in [
            ("192.0.2.1:80", Ok(()), Ok(())),
            ("192.0.2.1:15001", Ok(()), Ok(())),
            ("127.0.0.1:15001", Err(Refusal::OwnPort), Err(Refusal::OwnPort)),
            ("[::1]:15000", Err(Refusal::OwnPort), Err(Refusal::OwnPort)),
            ("[::ffff:127.0.0.1]:15001", Err(Refusal::OwnPort), Err(Refusal::OwnPort)),
            ("0.0.0.0:15001", Err(Refusal::OwnPort), Err(Refusal::OwnPort)),
            ("127.0.0.1:8080", Err(Refusal::Loopback), Ok(())),
            ("[::1]:8080", Err(Refusal::Loopback), Ok(())),
            ("[::]:8080", Err(Refusal::Loopback), Ok(())),
            ("224.0.0.1:80", Err(Refusal::NotUnicast), Err(Refusal::NotUnicast)),
            ("255.255.255.255:80", Err(Refusal::NotUnicast), Err(Refusal::NotUnicast)),
            ("[ff02::1]:80", Err(Refusal::NotUnicast), Err(Refusal::NotUnicast)),
            ("192.0.2.1:0", Err(Refusal::NotUnicast), Err(Refusal::NotUnicast)),
        ] {
            let dst = OriginalDst::new(dst.parse().unwrap());
            assert_eq!(guard.check(dst), strict, "{dst}");
            assert_eq!(open.check(dst), lenient, "{dst} with --allow-loopback");
        }
    }
}
