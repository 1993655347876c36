//! Events of the parser → located tree, as kubectl's reader builds it: aliases copied, merge keys (`<<`) applied.
//!
//! Everything a hostile or careless file could blow up is bounded: nesting, and the copies that aliases make.

use std::collections::HashMap;

use granit_parser::{Event, ScalarStyle, Tag};

use super::located::{Document, Entry, Node, Place, SyntaxError, Value, quoted};
use super::scalar::{self, Plain};

/// Deepest nesting of a document; every walk over a tree may recurse this far.
const MAX_DEPTH: usize = 64;
/// Most bytes that the aliases of one document may copy.
const MAX_COPIED_BYTES: usize = 4 << 20;
/// What a value costs when copied, besides its text.
const NODE_BYTES: usize = 64;

/// Others have no place in Kubernetes objects.
const UNKNOWN_TAG: &str = "YAML tags (\"!…\") other than those of the core schema are not supported; remove the tag";

/// Builds a tree from events, without recursion.
#[derive(Default)]
pub(super) struct Builder {
    stack: Vec<Frame>,
    root: Option<Node>,
    anchors: HashMap<usize, Node>,
    copied_bytes: usize,
    pub errors: Vec<SyntaxError>,
}

/// A sequence or mapping that has begun and not ended.
struct Frame {
    anchor: usize,
    node: Node,
    /// In a mapping: the key whose value comes next.
    key: Option<Key>,
    /// In a mapping: its keys so far.
    keys: HashMap<String, Known>,
    /// In a mapping: the line of its merge key.
    merge_line: Option<u32>,
}

struct Key {
    text: String,
    at: Place,
    merges: bool,
}

/// A key that a mapping has already.
struct Known {
    line: u32,
    /// Of its entry.
    index: usize,
    /// It came with a merge key, so that one that is written counts instead.
    merged: bool,
}

impl Builder {
    /// One event, whose value begins at `at`.
    pub fn take(&mut self, event: Event<'_>, at: Place) -> Result<(), SyntaxError> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let plain = self.is_plain(&text, style, tag.as_deref(), at);
                self.complete(anchor, Node { at, value: Value::Scalar { text: text.into_owned(), plain } })
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.check_collection(tag.as_deref(), "seq", at);
                self.open(anchor, Node { at, value: Value::Sequence(Vec::new()) })
            }
            Event::MappingStart(_, anchor, tag) => {
                self.check_collection(tag.as_deref(), "map", at);
                self.open(anchor, Node { at, value: Value::Mapping(Vec::new()) })
            }
            Event::SequenceEnd | Event::MappingEnd => match self.stack.pop() {
                Some(frame) => self.complete(frame.anchor, frame.node),
                None => Ok(()),
            },
            Event::Alias(anchor) => {
                let mut node = self.copy_of(anchor, at)?;
                node.at = at;
                self.complete(0, node)
            }
            _ => Ok(()),
        }
    }

    /// Whether a scalar is what it looks like, and not text in any case. A tag of YAML's core schema says so too.
    fn is_plain(&mut self, text: &str, style: ScalarStyle, tag: Option<&Tag>, at: Place) -> bool {
        let Some(tag) = tag else { return style == ScalarStyle::Plain };
        let kinds = ["str", "bool", "int", "float", "null"];
        let suffix = kinds.into_iter().find(|kind| tag.is_yaml_core_schema_tag(kind)).unwrap_or_default();
        let is_meant = match (suffix, scalar::classify(text)) {
            ("str", _) => return false,
            ("bool", found) => matches!(found, Plain::Boolean(_)),
            ("int", found) => matches!(found, Plain::Whole(_)),
            ("float", found) => matches!(found, Plain::Whole(_) | Plain::Other(_)),
            ("null", found) => found == Plain::Null,
            _ => {
                self.error(at, UNKNOWN_TAG.to_owned());
                return style == ScalarStyle::Plain;
            }
        };
        if !is_meant {
            self.error(at, format!("{} is no {suffix}, as its tag says; remove the tag", quoted(text)));
        }
        true
    }

    fn check_collection(&mut self, tag: Option<&Tag>, kind: &str, at: Place) {
        if tag.is_some_and(|tag| !tag.is_yaml_core_schema_tag(kind)) {
            self.error(at, UNKNOWN_TAG.to_owned());
        }
    }

    fn open(&mut self, anchor: usize, node: Node) -> Result<(), SyntaxError> {
        if self.stack.len() >= MAX_DEPTH {
            return Err(too_deep(node.at));
        }
        self.stack.push(Frame { anchor, node, key: None, keys: HashMap::new(), merge_line: None });
        Ok(())
    }

    /// Puts a finished value where it belongs.
    fn complete(&mut self, anchor: usize, node: Node) -> Result<(), SyntaxError> {
        if anchor != 0 {
            self.spend(weight(&node), node.at)?;
            self.anchors.insert(anchor, node.clone());
        }
        let Some(frame) = self.stack.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match (&mut frame.node.value, frame.key.take()) {
            (Value::Sequence(items), _) => items.push(node),
            (Value::Mapping(_), Some(key)) if key.merges => frame.merge(node, key.at, &mut self.errors),
            (Value::Mapping(_), Some(key)) => frame.insert(key, node, &mut self.errors),
            (Value::Mapping(_), None) => frame.key = Some(key_of(node, &mut self.errors)),
            (Value::Scalar { .. }, _) => unreachable!("only collections are opened"),
        }
        Ok(())
    }

    fn copy_of(&mut self, anchor: usize, at: Place) -> Result<Node, SyntaxError> {
        let Some(node) = self.anchors.get(&anchor) else {
            return Err(SyntaxError {
                at,
                message: "an alias (\"*…\") may not stand inside its own anchor".to_owned(),
            });
        };
        if self.stack.len() + height(node) > MAX_DEPTH {
            return Err(too_deep(at));
        }
        let node = node.clone();
        self.spend(weight(&node), at)?;
        Ok(node)
    }

    fn spend(&mut self, bytes: usize, at: Place) -> Result<(), SyntaxError> {
        self.copied_bytes = self.copied_bytes.saturating_add(bytes);
        if self.copied_bytes <= MAX_COPIED_BYTES {
            return Ok(());
        }
        let message = "anchors and aliases of this document copy more than 4 MiB; write the values out".to_owned();
        Err(SyntaxError { at, message })
    }

    fn error(&mut self, at: Place, message: String) {
        self.errors.push(SyntaxError { at, message });
    }

    /// The document that has ended.
    pub fn finish(&mut self) -> Document {
        self.anchors.clear();
        self.copied_bytes = 0;
        Document { root: self.root.take(), errors: std::mem::take(&mut self.errors) }
    }
}

