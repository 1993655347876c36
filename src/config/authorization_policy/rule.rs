//! The rules of an `AuthorizationPolicy`: of which requests it speaks. How they are judged is `policy`'s concern.
//!
//! Conditions that mean nothing at the egress of one pod are errors, because a policy that silently asks for less than its
//! author wrote would let traffic out.

use std::path::Path;

use ipnet::IpNet;

use super::text_pattern::TextPattern;
use crate::config::names;
use crate::config::reader::{Field, Object, Report};
use crate::config::yaml::quoted;

/// Each part must hold; a part that is not written does.
#[derive(Clone, Debug, Default)]
pub struct AuthorizationRule {
    /// Any of them.
    pub from: Option<Vec<AuthorizationSource>>,
    /// Any of them.
    pub to: Option<Vec<AuthorizationOperation>>,
    /// All of them.
    pub when: Vec<AuthorizationCondition>,
    /// Whom it is about.
    pub about: About,
}

/// Whose requests a rule is about, as far as its conditions show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum About {
    #[default]
    Any,
    /// Those that come in: each must be of a caller whom only its receiver can tell, and nothing says where they go.
    Incoming,
    /// It says where they go.
    Leaving,
}

/// Of where a request comes from, the namespace is all that is known of the one pod that egret serves.
#[derive(Clone, Debug, Default)]
pub struct AuthorizationSource {
    pub namespaces: Wanted<TextPattern>,
}

/// Every field that is written must hold.
#[derive(Clone, Debug, Default)]
pub struct AuthorizationOperation {
    /// Of the request's host in its normal form, without a port.
    pub hosts: Wanted<TextPattern>,
    /// That the application dials.
    pub ports: Wanted<u16>,
    pub methods: Wanted<TextPattern>,
    /// Of the path without its query, in its normal form and without path parameters.
    pub paths: Wanted<TextPattern>,
}

/// A list of which one must match and a list of which none may; an empty one asks for nothing.
#[derive(Clone, Debug)]
pub struct Wanted<T> {
    pub any_of: Vec<T>,
    pub none_of: Vec<T>,
}

impl<T> Default for Wanted<T> {
    fn default() -> Self {
        Self { any_of: Vec::new(), none_of: Vec::new() }
    }
}

impl<T> Wanted<T> {
    #[must_use]
    pub fn asks_nothing(&self) -> bool {
        self.any_of.is_empty() && self.none_of.is_empty()
    }
}

/// One entry of `when`.
#[derive(Clone, Debug)]
pub enum AuthorizationCondition {
    /// `request.headers[NAME]`, by its lower-case name.
    Header(String, Wanted<TextPattern>),
    /// `connection.sni`
    Sni(Wanted<TextPattern>),
    /// `destination.port`: that the application dials.
    Port(Wanted<u16>),
    /// `destination.ip`: that the application dials.
    Address(Wanted<IpNet>),
    /// `source.namespace`
    Namespace(Wanted<TextPattern>),
}

/// What identifies callers: there is one caller, and nothing of the kind is known of it.
const UNKNOWN_SOURCES: [&str; 12] = [
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
    "trustDomains",
    "notTrustDomains",
];

pub(super) fn read_all(field: &Field<'_>, report: &mut Report) -> Vec<AuthorizationRule> {
    let mut rules = Vec::new();
    for item in field.list(512, report) {
        let Some(mut rule) = item.object(report) else { continue };
        let about = about(&mut rule);
        let from = rule.optional("from").map(|field| each(&field, report, read_from));
        let to = rule.optional("to").map(|field| each(&field, report, read_to));
        let when = rule.optional("when").map(|field| each(&field, report, read_condition)).unwrap_or_default();
        rule.finish(report);
        rules.push(AuthorizationRule { from, to, when, about });
    }
    rules
}

/// What is wrong with it is told elsewhere.
fn about(rule: &mut Object<'_>) -> About {
    let unheard = &mut Report::new(Path::new(""));
    let mut items = |name| rule.optional(name).map(|field| field.list(512, unheard)).unwrap_or_default();
    let (from, to, when) = (items("from"), items("to"), items("when"));
    let key = |item: &Field<'_>| item.child("key").and_then(|key| key.scalar()).unwrap_or_default().to_owned();
    let keys: Vec<String> = when.iter().map(key).collect();
    let has = |item: &Field<'_>, of: &str, names: &[&str]| {
        item.child(of).is_some_and(|within| names.iter().any(|name| within.child(name).is_some()))
    };
    let names_caller = !from.is_empty() && from.iter().all(|item| has(item, "source", &UNKNOWN_SOURCES))
        || keys.iter().any(|key| tells_caller(key));
    let names_destination = to.iter().any(|item| has(item, "operation", &["hosts", "notHosts"]))
        || keys.iter().any(|key| matches!(key.as_str(), "connection.sni" | "destination.ip"));
    match (names_destination, names_caller) {
        (true, _) => About::Leaving,
        (false, true) => About::Incoming,
        (false, false) => About::Any,
    }
}

