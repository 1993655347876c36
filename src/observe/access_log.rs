//! One line per HTTP request and per other connection, in Istio's default formats.
//!
//! Text: `EnvoyTextLogFormat`, JSON: `EnvoyJSONLogFormatIstio` of Istio's `pilot/pkg/model/telemetry_logging.go`, and the
//! status of gRPC. What
//! is not known is `-` or `null`. Query strings are kept, as Istio keeps them; every value that a peer chose is escaped
//! and bounded. Writing allocates nothing but room in `out`.

use std::fmt::Display;
use std::io::Write;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use super::escape::{write_json, write_text, write_word};
use crate::flow::{ClientAddr, OriginalDst, ResponseFlags};
use crate::grpc;
use crate::http::CivilTime;

/// Everything that a line tells. The doc of a field names Envoy's command operator.
#[derive(Clone, Debug)]
pub struct AccessRecord<'a> {
    /// START_TIME
    pub start_time: SystemTime,
    /// `None` for connections that are not HTTP.
    pub http: Option<HttpExchange<'a>>,
    /// RESPONSE_CODE; 0 when no response was begun.
    pub response_code: u16,
    /// RESPONSE_FLAGS
    pub response_flags: ResponseFlags,
    /// RESPONSE_CODE_DETAILS
    pub response_code_details: Option<&'a str>,
    /// CONNECTION_TERMINATION_DETAILS
    pub connection_termination_details: Option<&'a str>,
    /// UPSTREAM_TRANSPORT_FAILURE_REASON
    pub upstream_transport_failure_reason: Option<&'a str>,
    /// BYTES_RECEIVED: body bytes from the application.
    pub bytes_received: u64,
    /// BYTES_SENT: body bytes to the application.
    pub bytes_sent: u64,
    /// DURATION
    pub duration: Duration,
    /// UPSTREAM_HOST
    pub upstream_host: Option<SocketAddr>,
    /// UPSTREAM_CLUSTER_RAW
    pub upstream_cluster: Option<&'a str>,
    /// UPSTREAM_LOCAL_ADDRESS: egret's own end of the upstream connection.
    pub upstream_local_address: Option<SocketAddr>,
    /// DOWNSTREAM_LOCAL_ADDRESS: the original destination.
    pub downstream_local_address: Option<OriginalDst>,
    /// DOWNSTREAM_REMOTE_ADDRESS: the application.
    pub downstream_remote_address: Option<ClientAddr>,
    /// REQUESTED_SERVER_NAME: the SNI that the application sent.
    pub requested_server_name: Option<&'a str>,
    /// ROUTE_NAME
    pub route_name: Option<&'a str>,
}

/// What only HTTP has. The bytes are as they were sent.
#[derive(Clone, Copy, Debug, Default)]
pub struct HttpExchange<'a> {
    /// REQ(:METHOD)
    pub method: Option<&'a [u8]>,
    /// REQ(:PATH), with the query
    pub path: Option<&'a [u8]>,
    /// PROTOCOL
    pub protocol: Option<&'static str>,
    /// RESP(X-ENVOY-UPSTREAM-SERVICE-TIME): from the request's last byte to the response's first.
    pub upstream_service_time: Option<Duration>,
    /// REQ(X-FORWARDED-FOR)
    pub forwarded_for: Option<&'a [u8]>,
    /// REQ(USER-AGENT)
    pub user_agent: Option<&'a [u8]>,
    /// REQ(X-REQUEST-ID)
    pub request_id: Option<&'a [u8]>,
    /// REQ(:AUTHORITY)
    pub authority: Option<&'a [u8]>,
    /// What a gRPC call is beside a request; `None` for other requests.
    pub call: Option<GrpcCall>,
}

/// What only gRPC has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GrpcCall {
    /// GRPC_STATUS; `None` when the call ended without one.
    pub status: Option<grpc::Status>,
    /// Messages from the application, and to it.
    pub request_messages: u64,
    pub response_messages: u64,
}

