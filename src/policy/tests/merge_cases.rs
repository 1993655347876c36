//! Which field of which document holds for a port and a subset (istio-egress §2.1): every field of a policy, through
//! every way that it can come.

use std::path::Path;
use std::time::Duration;

use crate::config::PortProtocol::Http;
use crate::config::Resolution::Static;
use crate::config::{
    ConnectionPool, DestinationRule, ExportTo, LoadBalancer, LoadBalancing, OutlierDetection, PortPolicy,
    ProxyProtocol, Resources, RetryBudget, Subset, TlsMode, TrafficPolicy, Tunnel, TunnelProtocol, load_text,
};
use crate::policy::tests::fixture::{compiled, entry, labels, meta, name, outliers, pattern, tls};
use crate::policy::{Cluster, Transport};

/// A policy with the fields whose letters are given, all of them marked by `mark`.
fn policy(fields: &str, mark: u16) -> PortPolicy {
    let has = |letter: char| fields.contains(letter);
    let times = u32::from(mark);
    PortPolicy {
        tls: has('t').then(|| {
            let mut block = tls(TlsMode::Simple);
            block.sni = Some(name(&format!("m{mark}.test")));
            block
        }),
        load_balancer: has('l').then(|| LoadBalancing {
            by: [LoadBalancer::RoundRobin, LoadBalancer::Random][usize::from(mark - 1)],
            ..LoadBalancing::default()
        }),
        connection_pool: has('c').then(|| ConnectionPool { max_connections: Some(times), ..ConnectionPool::default() }),
        outlier_detection: has('o').then(|| OutlierDetection {
            base_ejection_time: Duration::from_secs(mark.into()),
            max_ejection_percent: 100,
            ..outliers()
        }),
        tunnel: has('u').then(|| Tunnel { protocol: TunnelProtocol::Connect, host: "a.test".to_owned(), port: mark }),
        proxy_protocol: has('p').then(|| [ProxyProtocol::V1, ProxyProtocol::V2][usize::from(mark - 1)]),
        retry_budget: has('r').then_some(RetryBudget { percent: 20.0, least: times }),
    }
}

/// The fields of a cluster that some policy gave, each with the mark of that policy.
fn shown(cluster: &Cluster) -> String {
    let sni = cluster.tls_request.as_ref().map(|request| format!("{:?}", request.sni));
    let marks = [
        ('t', sni.map(|sni| if sni.contains("m1.test") { 1 } else { 2 })),
        (
            'l',
            match cluster.balancing.by {
                LoadBalancer::RoundRobin => Some(1),
                LoadBalancer::Random => Some(2),
                _ => None,
            },
        ),
        ('c', cluster.limits.max_connections),
        ('o', cluster.outlier_detection.as_ref().map(|rules| rules.base_ejection_time.as_secs() as u32)),
        ('u', cluster.tunnel.as_ref().map(|tunnel| tunnel.port.into())),
        ('p', cluster.proxy_protocol.map(|version| if version == ProxyProtocol::V1 { 1 } else { 2 })),
        ('r', cluster.limits.retry_budget.map(|budget| budget.least)),
    ];
    marks.iter().filter_map(|(letter, mark)| mark.map(|mark| format!("{letter}{mark}"))).collect()
}

fn rule(called: &str, all: Option<PortPolicy>, port: Option<PortPolicy>, subsets: Vec<Subset>) -> DestinationRule {
    let ports: Vec<_> = port.map(|port| (80, port)).into_iter().collect();
    let any = all.is_some() || !ports.is_empty();
    DestinationRule {
        meta: meta(called),
        host: pattern("a.test"),
        traffic_policy: any.then(|| TrafficPolicy { all: all.unwrap_or_default(), ports }),
        subsets,
        export_to: Vec::new(),
        workload_selector: None,
        upstream_protocol: None,
    }
}

/// For the pods of these tests.
fn selecting(rule: DestinationRule) -> DestinationRule {
    DestinationRule { workload_selector: Some(labels("app=a")), ..rule }
}

fn subset(called: &str, all: Option<PortPolicy>, port: Option<PortPolicy>) -> Subset {
    let ports: Vec<_> = port.map(|port| (80, port)).into_iter().collect();
    let any = all.is_some() || !ports.is_empty();
    let traffic_policy = any.then(|| TrafficPolicy { all: all.unwrap_or_default(), ports });
    Subset { name: called.to_owned(), labels: labels(""), traffic_policy }
}

/// For its own namespace alone, as it is written.
fn kept(rule: DestinationRule) -> DestinationRule {
    DestinationRule { export_to: vec![ExportTo::Same], ..rule }
}

/// A route to the subset `v1`.
const ROUTE: &str = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: routes}
spec:
  hosts: [a.test]
  http: [{route: [{destination: {host: a.test, port: {number: 80}, subset: v1}}]}]
";

/// What holds for the port itself, and for the subset `v1`; `-` where there is no such cluster.
fn outcome(rules: Vec<DestinationRule>) -> (String, String) {
    let resources = Resources {
        service_entries: vec![entry(&["a.test"], &[], Static).with_port(80, Http).with_ip("10.0.0.1")],
        destination_rules: rules,
        virtual_services: load_text(Path::new("route.yaml"), ROUTE).resources.virtual_services,
        ..Resources::default()
    };
    let (table, _) = compiled(&resources);
    let of =
        |named: &str| table.clusters().iter().find(|cluster| cluster.name == named).map_or("-".into(), |c| shown(c));
    (of("outbound|80||a.test"), of("outbound|80|v1|a.test"))
}

