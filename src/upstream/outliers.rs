//! From what endpoints did to their ejection and return: the rules and counts are `policy`'s, the clock and the log are
//! here.

use std::net::SocketAddr;
use std::sync::Arc;

use super::connect::ConnectError;
use super::target::Target;
use crate::config::OutlierDetection;
use crate::io;
use crate::policy::{Candidate, Cluster, MAX_LEVELS, Outcome};

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

/// Replaces `usable` by the addresses of `target` that are worth a try.
///
/// # Errors
/// That there are none.
pub(super) fn usable(
    target: &Target<'_>,
    usable: &mut Vec<Candidate>,
    random: impl FnOnce() -> u64,
) -> Result<(), ConnectError> {
    usable.clear();
    let level = pick_level(target, random);
    let mut all = 0;
    target.each_candidate(|candidate| {
        all += 1;
        if level.is_none_or(|level| level == candidate.level) {
            usable.push(candidate);
        }
    });
    if all == 0 {
        return Err(ConnectError::NoEndpoint);
    }
    if let Target::Cluster { cluster, .. } = target
        && let Some(rules) = &cluster.outlier_detection
    {
        cluster.health.retain(rules, usable, |candidate| candidate.address);
    }
    if usable.is_empty() { Err(ConnectError::AllEjected(all)) } else { Ok(()) }
}

/// Whether `address` is ejected now.
pub(super) fn is_ejected(target: &Target<'_>, address: SocketAddr) -> bool {
    let watched = target.cluster().filter(|cluster| cluster.outlier_detection.is_some());
    watched.is_some_and(|cluster| cluster.health.is_ejected(address))
}

/// The level whose turn it is; `None` where there is one alone.
fn pick_level(target: &Target<'_>, random: impl FnOnce() -> u64) -> Option<usize> {
    let Target::Cluster { cluster, .. } = target else { return None };
    if cluster.outlier_detection.is_none() || !cluster.endpoints.has_levels() {
        return None;
    }
    let mut levels = [Level::default(); MAX_LEVELS];
    target.each_of_level(|address, _, level| {
        levels[level].all += 1;
        levels[level].healthy += u32::from(!cluster.health.is_ejected(address));
    });
    pick(&levels, random())
}

/// The endpoints of one level.
#[derive(Clone, Copy, Debug, Default)]
struct Level {
    all: u32,
    healthy: u32,
}

/// Each level carries what the ones before it cannot. One is taken to carry everything until two in seven of it have
/// failed: Envoy's overprovisioning, by 1.4.
fn pick(levels: &[Level], random: u64) -> Option<usize> {
    let carries = |level: &Level| (u64::from(level.healthy) * 140 / u64::from(level.all.max(1))).min(100);
    let together: u64 = levels.iter().map(carries).sum::<u64>().min(100);
    let mut left = random % together.max(1);
    levels.iter().position(|level| match left.checked_sub(carries(level)) {
        Some(rest) => {
            left = rest;
            false
        }
        None => true,
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_level_cannot_carry_goes_to_the_next() {
        for (levels, expected) in [
            // Healthy and all of each level; the percent that each gets.
            (&[(3, 3), (5, 5)][..], &[100, 0][..]),
            (&[(5, 7), (5, 5)], &[100, 0]),
            (&[(1, 2), (2, 2)], &[70, 30]),
            (&[(1, 4), (1, 4), (4, 4)], &[35, 35, 30]),
            (&[(0, 3), (2, 2)], &[0, 100]),
            (&[(1, 4), (0, 4)], &[100, 0]),
            (&[(1, 10), (1, 10)], &[50, 50]),
        ] {
            let made: Vec<Level> = levels.iter().map(|(healthy, all)| Level { all: *all, healthy: *healthy }).collect();
            let mut found = vec![0; levels.len()];
            for random in 0..700 {
                found[pick(&made, random).expect("something is healthy")] += 1;
            }
            let percent: Vec<u32> = found.iter().map(|times| times / 7).collect();
            assert_eq!(percent, expected, "{levels:?}");
        }
        assert_eq!(pick(&[Level { all: 2, healthy: 0 }, Level { all: 1, healthy: 0 }], 5), None);
    }
}
