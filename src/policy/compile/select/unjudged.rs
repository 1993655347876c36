//! AuthorizationPolicies with conditions that cannot be judged where one pod's traffic leaves: errors for the pods that they
//! are for, a word to all others, and where they can only be about what comes to a pod.
//!
//! It looks at whom policies are for, and nothing else of them. A policy that is not settled here denies everything
//! (`authorization_policies`), so that who forgets to ask lets nothing out.

use crate::config::{About, AuthorizationPolicy, AuthorizationScope, Problem, Resources, Severity};
use crate::policy::compile::select::delegates::take_unsound_delegates;
use crate::policy::compile::select::scope::{ROOT_NAMESPACE, Workload};

/// How the warning begins that a policy is about requests that come in.
pub const NOT_FOR_EGRESS: &str = "this AuthorizationPolicy is not for egress";

/// Takes the policies that cannot be judged, and the delegates that cannot be read, out of `resources`. Gives the errors of
/// those that are for one of `workloads`, and a warning for each of the others. `labels_known`: the workloads have no labels
/// but those that they say.
pub fn take_unjudged(resources: &mut Resources, workloads: &[Workload], labels_known: bool) -> Vec<Problem> {
    let mut problems = take_unsound_delegates(resources, workloads);
    for policy in resources.authorization_policies.extract_if(.., |policy| !policy.unjudged.is_empty()) {
        if policy.about == About::Incoming {
            problems.extend(policy.unjudged.into_iter().take(1).map(not_for_egress));
        } else if workloads.iter().any(|workload| is_for(&policy, workload, labels_known)) {
            resources.incomplete = true;
            problems.extend(policy.unjudged);
        } else {
            problems.extend(policy.unjudged.into_iter().take(1).map(left_out));
        }
    }
    problems
}

fn is_for(policy: &AuthorizationPolicy, workload: &Workload, labels_known: bool) -> bool {
    let namespace = workload.namespace_of(&policy.meta);
    match &policy.scope {
        _ if policy.dry_run => false,
        AuthorizationScope::Workloads(selector) => {
            let here = namespace == workload.namespace || namespace == ROOT_NAMESPACE;
            here && selector.as_ref().is_none_or(|selector| !labels_known || workload.matches(selector))
        }
        // Who sends to an entry is its namespace's to say, wherever the sender is.
        AuthorizationScope::ServiceEntries(_) => true,
    }
}

fn left_out(first: Problem) -> Problem {
    let message = format!("this AuthorizationPolicy is for other pods and is left out: {}", first.message);
    Problem { severity: Severity::Warning, message, ..first }
}

fn not_for_egress(first: Problem) -> Problem {
    let place = first.message.split(": ").next().unwrap_or_default();
    let message = format!(
        "{NOT_FOR_EGRESS} and is left out: {place} is about who sends what comes to a pod, and nothing in it says where \
         requests go"
    );
    Problem { severity: Severity::Warning, message, ..first }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::load_text;
    use crate::policy::tests::fixture::workload;

    /// `e`: an error, `w`: a warning that it is for others, `i`: one that it is about what comes in.
    fn found(metadata: &str, spec: &str, labels_known: bool) -> String {
        let text = format!(
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: a{metadata}}}\nspec: {{{spec}}}\n"
        );
        let loaded = load_text(Path::new("f"), &text);
        assert_eq!(loaded.problems, [], "{spec}");
        let mut resources = loaded.resources;
        let problems = take_unjudged(&mut resources, &[workload("shop", "app=client")], labels_known);
        assert_eq!(resources.authorization_policies.is_empty(), !problems.is_empty(), "{spec}");
        let letter = |problem: &Problem| match problem.severity {
            Severity::Error => 'e',
            Severity::Warning if problem.message.starts_with(NOT_FOR_EGRESS) => 'i',
            Severity::Warning => 'w',
        };
        problems.iter().map(letter).collect()
    }

    #[test]
    fn what_cannot_be_judged_is_an_error_for_the_pods_that_it_is_for() {
        const RULES: &str = "rules: [{from: [{source: {principals: [x]}}], to: [{operation: {hosts: [a.example]}}]}]";
        for (metadata, spec, with_labels, without) in [
            ("", "", "e", "e"),
            (", namespace: shop", "", "e", "e"),
            (", namespace: istio-system", "", "e", "e"),
            (", namespace: backend", "", "w", "w"),
            (", namespace: backend", "selector: {matchLabels: {app: client}}, ", "w", "w"),
            ("", "selector: {matchLabels: {app: client}}, ", "e", "e"),
            ("", "selector: {matchLabels: {app: httpbin}}, ", "w", "e"),
            (
                ", namespace: bank",
                "targetRefs: [{group: networking.istio.io, kind: ServiceEntry, name: b}], ",
                "e",
                "e",
            ),
            (", annotations: {istio.io/dry-run: 'true'}", "", "w", "w"),
        ] {
            let spec = format!("{spec}{RULES}");
            assert_eq!(found(metadata, &spec, true), with_labels, "{metadata} {spec}");
            assert_eq!(found(metadata, &spec, false), without, "{metadata} {spec}");
        }
    }

    #[test]
    fn what_can_only_be_about_callers_is_not_for_egress() {
        for (spec, expected) in [
            ("rules: [{from: [{source: {principals: [x]}}]}]", "i"),
            (
                "action: DENY, rules: [{from: [{source: {notRequestPrincipals: ['*']}}], to: [{operation: {paths: [/a]}}]}]",
                "i",
            ),
            ("selector: {matchLabels: {app: client}}, rules: [{from: [{source: {ipBlocks: [10.0.0.0/8]}}]}]", "i"),
            ("rules: [{when: [{key: 'request.auth.claims[iss]', values: [x]}]}]", "i"),
            ("rules: [{when: [{key: source.principal, values: [x]}]}, {from: [{source: {trustDomains: [x]}}]}]", "i"),
            ("action: CUSTOM, provider: {name: x}, rules: [{to: [{operation: {paths: [/admin]}}]}]", "i"),
            // It may be meant for what leaves: one rule asks for no caller, one caller is any pod of a namespace, or it says
            // where requests go.
            ("rules: [{from: [{source: {principals: [x]}}]}, {to: [{operation: {methods: [GET]}}]}]", "e"),
            ("rules: [{from: [{source: {principals: [x]}}, {source: {namespaces: [shop]}}]}]", "e"),
            ("rules: [{from: [{source: {principals: [x]}}], when: [{key: connection.sni, values: [a.example]}]}]", "e"),
            (
                "action: DENY, rules: [{when: [{key: remote.ip, values: [1.1.1.1]}, {key: destination.ip, values: [1.1.1.1]}]}]",
                "e",
            ),
            ("action: CUSTOM, provider: {name: x}, rules: [{to: [{operation: {hosts: [a.example]}}]}]", "e"),
            (
                "targetRefs: [{group: networking.istio.io, kind: ServiceEntry, name: b}], rules: [{from: [{source: {principals: [x]}}]}]",
                "e",
            ),
            ("rules: [{when: [{key: unknown.key, values: [x]}]}]", "e"),
            // Judged.
            ("rules: [{from: [{source: {namespaces: [shop]}}]}]", ""),
            ("rules: [{to: [{operation: {methods: [GET]}}]}]", ""),
        ] {
            assert_eq!(found("", spec, true).chars().next().map(String::from).unwrap_or_default(), expected, "{spec}");
        }
    }
}
