//! Templates of Helm charts (`{{ … }}`) in what should be YAML. Knows only how they look.
//!
//! To YAML they are mappings within mappings, and its complaints about them stand anywhere but there.

/// The first template of a text, and the text as it would be without any.
pub(super) struct Template {
    /// `{{ … }}`, as written.
    pub action: String,
    /// Counted from 1.
    pub line: usize,
    /// Counted from 0, in characters.
    pub column: usize,
    /// Lines that are a template alone are empty, other templates are a word.
    pub text_without_any: String,
}

/// The first template that stands outside of quotes and comments.
pub(super) fn first_template(text: &str) -> Option<Template> {
    let mut first = None;
    let mut without = String::with_capacity(text.len());
    for (line, number) in text.split_inclusive('\n').zip(1..) {
        let Some((before, action)) = action(line) else {
            without.push_str(line);
            continue;
        };
        first.get_or_insert_with(|| (action.to_owned(), number, before.chars().count()));
        let alone = before.trim().is_empty() && line[before.len() + action.len()..].trim().is_empty();
        if alone {
            without.push('\n');
        } else {
            let mut rest = line;
            while let Some((before, action)) = self::action(rest) {
                without.extend([before, "x"]);
                rest = &rest[before.len() + action.len()..];
            }
            without.push_str(rest);
        }
    }
    let (action, line, column) = first?;
    Some(Template { action, line, column, text_without_any: without })
}

/// The line's first template and what stands before it.
fn action(line: &str) -> Option<(&str, &str)> {
    let start = line.find("{{")?;
    let (before, rest) = line.split_at(start);
    let quoted = before.matches(['"', '\'']).count() % 2 == 1;
    if quoted || before.trim_start().starts_with('#') || before.contains(" #") {
        return None;
    }
    let end = rest.find("}}")? + 2;
    Some((before, &rest[..end]))
}
