//! Delegation: a route whose rest another VirtualService writes, one without hosts.
//!
//! How the two become one is `policy`'s concern: the other may stand in any file. The rules are Istio's
//! (`ValidateVirtualService`, `validateHTTPRoute`).

use super::http_match::HttpMatch;
use super::text_match::TextMatch;
use crate::config::metadata::{self, object_name};
use crate::config::problem::Location;
use crate::config::reader::{Field, Report};

/// `delegate` of a route: the VirtualService whose routes stand in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delegate {
    pub name: String,
    /// Without one, the root's.
    pub namespace: Option<String>,
    pub at: Location,
}

/// Where a route stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// In a VirtualService with hosts.
    InRoot,
    /// In one without: others delegate to it.
    InDelegate,
}

/// `delegate` of a route.
pub(super) fn read_reference(field: &Field<'_>, written: Written, report: &mut Report) -> Option<Delegate> {
    if written == Written::InDelegate {
        field.key_error("a route that is delegated to cannot delegate further", report);
    }
    let mut object = field.object(report)?;
    let name = object.required("name").and_then(|field| object_name(&field, report));
    let namespace = object.optional_text("namespace", report);
    let namespace = namespace.and_then(|(field, _)| metadata::namespace(&field, report));
    object.finish(report);
    Some(Delegate { name: name?, namespace, at: report.location(field.key_at()) })
}

/// Of two expressions nobody can say whether one takes less than the other.
pub(super) fn refuse_expressions(matches: &[HttpMatch], item: &Field<'_>, report: &mut Report) {
    let is_regex = |one: &TextMatch| matches!(one, TextMatch::Regex(_));
    let has_regex = |one: &HttpMatch| {
        let fields = [&one.uri, &one.scheme, &one.method, &one.authority];
        let maps = [&one.headers, &one.without_headers, &one.query];
        fields.into_iter().flatten().any(is_regex) || maps.into_iter().flatten().any(|(_, text)| is_regex(text))
    };
    if matches.iter().any(has_regex) {
        item.error("a match of a route that delegates, or is delegated to, cannot have a regex", report);
    }
}
