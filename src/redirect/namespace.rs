//! What the network namespace has, read from `/proc/net`: whether IPv6 is in use, and who owns a port.
//!
//! Files rather than netlink or `ip`: they need no privilege and no package.

use std::fs::read_to_string;

/// Whether an interface other than the loopback has an IPv6 address or route. Without the kernel's IPv6 the files do
/// not exist, which is the same answer.
pub fn ipv6_in_use() -> bool {
    let beyond_loopback = |path| read_to_string(path).is_ok_and(|table| any_device_but_lo(&table));
    beyond_loopback("/proc/net/if_inet6") || beyond_loopback("/proc/net/ipv6_route")
}

/// Both files name the device in the last column.
fn any_device_but_lo(table: &str) -> bool {
    table.lines().filter_map(|line| line.split_whitespace().last()).any(|device| device != "lo")
}

/// A TCP socket of this namespace, of either family.
#[derive(Debug, PartialEq, Eq)]
pub struct TcpSocket {
    pub local_port: u16,
    pub remote_port: u16,
    pub listening: bool,
    pub uid: u32,
}

/// Every TCP socket of this namespace.
pub fn tcp_sockets() -> Vec<TcpSocket> {
    let read = |path| read_to_string(path).unwrap_or_default();
    let tables = [read("/proc/net/tcp"), read("/proc/net/tcp6")];
    tables.iter().flat_map(|table| table.lines().skip(1)).filter_map(parse).collect()
}

/// `sl local:port remote:port state queues timer retransmits uid …`, addresses, ports and state in hexadecimal.
fn parse(line: &str) -> Option<TcpSocket> {
    const LISTEN: &str = "0A";
    let columns: Vec<&str> = line.split_whitespace().collect();
    let port = |column: &str| u16::from_str_radix(column.rsplit_once(':')?.1, 16).ok();
    Some(TcpSocket {
        local_port: port(columns.get(1)?)?,
        remote_port: port(columns.get(2)?)?,
        listening: *columns.get(3)? == LISTEN,
        uid: columns.get(7)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_alone_is_not_ipv6_in_use() {
        let address = "fe800000000000000000000000000001 02 40 20 80     eth0\n";
        let loopback = "00000000000000000000000000000001 01 80 10 80       lo\n";
        assert!(any_device_but_lo(&format!("{loopback}{address}")));
        assert!(!any_device_but_lo(loopback));
        assert!(!any_device_but_lo(""));
    }

    #[test]
    fn sockets_are_read_in_both_families() {
        let v4 = "   0: 0100007F:3A99 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1337        0 1 1 0 100";
        let want = TcpSocket { local_port: 15001, remote_port: 0, listening: true, uid: 1337 };
        assert_eq!(parse(v4), Some(want));
        let v6 = "   1: 00000000000000000000000001000000:3A99 00000000000000000000000001000000:C001 01 0:0 0:0 0 7 0 1";
        let want = TcpSocket { local_port: 15001, remote_port: 0xc001, listening: false, uid: 7 };
        assert_eq!(parse(v6), Some(want));
        assert_eq!(parse("garbage"), None);
    }
}
