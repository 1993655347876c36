//! What is redirected: the operator's answer to `egret init`, parsed once into a form that cannot contradict itself.
//!
//! It does not know how rules are written. Comma lists have Istio's meaning; CIDRs are stored without host bits so
//! that two spellings of one network give the same rules.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use ipnet::IpNet;

/// The port at which the DNS listener is asked.
pub const DNS: u16 = 53;

/// One comma-separated argument. An empty text is an empty list; blanks around values are ignored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommaList<T>(pub Vec<T>);

impl<T: FromStr<Err: fmt::Display>> FromStr for CommaList<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let values = text.split(',').map(str::trim).filter(|value| !value.is_empty());
        values
            .map(|value| value.parse().map_err(|error| format!("`{value}`: {error}")))
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

/// A destination port: 1 to 65535.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Port(pub u16);

impl FromStr for Port {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(0) | Err(_) => Err("a port is a number from 1 to 65535".into()),
            Ok(port) => Ok(Self(port)),
        }
    }
}

/// A network as the kernel stores it (no host bits). A bare address is a network of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr(pub IpNet);

impl FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        let net = parsed.map_err(|_| "a network is written like 10.0.0.0/8, 2001:db8::/32 or 10.1.2.3")?;
        Ok(Self(net.trunc()))
    }
}

/// The name of a network interface, in the letters that every backend takes literally (no wildcards, no quotes).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface(pub String);

impl FromStr for Interface {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let literal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-:".contains(&byte);
        if text.is_empty() || text.len() > 15 || !text.bytes().all(literal) {
            return Err("an interface name has 1 to 15 letters, digits or . _ - :".into());
        }
        Ok(Self(text.into()))
    }
}

/// Which destination networks are redirected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Included {
    /// `*`
    All,
    /// Those listed; none when the list is empty.
    Only(Vec<IpNet>),
}

impl FromStr for Included {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim() == "*" {
            return Ok(Self::All);
        }
        let nets: CommaList<Cidr> = text.parse()?;
        Ok(Self::Only(nets.0.into_iter().map(|cidr| cidr.0).collect()))
    }
}

/// What is redirected of DNS: UDP and TCP to port 53.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsCapture {
    /// Where it goes: the port of the proxy's DNS listener on 127.0.0.1 and ::1.
    pub port: u16,
    pub servers: DnsServers,
}

/// Whose port 53.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DnsServers {
    /// Those that the pod's resolver asks.
    Listed(Vec<IpAddr>),
    Any,
}

impl DnsCapture {
    /// The listed servers; empty for any.
    pub fn listed(&self) -> &[IpAddr] {
        match &self.servers {
            DnsServers::Listed(servers) => servers,
            DnsServers::Any => &[],
        }
    }
}

/// A whole, consistent wish. Made by [`Capture::checked`] only where it comes from an operator.
#[derive(Debug, Clone)]
pub struct Capture {
    /// Where TCP goes: the port of the proxy on 127.0.0.1 and ::1.
    pub proxy_port: u16,
    /// Owners whose packets are never touched. At least one uid.
    pub proxy_uids: Vec<u32>,
    pub proxy_gids: Vec<u32>,
    pub included: Included,
    pub excluded: Vec<IpNet>,
    /// Redirected whatever the destination network (unless excluded).
    pub included_ports: Vec<u16>,
    /// TCP and UDP.
    pub excluded_ports: Vec<u16>,
    pub excluded_interfaces: Vec<String>,
    /// `None` leaves DNS alone.
    pub dns: Option<DnsCapture>,
    pub block_quic: bool,
}

impl Capture {
    /// The same wish, or why it contradicts itself.
    pub fn checked(self) -> Result<Self, String> {
        if self.proxy_uids.is_empty() {
            return Err(
                "--proxy-uid must name at least one user: otherwise the proxy's own connections return to it".into()
            );
        }
        if self.dns.as_ref().is_some_and(|dns| dns.port == self.proxy_port) {
            return Err("--dns-port and --proxy-port must differ".into());
        }
        if self.dns.is_some() && self.excluded_ports.contains(&DNS) {
            return Err("--capture-dns and --exclude-outbound-ports 53 contradict each other".into());
        }
        Ok(self)
    }

