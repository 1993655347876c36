//! `resolv.conf` as a value, and the order in which it says a name is to be tried; resolv.conf(5).
//!
//! It does not know where the file is, and what the name of a network interface means is asked of the caller. A line
//! that cannot be read is left out with a note: the file belongs to the kubelet, not to the operator of this process.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use crate::flow::Hostname;

/// How many name servers count; further ones are left out, as the C library does (`MAXNS`).
const MAX_SERVERS: usize = 3;
const PORT: u16 = 53;

/// What the file says, with the defaults of resolv.conf(5) filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvConf {
    /// Never empty: without any it is the server on this host.
    pub servers: Vec<SocketAddr>,
    pub search: Vec<Hostname>,
    /// A name with fewer dots than this may also be tried under the search list.
    pub ndots: u8,
    /// How long one server has for one try.
    pub timeout: Duration,
    /// How many times the whole list of servers is tried.
    pub attempts: u8,
    pub transport: Transport,
    pub order: Order,
    pub aaaa: Aaaa,
}

/// Whether IPv6 addresses are asked for (`no-aaaa`, glibc 2.36).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aaaa {
    Asked,
    NotAsked,
}

/// How servers are asked (`use-vc`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// UDP, and TCP for what does not fit.
    Udp,
    Tcp,
}

/// Which server comes first (`rotate`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Listed,
    Rotated,
}

/// A line, counted from 1, that could not be used, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    pub line: usize,
    pub text: String,
}

impl Default for ResolvConf {
    fn default() -> Self {
        Self {
            servers: vec![SocketAddr::new(Ipv4Addr::LOCALHOST.into(), PORT)],
            search: Vec::new(),
            ndots: 1,
            timeout: Duration::from_secs(5),
            attempts: 2,
            transport: Transport::Udp,
            order: Order::Listed,
            aaaa: Aaaa::Asked,
        }
    }
}

impl ResolvConf {
    /// Reads the file's text. `interface_index` turns the name in `fe80::1%eth0` into the kernel's number.
    pub fn parse(text: &str, interface_index: impl Fn(&str) -> Option<u32>) -> (Self, Vec<Note>) {
        let mut conf = Self { servers: Vec::new(), ..Self::default() };
        let mut notes = Vec::new();
        for (index, line) in text.lines().enumerate() {
            if let Err(text) = conf.read_line(line, &interface_index) {
                notes.push(Note { line: index + 1, text });
            }
        }
        if conf.servers.is_empty() {
            conf.servers = Self::default().servers;
        }
        (conf, notes)
    }

    /// The absolute names to try for `name`, in order; the next one only when the one before does not exist.
    ///
    /// A name with a dot is meant as it stands (configuration holds full names); the search list comes after it, and
    /// only below `ndots`. A single label is a short name: the search list first.
    #[must_use]
    pub fn candidates(&self, name: &Hostname) -> Vec<Hostname> {
        let dots = name.as_str().bytes().filter(|b| *b == b'.').count();
        let searched = self.search.iter().filter_map(|suffix| Hostname::new(&format!("{name}.{suffix}")).ok());
        let absolute = std::iter::once(name.clone());
        match dots {
            0 if self.ndots > 0 => searched.chain(absolute).collect(),
            _ if dots < self.ndots.into() => absolute.chain(searched).collect(),
            _ => absolute.collect(),
        }
    }

    fn read_line(&mut self, line: &str, interface_index: &impl Fn(&str) -> Option<u32>) -> Result<(), String> {
        // Comments are whole lines in resolv.conf(5), but people also write them behind a value.
        let line = line.split(['#', ';']).next().unwrap_or_default();
        let mut words = line.split_ascii_whitespace();
        match words.next() {
            None | Some("sortlist") => Ok(()),
            Some("nameserver") => self.add_server(words.next().unwrap_or_default(), interface_index),
            // The last of `search` and `domain` counts.
            Some("search" | "domain") => self.set_search(words),
            Some("options") => words.try_for_each(|option| self.set_option(option)),
            Some(other) => Err(format!("unknown keyword {other:?}")),
        }
    }

