//! Name constraints (RFC 5280 §4.2.1.10) of DNS names, addresses and directory names. What is constrained and of another
//! kind (e-mail, URI …) is refused where a certificate has such a name: as in webpki, which knows DNS names and addresses.

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, NameConstraints, ParsedExtension};
use x509_parser::prelude::X509Name;

/// Comparisons for one handshake: a peer chooses its certificate's names. webpki's number.
const MOST_COMPARISONS: u32 = 250_000;

/// Comparisons that are left.
pub(in crate::tls) struct ComparisonBudget(u32);

impl ComparisonBudget {
    pub(in crate::tls) fn new() -> Self {
        Self(MOST_COMPARISONS)
    }

    fn spend(&mut self) -> bool {
        self.0 = self.0.saturating_sub(1);
        self.0 > 0
    }
}

/// Whether every name of `certificate` is as `constraints` want it.
pub(in crate::tls) fn allow(
    constraints: &NameConstraints<'_>,
    certificate: &X509Certificate<'_>,
    budget: &mut ComparisonBudget,
) -> bool {
    let mut names = Vec::new();
    // An empty subject is no name (§4.1.2.6).
    if certificate.subject().iter_rdn().next().is_some() {
        names.push(GeneralName::DirectoryName(certificate.subject().clone()));
    }
    for extension in certificate.extensions() {
        if let ParsedExtension::SubjectAlternativeName(list) = extension.parsed_extension() {
            names.extend(list.general_names.iter().cloned());
        }
    }
    names.iter().all(|name| allows_name(constraints, name, budget))
}

fn allows_name(constraints: &NameConstraints<'_>, name: &GeneralName<'_>, budget: &mut ComparisonBudget) -> bool {
    let excluded = constraints.excluded_subtrees.iter().flatten();
    for subtree in excluded.filter(|subtree| is_of_kind(name, &subtree.base)) {
        if !budget.spend() || matches(name, &subtree.base) != Some(false) {
            return false;
        }
    }
    let permitted = constraints.permitted_subtrees.iter().flatten();
    let mut is_constrained = false;
    for subtree in permitted.filter(|subtree| is_of_kind(name, &subtree.base)) {
        is_constrained = true;
        if !budget.spend() {
            return false;
        }
        if matches(name, &subtree.base) == Some(true) {
            return true;
        }
    }
    !is_constrained
}

/// Constraints speak of names of their own kind. One that cannot be read may speak of any.
fn is_of_kind(name: &GeneralName<'_>, base: &GeneralName<'_>) -> bool {
    let is_unreadable = |name: &GeneralName<'_>| matches!(name, GeneralName::Invalid(..));
    is_unreadable(name) || is_unreadable(base) || std::mem::discriminant(name) == std::mem::discriminant(base)
}

/// Whether `name` lies within `base`; `None`: nobody knows.
fn matches(name: &GeneralName<'_>, base: &GeneralName<'_>) -> Option<bool> {
    match (name, base) {
        (GeneralName::DNSName(name), GeneralName::DNSName(base)) => Some(is_within_domain(name, base)),
        (GeneralName::IPAddress(ip), GeneralName::IPAddress(base)) => is_within_network(ip, base),
        (GeneralName::DirectoryName(name), GeneralName::DirectoryName(base)) => is_within_directory(name, base),
        _ => None,
    }
}

/// A base with a leading dot has subdomains alone, as webpki reads it. A wildcard lies in the domain that it stands in.
fn is_within_domain(name: &str, base: &str) -> bool {
    let (name, base) = (name.to_ascii_lowercase(), base.to_ascii_lowercase());
    if base.is_empty() {
        return true;
    }
    let is_below = |base: &str| name.strip_suffix(base).is_some_and(|rest| rest.ends_with('.') && rest.len() > 1);
    match base.strip_prefix('.') {
        Some(domain) => is_below(domain),
        None => name == base || is_below(&base),
    }
}

/// Address and mask, one behind the other. Another family lies outside.
fn is_within_network(ip: &[u8], base: &[u8]) -> Option<bool> {
    if !matches!((ip.len(), base.len()), (4 | 16, 8 | 32)) {
        return None;
    }
    let (network, mask) = base.split_at(base.len() / 2);
    Some(ip.len() == network.len() && ip.iter().zip(network).zip(mask).all(|((ip, net), mask)| (ip ^ net) & mask == 0))
}

/// The base is the beginning of the name (RFC 5280 §7.1). `None`: one of the attributes cannot be read.
fn is_within_directory(name: &X509Name<'_>, base: &X509Name<'_>) -> Option<bool> {
    let (mut own, mut wanted) = (name.iter_rdn(), base.iter_rdn());
    loop {
        let Some(wanted) = wanted.next() else { return Some(true) };
        let Some(own) = own.next() else { return Some(false) };
        if attributes(own.iter())? != attributes(wanted.iter())? {
            return Some(false);
        }
    }
}

/// Types and values of a relative name, in one order; text without regard to case and to how many blanks stand in it.
fn attributes<'a>(
    all: impl Iterator<Item = &'a x509_parser::x509::AttributeTypeAndValue<'a>>,
) -> Option<Vec<(String, String)>> {
    let mut read = Vec::new();
    for attribute in all {
        let text = attribute.as_str().ok()?;
        let value = text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
        read.push((attribute.attr_type().to_id_string(), value));
    }
    read.sort();
    Some(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains() {
        for (name, base, within) in [
            ("example.com", "example.com", true),
            ("a.Example.com", "example.COM", true),
            ("*.example.com", "example.com", true),
            ("badexample.com", "example.com", false),
            ("example.com", ".example.com", false),
            ("a.example.com", ".example.com", true),
            (".example.com", ".example.com", false),
            ("example.org", "example.com", false),
            ("com", "example.com", false),
            ("anything", "", true),
        ] {
            assert_eq!(is_within_domain(name, base), within, "{name} {base}");
        }
    }

    #[test]
    fn networks() {
        let ten = [10, 0, 0, 0, 255, 0, 0, 0];
        assert_eq!(is_within_network(&[10, 1, 2, 3], &ten), Some(true));
        assert_eq!(is_within_network(&[11, 1, 2, 3], &ten), Some(false));
        assert_eq!(is_within_network(&[0; 16], &ten), Some(false));
        assert_eq!(is_within_network(&[10, 1, 2], &ten), None);
        assert_eq!(is_within_network(&[10, 1, 2, 3], &ten[..7]), None);
    }
}
