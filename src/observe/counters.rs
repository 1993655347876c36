//! Counts of one worker, written by its thread alone and read by whoever asks for metrics.
//!
//! Adding a counter is one line in the list below.

use std::sync::Arc;

use super::counter::Counter;
use super::http2_connections::Http2Connections;
use super::traffic::TrafficSeries;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CounterKind {
    Counter,
    Gauge,
}

impl CounterKind {
    /// As a TYPE line says it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
        }
    }
}

/// How a counter is called outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CounterFamily {
    pub kind: CounterKind,
    pub metric: &'static str,
    pub help: &'static str,
    /// The one label that tells counters of the same metric apart.
    pub label: Option<(&'static str, &'static str)>,
}

macro_rules! counters {
    ($(#[doc = $help:literal] $name:ident: $kind:ident $metric:literal $(, $label:ident = $value:literal)?;)*) => {
        /// The counters of one worker. Aligned so that no two workers write to the same cache line (pairs of 64 bytes
        /// are fetched together).
        #[derive(Debug, Default)]
        #[repr(align(128))]
        pub struct WorkerCounters {
            $(#[doc = $help] pub $name: Counter,)*
            /// By destination and outcome.
            pub traffic: TrafficSeries,
            /// Connections with streams.
            pub http2: Arc<Http2Connections>,
        }

        impl WorkerCounters {
            /// Gives each counter with its names to `each`, those of one metric one after the other.
            pub fn for_each(&self, mut each: impl FnMut(CounterFamily, u64)) {
                $(each(
                    CounterFamily {
                        kind: CounterKind::$kind,
                        metric: $metric,
                        help: $help.trim_ascii(),
                        label: None$(.or(Some((stringify!($label), $value))))?,
                    },
                    self.$name.get(),
                );)*
            }
        }
    };
}

// One line of documentation each: it is the HELP text of the metric, the first of a metric's for all of them.
counters! {
    /// Redirected connections that were accepted.
    connections_accepted: Counter "egret_connections_accepted_total";
    /// Redirected connections that are open now.
    connections_active: Gauge "egret_connections_active";
    /// Redirected connections that have ended.
    connections_closed: Counter "egret_connections_closed_total";
    /// Connections closed by egret before any byte was passed on, by reason.
    refused_loop: Counter "egret_connections_refused_total", reason = "loop";
    /// The kernel did not tell the original destination.
    refused_no_original_dst: Counter "egret_connections_refused_total", reason = "no_original_dst";
    /// The policy forbids the destination.
    refused_policy: Counter "egret_connections_refused_total", reason = "policy";
    /// TLS was wanted and cannot be given.
    refused_transport: Counter "egret_connections_refused_total", reason = "transport";
    /// The original destination is loopback or no unicast address.
    refused_address: Counter "egret_connections_refused_total", reason = "address";
    /// The application speaks a protocol that cannot be carried there.
    refused_protocol: Counter "egret_connections_refused_total", reason = "protocol";
    /// Requests and connections whose name led to no address that may be dialled.
    names_unfound: Counter "egret_names_unfound_total";
    /// Requests and connections that an AuthorizationPolicy with action AUDIT is about.
    audited: Counter "egret_authorization_audited_total";
    /// What the first bytes of connections showed, by protocol.
    detected_http1: Counter "egret_connections_detected_total", protocol = "http1";
    /// HTTP/2 with prior knowledge.
    detected_http2: Counter "egret_connections_detected_total", protocol = "http2";
    /// TLS by the application itself.
    detected_tls: Counter "egret_connections_detected_total", protocol = "tls";
    /// None of these, or the server spoke first.
    detected_opaque: Counter "egret_connections_detected_total", protocol = "opaque";
    /// HTTP requests by class of the response's status.
    requests_1xx: Counter "egret_requests_total", class = "1xx";
    /// Success.
    requests_2xx: Counter "egret_requests_total", class = "2xx";
    /// Redirection.
    requests_3xx: Counter "egret_requests_total", class = "3xx";
    /// Client error.
    requests_4xx: Counter "egret_requests_total", class = "4xx";
    /// Server error.
    requests_5xx: Counter "egret_requests_total", class = "5xx";
    /// No response was begun, or one with another status.
    requests_other: Counter "egret_requests_total", class = "none";
    /// Requests refused because they were not one unambiguous HTTP/1 request.
    requests_malformed: Counter "egret_requests_malformed_total";
    /// Requests sent a second time on a new connection.
    requests_retried: Counter "egret_requests_retried_total";
    /// Requests that took too long, by what did: the request's head.
    timeouts_head: Counter "egret_request_timeouts_total", reason = "head";
    /// The application stopped in the middle of the request's body.
    timeouts_body: Counter "egret_request_timeouts_total", reason = "body";
    /// Nothing moved in either direction.
    timeouts_idle: Counter "egret_request_timeouts_total", reason = "idle";
    /// The response was not complete in time.
    timeouts_response: Counter "egret_request_timeouts_total", reason = "response";
    /// Copies of requests for the mirrors of their routes, by what became of them: answered.
    mirrors_sent: Counter "egret_requests_mirrored_total", result = "answered";
    /// Not sent, or not answered: a large body, no connection, no time.
    mirrors_dropped: Counter "egret_requests_mirrored_total", result = "dropped";
    /// Redirected connections closed because their time was over, by why: no request came for the idle timeout.
    expired_rest: Counter "egret_connections_timed_out_total", reason = "no_request";
    /// No byte came where the first ones had to be known.
    expired_silence: Counter "egret_connections_timed_out_total", reason = "silence";
    /// Nothing moved in either direction of carried bytes.
    expired_idle: Counter "egret_connections_timed_out_total", reason = "idle";
    /// They were open for maxConnectionDuration.
    expired_duration: Counter "egret_connections_timed_out_total", reason = "duration";
    /// Requests and connections refused because connectionPool allows no more.
    upstream_overflow: Counter "egret_upstream_overflow_total";
    /// Upstream connections made.
    upstream_connects: Counter "egret_upstream_connects_total";
    /// Upstream connections that could not be made.
    upstream_connect_failures: Counter "egret_upstream_connect_failures_total";
    /// Requests that found a warm upstream connection.
    upstream_reused: Counter "egret_upstream_reused_total";
    /// Upstream connections kept for one connection of an application: NTLM, Negotiate or Kerberos authenticates them.
    upstream_reserved: Counter "egret_upstream_reserved_total";
    /// TLS handshakes completed with upstreams.
    tls_handshakes: Counter "egret_upstream_tls_handshakes_total";
    /// Of these, resumptions of an earlier session.
    tls_resumptions: Counter "egret_upstream_tls_resumptions_total";
    /// TLS handshakes with upstreams that failed, by reason.
    tls_failures_verification: Counter "egret_upstream_tls_failures_total", reason = "verification";
    /// There is no protocol that both ends want to speak over it (ALPN).
    tls_failures_protocol: Counter "egret_upstream_tls_failures_total", reason = "protocol";
    /// Anything but the verification of the certificate and the protocol.
    tls_failures_other: Counter "egret_upstream_tls_failures_total", reason = "other";
    /// Alerts and broken records after the handshake: a client certificate refused in TLS 1.3, for one.
    tls_failures_established: Counter "egret_upstream_tls_failures_total", reason = "established";
    /// Certificates of servers that were refused, by reason: expired or not yet valid.
    unverified_validity: Counter "egret_upstream_verification_failures_total", reason = "validity";
    /// No trusted authority issued it.
    unverified_issuer: Counter "egret_upstream_verification_failures_total", reason = "issuer";
    /// None of its names is the one that was wanted.
    unverified_name: Counter "egret_upstream_verification_failures_total", reason = "name";
    /// A revocation list holds it.
    unverified_revoked: Counter "egret_upstream_verification_failures_total", reason = "revoked";
    /// No usable revocation list speaks for it.
    unverified_crl: Counter "egret_upstream_verification_failures_total", reason = "crl";
    /// Anything else.
    unverified_other: Counter "egret_upstream_verification_failures_total", reason = "other";
    /// Upstream TLS connections that ended without close_notify before all data was there.
    tls_truncated: Counter "egret_upstream_tls_truncated_total";
    /// Bytes received from applications.
    client_received_bytes: Counter "egret_client_received_bytes_total";
    /// Bytes sent to applications.
    client_sent_bytes: Counter "egret_client_sent_bytes_total";
    /// Access-log lines dropped because the log is not written fast enough.
    log_lines_dropped: Counter "egret_access_log_lines_dropped_total";
    /// Tasks that panicked; each closed its own connection only.
    task_panics: Counter "egret_task_panics_total";
    /// Times that workers entered the kernel to submit and to wait.
    ring_enters: Counter "egret_ring_enters_total";
    /// Operations handed to the kernel.
    ring_submissions: Counter "egret_ring_submissions_total";
    /// Turns in which the completion queue had overflown.
    ring_overflows: Counter "egret_ring_overflows_total";
    /// Operations that are in the kernel.
    ring_operations: Gauge "egret_ring_operations";
    /// Receive buffers that are in use.
    receive_buffers: Gauge "egret_receive_buffers_in_use";
    /// Receives that found no free buffer and were started again later.
    receive_shortages: Counter "egret_receive_buffer_shortages_total";
    /// Times that accepting paused: too few descriptors, or as many connections as allowed.
    accept_pauses: Counter "egret_accept_pauses_total";
    /// Sockets that are open, of applications and of upstreams.
    open_sockets: Gauge "egret_open_sockets";
}

impl WorkerCounters {
    /// The counter for a request that was answered with `status` (0: not at all).
    #[must_use]
    pub fn requests(&self, status: u16) -> &Counter {
        match status {
            100..200 => &self.requests_1xx,
            200..300 => &self.requests_2xx,
            300..400 => &self.requests_3xx,
            400..500 => &self.requests_4xx,
            500..600 => &self.requests_5xx,
            _ => &self.requests_other,
        }
    }
}
