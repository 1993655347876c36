//! `retryBudget` of a traffic policy. It may stand only at the top.

use crate::config::reader::{Field, Report, Shape};

/// How many requests may be tried again at once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryBudget {
    /// Of the requests that are under way.
    pub percent: f64,
    /// So many always may.
    pub least: u32,
}

pub(super) fn read(field: &Field<'_>, report: &mut Report) -> Option<RetryBudget> {
    let mut object = field.object(report)?;
    let percent = object.optional("percent").and_then(|field| field.number(&(0.0..=100.0), report));
    let least =
        object.optional("minRetryConcurrency").and_then(|field| field.whole(&(0..=i64::from(u32::MAX)), report));
    object.unsupported("budgetInterval", Shape::Duration, report);
    object.finish(report);
    Some(RetryBudget { percent: percent.unwrap_or(20.0), least: least.map_or(3, |least| least as u32) })
}
