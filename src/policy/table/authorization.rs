//! AuthorizationPolicies, compiled, and what they say of a flow: DENY first, then ALLOW, as Istio judges.
//!
//! Not everything that a rule asks for is known of every flow: bytes have no method, and a path may have no form that
//! all servers agree on. What is not known never helps a flow out: a DENY takes it for a match, an ALLOW for none. That
//! is also Istio's rule for fields of HTTP on other connections. Nothing is allocated where a path is written as it is
//! compared, and nothing at all is asked where no policy speaks.

use std::borrow::Cow;
use std::sync::Arc;

use ipnet::IpNet;

use crate::config::{
    AuthorizationAction, AuthorizationCondition, AuthorizationOperation, AuthorizationRule, TextPattern, Wanted,
};
use crate::flow::Host;
use crate::http::{parameterless_path, split_query};
use crate::policy::facts::{AnyValue, Flow, RequestView};
use crate::policy::table::short_names::ShortNames;

/// All that is judged for one destination.
#[derive(Debug, Default)]
pub(in crate::policy) struct Authorization {
    pub(in crate::policy) deny: Vec<Policy>,
    /// One must match, if there are any.
    pub(in crate::policy) allow: Vec<Policy>,
    pub(in crate::policy) audit: Vec<Policy>,
    pub(in crate::policy) short_names: Arc<ShortNames>,
}

#[derive(Clone, Debug)]
pub(in crate::policy) struct Policy {
    /// `namespace/name`
    pub(in crate::policy) name: String,
    pub(in crate::policy) rules: Vec<Rule>,
}

#[derive(Clone, Debug)]
pub(in crate::policy) struct Rule {
    /// As Envoy writes it into the log.
    pub(in crate::policy) details: String,
    pub(in crate::policy) to: Option<Vec<AuthorizationOperation>>,
    pub(in crate::policy) when: Vec<AuthorizationCondition>,
}

/// What Envoy logs where policies allow something, and not this.
const NONE_MATCHED: &str = "rbac_access_denied_matched_policy[none]";

impl Policy {
    /// `None` when nothing that this pod sends is meant by any of its rules.
    pub(in crate::policy) fn new(
        namespace: &str,
        name: &str,
        rules: &[AuthorizationRule],
        own_namespace: &str,
    ) -> Self {
        let of_namespace = |wanted: &Wanted<TextPattern>| {
            is_wanted(wanted, |pattern| pattern.is_match(own_namespace.as_bytes(), false))
        };
        let kept = rules.iter().enumerate().filter(|(_, rule)| {
            let from = rule.from.as_ref().is_none_or(|all| all.iter().any(|one| of_namespace(&one.namespaces)));
            from && rule.when.iter().all(|condition| match condition {
                AuthorizationCondition::Namespace(wanted) => of_namespace(wanted),
                _ => true,
            })
        });
        let rules = kept.map(|(at, rule)| Rule {
            details: format!("rbac_access_denied_matched_policy[ns[{namespace}]-policy[{name}]-rule[{at}]]"),
            to: rule.to.clone(),
            when: rule.when.clone(),
        });
        Self { name: format!("{namespace}/{name}"), rules: rules.collect() }
    }
}

impl Authorization {
    pub(in crate::policy) fn add(&mut self, action: AuthorizationAction, policy: Policy) {
        match action {
            AuthorizationAction::Allow => self.allow.push(policy),
            AuthorizationAction::Deny => self.deny.push(policy),
            AuthorizationAction::Audit => self.audit.push(policy),
        }
    }

    pub(in crate::policy) fn is_empty(&self) -> bool {
        self.deny.is_empty() && self.allow.is_empty() && self.audit.is_empty()
    }

    /// Whether there is anything that it may refuse.
    pub(in crate::policy) fn forbids_something(&self) -> bool {
        !self.deny.is_empty() || !self.allow.is_empty()
    }

    /// # Errors
    /// The log's words for why the flow may not leave.
    pub(in crate::policy) fn judge(&self, flow: &Flow<'_>) -> Result<(), &str> {
        let seen = Seen::of(flow, &self.short_names);
        let denies = |rule: &&Rule| seen.matches(rule, Reading::Loose);
        if let Some(rule) = self.deny.iter().flat_map(|policy| &policy.rules).find(denies) {
            return Err(&rule.details);
        }
        let allows = |rule: &Rule| seen.matches(rule, Reading::Strict);
        let allowed = self.allow.is_empty() || self.allow.iter().flat_map(|policy| &policy.rules).any(allows);
        if allowed { Ok(()) } else { Err(NONE_MATCHED) }
    }

