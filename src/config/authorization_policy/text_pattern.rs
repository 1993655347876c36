//! The patterns of an `AuthorizationPolicy`: a whole text, its beginning, its end, anything, or a path with holes.
//!
//! Works on bytes, because requests are. A pattern that could never match is refused where it is written: a rule of which
//! its author expects that it forbids something must not be without effect.

use crate::config::expression::Expression;
use crate::http::normal_path;

#[derive(Clone, Debug)]
pub enum TextPattern {
    /// `*`: anything that is not empty.
    Present,
    Exact(String),
    /// `abc*`
    Prefix(String),
    /// `*abc`
    Suffix(String),
    /// A path with `{*}` (one segment) and `{**}` (any number of them).
    Template(Expression),
}

impl TextPattern {
    /// Whether `text` is what the pattern says; letters count as they are written unless `ignore_case`.
    #[must_use]
    pub fn is_match(&self, text: &[u8], ignore_case: bool) -> bool {
        let same = |wanted: &str, found: &[u8]| {
            if ignore_case { wanted.as_bytes().eq_ignore_ascii_case(found) } else { wanted.as_bytes() == found }
        };
        match self {
            Self::Present => !text.is_empty(),
            Self::Exact(wanted) => same(wanted, text),
            Self::Prefix(wanted) => text.get(..wanted.len()).is_some_and(|start| same(wanted, start)),
            Self::Suffix(wanted) => {
                let start = text.len().checked_sub(wanted.len());
                start.is_some_and(|start| same(wanted, &text[start..]))
            }
            Self::Template(expression) => expression.is_match(text),
        }
    }

    /// # Errors
    /// A `*` elsewhere than alone, first or last.
    pub(super) fn text(written: &str) -> Result<Self, String> {
        let (open, rest) = written.strip_prefix('*').map_or((false, written), |rest| (true, rest));
        let found = match (open, rest.strip_suffix('*')) {
            (true, _) if rest.is_empty() => Self::Present,
            (true, None) => Self::Suffix(rest.to_owned()),
            (false, Some(start)) => Self::Prefix(start.to_owned()),
            (false, None) => Self::Exact(rest.to_owned()),
            (true, Some(_)) => return Err(STAR.to_owned()),
        };
        match &found {
            Self::Exact(text) | Self::Prefix(text) | Self::Suffix(text) if text.contains('*') => Err(STAR.to_owned()),
            _ => Ok(found),
        }
    }

    /// A host: lower-case, without port, but for `:*`, which is any.
    ///
    /// # Errors
    /// What could be no host.
    pub(super) fn host(written: &str) -> Result<Self, String> {
        let lower = written.to_ascii_lowercase();
        // Istio compares the port as well, and so tells to write `host` and `host:*`. Here both are the host.
        let lower = lower.strip_suffix(":*").unwrap_or(&lower);
        let found = Self::text(lower.strip_suffix('.').unwrap_or(lower))?;
        let (Self::Exact(text) | Self::Prefix(text) | Self::Suffix(text)) = &found else { return Ok(found) };
        if let Some((host, port)) = text.rsplit_once(':')
            && !host.contains(':')
            && port.bytes().all(|b| b.is_ascii_digit())
        {
            return Err(format!("a request's port is not compared: write {host:?}, and the port into ports"));
        }
        let known = |b: u8| b.is_ascii_alphanumeric() || b"-_.[]:".contains(&b);
        if text.bytes().all(known) { Ok(found) } else { Err("no host has these characters".to_owned()) }
    }

    /// A path as requests are compared: in its normal form, without query and path parameters.
    ///
    /// # Errors
    /// What no path in its normal form has.
    pub(super) fn path(written: &str) -> Result<Self, String> {
        if written.contains(['?', '#', ';']) {
            return Err("paths are compared without query, fragment and path parameters (`;…`), so this would never \
                        match; write the path alone"
                .to_owned());
        }
        if written.contains(['{', '}']) {
            return template(written);
        }
        let found = Self::text(written)?;
        let example = match &found {
            Self::Exact(text) => text.clone(),
            Self::Prefix(text) => format!("{text}x"),
            Self::Suffix(text) if text.starts_with('/') => format!("/x{text}"),
            Self::Suffix(text) => format!("/{text}"),
            Self::Present | Self::Template(_) => return Ok(found),
        };
        match normal_path(example.as_bytes()) {
            Ok(normal) if *normal == *example.as_bytes() && example.starts_with('/') => Ok(found),
            _ => {
                Err("paths are compared in their normal form, so this would never match: begin with \"/\", and write \
                      no \"//\", \"/./\", \"/../\", no escape of a letter, digit, separator or control, and others in \
                      capitals (\"%C3\")"
                    .to_owned())
            }
        }
    }
}

