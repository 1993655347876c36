//! A [`Capture`] as rules: the templates of `iptables/` with the lists of the capture put in.
//!
//! Pure: it runs nothing and reads nothing. The templates are embedded, so that the rules a reader sees in `iptables/`
//! are the rules that the binary applies.

use ipnet::IpNet;

use super::capture::{Capture, DnsCapture, DnsServers, Included};
use super::template::{Lists, render};

const NFT: &str = include_str!("../../iptables/egret.nft");
const IPTABLES_V4: &str = include_str!("../../iptables/egret.v4.rules");
const IPTABLES_V6: &str = include_str!("../../iptables/egret.v6.rules");

/// What happens to outbound IPv6 that would be redirected if it were IPv4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ipv6 {
    Redirect,
    Reject,
    /// There is none here and nothing that could hold rules for it.
    Absent,
}

/// What becomes of sockets that are bound to an interface, whose redirected packets leave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BoundSockets {
    Refused,
    /// They wait in vain: this kernel does not take the rules of iptables that would refuse them.
    Left,
}

/// The two families of addresses, each of which has its own iptables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

/// One table of an iptables-restore text: all of it is applied at once or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// `nat`, `raw` or `filter`
    pub name: String,
    /// Chain declarations and rules, in order.
    pub lines: Vec<String>,
}

/// The input of `nft -f`: one transaction.
pub fn nft(capture: &Capture, ipv6: Ipv6) -> String {
    render(NFT, &lists(capture, ipv6, BoundSockets::Refused))
}

/// The input of iptables-restore for one family, tables without rules left out, in the order in which they may be
/// applied one after the other: what catches comes before what lets go.
pub fn iptables(capture: &Capture, family: Family, ipv6: Ipv6, bound: BoundSockets) -> Vec<Table> {
    let template = match (family, ipv6) {
        (Family::V4, _) => IPTABLES_V4,
        (Family::V6, Ipv6::Absent) => return Vec::new(),
        (Family::V6, _) => IPTABLES_V6,
    };
    let mut tables = split(&render(template, &lists(capture, ipv6, bound)));
    tables.sort_by_key(|table| order(&table.name, ipv6));
    tables
}

/// Where rejecting takes over from redirecting, the filter table has to stand before the nat table lets go; and the
/// reverse.
pub fn order(table: &str, ipv6: Ipv6) -> usize {
    let names = if ipv6 == Ipv6::Redirect { ["raw", "nat", "filter"] } else { ["raw", "filter", "nat"] };
    names.iter().position(|name| *name == table).unwrap_or(names.len())
}

fn split(rendered: &str) -> Vec<Table> {
    let mut tables: Vec<Table> = Vec::new();
    for line in rendered.lines().filter(|line| *line != "COMMIT") {
        match (line.strip_prefix('*'), tables.last_mut()) {
            (Some(name), _) => tables.push(Table { name: name.into(), lines: Vec::new() }),
            (None, Some(table)) => table.lines.push(line.into()),
            (None, None) => {}
        }
    }
    tables.retain(|table| !table.lines.is_empty());
    tables
}

/// Tables as iptables-restore reads them.
pub fn text(tables: &[Table]) -> String {
    let table = |table: &Table| format!("*{}\n{}\nCOMMIT\n", table.name, table.lines.join("\n"));
    tables.iter().map(table).collect()
}

