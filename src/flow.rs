//! The vocabulary of a connection: addresses, names, protocols, refusals. No I/O, no policy.
//!
//! Nothing below this module passes a naked `SocketAddr` or `String` across a boundary where two of them could be
//! confused: an original destination is not a client address, and a host name is always in its one normal form.

use std::borrow::Borrow;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

/// Where the application wanted to connect before the kernel redirected it (`SO_ORIGINAL_DST`). Never v4-mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OriginalDst(SocketAddr);

/// The application's own end of a redirected connection. Never v4-mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientAddr(SocketAddr);

impl OriginalDst {
    /// Wraps an address as the kernel gave it; `::ffff:a.b.c.d` becomes `a.b.c.d`, so that v4 rules see it.
    #[must_use]
    pub fn new(addr: SocketAddr) -> Self {
        Self(unmapped(addr))
    }

    #[must_use]
    pub fn addr(self) -> SocketAddr {
        self.0
    }

    #[must_use]
    pub fn ip(self) -> IpAddr {
        self.0.ip()
    }

    #[must_use]
    pub fn port(self) -> u16 {
        self.0.port()
    }
}

impl ClientAddr {
    #[must_use]
    pub fn new(addr: SocketAddr) -> Self {
        Self(unmapped(addr))
    }

    #[must_use]
    pub fn addr(self) -> SocketAddr {
        self.0
    }
}

impl fmt::Display for OriginalDst {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for ClientAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// `addr` with an IPv4-mapped IPv6 address turned into the IPv4 address it means.
#[must_use]
pub fn unmapped(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

/// A DNS name in its one normal form: lower-case ASCII, no trailing dot, 1 to 253 octets, labels of 1 to 63 octets
/// made of letters, digits, `-` and `_`, and never a form that some resolver would read as an IPv4 address.
///
/// Cloning is cheap (a counted pointer).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hostname(Arc<str>);

/// Not a host name: what is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostnameError {
    /// the name is empty
    #[error("the name is empty")]
    Empty,
    /// the name is longer than 253 octets
    #[error("the name is longer than 253 octets")]
    TooLong,
    /// a label is empty or longer than 63 octets
    #[error("a label is empty or longer than 63 octets")]
    Label,
    /// a character other than a letter, digit, '-', '_' or '.'
    #[error("only letters, digits, '-', '_' and '.' may stand in a host name")]
    Character,
    /// the last label is a number: some resolvers would read an IPv4 address (`127.1`, `0x7f.1`)
    #[error("the last label is a number, which some resolvers read as an IPv4 address")]
    Numeric,
}

impl Hostname {
    /// The normal form of `name`: one trailing dot removed, letters lowered.
    ///
    /// # Errors
    /// What makes `name` no host name.
    pub fn new(name: &str) -> Result<Self, HostnameError> {
        let name = name.strip_suffix('.').unwrap_or(name);
        check_name(name)?;
        Ok(Self(name.to_ascii_lowercase().into()))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn check_name(name: &str) -> Result<(), HostnameError> {
    if name.is_empty() {
        return Err(HostnameError::Empty);
    }
    if name.len() > 253 {
        return Err(HostnameError::TooLong);
    }
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')) {
        return Err(HostnameError::Character);
    }
    if name.split('.').any(|label| label.is_empty() || label.len() > 63) {
        return Err(HostnameError::Label);
    }
    // WHATWG URL, "ends in a number": such a host is an IPv4 address or nothing.
    let last = name.rsplit('.').next().expect("split yields at least one label");
    let hex = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    let numeric =
        last.bytes().all(|b| b.is_ascii_digit()) || hex.is_some_and(|h| h.bytes().all(|b| b.is_ascii_hexdigit()));
    if numeric { Err(HostnameError::Numeric) } else { Ok(()) }
}

impl fmt::Display for Hostname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Hostname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl Borrow<str> for Hostname {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl FromStr for Hostname {
    type Err = HostnameError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Self::new(s)
    }
}

/// A host as a URL or a `Host` field names it: a DNS name or an IP literal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    Name(Hostname),
    Ip(IpAddr),
}

impl fmt::Display for Host {
    /// The form used in URLs: IPv6 in brackets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Name(name) => name.fmt(f),
            Host::Ip(IpAddr::V4(ip)) => ip.fmt(f),
            Host::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
        }
    }
}

/// `host [":" port]`, RFC 3986 §3.2 without userinfo.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Authority {
    pub host: Host,
    pub port: Option<u16>,
}

