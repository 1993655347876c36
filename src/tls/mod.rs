//! TLS origination: trust, identity, verification, sessions.
mod profile;

pub use profile::*;
