//! Endpoints by where they are: which level each is of, and its share. What is of a higher level is used only where too
//! much of the lower ones has failed (`Endpoints::pick_level`).
//!
//! The pod's own locality is its label `istio-locality`, as in Istio where no node tells it. The rules are Istio's: shares
//! by `distribute`, else levels by labels or regions, the latter only where `outlierDetection` can tell what has failed.

use crate::config::{Endpoint, EndpointAddress, Locality, LocalityBalancing, ServiceEntry};
use crate::policy::compile::select::scope::Workload;
use crate::policy::table::cluster::{EndpointSource, MAX_LEVELS};

const OWN_LABEL: &str = "istio-locality";

/// What is missing for a setting to hold.
pub(in crate::policy) const UNKNOWN: &str = "has no effect: where this pod is can be told by its label istio-locality \
                                  (region.zone.subzone) alone, and it has none";

/// The workload's own; `None` where nobody tells it.
fn own(workload: &Workload) -> Option<Locality> {
    let label = workload.labels.get(OWN_LABEL).filter(|label| !label.is_empty())?;
    Some(Locality::parse(&if label.contains('/') { label.clone() } else { label.replace('.', "/") }))
}

/// Gives `sources`, those of the entry's endpoints, their levels and shares. `watched` is whether failures are noticed.
///
/// # Errors
/// That the setting cannot hold, in words for its author.
pub(in crate::policy) fn arrange(
    sources: &mut Vec<EndpointSource>,
    entry: &ServiceEntry,
    setting: Option<&LocalityBalancing>,
    watched: bool,
    workload: &Workload,
) -> Result<(), &'static str> {
    let endpoints: Vec<&Endpoint> =
        entry.endpoints.iter().filter(|one| !matches!(one.address, EndpointAddress::Unix(_))).collect();
    if endpoints.len() != sources.len() || setting.is_some_and(|setting| !setting.enabled) {
        return Ok(());
    }
    let own = own(workload);
    let places: Vec<Locality> =
        endpoints.iter().map(|one| one.locality.as_deref().map(Locality::parse).unwrap_or_default()).collect();
    if let Some(setting) = setting.filter(|setting| !setting.distribute.is_empty()) {
        distribute(sources, &places, setting, &own.ok_or(UNKNOWN)?);
        return Ok(());
    }
    if !watched {
        return Ok(());
    }
    let labels = setting.map(|setting| &setting.failover_priority).filter(|labels| !labels.is_empty());
    let failover = setting.map(|setting| &setting.failover[..]).unwrap_or_default();
    let levels: Vec<usize> = match (labels, own) {
        (Some(labels), _) => endpoints.iter().map(|one| by_labels(one, labels, workload)).collect(),
        (None, Some(own)) => places.iter().map(|place| by_place(place, &own, failover)).collect(),
        (None, None) if failover.is_empty() => return Ok(()),
        (None, None) => return Err(UNKNOWN),
    };
    // Without gaps, so that what nobody is of is not waited for.
    let mut used = levels.clone();
    used.sort_unstable();
    used.dedup();
    for (source, level) in sources.iter_mut().zip(levels) {
        source.level = used.binary_search(&level).unwrap_or_default().min(MAX_LEVELS - 1);
    }
    Ok(())
}

/// Endpoints that no share is for get nothing; those of one share have it together, by their weights.
fn distribute(sources: &mut Vec<EndpointSource>, places: &[Locality], setting: &LocalityBalancing, own: &Locality) {
    /// Shares of endpoints can be told apart to this part of a percent.
    const PARTS: u64 = 1000;
    let Some(shares) = setting.distribute.iter().find(|one| one.from.covers(own)) else { return };
    let share_of = |place: &Locality| shares.to.iter().position(|(to, _)| to.covers(place));
    let of: Vec<Option<usize>> = places.iter().map(share_of).collect();
    let weights: Vec<u64> = sources.iter().map(|source| source.weight.into()).collect();
    let total = |share: usize| -> u64 {
        of.iter().zip(&weights).filter(|(other, _)| **other == Some(share)).map(|(_, weight)| weight).sum()
    };
    for ((source, share), weight) in sources.iter_mut().zip(&of).zip(&weights) {
        let Some(share) = *share else { continue };
        let percent = u64::from(shares.to[share].1);
        source.weight = u32::try_from(percent * PARTS * weight / total(share).max(1)).unwrap_or(u32::MAX).max(1);
    }
    let mut kept = of.iter().map(Option::is_some);
    sources.retain(|_| kept.next().unwrap_or(false));
}

/// One level for each label that is not the wanted one, counted from the first of them.
fn by_labels(endpoint: &Endpoint, labels: &[(String, Option<String>)], workload: &Workload) -> usize {
    let is = |(key, value): &(String, Option<String>)| {
        let wanted = value.as_ref().or(workload.labels.get(key)).map_or("", String::as_str);
        endpoint.labels.get(key).map_or("", String::as_str) == wanted
    };
    labels.iter().position(|label| !is(label)).map_or(0, |first| labels.len() - first)
}