#[test]
fn fields_and_where_they_come_from() {
    const ALL: &str = "tlcour";
    let all = |mark| Some(policy(ALL, mark));
    let some = |fields, mark| Some(policy(fields, mark));
    let marked = |mark: u8| ALL.chars().flat_map(|letter| [letter, char::from(b'0' + mark)]).collect::<String>();
    for (rules, port, of_subset) in [
        (vec![], String::new(), "-".to_owned()),
        (vec![rule("r", all(1), None, vec![])], marked(1), "-".to_owned()),
        // A subset's policy goes over the rule's field by field.
        (vec![rule("r", all(1), None, vec![subset("v1", None, None)])], marked(1), marked(1)),
        (vec![rule("r", None, None, vec![subset("v1", all(2), None)])], String::new(), marked(2)),
        (vec![rule("r", all(1), None, vec![subset("v1", all(2), None)])], marked(1), marked(2)),
        (vec![rule("r", all(1), None, vec![subset("v1", some("lo", 2), None)])], marked(1), "t1l2c1o2u1r1".to_owned()),
        (
            vec![rule("r", some("tp", 1), None, vec![subset("v1", some("cr", 2), None)])],
            "t1p1".into(),
            "t1c2p1r2".into(),
        ),
        // A port's policy replaces all: nothing is inherited, and what cannot stand there is lost.
        (vec![rule("r", all(1), some("c", 2), vec![])], "c2".to_owned(), "-".to_owned()),
        (vec![rule("r", all(1), some("c", 2), vec![subset("v1", None, None)])], "c2".to_owned(), "c2".to_owned()),
        (vec![rule("r", all(1), some("c", 2), vec![subset("v1", all(2), None)])], "c2".to_owned(), "c2".to_owned()),
        (
            vec![rule("r", all(1), some("c", 1), vec![subset("v1", all(2), some("l", 2))])],
            "c1".to_owned(),
            "l2".to_owned(),
        ),
        // Rules of one host are merged: the oldest's policy, and everybody's subsets.
        (
            vec![rule("a", all(1), None, vec![]), rule("b", all(2), None, vec![subset("v1", some("c", 2), None)])],
            marked(1),
            "t1l1c2o1u1r1".to_owned(),
        ),
        (
            vec![
                rule("a", None, None, vec![subset("v1", some("c", 1), None)]),
                rule("b", some("l", 2), None, vec![subset("v1", some("c", 2), None)]),
            ],
            "l2".to_owned(),
            "l2c1".to_owned(),
        ),
        // A rule that selects the pod holds instead of the others, and gets none of their subsets.
        (
            vec![
                rule("a", all(2), None, vec![subset("v1", some("c", 2), None)]),
                selecting(rule("b", all(1), None, vec![])),
            ],
            marked(1),
            "-".to_owned(),
        ),
        (
            vec![
                selecting(rule("a", all(1), None, vec![])),
                selecting(rule("b", all(2), None, vec![subset("v1", some("c", 2), None)])),
            ],
            marked(1),
            "t1l1c2o1u1r1".to_owned(),
        ),
    ] {
        let names: Vec<_> = rules.iter().map(|rule| format!("{rule:?}")).collect();
        assert_eq!(outcome(rules), (port, of_subset), "{names:#?}");
    }
}

/// Rules of another exportTo are not merged, and the youngest that the pod sees holds.
#[test]
fn subsets_of_rules_that_are_exported_differently() {
    const ALL: &str = "tlcour";
    let all = |mark| Some(policy(ALL, mark));
    let marked = |mark: u8| ALL.chars().flat_map(|letter| [letter, char::from(b'0' + mark)]).collect::<String>();
    let some = |fields, mark| Some(policy(fields, mark));
    for (rules, port, of_subset) in [
        (
            vec![kept(rule("a", all(1), None, vec![subset("v1", None, None)])), rule("b", all(2), None, vec![])],
            marked(2),
            "-".to_owned(),
        ),
        (
            vec![kept(rule("a", all(1), None, vec![])), rule("b", None, None, vec![subset("v1", some("c", 2), None)])],
            String::new(),
            "c2".to_owned(),
        ),
        (
            vec![
                kept(rule("a", all(1), None, vec![])),
                kept(rule("b", None, None, vec![subset("v1", some("c", 2), None)])),
            ],
            marked(1),
            "t1l1c2o1u1r1".to_owned(),
        ),
    ] {
        let names: Vec<_> = rules.iter().map(|rule| format!("{rule:?}")).collect();
        assert_eq!(outcome(rules), (port, of_subset), "{names:#?}");
    }
}

#[test]
fn what_a_tunnel_cannot_do_is_refused() {
    let with = |protocol| {
        let tunnel = Tunnel { protocol, host: "a.test".to_owned(), port: 1 };
        let all = PortPolicy { tunnel: Some(tunnel), ..PortPolicy::default() };
        let resources = Resources {
            service_entries: vec![entry(&["a.test"], &[], Static).with_port(80, Http).with_ip("10.0.0.1")],
            destination_rules: vec![rule("r", Some(all), None, vec![])],
            ..Resources::default()
        };
        compiled(&resources)
    };
    assert!(matches!(with(TunnelProtocol::Connect).0.clusters()[0].transport, Transport::Plaintext));
    let (table, warnings) = with(TunnelProtocol::Post);
    assert!(matches!(&table.clusters()[0].transport, Transport::Refused(why) if why.contains("use CONNECT")));
    assert!(warnings[0].contains("a.test is refused on port 80: tunnel protocol POST"), "{warnings:?}");
}
