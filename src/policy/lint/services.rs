//! Warnings of what an entry and one of its ports say, with the policy that holds for it.

use crate::config::{
    ClientTls, DestinationRule, EndpointAddress, HostPattern, OutlierDetection, PortPolicy, PortProtocol, Resolution,
    ServiceEntry, ServicePort,
};
use crate::policy::lint::problems::Problems;
use crate::policy::service::{PayloadKind, Service, is_served, originates};
use crate::policy::table::cluster::Endpoints;

/// What an entry alone shows.
pub(in crate::policy) fn of_entry(entry: &ServiceEntry, problems: &mut Problems) {
    if entry.hosts.contains(&HostPattern::Any) {
        problems.warn(&entry.meta.at, "the host * is left out: a ServiceEntry must name hosts".to_owned());
    }
    super::names::of_entry(entry, problems);
    for port in &entry.ports {
        let messages = [of_port(entry, port), of_number(port)];
        messages.into_iter().flatten().for_each(|message| problems.warn(&port.at, message));
    }
}

/// Ports whose servers speak first by the rules of their protocol: FTP, SSH, SMTP, POP3, IMAP, submission, MySQL.
const SERVER_FIRST: [u16; 7] = [21, 22, 25, 110, 143, 587, 3306];
/// Ports whose protocol begins in plaintext and turns to TLS by a command of its own, besides most of those above: LDAP,
/// PostgreSQL.
const STARTS_TLS_ITSELF: [u16; 8] = [21, 25, 110, 143, 389, 587, 3306, 5432];

/// What the number of a port and its protocol say of each other.
fn of_number(port: &ServicePort) -> Option<String> {
    let number = port.number;
    match port.protocol {
        PortProtocol::Https | PortProtocol::Tls if number == 80 => Some(
            "port 80 is declared to carry TLS, so plain HTTP requests to it are not this entry's; declare HTTP (80 and \
             443 are easily mixed up)"
                .to_owned(),
        ),
        PortProtocol::Auto if SERVER_FIRST.contains(&number) => Some(format!(
            "port {number} has no protocol, and its servers usually speak first: every connection waits for \
             protocolDetectionTimeout before it is carried; declare TCP"
        )),
        _ => None,
    }
}

fn of_port(entry: &ServiceEntry, port: &ServicePort) -> Option<String> {
    let number = port.number;
    let wildcard_range = entry.addresses.iter().any(|range| range.prefix_len() < range.max_prefix_len());
    match port.protocol {
        _ if entry.resolution == Resolution::DynamicDns && !is_served(entry, port) => Some(format!(
            "port {number} is left out: resolution DYNAMIC_DNS needs protocol HTTP, HTTP2, GRPC or TLS (for an \
             application's own TLS declare TLS, not HTTPS)"
        )),
        PortProtocol::Udp => Some(format!("port {number} is left out: UDP is not redirected to the proxy")),
        PortProtocol::Tcp | PortProtocol::Mongo | PortProtocol::Mysql | PortProtocol::Redis
            if entry.addresses.is_empty() =>
        {
            Some(format!(
                "a TCP port without `addresses` takes every connection to port {number}, whatever its destination; list \
                 the addresses that the application dials"
            ))
        }
        PortProtocol::Auto if entry.addresses.is_empty() => Some(format!(
            "port {number} has no protocol and the entry no `addresses`: every connection to port {number} that is not \
             HTTP is taken, whatever its destination; declare the protocol"
        )),
        PortProtocol::Http | PortProtocol::Http2 | PortProtocol::Grpc | PortProtocol::GrpcWeb if wildcard_range => {
            Some(format!(
                "`addresses` are not matched on the HTTP port {number}: requests go by their Host, which must be one of \
                 `hosts`"
            ))
        }
        _ => None,
    }
}

/// Whether requests go out to a port at all, encrypted or not.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::policy) enum Requests {
    Leave,
    /// They are refused, or routes send them all elsewhere.
    Never,
}

