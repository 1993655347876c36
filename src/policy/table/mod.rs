//! The compiled table, what it is made of, and the questions that it answers.
//!
//! [`policy_table`] is the table; `first_look` and `decide` ask it about flows, `tunnels` about CONNECT, `listing` shows it.
//! Everything else here is a part of it. Nothing here knows the documents that it was compiled from.

pub(super) mod authorization;
pub(super) mod cluster;
pub(super) mod decide;
pub(super) mod destination_guard;
pub(super) mod first_look;
pub(super) mod host_map;
pub(super) mod http_routes;
pub(super) mod listener_matches;
pub(super) mod listing;
pub(super) mod must_sniff;
pub(super) mod policy_table;
pub(super) mod short_names;
pub(super) mod tunnel_ends;
pub(super) mod tunnels;
pub(super) mod unlisted_port;
pub(super) mod verdict;
pub(super) mod weighted_routes;
