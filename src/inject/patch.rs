//! One pod as the API server shows it, in JSON, and the JSON Patch (RFC 6902) that puts egret into it.
//!
//! The rules are those of manifests; only places are missing, since the pod was never a text that somebody wrote.

use serde_json::{Value, json};

use super::eligibility::ALREADY;
use super::injection::{HOST_NETWORK, consider};
use super::options::Options;
use super::pod::Step;
use super::remark::Remark;
use super::workload;
use crate::config::yaml::{Entry, Node, Place, Value as Tree};

/// What to change, and what the person who made the pod should know.
#[derive(Clone, Debug, PartialEq)]
pub struct Patched {
    /// Operations of a JSON Patch; none when the pod stays as it is.
    pub operations: Vec<Value>,
    pub notes: Vec<String>,
}

/// The patch that puts egret into `pod`; nothing for objects of another kind.
///
/// # Errors
/// Every reason why egret cannot guard this pod.
pub fn patch(pod: &Value, options: &Options) -> Result<Patched, Vec<String>> {
    let root = node(pod);
    let workload::Found { pods, mut notes, mut problems } = workload::pods(&root, 0);
    let mut operations = Vec::new();
    for pod in pods {
        // Whoever makes pods must not get past egret by a field of theirs; the label may be forbidden to them.
        let refuse = |at| Err(Remark::new(at, HOST_NETWORK));
        let Some(additions) = consider(&pod, options, refuse, &mut notes, &mut problems) else { continue };
        let spec = pointer(&pod.path.steps);
        for (key, items) in additions.lists() {
            operations.extend(insertion(&format!("{spec}/{key}"), items, pod.spec.child(key)));
        }
    }
    // The API server asks again when another webhook has changed the pod.
    notes.retain(|note| !note.message.ends_with(ALREADY));
    let words = |remarks: Vec<Remark>| remarks.into_iter().map(|remark| remark.message).collect();
    if problems.is_empty() { Ok(Patched { operations, notes: words(notes) }) } else { Err(words(problems)) }
}

/// `items` at the front of the list at `path`, which may be missing or empty.
fn insertion(path: &str, items: &[serde_yaml::Value], list: Option<&Node>) -> Vec<Value> {
    let item = |item| serde_json::to_value(item).expect("values made of text, numbers and lists");
    if list.is_none_or(|list| list.items().is_empty()) {
        let all: Vec<Value> = items.iter().map(item).collect();
        return vec![json!({ "op": "add", "path": path, "value": all })];
    }
    let each = items.iter().enumerate();
    each.map(|(at, new)| json!({ "op": "add", "path": format!("{path}/{at}"), "value": item(new) })).collect()
}

fn pointer(steps: &[Step]) -> String {
    let step = |step: &Step| match step {
        Step::Key(key) => format!("/{key}"),
        Step::Index(index) => format!("/{index}"),
    };
    steps.iter().map(step).collect()
}

/// The tree that the rules read. `null` is how the API server may write what is absent. (serde_json ends at 128 levels.)
fn node(value: &Value) -> Node {
    let scalar = |text: String, plain| Tree::Scalar { text, plain };
    let at = Place { line: 1, column: 1 };
    let value = match value {
        Value::Null => scalar("null".to_owned(), true),
        Value::Bool(truth) => scalar(truth.to_string(), true),
        Value::Number(number) => scalar(number.to_string(), true),
        Value::String(text) => scalar(text.clone(), false),
        Value::Array(items) => Tree::Sequence(items.iter().map(node).collect()),
        Value::Object(entries) => {
            let entry = |(key, value): (&String, &Value)| Entry { key: key.clone(), at, value: node(value) };
            Tree::Mapping(entries.iter().filter(|(_, value)| !value.is_null()).map(entry).collect())
        }
    };
    Node { at, value }
}