impl Frame {
    fn entries(&mut self) -> &mut Vec<Entry> {
        let Value::Mapping(entries) = &mut self.node.value else { unreachable!("only mappings have keys") };
        entries
    }

    /// An entry that is written here.
    fn insert(&mut self, key: Key, value: Node, errors: &mut Vec<SyntaxError>) {
        let Key { text, at, .. } = key;
        let entry = Entry { key: text.clone(), at, value };
        match self.keys.get_mut(&text) {
            Some(known) if known.merged => {
                (known.merged, known.line) = (false, at.line);
                let index = known.index;
                self.entries()[index] = entry;
            }
            Some(Known { line, .. }) => {
                let message = format!("{} is written twice, first in line {line}; keep one", quoted(&text));
                errors.push(SyntaxError { at, message });
            }
            None => self.push(entry, false),
        }
    }

    /// The entries of `<<` (YAML 1.1, type `merge`): a mapping, or a list of them, of which the first that has a key counts.
    fn merge(&mut self, value: Node, at: Place, errors: &mut Vec<SyntaxError>) {
        if let Some(line) = self.merge_line.replace(at.line) {
            let message = format!("\"<<\" is written twice, first in line {line}; write one, with a list");
            errors.push(SyntaxError { at, message });
            return;
        }
        let sources = match value.value {
            Value::Sequence(items) => items,
            _ => vec![value],
        };
        for source in sources {
            let Value::Mapping(entries) = source.value else {
                let message = "\"<<\" merges a mapping or a list of mappings, and this is none".to_owned();
                errors.push(SyntaxError { at: source.at, message });
                continue;
            };
            for entry in entries {
                self.merge_entry(entry, at, errors);
            }
        }
    }

    fn merge_entry(&mut self, entry: Entry, at: Place, errors: &mut Vec<SyntaxError>) {
        let Some(known) = self.keys.get(&entry.key) else { return self.push(entry, true) };
        let (index, merged, line) = (known.index, known.merged, known.line);
        // The specification has what is written count, kubectl's reader what comes last.
        if !merged && !self.entries()[index].value.means_the_same(&entry.value) {
            let key = quoted(&entry.key);
            let message = format!("\"<<\" brings {key}, which line {line} has written before; write \"<<\" first");
            errors.push(SyntaxError { at, message });
        }
    }

    fn push(&mut self, entry: Entry, merged: bool) {
        let known = Known { line: entry.at.line, index: self.entries().len(), merged };
        self.keys.insert(entry.key.clone(), known);
        self.entries().push(entry);
    }
}

/// JSON, which kubectl makes of YAML, has only texts for keys; a boolean or a number becomes one.
fn key_of(node: Node, errors: &mut Vec<SyntaxError>) -> Key {
    let at = node.at;
    let mut complain =
        |what: &str| errors.push(SyntaxError { at, message: format!("{what} cannot be a key; write a name") });
    let text = match node.value {
        Value::Scalar { text, plain: true } if text == "<<" => return Key { text, at, merges: true },
        Value::Scalar { text, plain: true } => match scalar::classify(&text) {
            Plain::Boolean(truth) => truth.to_string(),
            Plain::Whole(number) => number.to_string(),
            Plain::Null => {
                complain("nothing");
                text
            }
            Plain::Other(_) | Plain::Text => text,
        },
        Value::Scalar { text, .. } => text,
        Value::Sequence(_) | Value::Mapping(_) => {
            complain("a list or mapping");
            String::new()
        }
    };
    Key { text, at, merges: false }
}

fn too_deep(at: Place) -> SyntaxError {
    SyntaxError { at, message: format!("nested more than {MAX_DEPTH} levels deep") }
}

fn weight(node: &Node) -> usize {
    NODE_BYTES
        + match &node.value {
            Value::Scalar { text, .. } => text.len(),
            Value::Sequence(items) => items.iter().map(weight).sum(),
            Value::Mapping(entries) => entries.iter().map(|e| NODE_BYTES + e.key.len() + weight(&e.value)).sum(),
        }
}

/// Levels of collections in `node`, itself included.
fn height(node: &Node) -> usize {
    match &node.value {
        Value::Scalar { .. } => 0,
        Value::Sequence(items) => 1 + items.iter().map(height).max().unwrap_or(0),
        Value::Mapping(entries) => 1 + entries.iter().map(|e| height(&e.value)).max().unwrap_or(0),
    }
}
