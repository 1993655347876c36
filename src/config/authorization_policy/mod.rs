//! `AuthorizationPolicy` (`security.istio.io`): its fields, and which of them can be judged where one pod's traffic leaves.
//!
//! What cannot be judged here is an error for the pods that the policy is for, and not a warning: a DENY without one of its
//! conditions would forbid more than is written, an ALLOW without one would let more out. Whom it is for is known later.

mod rule;
mod text_pattern;

use std::collections::BTreeMap;

use crate::config::metadata::{Meta, object_name, read_meta, read_selector};
use crate::config::problem::{Location, Problem};
use crate::config::reader::{Field, Object, Report};
use crate::config::yaml::quoted;

pub use rule::{About, AuthorizationCondition, AuthorizationOperation, AuthorizationRule, AuthorizationSource, Wanted};
pub use text_pattern::TextPattern;

#[derive(Clone, Debug)]
pub struct AuthorizationPolicy {
    pub meta: Meta,
    pub scope: AuthorizationScope,
    pub action: AuthorizationAction,
    /// Any of them; none matches nothing.
    pub rules: Vec<AuthorizationRule>,
    /// Whose requests it is about.
    pub about: About,
    /// `istio.io/dry-run`: written to be looked at, not to hold.
    pub dry_run: bool,
    /// What cannot be judged where one pod's traffic leaves, each an error for the pods that the policy is for: its rules are
    /// not whole then.
    pub unjudged: Vec<Problem>,
}

/// What of a pod's traffic a policy speaks of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthorizationScope {
    /// Everything that the pods of its namespace send (of all namespaces, in the root one); with a selector, those pods'.
    Workloads(Option<BTreeMap<String, String>>),
    /// What goes to these entries of its own namespace; empty when only targets of other kinds are written.
    ServiceEntries(Vec<AuthorizationTarget>),
}

/// A ServiceEntry by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorizationTarget {
    pub name: String,
    pub at: Location,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AuthorizationAction {
    #[default]
    Allow,
    Deny,
    /// Changes nothing; what matches is told.
    Audit,
}

const ACTIONS: &[(&str, Option<AuthorizationAction>)] = &[
    ("ALLOW", Some(AuthorizationAction::Allow)),
    ("DENY", Some(AuthorizationAction::Deny)),
    ("AUDIT", Some(AuthorizationAction::Audit)),
    ("CUSTOM", None),
];

/// Only an AuthorizationPolicy may have this annotation.
pub(super) const DRY_RUN: &str = "istio.io/dry-run";

pub(super) fn read(mut object: Object<'_>, at: Location, report: &mut Report) -> Option<AuthorizationPolicy> {
    let errors_before = report.errors();
    let meta = read_meta(&mut object, at, report);
    object.allow(&["status"]);
    let mut spec = match object.optional("spec") {
        Some(field) => Some(field.object(report)?),
        None => None,
    };
    object.finish(report);
    let mut scope = AuthorizationScope::Workloads(None);
    let mut action = Some(AuthorizationAction::default());
    let (mut rules, mut asks_others) = (Vec::new(), false);
    if let Some(spec) = &mut spec {
        asks_others = spec.optional("action").is_some_and(|field| field.scalar() == Some("CUSTOM"));
        scope = read_scope(spec, report);
        action = read_action(spec, asks_others, report);
        rules = spec.optional("rules").map(|field| rule::read_all(&field, report)).unwrap_or_default();
    }
    if let Some(spec) = spec {
        if action == Some(AuthorizationAction::Deny) && !spec.has("rules") {
            spec.error("a DENY without rules matches nothing; to deny everything write `rules: [{}]`", report);
        } else if action == Some(AuthorizationAction::Deny) && rules.is_empty() {
            spec.warning("a DENY without rules matches nothing; to deny everything write `rules: [{}]`", report);
        }
        spec.finish(report);
    }
    let unjudged = report.take_aside();
    if report.errors() > errors_before {
        // Every mistake is told at once.
        report.add_all(unjudged);
        return None;
    }
    let meta = meta?;
    let dry_run = read_dry_run(&meta, action, report)?;
    let about = about(&scope, &rules, asks_others);
    Some(AuthorizationPolicy { meta, scope, action: action?, rules, about, dry_run, unjudged })
}

/// In Istio a policy without targets is about what comes to a pod. One with a rule that asks for callers, or with an external
/// authorizer, is meant for nothing else, unless it says where requests go.
fn about(scope: &AuthorizationScope, rules: &[AuthorizationRule], asks_others: bool) -> About {
    let AuthorizationScope::Workloads(_) = scope else { return About::Any };
    let is_incoming = |rule: &AuthorizationRule| match rule.about {
        About::Incoming => true,
        About::Any => asks_others,
        About::Leaving => false,
    };
    let is_leaving = rules.iter().any(|rule| rule.about == About::Leaving);
    if !is_leaving && rules.iter().any(is_incoming) { About::Incoming } else { About::Any }
}

