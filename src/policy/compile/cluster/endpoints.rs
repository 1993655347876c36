//! Where the connections of one port of a ServiceEntry go.
//!
//! Names are not resolved here: each becomes a cell that somebody else keeps current.

use crate::config::{
    Endpoint, EndpointAddress, HostPattern, LoadBalancer, MeshLocation, PortPolicy, Resolution, ServiceEntry,
    ServicePort,
};
use crate::policy::compile::materials::Materials;
use crate::policy::lint::problems::Problems;
use crate::policy::runtime::publish::{Addresses, Published};
use crate::policy::table::cluster::{EndpointSource, Endpoints};

/// The endpoints of `host` at `port`; `Err` says why there are none.
pub(in crate::policy) fn endpoints(
    entry: &ServiceEntry,
    host: &HostPattern,
    port: &ServicePort,
    balancer: LoadBalancer,
    materials: &mut dyn Materials,
    problems: &mut Problems,
) -> Result<Endpoints, String> {
    let first_only = entry.resolution == Resolution::DnsRoundRobin;
    match entry.resolution {
        _ if entry.workload_selector.is_some() => {
            Err("workloadSelector finds no endpoints without Istio's control plane; list endpoints".to_owned())
        }
        Resolution::None => Ok(original(port)),
        Resolution::DynamicDns => {
            Ok(Endpoints::ByName { port_override: port.target_port.filter(|target| *target != port.number) })
        }
        _ if balancer == LoadBalancer::Passthrough => Ok(original(port)),
        Resolution::Dns | Resolution::DnsRoundRobin if entry.endpoints.is_empty() => match host {
            HostPattern::Exact(name) => Ok(Endpoints::Resolved(vec![EndpointSource {
                configured: EndpointAddress::Name(name.clone()),
                addresses: materials.addresses(name),
                port: port.target_port.unwrap_or(port.number),
                weight: 1,
                first_only,
                level: 0,
            }])),
            _ => Err(format!("the host {host} cannot be resolved by DNS; list endpoints or use resolution NONE")),
        },
        Resolution::Static | Resolution::Dns | Resolution::DnsRoundRobin => {
            let sources = entry.endpoints.iter().filter_map(|endpoint| {
                let addresses = addresses(endpoint, materials, problems)?;
                let number = endpoint.ports.get(&port.name).copied().or(port.target_port).unwrap_or(port.number);
                Some(EndpointSource {
                    configured: endpoint.address.clone(),
                    addresses,
                    port: number,
                    weight: endpoint.weight.max(1),
                    first_only,
                    level: 0,
                })
            });
            let sources: Vec<_> = sources.collect();
            if sources.is_empty() {
                Err("the ServiceEntry has no usable endpoints".to_owned())
            } else {
                Ok(Endpoints::Resolved(sources))
            }
        }
    }
}

/// The first endpoint that Istio's sidecars speak the mesh's mutual TLS to without being told (auto mTLS), and so one that
/// nothing can be sent to from here. Where a DestinationRule has a `tls` block, that holds
/// (`buildUpstreamTLSSettings`, `BestEffortInferServiceMTLSMode`).
pub(in crate::policy) fn in_mesh_tls<'e>(entry: &'e ServiceEntry, policy: Option<&PortPolicy>) -> Option<&'e Endpoint> {
    if entry.location == MeshLocation::External || policy.is_some_and(|policy| policy.tls.is_some()) {
        return None;
    }
    let balancer = policy.and_then(|policy| policy.load_balancer.as_ref()).map(|balancing| balancing.by);
    // Towards addresses that the application picks it is all endpoints or none.
    let is_mixed = entry.endpoints.iter().any(|endpoint| !endpoint.expects_mesh_tls);
    if balancer == Some(LoadBalancer::Passthrough) && is_mixed {
        return None;
    }
    entry.endpoints.iter().find(|endpoint| endpoint.expects_mesh_tls)
}

/// A targetPort that is the port's own number says something, too: a route may lead here from another port.
fn original(port: &ServicePort) -> Endpoints {
    Endpoints::OriginalDst { port_override: port.target_port }
}

fn addresses(endpoint: &Endpoint, materials: &mut dyn Materials, problems: &mut Problems) -> Option<Addresses> {
    match &endpoint.address {
        EndpointAddress::Ip(ip) => Some(Published::new(vec![*ip])),
        EndpointAddress::Name(name) => Some(materials.addresses(name)),
        EndpointAddress::Unix(path) => {
            problems.warn(&endpoint.at, format!("the endpoint {path} is left out: Unix sockets are not supported yet"));
            None
        }
    }
}
