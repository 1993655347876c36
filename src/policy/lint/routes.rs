//! Routes of VirtualServices that no request reaches.

use crate::config::{self, PortProtocol, VirtualService};
use crate::policy::lint::problems::Problems;
use crate::policy::table::cluster::{Cluster, Transport};

/// Routes behind one that takes everything.
pub(in crate::policy) fn of_routes(service: &VirtualService, problems: &mut Problems) {
    let Some(last) = service.http.iter().position(|route| route.matches.is_empty()) else { return };
    for hidden in &service.http[last + 1..] {
        let message = format!(
            "no request reaches this route: the one in line {}, before it, has no `match` and takes everything; put that \
             one last",
            service.http[last].at.line
        );
        problems.warn(&hidden.at, message);
    }
}

/// A destination that gets plain HTTP at a port which its entry declares to carry TLS.
pub(in crate::policy) fn of_plain_requests(to: &config::Destination, cluster: &Cluster, problems: &mut Problems) {
    let is_for_tls = matches!(cluster.origin.declared, PortProtocol::Https | PortProtocol::Tls);
    if is_for_tls && matches!(cluster.transport, Transport::Plaintext) && cluster.tunnel.is_none() {
        let (port, host) = (cluster.origin.port, &cluster.host);
        let message = format!(
            "this route sends requests in plaintext to port {port} of {host}, which expects TLS: no DestinationRule of this \
             workload asks for TLS there; add one with portLevelSettings for port {port} and `tls: {{mode: SIMPLE}}`"
        );
        problems.warn(&to.at, message);
    }
}

/// Routes for `host`, whose ports carry no plain HTTP.
pub(in crate::policy) fn of_unseen_requests(service: &VirtualService, host: &str, problems: &mut Problems) {
    let message = format!(
        "the `http` routes for {host} hold for plain HTTP alone, and its ServiceEntry has no HTTP port: what applications \
         send there as TLS is not looked into; declare a port HTTP, with targetPort 443 and TLS of egret's, and let them \
         speak plain HTTP to it"
    );
    problems.warn_of_absence(&service.meta.at, message);
}