/// `None`, and a complaint, where the annotation says neither yes nor no as Go reads it, or stands beside another action.
fn read_dry_run(meta: &Meta, action: Option<AuthorizationAction>, report: &mut Report) -> Option<bool> {
    let Some(value) = meta.annotations.get(DRY_RUN) else { return Some(false) };
    let at = meta.place();
    match (value.as_str(), action) {
        (_, Some(AuthorizationAction::Audit)) => {
            report.error(at, format!("the annotation {DRY_RUN} is for action ALLOW and DENY alone"));
            None
        }
        ("1" | "t" | "T" | "TRUE" | "true" | "True", _) => Some(true),
        ("0" | "f" | "F" | "FALSE" | "false" | "False", _) => Some(false),
        (other, _) => {
            report.error(at, format!("the annotation {DRY_RUN} is true or false, found {}", quoted(other)));
            None
        }
    }
}

fn read_action(spec: &mut Object<'_>, is_custom: bool, report: &mut Report) -> Option<AuthorizationAction> {
    match spec.optional("provider") {
        Some(field) if is_custom => {
            field.key_set_aside(
                "external authorizers are not supported; remove it, and use ALLOW, DENY or AUDIT",
                report,
            );
        }
        Some(field) => field.key_error("only a policy with action CUSTOM has a provider; remove it", report),
        None if is_custom => spec.error("action CUSTOM needs provider.name", report),
        None => {}
    }
    let Some(field) = spec.optional("action") else { return Some(AuthorizationAction::default()) };
    let action = field.choice(ACTIONS, report)?;
    if action.is_none() {
        field.set_aside("CUSTOM needs an external authorizer, which is not supported; use ALLOW or DENY", report);
    }
    action.or(Some(AuthorizationAction::default()))
}

fn read_scope(spec: &mut Object<'_>, report: &mut Report) -> AuthorizationScope {
    let selector = spec.optional("selector");
    let one = spec.optional("targetRef");
    let many = spec.optional("targetRefs");
    let mut written = Vec::new();
    if let Some(field) = &one {
        written.push(field.clone());
    }
    if let Some(field) = &many {
        let items = field.list(16, report);
        if items.is_empty() {
            field.error("an empty list targets nothing; remove it to speak of everything", report);
        }
        written.extend(items);
    }
    if one.is_some() && many.is_some() {
        spec.error("only one of targetRef and targetRefs may be set", report);
    }
    match selector {
        Some(field) if one.is_some() || many.is_some() => {
            field.key_error("only one of selector and targetRefs may be set", report);
            AuthorizationScope::ServiceEntries(Vec::new())
        }
        Some(field) => AuthorizationScope::Workloads(read_selector(&field, "matchLabels", report)),
        None if written.is_empty() && many.is_none() => AuthorizationScope::Workloads(None),
        None => {
            AuthorizationScope::ServiceEntries(written.iter().filter_map(|field| read_target(field, report)).collect())
        }
    }
}

/// `None` for a target that is not a ServiceEntry: its policy holds there, and not at the egress of a pod.
fn read_target(field: &Field<'_>, report: &mut Report) -> Option<AuthorizationTarget> {
    const GROUP: &str = "networking.istio.io";
    let mut object = field.object(report)?;
    let group = object.optional_text("group", report).map_or("", |(_, text)| text);
    let kind = object.required("kind").and_then(|field| Some((field.word(report)?, field)));
    let name = object.required("name").and_then(|field| object_name(&field, report));
    if let Some((field, _)) = object.optional_text("namespace", report) {
        field.key_error("a target is always of the policy's own namespace; remove it", report);
    }
    object.finish(report);
    let (kind, kind_field) = kind?;
    match (group, kind) {
        (GROUP, "ServiceEntry") => Some(AuthorizationTarget { name: name?, at: report.location(field.at()) }),
        (_, "ServiceEntry") => {
            field.error(format!("a ServiceEntry is of group {GROUP}, found {}", quoted(group)), report);
            None
        }
        ("gateway.networking.k8s.io", "Gateway" | "GatewayClass") | ("" | "core", "Service") => {
            kind_field.warning(
                format!("a policy for a {kind} has no effect here: only ServiceEntry targets are judged"),
                report,
            );
            None
        }
        _ => {
            kind_field.error(format!("expected ServiceEntry (group {GROUP}), found {}", quoted(kind)), report);
            None
        }
    }
}
