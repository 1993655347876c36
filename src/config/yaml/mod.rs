//! YAML and JSON text → trees of values that know their line and column. Knows nothing of what the values mean.
//!
//! What kubectl reads is read: libyaml's grammar, since kubectl's parser is a port of it, and streams of JSON.

mod chunks;
mod helm;
mod line_breaks;
mod located;
pub(crate) mod scalar;
mod tree_builder;

use granit_parser::{Event, Parser, options};

use chunks::{Chunk, chunks};
pub(crate) use located::{Document, Entry, Node, Place, SyntaxError, Value, quoted};
use tree_builder::Builder;

/// Every document of `text`, in order; empty ones (only comments) are left out.
pub(crate) fn documents(text: &str) -> Vec<Document> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if let Some(error) = forbidden_character(text).or_else(|| line_breaks::refused(text)) {
        return vec![Document { root: None, errors: vec![error] }];
    }
    chunks(text).into_iter().flat_map(|chunk| read(&chunk)).collect()
}

/// The documents of a chunk; where a template of Helm is what makes it no YAML, that is said instead.
fn read(chunk: &Chunk<'_>) -> Vec<Document> {
    let documents = parse(chunk);
    if documents.iter().all(|document| document.errors.is_empty()) {
        return documents;
    }
    let Some(template) = helm::first_template(chunk.text) else { return documents };
    let without = Chunk { text: &template.text_without_any, ..*chunk };
    let readable = |document: &Document| document.root.is_some();
    // Another mistake would not go away with the templates.
    if !parse(&without).iter().all(readable) {
        return documents;
    }
    let at = chunk.place(template.line, template.column);
    let shown = quoted(&template.action);
    let message = format!("{shown} is a template of Helm, not YAML; render it first (helm template)");
    vec![Document { root: None, errors: vec![SyntaxError { at, message }] }]
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

fn parse(chunk: &Chunk<'_>) -> Vec<Document> {
    let mut parser =
        Parser::new_from_str_with_options(chunk.text, options! { block_scalar_eof_without_line_feed: true });
    let mut builder = Builder::default();
    let mut documents = Vec::new();
    while let Some(event) = parser.next_event() {
        let step = match event {
            Ok((Event::DocumentEnd, _)) => {
                documents.push(builder.finish());
                Ok(())
            }
            Ok((event, span)) => builder.take(event, chunk.place(span.start.line(), span.start.col())),
            Err(error) => Err(SyntaxError {
                at: chunk.place(error.marker().line(), error.marker().col()),
                message: format!(
                    "not valid YAML: {}{}",
                    error.info(),
                    syntax_hint(chunk.text, error.marker().line(), &error.info())
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
