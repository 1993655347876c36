//! An established session: application data, and what the protocol itself says in between (RFC 8446 §4.6, §6, RFC 5246
//! §7).
//!
//! Records are opened in the buffer that they arrived in, and that buffer goes on as plaintext. rustls still derives new
//! keys and keeps tickets. What a server can make it hold or do is bounded: one incomplete record, one incomplete
//! handshake message, one answer to all key updates since we last sent something; empty records, warnings and key updates
//! without data in between are counted. It refuses to know sockets, and what a session is for.

use std::collections::VecDeque;

use rustls::client::ClientConnectionData;
use rustls::kernel::KernelConnection;
use rustls::{AlertDescription, ContentType, ExtractedSecrets, HandshakeType, ProtocolVersion, SupportedCipherSuite};

use crate::io::Lease;
use crate::tls::error::{Alert, TlsError};
use crate::tls::session::alert::FatalAlert;
use crate::tls::session::iovec_reader::IovecReader;
use crate::tls::session::record::{MAX_CONTENT, MAX_OVERHEAD, RecordKey};
use crate::tls::session::record_deframer::RecordDeframer;

/// In a row, as in other implementations: more is an attempt to keep us busy.
const MAX_EMPTY_RECORDS: u8 = 32;
const MAX_WARNINGS: u8 = 4;
const MAX_KEY_UPDATES: u8 = 32;

/// The longest handshake message, the same as in the handshake.
const MAX_MESSAGE: usize = 0xffff;

/// Bytes of handshake messages without data in between: a server that sends more tickets than this holds keeps us busy.
const MAX_HANDSHAKE: usize = 64 * 1024;

/// The fraction of a key's records that is kept for what is under way when a TLS 1.2 connection is worn.
const RESERVE: u64 = 16;

const WARNING: u8 = 1;
const FATAL: u8 = 2;

/// Which close_notify there have been.
#[derive(Default)]
struct Ends {
    sent: bool,
    received: bool,
}

/// The keys of an established session and the state of its two directions.
pub(in crate::tls) struct Channel {
    kernel: KernelConnection<ClientConnectionData>,
    opening: RecordKey,
    sealing: RecordKey,
    /// How many records may be sealed with one key.
    limit: u64,
    deframer: RecordDeframer,
    /// The beginning of a handshake message that goes on in the next record.
    message: Vec<u8>,
    /// The server asked for a key update: it gets one with what is sealed next (RFC 8446 §4.6.3).
    owes_key_update: bool,
    empty_records: u8,
    warnings: u8,
    key_updates: u8,
    /// Bytes of handshake messages since the last data.
    handshake_bytes: usize,
    renegotiation_refused: bool,
    /// And no data has come since.
    lacks_renegotiation: bool,
    ends: Ends,
    wants_certificate: bool,
}

impl Channel {
    pub(in crate::tls) fn new(
        secrets: ExtractedSecrets,
        kernel: KernelConnection<ClientConnectionData>,
        wants_certificate: bool,
    ) -> Result<Self, FatalAlert> {
        let is_tls13 = kernel.protocol_version() == ProtocolVersion::TLSv1_3;
        let limit = match kernel.negotiated_cipher_suite() {
            SupportedCipherSuite::Tls12(suite) => suite.common.confidentiality_limit,
            SupportedCipherSuite::Tls13(suite) => suite.common.confidentiality_limit,
        };
        let ExtractedSecrets { tx, rx } = secrets;
        Ok(Self {
            opening: RecordKey::new(is_tls13, rx.0, &rx.1)?,
            sealing: RecordKey::new(is_tls13, tx.0, &tx.1)?,
            kernel,
            limit,
            deframer: RecordDeframer::default(),
            message: Vec::new(),
            owes_key_update: false,
            empty_records: 0,
            warnings: 0,
            key_updates: 0,
            handshake_bytes: 0,
            renegotiation_refused: false,
            lacks_renegotiation: false,
            ends: Ends::default(),
            wants_certificate,
        })
    }

    fn is_tls13(&self) -> bool {
        self.kernel.protocol_version() == ProtocolVersion::TLSv1_3
    }

    /// Whether close_notify has been seen. Nothing behind it is looked at.
    pub(in crate::tls) fn peer_closed(&self) -> bool {
        self.ends.received
    }

    /// Whether the server was refused a renegotiation and has sent no data since: if it ends now, that is why.
    pub(in crate::tls) fn lacks_renegotiation(&self) -> bool {
        self.lacks_renegotiation
    }

    /// Whether so much was sealed with a key that cannot be replaced that no new use of the connection should begin.
    pub(in crate::tls) fn is_worn(&self) -> bool {
        !self.is_tls13() && self.sealing.sequence() >= self.limit - self.limit / RESERVE
    }

