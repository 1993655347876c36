//! `status` of a ServiceEntry: the addresses that a control plane gave its hosts.
//!
//! Nobody writes it by hand, and a file that was exported from a cluster has whatever the cluster's version writes. So what
//! is not understood is left out without a word.

use std::net::IpAddr;
use std::path::Path;

use crate::config::reader::{Field, Report};

/// One address of `status.addresses`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusAddress {
    pub value: IpAddr,
    /// As the entry lists it.
    pub host: String,
}

/// Two families for each of the hosts that an entry may have.
const MAX_ADDRESSES: usize = 1024;

pub(super) fn read(field: &Field<'_>) -> Vec<StatusAddress> {
    // What is wrong with it is nobody's to mend.
    let unheard = &mut Report::new(Path::new(""));
    let Some(mut status) = field.object(unheard) else { return Vec::new() };
    let Some(addresses) = status.optional("addresses") else { return Vec::new() };
    let items = addresses.list(MAX_ADDRESSES, unheard);
    let address = |item: &Field<'_>| {
        let mut object = item.object(unheard)?;
        let (_, value) = object.optional_text("value", unheard)?;
        let (_, host) = object.optional_text("host", unheard)?;
        Some(StatusAddress { value: value.parse().ok()?, host: host.to_ascii_lowercase() })
    };
    items.iter().filter_map(address).collect()
}
