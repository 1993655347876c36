//! The settings of the process. A setting is a field here, its default, and its row in [`SETTINGS`]: documents, flags,
//! variables, `/config_dump` and what a reload cannot change are made of the rows.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::dns::{DnsPolicy, DnsTransport, Ipv4Prefix, Ipv6Prefix};
use super::http2::{self, Http2};
use super::keepalive::{self, Keepalive};
use super::modes::{AccessLogFormat, ConnectPolicy, MinimumVersion, ReplyDetails, RequestIds};
use super::value::ValueKind;
use crate::config::close_notify::CloseNotify;
use crate::config::destination_rule::{H2Upgrade, UpstreamProtocol};
use crate::config::sidecar::OutboundPolicy;
use crate::flow::Hostname;

/// How a setting is called outside, what it may be, and when a change of it takes effect.
#[derive(Debug)]
pub struct Setting {
    /// In a document; with a dot, a field of a block.
    pub key: &'static str,
    /// Of the flag.
    pub help: &'static str,
    pub value: ValueKind<Settings>,
    pub takes_effect: TakesEffect,
}

/// When a process takes a changed value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TakesEffect {
    Reload,
    /// A reload keeps the value of the start and says so.
    Restart,
}

impl Setting {
    /// The name of the flag, without `--`: `maxHeadBytes` → `max-head-bytes`, `tcpKeepalive.time` → `tcp-keepalive-time`.
    #[must_use]
    pub fn flag(&self) -> String {
        let mut flag = String::new();
        for letter in self.key.chars() {
            match letter {
                '.' => flag.push('-'),
                _ if letter.is_ascii_uppercase() => flag.extend(['-', letter.to_ascii_lowercase()]),
                _ => flag.push(letter),
            }
        }
        flag
    }

    /// The environment variable.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("EGRET_{}", self.flag().replace('-', "_").to_ascii_uppercase())
    }

    /// The block and the field in it; no block where the key has no dot.
    pub(super) fn path(&self) -> (Option<&'static str>, &'static str) {
        self.key.split_once('.').map_or((None, self.key), |(block, field)| (Some(block), field))
    }
}

/// `egret/v1` Settings: the process itself. Every field is also a flag of `egret run` or an `EGRET_` variable, which win.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub outbound_traffic_policy: OutboundPolicy,
    pub connect_policy: ConnectPolicy,
    pub access_log: AccessLogFormat,
    pub request_id: RequestIds,
    pub reply_details: ReplyDetails,
    /// Responses get `x-envoy-upstream-service-time`.
    pub envoy_headers: bool,
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
    /// Where no ServiceEntry says otherwise of its hosts.
    pub close_notify: CloseNotify,
    /// Largest request or response head in bytes.
    pub max_head_bytes: usize,
    pub max_head_fields: usize,
    /// Where no DestinationRule says which version of HTTP is spoken to a port's servers.
    pub h2_upgrade_policy: H2Upgrade,
    /// The same, over TLS of egret's, where nothing else says it.
    pub upstream_protocol: UpstreamProtocol,
    pub http2: Http2,
    /// Connections of applications at once, all workers together.
    pub max_connections: usize,
    pub dns_refresh_rate: Duration,
    pub dns_policy: DnsPolicy,
    pub dns_transport: DnsTransport,
    /// Whom the certificates of name servers must be for.
    pub dns_server_name: Option<Hostname>,
    /// `None`: those of the operating system.
    pub dns_ca_certificates: Option<PathBuf>,
    pub ip_autoallocate_ipv4_prefix: Ipv4Prefix,
    pub ip_autoallocate_ipv6_prefix: Ipv6Prefix,
    pub drain_duration: Duration,
    /// How long a draining process stays although it carries nothing: the application may still call while it ends.
    pub minimum_drain_duration: Duration,
    /// Where only an entry that lists the address leads, while unknown destinations are refused.
    pub protected_addresses: Vec<IpNet>,
    /// A name must resolve to the address that the application dialled.
    pub strict: bool,
}

