//! `rewrite` of an HTTP route: another path, another authority.

use super::header_changes::read_authority;
use crate::config::expression::Substitution;
use crate::config::reader::{Field, Report};
use crate::config::yaml::quoted;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rewrite {
    /// Replaces the prefix that matched, or the whole path where something else matched.
    pub uri: Option<String>,
    /// Replaces each part of the path that an expression matches.
    pub uri_regex: Option<Substitution>,
    pub authority: Option<String>,
}

impl Rewrite {
    /// Whether it changes paths.
    #[must_use]
    pub fn changes_path(&self) -> bool {
        self.uri.is_some() || self.uri_regex.is_some()
    }
}

pub(super) fn read(field: &Field<'_>, report: &mut Report) -> Option<Rewrite> {
    let mut object = field.object(report)?;
    let uri = object.optional("uri").and_then(|field| path(&field, report));
    let uri_regex = object.optional("uriRegexRewrite").and_then(|field| read_substitution(&field, report));
    if object.has("uri") && object.has("uriRegexRewrite") {
        object.error("only one of uri and uriRegexRewrite may be set", report);
    }
    let authority = object.optional("authority").and_then(|field| read_authority(&field, report));
    if !["uri", "authority", "uriRegexRewrite"].iter().any(|name| object.has(name)) {
        object.error("must have at least one of uri, uriRegexRewrite and authority", report);
    }
    object.finish(report);
    Some(Rewrite { uri, uri_regex, authority })
}

fn read_substitution(field: &Field<'_>, report: &mut Report) -> Option<Substitution> {
    let mut object = field.object(report)?;
    let wanted = object.required("match");
    let rewrite = object.required("rewrite");
    object.finish(report);
    let pattern = wanted.as_ref().and_then(|field| field.word(report));
    let text = rewrite.as_ref().and_then(|field| field.text(report));
    let (wanted, rewrite, pattern, text) = (wanted?, rewrite?, pattern?, text?);
    if !text.bytes().all(|b| b.is_ascii_graphic() && b != b'#') {
        rewrite.error("what stands in a path has neither blanks nor # nor other than ASCII characters", report);
        return None;
    }
    match Substitution::new(pattern, text) {
        Ok(substitution) => Some(substitution),
        Err((of_pattern, message)) => {
            let at = if of_pattern { &wanted } else { &rewrite };
            at.error(message, report);
            None
        }
    }
}

/// What may stand in a request line as a path.
pub(super) fn path(field: &Field<'_>, report: &mut Report) -> Option<String> {
    let text = field.word(report)?;
    if !text.starts_with('/') || !text.bytes().all(|b| b.is_ascii_graphic() && b != b'#') {
        field.error(format!("expected a path that begins with \"/\", found {}", quoted(text)), report);
        return None;
    }
    Some(text.to_owned())
}
