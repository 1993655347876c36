//! Which DestinationRule holds for a port, what becomes of it, and what its author is warned of (istio-egress §2).

use std::path::PathBuf;
use std::time::Duration;

use crate::config::PortProtocol::{Auto, Grpc, Http, Https, Tcp};
use crate::config::Resolution::{Dns, DnsRoundRobin, DynamicDns, None as Original, Static};
use crate::config::{
    ClientTls, ConnectionPool, DestinationRule, EndpointAddress, ExportTo, LoadBalancer, LoadBalancing, PortPolicy,
    Resources, ServiceEntry, TlsMode,
};
use crate::policy::tests::fixture::{NOT_LOADED, compiled, entry, labels, name, outliers, place, rule, tls, with_tls};
use crate::policy::{Cluster, Endpoints, PolicyTable, PoolLimits, Transport};
use crate::tls::{Alpn, NameCheck, SniSource};

/// How a cluster's bytes leave: `plain`, the fixed SNI or `from host` or `no sni`, or `refused`.
fn leaves(cluster: &Cluster) -> String {
    match (&cluster.tls_request, &cluster.transport) {
        (Some(request), _) => match &request.sni {
            SniSource::Fixed(name) => name.to_string(),
            SniSource::FromHost => "from host".to_owned(),
            SniSource::Omit => "no sni".to_owned(),
        },
        (None, Transport::Plaintext) => "plain".to_owned(),
        (None, Transport::Refused(_)) => "refused".to_owned(),
        (None, Transport::Tls(_)) => panic!("TLS without a request"),
    }
}

fn compiled_with(entries: Vec<ServiceEntry>, rules: Vec<DestinationRule>) -> (PolicyTable, Vec<String>) {
    compiled(&Resources { service_entries: entries, destination_rules: rules, ..Resources::default() })
}

fn only(entries: Vec<ServiceEntry>, rules: Vec<DestinationRule>) -> (String, Vec<String>) {
    let (table, warnings) = compiled_with(entries, rules);
    let [cluster] = table.clusters() else { panic!("one cluster: {:?}", table.clusters()) };
    (leaves(cluster), warnings)
}

impl DestinationRule {
    fn selecting(mut self, selector: &str) -> Self {
        self.workload_selector = Some(labels(selector));
        self
    }

    fn within(mut self, namespace: &str, export_to: Vec<ExportTo>) -> Self {
        self.meta.namespace = Some(namespace.to_owned());
        self.export_to = export_to;
        self
    }

    fn on_port(mut self, port: u16, policy: PortPolicy) -> Self {
        let traffic_policy = self.traffic_policy.get_or_insert_default();
        traffic_policy.ports.push((port, policy));
        self
    }

    /// Without a policy for every port.
    fn silent(mut self) -> Self {
        self.traffic_policy = None;
        self
    }

    fn with(mut self, change: impl FnOnce(&mut ClientTls)) -> Self {
        let policy = self.traffic_policy.as_mut().expect("the fixture has a policy");
        change(policy.all.tls.as_mut().expect("the fixture has a tls block"));
        self
    }
}

