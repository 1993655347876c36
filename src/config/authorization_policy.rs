//! `AuthorizationPolicy` (`security.istio.io`): its fields, and which of them can be judged where one pod's traffic leaves.
//!
//! What cannot be judged here is an error and not a warning: a DENY without one of its conditions would forbid more than
//! is written, an ALLOW without one would let more out.

use super::authorization::{
    AuthorizationAction, AuthorizationCondition, AuthorizationOperation, AuthorizationPolicy, AuthorizationRule,
    AuthorizationScope, AuthorizationSource, AuthorizationTarget, Wanted,
};
use super::document::{object_name, read_meta};
use super::names;
use super::reader::{Field, Object, Report};
use super::resources::{Location, Meta};
use super::service_entry::read_selector;
use super::text_pattern::TextPattern;
use super::yaml::quoted;

const ACTIONS: &[(&str, Option<AuthorizationAction>)] = &[
    ("ALLOW", Some(AuthorizationAction::Allow)),
    ("DENY", Some(AuthorizationAction::Deny)),
    ("AUDIT", Some(AuthorizationAction::Audit)),
    ("CUSTOM", None),
];

/// What identifies callers: there is one caller, and nothing of the kind is known of it.
const UNKNOWN_SOURCES: [&str; 10] = [
    "principals",
    "notPrincipals",
    "requestPrincipals",
    "notRequestPrincipals",
    "serviceAccounts",
    "notServiceAccounts",
    "ipBlocks",
    "notIpBlocks",
    "remoteIpBlocks",
    "notRemoteIpBlocks",
];

const DRY_RUN: &str = "istio.io/dry-run";

pub(super) fn read(mut object: Object<'_>, at: Location, report: &mut Report) -> Option<AuthorizationPolicy> {
    let meta = read_meta(&mut object, at, report);
    object.allow(&["status"]);
    let mut spec = match object.optional("spec") {
        Some(field) => Some(field.object(report)?),
        None => None,
    };
    object.finish(report);
    let mut scope = AuthorizationScope::Workloads(None);
    let mut action = Some(AuthorizationAction::default());
    let mut rules = Vec::new();
    if let Some(spec) = &mut spec {
        scope = read_scope(spec, report);
        action = read_action(spec, report);
        rules = spec.optional("rules").map(|field| read_rules(&field, report)).unwrap_or_default();
    }
    if let Some(spec) = spec {
        if action == Some(AuthorizationAction::Deny) && rules.is_empty() {
            spec.warning("a DENY without rules matches nothing; to deny everything write `rules: [{}]`", report);
        }
        spec.finish(report);
    }
    let meta = meta?;
    let dry_run = is_dry_run(&meta);
    Some(AuthorizationPolicy { meta, scope, action: action?, rules, dry_run })
}

fn is_dry_run(meta: &Meta) -> bool {
    meta.annotations.get(DRY_RUN).is_some_and(|value| value == "true")
}

fn read_action(spec: &mut Object<'_>, report: &mut Report) -> Option<AuthorizationAction> {
    if let Some(field) = spec.optional("provider") {
        field.key_error("external authorizers are not supported; remove it, and use ALLOW, DENY or AUDIT", report);
    }
    let Some(field) = spec.optional("action") else { return Some(AuthorizationAction::default()) };
    let action = field.choice(ACTIONS, report)?;
    if action.is_none() {
        field.error("CUSTOM needs an external authorizer, which is not supported; use ALLOW or DENY", report);
    }
    action
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

fn read_rules(field: &Field<'_>, report: &mut Report) -> Vec<AuthorizationRule> {
    let mut rules = Vec::new();
    for item in field.list(512, report) {
        let Some(mut rule) = item.object(report) else { continue };
        let from = rule.optional("from").map(|field| each(&field, report, read_from));
        let to = rule.optional("to").map(|field| each(&field, report, read_to));
        let when = rule.optional("when").map(|field| each(&field, report, read_condition)).unwrap_or_default();
        rule.finish(report);
        rules.push(AuthorizationRule { from, to, when });
    }
    rules
}

/// The items of a list that must not be empty: nobody knows what is meant by one that is.
fn each<T>(field: &Field<'_>, report: &mut Report, read: impl Fn(&Field<'_>, &mut Report) -> Option<T>) -> Vec<T> {
    let before = report.errors();
    let items = field.list(512, report);
    if items.is_empty() && report.errors() == before {
        field.error("must not be empty; remove it to ask for nothing", report);
    }
    items.iter().filter_map(|item| read(item, report)).collect()
}

fn read_from(item: &Field<'_>, report: &mut Report) -> Option<AuthorizationSource> {
    let mut object = item.object(report)?;
    let field = object.required("source");
    object.finish(report);
    let field = field?;
    let mut source = field.object(report)?;
    let errors = report.errors();
    for name in UNKNOWN_SOURCES {
        let Some(field) = source.optional(name) else { continue };
        field.key_error(
            "cannot be judged where one pod's traffic leaves: every request is that pod's; select pods by `selector`, or \
             ask for namespaces",
            report,
        );
    }
    let namespaces = wanted(&mut source, ["namespaces", "notNamespaces"], report, TextPattern::text);
    source.finish(report);
    if namespaces.asks_nothing() && report.errors() == errors {
        field.error("must ask for something: namespaces or notNamespaces", report);
    }
    Some(AuthorizationSource { namespaces })
}

