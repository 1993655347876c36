//! Where in a document are pods? Knows the kinds that hold some and nothing of what stands in a pod.
//!
//! A kind counts only with its own API group: custom resources that are called Job are not touched. Nothing that holds
//! pods is passed over in silence: what egret does not go into is named, because its pods run unguarded.

use super::pod::{Path, Pod, Step};
use super::remark::Remark;
use super::unknown_kinds;
use crate::config::yaml::Node;

/// Namespaces of the cluster's own parts, which every pod needs. Istio never injects there either (`IgnoredNamespaces` in
/// `pkg/kube/inject/initializer.go`): a redirect in front of the cluster's DNS would stop all others.
const IGNORED_NAMESPACES: [&str; 4] = ["kube-system", "kube-public", "kube-node-lease", "local-path-storage"];

/// Whether pods of this namespace are never touched, whatever they or anybody's flags say.
#[must_use]
pub fn is_ignored(namespace: &str) -> bool {
    IGNORED_NAMESPACES.contains(&namespace)
}

/// How a kind holds its pods.
enum Holding {
    /// At this path; `*` is every item of a list.
    At(&'static [&'static str]),
    /// The same, but the object may refer to a template elsewhere instead.
    PerhapsAt(&'static [&'static str]),
    /// Its API does not take what would be put there, and why.
    Closed(&'static str),
    Unknown,
}

fn holding(group: &str, kind: &str) -> Holding {
    const KNATIVE: &str = "Knative Serving takes no init containers, added capabilities and downwardAPI volumes in its \
                           templates; let egret webhook put egret into its pods";
    match (group, kind) {
        ("", "Pod") => Holding::At(&[]),
        ("", "PodTemplate") => Holding::At(&["template"]),
        ("apps", "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet")
        | ("extensions", "Deployment" | "DaemonSet" | "ReplicaSet")
        | ("apps.kruise.io", "CloneSet" | "StatefulSet" | "DaemonSet" | "BroadcastJob")
        | ("batch", "Job")
        // OpenShift's own group, and the one of before version 3.6.
        | ("apps.openshift.io" | "", "DeploymentConfig")
        | ("", "ReplicationController") => Holding::At(&["spec", "template"]),
        ("batch", "CronJob") => Holding::At(&["spec", "jobTemplate", "spec", "template"]),
        ("jobset.x-k8s.io", "JobSet") => Holding::At(&["spec", "replicatedJobs", "*", "template", "spec", "template"]),
        ("argoproj.io", "Rollout") => Holding::PerhapsAt(&["spec", "template"]),
        ("serving.knative.dev", "Service" | "Configuration" | "Revision") => Holding::Closed(KNATIVE),
        _ => Holding::Unknown,
    }
}

/// What a search through a stream has come to.
#[derive(Debug, Default)]
pub(super) struct Found<'d> {
    pub pods: Vec<Pod<'d>>,
    /// Objects whose pods are left as they are.
    pub notes: Vec<Remark>,
    pub problems: Vec<Remark>,
}

/// Every pod in a document; nothing for kinds without pods.
pub(super) fn pods(root: &Node, document: usize) -> Found<'_> {
    let mut found = Found::default();
    search(root, ("", ""), Path { document, steps: Vec::new() }, &mut found);
    found
}

/// `inherited` is the API version and kind that an item has from its list where it says none of its own.
fn search<'d>(object: &'d Node, inherited: (&'d str, &'d str), path: Path, found: &mut Found<'d>) {
    let text = |key, inherited| object.child(key).and_then(Node::text).unwrap_or(inherited);
    let (version, kind) = (text("apiVersion", inherited.0), text("kind", inherited.1));
    // kubectl takes every kind with `items` for a list (`UnstructuredJSONScheme`), whose kind says that of its items.
    if let (Some(item_kind), Some(items)) = (kind.strip_suffix("List"), object.child("items")) {
        for (index, item) in items.items().iter().enumerate() {
            let steps = [&path.steps[..], &[Step::Key("items"), Step::Index(index)]].concat();
            search(item, (version, item_kind), Path { steps, ..path }, found);
        }
        return;
    }
    let group = version.rsplit_once('/').map_or("", |(group, _)| group);
    let owner =
        if kind.is_empty() { "a document without a kind".to_owned() } else { format!("{kind} {}", name(object)) };
    let mut left = |at, why: &str| found.notes.push(Remark::new(at, format!("{owner} is left as it is: {why}")));
    let holding = holding(group, kind);
    let namespace = object.child("metadata").and_then(|metadata| metadata.child("namespace")?.text());
    let ignored = namespace.filter(|namespace| is_ignored(namespace));
    if let Some(namespace) = ignored {
        if !matches!(holding, Holding::Unknown) || unknown_kinds::reason(version, kind, object).is_some() {
            left(object.at, &format!("egret never goes into pods of the namespace {namespace}"));
        }
        return;
    }
    let (steps, optional) = match holding {
        Holding::At(steps) => (steps, false),
        Holding::PerhapsAt(steps) => (steps, true),
        Holding::Closed(why) => return left(object.at, why),
        Holding::Unknown => {
            if let Some(why) = unknown_kinds::reason(version, kind, object) {
                left(object.at, &why);
            }
            return;
        }
    };
    if !(optional && object.child("spec").is_some_and(|spec| spec.child("template").is_none())) {
        collect(object, steps, &Holder { owner: &owner, object, steps }, path, found);
    }
}

fn name(object: &Node) -> &str {
    let metadata = object.child("metadata");
    let named = |key| metadata.and_then(|metadata| metadata.child(key)?.text());
    named("name").or_else(|| named("generateName")).unwrap_or("without a name")
}

/// The object whose pods are collected.
struct Holder<'h> {
    owner: &'h str,
    object: &'h Node,
    /// From the object to its pods.
    steps: &'static [&'static str],
}

impl Holder<'_> {
    fn without_spec(&self) -> Remark {
        let spec: Vec<&str> = self.steps.iter().chain(&["spec"]).copied().collect();
        Remark::new(self.object.at, format!("{} has no {}", self.owner, spec.join(".")))
    }
}

/// Follows `steps` from `node` to the pods, through every item of a list.
fn collect<'d>(node: &'d Node, steps: &[&'static str], holder: &Holder<'_>, mut path: Path, found: &mut Found<'d>) {
    match steps {
        ["*", rest @ ..] => {
            for (index, item) in node.items().iter().enumerate() {
                let steps = [&path.steps[..], &[Step::Index(index)]].concat();
                collect(item, rest, holder, Path { steps, ..path }, found);
            }
        }
        [key, rest @ ..] => {
            let Some(inner) = node.child(key) else { return found.problems.push(holder.without_spec()) };
            path.steps.push(Step::Key(key));
            collect(inner, rest, holder, path, found);
        }
        [] => {
            let Some(spec) = node.child("spec") else { return found.problems.push(holder.without_spec()) };
            if spec.child("containers").is_none_or(|containers| containers.items().is_empty()) {
                let message = format!("this pod has no containers ({})", holder.owner);
                return found.problems.push(Remark::new(spec.at, message));
            }
            path.steps.push(Step::Key("spec"));
            found.pods.push(Pod { owner: holder.owner.to_owned(), path, metadata: node.child("metadata"), spec });
        }
    }
}
