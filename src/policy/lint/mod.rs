//! Warnings of settings that do what they say and not what was meant: what Istio's users report most; errors where they cannot
//! do what was meant at all.
//!
//! Nothing here changes a decision.

mod names;
pub(super) mod problems;
mod routes;
mod services;
mod versions;

pub(super) use routes::{of_plain_requests, of_routes, of_unseen_requests};
pub(super) use services::{Requests, has_requests, of_entry, of_service};
pub(super) use versions::{of_calls, of_version};
