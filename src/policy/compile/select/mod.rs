//! What a workload sees, and which documents hold for it.

pub(in crate::policy) mod authorization_policies;
pub(in crate::policy) mod delegates;
pub(in crate::policy) mod imports;
pub(in crate::policy) mod listed_hosts;
pub(in crate::policy) mod names;
pub(in crate::policy) mod routed_away;
pub(in crate::policy) mod rule_groups;
pub(in crate::policy) mod rules;
pub(in crate::policy) mod scope;
pub(in crate::policy) mod unjudged;
