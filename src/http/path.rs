//! The one form of a path that policy is matched against (RFC 3986 §6.2.2).
//!
//! A server may read `/x/../admin`, `//admin` and `/%61dmin` as `/admin`; so they are, before any rule is asked. Where
//! servers disagree (`%2f`, `%5c`, `\`, `%00`, escapes that are none) there is no such form, and no rule may be asked.

use std::borrow::Cow;

/// A path that two servers could understand in two ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the path is ambiguous: an escape or a backslash in it could be read as a separator, or not at all")]
pub struct AmbiguousPath;

/// Path and query of a request target, apart; the query begins with its `?` and may be empty.
#[must_use]
pub fn split_query(target: &[u8]) -> (&[u8], &[u8]) {
    target.split_at(target.iter().position(|&b| b == b'?').unwrap_or(target.len()))
}

/// The first value of a parameter of a request target's query, both as they were written; a parameter without `=` is empty.
#[must_use]
pub fn query_parameter<'t>(target: &'t [u8], name: &str) -> Option<&'t [u8]> {
    let (_, query) = split_query(target);
    let pairs = query.strip_prefix(b"?")?.split(|&b| b == b'&');
    let mut named = pairs.map(|pair| pair.split_at(pair.iter().position(|&b| b == b'=').unwrap_or(pair.len())));
    let (_, value) = named.find(|(key, _)| *key == name.as_bytes())?;
    Some(value.strip_prefix(b"=").unwrap_or(value))
}

/// `path` (without query) in its normal form: unreserved characters unescaped, other escapes in capitals, empty and dot
/// segments gone. `*` of `OPTIONS *` is itself.
///
/// # Errors
/// It has none.
pub fn normal_path(path: &[u8]) -> Result<Cow<'_, [u8]>, AmbiguousPath> {
    if is_normal(path) {
        return Ok(Cow::Borrowed(path));
    }
    let plain = unescape(path)?;
    let mut segments: Vec<&[u8]> = Vec::new();
    let mut ends_open = false;
    for segment in plain.split(|&b| b == b'/') {
        ends_open = matches!(segment, b"" | b"." | b"..");
        match segment {
            b"" | b"." => {}
            // RFC 3986 §5.2.4: what climbs above the root stays there.
            b".." => drop(segments.pop()),
            other => segments.push(other),
        }
    }
    let mut out = Vec::with_capacity(plain.len());
    for segment in &segments {
        out.push(b'/');
        out.extend_from_slice(segment);
    }
    if ends_open || out.is_empty() {
        out.push(b'/');
    }
    Ok(Cow::Owned(out))
}

/// `path` in its normal form, and without the parameters (`;a=b`) that some servers cut off a segment before they look at
/// it and others do not.
///
/// # Errors
/// It has no normal form, or only its parameters keep a segment from being empty or one of dots: `/a/..;/b` is `/b` to
/// some.
pub fn parameterless_path(path: &[u8]) -> Result<Cow<'_, [u8]>, AmbiguousPath> {
    if !path.contains(&b';') {
        return normal_path(path);
    }
    let mut plain = Vec::with_capacity(path.len());
    for (at, segment) in path.split(|&b| b == b'/').enumerate() {
        let name = segment.split(|&b| b == b';').next().unwrap_or_default();
        if name.len() < segment.len() && (name.is_empty() || unescape(name)?.iter().all(|&b| b == b'.')) {
            return Err(AmbiguousPath);
        }
        if at > 0 {
            plain.push(b'/');
        }
        plain.extend_from_slice(name);
    }
    normal_path(&plain).map(|normal| Cow::Owned(normal.into_owned()))
}

/// Most paths: no escape, and no segment that is empty or begins with a dot.
fn is_normal(path: &[u8]) -> bool {
    let odd = |pair: &[u8]| pair[0] == b'/' && matches!(pair[1], b'/' | b'.');
    path == b"*"
        || path.first() == Some(&b'/') && !path.iter().any(|b| matches!(b, b'%' | b'\\')) && !path.windows(2).any(odd)
}

fn unescape(path: &[u8]) -> Result<Vec<u8>, AmbiguousPath> {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path.iter().copied();
    while let Some(byte) = rest.next() {
        match byte {
            b'\\' => return Err(AmbiguousPath),
            b'%' => {
                let digit = |b: Option<u8>| b.and_then(|b| char::from(b).to_digit(16)).map(|d| d as u8);
                let (Some(high), Some(low)) = (digit(rest.next()), digit(rest.next())) else {
                    return Err(AmbiguousPath);
                };
                match high << 4 | low {
                    // Separators and controls; and bytes that UTF-8 never has: an overlong form of another character.
                    b'/' | b'\\' | b'%' | 0..=0x1f | 0x7f | 0xc0 | 0xc1 | 0xf5..=0xff => return Err(AmbiguousPath),
                    plain if plain.is_ascii_alphanumeric() || b"-._~".contains(&plain) => out.push(plain),
                    other => out.extend_from_slice(format!("%{other:02X}").as_bytes()),
                }
            }
            other => out.push(other),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_one_form_or_none() {
        for (path, expected) in [
            ("/admin", Some("/admin")),
            ("*", Some("*")),
            ("/", Some("/")),
            ("", Some("/")),
            ("//admin", Some("/admin")),
            ("/./admin", Some("/admin")),
            ("/x/../admin", Some("/admin")),
            ("/x/%2e%2e/admin", Some("/admin")),
            ("/x/%2E./admin", Some("/admin")),
            ("/../../admin", Some("/admin")),
            ("/%61dmin", Some("/admin")),
            ("/admin/.", Some("/admin/")),
            ("/admin/x/..", Some("/admin/")),
            ("/admin//", Some("/admin/")),
            ("/.well-known/x", Some("/.well-known/x")),
            ("/a%c3%a9", Some("/a%C3%A9")),
            ("/a%20b", Some("/a%20b")),
            ("/admin;x=1/", Some("/admin;x=1/")),
            ("/admin%2f", None),
            ("/a%5cadmin", None),
            ("/a\\admin", None),
            ("/admin%00", None),
            ("/admin%0a", None),
            ("/%2561dmin", None),
            ("/%c0%af", None),
            ("/a%", None),
            ("/a%4", None),
            ("/a%zz", None),
        ] {
            let found = normal_path(path.as_bytes());
            assert_eq!(found.as_deref().ok(), expected.map(str::as_bytes), "{path}");
            // What is normal stays so.
            if let Ok(normal) = &found {
                assert_eq!(normal_path(normal).as_deref(), Ok(&**normal), "{path}");
            }
        }
    }

    #[test]
    fn parameters_are_cut_off_where_everybody_agrees_on_the_rest() {
        for (path, expected) in [
            ("/admin", Some("/admin")),
            ("/admin;x=1/", Some("/admin/")),
            ("/admin;x", Some("/admin")),
            ("/a;x/../b;y", Some("/b")),
            ("//a;x", Some("/a")),
            ("/a/..;/b", None),
            ("/a/%2e%2e;x/b", None),
            ("/;x/admin", None),
            ("/a%2f;x", None),
        ] {
            assert_eq!(parameterless_path(path.as_bytes()).as_deref().ok(), expected.map(str::as_bytes), "{path}");
        }
    }

    #[test]
    fn queries_are_no_part_of_it() {
        assert_eq!(split_query(b"/a?b?c"), (&b"/a"[..], &b"?b?c"[..]));
        assert_eq!(split_query(b"/a"), (&b"/a"[..], &b""[..]));
    }
}
