//! Request targets (RFC 9112 §3.2): which of the four forms, whom it names, what path.

use super::error::RequestError;
use super::head::Span;
use super::method::Method;
use super::recent::recent_authority;
use crate::flow::Authority;

/// The four forms of a request target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetForm {
    /// `/path?query`
    Origin,
    /// `http://authority/path?query`
    Absolute,
    /// `host:port`, of CONNECT only
    Authority,
    /// `*`, of OPTIONS only
    Asterisk,
}

/// A target taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub form: TargetForm,
    /// Whom the target itself names (absolute and authority form).
    pub authority: Option<(Authority, Span)>,
    /// Path and query; may be empty in absolute form, and is in authority form.
    pub path: Span,
}

/// Reads the target `text`, which stands at `start`.
pub(super) fn parse_target(method: Method, text: &[u8], start: usize) -> Result<Target, RequestError> {
    let end = start + text.len();
    if method == Method::Connect {
        let authority = parse_authority(text)?;
        // RFC 9110 §9.3.6: there is no default port.
        if authority.port.is_none() {
            return Err(RequestError::TargetForm);
        }
        let named = Some((authority, Span::new(start, end)));
        return Ok(Target { form: TargetForm::Authority, authority: named, path: Span::new(end, end) });
    }
    match text {
        [b'/', ..] => Ok(Target { form: TargetForm::Origin, authority: None, path: Span::new(start, end) }),
        b"*" if method == Method::Options => {
            Ok(Target { form: TargetForm::Asterisk, authority: None, path: Span::new(start, end) })
        }
        _ => parse_absolute(text, start),
    }
}

/// Absolute form. Only `http`: a request for another scheme does not belong on a plaintext connection.
fn parse_absolute(text: &[u8], start: usize) -> Result<Target, RequestError> {
    const SCHEME: &[u8] = b"http://";
    let scheme = text.get(..SCHEME.len()).ok_or(RequestError::TargetForm)?;
    if !scheme.eq_ignore_ascii_case(SCHEME) {
        return Err(RequestError::TargetForm);
    }
    let rest = &text[SCHEME.len()..];
    let length = rest.iter().position(|b| matches!(b, b'/' | b'?')).unwrap_or(rest.len());
    let (from, to, end) = (start + SCHEME.len(), start + SCHEME.len() + length, start + text.len());
    Ok(Target {
        form: TargetForm::Absolute,
        authority: Some((parse_authority(&rest[..length])?, Span::new(from, to))),
        path: Span::new(to, end),
    })
}

/// `host [":" port]` without userinfo (RFC 9110 §4.2.4), as in a target or a Host field.
pub(super) fn parse_authority(text: &[u8]) -> Result<Authority, RequestError> {
    recent_authority(text, || {
        let text = std::str::from_utf8(text).map_err(|_| RequestError::Host)?;
        Authority::parse(text).map_err(|_| RequestError::Host)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        for (method, text, form, authority, path) in [
            (Method::Get, "/a?b", TargetForm::Origin, None, "/a?b"),
            (Method::Get, "//b/c", TargetForm::Origin, None, "//b/c"),
            (Method::Get, "/http://b/", TargetForm::Origin, None, "/http://b/"),
            (Method::Options, "*", TargetForm::Asterisk, None, "*"),
            (Method::Get, "HTTP://B:8080/c", TargetForm::Absolute, Some("b:8080"), "/c"),
            (Method::Get, "http://b?x", TargetForm::Absolute, Some("b"), "?x"),
            (Method::Options, "http://b", TargetForm::Absolute, Some("b"), ""),
            (Method::Connect, "[2001:db8::1]:443", TargetForm::Authority, Some("[2001:db8::1]:443"), ""),
        ] {
            let target = parse_target(method, text.as_bytes(), 0).unwrap();
            assert_eq!(target.form, form, "{text}");
            assert_eq!(target.authority.map(|(a, _)| a.to_string()).as_deref(), authority, "{text}");
            assert_eq!(target.path.of(text.as_bytes()), path.as_bytes(), "{text}");
        }
    }

    #[test]
    fn refusals() {
        for (method, text) in [
            (Method::Get, "*"),
            (Method::Options, "*/x"),
            (Method::Get, "admin"),
            (Method::Get, "b:80"),
            (Method::Get, "https://b/"),
            (Method::Get, "http:/b/"),
            (Method::Get, "http://"),
            (Method::Get, "http:///x"),
            (Method::Get, "http://user:pw@b/"),
            (Method::Get, "http://b:99999/"),
            (Method::Get, "http://b\\@c/"),
            (Method::Get, "ftp://b/"),
            (Method::Connect, "/"),
            (Method::Connect, "b"),
            (Method::Connect, "b:"),
            (Method::Connect, "http://b/"),
            (Method::Connect, "b:80/x"),
            (Method::Connect, "u@b:80"),
        ] {
            assert!(parse_target(method, text.as_bytes(), 0).is_err(), "{text}");
        }
    }
}
