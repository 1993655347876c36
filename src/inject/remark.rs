//! Something to say about a place of a manifest.

use std::fmt;

use crate::config::yaml::Place;

/// Something to say about a place of the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    pub line: u32,
    pub column: u32,
    pub message: String,
}

impl Remark {
    pub(super) fn new(at: Place, message: impl Into<String>) -> Self {
        Self { line: at.line, column: at.column, message: message.into() }
    }
}

impl fmt::Display for Remark {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}: {}", self.line, self.column, self.message)
    }
}
