//! Whether a range of automatic addresses is in use here: an address of it that somebody really has could not be reached.
//!
//! The kernel's tables are read, not asked over netlink: that needs no privilege and no package. Routes that stand for
//! everything are no network of anybody.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::dns::automatic_addresses::AutomaticRanges;

/// Halves and quarters of the whole, and 2000::/3, are ways to write a default route.
const LEAST_PREFIX: u8 = 4;
/// Routes that refuse (`RTF_REJECT`, linux/route.h).
const REJECTS: u32 = 0x200;

/// The ranges that no local route overlaps, and why others are left out.
pub(super) fn without_overlaps(wanted: AutomaticRanges) -> (AutomaticRanges, Vec<String>) {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let routes = [v4_routes(&read("/proc/net/route")), v6_routes(&read("/proc/net/ipv6_route"))].concat();
    judge(wanted, &routes)
}

fn judge(wanted: AutomaticRanges, routes: &[(IpNet, String)]) -> (AutomaticRanges, Vec<String>) {
    let (mut ranges, mut problems) = (wanted, Vec::new());
    let mut free = |range: IpNet, setting: &str| {
        let overlapping = routes.iter().find(|(route, _)| route.contains(&range) || range.contains(route));
        if let Some((route, device)) = overlapping {
            problems.push(format!(
                "{setting} {range} overlaps the route {route} of {device}: hosts get no automatic addresses of it; choose \
                 a range that is nobody's"
            ));
        }
        overlapping.is_none()
    };
    ranges.v4 = wanted.v4.filter(|range| free(IpNet::V4(*range), "ipAutoallocateIpv4Prefix"));
    ranges.v6 = wanted.v6.filter(|range| free(IpNet::V6(*range), "ipAutoallocateIpv6Prefix"));
    (ranges, problems)
}

/// `Iface Destination Gateway Flags RefCnt Use Metric Mask …`, addresses in hexadecimal in the host's order.
fn v4_routes(table: &str) -> Vec<(IpNet, String)> {
    let route = |line: &str| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let number = |column: usize| u32::from_str_radix(columns.get(column)?, 16).ok();
        let (destination, flags, mask) = (number(1)?, number(3)?, number(7)?);
        let address = Ipv4Addr::from(destination.to_ne_bytes());
        let prefix = u32::from_be_bytes(mask.to_ne_bytes()).leading_ones() as u8;
        let net = Ipv4Net::new(address, prefix).ok()?;
        (prefix >= LEAST_PREFIX && flags & REJECTS == 0).then(|| (IpNet::V4(net.trunc()), columns[0].to_owned()))
    };
    table.lines().skip(1).filter_map(route).collect()
}

/// `destination prefix source prefix gateway metric refs use flags device`.
fn v6_routes(table: &str) -> Vec<(IpNet, String)> {
    let route = |line: &str| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let address = Ipv6Addr::from(u128::from_str_radix(columns.first()?, 16).ok()?);
        let prefix = u8::from_str_radix(columns.get(1)?, 16).ok()?;
        let flags = u32::from_str_radix(columns.get(8)?, 16).ok()?;
        let net = Ipv6Net::new(address, prefix).ok()?;
        let device = (*columns.get(9)?).to_owned();
        (prefix >= LEAST_PREFIX && flags & REJECTS == 0).then(|| (IpNet::V6(net.trunc()), device))
    };
    table.lines().filter_map(route).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n";

    fn row(destination: [u8; 4], mask: [u8; 4], flags: u32) -> String {
        let hex = |bytes: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(bytes));
        format!("eth0\t{}\t00000000\t{flags:04X}\t0\t0\t0\t{}\t0\t0\t0\n", hex(destination), hex(mask))
    }

    #[test]
    fn a_range_that_somebody_has_is_refused() {
        for (what, table, refused) in [
            ("a pod's network", row([10, 1, 0, 0], [255, 255, 0, 0], 1), false),
            ("the default route", row([0; 4], [0; 4], 3), false),
            ("half of everything", row([128, 0, 0, 0], [128, 0, 0, 0], 3), false),
            ("all of class E", row([240, 0, 0, 0], [240, 0, 0, 0], 1), true),
            ("a part of the range", row([240, 240, 7, 0], [255, 255, 255, 0], 1), true),
            ("a refusal", row([240, 0, 0, 0], [240, 0, 0, 0], 0x200), false),
            ("nonsense", "x y\n".to_owned(), false),
        ] {
            let (ranges, problems) = judge(AutomaticRanges::default(), &v4_routes(&format!("{HEADER}{table}")));
            assert_eq!((ranges.v4.is_none(), problems.len()), (refused, usize::from(refused)), "{what}: {problems:?}");
            assert!(ranges.v6.is_some(), "{what}");
        }
    }

    #[test]
    fn routes_of_the_other_family() {
        let row = |address: &str, prefix: &str, flags: &str| {
            format!("{address} {prefix} {0} 00 {0} 00000100 00000001 00000000 {flags}     eth0\n", "0".repeat(32))
        };
        let own = row("20010002000000000000000000000000", "30", "00000001");
        for (what, table, refused) in [
            ("the range itself", own, true),
            ("everything", row(&"0".repeat(32), "00", "00000003"), false),
            ("2000::/3", row(&format!("2{}", "0".repeat(31)), "03", "00000003"), false),
            ("a refusal", row("20010002000000000000000000000000", "20", "00000200"), false),
            ("another", row("fd770001000000000000000000000000", "40", "00000001"), false),
        ] {
            let (ranges, problems) = judge(AutomaticRanges::default(), &v6_routes(&table));
            assert_eq!((ranges.v6.is_none(), problems.len()), (refused, usize::from(refused)), "{what}: {problems:?}");
        }
    }
}
