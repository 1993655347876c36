//! Delegation between VirtualServices: before anything else is made of them, the routes of those without hosts take the
//! place of the routes that delegate to them. The rules are Istio's (`mergeVirtualServicesIfNeeded`): each match of theirs
//! must lie within one of the delegating route's, and what they leave out is taken from it.
//!
//! It knows names, matches and settings of routes, and nothing of what routes do.

use std::collections::BTreeSet;

use crate::config::{
    Delegate, Fault, HeaderChanges, HttpAction, HttpMatch, HttpRoute, Location, Meta, Problem, Resources, Rewrite,
    Severity, TextMatch, VirtualService, leave_sidecars_out,
};
use crate::policy::compile::select::names::qualified;
use crate::policy::compile::select::scope::Workload;
use crate::policy::lint::problems::Problems;

/// Resources of which nobody delegates any more.
pub(in crate::policy) struct Merged {
    pub(in crate::policy) resources: Resources,
    remarks: Vec<Remark>,
}

/// What its author may not know.
struct Remark {
    at: Location,
    message: String,
    /// It is about something that nobody has written.
    is_absence: bool,
}

impl Merged {
    pub(in crate::policy) fn tell(&self, problems: &mut Problems) {
        for Remark { at, message, is_absence } in &self.remarks {
            match is_absence {
                true => problems.warn_of_absence(at, message.clone()),
                false => problems.warn(at, message.clone()),
            }
        }
    }
}

/// What `resources` are when every delegation is followed; `None` where there is none.
pub(in crate::policy) fn merged(resources: &Resources, workload: &Workload) -> Option<Merged> {
    let services = &resources.virtual_services;
    if !services.iter().any(|service| service.delegate.is_some() || delegations(service).next().is_some()) {
        return None;
    }
    let mut merger = Merger { services, workload, used: BTreeSet::new(), remarks: Vec::new() };
    let roots = services.iter().filter(|service| service.delegate.is_none());
    let virtual_services = roots.map(|root| merger.merge(root)).collect();
    merger.tell_of_unused();
    let remarks = merger.remarks;
    Some(Merged { resources: Resources { virtual_services, ..resources.clone() }, remarks })
}

/// Takes the delegates that have an error out of `resources`. Gives the errors of those that routes for sidecars delegate to,
/// and a warning for each of the others.
pub(super) fn take_unsound_delegates(resources: &mut Resources, workloads: &[Workload]) -> Vec<Problem> {
    let is_unsound = |service: &VirtualService| service.delegate.as_ref().is_some_and(|problems| !problems.is_empty());
    let services = &resources.virtual_services;
    if !services.iter().any(is_unsound) {
        return Vec::new();
    }
    let names = |workload: &Workload| -> Vec<(String, String)> {
        let of = |root: &VirtualService| {
            let own = workload.namespace_of(&root.meta).to_owned();
            delegations(root).map(|to| (to.namespace.clone().unwrap_or_else(|| own.clone()), to.name.clone())).collect()
        };
        services.iter().flat_map(|root| -> Vec<_> { of(root) }).collect()
    };
    let wanted: Vec<_> = workloads.iter().map(|workload| (workload, names(workload))).collect();
    let is_wanted = |meta: &Meta| {
        let is_it = |workload: &Workload, (namespace, name): &(String, String)| {
            *name == meta.name && namespace == workload.namespace_of(meta)
        };
        wanted.iter().any(|(workload, names)| names.iter().any(|one| is_it(workload, one)))
    };
    let unsound: Vec<_> = resources.virtual_services.extract_if(.., |service| is_unsound(service)).collect();
    let mut problems = Vec::new();
    let mut is_incomplete = false;
    for service in unsound {
        let found = service.delegate.unwrap_or_default();
        if is_wanted(&service.meta) {
            is_incomplete = true;
            problems.extend(found);
        } else {
            problems.extend(found.into_iter().find(|problem| problem.severity == Severity::Error).map(left_out));
        }
    }
    resources.incomplete |= is_incomplete;
    problems
}

fn left_out(first: Problem) -> Problem {
    let message = format!(
        "this VirtualService has no hosts and is left out, since none for sidecars delegates to it: {}",
        first.message
    );
    Problem { severity: Severity::Warning, message, ..first }
}

/// Whom the routes of a VirtualService delegate to.
fn delegations(service: &VirtualService) -> impl Iterator<Item = &Delegate> {
    service.http.iter().filter_map(|route| match &route.action {
        HttpAction::Delegate(to) => Some(to),
        HttpAction::Forward(_) | HttpAction::Redirect(_) | HttpAction::Direct { .. } => None,
    })
}

