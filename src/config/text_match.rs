//! `StringMatch`: a text is this, begins with this, or is as this expression says. Works on bytes, because requests are.
//!
//! An expression must match the whole text, and never fails: bytes that are no UTF-8 are bytes like others to it.

use std::fmt;

use regex_automata::meta::{Config, Regex};
use regex_automata::util::syntax;

use super::reader::{Field, Report};

/// What a compiled expression may take, in bytes; Envoy's own limit is of the same kind.
const MAX_PROGRAM_BYTES: usize = 256 << 10;

#[derive(Clone, Debug)]
pub enum TextMatch {
    /// Anything, as long as it is there.
    Present,
    Exact(String),
    Prefix(String),
    Regex(Expression),
}

/// A regular expression that must match the whole text.
#[derive(Clone)]
pub struct Expression {
    written: String,
    program: Regex,
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Expression({:?})", self.written)
    }
}

impl Expression {
    /// # Errors
    /// What is wrong with it, in one line.
    pub fn new(written: &str) -> Result<Self, String> {
        let limits = Config::new().nfa_size_limit(Some(MAX_PROGRAM_BYTES)).utf8_empty(false);
        let bytes = syntax::Config::new().unicode(false).utf8(false);
        // A comment or an open group of the author's must not swallow what anchors it.
        let program = |text: &str| {
            let built = Regex::builder().configure(limits.clone()).syntax(bytes).build(text);
            built.map_err(Box::new)
        };
        let anchored = match program(written) {
            Ok(_) => program(&format!(r"\A(?:{written})\z")),
            Err(error) => Err(error),
        };
        match anchored {
            Ok(program) => Ok(Self { written: written.to_owned(), program }),
            Err(error) => match error.size_limit() {
                Some(_) => Err("this expression is too large".to_owned()),
                None => Err(error.syntax_error().map_or_else(|| error.to_string(), |e| last_line(&e.to_string()))),
            },
        }
    }

    #[must_use]
    pub fn is_match(&self, text: &[u8]) -> bool {
        self.program.is_match(text)
    }
}

/// The parser draws the expression first, and says what is wrong at the end.
fn last_line(text: &str) -> String {
    let line = text.lines().last().unwrap_or(text);
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

impl TextMatch {
    #[must_use]
    pub fn is_match(&self, text: &[u8], ignore_case: bool) -> bool {
        let same = |wanted: &str, found: &[u8]| {
            let wanted = wanted.as_bytes();
            if ignore_case { wanted.eq_ignore_ascii_case(found) } else { wanted == found }
        };
        match self {
            Self::Present => true,
            Self::Exact(wanted) => same(wanted, text),
            Self::Prefix(wanted) => text.get(..wanted.len()).is_some_and(|start| same(wanted, start)),
            Self::Regex(expression) => expression.is_match(text),
        }
    }
}

pub(super) fn read(field: &Field<'_>, report: &mut Report) -> Option<TextMatch> {
    let mut object = field.object(report)?;
    let mut found = Vec::new();
    for (name, make) in [
        ("exact", (|text: &str| Ok(TextMatch::Exact(text.to_owned()))) as fn(&str) -> Result<TextMatch, String>),
        ("prefix", |text| Ok(TextMatch::Prefix(text.to_owned()))),
        ("regex", |text| Expression::new(text).map(TextMatch::Regex)),
    ] {
        let Some(value) = object.optional(name) else { continue };
        // Only equality can be meant of nothing: a parameter without a value.
        let text = if name == "exact" { value.text(report) } else { value.word(report) };
        let Some(text) = text else { continue };
        match make(text) {
            Ok(one) => found.push(one),
            Err(message) => value.error(message, report),
        }
    }
    object.finish(report);
    if found.len() > 1 {
        field.error("only one of exact, prefix and regex may be set", report);
    }
    Some(found.pop().unwrap_or(TextMatch::Present))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        let regex = |text: &str| TextMatch::Regex(Expression::new(text).unwrap());
        for (wanted, text, ignore_case, expected) in [
            (TextMatch::Exact("/a".into()), &b"/a"[..], false, true),
            (TextMatch::Exact("/a".into()), b"/A", false, false),
            (TextMatch::Exact("/a".into()), b"/A", true, true),
            (TextMatch::Exact("/a".into()), b"/ab", true, false),
            (TextMatch::Prefix("/a".into()), b"/ab", false, true),
            (TextMatch::Prefix("/a".into()), b"/", false, false),
            (TextMatch::Present, b"", false, true),
            (regex("/a|/b"), b"/b", false, true),
            (regex("/a|/b"), b"/b/", false, false),
            (regex("a"), b"ba", false, false),
            (regex(".*"), b"\xff\xc0\xaf", false, true),
            (regex("[^/]+"), b"\xe9", false, true),
            (regex("(?i)x"), b"X", false, true),
        ] {
            assert_eq!(
                wanted.is_match(text, ignore_case),
                expected,
                "{wanted:?} {:?}",
                text.escape_ascii().to_string()
            );
        }
    }

    #[test]
    fn expressions_that_are_none() {
        for (text, words) in [("(", "unclosed group"), ("a{9999}{9999}", "too large"), (")|(", "unopened group")] {
            match Expression::new(text) {
                Err(message) => assert!(message.contains(words), "{text}: {message}"),
                Ok(_) => panic!("{text}"),
            }
        }
    }
}
