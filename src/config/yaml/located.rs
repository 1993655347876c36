//! A tree of values that know their line and column. Knows nothing of where it came from.

use super::scalar::{self, Plain};

/// Line and column, both counted from 1; the column in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub line: u32,
    pub column: u32,
}

/// A value and where it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    pub at: Place,
    pub value: Value,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    /// `plain`: neither quoted nor a block, so that `80` and `true` may be more than text.
    Scalar {
        text: String,
        plain: bool,
    },
    Sequence(Vec<Node>),
    Mapping(Vec<Entry>),
}

impl Node {
    /// The entries of a mapping; none of anything else.
    pub fn entries(&self) -> &[Entry] {
        if let Value::Mapping(entries) = &self.value { entries } else { &[] }
    }

    /// The items of a sequence; none of anything else.
    pub fn items(&self) -> &[Node] {
        if let Value::Sequence(items) = &self.value { items } else { &[] }
    }

    /// The text of a scalar.
    pub fn text(&self) -> Option<&str> {
        if let Value::Scalar { text, .. } = &self.value { Some(text) } else { None }
    }

    /// Whether both are the same value, wherever they stand.
    pub fn means_the_same(&self, other: &Node) -> bool {
        match (&self.value, &other.value) {
            (Value::Sequence(a), Value::Sequence(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.means_the_same(b))
            }
            (Value::Mapping(a), Value::Mapping(b)) => {
                let same =
                    |entry: &Entry| other.child(&entry.key).is_some_and(|value| entry.value.means_the_same(value));
                a.len() == b.len() && a.iter().all(same)
            }
            (Value::Scalar { text: a, plain: a_plain }, Value::Scalar { text: b, plain: b_plain }) => {
                let is_text = || matches!(scalar::classify(a), Plain::Text);
                a == b && (a_plain == b_plain || is_text())
            }
            _ => false,
        }
    }

    /// The value of `key` in a mapping.
    pub fn child(&self, key: &str) -> Option<&Node> {
        self.entries().iter().find(|entry| entry.key == key).map(|entry| &entry.value)
    }
}

/// One `key: value`; keys are unique within a mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub key: String,
    pub at: Place,
    pub value: Node,
}

/// Why a text is not the YAML that it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SyntaxError {
    pub at: Place,
    pub message: String,
}

/// One document: its tree as far as there is one, and what was wrong. A tree beside errors serves only to find more.
#[derive(Debug, Default)]
pub(crate) struct Document {
    pub root: Option<Node>,
    pub errors: Vec<SyntaxError>,
}

/// `text` for a message: in quotes, escaped (a terminal may print it), cut to a readable length.
pub(crate) fn quoted(text: &str) -> String {
    const SHOWN: usize = 60;
    match text.char_indices().nth(SHOWN) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}…", &text[..end]),
    }
}
