//! A line of the report: what was looked at, how it stands, and what to do. It does not know how lines are printed.

use serde::Serialize;

/// How one thing stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    Ok,
    /// It runs, with less than it could have; or it could not be judged.
    Warn,
    /// It will not run.
    Fail,
}

/// One line of the report. The message of anything but `Ok` ends with what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub(super) check: &'static str,
    pub(super) verdict: Verdict,
    pub(super) message: String,
}

impl Finding {
    pub(super) fn ok(check: &'static str, message: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Ok, message: message.into() }
    }

    pub(super) fn warn(check: &'static str, message: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Warn, message: message.into() }
    }

    pub(super) fn fail(check: &'static str, message: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Fail, message: message.into() }
    }
}
