//! From what happened to the one line that is logged about it.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use crate::flow::{Hostname, ResponseFlags};
use crate::io;
use crate::observe::{AccessRecord, GrpcCall, HttpExchange};
use crate::proxy::context::Context;
use crate::proxy::downstream::Answered;
use crate::proxy::failure::Failure;
use crate::proxy::peers::Peers;
use crate::proxy::progress::Progress;
use crate::proxy::request::{Protocol, Request};
use crate::proxy::request_id::RequestId;

/// What the log says of a connection whose bytes were not read.
#[derive(Debug)]
pub struct ConnectionRecord {
    pub peers: Peers,
    pub flags: ResponseFlags,
    pub termination: Option<String>,
    pub transport_failure: Option<String>,
    /// From the application, in bytes.
    pub received: u64,
    /// To the application, in bytes.
    pub sent: u64,
    pub cluster: Option<String>,
    pub upstream: Option<SocketAddr>,
    pub upstream_local: Option<SocketAddr>,
    pub sni: Option<Hostname>,
    /// Its beginning has been counted.
    pub counted: bool,
}

impl ConnectionRecord {
    #[must_use]
    pub fn new(peers: Peers) -> Self {
        Self {
            peers,
            flags: ResponseFlags::default(),
            termination: None,
            transport_failure: None,
            received: 0,
            sent: 0,
            cluster: None,
            upstream: None,
            upstream_local: None,
            sni: None,
            counted: false,
        }
    }

    /// Writes the connection's line.
    pub fn log(&self, context: &Rc<Context>) {
        if !self.counted {
            context.counters.count_opened(self.cluster.as_deref());
        }
        let format = context.policy.load().settings().access_log;
        let record = AccessRecord {
            response_flags: self.flags,
            connection_termination_details: self.termination.as_deref(),
            upstream_transport_failure_reason: self.transport_failure.as_deref(),
            bytes_received: self.received,
            bytes_sent: self.sent,
            upstream_host: self.upstream,
            upstream_cluster: self.cluster.as_deref(),
            upstream_local_address: self.upstream_local,
            requested_server_name: self.sni.as_ref().map(Hostname::as_str),
            ..blank(self.peers, self.peers.since, self.peers.at)
        };
        context.counters.count_record(&record);
        context.access_log.write(&record, format);
    }
}

/// What the log says of one request.
///
/// It borrows names from the policy table: nothing is allocated for a request that goes well.
#[derive(Debug)]
pub struct RequestRecord<'t> {
    peers: Peers,
    pub status: u16,
    pub upstream: Option<SocketAddr>,
    pub upstream_local: Option<SocketAddr>,
    flags: ResponseFlags,
    details: Option<String>,
    transport_failure: Option<String>,
    route: Option<&'t str>,
    cluster: Option<&'t str>,
    bytes_received: u64,
    bytes_sent: u64,
    service_time: Option<Duration>,
    call: Option<GrpcCall>,
    /// What the request is called, where it came without a name.
    pub id: Option<RequestId>,
    /// Whom the route asks for instead.
    pub authority: Option<&'t str>,
    /// What is known of a request that was refused as it was read.
    pub unread: Unread<'t>,
}

/// Of a request that could not be read to its end.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unread<'t> {
    pub protocol: Option<Protocol>,
    /// Method and path, of one whose first line was sound.
    pub line: Option<(&'t [u8], &'t [u8])>,
}

impl<'t> RequestRecord<'t> {
    #[must_use]
    pub fn new(peers: Peers) -> Self {
        Self {
            peers,
            status: 0,
            upstream: None,
            upstream_local: None,
            flags: ResponseFlags::default(),
            details: None,
            transport_failure: None,
            route: None,
            cluster: None,
            bytes_received: 0,
            bytes_sent: 0,
            service_time: None,
            call: None,
            id: None,
            authority: None,
            unread: Unread::default(),
        }
    }

    /// Where it goes, and the route that sends it there.
    pub fn route(&mut self, name: Option<&'t str>, cluster: Option<&'t str>) {
        self.route = name;
        self.cluster = cluster;
    }

