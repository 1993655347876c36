//! One TLS session with a server, without any I/O: ciphertext in, plaintext out, and the reverse.
//!
//! rustls is hidden here, so that a record layer of our own can take its place after the handshake without anyone
//! noticing. No plaintext leaves before the handshake is complete and the server verified. What a peer can make it hold
//! is bounded: rustls caps handshake messages (64 KiB), stored tickets, empty records, warnings and key updates, and
//! plaintext is handed out record by record.

use std::cell::Cell;
use std::io::BufRead as _;
use std::sync::Arc;

use rustls::client::ResolvesClientCert;
use rustls::pki_types::ServerName;
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, NamedGroup, ProtocolVersion, SignatureScheme, SupportedCipherSuite,
};

use super::error::{Spoken, TlsError};
use super::verify::take_refusal;

/// A client session. It is over after the first error: only alerts may still have to be sent.
///
/// ```text
/// new ── handshake ──► open ──► peer_closed (close_notify seen)
///  └──────────┴─────────┴─► failed
/// ```
pub struct Session {
    connection: ClientConnection,
    /// The first bytes from the server have been looked at.
    heard: bool,
    peer_closed: bool,
    /// The server asked for a client certificate and there is none.
    wants_certificate: bool,
    failure: Option<TlsError>,
}

/// What was agreed upon in the handshake.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Negotiated {
    pub version: Option<ProtocolVersion>,
    pub cipher_suite: Option<SupportedCipherSuite>,
    pub group: Option<NamedGroup>,
    pub alpn: Option<NegotiatedAlpn>,
    /// From a ticket: the certificate was verified in an earlier session.
    pub resumed: bool,
}

/// The protocol that the server chose from the one that was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NegotiatedAlpn {
    Http1,
    Http2,
}

impl Session {
    /// A session with the server `name` (see `ClientProfile::server_name`); a ClientHello is waiting to be sent.
    ///
    /// # Errors
    /// The configuration allows no session at all.
    pub fn new(config: &Arc<ClientConfig>, name: ServerName<'static>) -> Result<Self, TlsError> {
        let mut connection = ClientConnection::new(Arc::clone(config), name)
            .map_err(|error| TlsError::from_rustls(error, None, false))?;
        // What is sealed is taken out at once: the caller bounds how much it seals.
        connection.set_buffer_limit(None);
        Ok(Self { connection, heard: false, peer_closed: false, wants_certificate: false, failure: None })
    }

    /// Whether the handshake is still going on; nothing can be sealed until it is over.
    pub fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// Appends the ciphertext that waits to be sent: handshake messages, alerts, answers to key updates.
    pub fn take_output(&mut self, out: &mut Vec<u8>) {
        while self.connection.wants_write() {
            self.connection.write_tls(out).expect("writing to a Vec never fails");
        }
    }

