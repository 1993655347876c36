//! May a tunnel that an application asks a forward proxy for (CONNECT) lead where it says? Nobody can look into it
//! afterwards, so more is asked than of a request: the host and port must be named, whatever the outbound policy allows.
//!
//! It knows nothing of the proxy that is asked, nor of addresses that must never be dialled.

use std::net::SocketAddr;

use crate::config::ConnectPolicy;
use crate::flow::{Authority, Host, Hostname, OriginalDst};
use crate::policy::table::cluster::{Cluster, Transport};
use crate::policy::table::policy_table::PolicyTable;

/// Why a tunnel is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TunnelRefusal {
    #[error("CONNECT is not carried; connectPolicy: REGISTRY_ONLY passes it on to hosts and ports of ServiceEntries")]
    Off,
    #[error("no ServiceEntry names this host and port")]
    Unknown,
    /// Inside a tunnel it would not happen.
    #[error("requests to this host and port leave as TLS that egret originates, which a tunnel would go past")]
    OriginatesTls,
    #[error("a VirtualService has routes for this host, which a tunnel would go past")]
    Routed,
    #[error("AuthorizationPolicies speak of this host, which a tunnel would go past")]
    Judged,
    /// Told by whoever dials.
    #[error("its end is never dialled")]
    NotDialled,
}

impl PolicyTable {
    /// Whether a tunnel to `authority` may be asked for.
    ///
    /// # Errors
    /// Why not.
    pub(in crate::policy) fn tunnel(&self, authority: &Authority) -> Result<(), TunnelRefusal> {
        if self.settings.connect_policy == ConnectPolicy::Deny {
            return Err(TunnelRefusal::Off);
        }
        let port = authority.port.ok_or(TunnelRefusal::Unknown)?;
        let mut found = match &authority.host {
            Host::Name(name) => self.naming(name, port),
            Host::Ip(ip) => self.holding(OriginalDst::new(SocketAddr::new(*ip, port))),
        };
        found.retain(|cluster| cluster.origin.port == port);
        if found.is_empty() {
            return Err(TunnelRefusal::Unknown);
        }
        if found.iter().any(|cluster| !matches!(cluster.transport, Transport::Plaintext)) {
            return Err(TunnelRefusal::OriginatesTls);
        }
        let judges = |cluster: &&Cluster| cluster.authorization.as_ref().is_some_and(|all| all.forbids_something());
        if found.iter().any(judges) {
            return Err(TunnelRefusal::Judged);
        }
        let is_routed = |cluster: &&Cluster| self.tunnel_ends.routed.contains(&cluster.index);
        if self.services.of(&authority.host).is_some() || found.iter().any(is_routed) {
            return Err(TunnelRefusal::Routed);
        }
        Ok(())
    }

    fn naming(&self, name: &Hostname, port: u16) -> Vec<&Cluster> {
        let Some(on_port) = self.tunnel_ends.by_port.get(&port) else { return Vec::new() };
        on_port.all(name.as_str()).flatten().map(|id| &*self.clusters[*id]).collect()
    }

