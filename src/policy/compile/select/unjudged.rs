//! AuthorizationPolicies with conditions that cannot be judged where one pod's traffic leaves: errors for the pods that they
//! are for, a word to all others.
//!
//! It looks at whom policies are for, and nothing else of them. A policy that is not settled here denies everything
//! (`authorization_policies`), so that who forgets to ask lets nothing out.

use crate::config::{AuthorizationPolicy, AuthorizationScope, Problem, Resources, Severity};
use crate::policy::compile::select::scope::{ROOT_NAMESPACE, Workload};

/// Takes the policies that cannot be judged out of `resources`. Gives the errors of those that are for one of `workloads`,
/// and a warning for each of the others. `labels_known`: the workloads have no labels but those that they say.
pub fn take_unjudged(resources: &mut Resources, workloads: &[Workload], labels_known: bool) -> Vec<Problem> {
    let mut problems = Vec::new();
    for policy in resources.authorization_policies.extract_if(.., |policy| !policy.unjudged.is_empty()) {
        if workloads.iter().any(|workload| is_for(&policy, workload, labels_known)) {
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::load_text;
    use crate::policy::tests::fixture::workload;

    /// `e`: an error, `w`: a warning.
    fn found(metadata: &str, spec: &str, labels_known: bool) -> String {
        let text = format!(
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: a{metadata}}}\nspec: {{{spec}rules: \
             [{{from: [{{source: {{principals: [x]}}}}]}}]}}\n"
        );
        let loaded = load_text(Path::new("f"), &text);
        assert_eq!(loaded.problems, []);
        let mut resources = loaded.resources;
        let problems = take_unjudged(&mut resources, &[workload("shop", "app=client")], labels_known);
        assert!(resources.authorization_policies.is_empty());
        let letter = |problem: &Problem| if problem.severity == Severity::Error { 'e' } else { 'w' };
        problems.iter().map(letter).collect()
    }

    #[test]
    fn what_cannot_be_judged_is_an_error_for_the_pods_that_it_is_for() {
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
            assert_eq!(found(metadata, spec, true), with_labels, "{metadata} {spec}");
            assert_eq!(found(metadata, spec, false), without, "{metadata} {spec}");
        }
    }
}
