//! `egret/v1` Settings: the process itself, from a file. The flags that override it are in [`super::overrides`].

mod overrides;
mod table;

use std::ops::RangeInclusive;
use std::time::Duration;

use ipnet::IpNet;

use crate::config::metadata::{Meta, read_meta};
use crate::config::names;
use crate::config::problem::Location;
use crate::config::reader::{Field, Object, Report};
use crate::config::sidecar::OutboundPolicy;
use crate::config::sidecar::outbound_policy::{self, POLICIES};
use crate::config::yaml::quoted;

pub use overrides::SettingsOverrides;
pub use table::{AccessLogFormat, ConnectPolicy, Keepalive, MinimumVersion, Settings};

pub(super) const ACCESS_LOG_FORMATS: &[(&str, AccessLogFormat)] =
    &[("TEXT", AccessLogFormat::Text), ("JSON", AccessLogFormat::Json), ("OFF", AccessLogFormat::Off)];

pub(super) const CONNECT_POLICIES: &[(&str, ConnectPolicy)] =
    &[("DENY", ConnectPolicy::Deny), ("REGISTRY_ONLY", ConnectPolicy::RegistryOnly)];

/// Istio's words for them (`meshConfig.tlsDefaults.minProtocolVersion`).
pub(super) const TLS_VERSIONS: &[(&str, MinimumVersion)] =
    &[("TLSV1_2", MinimumVersion::Tls12), ("TLSV1_3", MinimumVersion::Tls13)];

/// Below a kibibyte ordinary requests fail; above a mebibyte a single head could hold more than all others together.
pub(super) const HEAD_BYTES: RangeInclusive<i64> = 1024..=1 << 20;
pub(super) const HEAD_FIELDS: RangeInclusive<i64> = 1..=10_000;
/// Each is compared with the address of every connection that follows its application.
const MAX_NETWORKS: usize = 64;
pub(super) const CONNECTIONS: RangeInclusive<i64> = 1..=1_000_000;
/// What the kernel takes (`MAX_TCP_KEEPIDLE`, `MAX_TCP_KEEPINTVL` and `MAX_TCP_KEEPCNT` in linux/tcp.h).
pub(super) const KEEPALIVE_SECONDS: RangeInclusive<u64> = 1..=32_767;
pub(super) const KEEPALIVE_PROBES: RangeInclusive<i64> = 1..=127;

pub(super) fn read(mut object: Object<'_>, at: Location, report: &mut Report) -> Option<(Meta, Settings)> {
    let meta = if object.has("metadata") { read_meta(&mut object, at, report) } else { Some(unnamed(at)) };
    let spec = object.required("spec");
    object.allow(&["metadata"]);
    object.finish(report);
    let mut spec = spec?.object(report)?;

    let mut settings = Settings::default();
    let Settings {
        outbound_traffic_policy,
        connect_policy,
        access_log,
        protocol_detection_timeout,
        request_headers_timeout,
        idle_timeout,
        body_stall_timeout,
        request_timeout,
        connect_timeout,
        tls_handshake_timeout,
        tcp_keepalive,
        tcp_user_timeout,
        min_tls_version,
        max_head_bytes,
        max_head_fields,
        max_connections,
        dns_refresh_rate,
        drain_duration,
        minimum_drain_duration,
        protected_addresses,
        strict,
    } = &mut settings;
    let policy = spec.optional("outboundTrafficPolicy");
    set(outbound_traffic_policy, policy.and_then(|field| read_policy(&field, report)));
    set(connect_policy, spec.optional("connectPolicy").and_then(|field| field.choice(CONNECT_POLICIES, report)));
    set(access_log, spec.optional("accessLog").and_then(|field| read_format(&field, report)));
    set(protocol_detection_timeout, duration(&mut spec, "protocolDetectionTimeout", report));
    set(request_headers_timeout, positive(&mut spec, "requestHeadersTimeout", report));
    set(idle_timeout, positive(&mut spec, "idleTimeout", report));
    set(body_stall_timeout, duration(&mut spec, "bodyStallTimeout", report));
    set(request_timeout, duration(&mut spec, "requestTimeout", report));
    set(connect_timeout, positive(&mut spec, "connectTimeout", report));
    set(tls_handshake_timeout, positive(&mut spec, "tlsHandshakeTimeout", report));
    if let Some(field) = spec.optional("tcpKeepalive") {
        read_keepalive(&field, tcp_keepalive, report);
    }
    set(tcp_user_timeout, duration(&mut spec, "tcpUserTimeout", report));
    set(min_tls_version, spec.optional("minTlsVersion").and_then(|field| field.choice(TLS_VERSIONS, report)));
    set(max_head_bytes, spec.optional("maxHeadBytes").and_then(|field| read_head_bytes(&field, report)));
    set(max_head_fields, count(&mut spec, "maxHeadFields", &HEAD_FIELDS, report));
    set(max_connections, count(&mut spec, "maxConnections", &CONNECTIONS, report));
    set(dns_refresh_rate, spec.optional("dnsRefreshRate").and_then(|field| read_refresh_rate(&field, report)));
    set(drain_duration, duration(&mut spec, "drainDuration", report));
    set(minimum_drain_duration, duration(&mut spec, "minimumDrainDuration", report));
    set(protected_addresses, spec.optional("protectedAddresses").map(|field| read_networks(&field, report)));
    set(strict, spec.optional("strict").and_then(|field| field.boolean(report)));
    spec.finish(report);
    Some((meta?, settings))
}

