//! The values of a field as they are compared: each line by itself, except for fields whose lines are one list.
//!
//! RFC 9110 §5.3 lets a recipient read several lines of one name as one list. Servers differ in whether they do, so a route or
//! a rule that is compared with the list alone would miss a line that a server acts on. Since 1.39 Envoy compares each line
//! (`envoy.reloadable_features.match_headers_individually`), but for the fields that it keeps in one piece. It knows no
//! policy.

use std::borrow::Cow;

/// Fields that Envoy joins while it reads them: the inline ones of `envoy/http/header_map.h`, and those that its filters
/// register as such. As Envoy 1.40 was seen to do; those that it removes before routes are asked are left out.
fn is_joined(name: &str) -> bool {
    matches!(
        name,
        "accept"
            | "accept-encoding"
            | "access-control-request-headers"
            | "access-control-request-method"
            | "authorization"
            | "cache-control"
            | "content-encoding"
            | "content-type"
            | "expect"
            | "grpc-timeout"
            | "if-match"
            | "if-modified-since"
            | "if-none-match"
            | "if-range"
            | "if-unmodified-since"
            | "origin"
            | "pragma"
            | "referer"
            | "user-agent"
            | "via"
            | "x-client-trace-id"
            | "x-forwarded-for"
            | "x-forwarded-host"
            | "x-forwarded-port"
            | "x-forwarded-proto"
            | "x-request-id"
    )
}

/// Whether `is_wanted` holds for one of the values of the field `name` (in lower case), whose lines are `lines`. False when
/// there is none. Allocates only where lines must be joined.
pub fn any_value<'v>(
    name: &str,
    mut lines: impl Iterator<Item = &'v [u8]>,
    is_wanted: &mut dyn FnMut(&[u8]) -> bool,
) -> bool {
    if is_joined(name) { joined(lines).is_some_and(|list| is_wanted(&list)) } else { lines.any(is_wanted) }
}

/// The lines as one list; `None` when there is none.
pub(super) fn joined<'v>(mut lines: impl Iterator<Item = &'v [u8]>) -> Option<Cow<'v, [u8]>> {
    let first = lines.next()?;
    Some(lines.fold(Cow::Borrowed(first), |all, line| Cow::Owned([&*all, b",", line].concat())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_values_unless_they_are_one_list() {
        for (name, lines, expected) in [
            ("x-role", &["a", "b"][..], &["a", "b"][..]),
            ("cookie", &["a=1", "b=2"], &["a=1", "b=2"]),
            ("x-role", &["a,b"], &["a,b"]),
            ("accept", &["a", "b"], &["a,b"]),
            ("via", &["a", "", "b"], &["a,,b"]),
            ("x-forwarded-for", &["a"], &["a"]),
            ("authorization", &["a", "b"], &["a,b"]),
            ("x-role", &[], &[]),
            ("via", &[], &[]),
        ] {
            let mut seen = Vec::new();
            let any = any_value(name, lines.iter().map(|line| line.as_bytes()), &mut |value| {
                seen.push(String::from_utf8_lossy(value).into_owned());
                false
            });
            assert!(!any && seen == expected, "{name} {lines:?}: {seen:?}");
            let mut anything = |_: &[u8]| true;
            assert_eq!(any_value(name, lines.iter().map(|line| line.as_bytes()), &mut anything), !lines.is_empty());
        }
    }
}
