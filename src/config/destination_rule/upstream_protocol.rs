//! What servers are spoken to in over TLS that egret originates: `upstreamProtocol` of the Settings, and the annotation by
//! which a rule says it for its own host.
//!
//! Istio has no such choice: its sidecar offers one protocol, and a server without it fails.

use crate::config::metadata::Meta;
use crate::config::reader::{Object, Report};
use crate::config::yaml::quoted;

/// On a DestinationRule.
const ANNOTATION: &str = "egret/upstream-protocol";

/// What the servers of ports declared HTTP are spoken to in, where egret originates TLS to them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UpstreamProtocol {
    /// As ports and DestinationRules say, which is HTTP/1.1 where they say nothing: Istio's behaviour.
    #[default]
    Declared,
    /// What the server chooses of HTTP/2 and HTTP/1.1.
    Auto,
}

impl UpstreamProtocol {
    /// By the words for them.
    pub const ALL: &'static [(&'static str, Self)] = &[("DECLARED", Self::Declared), ("AUTO", Self::Auto)];
}

/// What the annotation of a rule says; a word that is none is an error of the rule.
pub(super) fn annotated(meta: &Meta, rule: &Object<'_>, report: &mut Report) -> Option<UpstreamProtocol> {
    let text = meta.annotations.get(ANNOTATION)?;
    let found = UpstreamProtocol::ALL.iter().find(|(word, _)| word == text);
    if found.is_none() {
        let message = format!("the annotation {ANNOTATION} is DECLARED or AUTO, found {}", quoted(text));
        rule.error(message, report);
    }
    found.map(|(_, value)| *value)
}
