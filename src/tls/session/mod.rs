//! One TLS session with a server, without any I/O: ciphertext in, plaintext out, and the reverse.
//!
//! rustls does the handshake; application data is opened and sealed by our own record layer, in the buffers that it
//! arrived in and leaves from. No plaintext leaves before the handshake is complete and the server verified. What a peer
//! can make it hold is bounded: see `handshake` and `channel`.

pub(in crate::tls) mod aead;
pub(in crate::tls) mod alert;
pub(in crate::tls) mod channel;
pub(in crate::tls) mod handshake;
pub(in crate::tls) mod iovec_reader;
pub(in crate::tls) mod negotiated;
pub(in crate::tls) mod record;
pub(in crate::tls) mod record_deframer;

use std::collections::VecDeque;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use crate::io::Lease;
use crate::tls::error::{Spoken, TlsError};
use crate::tls::session::alert::FatalAlert;
use crate::tls::session::channel::Channel;
use crate::tls::session::handshake::Handshake;
use crate::tls::session::negotiated::Negotiated;

/// A client session. It is over after the first error: only alerts may still have to be sent.
///
/// ```text
/// handshake ──► open ──► peer_closed (close_notify seen)
///     └──────────┴─────────┴─► failed
/// ```
pub struct Session {
    state: State,
    negotiated: Negotiated,
    /// Waits to be sent.
    output: Vec<u8>,
    /// The first bytes from the server have been looked at.
    heard: bool,
    failure: Option<TlsError>,
}

enum State {
    Handshake(Box<Handshake>),
    Open(Box<Channel>),
    /// The handshake could not be handed over.
    Void,
}

impl Session {
    /// A session with the server `name` (see `ClientProfile::server_name`); a ClientHello is waiting to be sent.
    ///
    /// # Errors
    /// The configuration allows no session at all.
    pub fn new(config: &Arc<ClientConfig>, name: ServerName<'static>) -> Result<Self, TlsError> {
        let mut handshake = Box::new(Handshake::new(config, name)?);
        let mut output = Vec::new();
        handshake.advance(&[], &mut output)?;
        let negotiated = handshake.negotiated();
        Ok(Self { state: State::Handshake(handshake), negotiated, output, heard: false, failure: None })
    }

    /// Whether the handshake is still going on; nothing can be sealed until it is over.
    pub fn is_handshaking(&self) -> bool {
        !matches!(self.state, State::Open(_))
    }

    /// Appends the ciphertext that waits to be sent: handshake messages, alerts.
    pub fn take_output(&mut self, out: &mut Vec<u8>) {
        if out.is_empty() {
            std::mem::swap(out, &mut self.output);
        } else {
            out.append(&mut self.output);
        }
    }

