//! The header by which an upstream learns who really connects (HAProxy's "The PROXY protocol", 2020-03-05).
//!
//! Pure: addresses in, bytes out. It is sent before anything else, TLS included.

use std::net::{IpAddr, SocketAddr};

use crate::config::ProxyProtocol;

/// The header for a connection from `source` to `destination`. Both are of one family, as the two ends of a connection
/// are; if not, it says that the addresses are unknown.
#[must_use]
pub fn header(version: ProxyProtocol, source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    match version {
        ProxyProtocol::V1 => text(source, destination).into_bytes(),
        ProxyProtocol::V2 => binary(source, destination),
    }
}

/// §2.1.
fn text(source: SocketAddr, destination: SocketAddr) -> String {
    let family = match (source, destination) {
        (SocketAddr::V4(_), SocketAddr::V4(_)) => "TCP4",
        (SocketAddr::V6(_), SocketAddr::V6(_)) => "TCP6",
        _ => return "PROXY UNKNOWN\r\n".to_owned(),
    };
    let (from, to) = (source.ip(), destination.ip());
    format!("PROXY {family} {from} {to} {} {}\r\n", source.port(), destination.port())
}

/// §2.2.
fn binary(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
    /// Version 2, command PROXY.
    const PROXY: u8 = 0x21;
    let mut addresses = Vec::with_capacity(36);
    let family = match (source.ip(), destination.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            addresses.extend_from_slice(&[from.octets(), to.octets()].concat());
            0x11
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            addresses.extend_from_slice(&[from.octets(), to.octets()].concat());
            0x21
        }
        _ => 0x00,
    };
    if !addresses.is_empty() {
        addresses.extend_from_slice(&source.port().to_be_bytes());
        addresses.extend_from_slice(&destination.port().to_be_bytes());
    }
    let length = addresses.len() as u16;
    [SIGNATURE, &[PROXY, family], &length.to_be_bytes(), &addresses].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn texts() {
        for (from, to, expected) in [
            ("10.0.0.1:1234", "192.0.2.1:80", "PROXY TCP4 10.0.0.1 192.0.2.1 1234 80\r\n"),
            ("[fd00::1]:1", "[2001:db8::2]:65535", "PROXY TCP6 fd00::1 2001:db8::2 1 65535\r\n"),
            ("10.0.0.1:1", "[2001:db8::2]:2", "PROXY UNKNOWN\r\n"),
        ] {
            assert_eq!(header(ProxyProtocol::V1, address(from), address(to)), expected.as_bytes());
        }
    }

    #[test]
    fn binaries() {
        let signature = b"\r\n\r\n\0\r\nQUIT\n".as_slice();
        let v4 = header(ProxyProtocol::V2, address("10.0.0.1:258"), address("192.0.2.1:80"));
        assert_eq!(v4, [signature, &[0x21, 0x11, 0, 12, 10, 0, 0, 1, 192, 0, 2, 1, 1, 2, 0, 80]].concat());
        let v6 = header(ProxyProtocol::V2, address("[::1]:1"), address("[::2]:2"));
        assert_eq!(v6[12..16], [0x21, 0x21, 0, 36]);
        assert_eq!((v6.len(), &v6[48..]), (52, &[0, 1, 0, 2][..]));
        let mixed = header(ProxyProtocol::V2, address("10.0.0.1:1"), address("[::2]:2"));
        assert_eq!(mixed, [signature, &[0x21, 0, 0, 0]].concat());
    }
}
