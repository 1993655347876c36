//! The syntax of the names in a configuration: host patterns, networks, DNS labels, Kubernetes names and labels.
//!
//! Every function says in its error what is wrong and what to write instead; none knows which field it serves.

use std::fmt;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

use crate::flow::{Hostname, HostnameError};

/// A host of a ServiceEntry or DestinationRule: exact, or a wildcard for every name that ends in a certain way.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HostPattern {
    Exact(Hostname),
    /// `*.example.com` is kept as `example.com`: matches at any depth, not the name itself.
    Wildcard(Hostname),
    /// `*-api.example.com` is kept as `-api.example.com`: matches what stands before it at any depth, if anything does.
    PartialWildcard(Box<str>),
    /// `*`; only a DestinationRule may say it.
    Any,
}

impl HostPattern {
    /// Whether everything that `other` stands for is one of this pattern's.
    #[must_use]
    pub fn covers(&self, other: &HostPattern) -> bool {
        let Some((dot, ending)) = self.ending() else { return self == other };
        match other {
            HostPattern::Exact(name) => {
                let before = name.as_str().strip_suffix(ending).and_then(|before| before.strip_suffix(dot));
                before.is_some_and(|before| !before.is_empty())
            }
            _ => other.ending().is_some_and(|(other_dot, other)| {
                let before = other.strip_suffix(ending);
                before.is_some_and(|before| before.ends_with(dot) || before.is_empty() && other_dot == dot)
            }),
        }
    }

    /// What every name of a wildcard ends with: a dot or none, and a text.
    fn ending(&self) -> Option<(&'static str, &str)> {
        match self {
            HostPattern::Exact(_) => None,
            HostPattern::Wildcard(suffix) => Some((".", suffix.as_str())),
            HostPattern::PartialWildcard(ending) => Some(("", ending)),
            HostPattern::Any => Some(("", "")),
        }
    }

    /// Whether it stands for several names.
    #[must_use]
    pub fn is_wildcard(&self) -> bool {
        self.ending().is_some()
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostPattern::Exact(name) => name.fmt(f),
            HostPattern::Wildcard(suffix) => write!(f, "*.{suffix}"),
            HostPattern::PartialWildcard(ending) => write!(f, "*{ending}"),
            HostPattern::Any => f.write_str("*"),
        }
    }
}

/// A DNS name, or one whose leftmost label is or begins with `*`, or `*` alone (Istio's `ValidateWildcardDomain`).
pub(super) fn host_pattern(text: &str) -> Result<HostPattern, String> {
    match text.strip_prefix('*') {
        None if !text.contains('*') => Ok(HostPattern::Exact(host_name(text, text)?)),
        Some("") => Ok(HostPattern::Any),
        Some(rest) if !rest.contains('*') => match rest.strip_prefix('.') {
            Some(suffix) => Ok(HostPattern::Wildcard(host_name(suffix, text)?)),
            None => partial_wildcard(rest, text),
        },
        _ => Err(format!("{text:?}: a wildcard stands at the beginning alone, as in \"*.example.com\"")),
    }
}

/// `rest` is what stands behind the `*`, which stands for at least one character.
fn partial_wildcard(rest: &str, shown: &str) -> Result<HostPattern, String> {
    let begins = rest.strip_prefix('-').unwrap_or(rest).starts_with(|c: char| c.is_ascii_alphanumeric());
    if !begins {
        return Err(format!("{shown:?} is not a host name: a letter or digit must follow \"*\" or \"*-\""));
    }
    let name = host_name(&format!("x{rest}"), shown)?;
    Ok(HostPattern::PartialWildcard(name.as_str()[1..].into()))
}

/// `name` as a host; `shown` is what the author wrote.
pub(super) fn host_name(name: &str, shown: &str) -> Result<Hostname, String> {
    Hostname::new(name).map_err(|error| {
        let hint = if shown.contains("://") || shown.contains('/') {
            "; write the host alone, without scheme and path"
        } else if name.parse::<IpAddr>().is_ok() {
            "; an IP address is not a host name"
        } else if error == HostnameError::Character && shown.contains(':') {
            "; write the host alone, without a port"
        } else {
            ""
        };
        format!("{shown:?} is not a host name: {error}{hint}")
    })
}

/// An address or CIDR. IPv4-mapped IPv6 becomes the IPv4 that it means, as connections are seen.
pub(super) fn network(text: &str) -> Result<IpNet, String> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(ip.to_canonical()));
    }
    let net: IpNet =
        text.parse().map_err(|_| format!("{text:?} is neither an IP address nor a CIDR such as \"10.0.0.0/8\""))?;
    Ok(unmapped(net))
}

fn unmapped(net: IpNet) -> IpNet {
    let IpNet::V6(v6) = net else { return net };
    match (v6.addr().to_ipv4_mapped(), v6.prefix_len().checked_sub(96)) {
        (Some(v4), Some(prefix)) => Ipv4Net::new(v4, prefix).map_or(net, IpNet::V4),
        _ => net,
    }
}

/// RFC 1123 label, as Kubernetes wants namespaces: lower-case letters, digits, `-` inside; at most 63.
pub(super) fn is_dns_label(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&text.len()) && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

/// As a DNS label, and in either case: what Istio lets a port be called (`labels.IsDNS1123Label`).
pub(super) fn is_port_name(text: &str) -> bool {
    is_dns_label(&text.to_ascii_lowercase())
}

