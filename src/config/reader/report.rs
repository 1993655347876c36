//! The problems of one file, gathered while it is read.

use std::path::Path;
use std::sync::Arc;

use crate::config::problem::{Location, Problem, Severity};
use crate::config::yaml::Place;

/// More problems than this in one file help nobody.
const MAX_PROBLEMS: usize = 1000;

/// The problems of one file.
pub(crate) struct Report {
    file: Arc<Path>,
    problems: Vec<Problem>,
    errors: usize,
    /// See [`set_aside`](Self::set_aside).
    aside: Vec<Problem>,
}

/// How far a report had come.
#[derive(Clone, Copy)]
pub(crate) struct Mark {
    problems: usize,
    errors: usize,
}

impl Report {
    pub fn new(file: &Path) -> Self {
        Self { file: file.into(), problems: Vec::new(), errors: 0, aside: Vec::new() }
    }

    pub fn error(&mut self, at: Place, message: impl Into<String>) {
        self.errors += 1;
        self.add(Severity::Error, at, message.into());
    }

    pub fn warning(&mut self, at: Place, message: impl Into<String>) {
        self.add(Severity::Warning, at, message.into());
    }

    /// An error only for whom the object concerns: the reader of the object takes it with [`take_aside`](Self::take_aside).
    pub fn set_aside(&mut self, at: Place, message: String) {
        if self.aside.len() < MAX_PROBLEMS {
            self.aside.push(Problem { severity: Severity::Error, at: Some(self.location(at)), message });
        }
    }

    /// What was set aside since the last call.
    pub fn take_aside(&mut self) -> Vec<Problem> {
        std::mem::take(&mut self.aside)
    }

    /// Makes errors of what was set aside.
    pub fn add_all(&mut self, aside: Vec<Problem>) {
        self.errors += aside.len();
        self.problems.extend(aside);
    }

    /// Where [`take_since`](Self::take_since) begins.
    pub fn mark(&self) -> Mark {
        Mark { problems: self.problems.len(), errors: self.errors }
    }

    /// Takes back the problems since a mark if there is an error among them; warnings alone stay.
    pub fn take_since(&mut self, mark: Mark) -> Vec<Problem> {
        if self.errors == mark.errors {
            return Vec::new();
        }
        self.errors = mark.errors;
        self.problems.split_off(mark.problems.min(self.problems.len()))
    }

    /// Errors so far, and what is set aside.
    pub fn complaints(&self) -> usize {
        self.errors + self.aside.len()
    }

    fn add(&mut self, severity: Severity, at: Place, message: String) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(Problem { severity, at: Some(self.location(at)), message });
        } else if self.problems.len() == MAX_PROBLEMS {
            let message = format!("more than {MAX_PROBLEMS} problems; the rest of this file's is not shown");
            self.problems.push(Problem { severity: Severity::Error, at: Some(self.location(at)), message });
        }
    }

    /// Errors so far, shown or not: a resource is sound if none came up while it was read.
    pub fn errors(&self) -> usize {
        self.errors
    }

    pub fn location(&self, at: Place) -> Location {
        Location { file: self.file.clone(), line: at.line, column: at.column }
    }

    pub fn into_problems(self) -> Vec<Problem> {
        self.problems
    }
}
