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
}
