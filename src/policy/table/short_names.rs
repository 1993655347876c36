//! The short forms of Kubernetes names. `echo.shop.svc.cluster.local` is `echo.shop.svc` and `echo.shop` to every pod, and
//! `echo` to those of its namespace: the pod's resolver completes what an application wrote, and the `Host` still says the
//! short form. A request that was not recognised by it would go past the policy of the name that it means.
//!
//! It knows nothing of resolving. Names of servers outside the cluster have no short form.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use crate::flow::{Host, Hostname};

/// Of the hosts that entries list, the short forms that no document uses as names of their own.
#[derive(Debug, Default)]
pub(in crate::policy) struct ShortNames(pub(in crate::policy) HashMap<Hostname, Host, RandomState>);

impl ShortNames {
    /// The host that `host` is short for, or `host` itself.
    pub(in crate::policy) fn full<'h>(&'h self, host: &'h Host) -> &'h Host {
        match host {
            Host::Name(name) if !self.0.is_empty() => self.0.get(name).unwrap_or(host),
            Host::Name(_) | Host::Ip(_) => host,
        }
    }
}