const STAR: &str = "`*` may stand alone, at the beginning or at the end";

/// Each hole is a whole segment, and behind `{**}` there is none (Istio's `CheckValidPathTemplate`).
fn template(written: &str) -> Result<TextPattern, String> {
    let mut expression = String::new();
    let mut is_last = false;
    let Some(path) = written.strip_prefix('/') else { return Err("a path begins with \"/\"".to_owned()) };
    for segment in path.split('/') {
        expression.push('/');
        match segment {
            "{*}" if !is_last => expression.push_str("[^/]+"),
            "{**}" if !is_last => {
                is_last = true;
                expression.push_str(".*");
            }
            _ if segment.contains(['{', '}', '*']) => {
                return Err("`{*}` and `{**}` must be whole segments, and none may follow `{**}`".to_owned());
            }
            _ => {
                let plain = format!("/{segment}");
                if normal_path(plain.as_bytes()).ok().as_deref() != Some(plain.as_bytes()) || segment.is_empty() {
                    return Err("paths are compared in their normal form, so this would never match".to_owned());
                }
                expression.push_str(&quoted(segment));
            }
        }
    }
    Expression::new(&expression).map(TextPattern::Template)
}

/// Every byte that could mean something to an expression as its code.
fn quoted(text: &str) -> String {
    let each = text.bytes().map(|byte| match byte {
        b if b.is_ascii_alphanumeric() => char::from(b).to_string(),
        b => format!("\\x{b:02x}"),
    });
    each.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_match_whole_or_at_one_end() {
        for (pattern, text, expected) in [
            ("abc", "abc", true),
            ("abc", "abcd", false),
            ("abc*", "abcd", true),
            ("abc*", "xabc", false),
            ("*abc", "xabc", true),
            ("*abc", "bc", false),
            ("*", "x", true),
            ("*", "", false),
        ] {
            assert_eq!(
                TextPattern::text(pattern).unwrap().is_match(text.as_bytes(), false),
                expected,
                "{pattern} {text}"
            );
        }
        assert!(TextPattern::text("GET").unwrap().is_match(b"get", true));
        for bad in ["a*b", "*a*", "**"] {
            assert!(TextPattern::text(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn hosts_are_names_without_ports() {
        for (pattern, host, expected) in [
            ("Example.COM.", "example.com", true),
            ("*.example.com", "a.b.example.com", true),
            ("*.example.com", "example.com", false),
            ("*.example.com", "evilexample.com", false),
            ("example.*", "example.org", true),
            ("[2001:db8::1]", "[2001:db8::1]", true),
            ("Example.com:*", "example.com", true),
            ("example.com.:*", "example.com", true),
            ("[2001:db8::1]:*", "[2001:db8::1]", true),
            ("*.example.com:*", "a.example.com", true),
            ("example.com:*", "example.com.evil", false),
        ] {
            assert_eq!(TextPattern::host(pattern).unwrap().is_match(host.as_bytes(), false), expected, "{pattern}");
        }
        assert!(TextPattern::host("example.com:80").unwrap_err().contains("into ports"));
        assert!(TextPattern::host("http://example.com").is_err());
    }

    #[test]
    fn paths_that_could_never_match_are_refused() {
        for (pattern, path, expected) in [
            ("/admin", "/admin", true),
            ("/admin", "/admin/", false),
            ("/admin/*", "/admin/x", true),
            ("*/info", "/a/info", true),
            ("*.php", "/a/b.php", true),
            ("/a/{*}/c", "/a/b/c", true),
            ("/a/{*}/c", "/a/b/b/c", false),
            ("/a/{**}", "/a/b/c", true),
            ("/a/{**}", "/ab", false),
            ("/a.b/{*}", "/axb/c", false),
            ("/{**}/health", "/a/b/health", true),
            ("/{**}/health", "/a/health", true),
            ("/{**}/health", "/health", false),
            ("/{**}/health", "/a/health/x", false),
            ("/{*}/v1/{**}", "/a/v1/b/c", true),
            ("/{*}/v1/{**}/x/y", "/a/v1/b/c/x/y", true),
            ("/{*}/v1/{**}", "/a/b/v1/c", false),
        ] {
            assert_eq!(
                TextPattern::path(pattern).unwrap().is_match(path.as_bytes(), false),
                expected,
                "{pattern} {path}"
            );
        }
        for bad in [
            "admin",
            "//admin",
            "/a/../b",
            "/a/./*",
            "/%61",
            "/a%2fb",
            "/a?b",
            "/a;b",
            "/{**}/{*}",
            "/{**}/a/{**}",
            "/{**}x",
            "/{x}",
            "/a{*}",
            "/é*x",
        ] {
            assert!(TextPattern::path(bad).is_err(), "{bad}");
        }
    }
}
