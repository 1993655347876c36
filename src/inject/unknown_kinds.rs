//! Objects of kinds that egret does not go into, and that make pods all the same: they have to be named, because their pods
//! run unguarded unless the webhook sees to them.
//!
//! Some are known by name. The rest is known by what pods are made of; that is a guess, good enough for a note.

use crate::config::yaml::{Node, Place};

const NO_PROCESS: &str = "a virtual machine's connections are forwarded, and egret redirects only those that a pod's own \
                          processes make; give the machine a proxy of its own, or close its egress";

/// Why the pods of such an object stay without egret; `None` where it makes none, as far as can be seen.
pub(super) fn reason(version: &str, kind: &str, object: &Node) -> Option<String> {
    let group = version.rsplit_once('/').map_or("", |(group, _)| group);
    let seen = pod_like(object, false).map(|at| format!(" (line {})", at.line)).unwrap_or_default();
    match (group, kind) {
        ("argoproj.io", "Workflow" | "WorkflowTemplate" | "ClusterWorkflowTemplate" | "CronWorkflow")
        | ("tekton.dev", "Task" | "ClusterTask" | "TaskRun" | "Pipeline" | "PipelineRun" | "StepAction")
        | ("sparkoperator.k8s.io", "SparkApplication" | "ScheduledSparkApplication") => Some(format!(
            "pods are made from it{seen}, by a controller of its own; let egret webhook put egret into them"
        )),
        (
            "kubevirt.io" | "pool.kubevirt.io",
            "VirtualMachine" | "VirtualMachineInstance" | "VirtualMachineInstanceReplicaSet" | "VirtualMachinePool",
        ) => Some(NO_PROCESS.to_owned()),
        _ if seen.is_empty() => None,
        _ => Some(format!(
            "it seems to hold pods{seen}, but egret does not know kind {kind:?} of {version:?}; let egret webhook put egret \
             into them"
        )),
    }
}

/// Where an object holds what looks like a pod: `containers` in a `spec` of any depth, or below a `spec` whatever else
/// containers are written as.
fn pod_like(node: &Node, below_spec: bool) -> Option<Place> {
    if let Some(at) = containers(node).filter(|_| below_spec) {
        return Some(at);
    }
    let inner = |entry: &crate::config::yaml::Entry| pod_like(&entry.value, below_spec || entry.key == "spec");
    let of_items = || node.items().iter().find_map(|item| pod_like(item, below_spec));
    node.entries().iter().find_map(inner).or_else(of_items)
}

/// The list of containers of a mapping, or the one container of Argo and Tekton.
fn containers(node: &Node) -> Option<Place> {
    let list = |key: &str| {
        let items = node.child(key)?.items();
        (!items.is_empty() && items.iter().all(|item| !item.entries().is_empty())).then_some(items)
    };
    let lists = ["containers", "initContainers"].iter().find_map(|key| list(key));
    let steps = || list("steps").filter(|steps| steps.iter().any(|step| step.child("image").is_some()));
    if let Some(items) = lists.or_else(steps) {
        return Some(items[0].at);
    }
    let one = |key: &&str| node.child(key).filter(|one| one.child("image").and_then(Node::text).is_some());
    ["container", "script"].iter().find_map(one).map(|one| one.at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::yaml::documents;

    fn told(version: &str, kind: &str, spec: &str) -> Option<String> {
        let text = format!("spec:\n{spec}");
        reason(version, kind, documents(&text)[0].root.as_ref()?)
    }

    #[test]
    fn kinds_that_make_pods_are_named() {
        for (version, kind) in [
            ("argoproj.io/v1alpha1", "Workflow"),
            ("argoproj.io/v1alpha1", "CronWorkflow"),
            ("tekton.dev/v1", "PipelineRun"),
            ("sparkoperator.k8s.io/v1beta2", "SparkApplication"),
        ] {
            // Only a reference, as often.
            let said = told(version, kind, "  ref: {name: a}\n");
            assert!(said.is_some_and(|said| said.contains("let egret webhook")), "{kind}");
            assert_eq!(told("example.com/v1", kind, "  ref: {name: a}\n"), None, "{kind}");
        }
        let machine = told("kubevirt.io/v1", "VirtualMachine", "  running: true\n");
        assert!(machine.is_some_and(|said| said.contains("forwarded")));
    }

    #[test]
    fn whatever_looks_like_a_container_is_told_with_its_line() {
        for spec in [
            "  podSpec:\n    containers:\n    - {name: c}\n",
            "  jobTemplate:\n    initContainers:\n    - {name: c}\n",
            "  pod:\n    x:\n    - containers: [{name: c}]\n",
            "  templates:\n  - name: m\n    container: {image: x}\n",
            "  a:\n    script:\n      image: x\n",
            "  a:\n  - containerSet:\n      containers: [{image: x}]\n",
            "  taskSpec:\n    steps:\n    - {image: x}\n",
        ] {
            let said = told("example.com/v1", "Thing", spec).unwrap_or_default();
            assert!(said.starts_with("it seems to hold pods (line 4)"), "{spec}: {said}");
        }
        for spec in [
            "  containers: [small]\n",
            "  containers: 5\n",
            "  container: {size: 5}\n",
            "  script: echo\n",
            "  steps: [{setWeight: 20}]\n",
            "  container: {image: {name: x}}\n",
            "  containers: {type: array}\n",
        ] {
            assert_eq!(told("example.com/v1", "Thing", spec), None, "{spec}");
        }
        // Not below a spec, containers say nothing.
        let root = documents("status:\n  containers: [{name: c}]\n").remove(0).root.unwrap();
        assert_eq!(reason("v1", "Thing", &root), None);
    }
}
