//! What the policy's routes make of one request: where it goes, what changes on the way, how long and how often it is tried.
//!
//! Nothing is sent here; `exchange` does what is planned.

use std::cell::Cell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::{RETRY_ON, RetryOn};
use crate::flow::{Authority, Host, ResponseFlags};
use crate::grpc;
use crate::http::{FieldEdits, RequestEdits};
use crate::io;
use crate::policy::{
    Answer, Cluster, Decision, Destination, Formats, HttpRoute, LogFields, RequestView, Route, Transport, Verdict,
};
use crate::proxy::affinity::Affinity;
use crate::proxy::call;
use crate::proxy::failure::Failure;
use crate::proxy::formats::{self, Way};
use crate::proxy::peers::Peers;
use crate::proxy::request::Request;
use crate::upstream::{self, Counted, Retry, Target};

/// Envoy's back-off between tries: this long, twice as long after each, at most ten times as long.
const BACKOFF: Duration = Duration::from_millis(25);

/// Istio's retries where a route says nothing of them: so many, and only where no connection was had.
const DEFAULT_ATTEMPTS: u32 = 2;

/// Gives `look` what policy may ask of a request.
pub fn viewed<T>(host: &Host, request: &Request, look: impl FnOnce(&RequestView<'_>) -> T) -> T {
    let (head, raw) = (&request.head, &request.raw[..]);
    look(&RequestView {
        host,
        authority: head.authority_text.map(|at| at.of(raw)).unwrap_or_default(),
        method: head.method_text.of(raw),
        target: head.path(raw).unwrap_or(b"/"),
        any_value: &|name, is_wanted| head.any_value(raw, name, is_wanted),
    })
}

/// Where a request goes, and how.
pub struct Plan<'t> {
    pub target: Target<'t>,
    route: Option<(&'t HttpRoute, &'t Destination)>,
    path: Option<Vec<u8>>,
    /// The route's changes of the response, and a cookie.
    with_cookie: Option<Box<FieldEdits>>,
}

impl<'t> Plan<'t> {
    /// What `verdict` says of the request.
    ///
    /// # Errors
    /// The answer that the policy or its route gives itself.
    pub fn of(verdict: &Verdict<'t>, peers: Peers, request: &Request) -> Result<Self, Failure> {
        let target = match &verdict.decision {
            Decision::Forward(cluster) => return Ok(Self::to(cluster, verdict.route, peers, request)),
            Decision::Passthrough => Target::Passthrough(peers.destination),
            Decision::ByName => Target::ByName { original: peers.destination, found: &[] },
            Decision::Answer(route, answer) => {
                let target = request.head.path(&request.raw).unwrap_or(b"/");
                let rewritten = match &verdict.route {
                    Some(Route::Http(taken)) => taken.rewritten(target),
                    Some(Route::Bytes(_)) | None => None,
                };
                let target = rewritten.as_deref().unwrap_or(target);
                return Err(answered(route, answer, &verdict.log_fields(), (request, peers), target));
            }
            Decision::Refuse(refusal) => return Err(Failure::by_policy(refusal)),
        };
        Ok(Self { target, route: None, path: None, with_cookie: None })
    }

    fn to(cluster: &'t Arc<Cluster>, route: Option<Route<'t>>, peers: Peers, request: &Request) -> Self {
        let Peers { client, destination: original, .. } = peers;
        let taken = if let Some(Route::Http(taken)) = route { Some(taken) } else { None };
        let route = taken.and_then(|taken| Some((taken.route, taken.destination?)));
        let path = taken.and_then(|taken| taken.rewritten(request.head.path(&request.raw).unwrap_or(b"/")));
        let Affinity { hash, cookie } = Affinity::of_request(cluster, request, client, original);
        let with_cookie = cookie.map(|cookie| {
            let mut edits = route.map(|(_, to)| to.response.clone()).unwrap_or_default();
            edits.add.push(("set-cookie".to_owned(), cookie));
            Box::new(edits)
        });
        let target = Target::Cluster { cluster, original, client, hash, found: &[] };
        Self { target, route, path, with_cookie }
    }