fn lists(capture: &Capture, ipv6: Ipv6, bound: BoundSockets) -> Lists {
    let mut lists = Lists::default();
    lists.set("PROXY_PORT", [capture.proxy_port]);
    lists.set("PROXY_UIDS", &capture.proxy_uids);
    lists.set("PROXY_GIDS", &capture.proxy_gids);
    lists.set("INCLUDED_PORTS", &capture.included_ports);
    lists.set("EXCLUDED_PORTS", &capture.excluded_ports);
    lists.set("EXCLUDED_INTERFACES", &capture.excluded_interfaces);
    lists.set("INCLUDED_V4", of(capture.included_nets(), Family::V4));
    lists.set("INCLUDED_V6", of(capture.included_nets(), Family::V6));
    lists.set("EXCLUDED_V4", of(&capture.excluded, Family::V4));
    lists.set("EXCLUDED_V6", of(&capture.excluded, Family::V6));
    lists.set_flag("INCLUDED_ALL", capture.included == Included::All);
    lists.set_flag("INCLUDED_LOOPBACK", capture.includes_loopback());
    let dns = capture.dns.as_ref();
    let servers = dns.map_or(&[][..], DnsCapture::listed);
    lists.set_flag("CAPTURE_DNS", dns.is_some());
    lists.set_flag("DNS_ALL", dns.is_some_and(|dns| dns.servers == DnsServers::Any));
    lists.set("DNS_PORT", dns.map(|dns| dns.port));
    lists.set("DNS_V4", servers.iter().filter(|server| server.is_ipv4()));
    lists.set("DNS_V6", servers.iter().filter(|server| server.is_ipv6()));
    lists.set_flag("BLOCK_QUIC", capture.block_quic);
    lists.set_flag("BOUND", bound == BoundSockets::Refused);
    lists.set_flag("REJECT_V6", ipv6 == Ipv6::Reject);
    lists.set_flag("REJECTS", capture.block_quic || ipv6 == Ipv6::Reject);
    lists
}

fn of(nets: &[IpNet], family: Family) -> impl Iterator<Item = &IpNet> {
    nets.iter().filter(move |net| matches!((net, family), (IpNet::V4(_), Family::V4) | (IpNet::V6(_), Family::V6)))
}

#[cfg(test)]
mod tests {
    use super::super::capture::sample;
    use super::*;

    fn names(tables: &[Table]) -> Vec<&str> {
        tables.iter().map(|table| table.name.as_str()).collect()
    }

    #[test]
    fn what_catches_comes_before_what_lets_go() {
        let capture =
            Capture { block_quic: true, dns: Some(DnsCapture { port: 15053, servers: DnsServers::Any }), ..sample() };
        let of = |family, ipv6| iptables(&capture, family, ipv6, BoundSockets::Refused);
        assert_eq!(names(&of(Family::V6, Ipv6::Redirect)), ["raw", "nat", "filter"]);
        assert_eq!(names(&of(Family::V4, Ipv6::Redirect)), ["raw", "nat", "filter"]);
        assert_eq!(names(&of(Family::V6, Ipv6::Reject)), ["filter"]);
        assert!(order("filter", Ipv6::Reject) < order("nat", Ipv6::Reject));
    }

    #[test]
    fn tables_without_rules_are_left_out() {
        assert_eq!(names(&iptables(&sample(), Family::V4, Ipv6::Redirect, BoundSockets::Left)), ["nat", "filter"]);
        assert_eq!(names(&iptables(&sample(), Family::V6, Ipv6::Absent, BoundSockets::Refused)), [""; 0]);
    }

    #[test]
    fn no_name_of_a_list_is_left_in_the_rules() {
        let capture = Capture {
            included: "10.0.0.0/8,fd00::/8,127.1.2.3".parse().unwrap(),
            excluded: vec!["1.1.0.0/16".parse().unwrap()],
            included_ports: vec![443],
            excluded_ports: vec![22],
            excluded_interfaces: vec!["eth9".into()],
            dns: Some(DnsCapture { port: 15053, servers: DnsServers::Any }),
            block_quic: true,
            ..sample()
        };
        for ipv6 in [Ipv6::Redirect, Ipv6::Reject, Ipv6::Absent] {
            let of = |family| text(&iptables(&capture, family, ipv6, BoundSockets::Refused));
            for rules in [nft(&capture, ipv6), of(Family::V4), of(Family::V6)] {
                assert!(!rules.contains(['@', '?']) && !rules.lines().any(|line| line.starts_with('!')), "{rules}");
            }
        }
    }
}
