//! What a TLS connection's end without close_notify means: a setting, and an annotation of who describes a host.

/// For a response that nothing else ends (RFC 9112 §9.8), and for bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CloseNotify {
    /// It may be cut.
    #[default]
    Require,
    /// It is complete: servers that never send the alert.
    Ignore,
}

impl CloseNotify {
    pub(super) const ALL: &'static [(&'static str, Self)] = &[("REQUIRE", Self::Require), ("IGNORE", Self::Ignore)];

    /// The value of the annotation.
    #[must_use]
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == word).map(|(_, value)| *value)
    }
}
