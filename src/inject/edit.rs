//! Puts lists into a document: as lines of text where the document has lines, in the tree where it is JSON.
//!
//! It knows nothing of pods. A document in a style where lines cannot be put between others (`{a: b}` that is not JSON)
//! is refused rather than rewritten: rewriting would lose comments and could change what a value means.

use serde_yaml::Value;

use super::Remark;
use super::parts::Additions;
use super::workload::{Path, Step};
use crate::config::yaml::{Document, Entry, Node, Place};

/// The text with all additions.
pub(super) fn apply(text: &str, documents: &[Document], all: &[(Path, Additions)]) -> Result<String, Remark> {
    if all.is_empty() {
        return Ok(text.to_owned());
    }
    if text.trim_start().starts_with('{') { in_json(text, all) } else { in_lines(text, documents, all) }
}

fn in_json(text: &str, all: &[(Path, Additions)]) -> Result<String, Remark> {
    let start = Place { line: 1, column: 1 };
    let unreadable = |error: serde_json::Error| Remark::new(start, format!("not valid JSON: {error}"));
    serde_json::from_str::<serde_json::Value>(text).map_err(unreadable)?;
    // Read once more by the reader that keeps the order of keys.
    let mut root: Value =
        serde_yaml::from_str(text).map_err(|error| Remark::new(start, format!("not valid JSON: {error}")))?;
    for (path, additions) in all {
        let spec = path.steps.iter().fold(&mut root, |value, step| match step {
            Step::Key(key) => &mut value[*key],
            Step::Index(index) => &mut value[*index],
        });
        for (key, items) in additions.lists() {
            let old = spec[key].as_sequence().cloned().unwrap_or_default();
            spec[key] = Value::Sequence(items.iter().cloned().chain(old).collect());
        }
    }
    serde_json::to_string_pretty(&root).map(|json| json + "\n").map_err(unreadable)
}

/// Lines to come before line `line` (counted from 1), or instead of it.
struct Edit {
    line: usize,
    replaces: bool,
    text: String,
}

fn in_lines(text: &str, documents: &[Document], all: &[(Path, Additions)]) -> Result<String, Remark> {
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let roots: Vec<&Node> = documents.iter().filter_map(|document| document.root.as_ref()).collect();
    let mut edits = Vec::new();
    for (path, additions) in all {
        let spec = walk(roots[path.document], &path.steps);
        for (key, items) in additions.lists() {
            edits.push(edit(&lines, spec, key, items)?);
        }
    }
    // Stable: what goes to the same line stays in the order in which it was asked for.
    edits.sort_by_key(|edit| edit.line);
    let mut edits = edits.into_iter().peekable();
    let mut out = String::with_capacity(text.len() * 2);
    for (line, number) in lines.iter().zip(1..) {
        let mut kept = true;
        while let Some(edit) = edits.next_if(|edit| edit.line == number) {
            out.push_str(&edit.text);
            kept &= !edit.replaces;
        }
        if kept {
            out.push_str(line);
        }
    }
    Ok(out)
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

fn edit(lines: &[&str], spec: &Node, key: &str, items: &[Value]) -> Result<Edit, Remark> {
    let cannot =
        |at: Place| Remark::new(at, "this is written in a style that cannot be edited; write it as indented lines");
    let containers = spec.entries().iter().find(|entry| entry.key == "containers").expect("pods have containers");
    let Some(entry) = spec.entries().iter().find(|entry| entry.key == key) else {
        // A new list stands before the containers.
        let indent = own_line(lines, containers.at).ok_or_else(|| cannot(containers.at))?;
        return Ok(Edit { line: containers.at.line as usize, replaces: false, text: list(key, items, indent) });
    };
    if let Some(first) = entry.value.items().first() {
        let line = line(lines, first.at);
        let indent = line.len() - line.trim_start_matches(' ').len();
        // The dash stands right before the item; an item that begins elsewhere has a style of its own.
        let dash = line[indent..].starts_with("- ") && !line[indent + 2..].trim_start().starts_with(['&', '!']);
        if !dash || first.at.line == entry.at.line {
            return Err(cannot(first.at));
        }
        return Ok(Edit { line: first.at.line as usize, replaces: false, text: elements(items, indent) });
    }
    let indent = own_line(lines, entry.at).filter(|_| is_empty_list(lines, entry)).ok_or_else(|| cannot(entry.at))?;
    Ok(Edit { line: entry.at.line as usize, replaces: true, text: list(key, items, indent) })
}

fn line<'t>(lines: &[&'t str], at: Place) -> &'t str {
    // A line that a reader counts otherwise than this file does is none that can be edited.
    lines.get(at.line as usize - 1).copied().unwrap_or_default()
}

/// The indentation, when nothing but it stands before `at`.
fn own_line(lines: &[&str], at: Place) -> Option<usize> {
    let indent = (at.column as usize).saturating_sub(1);
    let before: Vec<char> = line(lines, at).chars().take(indent).collect();
    (before.len() == indent && before.iter().all(|c| *c == ' ')).then_some(indent)
}

/// `volumes:`, `volumes: []` or `volumes: null` alone on its line.
fn is_empty_list(lines: &[&str], entry: &Entry) -> bool {
    let rest = line(lines, entry.at).trim().strip_prefix(entry.key.as_str()).and_then(|rest| rest.strip_prefix(':'));
    rest.is_some_and(|rest| matches!(rest.trim(), "" | "[]" | "null" | "~"))
}

fn list(key: &str, items: &[Value], indent: usize) -> String {
    format!("{:indent$}{key}:\n{}", "", elements(items, indent))
}

fn elements(items: &[Value], indent: usize) -> String {
    let text = serde_yaml::to_string(items).expect("values made of text, numbers and lists");
    let mut out = String::with_capacity(text.len() * 2);
    for line in text.lines() {
        out.extend([&*" ".repeat(indent), line, "\n"]);
    }
    out
}
