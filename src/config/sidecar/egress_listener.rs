//! `egress` of a Sidecar: which hosts of which namespaces its pods see, on which port.

use crate::config::names::{self, HostPattern};
use crate::config::reader::{Field, Report, Shape};
use crate::config::yaml::quoted;

/// One listener: what is seen there, and of nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EgressListener {
    /// `None` holds for every port that no other listener has.
    pub port: Option<u16>,
    pub hosts: Vec<ImportedHost>,
}

/// `namespace/host`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportedHost {
    pub from: ImportedFrom,
    pub host: HostPattern,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImportedFrom {
    /// `*`
    Anywhere,
    /// `.`, the namespace of the pod.
    Same,
    /// `~/*`
    Nowhere,
    Namespace(String),
    /// `~namespace`, or `~` before one host: what the others show is not seen from there, or from any namespace.
    Except(Option<String>),
}

pub(super) fn read_all(field: &Field<'_>, report: &mut Report) -> Vec<EgressListener> {
    let items = field.list(usize::MAX, report);
    let mut listeners: Vec<EgressListener> = Vec::new();
    for (item, number) in items.iter().zip(1..) {
        let Some(listener) = read(item, report) else { continue };
        match listener.port {
            None if number < items.len() => item.error("a listener without a port must be the last", report),
            Some(port) if listeners.iter().any(|other| other.port == Some(port)) => {
                item.error(format!("port {port} has two listeners; merge their hosts"), report);
            }
            _ => {}
        }
        listeners.push(listener);
    }
    listeners
}

fn read(item: &Field<'_>, report: &mut Report) -> Option<EgressListener> {
    let mut object = item.object(report)?;
    let port = object.optional("port").and_then(|field| {
        let mut port = field.object(report)?;
        let number = port.required("number").and_then(|number| number.port(report));
        port.allow(&["protocol", "name", "targetPort"]);
        port.finish(report);
        number
    });
    object.unsupported("bind", Shape::Word, report);
    object.unsupported("captureMode", Shape::Word, report);
    object.unsupported("tls", Shape::Any, report);
    let field = object.required("hosts");
    let hosts = field.as_ref().map(|field| field.list(usize::MAX, report)).unwrap_or_default();
    if let Some(field) = field.filter(Field::is_empty_list) {
        field.error("at least one host is required; \"~/*\" shows none", report);
    }
    let hosts = hosts.iter().filter_map(|host| read_host(host, report)).collect();
    object.finish(report);
    Some(EgressListener { port, hosts })
}

fn read_host(item: &Field<'_>, report: &mut Report) -> Option<ImportedHost> {
    let text = item.word(report)?;
    let Some((namespace, host)) = text.split_once('/') else {
        item.error(format!("{}: write namespace/host, such as \"./*\"", quoted(text)), report);
        return None;
    };
    let from = match namespace {
        "*" => ImportedFrom::Anywhere,
        "." => ImportedFrom::Same,
        "~" => ImportedFrom::Nowhere,
        name if names::is_dns_label(name) => ImportedFrom::Namespace(name.to_owned()),
        name if name.strip_prefix('~').is_some_and(names::is_dns_label) => {
            ImportedFrom::Except(Some(name[1..].to_owned()))
        }
        name => {
            let expected = "\"*\" (all), \".\" (this namespace), \"~\" (none), the name of a namespace or \"~\" and a name (all but it)";
            item.error(format!("expected {expected} before the slash, found {}", quoted(name)), report);
            return None;
        }
    };
    let host = names::host_pattern(host).map_err(|message| item.error(message, report)).ok()?;
    let from = match (from, &host) {
        (ImportedFrom::Nowhere, host) if *host != HostPattern::Any => ImportedFrom::Except(None),
        (from, _) => from,
    };
    Some(ImportedHost { from, host })
}
