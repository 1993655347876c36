//! What went wrong with a request, in the four forms that people meet it: a status and a body for the application, and
//! response flags and details for the log, all in the words that Envoy's users search for.

use std::fmt;

use crate::config::{Abort, ReplyDetails};
use crate::flow::ResponseFlags;
use crate::grpc;
use crate::http::AmbiguousPath;
use crate::observe::WorkerCounters;
use crate::policy::{Decision, LogFields, Refusal, Route, Verdict};
use crate::proxy::clocks::Clock;
use crate::proxy::names::Unfound;
use crate::upstream::{ConnectError, StreamError};

/// A request that egret answers itself, or cannot finish.
#[derive(Debug)]
pub struct Failure {
    pub status: u16,
    pub flags: ResponseFlags,
    /// `RESPONSE_CODE_DETAILS`.
    pub details: String,
    /// The text that the application gets, newline-free.
    pub body: String,
    /// So many bytes of the text are all that it says where the transport's reason is not wanted.
    pub brief: Option<u32>,
    /// `UPSTREAM_TRANSPORT_FAILURE_REASON`.
    pub transport: Option<String>,
    /// Further header fields of the answer.
    pub fields: Vec<(String, String)>,
    /// No connection to a server could be had: another try may have one.
    pub may_pass: bool,
    /// What a gRPC client is told, where that does not follow from the rest.
    pub call: Option<grpc::Status>,
}

impl Failure {
    /// The policy refuses it.
    #[must_use]
    pub fn by_policy(refusal: &Refusal<'_>) -> Self {
        let (status, flags, details) = refusal.answer();
        let transport = if let Refusal::NoTls(reason) = refusal { Some((*reason).to_owned()) } else { None };
        let reason = transport.as_ref().map(|reason| format!(": {reason}"));
        Self { transport, ..Self::new(status, flags, details, body(refusal)) }.because(reason)
    }

    /// The host's name leads nowhere.
    #[must_use]
    pub fn unfound(unfound: &Unfound) -> Self {
        let (details, reason) = (unfound.details(), unfound.to_string());
        match unfound {
            Unfound::Protected { .. } | Unfound::Refused { .. } => {
                Self::new(403, ResponseFlags::default(), &details, reason)
            }
            Unfound::Nameless | Unfound::NoAddress(_) | Unfound::Late { .. } | Unfound::Crowded(_) => {
                Self::new(503, ResponseFlags::DNS_FAILURE, &details, reason)
            }
        }
    }

    /// An answer that a route gives itself, of which `log` tells.
    #[must_use]
    pub fn direct(log: &LogFields<'_>, body: &str, fields: Vec<(String, String)>) -> Self {
        let (status, details) = (log.code.unwrap_or_default(), log.details.unwrap_or_default());
        Self { fields, ..Self::new(status, log.flags, details, body.to_owned()) }
    }

    /// A route's fault.
    #[must_use]
    pub fn injected(abort: Abort) -> Self {
        let (status, call) = match abort {
            Abort::Http(status) => (status, None),
            // To others than calls it is what it counts as in HTTP.
            Abort::Grpc(status) => (status.as_http(), Some(status)),
        };
        let body = "fault filter abort".to_owned();
        Self { call, ..Self::new(status, ResponseFlags::FAULT_INJECTED, "fault_filter_abort", body) }
    }

    /// A route's `timeout` passed before the response was complete.
    #[must_use]
    pub fn timeout() -> Self {
        Self::new(504, ResponseFlags::UPSTREAM_TIMEOUT, "response_timeout", "upstream request timeout".to_owned())
    }

    /// A route's `perTryTimeout` passed, and no try is left.
    #[must_use]
    pub fn per_try_timeout() -> Self {
        Self { details: "upstream_per_try_timeout".to_owned(), ..Self::timeout() }
    }

    /// The policy asks for TLS that cannot be given.
    #[must_use]
    pub fn refused(reason: &str) -> Self {
        Self::by_policy(&Refusal::NoTls(reason))
    }

