//! Names that are to be resolved and that no name server answers for, by the rules for special names.
//!
//! Nothing is looked up.

use crate::config::{EndpointAddress, HostPattern, Resolution, ServiceEntry};
use crate::flow::Hostname;
use crate::policy::lint::problems::Problems;

pub(in crate::policy) fn of_entry(entry: &ServiceEntry, problems: &mut Problems) {
    if !matches!(entry.resolution, Resolution::Dns | Resolution::DnsRoundRobin) {
        return;
    }
    for endpoint in &entry.endpoints {
        if let EndpointAddress::Name(name) = &endpoint.address
            && let Some(why) = cannot_resolve(name)
        {
            problems.warn(&endpoint.at, format!("{name} cannot be resolved: {why}"));
        }
    }
    let resolved = entry.hosts.iter().filter(|_| entry.endpoints.is_empty());
    for host in resolved {
        if let HostPattern::Exact(name) = host
            && let Some(why) = cannot_resolve(name)
        {
            let fix = "list endpoints, or use resolution NONE";
            problems.warn(&entry.meta.at, format!("{name} cannot be resolved: {why}; {fix}"));
        }
    }
}

/// Why; `None` for ordinary names, which may exist or not.
fn cannot_resolve(name: &Hostname) -> Option<&'static str> {
    let labels: Vec<&str> = name.as_str().rsplit('.').take(2).collect();
    match labels[..] {
        ["invalid", ..] => Some("names below .invalid never exist (RFC 6761)"),
        ["onion", ..] => Some("names below .onion are not in the DNS (RFC 7686)"),
        ["localhost", ..] => Some("it is this pod itself, and answers that lead there are refused"),
        ["local", "cluster"] => None,
        ["local", ..] => Some("names below .local are of multicast DNS (RFC 6762), which is not asked"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::tests::fixture::name;

    #[test]
    fn special_names() {
        for (text, resolves) in [
            ("example.com", true),
            ("a.invalid", false),
            ("invalid.example", true),
            ("invalid", false),
            ("localhost", false),
            ("a.localhost", false),
            ("printer.local", false),
            ("local", false),
            ("nginx.web.svc.cluster.local", true),
            ("cluster.local", true),
            ("a.onion", false),
            ("a.test", true),
        ] {
            assert_eq!(cannot_resolve(&name(text)).is_none(), resolves, "{text}");
        }
    }
}
