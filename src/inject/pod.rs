//! A pod of a document, and the way to it. Knows labels and annotations, and nothing of what a pod must be.

use crate::config::yaml::{Node, Value};

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
    /// Kind and name of the object that it stands in, for people: `Deployment sleep`.
    pub owner: String,
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

/// The value at the end of a path that was found in this tree.
pub(super) fn walk<'n>(root: &'n Node, steps: &[Step]) -> &'n Node {
    steps.iter().fold(root, |node, step| {
        let next = match step {
            Step::Key(key) => node.child(key),
            Step::Index(index) => node.items().get(*index),
        };
        next.expect("the path was found in this tree")
    })
}

pub(super) fn walk_mut<'n>(root: &'n mut Node, steps: &[Step]) -> Option<&'n mut Node> {
    steps.iter().try_fold(root, |node, step| match (step, &mut node.value) {
        (Step::Key(key), Value::Mapping(entries)) => {
            entries.iter_mut().find(|entry| entry.key == *key).map(|entry| &mut entry.value)
        }
        (Step::Index(index), Value::Sequence(items)) => items.get_mut(*index),
        _ => None,
    })
}
