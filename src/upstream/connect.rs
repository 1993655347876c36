//! TCP connect, CONNECT to a forward proxy and TLS handshake, their clocks, and why they failed in words that an operator
//! can use.
//!
//! Where a DestinationRule has a `connectTimeout`, it covers all steps together, as in Envoy. Elsewhere each step has the
//! time that the Settings give it.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use rustls::pki_types::ServerName;

use super::stream::{Stream, StreamError};
use super::target::Target;
use super::tunnel::{self, TunnelError};
use crate::config::{self, Settings, TcpKeepalive, Tunnel};
use crate::flow::ResponseFlags;
use crate::http2::Limits;
use crate::io::{self, ConnectOptions, Keepalive, Lease, Socket};
use crate::policy::{Outcome, PoolLimits};
use crate::tls::{Alpn, CertError, TlsError};

/// Why no upstream connection could be had.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The cluster has no address to connect to: its name does not resolve, or it lists none.
    #[error("no endpoint: the destination's name has no address")]
    NoEndpoint,
    /// `outlierDetection` has ejected every endpoint, of which there are so many.
    #[error("no endpoint: outlierDetection has ejected all {0}")]
    AllEjected(usize),
    /// `connectionPool` allows no further connection or waiting request.
    #[error("overflow: connectionPool allows no further {0}")]
    Overflow(&'static str),
    /// The kernel or the peer refused.
    #[error("connect to {address}: {source}")]
    Tcp { address: SocketAddr, source: std::io::Error },
    /// No answer in time.
    #[error("connect to {address}: no answer within {after}")]
    TcpTimeout { address: SocketAddr, after: Patience },
    /// There is no tunnel through the forward proxy.
    #[error("tunnel through {address}: {source}")]
    Tunnel { address: SocketAddr, source: TunnelError },
    /// The forward proxy did not answer in time.
    #[error("tunnel through {address}: no answer to CONNECT within {after}")]
    TunnelTimeout { address: SocketAddr, after: Patience },
    /// The handshake failed: the reason names what to do.
    #[error("{source}")]
    Handshake { address: SocketAddr, source: StreamError },
    /// The server takes none of the protocols that were offered (RFC 7301); `why` they were.
    #[error("{source}; {why}")]
    NoProtocol { address: SocketAddr, source: StreamError, why: Box<str> },
    /// The server chose HTTP/1.1, which has no words for the request.
    #[error(
        "the server chose http/1.1 (ALPN; h2 and http/1.1 were offered, since upstreamProtocol is AUTO), and a call of gRPC \
         needs h2"
    )]
    NotHttp2 { address: SocketAddr },
    /// The server accepted the connection and then did not finish its handshake.
    #[error("TLS handshake with {address} not finished within {after}")]
    HandshakeTimeout { address: SocketAddr, after: Patience },
}

impl ConnectError {
    /// The flags under which Envoy's users look for it.
    #[must_use]
    pub fn flags(&self) -> ResponseFlags {
        match self {
            ConnectError::NoEndpoint | ConnectError::AllEjected(_) => ResponseFlags::NO_HEALTHY_UPSTREAM,
            ConnectError::Overflow(_) => ResponseFlags::UPSTREAM_OVERFLOW,
            _ => ResponseFlags::UPSTREAM_CONNECTION_FAILURE,
        }
    }

