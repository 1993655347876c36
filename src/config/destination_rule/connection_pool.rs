//! `connectionPool` of a traffic policy. Zero means "not set", as protobuf has it, except where zero disables a timeout.

use std::time::Duration;

use super::retry_budget::RetryBudget;
use crate::config::reader::{Field, Object, Report};

/// `connectionPool`; `None` means the default (see [`PoolLimits`]).
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
    /// Streams at once on one connection of HTTP/2.
    pub max_concurrent_streams: Option<u32>,
    pub http2_keepalive: Option<Http2Keepalive>,
    pub h2_upgrade: Option<H2Upgrade>,
    /// Servers are spoken to as the application speaks.
    pub use_client_protocol: bool,
}

/// `http2KeepAlive`: a PING on a connection from which nothing has come for `interval`; it is ended when no answer comes
/// within `timeout`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Http2Keepalive {
    pub interval: Duration,
    pub timeout: Duration,
}

/// `h2UpgradePolicy`; without it the mesh's holds, which is not to upgrade.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum H2Upgrade {
    Upgrade,
    DoNotUpgrade,
}

const UPGRADE_POLICIES: &[(&str, Option<H2Upgrade>)] =
    &[("DEFAULT", None), ("UPGRADE", Some(H2Upgrade::Upgrade)), ("DO_NOT_UPGRADE", Some(H2Upgrade::DoNotUpgrade))];

/// Unset fields are left to the operating system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpKeepalive {
    pub probes: Option<u32>,
    pub time: Option<Duration>,
    pub interval: Option<Duration>,
}

/// How long a pooled connection is kept for the next request where no `connectionPool.http.idleTimeout` says otherwise. Not
/// Istio's and Envoy's hour: many a NAT, firewall and load balancer forgets a silent connection after a few minutes without
/// a word to either end, and most servers close it sooner. What a connection that is lent saves is one handshake.
pub const POOLED_IDLE: Duration = Duration::from_secs(60);
/// Istio's and Envoy's default for opaque connections: nobody but their two ends can make them anew.
const OPAQUE_IDLE: Duration = Duration::from_secs(3600);
/// A connection that names the application's own to the upstream serves no other: it is kept for a moment only.
const IDLE_OF_ONE_CLIENT: Duration = Duration::from_secs(10);

/// `connectionPool` with the defaults filled in (`None` = no limit).
#[derive(Clone, Debug, PartialEq)]
pub struct PoolLimits {
    pub max_connections: Option<u32>,
    pub max_pending_requests: Option<u32>,
    pub max_requests_per_connection: Option<u32>,
    pub max_requests: Option<u32>,
    /// Of no meaning beside a `retry_budget`.
    pub max_retries: Option<u32>,
    pub retry_budget: Option<RetryBudget>,
    /// Of TCP's handshake, CONNECT to a forward proxy and TLS handshake together. `None`: each has its own time, by the
    /// Settings.
    pub connect_timeout: Option<Duration>,
    pub http_idle_timeout: Duration,
    /// `None` never ends an idle opaque connection.
    pub tcp_idle_timeout: Option<Duration>,
    pub max_connection_duration: Option<Duration>,
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// Of one connection of HTTP/2.
    pub max_concurrent_streams: Option<u32>,
    pub http2_keepalive: Option<Http2Keepalive>,
}

impl PoolLimits {
    /// Zero means unset, except that `tcp.idleTimeout: 0s` means for ever. `is_shared`: a connection serves any of the
    /// application's.
    pub(super) fn new(pool: &ConnectionPool, retry_budget: Option<RetryBudget>, is_shared: bool) -> Self {
        let longest = if is_shared { Duration::MAX } else { IDLE_OF_ONE_CLIENT };
        let count = |limit: Option<u32>| limit.filter(|limit| *limit > 0);
        let time = |limit: Option<Duration>| limit.filter(|limit| !limit.is_zero());
        Self {
            max_connections: count(pool.max_connections),
            max_pending_requests: count(pool.http1_max_pending_requests),
            max_requests_per_connection: count(pool.max_requests_per_connection),
            connect_timeout: time(pool.connect_timeout),
            max_requests: count(pool.max_requests),
            max_retries: count(pool.max_retries),
            retry_budget,
            http_idle_timeout: time(pool.http_idle_timeout).unwrap_or(POOLED_IDLE).min(longest),
            tcp_idle_timeout: time(Some(pool.tcp_idle_timeout.unwrap_or(OPAQUE_IDLE))),
            max_connection_duration: time(pool.max_connection_duration),
            tcp_keepalive: pool.tcp_keepalive,
            max_concurrent_streams: count(pool.max_concurrent_streams),
            http2_keepalive: pool.http2_keepalive,
        }
    }
}

