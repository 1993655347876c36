//! The typed resources: what a configuration says once it has been read and found valid.
//!
//! Values here cannot be wrong: hosts are patterns, ports are numbers from 1 to 65535, addresses are networks. What
//! they mean together is decided in `policy`; where they came from stays with them as a [`Location`], so that every
//! later message can point at a line.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::authorization::AuthorizationPolicy;
use super::egress_listener::EgressListener;
use super::hop::{ProxyProtocol, RetryBudget, Tunnel};
use super::load_balancer::LoadBalancing;
use super::outlier_detection::OutlierDetection;
use super::routing::VirtualService;
use crate::flow::Hostname;

/// A place in a file, both counted from 1.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Location {
    pub file: Arc<Path>,
    pub line: u32,
    pub column: u32,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file.display(), self.line, self.column)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    Error,
    Warning,
}

/// One thing wrong with the configuration, in words that say what was expected and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub severity: Severity,
    /// `None` where no line is to blame (a folder that cannot be read).
    pub at: Option<Location>,
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(at) = &self.at {
            write!(f, "{at}: ")?;
        }
        if self.severity == Severity::Warning {
            f.write_str("warning: ")?;
        }
        f.write_str(&self.message)
    }
}

/// Everything that the configuration files say.
#[derive(Clone, Debug, Default)]
pub struct Resources {
    pub service_entries: Vec<ServiceEntry>,
    pub destination_rules: Vec<DestinationRule>,
    pub virtual_services: Vec<VirtualService>,
    pub authorization_policies: Vec<AuthorizationPolicy>,
    pub sidecars: Vec<Sidecar>,
    pub secrets: Vec<Secret>,
    pub settings: Settings,
    /// Where the Settings document stands, if there is one.
    pub settings_at: Option<Location>,
    /// Some document has an error and was left out: nothing can be said to be missing.
    pub incomplete: bool,
}

/// `metadata` of a Kubernetes object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    pub name: String,
    /// As written; `None` means the namespace of the pod that reads it.
    pub namespace: Option<String>,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    /// `creationTimestamp` in milliseconds since the epoch; objects without one are younger than those with one, and
    /// among themselves as old as their order in the files says.
    pub created_ms: Option<i64>,
    /// Where the document's `kind` stands.
    pub at: Location,
}

/// A host of a ServiceEntry or DestinationRule: exact, or a wildcard for every name below a suffix.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HostPattern {
    Exact(Hostname),
    /// `*.example.com` is kept as `example.com`: matches at any depth, not the name itself.
    Wildcard(Hostname),
    /// `*`; only a DestinationRule may say it.
    Any,
}

impl HostPattern {
    /// Whether everything that `other` stands for is one of this pattern's.
    #[must_use]
    pub fn covers(&self, other: &HostPattern) -> bool {
        let below = |name: &Hostname, suffix: &Hostname| {
            name.as_str().strip_suffix(suffix.as_str()).is_some_and(|rest| rest.ends_with('.'))
        };
        match (self, other) {
            (HostPattern::Any, _) => true,
            (HostPattern::Wildcard(suffix), HostPattern::Exact(name)) => below(name, suffix),
            (HostPattern::Wildcard(suffix), HostPattern::Wildcard(name)) => name == suffix || below(name, suffix),
            (HostPattern::Exact(own), HostPattern::Exact(name)) => own == name,
            (HostPattern::Exact(_), _) | (HostPattern::Wildcard(_), HostPattern::Any) => false,
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostPattern::Exact(name) => name.fmt(f),
            HostPattern::Wildcard(suffix) => write!(f, "*.{suffix}"),
            HostPattern::Any => f.write_str("*"),
        }
    }
}

#[derive(Clone, Debug)]
pub struct ServiceEntry {
    pub meta: Meta,
    pub hosts: Vec<HostPattern>,
    pub addresses: Vec<IpNet>,
    pub ports: Vec<ServicePort>,
    pub location: MeshLocation,
    pub resolution: Resolution,
    pub endpoints: Vec<Endpoint>,
    pub export_to: Vec<ExportTo>,
    pub subject_alt_names: Vec<String>,
    /// Parsed so that it can be warned of: a sidecar without a control plane has no pods to select.
    pub workload_selector: Option<BTreeMap<String, String>>,
}

#[derive(Clone, Debug)]
pub struct ServicePort {
    pub number: u16,
    pub name: String,
    pub protocol: PortProtocol,
    pub target_port: Option<u16>,
    pub at: Location,
}