/// What an entry and the rule that was chosen for it show together.
pub(in crate::policy) fn of_service(
    service: &Service<'_>,
    endpoints: &Endpoints,
    payload: PayloadKind,
    requests: Requests,
    problems: &mut Problems,
) {
    let Service { entry, port, policy, .. } = *service;
    let rule = service.rule.map(|(rule, _)| rule);
    let outliers = policy.and_then(|policy| policy.outlier_detection.as_ref());
    if let Some((rules, message)) = outliers.and_then(|rules| Some((rules, of_outliers(rules, endpoints)?))) {
        problems.warn(&rules.at, message);
    }
    of_requests_settings(entry, port, rule, payload, problems);
    let tls = policy.and_then(|policy| policy.tls.as_ref());
    match tls.filter(|tls| originates(tls)) {
        _ if payload == PayloadKind::Tls => {}
        Some(tls) => of_tls(entry, port, policy, tls, endpoints, payload, problems),
        None if requests == Requests::Never => {}
        None => {
            of_plaintext(port, policy, endpoints, payload, problems);
            let Some(traffic) = rule.and_then(|rule| rule.traffic_policy.as_ref()).filter(|_| tls.is_none()) else {
                return;
            };
            match traffic.all.tls.as_ref().filter(|tls| originates(tls)) {
                Some(general) => of_replaced(port, general, problems),
                None => of_uncovered(port, &traffic.ports, payload, problems),
            }
        }
    }
}

/// Limits of requests where there are none to be seen.
fn of_requests_settings(
    entry: &ServiceEntry,
    port: &ServicePort,
    rule: Option<&DestinationRule>,
    payload: PayloadKind,
    problems: &mut Problems,
) {
    let Some((rule, traffic)) = rule.and_then(|rule| Some((rule, rule.traffic_policy.as_ref()?))) else { return };
    let own = traffic.ports.iter().find(|(number, _)| *number == port.number).map(|(_, own)| own);
    let only_bytes = entry.ports.iter().all(|port| !may_carry_requests(port.protocol));
    let Some(policy) = own.or(only_bytes.then_some(&traffic.all)) else { return };
    let has_http = policy.connection_pool.as_ref().is_some_and(|pool| {
        let counts = [pool.http1_max_pending_requests, pool.max_requests_per_connection, pool.max_requests];
        counts.iter().any(Option::is_some) || pool.max_retries.is_some() || pool.http_idle_timeout.is_some()
    });
    if has_http && matches!(payload, PayloadKind::Tls | PayloadKind::Bytes) && port.protocol != PortProtocol::Auto {
        let message = format!(
            "connectionPool.http has no effect on port {}, where no requests are seen; connectionPool.tcp (maxConnections, \
             idleTimeout) has",
            port.number
        );
        problems.warn(&rule.meta.at, message);
    }
}

fn may_carry_requests(protocol: PortProtocol) -> bool {
    use PortProtocol::{Auto, Grpc, GrpcWeb, Http, Http2};
    matches!(protocol, Http | Http2 | Grpc | GrpcWeb | Auto)
}

/// Whether plain requests can be this entry's at all.
pub(in crate::policy) fn has_requests(entry: &ServiceEntry) -> bool {
    entry.ports.iter().any(|port| may_carry_requests(port.protocol))
}

/// Why endpoints would never be ejected, where that can be known.
fn of_outliers(rules: &OutlierDetection, endpoints: &Endpoints) -> Option<String> {
    let Endpoints::Resolved(sources) = endpoints else {
        return Some(
            "outlierDetection has no effect on connections to the address that the application dialled or named \
             (resolution NONE or DYNAMIC_DNS, loadBalancer PASSTHROUGH): there is no other endpoint to use instead"
                .to_owned(),
        );
    };
    let fixed = sources.iter().all(|source| matches!(source.configured, EndpointAddress::Ip(_)));
    let (count, percent) = (sources.len(), rules.max_ejection_percent);
    let never = fixed && count > 0 && percent as usize * count < 100;
    never.then(|| {
        let least = 100_usize.div_ceil(count);
        format!(
            "no endpoint will be ejected: {percent} % (maxEjectionPercent, 10 if unset) of {count} is less than one; \
             write at least {least}"
        )
    })
}

fn of_plaintext(
    port: &ServicePort,
    policy: Option<&PortPolicy>,
    endpoints: &Endpoints,
    payload: PayloadKind,
    problems: &mut Problems,
) {
    // Requests that a route sends to a port for TLS are told at the route.
    use PortProtocol::{Auto, Https, Tls};
    let declared_http =
        matches!(payload, PayloadKind::Http1 | PayloadKind::Http2) && !matches!(port.protocol, Auto | Https | Tls);
    let is_tunnelled = policy.is_some_and(|policy| policy.tunnel.is_some());
    if declared_http && port.number == 443 {
        let message = "port 443 is declared as plain HTTP: an application that speaks TLS on it is not matched by this \
                       entry; declare HTTPS to pass the application's own TLS through";
        problems.warn(&port.at, message.to_owned());
    } else if declared_http && !is_tunnelled && upstream_ports(port, endpoints).any(|upstream| upstream == 443) {
        let message = format!(
            "requests to port {} leave in plaintext for port 443 of the server, which expects TLS: no DestinationRule of \
             this workload asks for TLS there; add one with portLevelSettings for port {} and `tls: {{mode: SIMPLE}}`",
            port.number, port.number
        );
        problems.warn(&port.at, message);
    }
}

