//! Warnings of settings that do what they say and not what was meant: what Istio's users report most.
//!
//! Nothing here changes a decision.

mod names;
pub(super) mod problems;
mod routes;
mod services;

pub(super) use routes::{of_plain_requests, of_routes, of_unseen_requests};
pub(super) use services::{Requests, has_requests, of_entry, of_service};