#[test]
fn the_nearest_rule_holds() {
    let host = "www.example.com";
    let own = || rule("own", host);
    let wide = || rule("wide", "*.example.com");
    let theirs = || rule("theirs", host).within("bank", vec![]);
    let root = || rule("root", host).within("istio-system", vec![]);
    for (rules, expected) in [
        (vec![], "plain"),
        (vec![own()], "own.test"),
        (vec![wide(), own()], "own.test"),
        (vec![rule("any", "*"), wide()], "wide.test"),
        (vec![rule("wider", "*.com"), wide()], "wide.test"),
        (vec![rule("any", "*")], "any.test"),
        (vec![rule("up", "example.com"), rule("down", "a.www.example.com")], "plain"),
        // Namespaces: the client's, the entry's, the root's.
        (vec![theirs(), wide()], "wide.test"),
        (vec![root(), theirs()], "theirs.test"),
        (vec![root()], "root.test"),
        (vec![rule("else", host).within("elsewhere", vec![])], "plain"),
        (vec![rule("private", host).within("bank", vec![ExportTo::Same]), root()], "root.test"),
        (vec![rule("named", host).within("bank", vec![ExportTo::Namespace("shop".into())])], "named.test"),
        (vec![rule("given", host).within("shop", vec![ExportTo::Namespace("bank".into())])], "plain"),
        // Selectors.
        (vec![own(), rule("mine", host).selecting("app=a")], "mine.test"),
        (vec![own(), rule("other", host).selecting("app=b")], "own.test"),
        (vec![wide(), rule("other", host).selecting("app=b")], "wide.test"),
        (vec![rule("s1", host).selecting("app=a"), rule("s2", host).selecting("app=a")], "s1.test"),
        (vec![rule("afar", host).selecting("app=a").within("bank", vec![])], "plain"),
        // The oldest that has a policy.
        (vec![rule("first", host), rule("second", host)], "first.test"),
        (vec![rule("first", host).silent(), rule("second", host)], "second.test"),
    ] {
        let names: Vec<&str> = rules.iter().map(|rule| rule.meta.name.as_str()).collect();
        let names = names.join(", ");
        let entries = vec![entry(&[host], &[], Dns).with_target(80, Http, 443).within("bank", vec![])];
        assert_eq!(only(entries, rules).0, expected, "{names}");
    }
}

/// Istio's `mergeDestinationRule` and `SidecarScope.DestinationRule`: rules of one host and namespace are merged only where
/// their `exportTo` are the same, and of those that the pod sees the youngest holds.
#[test]
fn rules_of_one_host_that_are_exported_differently() {
    use ExportTo::{All, Same};
    let to = |names: &[&str]| names.iter().map(|name| ExportTo::Namespace((*name).into())).collect::<Vec<_>>();
    let host = "www.example.com";
    let own = |name: &str, export_to: Vec<ExportTo>| rule(name, host).within("shop", export_to);
    let theirs = |name: &str, export_to: Vec<ExportTo>| rule(name, host).within("bank", export_to);
    for (rules, expected, silenced) in [
        (vec![own("old", vec![Same]), own("young", vec![])], "young.test", "old"),
        (vec![own("old", vec![]), own("young", vec![Same])], "young.test", "old"),
        // As written: that both mean everybody does not make them the same.
        (vec![own("old", vec![]), own("young", vec![All])], "young.test", "old"),
        (vec![own("old", vec![Same]), own("young", to(&["shop"]))], "young.test", "old"),
        (vec![own("old", vec![Same]), own("young", vec![Same])], "old.test", "young"),
        (vec![own("old", to(&["shop", "x"])), own("young", to(&["x", "shop"]))], "old.test", "young"),
        // One that says more is merged into what it covers.
        (vec![own("old", to(&["shop"])), own("young", to(&["x", "shop"]))], "old.test", "young"),
        // Of three the second group is the younger; the third is of the first, and stands apart as well.
        (vec![own("a", vec![Same]), own("b", vec![]), own("c", vec![Same])], "c.test", "a b"),
        (vec![own("a", vec![Same]), own("b", vec![]), own("c", vec![])], "b.test", "a c"),
        // What the pod does not see does not hold, however young.
        (vec![own("old", vec![]), own("young", to(&["bank"]))], "old.test", "young"),
        (vec![own("old", vec![Same]), own("young", vec![]), own("far", to(&["x"]))], "young.test", "old far"),
        // One that selects the pod holds, and is exported to nobody whatever it says.
        (
            vec![own("mine", vec![]).selecting("app=a"), own("old", vec![Same]), own("young", vec![])],
            "mine.test",
            "old",
        ),
        (vec![own("s1", vec![]).selecting("app=a"), own("s2", vec![Same]).selecting("app=a")], "s1.test", "s2"),
        // Another namespace's.
        (vec![theirs("old", vec![All]), theirs("young", to(&["shop"]))], "young.test", ""),
        (vec![theirs("old", vec![]), theirs("young", to(&["x"]))], "old.test", ""),
        (vec![theirs("old", vec![]), theirs("young", vec![Same])], "old.test", ""),
        // Seen by more than the one that it is merged into: by itself where that is not seen.
        (vec![theirs("old", to(&["x"])), theirs("young", to(&["x", "shop"]))], "young.test", ""),
        (vec![theirs("old", to(&["shop"])), theirs("young", to(&["x", "shop"]))], "old.test", ""),
    ] {
        let names: Vec<&str> = rules.iter().map(|rule| rule.meta.name.as_str()).collect();
        let names = names.join(", ");
        let entries = vec![entry(&[host], &[], Dns).with_target(80, Http, 443).within("bank", vec![])];
        let (found, warnings) = only(entries, rules);
        assert_eq!(found, expected, "{names}");
        for name in silenced.split_whitespace() {
            let is_told = |w: &String| w.starts_with(&format!("{name}.yaml")) && w.contains("of this DestinationRule");
            let is_whole = |w: &String| w.starts_with(&format!("{name}.yaml")) && w.contains("this DestinationRule ");
            assert!(warnings.iter().any(|w| is_told(w) || is_whole(w)), "{names}: {name} is not told in {warnings:?}");
        }
        let told = warnings.iter().filter(|w| w.contains("this DestinationRule")).count();
        assert_eq!(told, silenced.split_whitespace().count(), "{names}: {warnings:?}");
    }
}

