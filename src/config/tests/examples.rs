//! Every example parses without a word, says what it seems to say, and is the same tree to another YAML reader.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::config::scalar::{self, Plain};
use crate::config::yaml::{Node, Value, documents};
use crate::config::{
    EndpointAddress, HostPattern, LoadBalancer, Loaded, OutboundPolicy, PortProtocol, Resolution, SETTINGS, Settings,
    TlsMode, load,
};

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config/examples")
}

fn example(name: &str) -> Loaded {
    let loaded = load(&[examples().join(name)]);
    assert_eq!(loaded.problems, [], "{name}");
    loaded
}

fn all_examples() -> Vec<PathBuf> {
    let folders = [examples(), examples().join("egress-tls-origination")];
    let entries = folders.iter().flat_map(|folder| fs::read_dir(folder).unwrap());
    let files: Vec<_> = entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file()).collect();
    assert!(files.len() >= 7, "{files:?}");
    files
}

#[test]
fn are_all_sound() {
    for file in all_examples() {
        assert_eq!(load(std::slice::from_ref(&file)).problems, [], "{}", file.display());
    }
}

#[test]
fn access() {
    let resources = example("egress-tls-origination/access.yaml").resources;
    let [entry] = &resources.service_entries[..] else { panic!("{resources:?}") };
    assert_eq!(entry.meta.name, "edition-cnn-com");
    assert_eq!(entry.meta.namespace, None);
    assert_eq!(entry.hosts, [HostPattern::Exact("edition.cnn.com".parse().unwrap())]);
    assert_eq!(entry.resolution, Resolution::Dns);
    let ports: Vec<_> = entry.ports.iter().map(|p| (p.number, p.name.as_str(), p.protocol, p.target_port)).collect();
    let expected = [(80, "http-port", PortProtocol::Http, None), (443, "https-port", PortProtocol::Https, None)];
    assert_eq!(ports, expected);
    assert_eq!((entry.meta.at.line, entry.ports[1].at.line, entry.ports[1].at.column), (2, 12, 5));
}

#[test]
fn forward_proxy() {
    let resources = example("forward-proxy.yaml").resources;
    let policy = resources.destination_rules[0].traffic_policy.as_ref().unwrap();
    assert_eq!(policy.all.tunnel.as_ref().map(ToString::to_string).as_deref(), Some("api.example.com:443"));
    assert_eq!(policy.all.tls.as_ref().map(|tls| tls.mode), Some(TlsMode::Simple));
}

#[test]
fn simple() {
    let resources = example("egress-tls-origination/simple.yaml").resources;
    assert_eq!(resources.service_entries[0].ports[0].target_port, Some(443));
    let [rule] = &resources.destination_rules[..] else { panic!("{resources:?}") };
    let policy = rule.traffic_policy.as_ref().unwrap();
    assert!(policy.all.tls.is_none());
    let [(80, port)] = &policy.ports[..] else { panic!("{policy:?}") };
    let tls = port.tls.as_ref().unwrap();
    assert_eq!(tls.mode, TlsMode::Simple);
    assert_eq!((tls.at.line, tls.at.column), (28, 7));
    assert!(tls.credential_name.is_none() && tls.sni.is_none() && !tls.insecure_skip_verify);
}

#[test]
fn mutual() {
    let resources = example("egress-tls-origination/mutual.yaml").resources;
    let rule = &resources.destination_rules[0];
    let selector = rule.workload_selector.as_ref().unwrap();
    assert_eq!(selector.get("app").map(String::as_str), Some("sleep"));
    let policy = rule.traffic_policy.as_ref().unwrap();
    assert_eq!(policy.all.load_balancer.as_ref().map(|balancing| balancing.by), Some(LoadBalancer::RoundRobin));
    let tls = policy.ports[0].1.tls.as_ref().unwrap();
    assert_eq!(tls.mode, TlsMode::Mutual);
    assert_eq!(tls.credential_name.as_deref(), Some("client-credential"));
    assert_eq!(tls.sni.as_ref().unwrap().as_str(), "my-nginx.mesh-external.svc.cluster.local");
}

#[test]
fn registry_only() {
    let resources = example("registry-only.yaml").resources;
    assert_eq!(resources.sidecars[0].outbound_traffic_policy, Some(OutboundPolicy::RegistryOnly));
    assert_eq!(resources.service_entries[1].hosts[0].to_string(), "*.storage.example");
}

#[test]
fn fixed_addresses() {
    let resources = example("static.yaml").resources;
    let endpoints = &resources.service_entries[0].endpoints;
    assert_eq!(endpoints[0].address, EndpointAddress::Ip("192.0.2.10".parse().unwrap()));
    assert_eq!((endpoints[0].weight, endpoints[1].weight, endpoints[1].ports["http"]), (2, 1, 8443));
    let policy = &resources.destination_rules[0].traffic_policy.as_ref().unwrap().ports[0].1;
    let pool = policy.connection_pool.as_ref().unwrap();
    assert_eq!(pool.connect_timeout, Some(Duration::from_secs(2)));
    assert_eq!(pool.tcp_keepalive.unwrap().time, Some(Duration::from_secs(300)));
    assert_eq!(pool.max_requests_per_connection, Some(1000));
    assert_eq!(policy.tls.as_ref().unwrap().ca_crl.as_deref(), Some(Path::new("/etc/egret/ledger/ca.crl")));
}

#[test]
fn tcp_origination() {
    let resources = example("tcp-origination.yaml").resources;
    assert_eq!(resources.service_entries[0].addresses, ["198.51.100.7/32".parse().unwrap()]);
    assert_eq!(resources.service_entries[0].ports[0].protocol, PortProtocol::Tcp);
}

#[test]
fn settings_show_every_field_at_its_default() {
    assert_eq!(example("settings.yaml").resources.settings, Settings::default());
    let text = fs::read_to_string(examples().join("settings.yaml")).unwrap();
    let spec = &serde_yaml::from_str::<serde_yaml::Value>(&text).unwrap()["spec"];
    for setting in SETTINGS {
        let value = setting.key.split('.').fold(spec, |value, name| &value[name]);
        assert!(!value.is_null(), "{} is missing from the example", setting.key);
    }
}

/// A second opinion: `serde_yaml` reads the same keys and values, in the same order, from every example.
#[test]
fn are_read_as_by_another_parser() {
    for file in all_examples() {
        let text = fs::read_to_string(&file).unwrap();
        let ours: Vec<_> = documents(&text).into_iter().map(|document| value(&document.root.unwrap())).collect();
        let theirs: Vec<_> =
            serde_yaml::Deserializer::from_str(&text).map(|d| serde_yaml::Value::deserialize(d).unwrap()).collect();
        assert_eq!(ours, theirs, "{}", file.display());
    }
}

fn value(node: &Node) -> serde_yaml::Value {
    match &node.value {
        Value::Scalar { text, plain: true } => match scalar::classify(text) {
            Plain::Null => serde_yaml::Value::Null,
            Plain::Boolean(boolean) => boolean.into(),
            Plain::Whole(number) => number.into(),
            Plain::Other(number) => number.into(),
            Plain::Text => text.as_str().into(),
        },
        Value::Scalar { text, plain: false } => text.as_str().into(),
        Value::Sequence(items) => items.iter().map(value).collect(),
        Value::Mapping(entries) => {
            let pairs = entries.iter().map(|entry| (entry.key.as_str().into(), value(&entry.value)));
            serde_yaml::Value::Mapping(pairs.collect())
        }
    }
}