/// Not an authority: what is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityError {
    /// the host is neither a DNS name nor an IP literal
    #[error("{0}")]
    Host(#[from] HostnameError),
    /// the part in brackets is no IPv6 address
    #[error("the part in brackets is no IPv6 address")]
    Ipv6,
    /// the port is not a number from 0 to 65535
    #[error("the port is not a number from 0 to 65535")]
    Port,
}

impl Authority {
    /// Parses `name`, `name:port`, `192.0.2.1:port`, `[2001:db8::1]:port`. An empty port (`name:`) is no port, RFC 3986 §3.2.3.
    ///
    /// # Errors
    /// What makes `text` no authority.
    pub fn parse(text: &str) -> Result<Self, AuthorityError> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (literal, after) = rest.split_once(']').ok_or(AuthorityError::Ipv6)?;
                let ip: Ipv6Addr = literal.parse().map_err(|_| AuthorityError::Ipv6)?;
                let port = match after {
                    "" => None,
                    _ => Some(after.strip_prefix(':').ok_or(AuthorityError::Port)?),
                };
                (Host::Ip(IpAddr::V6(ip).to_canonical()), port)
            }
            None => match text.split_once(':') {
                Some((host, port)) => (parse_host(host)?, Some(port)),
                None => (parse_host(text)?, None),
            },
        };
        Ok(Self { host, port: port.map(parse_port).transpose()?.flatten() })
    }
}

fn parse_host(text: &str) -> Result<Host, AuthorityError> {
    match text.parse() {
        Ok(ip) => Ok(Host::Ip(IpAddr::V4(ip))),
        Err(_) => Ok(Host::Name(Hostname::new(text)?)),
    }
}

fn parse_port(text: &str) -> Result<Option<u16>, AuthorityError> {
    if text.is_empty() {
        return Ok(None);
    }
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(AuthorityError::Port);
    }
    text.parse().map(Some).map_err(|_| AuthorityError::Port)
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.host),
            None => self.host.fmt(f),
        }
    }
}

/// Envoy's response flags, as they stand in the access log
/// (`docs/root/configuration/observability/access_log/usage.rst` of Envoy). Several may hold at once, in the order in which
/// they were set: Envoy logs them so.
///
/// Each takes [`BITS`](Self::BITS) bits, the first the lowest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResponseFlags(u64);

macro_rules! flags {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal;)*) => {
        impl ResponseFlags {
            $($(#[$doc])* pub const $name: Self = Self($number);)*
            const ALL: &'static [(Self, &'static str)] = &[$((Self::$name, $text)),*];
        }
    };
}

flags! {
    /// No healthy upstream: no endpoint to connect to, or its credentials are not usable.
    NO_HEALTHY_UPSTREAM = 8, "UH";
    /// The upstream connection failed: connect or TLS handshake.
    UPSTREAM_CONNECTION_FAILURE = 1, "UF";
    /// A limit of `connectionPool` was reached.
    UPSTREAM_OVERFLOW = 2, "UO";
    /// No route.
    NO_ROUTE = 3, "NR";
    /// Every allowed attempt was used.
    RETRY_LIMIT = 4, "URX";
    /// A maximum duration was reached.
    DURATION_TIMEOUT = 5, "DT";
    /// The application closed first.
    DOWNSTREAM_CLOSED = 6, "DC";
    /// The request timed out waiting for the upstream.
    UPSTREAM_TIMEOUT = 7, "UT";
    /// The upstream reset the request's stream.
    UPSTREAM_RESET = 9, "UR";
    /// The upstream closed the connection.
    UPSTREAM_CLOSED = 10, "UC";
    /// Idle too long.
    STREAM_IDLE_TIMEOUT = 11, "SI";
    /// The application broke its protocol.
    DOWNSTREAM_PROTOCOL_ERROR = 12, "DPE";
    /// The upstream broke its protocol.
    UPSTREAM_PROTOCOL_ERROR = 13, "UPE";
    /// The name could not be resolved.
    DNS_FAILURE = 15, "DF";
    /// A route delayed the request on purpose.
    DELAY_INJECTED = 17, "DI";
    /// A route refused the request on purpose.
    FAULT_INJECTED = 18, "FI";
    /// A route names a destination that does not exist.
    NO_CLUSTER = 19, "NC";
}