/// RFC 1123 subdomain as Kubernetes reads it (`IsDNS1123Subdomain`), and wants of the names of objects: at most 253 in all,
/// however long each part. Never a path: no `/`, no `..`.
pub(super) fn is_dns_subdomain(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let part = |part: &str| {
        let edge = |b: Option<&u8>| b.is_some_and(|b| inner(*b));
        let bytes = part.as_bytes();
        edge(bytes.first()) && edge(bytes.last()) && part.bytes().all(|b| inner(b) || b == b'-')
    };
    text.len() <= 253 && text.split('.').all(part)
}

/// A key of a label: `[prefix/]name`.
pub(super) fn is_label_key(text: &str) -> bool {
    match text.split_once('/') {
        Some((prefix, name)) => is_dns_subdomain(prefix) && is_label_word(name),
        None => is_label_word(text),
    }
}

/// A value of a label; may be empty.
pub(super) fn is_label_value(text: &str) -> bool {
    text.is_empty() || is_label_word(text)
}

fn is_label_word(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    (1..=63).contains(&bytes.len()) && text.bytes().all(inner) && edge(bytes.first()) && edge(bytes.last())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_patterns() {
        for (text, shown) in [
            ("Example.COM.", "example.com"),
            ("*.example.com", "*.example.com"),
            ("*.com", "*.com"),
            ("*-API.example.com", "*-api.example.com"),
            ("*api.example.com.", "*api.example.com"),
            ("*x", "*x"),
            ("*", "*"),
            ("localhost", "localhost"),
            ("_dmarc.x", "_dmarc.x"),
        ] {
            assert_eq!(host_pattern(text).unwrap().to_string(), shown, "{text}");
        }
        for (text, part) in [
            ("a.*.com", "at the beginning alone"),
            ("a*.com", "at the beginning alone"),
            ("*.*.com", "at the beginning alone"),
            ("**", "at the beginning alone"),
            ("*-", "a letter or digit must follow"),
            ("*--a.com", "a letter or digit must follow"),
            ("*a b.com", "only letters"),
            ("*a.com/x", "without scheme"),
            ("https://example.com/x", "without scheme"),
            ("example.com:443", "without a port"),
            ("192.0.2.1", "IP address is not"),
            ("2001:db8::1", "IP address is not"),
            ("a b", "only letters"),
            ("*.", "empty"),
            ("-", ""),
        ] {
            match host_pattern(text) {
                Err(message) => assert!(message.contains(part), "{text}: {message}"),
                Ok(pattern) => assert_eq!(text, "-", "{pattern}"),
            }
        }
    }

    #[test]
    fn a_pattern_covers_what_it_stands_for() {
        let pattern = |text: &str| host_pattern(text).unwrap();
        for (wide, narrow, expected) in [
            ("*.a.b", "x.a.b", true),
            ("*.a.b", "y.x.a.b", true),
            ("*.a.b", "a.b", false),
            ("*.a.b", "xa.b", false),
            ("*.a.b", "*.a.b", true),
            ("*.a.b", "*.x.a.b", true),
            ("*.a.b", "*-x.a.b", true),
            ("*.a.b", "*a.b", false),
            ("*.x.a.b", "*.a.b", false),
            ("*-a.b", "x-a.b", true),
            ("*-a.b", "y.x-a.b", true),
            ("*-a.b", "a.b", false),
            ("*a.b", "a.b", false),
            ("*a.b", "xa.b", true),
            ("*a.b", "x.a.b", true),
            ("*a.b", "*.a.b", true),
            ("*a.b", "*-a.b", true),
            ("*-a.b", "*a.b", false),
            ("*", "a", true),
            ("*", "*a", true),
            ("*", "*", true),
            ("*a", "*", false),
            ("*.a", "*", false),
            ("a.b", "a.b", true),
            ("a.b", "*a.b", false),
        ] {
            assert_eq!(pattern(wide).covers(&pattern(narrow)), expected, "{wide} {narrow}");
        }
    }

    #[test]
    fn networks() {
        for (text, shown) in [
            ("192.0.2.1", "192.0.2.1/32"),
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("::ffff:192.0.2.1", "192.0.2.1/32"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::/0", "::/0"),
        ] {
            assert_eq!(network(text).unwrap().to_string(), shown, "{text}");
        }
        for text in
            ["", "10.0.0.0/33", "10.0.0/8", "010.0.0.1", "fe80::1%eth0", "a.b", "1.2.3.4:80", "::/129", "1.1.1.1/-1"]
        {
            assert!(network(text).is_err(), "{text}");
        }
    }

    #[test]
    fn kubernetes_names() {
        for good in ["a", "a-b", "0", "my-nginx.mesh-external.svc", &"a".repeat(253)] {
            assert!(is_dns_subdomain(good), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a_b", "a..b", "../x", "a/b", ".", &"a".repeat(254)] {
            assert!(!is_dns_subdomain(bad), "{bad}");
        }
        for (text, expected) in [("HTTPS", true), ("a-B9", true), ("-A", false), ("A_b", false), ("a.b", false)] {
            assert_eq!(is_port_name(text), expected, "{text}");
        }
        for good in ["app", "app.kubernetes.io/name", "A_b.c"] {
            assert!(is_label_key(good), "{good}");
        }
        for bad in ["", "/a", "a/", "a/b/c", "_a", "a b"] {
            assert!(!is_label_key(bad), "{bad}");
        }
        assert!(is_label_value("") && is_label_value("v1.2") && !is_label_value("*") && !is_label_value("a/b"));
    }
}
