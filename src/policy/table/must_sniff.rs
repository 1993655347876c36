//! The destinations to which bytes that nobody can read must not pass, and those to which any bytes may pass unread.
//!
//! A request in disguise (HTTP/2 without TLS, a late or malformed one) could otherwise leave in plain text where its host's
//! requests leave as TLS, or past the policies that judge them. Its host cannot be read, so that it is told by where it
//! goes: an application that means a host dials an address of that host. Where the addresses of such a host cannot be
//! known (a wildcard, resolution NONE or DYNAMIC_DNS, a name that has no address yet, or one whose answers change, so that
//! an application may have been given an address that egret was not), it may be anywhere.
//!
//! The places are gathered once a table. Asking compares an address with those of the hosts of one port.

use std::collections::HashMap;
use std::net::IpAddr;

use foldhash::fast::RandomState;
use ipnet::IpNet;

use crate::flow::OriginalDst;
use crate::policy::runtime::publish::Addresses;

/// Which families of addresses names are asked for: of the others nothing is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AskedFamilies {
    pub v4: bool,
    pub v6: bool,
}

#[derive(Debug, Default)]
pub(in crate::policy) struct MustSniff {
    pub(in crate::policy) ports: HashMap<u16, PortGuard, RandomState>,
    /// Of the hosts whose routes lead to TLS: requests to any port that an entry has may take them.
    pub(in crate::policy) routed: Places,
}

#[derive(Debug, Default)]
pub(in crate::policy) struct PortGuard {
    /// Of the hosts whose connections leave as TLS.
    pub(in crate::policy) originating: Places,
    /// Of the hosts whose requests are judged.
    pub(in crate::policy) judging: Places,
}

/// Where connections of some hosts may be going.
#[derive(Debug, Default)]
pub(in crate::policy) struct Places {
    /// Nobody knows.
    pub(in crate::policy) anywhere: bool,
    pub(in crate::policy) ranges: Vec<IpNet>,
    pub(in crate::policy) names: Vec<Named>,
}

/// The addresses that a host's name has, and had until a while ago: applications keep to them.
#[derive(Debug)]
pub(in crate::policy) struct Named {
    pub(in crate::policy) now: Addresses,
    pub(in crate::policy) recent: Addresses,
    /// Without any it may be anywhere. Not so where the entry's endpoints are addresses: its name may be made up.
    pub(in crate::policy) must_resolve: bool,
    pub(in crate::policy) families: AskedFamilies,
}

impl Named {
    fn may_hold(&self, ip: IpAddr) -> bool {
        let (now, recent) = (self.now.load(), self.recent.load());
        // An application may ask for a family that egret does not ask for (`options no-aaaa` binds some resolvers only).
        let is_asked = if ip.is_ipv4() { self.families.v4 } else { self.families.v6 };
        // Names of content networks get other addresses with each answer: the application's may be none of ours.
        let changes = recent.iter().any(|ip| !now.contains(ip));
        recent.contains(&ip) || now.contains(&ip) || self.must_resolve && (now.is_empty() || changes || !is_asked)
    }
}

impl Places {
    fn may_hold(&self, ip: IpAddr) -> bool {
        self.anywhere
            || self.ranges.iter().any(|range| range.contains(&ip))
            || self.names.iter().any(|name| name.may_hold(ip))
    }
}

impl MustSniff {
    /// Why unread bytes must not pass to `dst`, in one word for the access log; `is_known`: some entry has its port.
    pub(in crate::policy) fn why(&self, dst: OriginalDst, is_known: bool) -> Option<&'static str> {
        let of_port = self.ports.get(&dst.port());
        let may_hold = |places: fn(&PortGuard) -> &Places| of_port.is_some_and(|port| places(port).may_hold(dst.ip()));
        if may_hold(|port| &port.originating) || is_known && self.routed.may_hold(dst.ip()) {
            return Some("neither_http1_nor_tls_on_a_port_with_tls_origination");
        }
        let is_judged = may_hold(|port| &port.judging);
        is_judged.then_some("neither_http1_nor_tls_on_a_port_with_authorization_policies")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::PortProtocol::{Http, Https};
    use crate::config::Resolution::Dns;
    use crate::config::{About, AuthorizationAction, AuthorizationPolicy, AuthorizationScope, Resources};
    use crate::policy::tests::fixture::{compiled, entry, meta, rule, unreadable};

    #[test]
    fn a_name_whose_addresses_are_not_all_known_may_be_anywhere() {
        const BOTH: AskedFamilies = AskedFamilies { v4: true, v6: true };
        const V4: AskedFamilies = AskedFamilies { v4: true, v6: false };
        let list = |text: &str| Addresses::new(text.split_whitespace().map(|ip| ip.parse().unwrap()).collect());
        for (now, recent, must_resolve, families, held, not_held) in [
            ("1.1.1.1", "1.1.1.1", true, BOTH, "1.1.1.1", "9.9.9.9 2001:db8::1"),
            ("1.1.1.2 1.1.1.1", "1.1.1.1 1.1.1.2", true, BOTH, "1.1.1.1 1.1.1.2", "9.9.9.9"),
            // Another answer than a while ago: the application may have a third one.
            ("1.1.1.2", "1.1.1.1 1.1.1.2", true, BOTH, "1.1.1.1 1.1.1.2 9.9.9.9 2001:db8::1", ""),
            ("", "", true, BOTH, "9.9.9.9 2001:db8::1", ""),
            // AAAA is not asked for, but the application may do so.
            ("1.1.1.1", "1.1.1.1", true, V4, "1.1.1.1 2001:db8::1", "9.9.9.9"),
            // The addresses stand in the entry: its name need not mean anything.
            ("1.1.1.2", "1.1.1.1", false, V4, "1.1.1.1 1.1.1.2", "9.9.9.9 2001:db8::1"),
        ] {
            let name = Named { now: list(now), recent: list(recent), must_resolve, families };
            for (ips, expected) in [(held, true), (not_held, false)] {
                for ip in ips.split_whitespace() {
                    assert_eq!(name.may_hold(ip.parse().unwrap()), expected, "{ip} with {name:?}");
                }
            }
        }
    }

    #[test]
    fn ports_are_guarded_one_by_one() {
        let mut resources = Resources {
            service_entries: vec![
                entry(&["secure.test"], &[], Dns).with_port(80, Http),
                entry(&["plain.test"], &[], Dns).with_port(81, Http).with_port(443, Https),
            ],
            destination_rules: vec![rule("r", "secure.test")],
            ..Resources::default()
        };
        let asked = |resources: &Resources| {
            let table = compiled(resources).0;
            [80, 81, 443, 9].map(|port| unreadable(&table, &format!("9.9.9.9:{port}")).map(str::to_owned))
        };
        let why = |words: &str| Some(format!("neither_http1_nor_tls_on_a_port_with_{words}"));
        let (tls, judged) = (why("tls_origination"), why("authorization_policies"));
        assert_eq!(asked(&resources), [tls.clone(), None, None, None]);
        resources.authorization_policies.push(AuthorizationPolicy {
            meta: meta("p"),
            scope: AuthorizationScope::Workloads(None),
            action: AuthorizationAction::Deny,
            rules: Vec::new(),
            about: About::Any,
            dry_run: false,
            unjudged: Vec::new(),
        });
        // The application's own TLS is judged by its SNI, where there is one to read.
        assert_eq!(asked(&resources), [tls, judged, None, None]);
    }
}
