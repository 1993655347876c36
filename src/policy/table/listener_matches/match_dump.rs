//! Every match that a port's routes hold, written out for people. Nothing is decided by it.

use std::collections::BTreeSet;

use ipnet::IpNet;

use super::{Claimant, HttpRule, PortMatches, everything, is_single};

/// One match and whose it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::policy) struct DumpedMatch {
    /// `HTTP`, `TLS` or `TCP`, the last for bytes that are neither, or not looked at.
    pub(in crate::policy) protocol: &'static str,
    /// The request's host or the SNI, `*` for any and for none.
    pub(in crate::policy) host: String,
    /// Where the connection must go; `*` is anywhere.
    pub(in crate::policy) address: String,
    pub(in crate::policy) holder: Claimant,
}

impl PortMatches {
    /// By protocol, host and address.
    pub(in crate::policy) fn dump(&self) -> BTreeSet<DumpedMatch> {
        let mut all = BTreeSet::new();
        let mut hold = |protocol, host: String, address: String, holder| {
            all.insert(DumpedMatch { protocol, host, address, holder });
        };
        let whole = |cluster| Claimant { cluster, route: None };
        if self.binds.values().any(|bind| matches!(bind.http, HttpRule::ByHost(_))) {
            self.hosts.names.iter().for_each(|(host, id)| hold("HTTP", host.to_string(), "*".to_owned(), whole(*id)));
            self.hosts.literals.iter().for_each(|(ip, id)| hold("HTTP", ip.to_string(), "*".to_owned(), whole(*id)));
        }
        for (range, bind) in &self.binds {
            let address = self.shown(range);
            if let HttpRule::Always(id) = bind.http {
                hold("HTTP", "*".to_owned(), address.clone(), whole(id));
            }
            bind.tls.iter().for_each(|(host, id)| hold("TLS", host.to_string(), address.clone(), *id));
            if let Some(bytes) = bind.bytes {
                hold("TCP", "*".to_owned(), address, bytes.holder);
            }
        }
        all
    }

    /// Entries without addresses bind both families.
    fn shown(&self, range: &IpNet) -> String {
        match range.prefix_len() {
            0 if everything().iter().all(|all| self.binds.contains_key(all)) => "*".to_owned(),
            _ if is_single(range) => range.addr().to_string(),
            _ => range.to_string(),
        }
    }
}