    /// The clusters that connections to this address may go to, whatever they carry.
    fn holding(&self, dst: OriginalDst) -> Vec<&Cluster> {
        let (to, host) = (self.dialled(dst), Host::Ip(dst.ip()));
        let found = [
            self.on_port(dst, |routes| routes.http(to, &host)),
            self.on_port(dst, |routes| routes.tls(to, None)),
            self.on_port(dst, |routes| routes.bytes(to)),
        ];
        let owners = found.into_iter().filter_map(|found| self.owner(found));
        owners.filter(|cluster| self.check_destination(cluster, dst).is_ok()).map(AsRef::as_ref).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::PortProtocol::{Http, Https, Tcp};
    use crate::config::Resolution::{Dns, None as Original, Static};
    use crate::config::{About, AuthorizationAction, AuthorizationPolicy, AuthorizationScope, Resources};
    use crate::policy::tests::fixture::{compiled, entry, meta, rule};

    #[test]
    fn only_what_is_named_and_leaves_as_it_is() {
        let entries = vec![
            entry(&["a.example"], &[], Dns).with_port(443, Https).with_port(25, Tcp),
            entry(&["*.wild.example"], &[], Original).with_port(443, Https),
            entry(&["secure.example"], &[], Dns).with_port(80, Http).with_port(8443, Https),
            entry(&["mail.example"], &["192.0.2.7"], Static).with_port(993, Tcp).with_ip("192.0.2.7"),
        ];
        let mut resources = Resources {
            service_entries: entries,
            destination_rules: vec![rule("r", "secure.example")],
            ..Resources::default()
        };
        let off = compiled(&resources).0;
        resources.settings.connect_policy = ConnectPolicy::RegistryOnly;
        let table = compiled(&resources).0;
        for (authority, expected) in [
            ("a.example:443", Ok(())),
            ("A.Example.:443", Ok(())),
            ("a.example:444", Err(TunnelRefusal::Unknown)),
            ("b.example:443", Err(TunnelRefusal::Unknown)),
            ("b.example:25", Err(TunnelRefusal::Unknown)),
            ("x.wild.example:443", Ok(())),
            ("wild.example:443", Err(TunnelRefusal::Unknown)),
            ("xwild.example:443", Err(TunnelRefusal::Unknown)),
            ("secure.example:80", Err(TunnelRefusal::OriginatesTls)),
            ("192.0.2.7:993", Ok(())),
            ("192.0.2.8:993", Err(TunnelRefusal::Unknown)),
            ("192.0.2.7:443", Err(TunnelRefusal::Unknown)),
            ("a.example", Err(TunnelRefusal::Unknown)),
        ] {
            let authority = Authority::parse(authority).unwrap();
            assert_eq!(table.tunnel(&authority), expected, "{authority}");
            assert_eq!(off.tunnel(&authority), Err(TunnelRefusal::Off), "{authority}");
        }
    }

    /// `strict` lets no bytes to an address that the entry's host does not have, and no tunnel either.
    #[test]
    fn not_to_an_address_that_strict_refuses() {
        let entries = vec![entry(&["db.example"], &["192.0.2.0/24"], Original).with_port(9000, Tcp)];
        let open = vec![entry(&["db.example"], &[], Original).with_port(9000, Tcp)];
        for (service_entries, authority, strict, expected) in [
            (&open, "8.8.8.8:9000", false, Ok(())),
            (&open, "8.8.8.8:9000", true, Err(TunnelRefusal::Unknown)),
            (&entries, "192.0.2.7:9000", true, Ok(())),
            (&entries, "8.8.8.8:9000", true, Err(TunnelRefusal::Unknown)),
        ] {
            let mut resources = Resources { service_entries: service_entries.clone(), ..Resources::default() };
            resources.settings.connect_policy = ConnectPolicy::RegistryOnly;
            resources.settings.strict = strict;
            let table = compiled(&resources).0;
            assert_eq!(table.tunnel(&Authority::parse(authority).unwrap()), expected, "{authority} {strict}");
        }
    }

    /// What a policy asks for could not be seen inside.
    #[test]
    fn not_where_policies_judge() {
        let entries = vec![entry(&["a.example"], &[], Dns).with_port(443, Https)];
        let mut resources = Resources { service_entries: entries, ..Resources::default() };
        resources.settings.connect_policy = ConnectPolicy::RegistryOnly;
        resources.authorization_policies.push(AuthorizationPolicy {
            meta: meta("p"),
            scope: AuthorizationScope::Workloads(None),
            action: AuthorizationAction::Allow,
            rules: Vec::new(),
            about: About::Any,
            dry_run: false,
            unjudged: Vec::new(),
        });
        let authority = Authority::parse("a.example:443").unwrap();
        assert_eq!(compiled(&resources).0.tunnel(&authority), Err(TunnelRefusal::Judged));
    }
}
