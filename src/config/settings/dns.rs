//! The settings of DNS: what is answered, how name servers are reached, where automatic addresses come from.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use ipnet::{Ipv4Net, Ipv6Net};

use super::value::{Named, TextValue};
use crate::config::names;
use crate::flow::Hostname;

/// What becomes of the pod's lookups of names that no ServiceEntry lists, where DNS is captured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DnsPolicy {
    #[default]
    ForwardUnlisted,
    /// They are refused under `REGISTRY_ONLY`, but for the cluster's own names.
    AnswerListedOnly,
}

impl Named for DnsPolicy {
    const WORDS: &'static [(&'static str, Self)] =
        &[("FORWARD_UNLISTED", DnsPolicy::ForwardUnlisted), ("ANSWER_LISTED_ONLY", DnsPolicy::AnswerListedOnly)];
}

/// How name servers are asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DnsTransport {
    /// UDP, and TCP for what does not fit.
    #[default]
    Plain,
    /// TLS (RFC 7858), and nothing else.
    Tls,
}

impl Named for DnsTransport {
    const WORDS: &'static [(&'static str, Self)] = &[("PLAIN", DnsTransport::Plain), ("TLS", DnsTransport::Tls)];
}

/// A flag's word for a family without automatic addresses.
const NO_RANGE: &str = "none";

/// A range has room for a host besides the network's own address and the last.
const LONGEST_PREFIX_V4: u8 = 30;
const LONGEST_PREFIX_V6: u8 = 126;

/// A range of automatic IPv4 addresses, if there are any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv4Prefix(pub Option<Ipv4Net>);

/// A range of automatic IPv6 addresses, if there are any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv6Prefix(pub Option<Ipv6Net>);

/// Istio's: class E.
impl Default for Ipv4Prefix {
    fn default() -> Self {
        Self(Some(Ipv4Net::new_assert(Ipv4Addr::new(240, 240, 0, 0), 16)))
    }
}

/// Istio's: the range for benchmarks (RFC 5180).
impl Default for Ipv6Prefix {
    fn default() -> Self {
        Self(Some(Ipv6Net::new_assert(Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 0, 0), 48)))
    }
}

impl TextValue for Ipv4Prefix {
    fn text(&self) -> String {
        self.0.map_or_else(|| NO_RANGE.to_owned(), |range| range.to_string())
    }

    fn take(&mut self, text: &str) -> Result<(), String> {
        let wrong = || format!("expected an IPv4 network such as 240.240.0.0/16, or {NO_RANGE}, found {text:?}");
        if text == NO_RANGE {
            self.0 = None;
            return Ok(());
        }
        let range: Ipv4Net = text.parse().map_err(|_| wrong())?;
        if range.prefix_len() > LONGEST_PREFIX_V4 {
            return Err(format!("a range needs room for hosts: at most /{LONGEST_PREFIX_V4}, found {text:?}"));
        }
        self.0 = Some(range.trunc());
        Ok(())
    }
}

impl TextValue for Ipv6Prefix {
    fn text(&self) -> String {
        self.0.map_or_else(|| NO_RANGE.to_owned(), |range| range.to_string())
    }

    fn take(&mut self, text: &str) -> Result<(), String> {
        let wrong = || format!("expected an IPv6 network such as 2001:2::/48, or {NO_RANGE}, found {text:?}");
        if text == NO_RANGE {
            self.0 = None;
            return Ok(());
        }
        let range: Ipv6Net = text.parse().map_err(|_| wrong())?;
        if range.prefix_len() > LONGEST_PREFIX_V6 {
            return Err(format!("a range needs room for hosts: at most /{LONGEST_PREFIX_V6}, found {text:?}"));
        }
        self.0 = Some(range.trunc());
        Ok(())
    }
}

/// Empty is none.
impl TextValue for Option<Hostname> {
    fn text(&self) -> String {
        self.as_ref().map(ToString::to_string).unwrap_or_default()
    }

    fn take(&mut self, text: &str) -> Result<(), String> {
        *self = if text.is_empty() { None } else { Some(names::host_name(text, text)?) };
        Ok(())
    }
}

/// Empty is none.
impl TextValue for Option<PathBuf> {
    fn text(&self) -> String {
        self.as_ref().map(|path| path.display().to_string()).unwrap_or_default()
    }

    fn take(&mut self, text: &str) -> Result<(), String> {
        *self = if text.is_empty() { None } else { Some(PathBuf::from(text)) };
        Ok(())
    }
}
