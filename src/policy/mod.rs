//! Resources → one immutable table; decisions about flows; publishing.
//!
//! Compiling happens on the control thread: `scope` says what a workload sees, `rules` which DestinationRule holds for a
//! host, `origination` what its TLS asks for, `endpoints` where connections go; `routes` keeps who won which match.
//! Deciding happens on the workers and only reads: [`PolicyTable`]. Every conflict is settled as Istio settles it; where
//! Istio would let traffic out in plaintext by accident, the cluster is refused.
mod authorization;
mod authorized;
mod compile;
mod decide;
mod endpoints;
mod facts;
mod first_look;
mod guarded;
mod health;
mod hosts;
mod http_routes;
mod imports;
mod listed_hosts;
mod listing;
mod localities;
mod materials;
mod occupancy;
mod origination;
mod policy_table;
mod problems;
pub mod publish;
mod reach;
mod routed_away;
mod routes;
mod rule_groups;
mod rules;
mod scope;
mod short_names;
mod sought;
mod splits;
mod table;
mod traps;
mod tunnels;
mod unlisted_port;
mod verdict;
mod virtual_services;

#[cfg(test)]
pub(crate) mod tests;

pub use crate::config::{POOLED_IDLE, PoolLimits};
pub use compile::compile;
pub use facts::{AnyValue, Content, Flow, RequestView};
pub use first_look::{Expected, FirstLook};
pub use health::{Health, Outcome};
pub use http_routes::{Action, Answer, Destination, HttpRoute, RouteMatch};
pub use listed_hosts::{AUTOALLOCATE_LABEL, ListedHost, for_each_listed_host};
pub use listing::{Document, EndpointRow, EndpointStatus, RouteRow};
pub use materials::{AskedFamilies, Materials};
pub use occupancy::{Gauge, Occupancy};
pub use policy_table::PolicyTable;
pub use reach::Unreachable;
pub use routes::Declared;
pub use rules::NOT_FOR_THIS_WORKLOAD;
pub use scope::{ROOT_NAMESPACE, Workload};
pub use splits::Split;
pub use table::*;
pub use tunnels::TunnelRefusal;
pub use unlisted_port::UnlistedPort;
pub use verdict::{Decision, LogFields, Refusal, Route, Verdict};