    /// Whether something is redirected by TCP destination at all.
    pub fn redirects(&self) -> bool {
        let nets = match &self.included {
            Included::All => true,
            Included::Only(nets) => !nets.is_empty(),
        };
        nets || !self.included_ports.is_empty()
    }

    /// The included networks; empty for `*`.
    pub fn included_nets(&self) -> &[IpNet] {
        match &self.included {
            Included::All => &[],
            Included::Only(nets) => nets,
        }
    }

    /// Whether an included IPv4 network lies in 127.0.0.0/8, which makes the application's traffic to its own pod
    /// redirectable. IPv6 has a single loopback address and that one is never redirected.
    pub fn includes_loopback(&self) -> bool {
        let loopback = |net: &IpNet| matches!(net.network(), IpAddr::V4(address) if address.is_loopback());
        self.included_nets().iter().any(loopback)
    }

    /// Whether the rules leave connections to this loopback address alone.
    pub fn spares(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) if self.includes_loopback() => address == Ipv4Addr::LOCALHOST,
            address => address.is_loopback(),
        }
    }
}

#[cfg(test)]
pub(super) fn sample() -> Capture {
    Capture {
        proxy_port: 15001,
        proxy_uids: vec![1337],
        proxy_gids: vec![1337],
        included: Included::All,
        excluded: Vec::new(),
        included_ports: Vec::new(),
        excluded_ports: Vec::new(),
        excluded_interfaces: Vec::new(),
        dns: None,
        block_quic: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_parse_or_say_which_value_is_wrong() {
        let ports =
            |text: &str| text.parse::<CommaList<Port>>().map(|list| list.0.iter().map(|p| p.0).collect::<Vec<_>>());
        assert_eq!(ports(""), Ok(vec![]));
        assert_eq!(ports("80, 443,"), Ok(vec![80, 443]));
        for wrong in ["0", "65536", "http", "80 443", "-1"] {
            assert!(ports(wrong).unwrap_err().contains(&format!("`{wrong}`")), "{wrong}");
        }
    }

    #[test]
    fn networks_lose_their_host_bits() {
        for (text, want) in [
            ("10.1.2.3/8", "10.0.0.0/8"),
            ("10.1.2.3", "10.1.2.3/32"),
            ("fd00::1/64", "fd00::/64"),
            ("::1", "::1/128"),
            ("0.0.0.0/0", "0.0.0.0/0"),
        ] {
            assert_eq!(text.parse::<Cidr>().unwrap().0.to_string(), want, "{text}");
        }
        for wrong in ["10.0.0.0/33", "10.0.0", "example.com", "10.0.0.0/", "fe80::1%eth0"] {
            assert!(wrong.parse::<Cidr>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn star_stands_alone() {
        assert_eq!("*".parse(), Ok(Included::All));
        assert_eq!("".parse(), Ok(Included::Only(vec![])));
        assert!("*,10.0.0.0/8".parse::<Included>().is_err());
    }

    #[test]
    fn interface_names_cannot_carry_rules() {
        for (name, fine) in [("eth0", true), ("net1.100", true), ("", false), ("eth+", false), ("eth*", false)] {
            assert_eq!(name.parse::<Interface>().is_ok(), fine, "{name}");
        }
        for wrong in ["a\" accept", "sixteen-letters-", "a b", "@X@", "a\nb"] {
            assert!(wrong.parse::<Interface>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn contradictions_are_refused() {
        let dns = |port| Some(DnsCapture { port, servers: DnsServers::Any });
        assert!(sample().checked().is_ok());
        assert!(Capture { proxy_uids: vec![], ..sample() }.checked().is_err());
        assert!(Capture { dns: dns(15001), ..sample() }.checked().is_err());
        assert!(Capture { dns: dns(15053), excluded_ports: vec![53], ..sample() }.checked().is_err());
    }

    #[test]
    fn loopback_is_spared_unless_it_is_listed() {
        let listed = Capture { included: "127.1.2.3/32".parse().unwrap(), ..sample() };
        for (capture, address, spared) in [
            (&sample(), "127.1.2.3", true),
            (&sample(), "::1", true),
            (&sample(), "10.0.0.1", false),
            (&listed, "127.1.2.3", false),
            (&listed, "127.0.0.1", true),
            (&listed, "::1", true),
        ] {
            assert_eq!(capture.spares(address.parse().unwrap()), spared, "{address}");
        }
    }
}
