//! `strict`, on random entries, answers and flows: nothing goes to an address that neither its name resolves to nor its
//! entry lists, and nothing else changes.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use proptest::prelude::*;

use crate::config::{HostPattern, PortProtocol, Resources, ServiceEntry};
use crate::flow::{Host, Hostname};
use crate::policy::runtime::publish::{Addresses, Published};
use crate::policy::tests::fixture::{decided, host, workload};
use crate::policy::tests::reference::entries;
use crate::policy::{
    ClusterProtocol, Content, Decision, Endpoints, Materials, PolicyTable, Refusal, RequestView, Unreachable, compile,
};
use crate::tls::{ClientProfile, ProfileRequest};

type Answers = BTreeMap<&'static str, Vec<IpAddr>>;

/// What DNS says.
struct Dns<'a>(&'a Answers);

impl Materials for Dns<'_> {
    fn profile(&mut self, _: &ProfileRequest) -> Result<Arc<ClientProfile>, String> {
        Err("no rule asks for one".to_owned())
    }

    fn addresses(&mut self, name: &Hostname) -> Addresses {
        Published::new(self.0.get(name.as_str()).cloned().unwrap_or_default())
    }
}

const NAMES: [&str; 4] = ["a.t", "b.t", "x.a.t", "t"];
const IPS: [&str; 6] = ["1.1.1.1", "1.1.1.2", "1.1.9.9", "9.9.9.9", "::1", "2::2"];

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn answers() -> impl Strategy<Value = Answers> {
    let some = prop::collection::vec(prop::sample::select(IPS.to_vec()).prop_map(ip), 0..4);
    prop::collection::vec(some, NAMES.len()).prop_map(|all| NAMES.into_iter().zip(all).collect())
}

/// Whether the entry or one of `names` says that `at` is theirs.
fn is_theirs<'n>(
    entry: &ServiceEntry,
    mut names: impl Iterator<Item = &'n str>,
    answers: &Answers,
    at: IpAddr,
) -> bool {
    entry.addresses.iter().any(|range| range.contains(&at))
        || names.any(|name| answers.get(name).is_some_and(|ips| ips.contains(&at)))
}

fn exact(entry: &ServiceEntry) -> impl Iterator<Item = &str> {
    entry.hosts.iter().filter_map(|host| match host {
        HostPattern::Exact(name) => Some(name.as_str()),
        HostPattern::Wildcard(_) | HostPattern::PartialWildcard(_) | HostPattern::Any => None,
    })
}

/// What became of a flow under `strict`, beside what becomes of it without; `name` is the one that it bears.
fn check(
    entries: &[ServiceEntry],
    answers: &Answers,
    at: IpAddr,
    name: Option<&str>,
    strict: &Decision<'_>,
    loose: &Decision<'_>,
) {
    let Decision::Forward(cluster) = loose else {
        assert_eq!(format!("{strict:?}"), format!("{loose:?}"), "{at} {name:?}");
        return;
    };
    let entry = entries.iter().find(|entry| entry.meta.name == cluster.origin.service_entry.name);
    let entry = entry.expect("a cluster is of an entry");
    assert!(matches!(cluster.endpoints, Endpoints::OriginalDst { .. }));
    match strict {
        Decision::Forward(same) => {
            assert_eq!(same.name, cluster.name);
            // Bytes of a port that no name is read on may be of any of the entry's hosts.
            let by_name = cluster.protocol != ClusterProtocol::Opaque
                || matches!(cluster.origin.declared, PortProtocol::Https | PortProtocol::Tls);
            let own = name.filter(|name| by_name && cluster.host == *name);
            let theirs = match own {
                Some(own) => is_theirs(entry, std::iter::once(own), answers, at),
                None => is_theirs(entry, exact(entry), answers, at),
            };
            assert!(theirs, "{at} passes for {name:?}: {} {answers:?}", cluster.name);
        }
        Decision::Refuse(Refusal::Unreachable { why, .. }) => {
            assert_ne!(*why, Unreachable::Protected);
            assert!(!entry.addresses.iter().any(|range| range.contains(&at)), "the entry lists {at}");
            let own = name.filter(|name| cluster.host == *name).into_iter();
            assert!(!is_theirs(entry, own, answers, at), "{name:?} is at {at}");
        }
        other => panic!("{other:?}"),
    }
}

proptest! {
    #[test]
    fn nothing_passes_that_its_name_does_not_lead_to(entries in entries(), answers in answers()) {
        let mut resources = Resources { service_entries: entries, ..Resources::default() };
        let table = |resources: &Resources| compile(resources, &workload("shop", ""), &mut Dns(&answers)).0;
        let loose: PolicyTable = table(&resources);
        resources.settings.strict = true;
        let strict: PolicyTable = table(&resources);
        for text in IPS {
            let at = ip(text);
            let to = SocketAddr::new(at, 80).to_string();
            let each = |name: Option<&str>, content: Content<'_>| {
                let [one, other] = [&strict, &loose].map(|table| decided(table, &to, content).decision);
                check(&resources.service_entries, &answers, at, name, &one, &other);
            };
            each(None, Content::Opaque);
            each(None, Content::Tls(None));
            for name in NAMES {
                let wanted = host(name);
                let Host::Name(sni) = &wanted else { unreachable!("these are names") };
                each(Some(name), Content::Tls(Some(sni)));
                let (authority, target) = (name.as_bytes(), b"/");
                let any_value = &|_: &str, _: &mut dyn FnMut(&[u8]) -> bool| false;
                each(
                    Some(name),
                    Content::Request(&RequestView { host: &wanted, authority, method: b"GET", target, any_value }),
                );
            }
        }
    }
}
