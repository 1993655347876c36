//! Core `v1` Secret: `data` in base64, `stringData` as it is. No message of this file quotes a value.

use std::collections::BTreeMap;
use std::fmt;

use data_encoding::BASE64;

use super::metadata::{Meta, read_meta};
use super::problem::Location;
use super::reader::{Field, Object, Report};
use super::yaml::Entry;

/// A core `v1` Secret, `data` decoded.
#[derive(Clone)]
pub struct Secret {
    pub meta: Meta,
    pub data: BTreeMap<String, Vec<u8>>,
}

impl fmt::Debug for Secret {
    /// Names the keys, never their values.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret").field("name", &self.meta.name).field("keys", &self.data.keys()).finish()
    }
}

pub(super) fn read(mut object: Object<'_>, at: Location, report: &mut Report) -> Option<Secret> {
    let meta = read_meta(&mut object, at, report);
    object.allow(&["type", "immutable"]);
    let encoded = object.optional("data").map(Field::secret);
    let written = object.optional("stringData").map(Field::secret);
    object.finish(report);

    let mut data = BTreeMap::new();
    for (entry, value) in encoded.map(|field| field.entries(report)).unwrap_or_default() {
        check_key(entry, &value, report);
        // `tls.key:` with nothing behind it is an empty value to the API server.
        let text = if value.is_null() { Some("") } else { value.text(report) };
        let bytes = text.and_then(|text| decode(text, &value, report));
        data.extend(bytes.map(|bytes| (entry.key.clone(), bytes)));
    }
    // stringData wins over data.
    for (entry, value) in written.map(|field| field.entries(report)).unwrap_or_default() {
        check_key(entry, &value, report);
        let text = if value.is_null() { Some("") } else { value.text(report) };
        data.extend(text.map(|text| (entry.key.clone(), text.as_bytes().to_vec())));
    }
    Some(Secret { meta: meta?, data })
}

fn decode(text: &str, value: &Field<'_>, report: &mut Report) -> Option<Vec<u8>> {
    // Line breaks are allowed, as Go's decoder and therefore Kubernetes allow them.
    let compact: Vec<u8> = text.bytes().filter(|b| !matches!(b, b'\r' | b'\n')).collect();
    if let Ok(bytes) = BASE64.decode(&compact) {
        return Some(bytes);
    }
    let hint = if text.contains("-----BEGIN") { "; PEM text as it is belongs in stringData" } else { "" };
    value.error(format!("not valid base64 (the value is not shown){hint}"), report);
    None
}

fn check_key(entry: &Entry, field: &Field<'_>, report: &mut Report) {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let name = entry.key.as_str();
    if name.is_empty() || name.len() > 253 || !name.bytes().all(allowed) || matches!(name, "." | "..") {
        field.key_error("not the key of a Secret: use letters, digits, '-', '_' and '.'", report);
    }
}
