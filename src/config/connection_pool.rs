//! `connectionPool` of a traffic policy. Zero means "not set", as protobuf has it, except where zero disables a timeout.

use std::time::Duration;

use super::reader::{Field, Object, Report, Shape};
use super::resources::{ConnectionPool, TcpKeepalive};

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
    pool.tcp_idle_timeout = tcp.optional("idleTimeout").and_then(|field| field.duration(report));
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
    pool.http_idle_timeout = http.optional("idleTimeout").and_then(|field| field.duration(report));
    http.unsupported("h2UpgradePolicy", Shape::Word, report);
    http.unsupported("useClientProtocol", Shape::Boolean, report);
    http.unsupported("maxConcurrentStreams", Shape::Whole, report);
    http.unsupported("http2KeepAlive", Shape::Object(&["interval", "timeout"]), report);
}

/// A protobuf int32 that counts something: not negative, zero is "not set".
fn count(object: &mut Object<'_>, name: &'static str, report: &mut Report) -> Option<u32> {
    let number = object.optional(name)?.whole(&(0..=i64::from(i32::MAX)), report)?;
    u32::try_from(number).ok().filter(|number| *number != 0)
}
