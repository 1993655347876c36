//! What an `AuthorizationPolicy` says, once it has been read and found valid: whom it speaks of, and what of them.
//!
//! Conditions that mean nothing at the egress of one pod never get here: they are errors, because a policy that silently
//! asks for less than its author wrote would let traffic out. How rules are judged is `policy`'s concern.

use std::collections::BTreeMap;

use ipnet::IpNet;

use super::resources::{Location, Meta};
use super::text_pattern::TextPattern;

#[derive(Clone, Debug)]
pub struct AuthorizationPolicy {
    pub meta: Meta,
    pub scope: AuthorizationScope,
    pub action: AuthorizationAction,
    /// Any of them; none matches nothing.
    pub rules: Vec<AuthorizationRule>,
    /// `istio.io/dry-run`: written to be looked at, not to hold.
    pub dry_run: bool,
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

/// Each part must hold; a part that is not written does.
#[derive(Clone, Debug, Default)]
pub struct AuthorizationRule {
    /// Any of them.
    pub from: Option<Vec<AuthorizationSource>>,
    /// Any of them.
    pub to: Option<Vec<AuthorizationOperation>>,
    /// All of them.
    pub when: Vec<AuthorizationCondition>,
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
