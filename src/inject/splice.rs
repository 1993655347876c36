//! Changes to a text at places of its located tree: whole lines before others, or a few characters within one.
//!
//! It knows how YAML's lists look on paper and nothing of what is put into them. Lines end as those around them do.

use crate::config::yaml::{Entry, Place};

/// Text to stand instead of bytes `start..end`.
pub(super) struct Splice {
    start: usize,
    end: usize,
    text: String,
}

/// A text and where its lines begin.
pub(super) struct Source<'t> {
    text: &'t str,
    lines: Vec<usize>,
}

impl<'t> Source<'t> {
    pub fn new(text: &'t str) -> Self {
        // Places are counted behind a byte order mark.
        let mark = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
        let ends = text.match_indices('\n').map(|(end, _)| end + 1);
        Self { text, lines: std::iter::once(mark).chain(ends).collect() }
    }

    /// The text with all changes; those of one place stay in the order in which they were asked for.
    pub fn with(&self, mut splices: Vec<Splice>) -> String {
        splices.sort_by_key(|splice| splice.start);
        let mut out = String::with_capacity(self.text.len() * 2);
        let mut done = 0;
        for splice in splices {
            out.push_str(&self.text[done.min(splice.start)..splice.start]);
            out.push_str(&splice.text);
            done = done.max(splice.end);
        }
        out.push_str(&self.text[done..]);
        out
    }

    fn line(&self, number: u32) -> Option<&'t str> {
        let start = *self.lines.get(number as usize - 1)?;
        self.text[start..].split_inclusive('\n').next()
    }

    fn offset(&self, at: Place) -> Option<usize> {
        let start = *self.lines.get(at.line as usize - 1)?;
        let line = self.line(at.line).unwrap_or_default();
        let column = at.column as usize - 1;
        let within = line.char_indices().map(|(i, _)| i).chain([line.len()]).nth(column)?;
        Some(start + within)
    }

    /// What stands at `at` and behind it.
    pub fn from(&self, at: Place) -> Option<&'t str> {
        Some(&self.text[self.offset(at)?..])
    }

    /// The indentation, when nothing but it stands before `at`.
    pub fn own_line(&self, at: Place) -> Option<usize> {
        let indent = at.column as usize - 1;
        let before: Vec<char> = self.line(at.line)?.chars().take(indent).collect();
        (before.len() == indent && before.iter().all(|c| *c == ' ')).then_some(indent)
    }

    /// The line of the dash that begins the item at `at`, of the list whose key stands at `key`; and its indentation.
    pub fn dash(&self, key: Place, at: Place) -> Option<(u32, usize)> {
        for number in (key.line + 1..=at.line).rev() {
            let line = self.line(number)?;
            let content = line.trim_start_matches(' ');
            let indent = line.len() - content.len();
            if let Some(rest) = content.strip_prefix('-').filter(|rest| rest.starts_with([' ', '\r', '\n'])) {
                return (number == at.line || is_nothing(rest)).then_some((number, indent));
            }
            // Between the dash and the item there may be comments and empty lines.
            if number != at.line && !is_nothing(content) {
                return None;
            }
        }
        None
    }

    /// Whole lines before line `number`.
    pub fn before_line(&self, number: u32, text: &str) -> Option<Splice> {
        let start = *self.lines.get(number as usize - 1)?;
        Some(Splice { start, end: start, text: self.ended_as(number, text) })
    }

    /// Behind the bracket or brace at `at`.
    pub fn behind_bracket(&self, at: Place, text: String) -> Option<Splice> {
        let start = self.offset(at)? + 1;
        Some(Splice { start, end: start, text })
    }

    /// Instead of the word `old` at `at`.
    pub fn instead(&self, at: Place, old: &str, text: String) -> Option<Splice> {
        let start = self.offset(at)?;
        let found = !old.is_empty() && self.text[start..].starts_with(old);
        found.then(|| Splice { start, end: start + old.len(), text })
    }

    /// Lines below a key that has no value, `[]` or `null` on its line, which goes; a comment behind it stays.
    pub fn instead_of_nothing(&self, entry: &Entry, below: &str) -> Option<Splice> {
        let line = self.from(entry.at)?.split('\n').next()?;
        let line = line.strip_suffix('\r').unwrap_or(line);
        let colon = line.find(':')?;
        if line[..colon].trim().trim_matches(['"', '\'']) != entry.key {
            return None;
        }
        let value = &line[colon + 1..];
        let comment = ["[]", "null", "~", ""].iter().find_map(|nothing| {
            let rest = value.trim_start().strip_prefix(nothing)?;
            let apart = rest.is_empty()
                || rest.starts_with([' ', '\t'])
                || value.starts_with([' ', '\t']) && nothing.is_empty();
            (apart && is_nothing(rest)).then(|| rest.trim())
        })?;
        let start = self.offset(entry.at)?;
        let gap = if comment.is_empty() { "" } else { " " };
        let text = format!("{}{gap}{comment}\n{below}", &line[..=colon]);
        let text = self.ended_as(entry.at.line, &text);
        let end = self.lines.get(entry.at.line as usize).copied().unwrap_or(self.text.len());
        Some(Splice { start, end, text })
    }

    /// `text` with its lines ended as line `number` is.
    fn ended_as(&self, number: u32, text: &str) -> String {
        if self.line(number).is_some_and(|line| line.ends_with("\r\n")) {
            text.replace('\n', "\r\n")
        } else {
            text.to_owned()
        }
    }
}

/// Nothing but space or a comment.
fn is_nothing(text: &str) -> bool {
    let text = text.trim();
    text.is_empty() || text.starts_with('#')
}