    /// Takes in ciphertext, however it was split on the way, and appends the plaintext in it. Afterwards something may
    /// be waiting to be sent, an alert even when this fails.
    ///
    /// # Errors
    /// The session is over; plaintext that was appended before is genuine.
    pub fn feed(&mut self, ciphertext: &[u8], plaintext: &mut Vec<u8>) -> Result<(), TlsError> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let result = self.open(ciphertext, plaintext);
        if let Err(failure) = &result {
            self.failure = Some(failure.clone());
        }
        result
    }

    fn open(&mut self, mut ciphertext: &[u8], plaintext: &mut Vec<u8>) -> Result<(), TlsError> {
        if !self.heard && !ciphertext.is_empty() {
            self.heard = true;
            if let Some(spoken) = Spoken::recognise(ciphertext) {
                return Err(TlsError::NotTls(spoken));
            }
        }
        while !ciphertext.is_empty() && !self.peer_closed {
            let taken = self.connection.read_tls(&mut ciphertext);
            // Reading from a slice cannot fail otherwise: rustls holds as much as it will.
            taken.map_err(|_| TlsError::too_much_handshake())?;
            let processed = self.process();
            self.drain(plaintext)?;
            processed?;
        }
        Ok(())
    }

    fn process(&mut self) -> Result<(), TlsError> {
        take_refusal();
        CERTIFICATE_WANTED.set(false);
        let state = self.connection.process_new_packets();
        self.wants_certificate |= CERTIFICATE_WANTED.take();
        let refusal = take_refusal();
        let state = state.map_err(|error| TlsError::from_rustls(error, refusal, self.wants_certificate))?;
        self.peer_closed = state.peer_has_closed();
        Ok(())
    }

    fn drain(&mut self, plaintext: &mut Vec<u8>) -> Result<(), TlsError> {
        let handshaking = self.connection.is_handshaking();
        let mut reader = self.connection.reader();
        while let Ok(chunk @ [_, ..]) = reader.fill_buf() {
            if handshaking {
                return Err(TlsError::Internal("application data before the handshake was complete".to_owned()));
            }
            let length = chunk.len();
            plaintext.extend_from_slice(chunk);
            reader.consume(length);
        }
        Ok(())
    }

    /// Appends records that hold `plaintext`, in order, and whatever else waits to be sent before them.
    ///
    /// # Errors
    /// The session is over, or its handshake is not: nothing is ever queued for a server that is not verified yet.
    pub fn seal(&mut self, plaintext: &[&[u8]], out: &mut Vec<u8>) -> Result<(), TlsError> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        if self.is_handshaking() {
            return Err(TlsError::Internal("data to send before the handshake is complete".to_owned()));
        }
        for mut part in plaintext.iter().copied() {
            while !part.is_empty() {
                let taken = std::io::Write::write(&mut self.connection.writer(), part)
                    .map_err(|error| TlsError::Internal(error.to_string()))?;
                if taken == 0 {
                    return Err(TlsError::Internal("rustls takes no more data".to_owned()));
                }
                part = &part[taken..];
                self.take_output(out);
            }
        }
        self.take_output(out);
        Ok(())
    }

    /// Appends a close_notify alert, once: nothing can be sealed after it.
    pub fn close(&mut self, out: &mut Vec<u8>) {
        self.connection.send_close_notify();
        self.take_output(out);
    }

    /// Whether close_notify has been seen: then the end of the connection is a clean end.
    pub fn peer_closed(&self) -> bool {
        self.peer_closed
    }

    /// The verdict on the end of the connection (FIN or reset).
    ///
    /// # Errors
    /// It came in the handshake, or without close_notify.
    pub fn end(&self) -> Result<(), TlsError> {
        match (&self.failure, self.is_handshaking(), self.peer_closed) {
            (Some(failure), ..) => Err(failure.clone()),
            (None, true, _) => Err(TlsError::ClosedInHandshake { wants_certificate: self.wants_certificate }),
            (None, false, false) => Err(TlsError::Truncated),
            (None, false, true) => Ok(()),
        }
    }

    /// What was agreed upon; complete once the handshake is.
    pub fn negotiated(&self) -> Negotiated {
        let connection = &self.connection;
        Negotiated {
            version: connection.protocol_version(),
            cipher_suite: connection.negotiated_cipher_suite(),
            group: connection.negotiated_key_exchange_group().map(rustls::crypto::SupportedKxGroup::name),
            alpn: match connection.alpn_protocol() {
                Some(b"h2") => Some(NegotiatedAlpn::Http2),
                Some(b"http/1.1") => Some(NegotiatedAlpn::Http1),
                _ => None,
            },
            resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
        }
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("negotiated", &self.negotiated())
            .field("peer_closed", &self.peer_closed)
            .field("failure", &self.failure)
            .finish_non_exhaustive()
    }
}

thread_local! {
    /// Set when a server asks for a certificate, for the session on the same thread that is feeding rustls.
    static CERTIFICATE_WANTED: Cell<bool> = const { Cell::new(false) };
}

/// The answer of mode SIMPLE to a server that asks for a certificate: none, and a note for the error text in case the
/// server insists.
#[derive(Debug)]
pub(super) struct NoClientCertificate;

impl ResolvesClientCert for NoClientCertificate {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<rustls::sign::CertifiedKey>> {
        CERTIFICATE_WANTED.set(true);
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}