/// Whether a key of `when` is about who sends, beyond the namespace.
fn tells_caller(key: &str) -> bool {
    let of_source = key.strip_prefix("source.").is_some_and(|what| what != "namespace");
    of_source || key.starts_with("request.auth.") || key == "remote.ip"
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
    let complaints = report.complaints();
    for name in UNKNOWN_SOURCES {
        let Some(field) = source.optional(name) else { continue };
        field.key_set_aside(
            "cannot be judged where one pod's traffic leaves: every request is that pod's; select pods by `selector`, or \
             ask for namespaces",
            report,
        );
    }
    let namespaces = patterns(&mut source, ["namespaces", "notNamespaces"], report, TextPattern::text);
    source.finish(report);
    if namespaces.asks_nothing() && report.complaints() == complaints {
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
    let complaints = report.complaints();
    let found = AuthorizationOperation {
        hosts: patterns(&mut operation, ["hosts", "notHosts"], report, TextPattern::host),
        ports: wanted(&mut operation, ["ports", "notPorts"], report, port),
        methods: patterns(&mut operation, ["methods", "notMethods"], report, TextPattern::text),
        paths: patterns(&mut operation, ["paths", "notPaths"], report, TextPattern::path),
    };
    let nothing = found.hosts.asks_nothing()
        && found.ports.asks_nothing()
        && found.methods.asks_nothing()
        && found.paths.asks_nothing();
    operation.finish(report);
    if nothing && report.complaints() == complaints {
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
            Some(AuthorizationCondition::Sni(patterns(&mut object, names, report, TextPattern::host)))
        }
        Some(("destination.port", _)) => Some(AuthorizationCondition::Port(wanted(&mut object, names, report, port))),
        Some(("destination.ip", _)) => {
            Some(AuthorizationCondition::Address(wanted(&mut object, names, report, |text| {
                let network = names::network(text).map(|network| network.trunc());
                network.map_err(|_| "expected an IP address or a CIDR such as \"10.0.0.0/8\"".to_owned())
            })))
        }
        Some(("source.namespace", _)) => {
            Some(AuthorizationCondition::Namespace(patterns(&mut object, names, report, TextPattern::text)))
        }
        Some((key, field)) => {
            if let Some(name) = header(key) {
                let values = patterns(&mut object, names, report, TextPattern::text);
                Some(AuthorizationCondition::Header(name, values))
            } else {
                object.allow(&names);
                field.set_aside(unknown_key(key), report);
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

/// The two lists of a field. A pattern that could never match here may be one of another workload.
fn patterns(
    object: &mut Object<'_>,
    names: [&'static str; 2],
    report: &mut Report,
    parse: fn(&str) -> Result<TextPattern, String>,
) -> Wanted<TextPattern> {
    read_wanted(object, names, report, parse, Wrong::ForItsPods)
}

/// The two lists of a field whose values are the same everywhere.
fn wanted<T>(
    object: &mut Object<'_>,
    names: [&'static str; 2],
    report: &mut Report,
    parse: fn(&str) -> Result<T, String>,
) -> Wanted<T> {
    read_wanted(object, names, report, parse, Wrong::ForAll)
}

/// For whom a value that cannot be read is an error.
#[derive(Clone, Copy)]
enum Wrong {
    ForAll,
    ForItsPods,
}

/// Each list must not be empty where it is written.
fn read_wanted<T>(
    object: &mut Object<'_>,
    [any_of, none_of]: [&'static str; 2],
    report: &mut Report,
    parse: fn(&str) -> Result<T, String>,
    wrong: Wrong,
) -> Wanted<T> {
    let mut list = |name, report: &mut Report| {
        let field = object.optional(name);
        field.map(|field| {
            each(&field, report, |item, report| {
                let text = item.word(report)?;
                let message = match parse(text) {
                    Ok(value) => return Some(value),
                    Err(message) => format!("{}: {message}", quoted(text)),
                };
                match wrong {
                    Wrong::ForAll => item.error(message, report),
                    Wrong::ForItsPods => item.set_aside(message, report),
                }
                None
            })
        })
    };
    Wanted { any_of: list(any_of, report).unwrap_or_default(), none_of: list(none_of, report).unwrap_or_default() }
}

fn port(text: &str) -> Result<u16, String> {
    let number = text.parse::<u16>().ok().filter(|number| *number > 0 && text.bytes().all(|b| b.is_ascii_digit()));
    number.ok_or_else(|| "expected a port from 1 to 65535".to_owned())
}