fn read_to(item: &Field<'_>, report: &mut Report) -> Option<AuthorizationOperation> {
    let mut object = item.object(report)?;
    let field = object.required("operation");
    object.finish(report);
    let field = field?;
    let mut operation = field.object(report)?;
    let errors = report.errors();
    let found = AuthorizationOperation {
        hosts: wanted(&mut operation, ["hosts", "notHosts"], report, TextPattern::host),
        ports: wanted(&mut operation, ["ports", "notPorts"], report, port),
        methods: wanted(&mut operation, ["methods", "notMethods"], report, TextPattern::text),
        paths: wanted(&mut operation, ["paths", "notPaths"], report, TextPattern::path),
    };
    let nothing = found.hosts.asks_nothing()
        && found.ports.asks_nothing()
        && found.methods.asks_nothing()
        && found.paths.asks_nothing();
    operation.finish(report);
    if nothing && report.errors() == errors {
        field.error("must ask for something: hosts, ports, methods, paths or one of their not- forms", report);
    }
    Some(found)
}

fn read_condition(item: &Field<'_>, report: &mut Report) -> Option<AuthorizationCondition> {
    let mut object = item.object(report)?;
    let key = object.required("key").and_then(|field| Some((field.word(report)?, field)));
    let names = ["values", "notValues"];
    let found = match &key {
        None => {
            object.allow(&names);
            None
        }
        Some(("connection.sni", _)) => {
            Some(AuthorizationCondition::Sni(wanted(&mut object, names, report, TextPattern::host)))
        }
        Some(("destination.port", _)) => Some(AuthorizationCondition::Port(wanted(&mut object, names, report, port))),
        Some(("destination.ip", _)) => {
            Some(AuthorizationCondition::Address(wanted(&mut object, names, report, |text| {
                let network = names::network(text).map(|network| network.trunc());
                network.map_err(|_| "expected an IP address or a CIDR such as \"10.0.0.0/8\"".to_owned())
            })))
        }
        Some(("source.namespace", _)) => {
            Some(AuthorizationCondition::Namespace(wanted(&mut object, names, report, TextPattern::text)))
        }
        Some((key, field)) => {
            if let Some(name) = header(key) {
                let values = wanted(&mut object, names, report, TextPattern::text);
                Some(AuthorizationCondition::Header(name, values))
            } else {
                object.allow(&names);
                field.error(unknown_key(key), report);
                None
            }
        }
    };
    if key.is_some() && !names.iter().any(|name| object.has(name)) {
        item.error("must have values or notValues", report);
    }
    object.finish(report);
    found
}

/// The name in `request.headers[NAME]`, lower-case.
fn header(key: &str) -> Option<String> {
    let name = key.strip_prefix("request.headers[")?.strip_suffix(']')?;
    if name.eq_ignore_ascii_case("host") {
        // It is written in many ways: `hosts` knows them.
        return None;
    }
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    (!name.is_empty() && name.bytes().all(token)).then(|| name.to_ascii_lowercase())
}

fn unknown_key(key: &str) -> String {
    const KNOWN: &str = "request.headers[NAME], connection.sni, destination.ip, destination.port or source.namespace";
    let hint = match key {
        _ if key.starts_with("request.headers") => {
            "; write the field's name in brackets, and hosts, methods and paths into `to`"
        }
        _ if key.starts_with("source.") || key.starts_with("request.auth") || key == "remote.ip" => {
            "; every request is of one pod, of which nothing else is known"
        }
        _ => "",
    };
    format!("{} cannot be judged here; expected {KNOWN}{hint}", quoted(key))
}

/// The two lists of a field, each of which must not be empty where it is written.
fn wanted<T>(
    object: &mut Object<'_>,
    [any_of, none_of]: [&'static str; 2],
    report: &mut Report,
    parse: impl Fn(&str) -> Result<T, String> + Copy,
) -> Wanted<T> {
    let mut list = |name, report: &mut Report| {
        let field = object.optional(name);
        field.map(|field| {
            each(&field, report, |item, report| {
                let text = item.word(report)?;
                parse(text).map_err(|message| item.error(format!("{}: {message}", quoted(text)), report)).ok()
            })
        })
    };
    Wanted { any_of: list(any_of, report).unwrap_or_default(), none_of: list(none_of, report).unwrap_or_default() }
}

fn port(text: &str) -> Result<u16, String> {
    let number = text.parse::<u16>().ok().filter(|number| *number > 0 && text.bytes().all(|b| b.is_ascii_digit()));
    number.ok_or_else(|| "expected a port from 1 to 65535".to_owned())
}