impl AccessRecord<'_> {
    /// The record of something that began at `start_time` and of which nothing else is known.
    #[must_use]
    pub fn blank(start_time: SystemTime) -> Self {
        Self {
            start_time,
            http: None,
            response_code: 0,
            response_flags: ResponseFlags::default(),
            response_code_details: None,
            connection_termination_details: None,
            upstream_transport_failure_reason: None,
            bytes_received: 0,
            bytes_sent: 0,
            duration: Duration::ZERO,
            upstream_host: None,
            upstream_cluster: None,
            upstream_local_address: None,
            downstream_local_address: None,
            downstream_remote_address: None,
            requested_server_name: None,
            route_name: None,
        }
    }

    /// Appends the line in Istio's text format, with its line end.
    pub fn write_text(&self, out: &mut Vec<u8>) {
        let http = self.http.unwrap_or_default();
        out.push(b'[');
        CivilTime::new(self.start_time).write_iso(out);
        out.extend_from_slice(b"] \"");
        word(out, http.method);
        out.push(b' ');
        word(out, http.path);
        out.push(b' ');
        word(out, http.protocol);
        out.extend_from_slice(b"\" ");
        number(out, self.response_code.into());
        out.push(b' ');
        flags(out, self.response_flags);
        out.push(b' ');
        word(out, self.response_code_details);
        out.push(b' ');
        word(out, self.connection_termination_details);
        out.push(b' ');
        quoted(out, self.upstream_transport_failure_reason);
        for value in [self.bytes_received, self.bytes_sent, milliseconds(self.duration)] {
            out.push(b' ');
            number(out, value);
        }
        out.push(b' ');
        match http.upstream_service_time {
            Some(time) => number(out, milliseconds(time)),
            None => out.push(b'-'),
        }
        for value in [http.forwarded_for, http.user_agent, http.request_id, http.authority] {
            out.push(b' ');
            quoted(out, value);
        }
        out.extend_from_slice(b" \"");
        address(out, self.upstream_host);
        out.extend_from_slice(b"\" ");
        word(out, self.upstream_cluster);
        out.push(b' ');
        address(out, self.upstream_local_address);
        out.push(b' ');
        address(out, self.downstream_local_address.map(OriginalDst::addr));
        out.push(b' ');
        address(out, self.downstream_remote_address.map(ClientAddr::addr));
        out.push(b' ');
        word(out, self.requested_server_name);
        out.push(b' ');
        word(out, self.route_name);
        out.push(b'\n');
    }

    /// Appends the line as a JSON object with Istio's keys, with its line end.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        let http = self.http.unwrap_or_default();
        out.extend_from_slice(b"{\"start_time\":\"");
        CivilTime::new(self.start_time).write_iso(out);
        out.push(b'"');
        json_string(out, "route_name", self.route_name);
        json_string(out, "method", http.method);
        json_string(out, "path", http.path);
        json_string(out, "protocol", http.protocol);
        show(out, format_args!(",\"response_code\":{}", self.response_code));
        show(out, format_args!(",\"response_flags\":\"{}\"", self.response_flags));
        json_string(out, "response_code_details", self.response_code_details);
        json_string(out, "connection_termination_details", self.connection_termination_details);
        show(out, format_args!(",\"bytes_received\":{}", self.bytes_received));
        show(out, format_args!(",\"bytes_sent\":{}", self.bytes_sent));
        show(out, format_args!(",\"duration\":{}", self.duration.as_millis()));
        // A header's value in Envoy, hence a string.
        json_shown(out, "upstream_service_time", http.upstream_service_time.map(|time| time.as_millis()));
        json_string(out, "x_forwarded_for", http.forwarded_for);
        json_string(out, "user_agent", http.user_agent);
        json_string(out, "request_id", http.request_id);
        json_string(out, "authority", http.authority);
        json_shown(out, "upstream_host", self.upstream_host);
        json_string(out, "upstream_cluster", self.upstream_cluster);
        json_shown(out, "upstream_local_address", self.upstream_local_address);
        json_shown(out, "downstream_local_address", self.downstream_local_address);
        json_shown(out, "downstream_remote_address", self.downstream_remote_address);
        json_string(out, "requested_server_name", self.requested_server_name);
        json_string(out, "upstream_transport_failure_reason", self.upstream_transport_failure_reason);
        json_shown(out, "grpc_status", http.call.and_then(|call| call.status));
        out.extend_from_slice(b"}\n");
    }
}

fn show(out: &mut Vec<u8>, value: impl Display) {
    write!(out, "{value}").expect("writing to a Vec does not fail");
}