    /// Takes in ciphertext, however it was split on the way, and appends the plaintext in it, in the same buffer where a
    /// record lies in it whole. Afterwards something may be waiting to be sent, an alert even when this fails.
    ///
    /// # Errors
    /// The session is over; plaintext that was appended before is genuine.
    pub fn open(&mut self, input: Lease, plaintext: &mut VecDeque<Lease>) -> Result<(), TlsError> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let result = self.take_in(input, plaintext);
        if let Err(failure) = &result {
            self.failure = Some(failure.clone());
        }
        result
    }

    fn take_in(&mut self, input: Lease, plaintext: &mut VecDeque<Lease>) -> Result<(), TlsError> {
        if !self.heard && !input.is_empty() {
            self.heard = true;
            if let Some(spoken) = Spoken::recognise(&input) {
                return Err(TlsError::NotTls(spoken));
            }
        }
        match &mut self.state {
            State::Handshake(handshake) => {
                if handshake.advance(&input, &mut self.output)? {
                    let rest = self.establish()?;
                    return self.take_in(Lease::from_vec(rest), plaintext);
                }
                Ok(())
            }
            State::Open(channel) => {
                let opened = channel.open(input, plaintext, &mut self.output);
                opened.map_err(|fatal| failed(channel, fatal, &mut self.output))
            }
            State::Void => Err(TlsError::Internal("a session without keys".to_owned())),
        }
    }

    /// Goes over from the handshake to our own record layer; returns what has arrived for it.
    fn establish(&mut self) -> Result<Vec<u8>, TlsError> {
        let State::Handshake(handshake) = std::mem::replace(&mut self.state, State::Void) else {
            return Err(TlsError::Internal("a second handshake".to_owned()));
        };
        self.negotiated = handshake.negotiated();
        let (channel, rest) = handshake.complete()?;
        self.state = State::Open(Box::new(channel));
        Ok(rest)
    }

    /// Appends records that hold `plaintext`, in order, and whatever else waits to be sent before them.
    ///
    /// # Errors
    /// The session is over, or its handshake is not: nothing is ever queued for a server that is not verified yet.
    pub fn seal(&mut self, plaintext: &[&[u8]], out: &mut Vec<u8>) -> Result<(), TlsError> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let State::Open(channel) = &mut self.state else {
            return Err(TlsError::Internal("data to send before the handshake is complete".to_owned()));
        };
        out.append(&mut self.output);
        channel.seal(plaintext, out).map_err(|fatal| {
            self.failure = Some(fatal.error.clone());
            failed(channel, fatal, out)
        })
    }

    /// Appends a close_notify alert, once: nothing can be sealed after it.
    pub fn close(&mut self, out: &mut Vec<u8>) {
        self.take_output(out);
        if let State::Open(channel) = &mut self.state
            && self.failure.is_none()
            && let Err(fatal) = channel.close(out)
        {
            self.failure = Some(fatal.error);
        }
    }

    /// Whether close_notify has been seen: then the end of the connection is a clean end.
    pub fn peer_closed(&self) -> bool {
        matches!(&self.state, State::Open(channel) if channel.peer_closed())
    }

    /// Whether the session should not be used for anything new: as much was sealed as its keys are good for, and they
    /// cannot be replaced (TLS 1.2).
    pub fn is_worn(&self) -> bool {
        matches!(&self.state, State::Open(channel) if channel.is_worn())
    }

    /// Whether the server was refused a renegotiation and has sent no data since: if it ends now, that is why.
    pub fn lacks_renegotiation(&self) -> bool {
        matches!(&self.state, State::Open(channel) if channel.lacks_renegotiation())
    }

    /// Why the session is over, if it failed.
    pub fn failure(&self) -> Option<&TlsError> {
        self.failure.as_ref()
    }

    /// The verdict on the end of the connection (FIN or reset).
    ///
    /// # Errors
    /// It came in the handshake, or without close_notify.
    pub fn end(&self) -> Result<(), TlsError> {
        match (&self.failure, &self.state) {
            (Some(failure), _) => Err(failure.clone()),
            (None, State::Open(channel)) if channel.peer_closed() => Ok(()),
            (None, State::Open(_)) => Err(TlsError::Truncated),
            (None, State::Handshake(handshake)) => {
                Err(TlsError::ClosedInHandshake { wants_certificate: handshake.wants_certificate })
            }
            (None, State::Void) => Err(TlsError::ClosedInHandshake { wants_certificate: false }),
        }
    }

    /// As if the cipher were good for `limit` records with one key.
    #[cfg(test)]
    pub(in crate::tls) fn set_record_limit(&mut self, limit: u64) {
        if let State::Open(channel) = &mut self.state {
            channel.set_limit(limit);
        }
    }

    /// What was agreed upon; complete once the handshake is.
    pub fn negotiated(&self) -> Negotiated {
        match &self.state {
            State::Handshake(handshake) => handshake.negotiated(),
            _ => self.negotiated,
        }
    }
}

/// Tells the server, and leaves what the log is told.
fn failed(channel: &mut Channel, fatal: FatalAlert, out: &mut Vec<u8>) -> TlsError {
    channel.fail(&fatal, out);
    fatal.error
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("negotiated", &self.negotiated())
            .field("peer_closed", &self.peer_closed())
            .field("failure", &self.failure)
            .finish_non_exhaustive()
    }
}