    #[must_use]
    pub fn connect(error: &ConnectError) -> Self {
        let reason = error.to_string();
        match error {
            ConnectError::NoEndpoint | ConnectError::AllEjected(_) => {
                let failure = Self::new(503, error.flags(), "no_healthy_upstream", "no healthy upstream".to_owned());
                failure.because(Some(format!(": {reason}")))
            }
            ConnectError::Overflow(_) => {
                // Whoever sends less by it is told as by Envoy.
                let fields = vec![("x-envoy-overloaded".to_owned(), "true".to_owned())];
                Self { fields, ..Self::before_response(503, error.flags(), "overflow", None) }
            }
            ConnectError::TcpTimeout { .. }
            | ConnectError::TunnelTimeout { .. }
            | ConnectError::HandshakeTimeout { .. } => {
                Self::before_response(503, error.flags(), "connection timeout", Some(reason))
            }
            _ => Self::before_response(503, error.flags(), "remote connection failure", Some(reason)),
        }
    }

    /// The upstream closed or reset before it answered.
    #[must_use]
    pub fn upstream_gone(error: Option<&StreamError>) -> Self {
        let reason = error.map(ToString::to_string);
        Self::before_response(503, ResponseFlags::UPSTREAM_CLOSED, "connection termination", reason)
    }

    /// The server ended the connection that carried the application's identity, before the request or as it came. Another
    /// connection would not know the user, and no answer of ours could say so: the application's connection ends as the
    /// server's did, so that the application begins again, as it does without a proxy.
    #[must_use]
    pub fn bond_ended() -> Self {
        Self { status: 0, body: String::new(), ..Self::upstream_gone(None) }
    }

    /// The upstream reset or failed in the middle of its answer.
    #[must_use]
    pub fn upstream_broke_off(error: Option<&StreamError>) -> Self {
        let transport = error.map(ToString::to_string);
        Self::after_response(ResponseFlags::UPSTREAM_CLOSED, "connection termination", transport)
    }

    /// The server reset the request's stream before it answered: `how` in Envoy's words.
    #[must_use]
    pub fn upstream_reset(how: &str, why: &str) -> Self {
        Self::before_response(503, ResponseFlags::UPSTREAM_RESET, how, Some(why.to_owned()))
    }

    /// The same in the middle of its answer.
    #[must_use]
    pub fn upstream_reset_late(why: &str) -> Self {
        Self::after_response(ResponseFlags::UPSTREAM_RESET, "remote reset", Some(why.to_owned()))
    }

    /// The server is spoken to in a protocol that has no words for the request.
    #[must_use]
    pub fn unsayable(what: &str) -> Self {
        Self::new(502, ResponseFlags::UPSTREAM_PROTOCOL_ERROR, "http2_cannot_carry_the_request", what.to_owned())
    }

    /// The upstream's answer breaks HTTP.
    #[must_use]
    pub fn upstream_protocol(what: &str) -> Self {
        let reason = Some(what.to_owned());
        Self::before_response(502, ResponseFlags::UPSTREAM_PROTOCOL_ERROR, "protocol error", reason)
    }

    /// The same behind its head.
    #[must_use]
    pub fn upstream_protocol_late(what: &str) -> Self {
        Self::after_response(ResponseFlags::UPSTREAM_PROTOCOL_ERROR, "protocol error", Some(what.to_owned()))
    }

    /// The application's request breaks HTTP, or egret does not carry it.
    #[must_use]
    pub fn request(status: u16, details: &str, message: impl Into<String>) -> Self {
        Self::new(status, ResponseFlags::DOWNSTREAM_PROTOCOL_ERROR, details, message.into())
    }

    /// It is one of HTTP, and says not whom it is for: no flag, as in Envoy.
    #[must_use]
    pub fn hostless(status: u16, details: &str, message: impl Into<String>) -> Self {
        Self::new(status, ResponseFlags::default(), details, message.into())
    }

    /// Behind an answer of 417 came something else than the same request without `Expect`. Nobody can tell whether it is the
    /// body of that request, so it gets no answer.
    #[must_use]
    pub fn unrepeated() -> Self {
        Self::request(0, "request_differs_after_417", String::new())
    }

    /// The application went away; nobody is left to read an answer.
    #[must_use]
    pub fn client_gone() -> Self {
        Self::new(0, ResponseFlags::DOWNSTREAM_CLOSED, "downstream_remote_disconnect", String::new())
    }