/// `ports[].protocol`, case-insensitive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PortProtocol {
    Http,
    Http2,
    Grpc,
    GrpcWeb,
    Https,
    Tls,
    Tcp,
    Mongo,
    Mysql,
    Redis,
    /// Not carried by a TCP redirect; parsed and warned of.
    Udp,
    /// Not written: detected from the first bytes.
    Auto,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MeshLocation {
    #[default]
    External,
    Internal,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Resolution {
    #[default]
    None,
    Static,
    Dns,
    DnsRoundRobin,
    DynamicDns,
}

#[derive(Clone, Debug)]
pub struct Endpoint {
    pub address: EndpointAddress,
    /// Port name → number.
    pub ports: BTreeMap<String, u16>,
    pub labels: BTreeMap<String, String>,
    pub locality: Option<String>,
    /// At least 1.
    pub weight: u32,
    /// In a mesh it would be spoken to in the mesh's own mutual TLS: its label `security.istio.io/tlsMode` says so, or without
    /// one its `serviceAccount`.
    pub expects_mesh_tls: bool,
    pub at: Location,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum EndpointAddress {
    Ip(IpAddr),
    Name(Hostname),
    /// `unix:///path` or `unix://@abstract`, as written.
    Unix(String),
}

impl fmt::Display for EndpointAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EndpointAddress::Ip(ip) => ip.fmt(f),
            EndpointAddress::Name(name) => name.fmt(f),
            EndpointAddress::Unix(path) => f.write_str(path),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExportTo {
    /// `.`
    Same,
    /// `*`
    All,
    /// `~`
    Nobody,
    Namespace(String),
}

#[derive(Clone, Debug)]
pub struct DestinationRule {
    pub meta: Meta,
    pub host: HostPattern,
    pub traffic_policy: Option<TrafficPolicy>,
    pub subsets: Vec<Subset>,
    pub export_to: Vec<ExportTo>,
    /// `workloadSelector.matchLabels`.
    pub workload_selector: Option<BTreeMap<String, String>>,
}

#[derive(Clone, Debug)]
pub struct Subset {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub traffic_policy: Option<TrafficPolicy>,
}

/// A policy for every port, and the ports that have one of their own.
#[derive(Clone, Debug, Default)]
pub struct TrafficPolicy {
    pub all: PortPolicy,
    /// An entry replaces `all` wholesale for its port (`number` of the ServiceEntry, not its target port).
    pub ports: Vec<(u16, PortPolicy)>,
}

#[derive(Clone, Debug, Default)]
pub struct PortPolicy {
    pub tls: Option<ClientTls>,
    pub load_balancer: Option<LoadBalancing>,
    pub connection_pool: Option<ConnectionPool>,
    pub outlier_detection: Option<OutlierDetection>,
    /// This and the next two stand only in a policy for every port, and do not hold for a port with one of its own.
    pub tunnel: Option<Tunnel>,
    pub proxy_protocol: Option<ProxyProtocol>,
    pub retry_budget: Option<RetryBudget>,
}

/// `ClientTLSSettings`.
#[derive(Clone, Debug)]
pub struct ClientTls {
    pub mode: TlsMode,
    pub client_certificate: Option<PathBuf>,
    pub private_key: Option<PathBuf>,
    pub ca_certificates: Option<PathBuf>,
    pub ca_crl: Option<PathBuf>,
    pub credential_name: Option<String>,
    /// As written: DNS names, `spiffe://…` and other URIs, IP addresses.
    pub subject_alt_names: Vec<String>,
    pub sni: Option<Hostname>,
    pub insecure_skip_verify: bool,
    /// Where the `tls` block stands.
    pub at: Location,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsMode {
    Disable,
    Simple,
    Mutual,
    IstioMutual,
}

/// `connectionPool`; `None` means Istio's default (see `policy`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectionPool {
    pub max_connections: Option<u32>,
    pub connect_timeout: Option<Duration>,
    pub tcp_keepalive: Option<TcpKeepalive>,
    pub max_connection_duration: Option<Duration>,
    pub tcp_idle_timeout: Option<Duration>,
    pub http1_max_pending_requests: Option<u32>,
    pub max_requests_per_connection: Option<u32>,
    /// `http2MaxRequests`: requests under way at once, in HTTP/1 as well.
    pub max_requests: Option<u32>,
    /// Requests that are being tried again at once.
    pub max_retries: Option<u32>,
    pub http_idle_timeout: Option<Duration>,
}

/// Unset fields are left to the operating system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpKeepalive {
    pub probes: Option<u32>,
    pub time: Option<Duration>,
    pub interval: Option<Duration>,
}

/// `Sidecar`: of it what its pods see and what becomes of the rest.
#[derive(Clone, Debug)]
pub struct Sidecar {
    pub meta: Meta,
    pub workload_selector: Option<BTreeMap<String, String>>,
    pub outbound_traffic_policy: Option<OutboundPolicy>,
    /// `None` sees everything.
    pub egress: Option<Vec<EgressListener>>,
}

/// What happens to destinations that no ServiceEntry names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OutboundPolicy {
    #[default]
    AllowAny,
    RegistryOnly,
    /// As `AllowAny`, but plain HTTP goes where the name in its `Host` resolves to, whatever was dialled.
    AllowAnyDynamicDns,
}

impl OutboundPolicy {
    /// As it is written in YAML.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::AllowAny => "ALLOW_ANY",
            Self::RegistryOnly => "REGISTRY_ONLY",
            Self::AllowAnyDynamicDns => "ALLOW_ANY_DYNAMIC_DNS",
        }
    }
}

/// A core `v1` Secret, `data` decoded.
#[derive(Clone)]
pub struct Secret {
    pub meta: Meta,
    pub data: BTreeMap<String, Vec<u8>>,
}