#[test]
fn hosts_of_rules() {
    let wildcard = || vec![entry(&["*.example.com"], &[], Original).with_target(80, Http, 443)];
    for (host, expected) in [
        ("*.example.com", "r.test"),
        ("*.com", "r.test"),
        ("*", "r.test"),
        ("www.example.com", "plain"),
        ("*.www.example.com", "plain"),
    ] {
        assert_eq!(only(wildcard(), vec![rule("r", host)]).0, expected, "{host}");
    }
    // A short name means a service of the rule's namespace.
    let service = vec![entry(&["db.shop.svc.cluster.local"], &[], Dns).with_target(80, Http, 443)];
    assert_eq!(only(service, vec![rule("r", "db")]).0, "r.test");
}

#[test]
fn a_port_entry_replaces_everything() {
    let pool = ConnectionPool { max_connections: Some(7), ..ConnectionPool::default() };
    let mut general = rule("general", "a.test");
    general.traffic_policy.as_mut().unwrap().all.connection_pool = Some(pool);
    let entries = || vec![entry(&["a.test"], &[], Dns).with_target(80, Http, 443).with_target(81, Http, 443)];
    let (table, warnings) = compiled_with(entries(), vec![general.clone().on_port(81, PortPolicy::default())]);
    let seen: Vec<_> = table.clusters().iter().map(|c| (leaves(c), c.limits.max_connections)).collect();
    assert_eq!(seen, [("general.test".to_owned(), Some(7)), ("plain".to_owned(), None)]);
    assert!(warnings.iter().any(|w| w.contains("port 81 replace the whole trafficPolicy")), "{warnings:?}");

    let (table, warnings) = compiled_with(entries(), vec![general.on_port(81, with_tls(tls(TlsMode::Disable)))]);
    assert_eq!(leaves(&table.clusters()[1]), "plain");
    assert!(!warnings.iter().any(|w| w.contains("replace the whole")), "{warnings:?}");
}

/// The document's own resources: the rule touches port 80 only, and 443 stays the application's TLS.
#[test]
fn the_documented_example() {
    let origination = || with_tls(tls(TlsMode::Simple));
    let cnn = |target| {
        let cnn = entry(&["edition.cnn.com"], &[], Dns);
        cnn.with_target(80, Http, target).with_port(443, Https)
    };
    let by_port = || rule("simple", "edition.cnn.com").silent().on_port(80, origination());
    let (table, warnings) = compiled_with(vec![cnn(443)], vec![by_port()]);
    let seen: Vec<_> = table.clusters().iter().map(|c| (c.name.as_str(), leaves(c))).collect();
    assert_eq!(
        seen,
        [
            ("outbound|80||edition.cnn.com", "from host".to_owned()),
            ("outbound|443||edition.cnn.com", "plain".to_owned())
        ]
    );
    assert_eq!(table.clusters()[0].tls_request.as_ref().unwrap().names, NameCheck::FromHost);
    // Material that cannot be had refuses the cluster that needs it, and no other.
    assert!(matches!(&table.clusters()[0].transport, Transport::Refused(why) if **why == *NOT_LOADED));
    assert!(matches!(&table.clusters()[1].transport, Transport::Plaintext));
    assert_eq!(warnings, [""; 0]);

    // targetPort forgotten.
    let (_, warnings) = compiled_with(vec![cnn(80)], vec![by_port()]);
    assert!(warnings[0].contains("WRONG_VERSION_NUMBER") && warnings[0].starts_with("port-80.yaml"), "{warnings:?}");

    // The block stands at the top and so holds for 443 as well.
    let (table, warnings) = compiled_with(vec![cnn(443)], vec![rule("top", "edition.cnn.com")]);
    assert_eq!(leaves(&table.clusters()[0]), "top.test");
    assert!(matches!(&table.clusters()[1].transport, Transport::Refused(why) if why.contains("portLevelSettings")));
    assert!(warnings.iter().any(|w| w.contains("already speaks TLS on port 443")), "{warnings:?}");
}

