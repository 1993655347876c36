//! Core `v1` Secret: `data` in base64, `stringData` as it is. No message of this file quotes a value.

use std::collections::BTreeMap;

use data_encoding::BASE64;

use super::document::read_meta;
use super::reader::{Field, Object, Report};
use super::resources::{Location, Secret};
use super::yaml::{Entry, quoted};

pub(super) fn read(mut object: Object<'_>, at: Location, report: &mut Report) -> Option<Secret> {
    let meta = read_meta(&mut object, at, report);
    object.allow(&["type", "immutable"]);
    let encoded = object.optional("data").map(Field::secret);
    let written = object.optional("stringData").map(Field::secret);
    object.finish(report);

    let mut data = BTreeMap::new();
    for (entry, value) in encoded.map(|field| field.entries(report)).unwrap_or_default() {
        check_key(entry, report);
        // `tls.key:` with nothing behind it is an empty value to the API server.
        let text = if value.is_null() { Some("") } else { value.text(report) };
        let bytes = text.and_then(|text| decode(text, &value, report));
        data.extend(bytes.map(|bytes| (entry.key.clone(), bytes)));
    }
    // stringData wins over data.
    for (entry, value) in written.map(|field| field.entries(report)).unwrap_or_default() {
        check_key(entry, report);
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

fn check_key(entry: &Entry, report: &mut Report) {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let name = entry.key.as_str();
    if name.is_empty() || name.len() > 253 || !name.bytes().all(allowed) || matches!(name, "." | "..") {
        report
            .error(entry.at, format!("{} is no key of a Secret: use letters, digits, '-', '_' and '.'", quoted(name)));
    }
}
