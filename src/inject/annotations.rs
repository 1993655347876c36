//! What the pod's annotations ask for: Istio's names, as far as they concern egress.
//!
//! A value that `egret init` would refuse is refused here, with its place, rather than in a pod that does not start.

use super::names::object_name;
use super::pod::Pod;
use super::quantity::nanos;
use super::remark::Remark;
use crate::config::UpstreamProtocol;
use crate::config::yaml::{self, Node, quoted};
use crate::redirect::capture::{Cidr, CommaList, Included, Interface, Port};

/// What differs from one pod to another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Annotations {
    /// Flags of `egret init`.
    pub init: Vec<String>,
    pub classic: bool,
    pub log_level: Option<&'static str>,
    /// `(requests or limits, cpu or memory, quantity)`.
    pub resources: Vec<(&'static str, &'static str, String)>,
    /// Secrets besides those of the options.
    pub secrets: Vec<String>,
    /// Whether lookups go to egret, where the pod says so.
    pub capture_dns: Option<bool>,
    /// Instead of the options' ConfigMap.
    pub config_map: Option<String>,
    /// A word of the setting `upstreamProtocol`.
    pub upstream_protocol: Option<&'static str>,
}

/// Annotations that concern what egret does not do; they may well be there for a reason.
const INBOUND: [&str; 2] = ["includeInboundPorts", "excludeInboundPorts"];

pub(super) fn read(pod: &Pod<'_>, classic: bool, notes: &mut Vec<Remark>, problems: &mut Vec<Remark>) -> Annotations {
    let mut found = Annotations { classic, ..Annotations::default() };
    for (name, node) in pod.annotations() {
        let read = match name.split_once('/') {
            Some(("traffic.sidecar.istio.io", what)) => traffic(what, node, &mut found),
            Some(("sidecar.istio.io", what)) => sidecar(what, node, &mut found),
            Some(("proxy.istio.io", "config")) => {
                found.capture_dns = captures_dns(node).or(found.capture_dns);
                Ok(true)
            }
            Some(("egret", what)) => own(what, node, &mut found),
            _ => Ok(true),
        };
        match read {
            Ok(true) if name == "sidecar.istio.io/logLevel" && node.text().is_some_and(|text| text.contains(':')) => {
                let message = format!("{name}: levels of Envoy's components have no effect with egret");
                notes.push(Remark::new(node.at, message));
            }
            Ok(true) => {}
            Ok(false) => notes.push(Remark::new(node.at, format!("{name} has no effect with egret"))),
            Err(why) => problems.push(Remark::new(node.at, format!("{name}: {why}"))),
        }
    }
    found
}

/// What a ProxyConfig, which is YAML in a text, says of Istio's DNS proxy; `None` where it says nothing.
fn captures_dns(config: &Node) -> Option<bool> {
    let said = |document: &yaml::Document| {
        let metadata = document.root.as_ref().and_then(|root| root.child("proxyMetadata"));
        let value = metadata.and_then(|metadata| metadata.child("ISTIO_META_DNS_CAPTURE")?.text())?;
        Some(value.eq_ignore_ascii_case("true") || value == "1")
    };
    yaml::documents(config.text()?).iter().find_map(said)
}

/// Whether the annotation has an effect.
fn traffic(what: &str, node: &Node, found: &mut Annotations) -> Result<bool, String> {
    let text = text(node)?;
    let flag = match what {
        "includeOutboundIPRanges" => text.parse::<Included>().map(|_| "include-outbound-cidrs"),
        "excludeOutboundIPRanges" => text.parse::<CommaList<Cidr>>().map(|_| "exclude-outbound-cidrs"),
        "includeOutboundPorts" => text.parse::<CommaList<Port>>().map(|_| "include-outbound-ports"),
        "excludeOutboundPorts" => text.parse::<CommaList<Port>>().map(|_| "exclude-outbound-ports"),
        "excludeInterfaces" => text.parse::<CommaList<Interface>>().map(|_| "exclude-interfaces"),
        _ => return Ok(INBOUND.contains(&what)),
    };
    found.init.push(format!("--{}={text}", flag?));
    Ok(true)
}

fn sidecar(what: &str, node: &Node, found: &mut Annotations) -> Result<bool, String> {
    let text = text(node)?;
    match (what, text) {
        ("inject", _) | ("interceptionMode", "REDIRECT") => {}
        ("interceptionMode", _) => return Err(format!("egret redirects; {} is not supported", quoted(text))),
        ("nativeSidecar", "true" | "false") => found.classic = text == "false",
        ("nativeSidecar", _) => return Err(format!("expected \"true\" or \"false\", found {}", quoted(text))),
        ("logLevel", _) => found.log_level = log_level(text)?,
        ("proxyCPU", _) => found.resources.push(("requests", "cpu", quantity(text)?)),
        ("proxyCPULimit", _) => found.resources.push(("limits", "cpu", quantity(text)?)),
        ("proxyMemory", _) => found.resources.push(("requests", "memory", quantity(text)?)),
        ("proxyMemoryLimit", _) => found.resources.push(("limits", "memory", quantity(text)?)),
        _ => return Ok(false),
    }
    Ok(true)
}

/// What Istio has no word for: it fetches Secrets from the API server, egret has them mounted.
fn own(what: &str, node: &Node, found: &mut Annotations) -> Result<bool, String> {
    let text = text(node)?;
    match what {
        "secrets" => {
            let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
            found.secrets = names.map(object_name).collect::<Result<_, _>>()?;
        }
        "config-map" => found.config_map = Some(object_name(text)?),
        "upstream-protocol" => {
            let word = UpstreamProtocol::ALL.iter().map(|(word, _)| *word).find(|word| *word == text);
            let wrong = || format!("expected DECLARED or AUTO, found {}", quoted(text));
            found.upstream_protocol = Some(word.ok_or_else(wrong)?);
        }
        _ => {
            let own = "no such annotation; egret's own are egret/secrets, egret/config-map and egret/upstream-protocol";
            return Err(own.to_owned());
        }
    }
    Ok(true)
}

fn text(node: &Node) -> Result<&str, String> {
    node.text().ok_or_else(|| "an annotation is text".to_owned())
}

/// Envoy's levels in egret's words. Of a list (`warning,upstream:debug`) the level that names no component of Envoy.
fn log_level(text: &str) -> Result<Option<&'static str>, String> {
    let Some(level) = text.split(',').map(str::trim).find(|part| !part.contains(':')) else { return Ok(None) };
    Ok(Some(match level {
        "trace" => "trace",
        "debug" => "debug",
        "info" => "info",
        "warning" | "warn" => "warn",
        "error" | "err" | "critical" | "off" => "error",
        _ => {
            return Err(format!(
                "expected trace, debug, info, warning, error, critical or off, found {}",
                quoted(level)
            ));
        }
    }))
}

fn quantity(text: &str) -> Result<String, String> {
    nanos(text).ok_or_else(|| format!("expected a quantity such as 100m or 128Mi, found {}", quoted(text)))?;
    Ok(text.to_owned())
}
