//! A regular expression of the configuration. It must match the whole text, and never fails: bytes that are no UTF-8 are
//! bytes like others to it.

use std::fmt;

use regex_automata::meta::{Config, Regex};
use regex_automata::util::syntax;

/// What a compiled expression may take, in bytes; Envoy's own limit is of the same kind.
const MAX_PROGRAM_BYTES: usize = 256 << 10;

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
        // A comment or an open group of the author's must not swallow what anchors it.
        program(written)?;
        Ok(Self { written: written.to_owned(), program: program(&format!(r"\A(?:{written})\z"))? })
    }

    #[must_use]
    pub fn is_match(&self, text: &[u8]) -> bool {
        self.program.is_match(text)
    }
}

/// Replaces what an expression matches, wherever in a text, as RE2's `GlobalReplace` does.
#[derive(Clone)]
pub struct Substitution {
    written: String,
    program: Regex,
    pieces: Vec<Replacement>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Replacement {
    Text(String),
    Group(usize),
}

/// What was written makes it.
impl PartialEq for Substitution {
    fn eq(&self, other: &Self) -> bool {
        self.written == other.written && self.pieces == other.pieces
    }
}

impl Eq for Substitution {}

impl fmt::Debug for Substitution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Substitution({:?}, {:?})", self.written, self.pieces)
    }
}

impl Substitution {
    /// `\1` in `rewrite` is the first group of `written`, `\0` all that matched, `\\` a backslash.
    ///
    /// # Errors
    /// What is wrong, in one line; true if it is with the expression.
    pub fn new(written: &str, rewrite: &str) -> Result<Self, (bool, String)> {
        let program = program(written).map_err(|message| (true, message))?;
        let (mut pieces, mut literal) = (Vec::new(), String::new());
        let mut letters = rewrite.chars();
        while let Some(letter) = letters.next() {
            if letter != '\\' {
                literal.push(letter);
                continue;
            }
            match letters.next() {
                Some('\\') => literal.push('\\'),
                Some(digit @ '0'..='9') => {
                    let group = digit as usize - '0' as usize;
                    if group >= program.captures_len() {
                        return Err((false, format!("the expression has no group {group}")));
                    }
                    pieces.push(Replacement::Text(std::mem::take(&mut literal)));
                    pieces.push(Replacement::Group(group));
                }
                _ => return Err((false, "behind a backslash stands the number of a group, or another one".to_owned())),
            }
        }
        pieces.push(Replacement::Text(literal));
        Ok(Self { written: written.to_owned(), program, pieces })
    }

    /// `text` with each match replaced.
    #[must_use]
    pub fn apply(&self, text: &[u8]) -> Vec<u8> {
        /// What comes out may be so much longer, in bytes: an expression may match nothing between any two characters.
        const MOST_GROWTH: usize = 64 << 10;
        let (mut out, mut end) = (Vec::with_capacity(text.len()), 0);
        for captures in self.program.captures_iter(text) {
            let Some(whole) = captures.get_match() else { continue };
            if out.len() > text.len() + MOST_GROWTH {
                break;
            }
            out.extend_from_slice(&text[end..whole.start()]);
            for piece in &self.pieces {
                match piece {
                    Replacement::Text(text) => out.extend_from_slice(text.as_bytes()),
                    Replacement::Group(group) => {
                        out.extend_from_slice(captures.get_group(*group).map_or(&b""[..], |span| &text[span]));
                    }
                }
            }
            end = whole.end();
        }
        out.extend_from_slice(&text[end..]);
        out
    }
}

fn program(text: &str) -> Result<Regex, String> {
    let limits = Config::new().nfa_size_limit(Some(MAX_PROGRAM_BYTES)).utf8_empty(false);
    let bytes = syntax::Config::new().unicode(false).utf8(false);
    let built = Regex::builder().configure(limits).syntax(bytes).build(text);
    built.map_err(|error| match error.size_limit() {
        Some(_) => "this expression is too large".to_owned(),
        None => error.syntax_error().map_or_else(|| error.to_string(), |e| last_line(&e.to_string())),
    })
}

/// The parser draws the expression first, and says what is wrong at the end.
fn last_line(text: &str) -> String {
    let line = text.lines().last().unwrap_or(text);
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_that_are_none() {
        for (text, words) in [("(", "unclosed group"), ("a{9999}{9999}", "too large"), (")|(", "unopened group")] {
            match Expression::new(text) {
                Err(message) => assert!(message.contains(words), "{text}: {message}"),
                Ok(_) => panic!("{text}"),
            }
        }
    }

    #[test]
    fn parts_are_replaced() {
        for (pattern, rewrite, text, expected) in [
            ("^/service/([^/]+)(/.*)$", r"\2/instance/\1", "/service/foo/v1/api", "/v1/api/instance/foo"),
            ("one", "two", "/xxx/one/yyy/one/zzz", "/xxx/two/yyy/two/zzz"),
            ("^(.*?)one(.*)$", r"\1two\2", "/xxx/one/yyy/one/zzz", "/xxx/two/yyy/one/zzz"),
            ("(?i)/xxx/", "/yyy/", "/aaa/XxX/bbb", "/aaa/yyy/bbb"),
            ("/a", r"\0\\\0", "/a/b", r"/a\/a/b"),
            ("(x)?y", r"[\1]", "xyy", "[x][]"),
            ("none", "n", "/a", "/a"),
        ] {
            let applied = Substitution::new(pattern, rewrite).unwrap().apply(text.as_bytes());
            assert_eq!(String::from_utf8(applied).unwrap(), expected, "{pattern} {rewrite}");
        }
        for (pattern, rewrite, expected) in [
            ("(", "x", (true, "unclosed group")),
            ("(a)", r"\2", (false, "no group 2")),
            ("a", r"x\", (false, "behind a backslash")),
            ("a", r"\n", (false, "behind a backslash")),
        ] {
            let (of_pattern, message) = Substitution::new(pattern, rewrite).unwrap_err();
            assert!(of_pattern == expected.0 && message.contains(expected.1), "{pattern} {rewrite}: {message}");
        }
        let grown = Substitution::new("", &"long".repeat(1000)).unwrap().apply(&vec![b'a'; 60_000]);
        assert!(grown.len() < 200_000 && grown.ends_with(b"aaaa"), "{}", grown.len());
    }
}
