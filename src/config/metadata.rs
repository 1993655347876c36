//! What all kinds have in common: `metadata`, and the labels and selectors that several of them carry.

use std::collections::BTreeMap;

use super::close_notify::CloseNotify;
use super::names;
use super::problem::Location;
use super::reader::{Field, Object, Report};
use super::yaml::{Place, quoted};

/// `metadata` of a Kubernetes object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    pub name: String,
    /// As written; `None` means the namespace of the pod that reads it.
    pub namespace: Option<String>,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    /// `creationTimestamp` in milliseconds since the epoch; objects without one are younger than those with one, and
    /// among themselves as old as their order in the files says.
    pub created_ms: Option<i64>,
    /// Where the document's `kind` stands.
    pub at: Location,
}

impl Meta {
    /// Where it stands, within its file.
    pub(super) fn place(&self) -> Place {
        Place { line: self.at.line, column: self.at.column }
    }
}

/// Reads `metadata`; `None` when it has no usable name.
pub(super) fn read_meta(object: &mut Object<'_>, at: Location, report: &mut Report) -> Option<Meta> {
    let field = object.required("metadata")?;
    let mut metadata = field.object(report)?;
    metadata.allow(&["uid", "resourceVersion", "generation", "managedFields", "ownerReferences", "finalizers"]);
    metadata.allow(&["selfLink", "generateName", "deletionTimestamp", "deletionGracePeriodSeconds", "clusterName"]);
    let name = metadata.required("name").and_then(|field| object_name(&field, report));
    let namespace = metadata.optional_text("namespace", report).and_then(|(field, _)| namespace(&field, report));
    let labels = metadata.optional("labels").map(|field| labels(&field, report)).unwrap_or_default();
    let annotations = metadata.optional("annotations").map(|field| annotations(&field, report)).unwrap_or_default();
    let created_ms = metadata.optional("creationTimestamp").and_then(|field| timestamp_ms(&field, report));
    metadata.finish(report);
    Some(Meta { name: name?, namespace, labels, annotations, created_ms, at })
}

/// What the end of TLS connections to hosts of a ServiceEntry or a DestinationRule means, where it is not as the settings say.
const CLOSE_NOTIFY: &str = "egret/close-notify";

impl Meta {
    /// What its annotation says.
    #[must_use]
    pub fn close_notify(&self) -> Option<CloseNotify> {
        self.annotations.get(CLOSE_NOTIFY).and_then(|word| CloseNotify::named(word))
    }
}

fn annotations(field: &Field<'_>, report: &mut Report) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for (entry, value) in field.entries(report) {
        let Some(text) = value.text(report) else { continue };
        if entry.key == CLOSE_NOTIFY && CloseNotify::named(text).is_none() {
            value.error(format!("expected REQUIRE or IGNORE, found {}", quoted(text)), report);
        }
        found.insert(entry.key.clone(), text.to_owned());
    }
    found
}

/// The name of a Kubernetes object.
pub(super) fn object_name(field: &Field<'_>, report: &mut Report) -> Option<String> {
    let name = field.word(report)?;
    if !names::is_dns_subdomain(name) {
        let message = format!(
            "{} is no name of an object: use lower-case letters, digits, '-' and '.', at most 253{}",
            quoted(name),
            if name.contains("{{") { names::TEMPLATE } else { "" }
        );
        field.error(message, report);
        return None;
    }
    Some(name.to_owned())
}

pub(super) fn namespace(field: &Field<'_>, report: &mut Report) -> Option<String> {
    let name = field.word(report)?;
    if !names::is_dns_label(name) {
        let message = format!("{} is no namespace: use lower-case letters, digits and '-', at most 63", quoted(name));
        field.error(message, report);
        return None;
    }
    Some(name.to_owned())
}

/// Labels, each checked as the Kubernetes API server does.
pub(super) fn labels(field: &Field<'_>, report: &mut Report) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    for (entry, value) in field.entries(report) {
        if !names::is_label_key(&entry.key) {
            value.key_error("not the key of a label; write \"name\" or \"example.com/name\"", report);
        }
        let Some(text) = value.text(report) else { continue };
        if !names::is_label_value(text) {
            let allowed = "letters, digits, '-', '_' and '.', at most 63, beginning and ending with a letter or digit";
            value.error(format!("{} is no label value: use {allowed}", quoted(text)), report);
        }
        labels.insert(entry.key.clone(), text.to_owned());
    }
    labels
}

/// `labels` or `matchLabels` of a selector; an empty selector selects everything.
pub(super) fn read_selector(
    field: &Field<'_>,
    name: &'static str,
    report: &mut Report,
) -> Option<BTreeMap<String, String>> {
    let mut object = field.object(report)?;
    let labels = object.optional(name).map(|field| labels(&field, report)).unwrap_or_default();
    object.finish(report);
    Some(labels)
}

fn timestamp_ms(field: &Field<'_>, report: &mut Report) -> Option<i64> {
    let text = field.text(report)?;
    if let Ok(timestamp) = text.parse::<jiff::Timestamp>() {
        Some(timestamp.as_millisecond())
    } else {
        let message = format!("expected a time such as \"2024-06-04T12:15:20Z\", found {}", quoted(text));
        field.error(message, report);
        None
    }
}
