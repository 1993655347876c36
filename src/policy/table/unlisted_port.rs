//! What is said of a connection to an address that stands for a host, on a port that no entry of the host has.

/// Nobody is at such an address: egret itself gave it to the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnlistedPort {
    pub host: String,
    /// For the access log, with the host in it.
    pub(in crate::policy) details: String,
}

impl UnlistedPort {
    #[must_use]
    pub(in crate::policy) fn of(host: &str) -> Self {
        Self { host: host.to_owned(), details: format!("automatic_address_port_not_listed[{host}]") }
    }
}
