//! What an explanation is made from: a table, the documents that it was compiled from, and whether keys and addresses stand
//! behind it. It knows neither connections nor words.

use crate::config::{Problem, Resources};
use crate::policy::{Cluster, PolicyTable, Transport};

/// A table and where it comes from.
#[derive(Clone, Copy)]
pub struct Known<'k> {
    pub table: &'k PolicyTable,
    pub resources: &'k Resources,
    /// What compiling them found.
    pub problems: &'k [Problem],
    pub material: Material,
}

/// What stands behind a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Material {
    /// Neither keys nor addresses: a cluster's transport says nothing, what TLS would need is told as asked for.
    Missing,
    /// Those of a running process.
    Loaded,
}

/// Why nothing can be sent to `cluster`. Without material, a cluster that asked for some is not to be blamed.
pub(super) fn refusal(cluster: &Cluster, material: Material) -> Option<&str> {
    match &cluster.transport {
        Transport::Refused(reason) if material == Material::Loaded || cluster.tls_request.is_none() => Some(reason),
        Transport::Refused(_) | Transport::Plaintext | Transport::Tls(_) => None,
    }
}