impl fmt::Debug for Secret {
    /// Names the keys, never their values.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret").field("name", &self.meta.name).field("keys", &self.data.keys()).finish()
    }
}

/// `egret/v1` Settings: the process itself. Every field is also a flag of `egret run` or an `EGRET_` variable, which win.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub outbound_traffic_policy: OutboundPolicy,
    pub connect_policy: ConnectPolicy,
    pub access_log: AccessLogFormat,
    /// How long to wait for an application's first bytes before a connection counts as one where the server speaks
    /// first. Zero waits for ever, as Istio does.
    pub protocol_detection_timeout: Duration,
    /// Longest wait for a whole request head, and for the next request of an idle keep-alive connection.
    pub request_headers_timeout: Duration,
    pub idle_timeout: Duration,
    /// Longest wait for more of a request body that is not complete. Zero is no limit.
    pub body_stall_timeout: Duration,
    /// Longest time from a request's head to the end of its response. Zero is no limit.
    pub request_timeout: Duration,
    /// Of TCP's handshake, and of what comes behind it; where no rule has a connectTimeout, which covers both.
    pub connect_timeout: Duration,
    pub tls_handshake_timeout: Duration,
    /// Of the application's connections, and of those to servers where no rule has a `tcpKeepalive`.
    pub tcp_keepalive: Keepalive,
    /// How long what was sent to a server may stay unacknowledged, where no rule has a `tcpKeepalive`. Zero leaves it to
    /// the operating system.
    pub tcp_user_timeout: Duration,
    pub min_tls_version: MinimumVersion,
    /// Largest request or response head in bytes.
    pub max_head_bytes: usize,
    pub max_head_fields: usize,
    /// Connections of applications at once, all workers together.
    pub max_connections: usize,
    pub dns_refresh_rate: Duration,
    pub drain_duration: Duration,
    /// How long a draining process stays although it carries nothing: the application may still call while it ends.
    pub minimum_drain_duration: Duration,
    /// Where only an entry that lists the address leads, while unknown destinations are refused.
    pub protected_addresses: Vec<IpNet>,
    /// A name must resolve to the address that the application dialled.
    pub strict: bool,
}

/// TCP keep-alive: the first probe after `time` of silence, then one every `interval`; dead after `probes` without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Whole seconds. Zero: no probes.
    pub time: Duration,
    /// Whole seconds, one at least.
    pub interval: Duration,
    pub probes: u32,
}

/// Go's, the most frequent that is common: an application's own probes end at this process, so these must keep alive what
/// those would have. Azure's NAT forgets a silent flow after 4 minutes, AWS's after 350 s, Google's after 20 minutes.
impl Default for Keepalive {
    fn default() -> Self {
        Self { time: Duration::from_secs(15), interval: Duration::from_secs(15), probes: 9 }
    }
}

/// Lowest TLS version that is spoken to servers; TLS 1.1 and below never are (RFC 8996).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MinimumVersion {
    #[default]
    Tls12,
    Tls13,
}

/// What becomes of CONNECT, which asks a forward proxy for a tunnel that nobody can look into.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConnectPolicy {
    #[default]
    Deny,
    /// Passed on where a ServiceEntry names the host and port that the tunnel leads to, whatever the outbound policy.
    RegistryOnly,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AccessLogFormat {
    #[default]
    Text,
    Json,
    Off,
}

/// Link-local networks (RFC 3927, RFC 4291 §2.5.6), and where clouds answer with a machine's credentials outside of them:
/// Amazon's and Google's on IPv6, Alibaba's, Azure's.
fn protected_addresses() -> Vec<IpNet> {
    const KNOWN: [&str; 6] = [
        "169.254.0.0/16",
        "fe80::/10",
        "fd00:ec2::254/128",
        "fd20:ce::254/128",
        "100.100.100.200/32",
        "168.63.129.16/32",
    ];
    KNOWN.iter().map(|network| network.parse().expect("a network in text form")).collect()
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            outbound_traffic_policy: OutboundPolicy::AllowAny,
            connect_policy: ConnectPolicy::Deny,
            access_log: AccessLogFormat::Text,
            protocol_detection_timeout: Duration::from_secs(5),
            request_headers_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(3600),
            body_stall_timeout: Duration::from_secs(300),
            request_timeout: Duration::ZERO,
            connect_timeout: Duration::from_secs(10),
            tls_handshake_timeout: Duration::from_secs(10),
            tcp_keepalive: Keepalive::default(),
            // RFC 9293 §3.9.1.1's default. Shorter, and a server that takes nothing for a while would be given up: the
            // kernel counts a closed window as well, however well the server answers probes of it (tcp_probe_timer).
            tcp_user_timeout: Duration::from_secs(300),
            min_tls_version: MinimumVersion::Tls12,
            max_head_bytes: 60 * 1024,
            max_head_fields: 100,
            max_connections: 10_000,
            dns_refresh_rate: Duration::from_secs(60),
            drain_duration: Duration::from_secs(45),
            minimum_drain_duration: Duration::ZERO,
            protected_addresses: protected_addresses(),
            strict: false,
        }
    }
}
