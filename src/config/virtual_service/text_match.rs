//! `StringMatch`: a text is this, begins with this, or is as this expression says. Works on bytes, because requests are.

use crate::config::expression::Expression;
use crate::config::reader::{Field, Report};

/// As Istio has it (`validateStringRegexp`).
const MAX_EXPRESSION_BYTES: usize = 1024;

#[derive(Clone, Debug)]
pub enum TextMatch {
    /// Anything, as long as it is there.
    Present,
    Exact(String),
    Prefix(String),
    Regex(Expression),
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
        ("regex", |text| match text.len() {
            ..=MAX_EXPRESSION_BYTES => Expression::new(text).map(TextMatch::Regex),
            length => Err(format!("a regex has at most {MAX_EXPRESSION_BYTES} bytes, found {length}")),
        }),
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
}