#[test]
fn secrets_need_a_selector() {
    let secret = || rule("r", "a.test").with(|tls| tls.credential_name = Some("client".to_owned()));
    let entries = || vec![entry(&["a.test"], &[], Dns).with_target(80, Http, 443)];
    let (how, warnings) = only(entries(), vec![secret()]);
    assert_eq!(how, "refused");
    assert!(warnings[0].contains("workloadSelector"), "{warnings:?}");
    assert_eq!(only(entries(), vec![secret().selecting("app=a")]).0, "r.test");
}

/// An undeclared port is three clusters of one name: requests, bytes, and the application's own TLS.
#[test]
fn undeclared_ports() {
    let entries = || vec![entry(&["a.test"], &[], Dns).with_target(70, Auto, 443)];
    let automatic = || rule("r", "a.test").with(|tls| tls.sni = None);
    let (table, warnings) = compiled_with(entries(), vec![automatic()]);
    let seen: Vec<_> = table.clusters().iter().map(|cluster| leaves(cluster)).collect();
    assert_eq!(seen, ["from host", "no sni", "refused"]);
    let alpn: Vec<_> = table.clusters().iter().flat_map(|c| &c.tls_request).map(|request| request.alpn).collect();
    assert_eq!(alpn, [Alpn::HTTP1, Alpn::NONE]);
    assert!(table.clusters().iter().all(|cluster| cluster.name == "outbound|70||a.test"));
    assert!(table.clusters().iter().enumerate().all(|(at, cluster)| cluster.index == at));
    assert!(warnings.len() == 1 && warnings[0].contains("port 70 has no protocol"), "{warnings:?}");
    let (table, _) = compiled_with(entries(), vec![]);
    assert_eq!(table.clusters().iter().map(|cluster| leaves(cluster)).collect::<Vec<_>>(), ["plain", "plain"]);
}

