//! YAML text → trees of values that know their line and column. Knows nothing of what the values mean.
//!
//! A file is cut at its `---` lines first (no YAML scalar may hold such a line, YAML 1.2 §9.1.2), so that a syntax error
//! in one document hides nothing of the others. Everything a hostile or careless file could blow up is bounded: nesting,
//! and the copies that anchors and aliases make.

use std::collections::HashMap;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Tag};

use super::line_breaks;

/// Deepest nesting of a document; every walk over a tree may recurse this far.
const MAX_DEPTH: usize = 64;
/// Most bytes that the aliases of one document may copy.
const MAX_COPIED_BYTES: usize = 4 << 20;
/// What a value costs when copied, besides its text.
const NODE_BYTES: usize = 64;

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

/// Every document of `text`, in order; empty ones (only comments) are left out.
pub(crate) fn documents(text: &str) -> Vec<Document> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if let Some(error) = forbidden_character(text).or_else(|| line_breaks::refused(text)) {
        return vec![Document { root: None, errors: vec![error] }];
    }
    chunks(text).into_iter().flat_map(|chunk| parse(&chunk)).collect()
}

/// The first character that YAML 1.2 §5.1 does not allow. (The parser takes NUL for the end of the file.)
fn forbidden_character(text: &str) -> Option<SyntaxError> {
    let forbidden = |c: char| (c.is_control() && !matches!(c, '\t' | '\n' | '\r' | '\u{85}')) || c == '\u{fffe}';
    let index = text.find(forbidden)?;
    let before = &text[..index];
    let line_start = before.rfind('\n').map_or(0, |i| i + 1);
    let at = Place {
        line: before.matches('\n').count() as u32 + 1,
        column: before[line_start..].chars().count() as u32 + 1,
    };
    let code = text[index..].chars().next().map_or(0, u32::from);
    Some(SyntaxError { at, message: format!("the control character U+{code:04X} may not stand in YAML; remove it") })
}

/// A run of lines that holds one document (or, after `...`, several).
struct Chunk<'t> {
    /// Lines of the file before this chunk.
    lines_before: u32,
    text: &'t str,
}

/// Cuts before each `---` line, except where only directives (`%YAML`) and comments stand before it.
fn chunks(text: &str) -> Vec<Chunk<'_>> {
    let mut chunks = Vec::new();
    let (mut start, mut lines_before) = (0, 0);
    let (mut offset, mut line) = (0, 0);
    let (mut directive, mut content) = (false, false);
    for text_line in text.split_inclusive('\n') {
        if is_document_start(text_line) && offset > start && (content || !directive) {
            chunks.push(Chunk { lines_before, text: &text[start..offset] });
            (start, lines_before) = (offset, line);
            (directive, content) = (false, false);
        }
        match text_line.trim_start().chars().next() {
            None | Some('#') => {}
            Some('%') if !content => directive = true,
            Some(_) => content = true,
        }
        offset += text_line.len();
        line += 1;
    }
    chunks.push(Chunk { lines_before, text: &text[start..] });
    chunks
}

fn is_document_start(line: &str) -> bool {
    line.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

fn parse(chunk: &Chunk<'_>) -> Vec<Document> {
    let mut parser = Parser::new_from_str(chunk.text);
    let mut builder = Builder { lines_before: chunk.lines_before, ..Builder::default() };
    let mut documents = Vec::new();
    while let Some(event) = parser.next_event() {
        let step = match event {
            Ok((Event::DocumentEnd, _)) => {
                documents.push(builder.finish());
                Ok(())
            }
            Ok((event, span)) => builder.take(event, span.start),
            Err(error) => Err(SyntaxError {
                at: builder.place(*error.marker()),
                message: format!(
                    "not valid YAML: {}{}",
                    error.info(),
                    syntax_hint(chunk.text, error.marker().line(), error.info())
                ),
            }),
        };
        if let Err(error) = step {
            builder.errors.push(error);
            documents.push(Document { root: None, errors: std::mem::take(&mut builder.errors) });
            break;
        }
    }
    documents.retain(|document| document.root.is_some() || !document.errors.is_empty());
    documents
}

/// What to do about the commonest mistakes; the parser's words only say what it met.
fn syntax_hint(text: &str, line: usize, complaint: &str) -> &'static str {
    let indentation_has_tab = |line: &str| line[..line.len() - line.trim_start().len()].contains('\t');
    if text.lines().skip(line.saturating_sub(2)).take(2).any(indentation_has_tab) {
        "; a tab stands in the indentation, use spaces"
    } else if complaint.starts_with("mapping values are not allowed") {
        "; check the indentation, and quote a text that holds \": \""
    } else if complaint.contains("did not find expected") {
        "; check the indentation, and that every bracket and quote is closed"
    } else {
        ""
    }
}

