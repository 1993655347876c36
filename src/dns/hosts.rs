//! The hosts file as a value: names to addresses, hosts(5).
//!
//! It does not know where the file is or when it changes. A line that cannot be read is left out, as every resolver
//! does: the file belongs to the kubelet or the image, and one odd line must not take the others' names away.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::flow::Hostname;

/// Names and their addresses in the order of the file, each address once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hosts(HashMap<Hostname, Vec<IpAddr>>);

impl Hosts {
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut hosts = Self::default();
        for line in text.lines() {
            hosts.add(line.split('#').next().unwrap_or_default());
        }
        hosts
    }

    /// The addresses that the file gives `name`; none when it does not mention it.
    #[must_use]
    pub fn addresses(&self, name: &Hostname) -> &[IpAddr] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    fn add(&mut self, line: &str) {
        let mut words = line.split_ascii_whitespace();
        let Some(Ok(ip)) = words.next().map(str::parse::<IpAddr>) else { return };
        let ip = ip.to_canonical();
        for name in words.filter_map(|word| Hostname::new(word).ok()) {
            let ips = self.0.entry(name).or_default();
            if !ips.contains(&ip) {
                ips.push(ip);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_and_broken_ones_left_out() {
        let hosts = Hosts::parse(
            "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1 localhost ip6-localhost\r\n\
             10.0.0.7  DB.Example.com db # primary\n10.0.0.8 db.example.com. bad*name\n10.0.0.7 db.example.com\n\
             not-an-address name\n10.0.0.9\n#10.0.0.10 off.example\n::ffff:10.0.0.11 mapped\n10.0.0.12 last",
        );
        for (name, expected) in [
            ("localhost", &["127.0.0.1", "::1"][..]),
            ("ip6-localhost", &["::1"]),
            ("db.example.com", &["10.0.0.7", "10.0.0.8"]),
            ("db", &["10.0.0.7"]),
            ("mapped", &["10.0.0.11"]),
            ("last", &["10.0.0.12"]),
            ("name", &[]),
            ("primary", &[]),
            ("off.example", &[]),
        ] {
            let expected: Vec<IpAddr> = expected.iter().map(|ip| ip.parse().unwrap()).collect();
            assert_eq!(hosts.addresses(&Hostname::new(name).unwrap()), expected, "{name}");
        }
    }
}