pub(super) fn read(field: &Field<'_>, report: &mut Report) -> Option<ConnectionPool> {
    let mut object = field.object(report)?;
    if !object.has("tcp") && !object.has("http") {
        field.error("a connection pool must have at least one of tcp and http", report);
    }
    let mut pool = ConnectionPool::default();
    if let Some(mut tcp) = object.optional("tcp").and_then(|field| field.object(report)) {
        read_tcp(&mut tcp, &mut pool, report);
        tcp.finish(report);
    }
    if let Some(mut http) = object.optional("http").and_then(|field| field.object(report)) {
        read_http(&mut http, &mut pool, report);
        http.finish(report);
    }
    object.finish(report);
    Some(pool)
}

fn read_tcp(tcp: &mut Object<'_>, pool: &mut ConnectionPool, report: &mut Report) {
    pool.max_connections = count(tcp, "maxConnections", report);
    pool.connect_timeout = tcp.optional("connectTimeout").and_then(|time| time.at_least_a_millisecond(report));
    pool.max_connection_duration =
        tcp.optional("maxConnectionDuration").and_then(|time| time.at_least_a_millisecond(report));
    pool.tcp_idle_timeout = tcp.optional("idleTimeout").and_then(|field| field.whole_milliseconds(report));
    pool.tcp_keepalive = tcp.optional("tcpKeepalive").and_then(|field| read_keepalive(&field, report));
}

fn read_keepalive(field: &Field<'_>, report: &mut Report) -> Option<TcpKeepalive> {
    let mut object = field.object(report)?;
    let mut seconds = |name, report: &mut Report| {
        let field = object.optional(name)?;
        let duration = field.duration(report)?;
        if !duration.is_zero() && duration < Duration::from_secs(1) {
            field.error("the kernel counts in whole seconds; write at least \"1s\"", report);
            return None;
        }
        (!duration.is_zero()).then_some(duration)
    };
    let time = seconds("time", report);
    let interval = seconds("interval", report);
    let probes = count(&mut object, "probes", report);
    object.finish(report);
    Some(TcpKeepalive { probes, time, interval })
}

fn read_http(http: &mut Object<'_>, pool: &mut ConnectionPool, report: &mut Report) {
    pool.http1_max_pending_requests = count(http, "http1MaxPendingRequests", report);
    pool.max_requests_per_connection = count(http, "maxRequestsPerConnection", report);
    pool.max_requests = count(http, "http2MaxRequests", report);
    pool.max_retries = count(http, "maxRetries", report);
    pool.http_idle_timeout = http.optional("idleTimeout").and_then(|field| field.whole_milliseconds(report));
    pool.h2_upgrade =
        http.optional("h2UpgradePolicy").and_then(|field| field.choice(UPGRADE_POLICIES, report)).flatten();
    pool.use_client_protocol =
        http.optional("useClientProtocol").and_then(|field| field.boolean(report)).unwrap_or_default();
    pool.max_concurrent_streams = count(http, "maxConcurrentStreams", report);
    pool.http2_keepalive = http.optional("http2KeepAlive").and_then(|field| read_http2_keepalive(&field, report));
}

/// Without an interval there is none; Envoy's timeout stands in for a missing one.
fn read_http2_keepalive(field: &Field<'_>, report: &mut Report) -> Option<Http2Keepalive> {
    const TIMEOUT: Duration = Duration::from_secs(20);
    let mut object = field.object(report)?;
    let mut time = |name, report: &mut Report| {
        let time = object.optional(name).and_then(|field| field.at_least_a_millisecond(report));
        time.filter(|time| !time.is_zero())
    };
    let (interval, timeout) = (time("interval", report), time("timeout", report));
    object.finish(report);
    Some(Http2Keepalive { interval: interval?, timeout: timeout.unwrap_or(TIMEOUT) })
}

/// A protobuf int32 that counts something: not negative, zero is "not set".
fn count(object: &mut Object<'_>, name: &'static str, report: &mut Report) -> Option<u32> {
    let number = object.optional(name)?.whole(&(0..=i64::from(i32::MAX)), report)?;
    u32::try_from(number).ok().filter(|number| *number != 0)
}