    fn add_server(&mut self, text: &str, interface_index: &impl Fn(&str) -> Option<u32>) -> Result<(), String> {
        let server = parse_server(text, interface_index)?;
        if self.servers.len() == MAX_SERVERS {
            return Err(format!("only the first {MAX_SERVERS} name servers count"));
        }
        self.servers.push(server);
        Ok(())
    }

    fn set_search<'a>(&mut self, suffixes: impl Iterator<Item = &'a str>) -> Result<(), String> {
        self.search.clear();
        let mut wrong = Ok(());
        for suffix in suffixes.filter(|suffix| *suffix != ".") {
            match Hostname::new(suffix) {
                Ok(suffix) => self.search.push(suffix),
                Err(e) => wrong = Err(format!("search domain {suffix:?}: {e}")),
            }
        }
        wrong
    }

    fn set_option(&mut self, option: &str) -> Result<(), String> {
        let (key, value) = option.split_once(':').unwrap_or((option, ""));
        let number = |most: u8| match value.parse::<u32>() {
            Ok(n) => Ok(n.min(most.into()) as u8),
            Err(_) => Err(format!("option {option:?} wants a number")),
        };
        // The limits are the C library's (RES_MAXNDOTS, RES_MAXRETRANS, RES_MAXRETRY).
        match key {
            "ndots" => self.ndots = number(15)?,
            "timeout" => self.timeout = Duration::from_secs(number(30)?.max(1).into()),
            "attempts" => self.attempts = number(5)?.max(1),
            "use-vc" => self.transport = Transport::Tcp,
            "rotate" => self.order = Order::Rotated,
            "no-aaaa" => self.aaaa = Aaaa::NotAsked,
            // edns0, trust-ad, single-request…: nothing that changes what is asked here.
            _ => {}
        }
        Ok(())
    }
}

fn parse_server(text: &str, interface_index: &impl Fn(&str) -> Option<u32>) -> Result<SocketAddr, String> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, PORT));
    }
    let wrong = || format!("name server {text:?} is no IP address");
    let (ip, zone) = text.split_once('%').ok_or_else(wrong)?;
    let ip = ip.parse().map_err(|_| wrong())?;
    let scope = zone.parse().ok().or_else(|| interface_index(zone));
    let scope = scope.ok_or_else(|| format!("name server {text:?}: there is no network interface {zone:?}"))?;
    Ok(SocketAddrV6::new(ip, PORT, 0, scope).into())
}

