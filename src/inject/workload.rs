//! Where in a document are pods? Knows the kinds that hold one and nothing of what stands in it.
//!
//! A kind counts only with its own API group: custom resources that are called Job are not touched.

use super::Remark;
use crate::config::yaml::Node;

/// A step from a value to one inside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Key(&'static str),
    Index(usize),
}

/// The way to a pod's `spec`: which document, then which steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Path {
    pub document: usize,
    pub steps: Vec<Step>,
}

/// A pod or a template of pods.
#[derive(Debug)]
pub(super) struct Pod<'d> {
    pub path: Path,
    pub metadata: Option<&'d Node>,
    pub spec: &'d Node,
}

impl Pod<'_> {
    /// An annotation's text and where it stands.
    pub fn annotations(&self) -> impl Iterator<Item = (&str, &Node)> {
        let annotations = self.metadata.and_then(|metadata| metadata.child("annotations"));
        annotations.into_iter().flat_map(Node::entries).map(|entry| (&*entry.key, &entry.value))
    }

    /// A label or annotation, whichever there is; the label first, as Istio reads it.
    pub fn mark(&self, name: &str) -> Option<&Node> {
        let metadata = self.metadata?;
        ["labels", "annotations"].iter().find_map(|part| metadata.child(part)?.child(name))
    }
}

/// Every pod in a document; nothing for kinds without pods.
pub(super) fn pods<'d>(root: &'d Node, document: usize, problems: &mut Vec<Remark>) -> Vec<Pod<'d>> {
    let mut found = Vec::new();
    search(root, Path { document, steps: Vec::new() }, &mut found, problems);
    found
}

fn search<'d>(object: &'d Node, path: Path, found: &mut Vec<Pod<'d>>, problems: &mut Vec<Remark>) {
    let text = |key| object.child(key).and_then(Node::text).unwrap_or_default();
    let group = text("apiVersion").rsplit_once('/').map_or("", |(group, _)| group);
    let template: &[&'static str] = match (group, text("kind")) {
        ("", "List") => {
            for (index, item) in object.child("items").into_iter().flat_map(Node::items).enumerate() {
                let steps = [&path.steps[..], &[Step::Key("items"), Step::Index(index)]].concat();
                search(item, Path { steps, ..path }, found, problems);
            }
            return;
        }
        ("", "Pod") => &[],
        ("apps", "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet")
        | ("batch", "Job")
        | ("", "ReplicationController") => &["spec", "template"],
        ("batch", "CronJob") => &["spec", "jobTemplate", "spec", "template"],
        _ => return,
    };
    let holder = template.iter().try_fold(object, |node, key| node.child(key));
    let Some((holder, spec)) = holder.and_then(|holder| Some((holder, holder.child("spec")?))) else {
        let message = format!("this {} has no {}.spec", text("kind"), template.join("."));
        return problems.push(Remark::new(object.at, message.replace(" .spec", " spec")));
    };
    if spec.child("containers").is_none_or(|containers| containers.items().is_empty()) {
        return problems.push(Remark::new(spec.at, "this pod has no containers"));
    }
    let steps = template.iter().chain(&["spec"]).map(|key| Step::Key(key));
    let path = Path { steps: path.steps.into_iter().chain(steps).collect(), ..path };
    found.push(Pod { path, metadata: holder.child("metadata"), spec });
}