    /// What changes of the request on its way to `address`.
    #[must_use]
    pub fn request_edits(&self, address: SocketAddr) -> RequestEdits<'_> {
        let keeps_form = self.follows(address);
        let Some((_, to)) = self.route else { return RequestEdits { keeps_form, ..RequestEdits::default() } };
        RequestEdits {
            path: self.path.as_deref(),
            authority: to.authority.as_deref(),
            fields: Some(&to.request),
            keeps_form,
            router: None,
        }
    }

    /// Whether the request goes where the application connected, and in plain text: whoever reads it there was meant to
    /// read it as it was written.
    fn follows(&self, address: SocketAddr) -> bool {
        let is_plain = match self.target {
            Target::Passthrough(_) => true,
            Target::ByName { .. } => false,
            Target::Cluster { cluster, .. } => {
                matches!(cluster.transport, Transport::Plaintext) && cluster.tunnel.is_none()
            }
        };
        is_plain && self.target.original().addr() == address
    }

    /// Whom the route asks for instead of whom the request does.
    #[must_use]
    pub fn authority(&self) -> Option<&'t str> {
        self.route?.1.authority.as_deref()
    }

    /// The host that the route puts in the place of the request's: what TLS names, and checks, is the host that the server
    /// is asked for.
    #[must_use]
    pub fn rewritten_host(&self) -> Option<Host> {
        Authority::parse(self.authority()?).ok().map(|authority| authority.host)
    }

    /// Whether the route itself puts credentials into the request that authenticate the server's connection.
    #[must_use]
    pub fn authenticates_connection(&self) -> bool {
        self.route.is_some_and(|(_, to)| to.request.authenticate_connection())
    }

    /// The route's fields with Envoy's operators in them, if it has any.
    #[must_use]
    pub fn formats(&self) -> Option<&'t Formats> {
        self.route.map(|(_, to)| &to.formats).filter(|formats| !formats.is_empty())
    }

    #[must_use]
    pub fn response_edits(&self) -> &FieldEdits {
        const NONE: &FieldEdits = &FieldEdits { remove: Vec::new(), set: Vec::new(), add: Vec::new() };
        self.with_cookie.as_deref().or(self.route.map(|(_, to)| &to.response)).unwrap_or(NONE)
    }

    #[must_use]
    pub fn timeout(&self, request: &Request) -> Option<Duration> {
        let route = self.route.and_then(|(route, _)| route.timeout);
        // The route's caps what the client of a call says; without one that is the limit, as in Istio.
        let client = call::timeout(request);
        client.map_or(route, |client| Some(route.map_or(client, |route| route.min(client))))
    }

    #[must_use]
    pub fn tries(&self, request: &Request) -> Tries<'t> {
        let retries = self.route.and_then(|(route, _)| route.retries.as_ref());
        // Istio's default policy stands at the routes of what an entry lists; its `allow_any` has none.
        let by_default: &[RetryOn] = if self.target.cluster().is_some() { &RETRY_ON } else { &[] };
        Tries {
            left: retries.map_or(DEFAULT_ATTEMPTS, |retries| retries.attempts),
            made: 0,
            is_tied: false,
            is_call: call::is_call(request),
            begun: io::now(),
            on: retries.map_or(by_default, |retries| &retries.on),
            timeout: retries.and_then(|retries| retries.per_try_timeout),
            counted_by: retries.map(|_| self.target),
            counted: Cell::new(None),
            denied: Cell::new(false),
        }
    }
}

/// The answer that a route gives itself.
fn answered(
    route: &HttpRoute,
    answer: &Answer,
    log: &LogFields<'_>,
    (request, peers): (&Request, Peers),
    target: &[u8],
) -> Failure {
    let way = Way { peers, server: None, route: log.route, cluster: None, id: None };
    let edits = formats::fill(&route.response, &route.formatted, request, way);
    let fields = || [&edits.set[..], &edits.add].concat();
    match answer {
        Answer::Direct { body, .. } => Failure::direct(log, body, fields()),
        Answer::Redirect(redirect) => {
            let target = String::from_utf8_lossy(target);
            let authority = request.head.authority_text.map(|at| at.of(&request.raw)).unwrap_or_default();
            let location = redirect.location(&String::from_utf8_lossy(authority), &target);
            let fields = std::iter::once(("location".to_owned(), location)).chain(fields()).collect();
            Failure::direct(log, "", fields)
        }
    }
}

/// How often a request may still be sent, and after what.
pub struct Tries<'t> {
    left: u32,
    made: u32,
    /// Nothing that was sent may be sent over another connection.
    is_tied: bool,
    /// It is a call of gRPC.
    is_call: bool,
    /// When the first began.
    pub begun: Instant,
    on: &'t [RetryOn],
    /// For one try.
    pub timeout: Option<Duration>,
    /// Whose `retryBudget` or `maxRetries` holds.
    counted_by: Option<Target<'t>>,
    counted: Cell<Option<Counted>>,
    denied: Cell<bool>,
}

