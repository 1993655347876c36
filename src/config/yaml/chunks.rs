//! A file → runs of text that hold one document each, so that a syntax error in one hides nothing of the others.

use serde::de::IgnoredAny;

use super::located::Place;

/// A run of text that holds one document (or, after `...`, several).
pub(super) struct Chunk<'t> {
    /// Lines of the file before this chunk.
    pub lines_before: u32,
    /// Characters of its first line before this chunk.
    pub columns_before: u32,
    pub text: &'t str,
}

impl Chunk<'_> {
    /// The place in the file of a line (from 1) and a column (from 0) of this chunk.
    pub fn place(&self, line: usize, column: usize) -> Place {
        let before = if line == 1 { self.columns_before } else { 0 };
        Place { line: line as u32 + self.lines_before, column: column as u32 + 1 + before }
    }
}

/// Cuts before each `---` line (no YAML scalar may hold such a line, YAML 1.2 §9.1.2) and between JSON objects.
pub(super) fn chunks(text: &str) -> Vec<Chunk<'_>> {
    lines(text).into_iter().flat_map(json_objects).collect()
}

/// JSON objects may follow one another without anything between them, as kubectl's decoder takes them.
fn json_objects(chunk: Chunk<'_>) -> Vec<Chunk<'_>> {
    let body = start_of_content(chunk.text);
    if !chunk.text[body..].starts_with('{') {
        return vec![chunk];
    }
    let mut stream = serde_json::Deserializer::from_str(&chunk.text[body..]).into_iter::<IgnoredAny>();
    let mut objects = vec![];
    let mut start = 0;
    // What is no JSON, `{a: b}`, stays with the YAML that it stands in.
    while let Some(Ok(_)) = stream.next() {
        let end = body + stream.byte_offset();
        if chunk.text[end..].trim_start().starts_with('{') {
            objects.push(start..end);
            start = end;
        }
    }
    objects.push(start..chunk.text.len());
    let part = |range: std::ops::Range<usize>| {
        let before = &chunk.text[..range.start];
        let last_line = before.rsplit('\n').next().unwrap_or_default();
        Chunk {
            lines_before: chunk.lines_before + before.matches('\n').count() as u32,
            columns_before: last_line.chars().count() as u32,
            text: &chunk.text[range],
        }
    };
    objects.into_iter().map(part).collect()
}

/// Where the document begins behind `---`, blank lines and comments.
fn start_of_content(text: &str) -> usize {
    let mut rest = text.strip_prefix("---").unwrap_or(text);
    loop {
        rest = rest.trim_start();
        if !rest.starts_with('#') {
            return text.len() - rest.len();
        }
        rest = rest.find('\n').map_or("", |end| &rest[end..]);
    }
}

/// Cuts before each `---` line, except where only directives (`%YAML`) and comments stand before it.
fn lines(text: &str) -> Vec<Chunk<'_>> {
    let mut chunks = Vec::new();
    let (mut start, mut lines_before) = (0, 0);
    let (mut offset, mut line) = (0, 0);
    let (mut directive, mut content) = (false, false);
    for text_line in text.split_inclusive('\n') {
        if is_document_start(text_line) && offset > start && (content || !directive) {
            chunks.push(Chunk { lines_before, columns_before: 0, text: &text[start..offset] });
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
    chunks.push(Chunk { lines_before, columns_before: 0, text: &text[start..] });
    chunks
}

fn is_document_start(line: &str) -> bool {
    line.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}