impl ResponseFlags {
    const BITS: u32 = 5;

    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    #[must_use]
    pub fn contains(self, other: Self) -> bool {
        other.each().all(|wanted| self.each().any(|flag| flag == wanted))
    }

    /// In the order in which they were set.
    fn each(self) -> impl Iterator<Item = Self> {
        let mut left = self.0;
        std::iter::from_fn(move || {
            let flag = left & ((1 << Self::BITS) - 1);
            left >>= Self::BITS;
            (flag != 0).then_some(Self(flag))
        })
    }
}

impl std::ops::BitOr for ResponseFlags {
    type Output = Self;

    /// Those of `rhs` that are new come last. A line has few; what has no room is left out.
    fn bitor(self, rhs: Self) -> Self {
        let mut all = self.0;
        for flag in rhs.each().filter(|flag| !self.contains(*flag)) {
            let at = (u64::BITS - all.leading_zeros()).next_multiple_of(Self::BITS);
            if at + Self::BITS <= u64::BITS {
                all |= flag.0 << at;
            }
        }
        Self(all)
    }
}

impl std::ops::BitOrAssign for ResponseFlags {
    fn bitor_assign(&mut self, rhs: Self) {
        *self = *self | rhs;
    }
}

impl fmt::Display for ResponseFlags {
    /// Comma-separated, `-` when none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("-");
        }
        for (i, flag) in self.each().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            let named = Self::ALL.iter().find(|(known, _)| *known == flag);
            f.write_str(named.map_or("?", |(_, text)| text))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_have_one_form() {
        assert_eq!(Hostname::new("Edition.CNN.com.").unwrap().as_str(), "edition.cnn.com");
        assert_eq!(Hostname::new("_srv.x-1").unwrap().as_str(), "_srv.x-1");
        for (bad, why) in [
            ("", HostnameError::Empty),
            (".", HostnameError::Empty),
            ("a..b", HostnameError::Label),
            ("a.b..", HostnameError::Label),
            ("a b", HostnameError::Character),
            ("a\u{3002}b", HostnameError::Character),
            ("127.1", HostnameError::Numeric),
            ("0x7f.0x1", HostnameError::Numeric),
            ("2130706433", HostnameError::Numeric),
        ] {
            assert_eq!(Hostname::new(bad), Err(why), "{bad:?}");
        }
        assert_eq!(Hostname::new(&"a".repeat(254)), Err(HostnameError::TooLong));
        assert_eq!(Hostname::new(&"a".repeat(64)), Err(HostnameError::Label));
    }

    #[test]
    fn authorities() {
        for (text, shown) in [
            ("EXAMPLE.com:80", "example.com:80"),
            ("example.com.", "example.com"),
            ("example.com:", "example.com"),
            ("192.0.2.1:8080", "192.0.2.1:8080"),
            ("[2001:DB8::1]:443", "[2001:db8::1]:443"),
            ("[::ffff:127.0.0.1]", "127.0.0.1"),
        ] {
            assert_eq!(Authority::parse(text).unwrap().to_string(), shown, "{text}");
        }
        for bad in [
            "",
            ":80",
            "a:99999",
            "a:+1",
            "a:b",
            "[::1",
            "[::1]x",
            "[::1]:x",
            "u@h",
            "a/b",
            "a,b",
            "2001:db8::1",
            "a:80:80",
        ] {
            assert!(Authority::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn flags_print_as_envoy_prints_them() {
        assert_eq!(ResponseFlags::default().to_string(), "-");
        let (limit, failed) = (ResponseFlags::RETRY_LIMIT, ResponseFlags::UPSTREAM_CONNECTION_FAILURE);
        assert_eq!((limit | failed).to_string(), "URX,UF");
        assert_eq!((failed | limit | failed).to_string(), "UF,URX");
        let mut all = ResponseFlags::default();
        for (flag, _) in ResponseFlags::ALL {
            all |= *flag;
        }
        assert!(
            all.to_string().starts_with("UH,UF,UO,NR,URX,DT,DC,UT,UR,UC,SI,DPE") && all.contains(limit | failed),
            "{all}"
        );
        assert!(!failed.contains(limit | failed) && failed.contains(ResponseFlags::default()));
    }

    #[test]
    fn mapped_addresses_are_unmapped() {
        let mapped: SocketAddr = "[::ffff:192.0.2.1]:80".parse().unwrap();
        assert_eq!(OriginalDst::new(mapped).to_string(), "192.0.2.1:80");
    }
}