/// Every name server that the file names, also those beyond the C library's three: other resolvers ask them. Without any
/// it is the one on this host.
#[must_use]
pub fn listed_servers(text: &str) -> Vec<IpAddr> {
    let mut servers = Vec::new();
    for line in text.lines() {
        let mut words = line.split(['#', ';']).next().unwrap_or_default().split_ascii_whitespace();
        if words.next() != Some("nameserver") {
            continue;
        }
        let address = words.next().and_then(|text| text.split('%').next()?.parse().ok());
        if let Some(ip) = address
            && !servers.contains(&ip)
        {
            servers.push(ip);
        }
    }
    if servers.is_empty() {
        servers.push(Ipv4Addr::LOCALHOST.into());
    }
    servers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> (ResolvConf, Vec<Note>) {
        ResolvConf::parse(text, |name| (name == "eth0").then_some(7))
    }

    fn names(list: &[&str]) -> Vec<Hostname> {
        list.iter().map(|name| Hostname::new(name).unwrap()).collect()
    }

    #[test]
    fn every_server_is_listed() {
        let text = "nameserver 10.96.0.10 # a\nnameserver fe80::1%eth0\n nameserver 10.96.0.10\nnameserver x\n\
                    nameserver 10.0.0.2\nnameserver 10.0.0.3;\n#nameserver 10.0.0.4\n";
        let expected = ["10.96.0.10", "fe80::1", "10.0.0.2", "10.0.0.3"].map(|ip| ip.parse::<IpAddr>().unwrap());
        assert_eq!(listed_servers(text), expected);
        assert_eq!(listed_servers("search a\n"), ["127.0.0.1".parse::<IpAddr>().unwrap()]);
    }

    #[test]
    fn a_pods_file() {
        let (conf, notes) = parse(
            "search default.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n",
        );
        assert_eq!(notes, []);
        let expected = ResolvConf {
            servers: vec!["10.96.0.10:53".parse().unwrap()],
            search: names(&["default.svc.cluster.local", "svc.cluster.local", "cluster.local"]),
            ndots: 5,
            ..ResolvConf::default()
        };
        assert_eq!(conf, expected);
    }

    #[test]
    fn every_option_within_its_limits() {
        let (conf, notes) = parse("options timeout:2 attempts:3 use-vc rotate no-aaaa edns0 trust-ad ndots:99\n");
        assert_eq!(notes, []);
        let expected = ResolvConf {
            ndots: 15,
            timeout: Duration::from_secs(2),
            attempts: 3,
            transport: Transport::Tcp,
            order: Order::Rotated,
            aaaa: Aaaa::NotAsked,
            ..ResolvConf::default()
        };
        assert_eq!(conf, expected);
        let (conf, _) = parse("options timeout:0 attempts:0");
        assert_eq!((conf.timeout, conf.attempts), (Duration::from_secs(1), 1));
        let (conf, _) = parse("options timeout:4294967295 attempts:999");
        assert_eq!((conf.timeout, conf.attempts), (Duration::from_secs(30), 5));
    }

    #[test]
    fn servers_of_every_kind() {
        for (text, expected) in [
            ("", &["127.0.0.1:53"][..]),
            ("nameserver 192.0.2.1", &["192.0.2.1:53"]),
            ("nameserver\t2001:db8::1 # comment", &["[2001:db8::1]:53"]),
            ("nameserver fe80::1%eth0", &["[fe80::1%7]:53"]),
            ("nameserver fe80::1%3", &["[fe80::1%3]:53"]),
            (
                "nameserver 192.0.2.1\nnameserver 192.0.2.2\nnameserver 192.0.2.3\nnameserver 192.0.2.4",
                &["192.0.2.1:53", "192.0.2.2:53", "192.0.2.3:53"],
            ),
        ] {
            let expected: Vec<SocketAddr> = expected.iter().map(|server| server.parse().unwrap()).collect();
            assert_eq!(parse(text).0.servers, expected, "{text:?}");
        }
    }

    #[test]
    fn broken_lines_are_noted_and_left_out() {
        for (line, note) in [
            ("nameserver", "name server \"\" is no IP address"),
            ("nameserver 192.0.2", "name server \"192.0.2\" is no IP address"),
            ("nameserver fe80::1%eth9", "name server \"fe80::1%eth9\": there is no network interface \"eth9\""),
            ("options timeout:soon", "option \"timeout:soon\" wants a number"),
            ("searches a", "unknown keyword \"searches\""),
            ("search a..b", "search domain \"a..b\": a label is empty or longer than 63 octets"),
        ] {
            let (conf, notes) = parse(&format!("; ours\n{line}\nnameserver 192.0.2.9"));
            assert_eq!(conf, ResolvConf { servers: vec!["192.0.2.9:53".parse().unwrap()], ..ResolvConf::default() });
            assert_eq!(notes, [Note { line: 2, text: note.to_owned() }], "{line}");
        }
    }

    #[test]
    fn which_names_are_tried() {
        let label = "x".repeat(62);
        let long = [&*label; 4].join(".");
        for (ndots, name, expected) in [
            (5, "db", &["db.ns.svc", "db.svc", "db"][..]),
            (1, "db", &["db.ns.svc", "db.svc", "db"]),
            (0, "db", &["db"]),
            (5, "edition.cnn.com", &["edition.cnn.com", "edition.cnn.com.ns.svc", "edition.cnn.com.svc"]),
            (2, "edition.cnn.com", &["edition.cnn.com"]),
            (1, "cnn.com", &["cnn.com"]),
            (15, &long, &[&long]),
        ] {
            let conf = ResolvConf { ndots, search: names(&["ns.svc", "svc"]), ..ResolvConf::default() };
            assert_eq!(conf.candidates(&Hostname::new(name).unwrap()), names(expected), "{name} with ndots:{ndots}");
        }
    }
}
