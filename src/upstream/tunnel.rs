//! Asks a forward proxy for a tunnel (CONNECT, RFC 9110 §9.3.6) and believes nothing but a 2xx.
//!
//! Nothing of the application is sent before the proxy has agreed. What it may say first is bounded.

use super::stream::{Stream, StreamError};
use crate::config::Tunnel;
use crate::http::{Answer, HeadLimits, Method, RequestContext, Version, parse_answer};
use crate::io::Lease;

/// Largest head of the answer, and of each interim one before it.
const LIMITS: HeadLimits = HeadLimits { max_bytes: 16 << 10, max_fields: 100 };
/// Most interim answers.
const MAX_INTERIM: usize = 8;

/// Why there is no tunnel.
#[derive(Debug, thiserror::Error)]
pub enum TunnelError {
    #[error("tunnel_response:{status}: the forward proxy answered {status} to CONNECT {target}")]
    Denied { status: u16, target: String },
    #[error("the forward proxy's answer to CONNECT is no HTTP: {0}")]
    Unreadable(String),
    #[error("the forward proxy ended the connection before it answered CONNECT")]
    Ended,
    #[error("the forward proxy sent data of its own behind its answer to CONNECT")]
    SpokeFirst,
    #[error("CONNECT: {0}")]
    Stream(#[from] StreamError),
}

/// Opens a tunnel through the proxy at the other end of `stream`. What came behind the answer is the target's, and is
/// given back. The caller bounds the time.
pub(super) async fn open(stream: &Stream, tunnel: &Tunnel) -> Result<Option<Lease>, TunnelError> {
    let target = tunnel.to_string();
    let request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
    stream.send(request.into_bytes())?.await.map_err(StreamError::from)?;
    let request_context = RequestContext { method: Method::Connect, version: Version::Http11, upgrade: false };
    let mut received: Vec<u8> = Vec::new();
    let mut interim = 0;
    loop {
        let answer = parse_answer(&received, request_context, LIMITS);
        match answer.map_err(|error| TunnelError::Unreadable(error.to_string()))? {
            Answer::Partial => {}
            Answer::AsWritten { head, length } | Answer::Rewritten { head, length, .. } => {
                if (200..300).contains(&head.status) {
                    let rest = received.split_off(length);
                    return Ok((!rest.is_empty()).then(|| Lease::from_vec(rest)));
                }
                if !head.is_interim || interim == MAX_INTERIM {
                    return Err(TunnelError::Denied { status: head.status, target });
                }
                interim += 1;
                received.drain(..length);
                continue;
            }
        }
        match stream.recv().await? {
            Some(bytes) => received.extend_from_slice(&bytes),
            None => return Err(TunnelError::Ended),
        }
    }
}
