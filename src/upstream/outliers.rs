//! From what endpoints did to their ejection and return: the rules and counts are `policy`'s, the clock and the log are
//! here.

use std::net::SocketAddr;
use std::sync::Arc;

use super::balance::Endpoints;
use super::connect::ConnectError;
use super::target::Target;
use crate::config::OutlierDetection;
use crate::io;
use crate::policy::{Cluster, Outcome};

/// Notes what came of using `address`, where the policy watches its endpoints.
pub fn note(target: &Target<'_>, address: SocketAddr, outcome: Outcome) {
    if let Target::Cluster { cluster, .. } = target
        && let Some(rules) = &cluster.outlier_detection
    {
        observe(cluster, rules, target, address, outcome);
    }
}

/// Notes why no connection to an endpoint could be had, if that was the endpoint's doing.
pub(super) fn note_failure(target: &Target<'_>, error: &ConnectError) {
    if let (Some(address), Some(outcome)) = (error.address(), error.outcome()) {
        note(target, address, outcome);
    }
}

/// Replaces `endpoints` by those of `target` that are worth a try, with their weights.
///
/// # Errors
/// That there are none.
pub(super) fn usable(target: &Target<'_>, endpoints: &mut Endpoints) -> Result<(), ConnectError> {
    endpoints.clear();
    target.each_address(|address, weight| endpoints.push((address, weight)));
    let all = endpoints.len();
    if all == 0 {
        return Err(ConnectError::NoEndpoint);
    }
    if let Target::Cluster { cluster, .. } = target
        && let Some(rules) = &cluster.outlier_detection
    {
        cluster.health.retain(rules, endpoints, |(address, _)| *address);
    }
    if endpoints.is_empty() { Err(ConnectError::AllEjected(all)) } else { Ok(()) }
}

fn observe(
    cluster: &Arc<Cluster>,
    rules: &OutlierDetection,
    target: &Target<'_>,
    address: SocketAddr,
    outcome: Outcome,
) {
    let Some(streak) = cluster.health.observe(rules, address, outcome) else { return };
    let mut all = Vec::new();
    target.each_address(|address, _| all.push(address));
    let Some(time) = cluster.health.eject(rules, address, &all, io::now()) else { return };
    let (name, endpoints) = (&cluster.name, all.len());
    tracing::warn!(cluster = %name, %address, reason = %streak, ?time, endpoints, "endpoint ejected");
    let cluster = Arc::clone(cluster);
    io::spawn(async move {
        io::sleep(time).await;
        if cluster.health.readmit(address, io::now()) {
            tracing::info!(cluster = %cluster.name, %address, "endpoint returned");
        }
    });
}
