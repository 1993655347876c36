//! The settings of the process, and their defaults.

use std::time::Duration;

use ipnet::IpNet;

use crate::config::sidecar::OutboundPolicy;

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