    /// A clock ran out. Whose fault it is that nothing moves depends on whether the request `is_complete`, as in Envoy.
    #[must_use]
    pub fn overdue(clock: Clock, is_complete: bool) -> Self {
        let (status, flags, details, body) = match clock {
            Clock::Idle if is_complete => {
                (504, ResponseFlags::STREAM_IDLE_TIMEOUT, "stream_idle_timeout", "stream timeout")
            }
            Clock::Idle => (408, ResponseFlags::STREAM_IDLE_TIMEOUT, "stream_idle_timeout", "stream timeout"),
            Clock::RequestBody => {
                let body = "the request body took too long";
                (408, ResponseFlags::STREAM_IDLE_TIMEOUT, "request_body_timeout", body)
            }
            Clock::Response => (504, ResponseFlags::UPSTREAM_TIMEOUT, "response_timeout", "upstream request timeout"),
        };
        Self::new(status, flags, details, body.to_owned())
    }

    /// With all in its text that `details` wants there, but for the files of this pod: they are nobody's who asks a server.
    #[must_use]
    pub fn told(mut self, details: ReplyDetails) -> Self {
        if let Some(length) = self.brief.take() {
            let reason = self.body.split_off(length as usize);
            if details == ReplyDetails::Full {
                self.body += &without_files(&reason);
            }
        }
        self
    }

    /// Whose text goes on with the transport's reason.
    fn because(mut self, reason: Option<String>) -> Self {
        if let Some(reason) = reason {
            self.brief = u32::try_from(self.body.len()).ok();
            self.body += &reason;
        }
        self
    }

    /// What a gRPC client is told instead of the status.
    #[must_use]
    pub fn grpc_status(&self) -> grpc::Status {
        match self.call {
            Some(status) => status,
            None if self.flags.contains(ResponseFlags::UPSTREAM_OVERFLOW) => grpc::Status::ResourceExhausted,
            None => grpc::Status::of_http(self.status),
        }
    }

    /// After `tries` others, of which the text says as much as Envoy's.
    #[must_use]
    pub fn after(mut self, tries: u32) -> Self {
        const ALONE: &str = "before headers. reset reason: ";
        const LATEST: &str = "before headers. retried and the latest reset reason: ";
        if tries > 0 && self.body.contains(ALONE) {
            self.body = self.body.replacen(ALONE, LATEST, 1);
            self.brief = self.brief.map(|length| length + (LATEST.len() - ALONE.len()) as u32);
        }
        self
    }

    /// Behind these flags, which were set before.
    #[must_use]
    pub fn behind(self, flags: ResponseFlags) -> Self {
        Self { flags: flags | self.flags, ..self }
    }

    fn new(status: u16, flags: ResponseFlags, details: &str, body: String) -> Self {
        Self {
            status,
            flags,
            details: details.to_owned(),
            body,
            brief: None,
            transport: None,
            fields: Vec::new(),
            may_pass: false,
            call: None,
        }
    }

    fn after_response(flags: ResponseFlags, reset: &str, transport: Option<String>) -> Self {
        let words = Underscored([Some(reset), transport.as_deref()]);
        let details = format!("upstream_reset_after_response_started{{{words}}}");
        Self { transport, ..Self::new(0, flags, &details, String::new()) }
    }

    fn before_response(status: u16, flags: ResponseFlags, reset: &str, transport: Option<String>) -> Self {
        let body = format!("upstream connect error or disconnect/reset before headers. reset reason: {reset}");
        let reason = transport.as_ref().map(|reason| format!(", transport failure reason: {reason}"));
        let words = Underscored([Some(reset), transport.as_deref()]);
        let details = format!("upstream_reset_before_response_started{{{words}}}");
        Self { transport, ..Self::new(status, flags, &details, body) }.because(reason)
    }
}

/// The text of the answer to a request that the policy refuses.
fn body(refusal: &Refusal<'_>) -> String {
    match refusal {
        Refusal::BlackHole | Refusal::NoCluster(_) | Refusal::NoRoute(_) => String::new(),
        Refusal::UnlistedPort(of) => format!("{} has no such port in its ServiceEntry", of.host),
        Refusal::Forbidden { .. } => "RBAC: access denied".to_owned(),
        Refusal::Unreachable { why, .. } => why.reason().to_owned(),
        Refusal::AmbiguousPath => AmbiguousPath.to_string(),
        Refusal::Unreadable { why, dialled } => format!(
            "a request without Host to {dialled}, which may be a host whose requests leave as TLS or are judged ({why}); \
             send Host"
        ),
        Refusal::Tunnel(refusal) => refusal.to_string(),
        Refusal::NoTls(_) => "no healthy upstream".to_owned(),
    }
}