/// Every setting, in the order of the documentation.
pub static SETTINGS: &[Setting] = &[
    Setting {
        key: "outboundTrafficPolicy",
        help: "What happens to destinations that no ServiceEntry names: ALLOW_ANY, REGISTRY_ONLY or ALLOW_ANY_DYNAMIC_DNS",
        value: ValueKind::OutboundPolicy(|settings| &mut settings.outbound_traffic_policy),
        takes_effect: TakesEffect::Reload,
    },
    Setting {
        key: "connectPolicy",
        help: "What becomes of CONNECT: DENY, or REGISTRY_ONLY to pass it on where a ServiceEntry names its host and port",
        value: ValueKind::Word { place: |settings| &mut settings.connect_policy, name: "MODE", any_case: false },
        takes_effect: TakesEffect::Reload,
    },
    Setting {
        key: "accessLog",
        help: "The access log's format: TEXT, JSON or OFF",
        value: ValueKind::Word { place: |settings| &mut settings.access_log, name: "FORMAT", any_case: true },
        takes_effect: TakesEffect::Reload,
    },
    Setting {
        key: "requestId",
        help: "What becomes of requests without x-request-id: LOG gives them one in the access log, SEND sends it too, OFF gives none",
        value: ValueKind::Word { place: |settings| &mut settings.request_id, name: "MODE", any_case: false },
        takes_effect: TakesEffect::Reload,
    },
    Setting {
        key: "replyDetails",
        help: "What the body of an error says of the transport's reason: FULL, or BRIEF for what Envoy says",
        value: ValueKind::Word { place: |settings| &mut settings.reply_details, name: "DETAILS", any_case: false },
        takes_effect: TakesEffect::Reload,
    },
    Setting {
        key: "envoyHeaders",
        help: "Responses get x-envoy-upstream-service-time",
        value: ValueKind::Switch(|settings| &mut settings.envoy_headers),
        takes_effect: TakesEffect::Reload,
    },
    Setting {
        key: "protocolDetectionTimeout",
        help: "How long to wait for an application's first bytes before the server is taken to speak first; 0s waits for ever",
        value: ValueKind::Duration(|settings| &mut settings.protocol_detection_timeout, ANY),
        takes_effect: TakesEffect::Reload,
    },
    Setting {
        key: "requestHeadersTimeout",
        help: "Longest wait for a whole request head",
        value: ValueKind::Duration(|settings| &mut settings.request_headers_timeout, positive),
        takes_effect: TakesEffect::Reload,
    },
    Setting {
        key: "idleTimeout",
        help: "How long a keep-alive connection may wait for its next request",
        value: ValueKind::Duration(|settings| &mut settings.idle_timeout, positive),
        takes_effect: TakesEffect::Reload,
    },
    Setting {
        key: "bodyStallTimeout",
        help: "Longest wait for more of a request body that is not complete; 0s is no limit",
        value: ValueKind::Duration(|settings| &mut settings.body_stall_timeout, ANY),
        takes_effect: TakesEffect::Reload,
    },
    Setting {
        key: "requestTimeout",
        help: "Longest time from a request's head to the end of its response; 0s is no limit",
        value: ValueKind::Duration(|settings| &mut settings.request_timeout, ANY),
        takes_effect: TakesEffect::Reload,
    },
    Setting {
        key: "connectTimeout",
        help: "Longest wait for a TCP connection, where no DestinationRule has a connectTimeout",
        value: ValueKind::Duration(|settings| &mut settings.connect_timeout, positive),
        takes_effect: TakesEffect::Reload,
    },
    Setting {
        key: "tlsHandshakeTimeout",
        help: "Longest wait for a TLS handshake, or for a forward proxy's answer, where no DestinationRule has a connectTimeout, which covers them too",
        value: ValueKind::Duration(|settings| &mut settings.tls_handshake_timeout, positive),
        takes_effect: TakesEffect::Reload,
    },
    Setting {
        key: "tcpKeepalive.time",
        help: "How long a connection is silent before TCP's first keep-alive probe; 0s sends none",
        value: ValueKind::Duration(|settings| &mut settings.tcp_keepalive.time, keepalive::time),
        takes_effect: TakesEffect::Reload,
    },
    Setting {
        key: "tcpKeepalive.interval",
        help: "Time from one keep-alive probe to the next",
        value: ValueKind::Duration(|settings| &mut settings.tcp_keepalive.interval, keepalive::interval),
        takes_effect: TakesEffect::Reload,
    },
    Setting {
        key: "tcpKeepalive.probes",
        help: "Keep-alive probes without an answer after which a connection is dead",
        value: ValueKind::Count(|settings| &mut settings.tcp_keepalive.probes, keepalive::PROBES),
        takes_effect: TakesEffect::Reload,
    },
    Setting {
        key: "tcpUserTimeout",
        help: "How long what was sent to a server may stay unacknowledged; 0s leaves it to the operating system",
        value: ValueKind::Duration(|settings| &mut settings.tcp_user_timeout, ANY),
        takes_effect: TakesEffect::Reload,
    },
    Setting {
        key: "minTlsVersion",
        help: "Lowest TLS version spoken to servers: TLSV1_2 or TLSV1_3",
        value: ValueKind::Word { place: |settings| &mut settings.min_tls_version, name: "VERSION", any_case: false },
        takes_effect: TakesEffect::Reload,
    },
    Setting {
        key: "closeNotify",
        help: "A response that only the end of its TLS connection ends, without close_notify: REQUIRE takes it for cut, IGNORE for complete",
        value: ValueKind::Word { place: |settings| &mut settings.close_notify, name: "MODE", any_case: false },
        takes_effect: TakesEffect::Reload,
    },
    Setting {
        key: "maxHeadBytes",
        help: "Largest request or response head, such as 60Ki",
        value: ValueKind::Bytes(|settings| &mut settings.max_head_bytes, HEAD_BYTES),
        takes_effect: TakesEffect::Reload,
    },
    Setting {
        key: "maxHeadFields",
        help: "Most fields in a head",
        value: ValueKind::Count(|settings| &mut settings.max_head_fields, HEAD_FIELDS),
        takes_effect: TakesEffect::Reload,
    },
    Setting {
        key: "h2UpgradePolicy",
        help: "Whether the servers of HTTP ports are spoken to in HTTP/2 where no DestinationRule says: UPGRADE or DO_NOT_UPGRADE",
        value: ValueKind::Word { place: |settings| &mut settings.h2_upgrade_policy, name: "POLICY", any_case: false },
        takes_effect: TakesEffect::Reload,
    },
    Setting {
        key: "upstreamProtocol",
        help: "What is spoken to the servers of HTTP ports over TLS that egret originates: DECLARED, or AUTO to let the server choose between HTTP/2 and HTTP/1.1",
        value: ValueKind::Word { place: |settings| &mut settings.upstream_protocol, name: "MODE", any_case: false },
        takes_effect: TakesEffect::Reload,
    },
    Setting {
        key: "http2.maxConcurrentStreams",
        help: "Streams that a peer may have open at once on an HTTP/2 connection",
        value: ValueKind::Count(|settings| &mut settings.http2.max_concurrent_streams, http2::STREAMS),
        takes_effect: TakesEffect::Reload,
    },
    Setting {
        key: "http2.initialStreamWindowSize",
        help: "Bytes of a body that a stream of HTTP/2 may have on its way before they are taken, such as 256Ki",
        value: ValueKind::Bytes(|settings| &mut settings.http2.initial_stream_window_size, http2::WINDOW_BYTES),
        takes_effect: TakesEffect::Reload,
    },
    Setting {
        key: "http2.initialConnectionWindowSize",
        help: "The same of all streams of an HTTP/2 connection together",
        value: ValueKind::Bytes(|settings| &mut settings.http2.initial_connection_window_size, http2::WINDOW_BYTES),
        takes_effect: TakesEffect::Reload,
    },
    Setting {
        key: "http2.maxFrameSize",
        help: "Largest frame of HTTP/2 that is accepted",
        value: ValueKind::Bytes(|settings| &mut settings.http2.max_frame_size, http2::FRAME_BYTES),
        takes_effect: TakesEffect::Reload,
    },
    Setting {
        key: "http2.hpackTableSize",
        help: "Largest table by which a peer may compress its heads",
        value: ValueKind::Bytes(|settings| &mut settings.http2.hpack_table_size, http2::TABLE_BYTES),
        takes_effect: TakesEffect::Reload,
    },
    Setting {
        key: "http2.sendBufferSize",
        help: "Bytes of a stream of HTTP/2 that are queued for sending before its source waits",
        value: ValueKind::Bytes(|settings| &mut settings.http2.send_buffer_size, http2::BUFFER_BYTES),
        takes_effect: TakesEffect::Reload,
    },
    Setting {
        key: "http2.maxPendingResets",
        help: "Streams at once that a peer may have reset before they were looked at",
        value: ValueKind::Count(|settings| &mut settings.http2.max_pending_resets, http2::RESETS),
        takes_effect: TakesEffect::Reload,
    },
    Setting {
        key: "http2.maxRememberedResets",
        help: "Streams reset by egret for which what is still on its way is no error",
        value: ValueKind::Count(|settings| &mut settings.http2.max_remembered_resets, http2::RESETS),
        takes_effect: TakesEffect::Reload,
    },
    Setting {
        key: "http2.rememberResets",
        help: "How long such streams are remembered",
        value: ValueKind::Duration(|settings| &mut settings.http2.remember_resets, positive),
        takes_effect: TakesEffect::Reload,
    },
    Setting {
        key: "http2.maxProtocolErrors",
        help: "Streams that a peer may break the protocol on before its connection ends",
        value: ValueKind::Count(|settings| &mut settings.http2.max_protocol_errors, http2::RESETS),
        takes_effect: TakesEffect::Reload,
    },
    Setting {
        key: "http2.idleFrameBurst",
        help: "Frames that carry nothing which a peer may send at once",
        value: ValueKind::Count(|settings| &mut settings.http2.idle_frame_burst, http2::FRAMES),
        takes_effect: TakesEffect::Reload,
    },
    Setting {
        key: "http2.idleFramesPerSecond",
        help: "How many more of them each second",
        value: ValueKind::Count(|settings| &mut settings.http2.idle_frames_per_second, http2::FRAMES),
        takes_effect: TakesEffect::Reload,
    },
    Setting {
        key: "maxConnections",
        help: "Connections of applications at once",
        value: ValueKind::Count(|settings| &mut settings.max_connections, CONNECTIONS),
        // Workers size their engines by it: buffers, and slots for connections.
        takes_effect: TakesEffect::Restart,
    },
    Setting {
        key: "dnsRefreshRate",
        help: "How often names that give no TTL are resolved again, and the longest wait after a failure; at least 1s",
        value: ValueKind::Duration(|settings| &mut settings.dns_refresh_rate, a_second_or_more),
        takes_effect: TakesEffect::Reload,
    },
    Setting {
        key: "dnsPolicy",
        help: "What becomes of lookups of names that no ServiceEntry lists, where DNS is captured: FORWARD_UNLISTED, or ANSWER_LISTED_ONLY to refuse them under REGISTRY_ONLY",
        value: ValueKind::Word { place: |settings| &mut settings.dns_policy, name: "MODE", any_case: false },
        takes_effect: TakesEffect::Reload,
    },
    Setting {
        key: "dnsTransport",
        help: "How name servers are asked: PLAIN, or TLS",
        value: ValueKind::Word { place: |settings| &mut settings.dns_transport, name: "TRANSPORT", any_case: false },
        takes_effect: TakesEffect::Reload,
    },
    Setting {
        key: "dnsServerName",
        help: "The name that name servers must prove to be, for the transport TLS",
        value: ValueKind::Text(|settings| &mut settings.dns_server_name, "NAME"),
        takes_effect: TakesEffect::Reload,
    },
    Setting {
        key: "dnsCaCertificates",
        help: "The CAs that name servers are verified with, for the transport TLS; default: the operating system's",
        value: ValueKind::Text(|settings| &mut settings.dns_ca_certificates, "FILE"),
        takes_effect: TakesEffect::Reload,
    },
    Setting {
        key: "ipAutoallocateIpv4Prefix",
        help: "Where hosts without addresses get automatic IPv4 addresses from, or `none`",
        value: ValueKind::Text(|settings| &mut settings.ip_autoallocate_ipv4_prefix, "CIDR"),
        takes_effect: TakesEffect::Reload,
    },
    Setting {
        key: "ipAutoallocateIpv6Prefix",
        help: "Where hosts without addresses get automatic IPv6 addresses from, or `none`",
        value: ValueKind::Text(|settings| &mut settings.ip_autoallocate_ipv6_prefix, "CIDR"),
        takes_effect: TakesEffect::Reload,
    },
    Setting {
        key: "drainDuration",
        help: "How long established connections may live on after SIGTERM",
        value: ValueKind::Duration(|settings| &mut settings.drain_duration, ANY),
        takes_effect: TakesEffect::Reload,
    },
    Setting {
        key: "minimumDrainDuration",
        help: "How long to stay after SIGTERM although nothing is open, for an application that is ending too",
        value: ValueKind::Duration(|settings| &mut settings.minimum_drain_duration, ANY),
        takes_effect: TakesEffect::Reload,
    },
    Setting {
        key: "protectedAddresses",
        help: "Networks that only an entry which lists the address opens under REGISTRY_ONLY: a comma between each, or `none`",
        value: ValueKind::Networks(|settings| &mut settings.protected_addresses),
        takes_effect: TakesEffect::Reload,
    },
    Setting {
        key: "strict",
        help: "Where the application picks the address, the name it asks for must resolve to it",
        value: ValueKind::Switch(|settings| &mut settings.strict),
        takes_effect: TakesEffect::Reload,
    },
];