struct Merger<'r> {
    services: &'r [VirtualService],
    workload: &'r Workload,
    /// By their places, which are as good as names.
    used: BTreeSet<&'r Location>,
    remarks: Vec<Remark>,
}

impl<'r> Merger<'r> {
    fn merge(&mut self, root: &'r VirtualService) -> VirtualService {
        let mut merged = VirtualService { http: Vec::new(), ..root.clone() };
        for route in &root.http {
            match &route.action {
                HttpAction::Delegate(to) => merged.http.extend(self.follow(root, route, to)),
                HttpAction::Forward(_) | HttpAction::Redirect(_) | HttpAction::Direct { .. } => {
                    merged.http.push(route.clone());
                }
            }
        }
        merged
    }

    /// The routes that stand in the place of one.
    fn follow(&mut self, root: &'r VirtualService, route: &HttpRoute, to: &Delegate) -> Vec<HttpRoute> {
        let own = self.workload.namespace_of(&root.meta);
        let namespace = to.namespace.as_deref().unwrap_or(own);
        let is_it = |service: &&VirtualService| {
            service.meta.name == to.name && self.workload.namespace_of(&service.meta) == namespace
        };
        let lost = "no request takes this route";
        let Some(delegate) = self.services.iter().filter(|service| service.delegate.is_some()).find(is_it) else {
            let message = format!("there is no VirtualService {namespace}/{} without hosts: {lost}", to.name);
            self.remark(&to.at, message, true);
            return Vec::new();
        };
        self.used.insert(&delegate.meta.at);
        // By the root's namespace, wherever the pod is.
        let reader = Workload { namespace: own.to_owned(), ..self.workload.clone() };
        if !reader.sees(namespace, &delegate.export_to) {
            let message = format!("the VirtualService {namespace}/{} is not exported to {own}: {lost}", to.name);
            self.remark(&to.at, message, false);
            return Vec::new();
        }
        let mut routes = Vec::new();
        for one in &delegate.http {
            match merged_route(route, one, namespace) {
                Some(merged) => routes.push(merged),
                None => self.remark(&one.at, outside(root, route), false),
            }
        }
        routes
    }

    fn tell_of_unused(&mut self) {
        for service in self.services.iter().filter(|service| service.delegate.is_some()) {
            if !self.used.contains(&service.meta.at) {
                let message = "without hosts its routes hold only where a VirtualService for sidecars delegates to it, and \
                               none does: write hosts, or the `delegate` of a route";
                self.remark(&service.meta.at, message.to_owned(), true);
            }
        }
    }

    fn remark(&mut self, at: &Location, message: String, is_absence: bool) {
        self.remarks.push(Remark { at: at.clone(), message, is_absence });
    }
}

fn outside(root: &VirtualService, route: &HttpRoute) -> String {
    format!(
        "this route does not hold for VirtualService {} at {}: one of its matches is not within what the route in line {} \
         delegates",
        root.meta.name, root.meta.at, route.at.line
    )
}

/// One route of a delegate in the place of `root`, which stands in `namespace`; `None` where it is for requests that `root`
/// does not delegate.
fn merged_route(root: &HttpRoute, delegate: &HttpRoute, namespace: &str) -> Option<HttpRoute> {
    let matches = merged_matches(&root.matches, &delegate.matches)?;
    let mut one = delegate.clone();
    if let HttpAction::Forward(destinations) = &mut one.action {
        // Short names are of the namespace in which they were written.
        for to in destinations {
            to.host = qualified(&to.host, namespace);
        }
    }
    one.name = joined(root.name.as_deref(), one.name.as_deref());
    one.matches = matches;
    if one.rewrite == Rewrite::default() {
        one.rewrite.clone_from(&root.rewrite);
    }
    if one.mirrors.is_empty() {
        one.mirrors.clone_from(&root.mirrors);
    }
    one.timeout = one.timeout.or(root.timeout);
    one.retries = one.retries.or_else(|| root.retries.clone());
    if one.fault == Fault::default() {
        one.fault = root.fault;
    }
    if one.request == HeaderChanges::default() && one.response == HeaderChanges::default() {
        one.request.clone_from(&root.request);
        one.response.clone_from(&root.response);
    }
    Some(one)
}

fn joined(root: Option<&str>, delegate: Option<&str>) -> Option<String> {
    match (root, delegate) {
        (Some(root), Some(delegate)) => Some(format!("{root}-{delegate}")),
        (one, other) => one.or(other).map(str::to_owned),
    }
}