/// `text` without the absolute paths in it.
fn without_files(text: &str) -> String {
    let is_end = |c: char| c.is_whitespace() || matches!(c, ':' | ',' | ';' | ')' | '"' | '\'');
    let is_opening = |c: char| c.is_whitespace() || matches!(c, '(' | '"' | '\'');
    let (mut out, mut from) = (String::with_capacity(text.len()), 0);
    for (at, _) in text.match_indices('/') {
        let length = text[at..].find(is_end).unwrap_or(text.len() - at);
        if at >= from && length > 1 && text[..at].chars().next_back().is_none_or(is_opening) {
            out.push_str(&text[from..at]);
            out.push_str("(file)");
            from = at + length;
        }
    }
    out.push_str(&text[from..]);
    out
}

/// Counts a flow that the policy refuses.
pub fn count(verdict: &Verdict<'_>, counters: &WorkerCounters) {
    let Decision::Refuse(refusal) = &verdict.decision else { return };
    match (refusal, verdict.route) {
        (Refusal::Unreadable { .. }, _) => counters.refused_protocol.increment(),
        // The routes' own answers: nothing forbids the request.
        (Refusal::NoRoute(_) | Refusal::AmbiguousPath, _) | (Refusal::NoCluster(_), Some(Route::Http(_))) => {}
        _ => counters.refused_policy.increment(),
    }
}

/// Parts joined by `|` with `_` for every blank: details are one word in the log.
struct Underscored<'a>([Option<&'a str>; 2]);

impl fmt::Display for Underscored<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, part) in self.0.iter().flatten().enumerate() {
            if i > 0 {
                f.write_str("|")?;
            }
            part.split_whitespace().enumerate().try_for_each(|(i, word)| {
                if i > 0 {
                    f.write_str("_")?;
                }
                f.write_str(word)
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_are_one_word() {
        let failure = Failure::upstream_protocol("bad  status line");
        assert_eq!(failure.details, "upstream_reset_before_response_started{protocol_error|bad_status_line}");
        assert_eq!(failure.status, 502);
        let failure = failure.told(ReplyDetails::Full);
        assert!(failure.body.ends_with("transport failure reason: bad  status line"));
    }

    #[test]
    fn texts_say_as_much_as_they_shall_and_no_file() {
        let refused = || Failure::refused("cannot read /etc/egret/ca.pem: no such file");
        let brief = refused().told(ReplyDetails::Brief);
        assert_eq!(brief.body, "no healthy upstream");
        assert_eq!(
            brief.transport.as_deref(),
            Some("cannot read /etc/egret/ca.pem: no such file"),
            "the log has it all"
        );
        assert_eq!(refused().told(ReplyDetails::Full).body, "no healthy upstream: cannot read (file): no such file");
        let tried = Failure::upstream_protocol("x").after(2).told(ReplyDetails::Full).body;
        assert!(tried.ends_with("retried and the latest reset reason: protocol error, transport failure reason: x"));
        let brief = Failure::upstream_protocol("x").after(1).told(ReplyDetails::Brief).body;
        assert!(brief.ends_with("retried and the latest reset reason: protocol error"), "{brief}");
        let reset = Failure::upstream_gone(None).after(0).told(ReplyDetails::Full);
        assert_eq!(
            reset.body,
            "upstream connect error or disconnect/reset before headers. reset reason: connection termination"
        );
        for (text, expected) in [
            ("not for spiffe://a/b or TLS 1.2/1.3, 24/7", "not for spiffe://a/b or TLS 1.2/1.3, 24/7"),
            ("\"/a b\" (/c/d.pem) '/e', /", "\"(file) b\" ((file)) '(file)', /"),
        ] {
            assert_eq!(without_files(text), expected);
        }
    }

    #[test]
    fn who_is_refused_for_a_limit_is_told_as_by_envoy() {
        let failure = Failure::connect(&ConnectError::Overflow("connection"));
        assert_eq!(failure.fields, [("x-envoy-overloaded".to_owned(), "true".to_owned())]);
        assert_eq!((failure.status, failure.flags), (503, ResponseFlags::UPSTREAM_OVERFLOW));
    }
}
