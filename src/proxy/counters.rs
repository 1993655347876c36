//! Which counter an outcome raises. The counters themselves are `observe`'s, and know no outcome.

use std::ops::Deref;
use std::sync::Arc;

use crate::observe::{AccessRecord, Counter, Traffic, WorkerCounters};
use crate::proxy::guard::Refusal;
use crate::proxy::opaque::End;
use crate::tls::{CertError, Negotiated, TlsError};
use crate::upstream::{ConnectError, StreamError, TlsFailure};

/// One worker's counters.
pub struct Counters {
    worker: Arc<WorkerCounters>,
    /// Those of each destination, found without a look into the series that scrapes read.
    destinations: Traffic,
}

impl Deref for Counters {
    type Target = WorkerCounters;

    fn deref(&self) -> &WorkerCounters {
        &self.worker
    }
}

impl Counters {
    #[must_use]
    pub fn new(worker: Arc<WorkerCounters>) -> Self {
        Self { worker, destinations: Traffic::default() }
    }

    /// A connection that is not read has begun; its end is counted with its line.
    pub fn count_opened(&self, cluster: Option<&str>) {
        self.destinations.count_opened(cluster, &self.traffic);
    }

    /// What is logged is over.
    pub fn count_record(&self, record: &AccessRecord<'_>) {
        self.destinations.count(record, &self.traffic);
    }

    /// A connection is closed without having been served.
    pub fn count_refusal(&self, refusal: Refusal) {
        match refusal {
            Refusal::NotRedirected => self.refused_no_original_dst.increment(),
            Refusal::OwnPort => self.refused_loop.increment(),
            Refusal::Loopback | Refusal::NotUnicast => self.refused_address.increment(),
        }
    }

    /// No upstream connection could be had.
    pub fn count_connect_error(&self, error: &ConnectError) {
        if let ConnectError::Overflow(_) = error {
            return self.upstream_overflow.increment();
        }
        self.upstream_connect_failures.increment();
        match error.of_tls() {
            Some(TlsFailure::Verification) => self.tls_failures_verification.increment(),
            Some(TlsFailure::Protocol) => self.tls_failures_protocol.increment(),
            Some(TlsFailure::Other) => self.tls_failures_other.increment(),
            None => {}
        }
        if let Some(refusal) = error.refusal() {
            self.unverified(refusal).increment();
        }
    }

    /// There is a new upstream connection, with what was agreed upon in its handshake.
    pub fn count_connect(&self, negotiated: Option<Negotiated>) {
        self.upstream_connects.increment();
        if let Some(negotiated) = negotiated {
            self.tls_handshakes.increment();
            if negotiated.resumed {
                self.tls_resumptions.increment();
            }
        }
    }

    /// TLS ended a connection that was in use: without close_notify, or with an alert. A server of TLS 1.3 that refuses the
    /// client certificate says so only after the handshake (RFC 8446 §4.4.2.4).
    pub fn count_broken(&self, error: &StreamError) {
        match error {
            StreamError::Tls(TlsError::Truncated) => self.tls_truncated.increment(),
            StreamError::Tls(_) => self.tls_failures_established.increment(),
            StreamError::Io(_) | StreamError::SpokeFirst => {}
        }
    }

    /// The bytes of a connection were carried until its time was over.
    pub fn count_expiry(&self, end: &End) {
        match end {
            End::Idle => self.expired_idle.increment(),
            End::Duration => self.expired_duration.increment(),
            End::Complete | End::Client(_) | End::Upstream(_) => {}
        }
    }

    fn unverified(&self, refusal: &CertError) -> &Counter {
        use CertError as C;
        match refusal {
            C::Expired { .. } | C::NotYetValid { .. } => &self.unverified_validity,
            C::UntrustedIssuer { .. } | C::SelfSigned { .. } => &self.unverified_issuer,
            C::WrongName { .. } | C::NoName { .. } => &self.unverified_name,
            C::Revoked { .. } => &self.unverified_revoked,
            C::NoCrl { .. } | C::CrlExpired { .. } | C::CrlSignature(_) => &self.unverified_crl,
            C::Purpose { .. }
            | C::KeyUsage { .. }
            | C::UnknownExtension { .. }
            | C::Signature
            | C::Algorithm
            | C::Weak { .. }
            | C::Constraint(_)
            | C::Malformed(_) => &self.unverified_other,
        }
    }
}