/// The same subzone, zone, region, another region, and one that no `failover` leads to.
fn by_place(place: &Locality, own: &Locality, failover: &[(String, String)]) -> usize {
    let level = 3 - own.common(place);
    let leads = failover.iter().find(|(from, _)| from == own.region());
    if level == 3 && leads.is_some_and(|(_, to)| to != place.region()) { 4 } else { level }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::load_text;
    use crate::policy::tests::fixture::{Asked, workload};
    use crate::policy::{Endpoints, compile};

    const ENTRY: &str = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: e}
spec:
  hosts: [a.example]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints:
  - {address: 192.0.2.1, locality: us/z1/a, labels: {tier: main, version: v1}, weight: 1}
  - {address: 192.0.2.2, locality: us/z1/b, labels: {tier: main}, weight: 3}
  - {address: 192.0.2.3, locality: us/z2, labels: {version: v1}}
  - {address: 192.0.2.4, locality: eu/z1, labels: {tier: spare}}
  - {address: 192.0.2.5, locality: asia}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: r}
spec:
  host: a.example
  trafficPolicy: {POLICY}
";

    /// `ADDRESS:LEVEL*WEIGHT` of each endpoint by the last part of its address, and the warnings.
    fn arranged(policy: &str, labels: &str) -> (String, Vec<String>) {
        let loaded = load_text(Path::new("f.yaml"), &ENTRY.trim_start().replace("POLICY", policy));
        assert_eq!(loaded.problems, [], "{policy}");
        let (table, problems) = compile(&loaded.resources, &workload("shop", labels), &mut Asked::default());
        let Endpoints::Resolved(sources) = &table.clusters()[0].endpoints else { panic!("no endpoints") };
        let shown = sources.iter().map(|source| {
            let ip = source.addresses.load()[0].to_string();
            format!("{}:{}*{}", ip.rsplit('.').next().unwrap(), source.level, source.weight)
        });
        let warnings = problems.iter().map(ToString::to_string).filter(|text| text.contains("locality")).collect();
        (shown.collect::<Vec<_>>().join(" "), warnings)
    }

    #[test]
    fn levels_and_shares() {
        let same = "1:0*1 2:0*3 3:0*1 4:0*1 5:0*1";
        let watched =
            |setting: &str| format!("outlierDetection: {{}}, loadBalancer: {{localityLbSetting: {{{setting}}}}}");
        let shares = "loadBalancer: {localityLbSetting: {distribute: [{from: us/z1/*, to: {'us/z1/*': 80, 'eu/*': 20}}, \
                      {from: '*', to: {asia: 100}}]}}";
        for (policy, labels, expected) in [
            // Without failures to notice, or without a place of one's own, all are alike.
            ("loadBalancer: {}".to_owned(), "istio-locality=us.z1.a", same),
            ("outlierDetection: {}".to_owned(), "app=a", same),
            (watched("enabled: false"), "istio-locality=us.z1.a", same),
            // By place.
            ("outlierDetection: {}".to_owned(), "istio-locality=us.z1.a", "1:0*1 2:1*3 3:2*1 4:3*1 5:3*1"),
            (watched(""), "istio-locality=us.z2", "1:1*1 2:1*3 3:0*1 4:2*1 5:2*1"),
            (watched(""), "istio-locality=asia", "1:1*1 2:1*3 3:1*1 4:1*1 5:0*1"),
            (watched("failover: [{from: us, to: asia}]"), "istio-locality=us.z1.a", "1:0*1 2:1*3 3:2*1 4:4*1 5:3*1"),
            (watched("failover: [{from: eu, to: asia}]"), "istio-locality=us.z2", "1:1*1 2:1*3 3:0*1 4:2*1 5:2*1"),
            // By labels, of one's own or given.
            (watched("failoverPriority: [tier=main]"), "app=a", "1:0*1 2:0*3 3:1*1 4:1*1 5:1*1"),
            (watched("failoverPriority: [version, tier=main]"), "version=v1", "1:0*1 2:2*3 3:1*1 4:2*1 5:2*1"),
            (watched("failoverPriority: [version]"), "app=a", "1:1*1 2:0*3 3:1*1 4:0*1 5:0*1"),
            // Shares of what leaves from here, whatever is noticed.
            (shares.to_owned(), "istio-locality=us.z1.b", "1:0*20000 2:0*60000 4:0*20000"),
            (shares.to_owned(), "istio-locality=eu.z1", "5:0*100000"),
        ] {
            assert_eq!(arranged(&policy, labels), (expected.to_owned(), Vec::new()), "{policy} for {labels}");
        }
        let settings = ["failover: [{from: us, to: asia}]", "distribute: [{from: us, to: {us: 100}}]"];
        for setting in settings {
            let (found, warnings) = arranged(&watched(setting), "app=a");
            assert_eq!(found, same);
            assert!(warnings.len() == 1 && warnings[0].contains("its label istio-locality"), "{warnings:?}");
        }
    }
}