/// Below a kibibyte ordinary requests fail; above a mebibyte a single head could hold more than all others together.
const HEAD_BYTES: RangeInclusive<i64> = 1024..=1 << 20;
const HEAD_FIELDS: RangeInclusive<i64> = 1..=10_000;
const CONNECTIONS: RangeInclusive<i64> = 1..=1_000_000;

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
            access_log: AccessLogFormat::default(),
            request_id: RequestIds::default(),
            reply_details: ReplyDetails::default(),
            envoy_headers: false,
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
            close_notify: CloseNotify::default(),
            max_head_bytes: 60 * 1024,
            max_head_fields: 100,
            h2_upgrade_policy: H2Upgrade::DoNotUpgrade,
            upstream_protocol: UpstreamProtocol::default(),
            http2: Http2::default(),
            max_connections: 10_000,
            dns_refresh_rate: Duration::from_secs(60),
            dns_policy: DnsPolicy::default(),
            dns_transport: DnsTransport::default(),
            dns_server_name: None,
            dns_ca_certificates: None,
            ip_autoallocate_ipv4_prefix: Ipv4Prefix::default(),
            ip_autoallocate_ipv6_prefix: Ipv6Prefix::default(),
            drain_duration: Duration::from_secs(45),
            minimum_drain_duration: Duration::ZERO,
            protected_addresses: protected_addresses(),
            strict: false,
        }
    }
}

impl Settings {
    /// What cannot be together, whichever of files and flags said which.
    ///
    /// # Errors
    /// In words, with what to do.
    pub fn check(&self) -> Result<(), String> {
        if self.dns_transport == DnsTransport::Tls && self.dns_server_name.is_none() {
            return Err(
                "dnsTransport TLS needs dnsServerName, the name that the name servers' certificates are for".to_owned()
            );
        }
        Ok(())
    }
}

/// Every duration is a value.
const ANY: fn(Duration) -> Result<(), String> = |_| Ok(());

fn positive(duration: Duration) -> Result<(), String> {
    if duration.is_zero() { Err("must be longer than zero".to_owned()) } else { Ok(()) }
}

/// Shorter, and name servers would be asked without a pause whenever one fails.
fn a_second_or_more(rate: Duration) -> Result<(), String> {
    if rate < Duration::from_secs(1) { Err("must be at least \"1s\"".to_owned()) } else { Ok(()) }
}
