//! What `outlierDetection` has come to, as metrics: one series a cluster that has it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::observe::Exposition;
use crate::policy::{Cluster, Health};

/// Adds the ejections of these clusters; of several with one name (they share their endpoints' health) once.
pub(super) fn render(clusters: &[Arc<Cluster>], out: &mut Exposition) {
    let watched = clusters.iter().filter(|cluster| cluster.outlier_detection.is_some());
    let watched: BTreeMap<&str, &Health> = watched.map(|cluster| (cluster.name.as_str(), &*cluster.health)).collect();
    if watched.is_empty() {
        return;
    }
    out.family("egret_outlier_ejections_total", "counter", "Times that an endpoint was ejected.");
    for (name, health) in &watched {
        out.sample("egret_outlier_ejections_total", &[("cluster", name)], health.ejections());
    }
    out.family("egret_outlier_ejections_active", "gauge", "Endpoints that are ejected now.");
    for (name, health) in &watched {
        out.sample("egret_outlier_ejections_active", &[("cluster", name)], health.ejected().len());
    }
}