#[test]
fn warnings() {
    let web = || entry(&["a.test"], &[], Dns).with_target(80, Http, 443);
    let safe = || rule("r", "a.test").with(|tls| tls.subject_alt_names = vec!["a.test".to_owned()]);
    for (entries, rules, expected) in [
        (vec![web()], vec![safe()], None),
        (vec![web()], vec![rule("r", "a.test")], Some("tls.yaml:1:1: an explicit `sni` switches the check")),
        (vec![web()], vec![safe().with(|t| t.insecure_skip_verify = true)], Some("tls.yaml:1:1: insecureSkipVerify")),
        (vec![web()], vec![safe(), safe_named("late")], Some("late.yaml:1:1: the trafficPolicy of this")),
        (vec![web()], vec![rule("r", "b.test")], Some("r.yaml:1:1: no ServiceEntry has the host b.test")),
        (
            vec![entry(&["*.test"], &[], Original).with_target(80, Http, 443)],
            vec![rule("r", "b.test")],
            Some("the entry's host is *.test, and a rule must name that"),
        ),
        (
            vec![web()],
            vec![safe().on_port(443, with_tls(tls(TlsMode::Simple)))],
            Some("portLevelSettings for port 443 have no effect: the ServiceEntry of a.test has port 80"),
        ),
        (vec![web()], vec![safe().selecting("app=z")], Some("r.yaml:1:1: this DestinationRule does not apply here")),
        (vec![entry(&["a.test"], &[], Dns).with_port(9, Tcp)], vec![], Some("takes every connection to port 9")),
        (vec![entry(&["a.test"], &["9.9.9.9"], Dns).with_port(9, Tcp)], vec![], None),
        (vec![entry(&["a.test"], &[], Dns).with_port(443, Http)], vec![], Some("port 443 is declared as plain HTTP")),
        (
            vec![entry(&["a.test"], &[], Dns).with_port(443, Http)],
            vec![rule("r", "a.test").with(|tls| tls.subject_alt_names = vec!["a.test".to_owned()])],
            None,
        ),
        (
            vec![entry(&["a.test"], &["9.0.0.0/8"], Original).with_port(80, Http)],
            vec![],
            Some("`addresses` are not matched on the HTTP port 80"),
        ),
        (
            vec![entry(&["a.test"], &["9.9.9.9"], Dns).with_port(9, Tcp)],
            vec![rule("r", "a.test").with(|tls| tls.sni = None)],
            Some("there is no host to send as SNI"),
        ),
        (
            vec![entry(&["a.test"], &[], Static).with_port(80, Http).with_ip("10.0.0.1").with_ip("10.0.0.2")],
            vec![watching("a.test")],
            Some(
                "outliers.yaml:1:1: no endpoint will be ejected: 10 % (maxEjectionPercent, 10 if unset) of 2 is less than one; write at least 50",
            ),
        ),
        (
            vec![entry(&["a.test"], &[], Original).with_port(80, Http)],
            vec![watching("a.test")],
            Some("outliers.yaml:1:1: outlierDetection has no effect on connections to the address"),
        ),
        (
            vec![entry(&["*.test"], &[], DynamicDns).with_port(443, Https)],
            vec![],
            Some("port 443 is left out: resolution DYNAMIC_DNS needs protocol HTTP, HTTP2, GRPC or TLS"),
        ),
    ] {
        let (_, found) = compiled_with(entries, rules);
        match expected {
            None => assert_eq!(found, [""; 0]),
            Some(text) => assert!(found.iter().any(|w| w.contains(text)), "{text}\nnot in {found:?}"),
        }
    }
}

fn safe_named(name: &str) -> DestinationRule {
    rule(name, "a.test").with(|tls| tls.subject_alt_names = vec!["a.test".to_owned()])
}

fn watching(host: &str) -> DestinationRule {
    let policy = PortPolicy { outlier_detection: Some(outliers()), ..PortPolicy::default() };
    let mut watching = rule("watching", host);
    watching.traffic_policy.as_mut().expect("the fixture has a policy").all = policy;
    watching
}

/// `-` for the original destination; otherwise address:port*weight each.
fn shown(endpoints: &Endpoints) -> String {
    match endpoints {
        Endpoints::OriginalDst { port_override: Some(port) } => format!("-:{port}"),
        Endpoints::OriginalDst { port_override: None } => "-".to_owned(),
        Endpoints::ByName { port_override: Some(port) } => format!("name:{port}"),
        Endpoints::ByName { port_override: None } => "name".to_owned(),
        Endpoints::Resolved(sources) => {
            let each = sources.iter().map(|source| {
                let first = if source.first_only { " first" } else { "" };
                match &source.configured {
                    EndpointAddress::Ip(ip) => format!("{ip}:{}*{}{first}", source.port, source.weight),
                    EndpointAddress::Name(name) => format!("{name}:{}*{}{first}", source.port, source.weight),
                    EndpointAddress::Unix(path) => path.clone(),
                }
            });
            each.collect::<Vec<_>>().join(" ")
        }
    }
}

