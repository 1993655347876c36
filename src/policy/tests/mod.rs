//! Tests of the whole room: tables of cases, the reference models that the table is held against, and what they share.

mod authorization_cases;
mod authorization_reference;
mod automatic_cases;
mod delegate_cases;
mod first_look_cases;
pub(crate) mod fixture;
mod lint_cases;
mod merge_cases;
mod mesh_cases;
mod reference;
mod route_cases;
mod route_guard_cases;
mod rule_cases;
mod scenarios;
mod strict_property;
mod verdict_cases;
mod version_cases;
mod weighted_route_cases;