/// Builds a tree from events, without recursion.
#[derive(Default)]
struct Builder {
    lines_before: u32,
    stack: Vec<Frame>,
    root: Option<Node>,
    anchors: HashMap<usize, Node>,
    copied_bytes: usize,
    errors: Vec<SyntaxError>,
}

/// A sequence or mapping that has begun and not ended.
struct Frame {
    anchor: usize,
    node: Node,
    /// In a mapping: the key whose value comes next.
    key: Option<(String, Place)>,
    /// In a mapping: its keys so far and their lines.
    keys: HashMap<String, u32>,
}

impl Builder {
    fn place(&self, marker: Marker) -> Place {
        Place { line: marker.line() as u32 + self.lines_before, column: marker.col() as u32 + 1 }
    }

    fn take(&mut self, event: Event<'_>, marker: Marker) -> Result<(), SyntaxError> {
        let at = self.place(marker);
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let text_tag = self.is_text_tag(tag.as_deref(), at);
                let plain = style == ScalarStyle::Plain && !text_tag;
                self.complete(anchor, Node { at, value: Value::Scalar { text: text.into_owned(), plain } })
            }
            Event::SequenceStart(anchor, tag) => {
                self.is_text_tag(tag.as_deref(), at);
                self.open(anchor, Node { at, value: Value::Sequence(Vec::new()) })
            }
            Event::MappingStart(anchor, tag) => {
                self.is_text_tag(tag.as_deref(), at);
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

    /// Whether the tag makes a value text whatever it looks like. Other tags have no place in Kubernetes objects.
    fn is_text_tag(&mut self, tag: Option<&Tag>, at: Place) -> bool {
        match tag {
            None => false,
            Some(tag) if tag.is_yaml_core_schema() && tag.suffix == "str" => true,
            Some(tag) if tag.is_yaml_core_schema() && matches!(&*tag.suffix, "map" | "seq") => false,
            Some(_) => {
                self.error(at, "YAML tags (\"!…\") are not supported; remove the tag".to_owned());
                false
            }
        }
    }

    fn open(&mut self, anchor: usize, node: Node) -> Result<(), SyntaxError> {
        if self.stack.len() >= MAX_DEPTH {
            return Err(too_deep(node.at));
        }
        self.stack.push(Frame { anchor, node, key: None, keys: HashMap::new() });
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
            (Value::Mapping(entries), Some((key, at))) => match frame.keys.get(&key) {
                None => {
                    frame.keys.insert(key.clone(), at.line);
                    entries.push(Entry { key, at, value: node });
                }
                Some(line) => {
                    let message = format!("{} is written twice, first in line {line}; keep one", quoted(&key));
                    self.errors.push(SyntaxError { at, message });
                }
            },
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

    fn finish(&mut self) -> Document {
        self.anchors.clear();
        self.copied_bytes = 0;
        Document { root: self.root.take(), errors: std::mem::take(&mut self.errors) }
    }
}

fn key_of(node: Node, errors: &mut Vec<SyntaxError>) -> (String, Place) {
    let at = node.at;
    let (key, complaint) = match node.value {
        Value::Scalar { text, plain: true } if text == "<<" => {
            (text, Some("merge keys (\"<<\") are not supported; write the fields out"))
        }
        Value::Scalar { text, .. } => (text, None),
        Value::Sequence(_) | Value::Mapping(_) => {
            (String::new(), Some("a list or mapping cannot be a key; write a name"))
        }
    };
    errors.extend(complaint.map(|message| SyntaxError { at, message: message.to_owned() }));
    (key, at)
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

/// `text` for a message: in quotes, escaped (a terminal may print it), cut to a readable length.
pub(crate) fn quoted(text: &str) -> String {
    const SHOWN: usize = 60;
    match text.char_indices().nth(SHOWN) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}…", &text[..end]),
    }
}