impl Tries<'_> {
    /// No connection could be had: whichever way that failed, as in Envoy, nothing of the request was sent.
    #[must_use]
    pub fn after_connect_failure(&self) -> bool {
        self.left > 0 && self.covers_connect_failure() && self.is_granted()
    }

    /// Envoy takes a connection that was not had for a reset as well.
    #[must_use]
    pub fn covers_connect_failure(&self) -> bool {
        self.on.iter().any(|on| !matches!(on, RetryOn::Status(_) | RetryOn::RefusedStream | RetryOn::Grpc(_)))
    }

    /// `was_sent`: a byte of the request left for the server.
    #[must_use]
    pub fn after_reset(&self, was_sent: bool) -> bool {
        !self.is_tied && self.left > 0 && self.covers_reset(was_sent) && self.is_granted()
    }

    #[must_use]
    pub fn covers_reset(&self, was_sent: bool) -> bool {
        self.on.iter().any(|on| match on {
            RetryOn::Reset | RetryOn::GatewayError | RetryOn::ServerError => true,
            RetryOn::ResetBeforeRequest => !was_sent,
            RetryOn::ConnectFailure | RetryOn::Status(_) | RetryOn::RefusedStream | RetryOn::Grpc(_) => false,
        })
    }

    /// A connection used before died without a word, which is what servers do to those that were idle. A request that may
    /// be sent twice is, if there may be another try at all; a route that asks for `reset-before-request` has said that it
    /// may not.
    #[must_use]
    pub fn after_stale(&self, was_sent: bool) -> bool {
        (self.may_follow_stale() && self.is_granted()) || (!was_sent && self.after_reset(false))
    }

    /// A server has said that it did not look at the request: whatever it asks for, it may be sent again, if there may be
    /// another try at all.
    #[must_use]
    pub fn after_refusal(&self) -> bool {
        !self.is_tied && self.left > 0 && self.is_granted()
    }

    /// The same before anything is sent: whether a connection that may be dead already can be used at all.
    #[must_use]
    pub fn may_follow_stale(&self) -> bool {
        !self.is_tied && self.left > 0 && !self.on.contains(&RetryOn::ResetBeforeRequest)
    }

    /// Whether the request's body may be needed again: a route asks for tries after it has gone, or it goes as a stream, which a
    /// server may refuse without a look at it (RFC 9113 §8.7).
    #[must_use]
    pub fn want_body(&self, is_stream: bool) -> bool {
        let wants = |on: &RetryOn| match on {
            RetryOn::ConnectFailure | RetryOn::RefusedStream => false,
            RetryOn::Grpc(_) => self.is_call,
            _ => true,
        };
        self.left > 0 && (is_stream || self.on.iter().any(wants))
    }

    /// What is sent from now on belongs to its connection.
    pub fn tie(&mut self) {
        self.is_tied = true;
    }

    /// So many endpoints have been passed over within one try: each is one of Envoy's.
    pub fn pass_over(&mut self, endpoints: usize) {
        let passed = self.left.min(u32::try_from(endpoints).unwrap_or(u32::MAX));
        self.left -= passed;
        self.made += passed;
    }

    /// Whether the cluster has room for another try; it is taken until the next, or until all is over.
    fn is_granted(&self) -> bool {
        let Some(target) = &self.counted_by else { return true };
        self.counted.set(None);
        match upstream::retry(target) {
            Retry::Uncounted => return true,
            Retry::Counted(counted) => self.counted.set(Some(counted)),
            Retry::Denied => self.denied.set(true),
        }
        !self.denied.get()
    }

    /// That there was no room for a try that the route wanted.
    #[must_use]
    pub fn flags(&self) -> ResponseFlags {
        if self.denied.get() { ResponseFlags::UPSTREAM_OVERFLOW } else { ResponseFlags::default() }
    }

    /// Whether an answer of `status` is one that the route does not want, were there tries left; `call`: the status of gRPC in
    /// its head.
    #[must_use]
    pub fn covers(&self, status: u16, call: Option<grpc::Status>) -> bool {
        self.on.iter().any(|on| match on {
            RetryOn::ConnectFailure | RetryOn::Reset | RetryOn::ResetBeforeRequest | RetryOn::RefusedStream => false,
            RetryOn::Grpc(unwanted) => call == Some(*unwanted),
            RetryOn::GatewayError => matches!(status, 502..=504),
            RetryOn::ServerError => (500..600).contains(&status),
            RetryOn::Status(code) => *code == status,
        })
    }

    #[must_use]
    pub fn after_status(&self, status: u16, call: Option<grpc::Status>) -> bool {
        !self.is_tied && self.left > 0 && self.covers(status, call) && self.is_granted()
    }

    /// Further ones that have been made.
    #[must_use]
    pub fn made(&self) -> u32 {
        self.made
    }

    #[must_use]
    pub fn is_spent(&self) -> bool {
        self.left == 0 && self.made > 0
    }

    /// Takes one, and says how long to wait before it.
    pub fn take(&mut self) -> Duration {
        self.left = self.left.saturating_sub(1);
        self.made += 1;
        (BACKOFF * (1 << (self.made - 1).min(10))).min(BACKOFF * 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tries(left: u32, made: u32, on: &[RetryOn]) -> Tries<'_> {
        let (counted, denied) = (Cell::new(None), Cell::new(false));
        let begun = Instant::now();
        Tries {
            left,
            made,
            is_tied: false,
            is_call: false,
            begun,
            on,
            timeout: None,
            counted_by: None,
            counted,
            denied,
        }
    }

    #[test]
    fn tries_are_counted_and_wait_longer_each_time() {
        let mut several = tries(2, 0, &[RetryOn::GatewayError, RetryOn::Status(429)]);
        assert!(several.after_connect_failure() && several.after_reset(true) && !several.is_spent());
        for (status, expected) in [(502, true), (503, true), (504, true), (500, false), (429, true), (200, false)] {
            assert_eq!(several.after_status(status, None), expected, "{status}");
        }
        assert_eq!((several.take(), several.take()), (BACKOFF, BACKOFF * 2));
        assert!(
            several.is_spent()
                && several.covers(503, None)
                && !several.after_status(503, None)
                && !several.after_reset(true)
        );
        assert_eq!(tries(100, 60, &[]).take(), BACKOFF * 10);
        let mut passed = tries(2, 0, &[RetryOn::ConnectFailure]);
        passed.pass_over(1);
        assert!(passed.after_connect_failure());
        passed.pass_over(4);
        assert!(passed.is_spent() && !passed.after_connect_failure());
    }

    /// Of calls, the status of gRPC in the answer's head decides.
    #[test]
    fn calls_are_tried_again_by_their_own_status() {
        use grpc::Status::{Cancelled, DeadlineExceeded, Ok, Unavailable};
        let mut by_default = tries(1, 0, &RETRY_ON);
        assert!(!by_default.want_body(false), "no body is held for what is no call");
        assert!(by_default.want_body(true) && !tries(0, 1, &RETRY_ON).want_body(true), "a stream may be refused");
        by_default.is_call = true;
        assert!(by_default.want_body(false) && by_default.after_connect_failure() && !by_default.after_reset(true));
        for (status, call, expected) in [
            (200, Some(Unavailable), true),
            (200, Some(Cancelled), true),
            (200, Some(DeadlineExceeded), false),
            (200, Some(Ok), false),
            (200, None, false),
            (503, None, false),
        ] {
            assert_eq!(by_default.after_status(status, call), expected, "{status} {call:?}");
        }
    }

    #[test]
    fn what_calls_for_another_try() {
        use RetryOn::{ConnectFailure, GatewayError, Reset, ResetBeforeRequest, ServerError, Status};
        // For no connection, a reset before and after the first byte, a kept connection that died after it.
        for (on, expected) in [
            (&[][..], [false, false, false, true]),
            (&[ConnectFailure], [true, false, false, true]),
            (&[Reset], [true, true, true, true]),
            (&[ResetBeforeRequest], [true, true, false, false]),
            (&[ResetBeforeRequest, Reset], [true, true, true, false]),
            (&[ServerError], [true, true, true, true]),
            (&[GatewayError], [true, true, true, true]),
            (&[Status(503)], [false, false, false, true]),
        ] {
            let found = |tries: &Tries<'_>| {
                let resets = (tries.after_reset(false), tries.after_reset(true));
                [tries.after_connect_failure(), resets.0, resets.1, tries.after_stale(true)]
            };
            assert_eq!(found(&tries(1, 0, on)), expected, "{on:?}");
            assert_eq!(found(&tries(0, 0, on)), [false; 4], "{on:?}, attempts: 0");
            let mut tied = tries(1, 0, on);
            tied.tie();
            assert_eq!(found(&tied), [expected[0], false, false, false], "{on:?}, tied");
        }
        assert!(tries(1, 0, &[ResetBeforeRequest]).after_stale(false));
    }
}
