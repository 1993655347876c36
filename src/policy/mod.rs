//! Resources → one immutable table; decisions about flows; publishing.
//!
//! `compile/` makes the table, on the control thread; `table/` is the table and answers, on the workers; `facts` is what they
//! ask about; `lint/` warns of what will surprise an operator; `runtime/` is what tables share while they are in force. Every
//! conflict is settled as Istio settles it; where Istio would let traffic out in plaintext by accident, the cluster is refused.

mod compile;
mod facts;
mod lint;
mod runtime;
mod service;
mod table;

#[cfg(test)]
pub(crate) mod tests;

pub use crate::config::{POOLED_IDLE, PoolLimits};
pub use compile::compiler::compile;
pub use compile::materials::Materials;
pub use compile::select::listed_hosts::{AUTOALLOCATE_LABEL, ListedHost, for_each_listed_host};
pub use compile::select::rules::NOT_FOR_THIS_WORKLOAD;
pub use compile::select::scope::{ROOT_NAMESPACE, Workload};
pub use compile::select::unjudged::{NOT_FOR_EGRESS, take_unjudged};
pub use facts::{AnyValue, Content, Flow, RequestView};
pub use runtime::health::{Health, Outcome};
pub use runtime::occupancy::{Gauge, Occupancy};
pub use runtime::publish;
pub use table::cluster::*;
pub use table::destination_guard::Unreachable;
pub use table::first_look::{Expected, FirstLook};
pub use table::http_routes::{Action, Answer, Destination, Formats, HttpRoute, RouteMatch};
pub use table::listener_matches::Declared;
pub use table::listing::{Document, EndpointRow, EndpointStatus, RouteRow};
pub use table::must_sniff::AskedFamilies;
pub use table::policy_table::PolicyTable;
pub use table::tunnels::TunnelRefusal;
pub use table::unlisted_port::UnlistedPort;
pub use table::verdict::{Decision, LogFields, Refusal, Route, Verdict};
pub use table::weighted_routes::WeightedRoute;
