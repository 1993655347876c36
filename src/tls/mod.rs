//! TLS origination: trust, identity, verification, sessions.

/// (to be written)
pub struct ClientProfile {}
