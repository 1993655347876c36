//! Which flows each port of each host gets; the older entry has what two want.

pub(in crate::policy) mod byte_routes;
pub(in crate::policy) mod ports;
