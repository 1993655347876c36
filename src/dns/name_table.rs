//! The names that policy lists, and the addresses that applications are told for them.
//!
//! It does not know where the addresses come from, nor what is told about names that it does not have. An exact name
//! comes first, then the wildcard that shares most labels with it, as in Istio's name table and in routes.

use std::collections::HashMap;
use std::net::IpAddr;

use foldhash::fast::RandomState;

use crate::flow::Hostname;

/// Every listed name. Built once for a policy, then only read.
#[derive(Debug, Default)]
pub struct NameTable {
    exact: HashMap<Hostname, Vec<IpAddr>, RandomState>,
    /// By the suffix that follows `*.`.
    wildcard: HashMap<Hostname, Vec<IpAddr>, RandomState>,
    /// What follows `*` in a wildcard for parts of labels. Name servers know where such names are.
    partial: Vec<Box<str>>,
    /// Short forms of Kubernetes names, and what they are short for.
    short: HashMap<Hostname, Hostname, RandomState>,
}

/// What the table has of a name.
#[derive(Debug, PartialEq, Eq)]
pub enum Found<'t> {
    /// `alias` is the listed name, where the one asked for is it with a search domain behind.
    Addresses {
        ips: &'t [IpAddr],
        alias: Option<Hostname>,
    },
    /// Policy lists it, and a name server knows where it is.
    Elsewhere,
    Unlisted,
}

impl NameTable {
    /// Lists `name` with these addresses beside those that it has; without any it is listed all the same.
    pub fn add(&mut self, name: &Hostname, ips: &[IpAddr]) {
        merge(self.exact.entry(name.clone()).or_default(), ips);
    }

    /// Lists every name below `suffix`.
    pub fn add_wildcard(&mut self, suffix: &Hostname, ips: &[IpAddr]) {
        merge(self.wildcard.entry(suffix.clone()).or_default(), ips);
    }

    /// Lists every name that ends so and is longer.
    pub fn add_partial_wildcard(&mut self, ending: &str) {
        self.partial.push(ending.into());
    }

    /// `short` means `full`, unless it is listed itself.
    pub fn add_short(&mut self, short: Hostname, full: &Hostname) {
        self.short.entry(short).or_insert_with(|| full.clone());
    }

    /// Looks `name` up, lower case and without a last dot; then without each of the domains that a resolver would have put
    /// behind it, so that a listed name is not asked for in every one of them first.
    #[must_use]
    pub fn find(&self, name: &str, search: &[Hostname]) -> Found<'_> {
        match self.listed(name) {
            Some([]) => return Found::Elsewhere,
            Some(ips) => return Found::Addresses { ips, alias: None },
            None => {}
        }
        let expanded = search.iter().filter_map(|domain| name.strip_suffix(domain.as_str())?.strip_suffix('.'));
        for rest in expanded {
            if let (Some(ips @ [_, ..]), Ok(alias)) = (self.listed(rest), Hostname::new(rest)) {
                return Found::Addresses { ips, alias: Some(alias) };
            }
        }
        Found::Unlisted
    }

    /// Every name with addresses, for people, in alphabetical order.
    #[must_use]
    pub fn rows(&self) -> Vec<(String, &[IpAddr])> {
        let exact = self.exact.iter().map(|(name, ips)| (name.to_string(), ips.as_slice()));
        let wildcard = self.wildcard.iter().map(|(suffix, ips)| (format!("*.{suffix}"), ips.as_slice()));
        let mut rows: Vec<_> = exact.chain(wildcard).filter(|(_, ips)| !ips.is_empty()).collect();
        rows.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        rows
    }

    fn listed(&self, name: &str) -> Option<&[IpAddr]> {
        if let Some(ips) = self.exact.get(name) {
            return Some(ips);
        }
        if let Some(full) = self.short.get(name) {
            return self.exact.get(full).map(Vec::as_slice);
        }
        let above = std::iter::successors(Some(name), |rest| rest.split_once('.').map(|(_, after)| after)).skip(1);
        let below = if self.wildcard.is_empty() { None } else { above.into_iter().find_map(|s| self.wildcard.get(s)) };
        let is_partial = |ending: &&str| name.len() > ending.len() && name.ends_with(ending);
        below.map(Vec::as_slice).or_else(|| self.partial.iter().map(|end| &**end).find(is_partial).map(|_| &[][..]))
    }
}

/// Whether `name` is below one of `domains`, or one of them.
#[must_use]
pub fn is_within<'d>(name: &str, domains: impl IntoIterator<Item = &'d str>) -> bool {
    domains
        .into_iter()
        .any(|domain| name.strip_suffix(domain).is_some_and(|before| before.is_empty() || before.ends_with('.')))
}

fn merge(ips: &mut Vec<IpAddr>, more: &[IpAddr]) {
    for ip in more {
        if !ips.contains(ip) {
            ips.push(*ip);
        }
    }
}

#[cfg(test)]
#[path = "tests/name_table.rs"]
mod tests;
