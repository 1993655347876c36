//! How large fields are where a limit counts them: as HTTP/1 would write them.

use http::HeaderMap;

/// The size of some fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct FieldSize {
    /// Bytes of the lines, with their ends.
    pub bytes: usize,
    pub fields: usize,
}

impl FieldSize {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let line =
            |name: &http::HeaderName, value: &http::HeaderValue| name.as_str().len() + value.len() + ": \r\n".len();
        let bytes = headers.iter().map(|(name, value)| line(name, value)).sum();
        Self { bytes, fields: headers.len() }
    }
}
