//! Puts lists into a document: as lines of text where the document has lines, behind a bracket where it has brackets, in
//! the tree where the whole text is one JSON object.
//!
//! It knows nothing of pods. What comes out is read once more and compared with what was meant, so that text that several
//! places share (anchors, aliases, merge keys) is refused rather than changed for all of them.

use serde_yaml::Value;

use super::additions::Additions;
use super::pod::{Path, Step, walk, walk_mut};
use super::remark::Remark;
use super::splice::{Source, Splice};
use crate::config::yaml::{self, Document, Entry, Node, Place};

/// The text with all additions.
pub(super) fn apply(text: &str, documents: &[Document], all: &[(Path, Additions)]) -> Result<String, Remark> {
    if all.is_empty() {
        return Ok(text.to_owned());
    }
    if let Some(json) = in_json(text, all) {
        return Ok(json);
    }
    let roots: Vec<&Node> = documents.iter().filter_map(|document| document.root.as_ref()).collect();
    let out = in_text(text, &roots, all)?;
    let documents = yaml::documents(&out);
    let after: Vec<&Node> = documents.iter().filter_map(|document| document.root.as_ref()).collect();
    let number =
        roots.iter().enumerate().position(|(number, root)| !holds(after.get(number).copied(), root, number, all));
    let Some(number) = number else { return Ok(out) };
    let pod = all.iter().find(|(path, _)| path.document == number).map(|(path, _)| walk(roots[number], &path.steps));
    Err(cannot(pod.unwrap_or(roots[number]).at))
}

fn cannot(at: Place) -> Remark {
    let why = "this is written in a style that cannot be edited (is it shared by \"*\" or \"<<\"?); write it as indented \
               lines of its own";
    Remark::new(at, why)
}

/// Whether document `number` is what it was, `before`, and all additions.
fn holds(after: Option<&Node>, before: &Node, number: usize, all: &[(Path, Additions)]) -> bool {
    let mut meant = before.clone();
    for (path, additions) in all.iter().filter(|(path, _)| path.document == number) {
        let Some(spec) = walk_mut(&mut meant, &path.steps) else { return false };
        additions.lists().for_each(|(key, items)| put(spec, key, items));
    }
    after.is_some_and(|root| root.means_the_same(&meant))
}

/// `items` at the front of the list `key`.
fn put(spec: &mut Node, key: &str, items: &[Value]) {
    let text = serde_yaml::to_string(items).expect("values made of text, numbers and lists");
    let read = yaml::documents(&text).into_iter().find_map(|document| document.root).expect("it was just written");
    let old = spec.child(key).map(|list| list.items().to_vec()).unwrap_or_default();
    let list = yaml::Value::Sequence(read.items().iter().cloned().chain(old).collect());
    let yaml::Value::Mapping(entries) = &mut spec.value else { return };
    match entries.iter_mut().find(|entry| entry.key == key) {
        Some(entry) => entry.value.value = list,
        None => entries.push(Entry { key: key.to_owned(), at: read.at, value: Node { at: read.at, value: list } }),
    }
}

/// The text as one JSON object, printed anew; `None` where it is something else.
fn in_json(text: &str, all: &[(Path, Additions)]) -> Option<String> {
    serde_json::from_str::<serde_json::Value>(text).ok()?;
    // Read once more by the reader that keeps the order of keys. What it does not take, such as pairs of surrogates, is
    // edited as text.
    let mut root: Value = serde_yaml::from_str(text).ok()?;
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
    let json = serde_json::to_string_pretty(&root).ok()? + "\n";
    Some(if text.contains("\r\n") { json.replace('\n', "\r\n") } else { json })
}

fn in_text(text: &str, roots: &[&Node], all: &[(Path, Additions)]) -> Result<String, Remark> {
    let source = Source::new(text);
    let mut splices = Vec::new();
    for (path, additions) in all {
        let spec = walk(roots[path.document], &path.steps);
        for (key, items) in additions.lists() {
            let at = spec.entries().iter().find(|entry| entry.key == key).map_or(spec.at, |entry| entry.at);
            splices.push(splice(&source, spec, key, items).ok_or_else(|| cannot(at))?);
        }
    }
    Ok(source.with(splices))
}

fn splice(source: &Source<'_>, spec: &Node, key: &str, items: &[Value]) -> Option<Splice> {
    let in_braces = source.from(spec.at).is_some_and(|text| text.starts_with('{'));
    let Some(entry) = spec.entries().iter().find(|entry| entry.key == key) else {
        if in_braces {
            return source.behind_bracket(spec.at, format!("\"{key}\": [{}], ", json(items)));
        }
        // A new list stands before the containers.
        let containers = spec.entries().iter().find(|entry| entry.key == "containers")?;
        let indent = source.own_line(containers.at)?;
        return source.before_line(containers.at.line, &list(key, items, indent));
    };
    let in_brackets = source.from(entry.value.at).is_some_and(|text| text.starts_with('['));
    match entry.value.items().first() {
        Some(_) if in_brackets => source.behind_bracket(entry.value.at, json(items) + ", "),
        Some(first) => {
            let (line, indent) = source.dash(entry.at, first.at)?;
            source.before_line(line, &elements(items, indent))
        }
        None => {
            let indent = source.own_line(entry.at).filter(|_| !in_braces);
            let as_lines = indent.and_then(|indent| source.instead_of_nothing(entry, &elements(items, indent)));
            as_lines.or_else(|| {
                let json = json(items);
                if in_brackets {
                    source.behind_bracket(entry.value.at, json)
                } else {
                    source.instead(entry.value.at, entry.value.text()?, format!("[{json}]"))
                }
            })
        }
    }
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

/// The items as they stand between brackets, which JSON and YAML have in common.
fn json(items: &[Value]) -> String {
    let each = items.iter().map(|item| serde_json::to_string(item).expect("values made of text, numbers and lists"));
    each.collect::<Vec<_>>().join(", ")
}