/// A port beside those that a rule gives TLS.
fn of_uncovered(port: &ServicePort, ports: &[(u16, PortPolicy)], payload: PayloadKind, problems: &mut Problems) {
    let with_tls = ports.iter().find(|(_, policy)| policy.tls.as_ref().is_some_and(originates));
    let is_http = matches!(payload, PayloadKind::Http1 | PayloadKind::Http2) && port.protocol != PortProtocol::Auto;
    if let (Some((other, _)), true) = (with_tls, is_http) {
        let message = format!(
            "port {} leaves in plaintext: the DestinationRule of this host asks for TLS on port {other} alone; add \
             portLevelSettings for port {} (or `mode: DISABLE` if that is meant)",
            port.number, port.number
        );
        problems.warn(&port.at, message);
    }
}

fn of_replaced(port: &ServicePort, general: &ClientTls, problems: &mut Problems) {
    let message = format!(
        "portLevelSettings for port {} replace the whole trafficPolicy, so this tls block does not hold for it and the \
         port leaves in plaintext; repeat the block there (or `mode: DISABLE` if that is meant)",
        port.number
    );
    problems.warn(&general.at, message);
}

fn of_tls(
    entry: &ServiceEntry,
    port: &ServicePort,
    policy: Option<&PortPolicy>,
    tls: &ClientTls,
    endpoints: &Endpoints,
    payload: PayloadKind,
    problems: &mut Problems,
) {
    if tls.insecure_skip_verify {
        let message = "insecureSkipVerify: the server's certificate is not checked at all, so anybody on the way can \
                       read and change this traffic";
        problems.warn(&tls.at, message.to_owned());
    } else if tls.subject_alt_names.is_empty() && entry.subject_alt_names.is_empty() {
        if tls.sni.is_some() {
            let message = "an explicit `sni` switches the check of the server's name off: any certificate of a trusted \
                           CA is accepted; add subjectAltNames, or leave `sni` out to check the request's host";
            problems.warn(&tls.at, message.to_owned());
        } else if payload == PayloadKind::Bytes && port.protocol != PortProtocol::Auto {
            let message = format!(
                "port {} carries no HTTP, so there is no host to send as SNI or to check the certificate against; add \
                 `sni` and subjectAltNames",
                port.number
            );
            problems.warn(&tls.at, message);
        }
    }
    if port.protocol == PortProtocol::Mysql
        || (payload == PayloadKind::Bytes && upstream_ports(port, endpoints).any(|to| STARTS_TLS_ITSELF.contains(&to)))
    {
        let message = format!(
            "TLS from the first byte on, which few servers of this kind understand: on port {} TLS begins with a \
             command of the protocol itself; leave the tls block out and let the application ask for TLS",
            port.number
        );
        problems.warn(&tls.at, message);
    }
    let is_tunnelled = policy.is_some_and(|policy| policy.tunnel.is_some());
    if !is_tunnelled && upstream_ports(port, endpoints).any(|upstream| upstream == 80) {
        let hint = if entry.resolution == Resolution::None {
            "targetPort: 443"
        } else {
            "targetPort: 443 (or endpoint ports)"
        };
        let message = format!(
            "TLS would be spoken to port 80 of the server, which usually fails with WRONG_VERSION_NUMBER; set {hint} on \
             port {} of the ServiceEntry",
            port.number
        );
        problems.warn(&port.at, message);
    }
}

fn upstream_ports<'a>(port: &'a ServicePort, endpoints: &'a Endpoints) -> impl Iterator<Item = u16> + 'a {
    let (original, sources) = match endpoints {
        Endpoints::OriginalDst { port_override } | Endpoints::ByName { port_override } => {
            (Some(port_override.unwrap_or(port.number)), [].as_slice())
        }
        Endpoints::Resolved(sources) => (None, sources.as_slice()),
    };
    original.into_iter().chain(sources.iter().map(|source| source.port))
}
