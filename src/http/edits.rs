//! Changes that policy makes to heads on their way: another path, another authority, fields removed, set and added.
//!
//! Whoever makes them sees to it that no name frames a message or names its recipient, and that values are values.

/// Changes of fields: first what is removed, then what is set (replacing) and added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldEdits {
    pub remove: Vec<String>,
    pub set: Vec<(String, String)>,
    pub add: Vec<(String, String)>,
}

impl FieldEdits {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }

    /// Whether a field of the message goes: removed, or replaced.
    pub(super) fn drops(&self, name: &[u8]) -> bool {
        let set = self.set.iter().map(|(name, _)| name);
        self.remove.iter().chain(set).any(|dropped| dropped.as_bytes().eq_ignore_ascii_case(name))
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        for (name, value) in self.set.iter().chain(&self.add) {
            for part in [name.as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                out.extend_from_slice(part);
            }
        }
    }
}

/// What changes of a request's head.
#[derive(Clone, Copy, Debug, Default)]
pub struct RequestEdits<'a> {
    /// Path and query that go upstream instead; bytes that may stand in a request line.
    pub path: Option<&'a [u8]>,
    /// Goes upstream as Host instead.
    pub authority: Option<&'a str>,
    pub fields: Option<&'a FieldEdits>,
}

impl RequestEdits<'_> {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.path.is_none() && self.authority.is_none() && self.fields.is_none_or(FieldEdits::is_empty)
    }
}
