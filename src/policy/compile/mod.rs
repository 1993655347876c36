//! Resources → table, in four stages: `select` says what a workload sees and which documents hold for it, `claim` lets each
//! port of each host claim the flows that Istio would give it, `cluster` makes a cluster of what was won, and `link` leads
//! routes to clusters. [`compiler`] walks the entries through the stages.

pub(super) mod claim;
pub(super) mod cluster;
pub(super) mod compiler;
pub(super) mod index;
pub(super) mod link;
pub(super) mod materials;
pub(super) mod select;