fn unnamed(at: Location) -> Meta {
    Meta {
        name: "settings".to_owned(),
        namespace: None,
        labels: std::collections::BTreeMap::new(),
        annotations: std::collections::BTreeMap::new(),
        created_ms: None,
        at,
    }
}

pub(super) fn set<T>(setting: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *setting = value;
    }
}

/// `{mode: REGISTRY_ONLY}` as in Istio's mesh configuration, or the word alone.
fn read_policy(field: &Field<'_>, report: &mut Report) -> Option<OutboundPolicy> {
    if field.is_scalar() { field.choice(POLICIES, report) } else { outbound_policy::read(field, POLICIES, report) }
}

fn read_format(field: &Field<'_>, report: &mut Report) -> Option<AccessLogFormat> {
    let text = field.text(report)?;
    let found = ACCESS_LOG_FORMATS.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
    if found.is_none() {
        field.error(format!("expected TEXT, JSON or OFF, found {}", quoted(text)), report);
    }
    found.map(|(_, format)| *format)
}

fn read_refresh_rate(field: &Field<'_>, report: &mut Report) -> Option<Duration> {
    refresh_rate(field.duration(report)?).map_err(|message| field.error(message, report)).ok()
}

/// Shorter, and name servers would be asked without a pause whenever one fails.
pub(super) fn refresh_rate(rate: Duration) -> Result<Duration, String> {
    if rate < Duration::from_secs(1) { Err("must be at least \"1s\"".to_owned()) } else { Ok(rate) }
}

/// An empty list protects nothing.
fn read_networks(field: &Field<'_>, report: &mut Report) -> Vec<IpNet> {
    let mut networks = Vec::new();
    for item in field.list(MAX_NETWORKS, report) {
        let Some(text) = item.word(report) else { continue };
        match names::network(text) {
            Ok(network) => networks.push(network.trunc()),
            Err(message) => item.error(message, report),
        }
    }
    networks
}

fn read_head_bytes(field: &Field<'_>, report: &mut Report) -> Option<usize> {
    let bytes = field.bytes(report)?;
    if let Some(bytes) = i64::try_from(bytes).ok().filter(|bytes| HEAD_BYTES.contains(bytes)) {
        usize::try_from(bytes).ok()
    } else {
        field
            .error(format!("must be from {} to {} bytes, found {bytes}", HEAD_BYTES.start(), HEAD_BYTES.end()), report);
        None
    }
}

fn read_keepalive(field: &Field<'_>, keepalive: &mut Keepalive, report: &mut Report) {
    let Some(mut object) = field.object(report) else { return };
    let mut seconds = |name, parse: fn(Duration) -> Result<Duration, String>| {
        let field = object.optional(name)?;
        let duration = field.duration(report)?;
        parse(duration).map_err(|message| field.error(message, report)).ok()
    };
    set(&mut keepalive.time, seconds("time", keepalive_time));
    set(&mut keepalive.interval, seconds("interval", keepalive_interval));
    let probes = count(&mut object, "probes", &KEEPALIVE_PROBES, report);
    set(&mut keepalive.probes, probes.and_then(|probes| u32::try_from(probes).ok()));
    object.finish(report);
}

/// # Errors
/// What is wrong with it; zero is none.
pub(super) fn keepalive_time(time: Duration) -> Result<Duration, String> {
    if time.is_zero() { Ok(time) } else { keepalive_interval(time) }
}

/// # Errors
/// What is wrong with it.
pub(super) fn keepalive_interval(time: Duration) -> Result<Duration, String> {
    if time.subsec_nanos() == 0 && KEEPALIVE_SECONDS.contains(&time.as_secs()) {
        return Ok(time);
    }
    let (least, most) = (KEEPALIVE_SECONDS.start(), KEEPALIVE_SECONDS.end());
    Err(format!("the kernel counts in whole seconds: from \"{least}s\" to \"{most}s\""))
}

fn count(spec: &mut Object<'_>, name: &'static str, range: &RangeInclusive<i64>, report: &mut Report) -> Option<usize> {
    spec.optional(name)?.whole(range, report).and_then(|number| usize::try_from(number).ok())
}

fn duration(spec: &mut Object<'_>, name: &'static str, report: &mut Report) -> Option<Duration> {
    spec.optional(name)?.duration(report)
}

fn positive(spec: &mut Object<'_>, name: &'static str, report: &mut Report) -> Option<Duration> {
    let field = spec.optional(name)?;
    let duration = field.duration(report)?;
    if duration.is_zero() {
        field.error("must be longer than zero", report);
        return None;
    }
    Some(duration)
}
