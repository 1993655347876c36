//! TCP connect and TLS handshake, each with its own clock, and why they failed in words that an operator can use.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use rustls::pki_types::ServerName;

use super::stream::{Stream, StreamError};
use super::tunnel::{self, TunnelError};
use crate::config::{Settings, TcpKeepalive, Tunnel};
use crate::flow::ResponseFlags;
use crate::io::{self, ConnectOptions, Keepalive, Lease, Socket};
use crate::policy::{Outcome, PoolLimits};
use crate::tls::{CertError, TlsError};

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
    #[error("connect to {address}: no answer within {} ms", .after.as_millis())]
    TcpTimeout { address: SocketAddr, after: Duration },
    /// There is no tunnel through the forward proxy.
    #[error("tunnel through {address}: {source}")]
    Tunnel { address: SocketAddr, source: TunnelError },
    /// The forward proxy did not answer in time.
    #[error("tunnel through {address}: no answer to CONNECT within {} ms", .after.as_millis())]
    TunnelTimeout { address: SocketAddr, after: Duration },
    /// The handshake failed: the reason names what to do.
    #[error("{source}")]
    Handshake { address: SocketAddr, source: StreamError },
    /// The server accepted the connection and then did not finish its handshake.
    #[error("TLS handshake with {address} not finished within {} ms", .after.as_millis())]
    HandshakeTimeout { address: SocketAddr, after: Duration },
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
            | ConnectError::HandshakeTimeout { address, .. } => Some(*address),
        }
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
            ConnectError::NoEndpoint | ConnectError::AllEjected(_) | ConnectError::Overflow(_) => None,
            ConnectError::Tcp { source, .. } if is_ours(source) => None,
            ConnectError::Tunnel { source: TunnelError::Denied { status, .. }, .. } => Some(Outcome::Answered(*status)),
            ConnectError::Tcp { .. } | ConnectError::Tunnel { .. } | ConnectError::Handshake { .. } => {
                Some(Outcome::Failed)
            }
            ConnectError::TcpTimeout { .. }
            | ConnectError::TunnelTimeout { .. }
            | ConnectError::HandshakeTimeout { .. } => Some(Outcome::TimedOut),
        }
    }

    /// Where TCP was up and TLS failed: whether because the server's certificate was not believed.
    #[must_use]
    pub fn is_unverified(&self) -> Option<bool> {
        match self {
            ConnectError::Handshake { source: StreamError::Tls(TlsError::Refused(_)), .. } => Some(true),
            ConnectError::Handshake { .. } | ConnectError::HandshakeTimeout { .. } => Some(false),
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

/// Descriptors, ports or memory have run out here: no packet has reached the endpoint.
fn is_ours(error: &std::io::Error) -> bool {
    let exhausted = [Errno::EMFILE, Errno::ENFILE, Errno::ENOMEM, Errno::ENOBUFS, Errno::EADDRNOTAVAIL];
    error.kind() == std::io::ErrorKind::QuotaExceeded
        || error.raw_os_error().is_some_and(|code| exhausted.contains(&Errno::from_raw(code)))
}

/// How long each step may take.
#[derive(Clone, Copy, Debug)]
pub struct Clocks {
    pub connect: Duration,
    pub handshake: Duration,
}

impl Clocks {
    #[must_use]
    pub fn of(settings: &Settings) -> Self {
        Self { connect: settings.connect_timeout, handshake: settings.tls_handshake_timeout }
    }

    pub(super) fn with_limits(self, limits: Option<&PoolLimits>) -> Self {
        Self { connect: limits.map_or(self.connect, |l| l.connect_timeout), ..self }
    }
}

pub(super) async fn tcp(
    address: SocketAddr,
    keepalive: Option<TcpKeepalive>,
    clocks: &Clocks,
) -> Result<Socket, ConnectError> {
    let options = ConnectOptions { keepalive: keepalive.map(probes), ..ConnectOptions::default() };
    match io::timeout(clocks.connect, Socket::connect(address, &options)).await {
        Ok(Ok(socket)) => Ok(socket),
        Ok(Err(source)) => Err(ConnectError::Tcp { address, source }),
        Err(io::Elapsed) => Err(ConnectError::TcpTimeout { address, after: clocks.connect }),
    }
}

/// Linux's own values where the policy leaves them to the operating system (tcp(7)).
fn probes(keepalive: TcpKeepalive) -> Keepalive {
    Keepalive {
        idle: keepalive.time.unwrap_or(Duration::from_secs(7200)),
        interval: keepalive.interval.unwrap_or(Duration::from_secs(75)),
        probes: keepalive.probes.unwrap_or(9),
    }
}

pub(super) async fn tls(
    socket: Socket,
    address: SocketAddr,
    config: &Arc<rustls::ClientConfig>,
    name: ServerName<'static>,
    clocks: &Clocks,
) -> Result<Stream, ConnectError> {
    match io::timeout(clocks.handshake, Stream::handshake(socket, config, name)).await {
        Ok(Ok(stream)) => {
            tracing::debug!(%address, negotiated = ?stream.negotiated(), "TLS handshake complete");
            Ok(stream)
        }
        Ok(Err(source)) => Err(ConnectError::Handshake { address, source }),
        Err(io::Elapsed) => Err(ConnectError::HandshakeTimeout { address, after: clocks.handshake }),
    }
}

/// Asks the forward proxy at the other end for a tunnel; gives what the target said first.
pub(super) async fn tunnel(
    stream: &Stream,
    address: SocketAddr,
    wanted: &Tunnel,
    clocks: &Clocks,
) -> Result<Option<Lease>, ConnectError> {
    match io::timeout(clocks.handshake, tunnel::open(stream, wanted)).await {
        Ok(Ok(early)) => Ok(early),
        Ok(Err(source)) => Err(ConnectError::Tunnel { address, source }),
        Err(io::Elapsed) => Err(ConnectError::TunnelTimeout { address, after: clocks.handshake }),
    }
}