    /// Takes in what arrived and appends the plaintext in it, each piece in the buffer that it arrived in; appends to
    /// `output` what is to be answered.
    ///
    /// # Errors
    /// The session is over; plaintext that was appended before is genuine.
    pub(in crate::tls) fn open(
        &mut self,
        mut input: Lease,
        plaintext: &mut VecDeque<Lease>,
        output: &mut Vec<u8>,
    ) -> Result<(), FatalAlert> {
        while !self.ends.received
            && let Some(mut record) = self.deframer.next(&mut input)?
        {
            let (kind, content) = self.opening.open(&mut record)?;
            record.truncate(content.end);
            record.advance(content.start);
            if kind == ContentType::ApplicationData && !record.is_empty() && self.message.is_empty() {
                self.empty_records = 0;
                self.key_updates = 0;
                self.handshake_bytes = 0;
                self.lacks_renegotiation = false;
                plaintext.push_back(record);
            } else {
                self.hear(kind, &record, output)?;
            }
        }
        Ok(())
    }

    /// A record that is not simply data.
    fn hear(&mut self, kind: ContentType, content: &[u8], output: &mut Vec<u8>) -> Result<(), FatalAlert> {
        if !self.message.is_empty() && kind != ContentType::Handshake {
            return Err(FatalAlert::unexpected("a record in the middle of a handshake message"));
        }
        match kind {
            ContentType::ApplicationData => {
                self.empty_records += 1;
                if self.empty_records > MAX_EMPTY_RECORDS {
                    return Err(FatalAlert::unexpected("too many empty records"));
                }
                Ok(())
            }
            ContentType::Handshake => self.hear_handshake(content, output),
            ContentType::Alert => self.hear_alert(content),
            other => Err(FatalAlert::unexpected(format!("a {other:?} record after the handshake"))),
        }
    }

    fn hear_handshake(&mut self, content: &[u8], output: &mut Vec<u8>) -> Result<(), FatalAlert> {
        if content.is_empty() {
            return Err(FatalAlert::unexpected("an empty handshake record"));
        }
        self.handshake_bytes += content.len();
        if self.handshake_bytes > MAX_HANDSHAKE {
            let alert = Some(AlertDescription::UnexpectedMessage);
            return Err(FatalAlert { alert, error: TlsError::too_much_handshake() });
        }
        let mut messages = std::mem::take(&mut self.message);
        messages.extend_from_slice(content);
        let mut rest = messages.as_slice();
        while let Some((&[kind, a, b, c], tail)) = rest.split_first_chunk() {
            let length = u32::from_be_bytes([0, a, b, c]) as usize;
            if length > MAX_MESSAGE {
                return Err(FatalAlert::malformed("a handshake message of more than 64 KiB"));
            }
            let Some((body, tail)) = tail.split_at_checked(length) else { break };
            rest = tail;
            self.hear_message(HandshakeType::from(kind), body, rest.is_empty(), output)?;
        }
        self.message = rest.to_vec();
        Ok(())
    }

    /// `is_last`: its record ends with it.
    fn hear_message(
        &mut self,
        kind: HandshakeType,
        body: &[u8],
        is_last: bool,
        output: &mut Vec<u8>,
    ) -> Result<(), FatalAlert> {
        match kind {
            HandshakeType::NewSessionTicket if self.is_tls13() => {
                let kept = self.kernel.handle_new_session_ticket(body);
                kept.map_err(|error| FatalAlert::malformed(format!("a session ticket: {error}")))
            }
            HandshakeType::KeyUpdate if self.is_tls13() => self.hear_key_update(body, is_last),
            HandshakeType::HelloRequest if !self.is_tls13() && body.is_empty() && !self.renegotiation_refused => {
                self.renegotiation_refused = true;
                self.lacks_renegotiation = true;
                self.send_alert(WARNING, AlertDescription::NoRenegotiation, output)
            }
            other => Err(FatalAlert::unexpected(format!("a {other:?} message after the handshake"))),
        }
    }

    fn hear_key_update(&mut self, body: &[u8], is_last: bool) -> Result<(), FatalAlert> {
        let asks = match body {
            [0] => false,
            [1] => true,
            _ => return Err(FatalAlert::malformed("a key update")),
        };
        if !is_last {
            return Err(FatalAlert::unexpected("bytes behind a key update in its record"));
        }
        self.key_updates += 1;
        if self.key_updates > MAX_KEY_UPDATES {
            return Err(FatalAlert::unexpected("too many key updates"));
        }
        let (sequence, secrets) = self.kernel.update_rx_secret().map_err(|error| no_new_key(&error))?;
        self.opening = RecordKey::new(true, sequence, &secrets)?;
        self.owes_key_update |= asks;
        Ok(())
    }