    /// Whether what is known is enough: nothing that is still unknown of the flow could forbid it, or an AUDIT policy mean it.
    /// What is not known never helps a flow out, so what is allowed without it is allowed in any case.
    pub(in crate::policy) fn allows_whatever_follows(&self, flow: &Flow<'_>) -> bool {
        let seen = Seen::of(flow, &self.short_names);
        let is_clear = |rule: &Rule| seen.matches(rule, Reading::Loose) == seen.matches(rule, Reading::Strict);
        self.judge(flow).is_ok() && self.audit.iter().flat_map(|policy| &policy.rules).all(is_clear)
    }

    /// Every policy that has a say: `DENY default/no-admin`.
    pub(in crate::policy) fn names(&self) -> impl Iterator<Item = String> {
        let kinds = [("DENY", &self.deny), ("ALLOW", &self.allow), ("AUDIT", &self.audit)];
        kinds.into_iter().flat_map(|(action, some)| some.iter().map(move |one| format!("{action} {}", one.name)))
    }

    /// The AUDIT policies that a flow is meant by.
    pub(in crate::policy) fn audits(&self, flow: &Flow<'_>) -> Vec<&str> {
        if self.audit.is_empty() {
            return Vec::new();
        }
        let seen = Seen::of(flow, &self.short_names);
        let meant = |policy: &&Policy| policy.rules.iter().any(|rule| seen.matches(rule, Reading::Loose));
        self.audit.iter().filter(meant).map(|policy| policy.name.as_str()).collect()
    }
}

/// What becomes of a doubt: what is unknown, and what can be read in two ways.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// It is a match.
    Loose,
    /// It is none.
    Strict,
}

impl Reading {
    fn inverse(self) -> Self {
        match self {
            Reading::Loose => Reading::Strict,
            Reading::Strict => Reading::Loose,
        }
    }
}

/// The facts in the form that patterns are compared with.
struct Seen<'f> {
    flow: &'f Flow<'f>,
    request: Option<&'f RequestView<'f>>,
    host: Option<Cow<'f, str>>,
    /// What the host is short for, if it is.
    full_host: Option<&'f str>,
    /// `None` when there is none, or no form of it that everybody agrees on.
    path: Option<Cow<'f, [u8]>>,
}

impl<'f> Seen<'f> {
    fn of(flow: &'f Flow<'f>, short_names: &'f ShortNames) -> Self {
        let request = flow.request();
        let host = request.map(|request| match request.host {
            Host::Name(name) => Cow::Borrowed(name.as_str()),
            ip @ Host::Ip(_) => Cow::Owned(ip.to_string()),
        });
        let full_host = request.and_then(|request| match short_names.full(request.host) {
            full @ Host::Name(name) if full != request.host => Some(name.as_str()),
            Host::Name(_) | Host::Ip(_) => None,
        });
        let path = request.and_then(|request| parameterless_path(split_query(request.target).0).ok());
        // `*` of OPTIONS is the whole server.
        Self { flow, request, host, full_host, path: path.filter(|path| path.starts_with(b"/")) }
    }

    fn matches(&self, rule: &Rule, reading: Reading) -> bool {
        rule.to.as_ref().is_none_or(|all| all.iter().any(|one| self.is_operation(one, reading)))
            && rule.when.iter().all(|one| self.fulfils(one, reading))
    }

    fn is_operation(&self, wanted: &AuthorizationOperation, reading: Reading) -> bool {
        let port = self.flow.destination.port();
        is_wanted(&wanted.ports, |wanted| *wanted == port)
            && self.is_method(&wanted.methods, reading)
            && self.is_host(&wanted.hosts, reading)
            && text(&wanted.paths, self.path.as_deref(), reading)
    }

    /// A short form is the name as well that it is short for.
    fn is_host(&self, wanted: &Wanted<TextPattern>, reading: Reading) -> bool {
        both_ways(wanted, reading, |pattern, reading| match self.host.as_deref() {
            Some(host) => {
                [Some(host), self.full_host].iter().flatten().any(|one| pattern.is_match(one.as_bytes(), false))
            }
            None => reading == Reading::Loose,
        })
    }

