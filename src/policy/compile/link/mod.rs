//! Where routes lead, once all entries are known.

pub(in crate::policy) mod destinations;
pub(in crate::policy) mod must_sniff;
pub(in crate::policy) mod virtual_services;
pub(in crate::policy) mod weighted_routes;