#[test]
fn endpoint_choice() {
    let ip = |text: &str| EndpointAddress::Ip(text.parse().unwrap());
    let dns = |text: &str| EndpointAddress::Name(name(text));
    let unix = || EndpointAddress::Unix("unix:///run/x".to_owned());
    let of = |resolution| entry(&["a.test"], &[], resolution);
    for (made, expected) in [
        (of(Original).with_port(80, Http), "-"),
        (of(Original).with_target(80, Http, 80), "-:80"),
        (of(Original).with_target(80, Http, 443), "-:443"),
        (of(DynamicDns).with_port(80, Http), "name"),
        (of(DynamicDns).with_target(80, Http, 443), "name:443"),
        (of(Dns).with_port(80, Http), "a.test:80*1"),
        (of(Dns).with_target(80, Http, 443), "a.test:443*1"),
        (of(DnsRoundRobin).with_target(80, Http, 443), "a.test:443*1 first"),
        (of(Dns).with_port(80, Http).with_endpoint(dns("b.test"), &[], 3), "b.test:80*3"),
        (of(Dns).with_target(80, Http, 443).with_endpoint(dns("b.test"), &[("p80", 8443)], 1), "b.test:8443*1"),
        (of(Dns).with_target(80, Http, 443).with_endpoint(dns("b.test"), &[("p81", 8443)], 1), "b.test:443*1"),
        (
            of(Static).with_port(80, Grpc).with_endpoint(ip("10.0.0.1"), &[], 0).with_endpoint(ip("::1"), &[], 5),
            "10.0.0.1:80*1 ::1:80*5",
        ),
        (of(Static).with_port(80, Http).with_endpoint(unix(), &[], 1).with_ip("10.0.0.1"), "10.0.0.1:80*1"),
    ] {
        let (table, _) = compiled_with(vec![made], vec![]);
        assert_eq!(shown(&table.clusters()[0].endpoints), expected);
    }
    for made in [
        of(Static).with_port(80, Http),
        of(Static).with_port(80, Http).with_endpoint(unix(), &[], 1),
        entry(&["*.a.test"], &[], Dns).with_port(80, Http),
    ] {
        let (how, warnings) = only(vec![made], vec![]);
        assert_eq!(how, "refused");
        assert!(warnings.iter().any(|w| w.contains("is refused on port 80")), "{warnings:?}");
    }
    // PASSTHROUGH balancing means the address that was dialled.
    let mut passthrough = rule("r", "a.test");
    passthrough.traffic_policy.as_mut().unwrap().all.load_balancer =
        Some(LoadBalancing { by: LoadBalancer::Passthrough, ..LoadBalancing::default() });
    let (table, _) = compiled_with(vec![of(Dns).with_target(80, Http, 443)], vec![passthrough]);
    assert_eq!(shown(&table.clusters()[0].endpoints), "-:443");
}

#[test]
fn limits_have_defaults() {
    let limits = |pool: ConnectionPool| {
        let mut pooled = rule("r", "a.test");
        pooled.traffic_policy.as_mut().unwrap().all.connection_pool = Some(pool);
        let (table, _) = compiled_with(vec![entry(&["a.test"], &[], Dns).with_port(80, Http)], vec![pooled]);
        table.clusters()[0].limits.clone()
    };
    let zero = Some(Duration::ZERO);
    let unset = limits(ConnectionPool::default());
    assert_eq!(unset.connect_timeout, None);
    assert_eq!(unset.http_idle_timeout, Duration::from_secs(60));
    assert_eq!(unset.tcp_idle_timeout, Some(Duration::from_secs(3600)));
    assert_eq!((unset.max_connections, unset.max_requests_per_connection), (None, None));
    let zeroes = limits(ConnectionPool {
        max_connections: Some(0),
        connect_timeout: zero,
        tcp_idle_timeout: zero,
        http_idle_timeout: zero,
        max_requests_per_connection: Some(0),
        ..ConnectionPool::default()
    });
    assert_eq!(zeroes.tcp_idle_timeout, None);
    assert_eq!(zeroes, PoolLimits { tcp_idle_timeout: None, ..unset });
}

#[test]
fn origins_name_their_documents() {
    let entries = vec![entry(&["a.test"], &[], Dns).with_target(80, Http, 443).within("bank", vec![])];
    let trusted = rule("r", "a.test").with(|tls| tls.ca_certificates = Some(PathBuf::from("/ca.pem")));
    let (table, _) = compiled_with(entries, vec![trusted]);
    let origin = &table.clusters()[0].origin;
    assert_eq!(origin.service_entry.to_string(), "bank/a.test (a.test.yaml:1:1)");
    assert_eq!(origin.destination_rule.as_ref().unwrap().at, place("r"));
    assert_eq!(origin.destination_rule.as_ref().unwrap().namespace, "shop");
}
