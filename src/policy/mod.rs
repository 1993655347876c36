//! Resources → one immutable table; decisions about flows; publishing.
mod compile;
mod decide;
mod endpoints;
mod hosts;
mod origination;
mod problems;
pub mod publish;
mod routes;
mod rules;
mod scope;
mod table;
mod traps;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod rule_cases;
#[cfg(test)]
mod scenarios;

pub use compile::{Materials, compile};
pub use decide::PolicyTable;
pub use scope::Workload;
pub use table::*;
