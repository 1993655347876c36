//! Where routes lead, once all entries are known.

pub(in crate::policy) mod virtual_services;
