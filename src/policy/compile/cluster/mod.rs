//! A cluster of what an entry has won: endpoints, limits, TLS.

pub(in crate::policy) mod assemble;
pub(in crate::policy) mod endpoints;
pub(in crate::policy) mod localities;
pub(in crate::policy) mod origination;
pub(in crate::policy) mod upstream_protocol;