    /// Methods are told apart by case (RFC 9110 §9.1), and some servers do not know that.
    fn is_method(&self, wanted: &Wanted<TextPattern>, reading: Reading) -> bool {
        both_ways(wanted, reading, |pattern, reading| match self.request {
            Some(request) => pattern.is_match(request.method, reading == Reading::Loose),
            None => reading == Reading::Loose,
        })
    }

    fn fulfils(&self, condition: &AuthorizationCondition, reading: Reading) -> bool {
        let destination = self.flow.destination;
        match condition {
            AuthorizationCondition::Header(name, wanted) => match self.request {
                None => text(wanted, None, reading),
                Some(request) => {
                    both_ways(wanted, reading, |pattern, reading| is_field(pattern, request, name, reading))
                }
            },
            AuthorizationCondition::Sni(wanted) => match self.flow.server_name() {
                _ if self.flow.is_unread() => text(wanted, None, reading),
                // Whatever else it is, it is no ClientHello, or one without a name.
                None => text(wanted, Some(b""), reading),
                Some(name) => text(wanted, Some(name.as_str().as_bytes()), reading),
            },
            AuthorizationCondition::Port(wanted) => is_wanted(wanted, |port| *port == destination.port()),
            AuthorizationCondition::Address(wanted) => {
                is_wanted(wanted, |network: &IpNet| network.contains(&destination.ip()))
            }
            // Judged where the rule was compiled.
            AuthorizationCondition::Namespace(_) => true,
        }
    }
}

/// A field may stand in several lines, and a line hold a list. Servers differ in which of them they read, so one that
/// matches is enough to forbid, and every one must match to allow (where Envoy is content with one).
fn is_field(pattern: &TextPattern, request: &RequestView<'_>, name: &str, reading: Reading) -> bool {
    let any_value = request.any_value;
    match reading {
        Reading::Loose => {
            any_value(name, &mut |value| is_value_or_member(pattern, value)) || is_whole_list(pattern, any_value, name)
        }
        Reading::Strict => {
            let mut is_there = false;
            let differs = any_value(name, &mut |value| {
                is_there = true;
                !pattern.is_match(value, false)
            });
            is_there && !differs
        }
    }
}

fn is_value_or_member(pattern: &TextPattern, value: &[u8]) -> bool {
    pattern.is_match(value, false) || value.split(|&b| b == b',').any(|one| pattern.is_match(one.trim_ascii(), false))
}

/// Whether the pattern is the lines as one list, which is how some servers read them (RFC 9110 §5.3). Without a comma of its
/// own a pattern matches the list only where it matches a line, so nothing is joined for it.
fn is_whole_list(pattern: &TextPattern, any_value: &AnyValue<'_>, name: &str) -> bool {
    let (TextPattern::Exact(text) | TextPattern::Prefix(text) | TextPattern::Suffix(text)) = pattern else {
        return false;
    };
    let mut list: Vec<u8> = Vec::new();
    text.contains(',')
        && !any_value(name, &mut |value| {
            if !list.is_empty() {
                list.push(b',');
            }
            list.extend_from_slice(value);
            false
        })
        && pattern.is_match(&list, false)
}

/// Whether a text, if it is known, is one of those wanted and none of those not.
fn text(wanted: &Wanted<TextPattern>, found: Option<&[u8]>, reading: Reading) -> bool {
    both_ways(wanted, reading, |pattern, reading| match found {
        Some(found) => pattern.is_match(found, false),
        None => reading == Reading::Loose,
    })
}

/// A doubt that makes a match of what is wanted makes none of what is not.
fn both_ways(wanted: &Wanted<TextPattern>, reading: Reading, is_match: impl Fn(&TextPattern, Reading) -> bool) -> bool {
    (wanted.any_of.is_empty() || wanted.any_of.iter().any(|one| is_match(one, reading)))
        && !wanted.none_of.iter().any(|one| is_match(one, reading.inverse()))
}

fn is_wanted<T>(wanted: &Wanted<T>, is_match: impl Fn(&T) -> bool) -> bool {
    (wanted.any_of.is_empty() || wanted.any_of.iter().any(&is_match)) && !wanted.none_of.iter().any(&is_match)
}