    /// The route's name and the cluster's.
    #[must_use]
    pub fn way(&self) -> (Option<&'t str>, Option<&'t str>) {
        (self.route, self.cluster)
    }

    pub fn add_flags(&mut self, flags: ResponseFlags) {
        self.flags |= flags;
    }

    /// Notes why the request got no complete response of its upstream.
    pub fn fail(&mut self, failure: &Failure) {
        self.status = failure.status;
        self.flags |= failure.flags;
        self.details = Some(failure.details.clone());
        self.transport_failure.clone_from(&failure.transport);
        self.bytes_sent = failure.body.len() as u64;
    }

    /// Notes why a tunnel ended that was open.
    pub fn end_tunnel(&mut self, details: &str) {
        self.details = Some(details.to_owned());
    }

    /// Notes what its answer became on the wire: a gRPC client is told in a response of status 200, and nobody gets a body who
    /// asked for a head.
    pub fn note_answer(&mut self, answered: Answered, wants_body: bool) {
        if !wants_body {
            self.bytes_sent = 0;
        }
        if let Answered::Grpc(status) = answered {
            self.status = 200;
            self.bytes_sent = 0;
            self.call = Some(GrpcCall { status: Some(status), ..self.call.unwrap_or_default() });
        }
    }

    /// Notes what the transfer counted. `complete` is when the whole request was here, where that is known.
    pub fn take_progress(&mut self, progress: &Progress, complete: Option<Instant>) {
        self.bytes_received = progress.from_client.get();
        let told = self.call.and_then(|call| call.status);
        self.call = progress.call.record().map(|call| GrpcCall { status: told.or(call.status), ..call });
        if progress.answering.get() {
            self.status = progress.status.get();
            self.bytes_sent = progress.to_client.get();
        }
        self.service_time = progress.service_time(complete);
    }

    fn http<'r>(&'r self, request: Option<&'r Request>) -> HttpExchange<'r> {
        let Some(Request { raw, head, protocol, .. }) = request else {
            let Unread { protocol, line } = self.unread;
            let (method, path) = line.unzip();
            return HttpExchange { method, path, protocol: protocol.map(Protocol::as_str), ..HttpExchange::default() };
        };
        let authority = head.authority_text.map(|at| at.of(raw));
        HttpExchange {
            method: Some(head.method_text.of(raw)),
            path: head.path(raw).or(Some(head.target.of(raw))),
            protocol: Some(protocol.as_str()),
            upstream_service_time: self.service_time,
            forwarded_for: head.forwarded_for.map(|at| at.of(raw)),
            user_agent: head.user_agent.map(|at| at.of(raw)),
            request_id: head.request_id.map(|at| at.of(raw)).or(self.id.as_ref().map(RequestId::as_bytes)),
            authority: self.authority.map(str::as_bytes).or(authority),
            call: self.call,
        }
    }

    /// Writes the request's line; `None` when no request could be read.
    pub fn log(&self, context: &Rc<Context>, request: Option<&Request>) {
        let format = context.policy.load().settings().access_log;
        let since = request.map_or(self.peers.since, |request| request.since);
        let started = request.map_or(self.peers.at, |request| request.at);
        let record = AccessRecord {
            http: Some(self.http(request)),
            response_code: self.status,
            response_flags: self.flags,
            response_code_details: Some(self.details.as_deref().unwrap_or("via_upstream")),
            upstream_transport_failure_reason: self.transport_failure.as_deref(),
            bytes_received: self.bytes_received,
            bytes_sent: self.bytes_sent,
            upstream_host: self.upstream,
            upstream_cluster: self.cluster,
            upstream_local_address: self.upstream_local,
            route_name: self.route,
            ..blank(self.peers, since, started)
        };
        context.counters.count_record(&record);
        context.access_log.write(&record, format);
    }
}

fn blank<'a>(peers: Peers, since: SystemTime, started: Instant) -> AccessRecord<'a> {
    AccessRecord {
        duration: io::now().saturating_duration_since(started),
        downstream_local_address: Some(peers.destination),
        downstream_remote_address: Some(peers.client),
        ..AccessRecord::blank(since)
    }
}