/// `None` where a match of the delegate lies within none of the root's.
fn merged_matches(root: &[HttpMatch], delegate: &[HttpMatch]) -> Option<Vec<HttpMatch>> {
    if root.is_empty() || delegate.is_empty() {
        return Some(if root.is_empty() { delegate.to_vec() } else { root.to_vec() });
    }
    let mut merged = Vec::new();
    for narrow in delegate {
        let before = merged.len();
        merged.extend(root.iter().filter(|wide| !conflict(wide, narrow)).map(|wide| merged_match(wide, narrow)));
        if merged.len() == before {
            return None;
        }
    }
    Some(merged)
}

fn merged_match(wide: &HttpMatch, narrow: &HttpMatch) -> HttpMatch {
    let text = |narrow: &Option<TextMatch>, wide: &Option<TextMatch>| narrow.clone().or_else(|| wide.clone());
    let texts = |narrow: &[(String, TextMatch)], wide: &[(String, TextMatch)]| {
        let more = wide.iter().filter(|(name, _)| narrow.iter().all(|(known, _)| known != name));
        narrow.iter().chain(more).cloned().collect()
    };
    let mut source_labels = wide.source_labels.clone();
    source_labels.extend(narrow.source_labels.clone());
    let gateways = if narrow.gateways.is_empty() { &wide.gateways } else { &narrow.gateways };
    HttpMatch {
        uri: text(&narrow.uri, &wide.uri),
        ignore_uri_case: narrow.ignore_uri_case,
        method: text(&narrow.method, &wide.method),
        authority: text(&narrow.authority, &wide.authority),
        scheme: text(&narrow.scheme, &wide.scheme),
        headers: texts(&narrow.headers, &wide.headers),
        without_headers: texts(&narrow.without_headers, &wide.without_headers),
        query: texts(&narrow.query, &wide.query),
        port: narrow.port.or(wide.port),
        source_labels,
        source_namespace: narrow.source_namespace.clone().or_else(|| wide.source_namespace.clone()),
        gateways: gateways.clone(),
        never: leave_sidecars_out(gateways),
    }
}

/// Whether `narrow` takes what `wide` does not, as far as Istio looks (`hasConflict`).
fn conflict(wide: &HttpMatch, narrow: &HttpMatch) -> bool {
    let is_outside = |wide: &Option<TextMatch>, narrow: &Option<TextMatch>| match (wide, narrow) {
        (Some(wide), Some(narrow)) => !is_within(narrow, wide),
        _ => false,
    };
    let are_outside = |wide: &[(String, TextMatch)], narrow: &[(String, TextMatch)]| {
        narrow.iter().any(|(name, one)| wide.iter().any(|(known, of)| known == name && !is_within(one, of)))
    };
    let other_labels = narrow.source_labels.iter().any(|(key, value)| {
        let known = wide.source_labels.get(key);
        known.is_some_and(|known| known != value)
    });
    let other_gateways = !wide.gateways.is_empty()
        && !narrow.gateways.is_empty()
        && (wide.gateways.len() < narrow.gateways.len()
            || narrow.gateways.iter().any(|name| !wide.gateways.contains(name)));
    is_outside(&wide.uri, &narrow.uri)
        || is_outside(&wide.scheme, &narrow.scheme)
        || is_outside(&wide.method, &narrow.method)
        || is_outside(&wide.authority, &narrow.authority)
        || are_outside(&wide.headers, &narrow.headers)
        || are_outside(&wide.without_headers, &narrow.without_headers)
        || are_outside(&wide.query, &narrow.query)
        || wide.ignore_uri_case != narrow.ignore_uri_case
        || matches!((wide.port, narrow.port), (Some(wide), Some(narrow)) if wide != narrow)
        || wide.source_namespace.is_some() && wide.source_namespace != narrow.source_namespace
        || other_labels
        || other_gateways
}

/// Whether `narrow` takes nothing that `wide` does not (`stringMatchConflict`). Expressions are not compared.
fn is_within(narrow: &TextMatch, wide: &TextMatch) -> bool {
    match (wide, narrow) {
        (TextMatch::Exact(wide), TextMatch::Exact(narrow)) => !wide.is_empty() && wide == narrow,
        (TextMatch::Prefix(wide), TextMatch::Prefix(narrow) | TextMatch::Exact(narrow)) => narrow.starts_with(wide),
        _ => false,
    }
}
