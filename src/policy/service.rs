//! One port of one host of a ServiceEntry, with the policy that holds for it: what is compiled, and what is warned of.

use crate::config::{
    ClientTls, DestinationRule, HostPattern, PortPolicy, PortProtocol, Resolution, ServiceEntry, ServicePort, TlsMode,
};

/// One port of one host, with the policy that holds for it.
#[derive(Clone, Copy)]
pub(in crate::policy) struct Service<'a> {
    pub(in crate::policy) entry: &'a ServiceEntry,
    pub(in crate::policy) host: &'a HostPattern,
    pub(in crate::policy) port: &'a ServicePort,
    pub(in crate::policy) rule: Option<(&'a DestinationRule, &'a str)>,
    pub(in crate::policy) policy: Option<&'a PortPolicy>,
}

/// What a port's bytes are, as far as TLS cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::policy) enum PayloadKind {
    /// Requests with a host that SNI and name check can come from.
    Http1,
    Http2,
    /// Bytes: no host is known.
    Bytes,
    /// The application's own TLS.
    Tls,
}

/// Whether a port has clusters at all. DYNAMIC_DNS needs a name in what is said first; HTTPS would have one, but in Istio
/// that has no cluster either.
pub(in crate::policy) fn is_served(entry: &ServiceEntry, port: &ServicePort) -> bool {
    use PortProtocol::{Grpc, GrpcWeb, Http, Http2, Tls, Udp};
    match entry.resolution {
        Resolution::DynamicDns => matches!(port.protocol, Http | Http2 | Grpc | GrpcWeb | Tls),
        _ => port.protocol != Udp,
    }
}

impl Service<'_> {
    /// Whether egret makes TLS to its servers.
    pub(in crate::policy) fn originates_tls(&self) -> bool {
        self.policy.and_then(|policy| policy.tls.as_ref()).is_some_and(originates)
    }
}

/// Whether a `tls` block asks for TLS that egret originates.
pub(in crate::policy) fn originates(tls: &ClientTls) -> bool {
    matches!(tls.mode, TlsMode::Simple | TlsMode::Mutual)
}