    fn hear_alert(&mut self, content: &[u8]) -> Result<(), FatalAlert> {
        let &[level, description] = content else { return Err(FatalAlert::malformed("an alert")) };
        let description = AlertDescription::from(description);
        if !matches!(level, WARNING | FATAL) {
            return Err(FatalAlert::malformed("an alert of an unknown level"));
        }
        if description == AlertDescription::CloseNotify {
            self.ends.received = true;
            return Ok(());
        }
        // In TLS 1.3 all others but one are fatal, whatever their level (RFC 8446 §6).
        let is_harmless = level == WARNING && (!self.is_tls13() || description == AlertDescription::UserCanceled);
        if !is_harmless {
            let error = TlsError::Alert { alert: Alert(description), wants_certificate: self.wants_certificate };
            return Err(FatalAlert { alert: None, error });
        }
        self.warnings += 1;
        if self.warnings > MAX_WARNINGS {
            return Err(FatalAlert::unexpected("too many warnings"));
        }
        Ok(())
    }

    /// Appends records that hold `pieces`, in order.
    ///
    /// # Errors
    /// Nothing more can be sealed.
    pub(in crate::tls) fn seal(&mut self, pieces: &[&[u8]], out: &mut Vec<u8>) -> Result<(), FatalAlert> {
        if self.ends.sent {
            return Err(FatalAlert::internal("data to send after close_notify"));
        }
        let mut left: usize = pieces.iter().map(|piece| piece.len()).sum();
        let records = left.div_ceil(MAX_CONTENT);
        if !self.is_tls13() && self.sealing.sequence().saturating_add(records as u64) >= self.limit {
            // Keys of TLS 1.2 cannot be replaced.
            self.close(out)?;
            return Err(FatalAlert::internal("as much was sealed as one TLS 1.2 key is good for"));
        }
        out.reserve(left + records * MAX_OVERHEAD);
        if self.owes_key_update {
            self.update_sealing_key(out)?;
        }
        let mut reader = IovecReader::new(pieces);
        while left > 0 {
            if self.is_tls13() && self.sealing.sequence() + 1 >= self.limit {
                self.update_sealing_key(out)?;
            }
            let length = left.min(MAX_CONTENT);
            self.sealing.seal(ContentType::ApplicationData, out, |out| reader.take(length, out))?;
            left -= length;
        }
        Ok(())
    }

    /// Announces a new key of ours and goes over to it (RFC 8446 §4.6.3), without asking for the same.
    fn update_sealing_key(&mut self, out: &mut Vec<u8>) -> Result<(), FatalAlert> {
        let message = [u8::from(HandshakeType::KeyUpdate), 0, 0, 1, 0];
        self.sealing.seal(ContentType::Handshake, out, |out| out.extend_from_slice(&message))?;
        let (sequence, secrets) = self.kernel.update_tx_secret().map_err(|error| no_new_key(&error))?;
        self.sealing = RecordKey::new(true, sequence, &secrets)?;
        self.owes_key_update = false;
        Ok(())
    }

    /// Appends close_notify, once.
    ///
    /// # Errors
    /// It could not be sealed.
    pub(in crate::tls) fn close(&mut self, out: &mut Vec<u8>) -> Result<(), FatalAlert> {
        if self.ends.sent {
            return Ok(());
        }
        self.send_alert(WARNING, AlertDescription::CloseNotify, out)?;
        self.ends.sent = true;
        Ok(())
    }

    /// Appends the alert that tells the server why, where there is one to be told.
    pub(in crate::tls) fn fail(&mut self, fatal: &FatalAlert, out: &mut Vec<u8>) {
        if let Some(alert) = fatal.alert
            && !self.ends.sent
        {
            // Whether it could be sealed or not, nothing follows.
            let _ = self.send_alert(FATAL, alert, out);
            self.ends.sent = true;
        }
    }

    fn send_alert(&mut self, level: u8, alert: AlertDescription, out: &mut Vec<u8>) -> Result<(), FatalAlert> {
        if self.ends.sent {
            return Ok(());
        }
        self.sealing.seal(ContentType::Alert, out, |out| out.extend_from_slice(&[level, u8::from(alert)]))
    }

    #[cfg(test)]
    pub(in crate::tls) fn set_limit(&mut self, limit: u64) {
        self.limit = limit;
    }
}

fn no_new_key(error: &rustls::Error) -> FatalAlert {
    FatalAlert::internal(format!("no new key: {error}"))
}
