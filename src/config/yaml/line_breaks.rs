//! Line breaks that the readers of YAML do not agree on: found before a text is parsed.
//!
//! kubectl and PyYAML read YAML 1.1, where U+0085, U+2028 and U+2029 end a line (§4.1.4); to a YAML 1.2 parser they are
//! text (§5.4). A comment could so hide a field from egret that Kubernetes acts on. A carriage return alone ends a line in
//! both, but not for those who count lines at line feeds. None of them has a use in a manifest, so none is let through.
//! JSON has no such doubt: there they are text within a string, and a carriage return is a blank between values.

use serde::de::IgnoredAny;

use super::located::{Place, SyntaxError};

/// The first line break that is refused.
pub(super) fn refused(text: &str) -> Option<SyntaxError> {
    let (index, found) = text.char_indices().find(|(index, c)| match c {
        '\u{85}' | '\u{2028}' | '\u{2029}' => true,
        '\r' => !text[index + 1..].starts_with('\n'),
        _ => false,
    })?;
    if is_json(text) {
        return None;
    }
    let before = &text[..index];
    let line_start = before.rfind('\n').map_or(0, |i| i + 1);
    let at = Place {
        line: before.matches('\n').count() as u32 + 1,
        column: before[line_start..].chars().count() as u32 + 1,
    };
    let message = if found == '\r' {
        "a carriage return without a line feed after it ends a line for some readers of YAML only; end lines with a line \
         feed, or with one carriage return and a line feed, and write it as \\r in double quotes where it is part of a text"
            .to_owned()
    } else {
        let code = u32::from(found);
        format!(
            "the character U+{code:04X} ends a line for some readers of YAML, kubectl among them, and not for others; write \
             it as \\u{code:04x} in double quotes, or remove it"
        )
    };
    Some(SyntaxError { at, message })
}

/// One JSON value, or several after each other.
fn is_json(text: &str) -> bool {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<IgnoredAny>();
    text.trim_start().starts_with('{') && values.all(|value| value.is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::yaml::documents;

    #[test]
    fn a_line_break_of_yaml_1_1_is_refused_with_its_place_wherever_it_stands() {
        for c in ['\u{85}', '\u{2028}', '\u{2029}'] {
            let escape = format!("\\u{:04x} in double quotes", u32::from(c));
            for (text, line, column) in [
                (format!("spec:\n  # c{c}  hostNetwork: true\n"), 2, 6),
                (format!("a: é{c}b: c\n"), 1, 5),
                (format!("a: \"x{c}y\"\n"), 1, 6),
                (format!("a: |\n  x\n  {c}\n"), 3, 3),
                (format!("a: b\n---\nc: d # {c}"), 3, 8),
                // Flow style is not JSON yet.
                (format!("{{a: b}} # {c}c: d"), 1, 10),
                (format!("\u{feff}a: {c}"), 1, 4),
            ] {
                let read = documents(&text);
                let [error] = &*read[0].errors else { panic!("{text:?}: {read:?}") };
                assert_eq!((error.at, read.len()), (Place { line, column }, 1), "{text:?}");
                assert!(read[0].root.is_none() && error.message.contains(&escape), "{text:?}: {error:?}");
            }
        }
    }

    #[test]
    fn a_carriage_return_alone_is_refused() {
        for (text, line, column) in [
            ("a: b\r\n# x\r# y\r\n", 2, 4),
            ("a: b\r\r\nc: d\r\r\n", 1, 5),
            ("a: b\rc: d\r", 1, 5),
            ("a: b\n\r", 2, 1),
            ("a: 'b\rc'\n", 1, 6),
        ] {
            let error = refused(text).unwrap();
            assert_eq!(error.at, Place { line, column }, "{text:?}");
            assert!(error.message.contains("carriage return"), "{error:?}");
        }
    }

    #[test]
    fn escapes_json_and_ordinary_line_ends_are_read() {
        for text in [
            "a: \"\\u2028 \\u2029 \\x85 \\N \\L \\P \\r\"\n",
            "a: b\r\nc: d\r\n",
            "a: b\n\nc: d",
            "{\"a\":\r\"b\u{2028}\u{85}\"}\r",
            "\n{\"a\": \"\u{2029}\"}\n{\"b\": 1}\n",
        ] {
            assert_eq!(refused(text), None, "{text:?}");
        }
    }
}