    /// The endpoint that failed, for the log's UPSTREAM_HOST.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            ConnectError::NoEndpoint | ConnectError::AllEjected(_) | ConnectError::Overflow(_) => None,
            ConnectError::Tcp { address, .. }
            | ConnectError::TcpTimeout { address, .. }
            | ConnectError::Tunnel { address, .. }
            | ConnectError::TunnelTimeout { address, .. }
            | ConnectError::Handshake { address, .. }
            | ConnectError::NoProtocol { address, .. }
            | ConnectError::NotHttp2 { address }
            | ConnectError::HandshakeTimeout { address, .. } => Some(*address),
        }
    }

    /// Whether another try may have a connection. A server that has chosen would choose so again.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        self.address().is_some() && !matches!(self, ConnectError::NotHttp2 { .. })
    }

    /// Why the server's certificate was not believed.
    #[must_use]
    pub fn refusal(&self) -> Option<&CertError> {
        match self {
            ConnectError::Handshake { source: StreamError::Tls(TlsError::Refused(refusal)), .. } => Some(refusal),
            _ => None,
        }
    }

    /// What it says of the endpoint; `None` where the fault is this end's.
    pub(super) fn outcome(&self) -> Option<Outcome> {
        match self {
            // One that is not of HTTP/2 serves what it can be asked in HTTP/1.1.
            ConnectError::NoEndpoint
            | ConnectError::AllEjected(_)
            | ConnectError::Overflow(_)
            | ConnectError::NotHttp2 { .. } => None,
            ConnectError::Tcp { source, .. } if is_ours(source) => None,
            ConnectError::Tunnel { source: TunnelError::Denied { status, .. }, .. } => Some(Outcome::Answered(*status)),
            ConnectError::Tcp { .. }
            | ConnectError::Tunnel { .. }
            | ConnectError::Handshake { .. }
            | ConnectError::NoProtocol { .. } => Some(Outcome::Failed),
            ConnectError::TcpTimeout { .. }
            | ConnectError::TunnelTimeout { .. }
            | ConnectError::HandshakeTimeout { .. } => Some(Outcome::TimedOut),
        }
    }

    /// With what was offered and why, where the server took nothing of it.
    pub(super) fn of_offer(self, alpn: Alpn, target: &Target<'_>) -> Self {
        match self {
            ConnectError::Handshake { address, source: StreamError::Tls(source) } if source.is_of_protocol() => {
                let offered: Vec<_> = alpn.protocols().iter().map(|protocol| protocol.name()).collect();
                let since =
                    target.cluster().map_or(String::new(), |cluster| format!(", since {}", cluster.why_spoken()));
                let why = format!("{} was offered (ALPN){since}", offered.join(" and ")).into();
                ConnectError::NoProtocol { address, source: StreamError::Tls(source), why }
            }
            other => other,
        }
    }

    /// Where TCP was up and TLS failed: in what.
    #[must_use]
    pub fn of_tls(&self) -> Option<TlsFailure> {
        match self {
            ConnectError::Handshake { source: StreamError::Tls(TlsError::Refused(_)), .. } => {
                Some(TlsFailure::Verification)
            }
            ConnectError::NoProtocol { .. } | ConnectError::NotHttp2 { .. } => Some(TlsFailure::Protocol),
            ConnectError::Handshake { .. } | ConnectError::HandshakeTimeout { .. } => Some(TlsFailure::Other),
            ConnectError::NoEndpoint
            | ConnectError::AllEjected(_)
            | ConnectError::Overflow(_)
            | ConnectError::Tcp { .. }
            | ConnectError::TcpTimeout { .. }
            | ConnectError::Tunnel { .. }
            | ConnectError::TunnelTimeout { .. } => None,
        }
    }
}

/// What of a handshake failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsFailure {
    /// The server's certificate was not believed.
    Verification,
    /// There is no protocol that both ends want to speak over it (ALPN).
    Protocol,
    Other,
}

/// Descriptors, ports or memory have run out here: no packet has reached the endpoint.
fn is_ours(error: &std::io::Error) -> bool {
    let exhausted = [Errno::EMFILE, Errno::ENFILE, Errno::ENOMEM, Errno::ENOBUFS, Errno::EADDRNOTAVAIL];
    error.kind() == std::io::ErrorKind::QuotaExceeded
        || error.raw_os_error().is_some_and(|code| exhausted.contains(&Errno::from_raw(code)))
}

/// What the Settings say of new connections: how long each step may take, where no rule says how long all of them may,
/// and how a peer that is gone is noticed.
#[derive(Clone, Copy, Debug)]
pub struct Clocks {
    pub connect: Duration,
    pub handshake: Duration,
    pub keepalive: Option<Keepalive>,
    pub user_timeout: Option<Duration>,
    /// What an HTTP/2 connection may ask of egret.
    pub http2: Limits,
}

impl Clocks {
    #[must_use]
    pub fn of(settings: &Settings) -> Self {
        Self {
            connect: settings.connect_timeout,
            handshake: settings.tls_handshake_timeout,
            keepalive: keepalive(&settings.tcp_keepalive),
            user_timeout: Some(settings.tcp_user_timeout).filter(|time| !time.is_zero()),
            http2: Limits::of(settings),
        }
    }