/// Without the formatting machinery, which is most of a line's cost.
fn number(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn flags(out: &mut Vec<u8>, flags: ResponseFlags) {
    if flags.is_empty() { out.push(b'-') } else { show(out, flags) }
}

fn address(out: &mut Vec<u8>, value: Option<SocketAddr>) {
    match value {
        Some(SocketAddr::V4(address)) => {
            let (mut text, mut length) = ([0; "255.255.255.255:".len()], 0);
            let mut push = |byte| {
                text[length] = byte;
                length += 1;
            };
            for octet in address.ip().octets() {
                if octet >= 100 {
                    push(b'0' + octet / 100);
                }
                if octet >= 10 {
                    push(b'0' + octet / 10 % 10);
                }
                push(b'0' + octet % 10);
                push(b'.');
            }
            text[length - 1] = b':';
            out.extend_from_slice(&text[..length]);
            number(out, address.port().into());
        }
        Some(address) => show(out, address),
        None => out.push(b'-'),
    }
}

/// A value that stands without quotes of its own. An empty one would shift the fields after it.
fn word(out: &mut Vec<u8>, value: Option<impl AsRef<[u8]>>) {
    match value {
        Some(value) if !value.as_ref().is_empty() => write_word(out, value.as_ref()),
        _ => out.push(b'-'),
    }
}

fn quoted(out: &mut Vec<u8>, value: Option<impl AsRef<[u8]>>) {
    out.push(b'"');
    match value {
        Some(value) => write_text(out, value.as_ref()),
        None => out.push(b'-'),
    }
    out.push(b'"');
}

fn json_string(out: &mut Vec<u8>, key: &str, value: Option<impl AsRef<[u8]>>) {
    show(out, format_args!(",\"{key}\":"));
    match value {
        Some(value) => write_json(out, value.as_ref()),
        None => out.extend_from_slice(b"null"),
    }
}

/// For values that need no escaping.
fn json_shown(out: &mut Vec<u8>, key: &str, value: Option<impl Display>) {
    match value {
        Some(value) => show(out, format_args!(",\"{key}\":\"{value}\"")),
        None => show(out, format_args!(",\"{key}\":null")),
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn opaque() -> AccessRecord<'static> {
        AccessRecord {
            response_flags: ResponseFlags::NO_HEALTHY_UPSTREAM,
            upstream_cluster: Some("BlackHoleCluster"),
            downstream_local_address: Some(OriginalDst::new("1.2.3.4:443".parse().unwrap())),
            downstream_remote_address: Some(ClientAddr::new("10.0.0.7:51230".parse().unwrap())),
            ..AccessRecord::blank(UNIX_EPOCH + Duration::from_millis(1_795_396_324_007))
        }
    }

    fn request() -> AccessRecord<'static> {
        AccessRecord {
            http: Some(HttpExchange {
                method: Some(b"GET"),
                path: Some(b"/a b\"?c"),
                protocol: Some("HTTP/1.1"),
                upstream_service_time: Some(Duration::from_micros(12_900)),
                forwarded_for: None,
                user_agent: Some(b"curl/8\r\n"),
                request_id: Some(b""),
                authority: Some(b"my-nginx"),
                call: Some(GrpcCall { status: Some(grpc::Status::NotFound), ..GrpcCall::default() }),
            }),
            response_code: 200,
            response_flags: ResponseFlags::default(),
            response_code_details: Some("via_upstream"),
            bytes_sent: 615,
            duration: Duration::from_millis(12),
            upstream_transport_failure_reason: Some("TLS error: x"),
            connection_termination_details: Some("two words"),
            upstream_host: Some("[2001:db8::1]:443".parse().unwrap()),
            upstream_cluster: Some("outbound|80||my-nginx"),
            upstream_local_address: Some("10.0.0.7:44552".parse().unwrap()),
            requested_server_name: Some("my-nginx"),
            route_name: Some("default"),
            ..opaque()
        }
    }

    fn text(record: &AccessRecord<'_>) -> String {
        let mut out = Vec::new();
        record.write_text(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn text_lines_are_istios() {
        let expected = "[2026-11-23T01:12:04.007Z] \"- - -\" 0 UH - - \"-\" 0 0 0 - \"-\" \"-\" \"-\" \"-\" \"-\" \
            BlackHoleCluster - 1.2.3.4:443 10.0.0.7:51230 - -\n";
        assert_eq!(text(&opaque()), expected);
        let expected = "[2026-11-23T01:12:04.007Z] \"GET /a_b\\x22?c HTTP/1.1\" 200 - via_upstream two_words \
            \"TLS error: x\" 0 615 12 12 \"-\" \"curl/8\\x0D\\x0A\" \"\" \"my-nginx\" \"[2001:db8::1]:443\" \
            outbound|80||my-nginx 10.0.0.7:44552 1.2.3.4:443 10.0.0.7:51230 my-nginx default\n";
        assert_eq!(text(&request()), expected);
    }

    #[test]
    fn json_lines_have_istios_keys() {
        for record in [opaque(), request()] {
            let mut out = Vec::new();
            record.write_json(&mut out);
            assert_eq!(out.pop(), Some(b'\n'));
            assert!(!out.contains(&b'\n'));
            let line: serde_json::Value = serde_json::from_slice(&out).unwrap();
            assert_eq!(line.as_object().unwrap().len(), 25);
            assert_eq!(line["response_code"], record.response_code);
            assert_eq!(line["bytes_sent"], record.bytes_sent);
            assert_eq!(line["downstream_local_address"], "1.2.3.4:443");
            if record.http.is_none() {
                assert_eq!(line["response_flags"], "UH");
                assert!(line["method"].is_null() && line["upstream_host"].is_null());
            } else {
                assert_eq!(line["user_agent"], "curl/8\r\n");
                assert_eq!(line["upstream_service_time"], "12");
                assert_eq!(line["upstream_host"], "[2001:db8::1]:443");
                assert_eq!(line["grpc_status"], "NOT_FOUND");
            }
        }
    }
}
