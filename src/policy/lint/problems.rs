//! Collects what is wrong with resources as they stand together, each thing once.

use std::collections::HashSet;

use crate::config::{Location, Problem, Severity};

#[derive(Debug, Default)]
pub(in crate::policy) struct Problems {
    found: Vec<Problem>,
    /// A rule that holds for many hosts is warned of once, not once a host.
    seen: HashSet<(String, String)>,
    /// Documents with errors were left out.
    incomplete: bool,
}

impl Problems {
    pub(in crate::policy) fn new(incomplete: bool) -> Self {
        Self { incomplete, ..Self::default() }
    }

    /// As [`warn`](Self::warn), of something that nobody has written. A document that has an error might be it.
    pub(in crate::policy) fn warn_of_absence(&mut self, at: &Location, message: String) {
        if !self.incomplete {
            self.warn(at, message);
        }
    }

    pub(in crate::policy) fn warn(&mut self, at: &Location, message: String) {
        self.add(Severity::Warning, at, message);
    }

    /// What cannot work whatever happens. The table is made nevertheless: it concerns nothing else.
    pub(in crate::policy) fn error(&mut self, at: &Location, message: String) {
        self.add(Severity::Error, at, message);
    }

    fn add(&mut self, severity: Severity, at: &Location, message: String) {
        if self.seen.insert((at.to_string(), message.clone())) {
            self.found.push(Problem { severity, at: Some(at.clone()), message });
        }
    }

    /// In the order of the files.
    pub(in crate::policy) fn into_sorted(mut self) -> Vec<Problem> {
        self.found.sort_by(|a, b| a.at.cmp(&b.at));
        self.found
    }
}