    /// A rule's `tcpKeepalive` takes the place of both: with a user timeout the kernel gives a silent connection up by
    /// that time, however many probes the rule asks for (tcp(7), `TCP_USER_TIMEOUT`).
    pub(super) fn options(&self, rule: Option<TcpKeepalive>) -> ConnectOptions {
        match rule {
            Some(rule) => ConnectOptions { keepalive: Some(probes(rule)), ..ConnectOptions::default() },
            None => ConnectOptions {
                keepalive: self.keepalive,
                user_timeout: self.user_timeout,
                ..ConnectOptions::default()
            },
        }
    }
}

/// The Settings' probes for a socket; `None` for none.
#[must_use]
pub fn keepalive(settings: &config::Keepalive) -> Option<Keepalive> {
    let &config::Keepalive { time, interval, probes } = settings;
    (!time.is_zero()).then_some(Keepalive { idle: time, interval, probes })
}

/// How long was waited for a step that did not finish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// For this step alone.
    Step(Duration),
    /// For the connection as a whole: a rule's `connectTimeout`.
    Whole(Duration),
}

impl fmt::Display for Patience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Patience::Step(time) => write!(f, "{} ms", time.as_millis()),
            Patience::Whole(time) => write!(f, "{} ms (connectTimeout, of all steps together)", time.as_millis()),
        }
    }
}

/// Until when the steps of one new connection must be over.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline {
    clocks: Clocks,
    /// The rule's time, and when it is over.
    whole: Option<(Duration, Instant)>,
}

impl Deadline {
    pub(super) fn begin(clocks: &Clocks, limits: Option<&PoolLimits>) -> Self {
        let whole = limits.and_then(|limits| limits.connect_timeout).map(|time| (time, io::now() + time));
        Self { clocks: *clocks, whole }
    }

    /// The time for TCP's handshake.
    pub(super) fn for_tcp(&self) -> (Duration, Patience) {
        self.left(self.clocks.connect)
    }

    /// The time for an exchange over the connection.
    fn for_exchange(&self) -> (Duration, Patience) {
        self.left(self.clocks.handshake)
    }

    fn left(&self, step: Duration) -> (Duration, Patience) {
        match self.whole {
            Some((time, until)) => (until.saturating_duration_since(io::now()), Patience::Whole(time)),
            None => (step, Patience::Step(step)),
        }
    }
}

/// Linux's own values where the policy leaves them to the operating system (tcp(7)), and its largest where a rule asks for
/// more: the kernel would refuse the socket.
fn probes(rule: TcpKeepalive) -> Keepalive {
    const LONGEST: Duration = Duration::from_secs(32_767);
    const MOST: u32 = 127;
    Keepalive {
        idle: rule.time.unwrap_or(Duration::from_secs(7200)).min(LONGEST),
        interval: rule.interval.unwrap_or(Duration::from_secs(75)).min(LONGEST),
        probes: rule.probes.unwrap_or(9).min(MOST),
    }
}

pub(super) async fn tls(
    socket: Socket,
    address: SocketAddr,
    config: &Arc<rustls::ClientConfig>,
    name: ServerName<'static>,
    deadline: &Deadline,
) -> Result<Stream, ConnectError> {
    let (time, after) = deadline.for_exchange();
    match io::timeout(time, Stream::handshake(socket, config, name)).await {
        Ok(Ok(stream)) => {
            tracing::debug!(%address, negotiated = ?stream.negotiated(), "TLS handshake complete");
            Ok(stream)
        }
        Ok(Err(source)) => Err(ConnectError::Handshake { address, source }),
        Err(io::Elapsed) => Err(ConnectError::HandshakeTimeout { address, after }),
    }
}

/// Asks the forward proxy at the other end for a tunnel; gives what the target said first.
pub(super) async fn tunnel(
    stream: &Stream,
    address: SocketAddr,
    wanted: &Tunnel,
    deadline: &Deadline,
) -> Result<Option<Lease>, ConnectError> {
    let (time, after) = deadline.for_exchange();
    match io::timeout(time, tunnel::open(stream, wanted)).await {
        Ok(Ok(early)) => Ok(early),
        Ok(Err(source)) => Err(ConnectError::Tunnel { address, source }),
        Err(io::Elapsed) => Err(ConnectError::TunnelTimeout { address, after }),
    }
}
