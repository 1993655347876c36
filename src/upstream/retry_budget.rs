//! How many requests a cluster may have under way, and how many of them may be tried again (`http2MaxRequests`,
//! `maxRetries`, `retryBudget`). Where none of these is set nothing is counted.

use std::sync::Arc;

use super::connect::ConnectError;
use super::target::Target;
use crate::config::RetryBudget;
use crate::policy::{Cluster, Gauge, Occupancy};

/// One request in a count of the cluster, for as long as it lives.
pub struct Counted {
    occupancy: Arc<Occupancy>,
    gauge: fn(&Occupancy) -> &Gauge,
}

impl Drop for Counted {
    fn drop(&mut self) {
        (self.gauge)(&self.occupancy).leave();
    }
}

/// Whether a request may be sent another time.
pub enum Retry {
    /// Nobody counts.
    Uncounted,
    Counted(Counted),
    /// There are as many retries as there may be.
    Denied,
}

/// Counts a request as under way.
///
/// # Errors
/// There are as many as there may be.
pub fn begin(target: &Target<'_>) -> Result<Option<Counted>, ConnectError> {
    let Target::Cluster { cluster, .. } = target else { return Ok(None) };
    let limits = &cluster.limits;
    if limits.max_requests.is_none() && limits.retry_budget.is_none() {
        return Ok(None);
    }
    let counted = count(cluster, |occupancy| &occupancy.requests, limits.max_requests.unwrap_or(u32::MAX));
    counted.map(Some).ok_or(ConnectError::Overflow("request"))
}

/// Counts a request as being tried again. A retry budget replaces `maxRetries`, as in Envoy.
#[must_use]
pub fn retry(target: &Target<'_>) -> Retry {
    let Target::Cluster { cluster, .. } = target else { return Retry::Uncounted };
    let limit = match (cluster.limits.retry_budget, cluster.limits.max_retries) {
        (Some(budget), _) => allowance(budget, cluster.occupancy.requests.now()),
        (None, Some(limit)) => limit,
        (None, None) => return Retry::Uncounted,
    };
    count(cluster, |occupancy| &occupancy.retries, limit).map_or(Retry::Denied, Retry::Counted)
}

fn count(cluster: &Cluster, gauge: fn(&Occupancy) -> &Gauge, limit: u32) -> Option<Counted> {
    let occupancy = &cluster.occupancy;
    gauge(occupancy).try_enter(limit).then(|| Counted { occupancy: Arc::clone(occupancy), gauge })
}

fn allowance(budget: RetryBudget, requests: u32) -> u32 {
    ((f64::from(requests) * budget.percent / 100.0) as u32).max(budget.least)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets() {
        for (percent, least, requests, expected) in
            [(20.0, 3, 0, 3), (20.0, 3, 15, 3), (20.0, 3, 20, 4), (0.5, 0, 199, 0), (0.5, 0, 200, 1), (100.0, 0, 7, 7)]
        {
            assert_eq!(allowance(RetryBudget { percent, least }, requests), expected, "{percent} % of {requests}");
        }
    }
}
