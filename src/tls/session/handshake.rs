//! The handshake of a session, which is rustls's: this carries bytes to it and from it, and hands over the keys.
//!
//! rustls is shown one record at a time, and none behind the one that ends the handshake: what follows belongs to
//! `channel`, under keys whose record numbers rustls must not have moved. It refuses to know what is sent afterwards.

use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, UnbufferedStatus};
use rustls::{ClientConfig, HandshakeKind};

use crate::tls::error::TlsError;
use crate::tls::material::client_certificate::take_certificate_wanted;
use crate::tls::request::AlpnProtocol;
use crate::tls::session::alert::FatalAlert;
use crate::tls::session::channel::Channel;
use crate::tls::session::negotiated::Negotiated;
use crate::tls::session::record::HEADER;
use crate::tls::verify::take_cert_error;

/// The most that may be held of one handshake message: its own limit (64 KiB) and a record's worth of framing.
const MAX_HELD: usize = 0xffff + 20 * 1024;

/// A handshake that is going on.
pub(in crate::tls) struct Handshake {
    connection: UnbufferedClientConnection,
    /// Received and not used up.
    input: Vec<u8>,
    /// How much of `input` rustls has been shown: whole records.
    shown: usize,
    /// The server asked for a client certificate and there is none.
    pub(in crate::tls) wants_certificate: bool,
}

/// What rustls came to.
enum Step {
    Again,
    NeedsMore,
    Complete,
}

impl Handshake {
    pub(in crate::tls) fn new(config: &Arc<ClientConfig>, name: ServerName<'static>) -> Result<Self, TlsError> {
        let connection = UnbufferedClientConnection::new(Arc::clone(config), name)
            .map_err(|error| TlsError::from_rustls(error, None, false))?;
        Ok(Self { connection, input: Vec::new(), shown: 0, wants_certificate: false })
    }

    /// Takes in `bytes` and appends what is to be sent to `output`, an alert even when this fails. Returns whether the
    /// handshake is complete.
    ///
    /// # Errors
    /// The handshake failed.
    pub(in crate::tls) fn advance(&mut self, bytes: &[u8], output: &mut Vec<u8>) -> Result<bool, TlsError> {
        self.input.extend_from_slice(bytes);
        loop {
            match self.step(output)? {
                Step::Again => {}
                Step::Complete => return Ok(true),
                Step::NeedsMore => match self.next_record() {
                    Some(end) if end > MAX_HELD => return Err(TlsError::too_much_handshake()),
                    Some(end) => self.shown = end,
                    None => return Ok(false),
                },
            }
        }
    }

    /// The end of the record behind what rustls has been shown, if all of it is there. What is no record ends at once:
    /// rustls says best what is wrong with it.
    fn next_record(&self) -> Option<usize> {
        let rest = &self.input[self.shown..];
        let &[kind, major, _, high, low] = rest.first_chunk::<HEADER>()?;
        let length = usize::from(u16::from_be_bytes([high, low]));
        let is_record = (20..=23).contains(&kind) && major == 3 && length <= (1 << 14) + 2048;
        let end = if is_record { HEADER + length } else { HEADER };
        (end <= rest.len()).then_some(self.shown + end)
    }

    fn step(&mut self, output: &mut Vec<u8>) -> Result<Step, TlsError> {
        take_cert_error();
        take_certificate_wanted();
        let status = self.connection.process_tls_records(&mut self.input[..self.shown]);
        let wants_certificate = self.wants_certificate | take_certificate_wanted();
        let refusal = take_cert_error();
        let UnbufferedStatus { discard, state } = status;
        let step = match state {
            Ok(ConnectionState::EncodeTlsData(data)) => encode(data, output).map(|()| Step::Again),
            Ok(ConnectionState::TransmitTlsData(data)) => {
                data.done();
                Ok(Step::Again)
            }
            Ok(ConnectionState::BlockedHandshake) => Ok(Step::NeedsMore),
            Ok(ConnectionState::WriteTraffic(_)) => Ok(Step::Complete),
            Ok(state) => Err(TlsError::Internal(format!("{state:?} in the handshake"))),
            Err(error) => Err(TlsError::from_rustls(error, refusal, wants_certificate)),
        };
        self.wants_certificate = wants_certificate;
        self.input.drain(..discard);
        self.shown -= discard;
        if step.is_err() {
            self.last_words(output);
        }
        step
    }

    /// The alert that rustls left behind. As long as it has something to send it looks at no input.
    fn last_words(&mut self, output: &mut Vec<u8>) {
        while self.connection.wants_write() {
            let status = self.connection.process_tls_records(&mut self.input[..self.shown]);
            let Ok(ConnectionState::EncodeTlsData(data)) = status.state else { return };
            if encode(data, output).is_err() {
                return;
            }
        }
    }

    /// What was agreed upon so far.
    pub(in crate::tls) fn negotiated(&self) -> Negotiated {
        let connection = &self.connection;
        Negotiated {
            version: connection.protocol_version(),
            cipher_suite: connection.negotiated_cipher_suite(),
            group: connection.negotiated_key_exchange_group().map(rustls::crypto::SupportedKxGroup::name),
            alpn: connection.alpn_protocol().and_then(AlpnProtocol::from_name),
            resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
        }
    }

    /// The established session, and what has arrived for it already.
    ///
    /// # Errors
    /// The handshake is not complete, or its configuration does not hand keys over.
    pub(in crate::tls) fn complete(self) -> Result<(Channel, Vec<u8>), TlsError> {
        let secrets = self.connection.dangerous_into_kernel_connection();
        let (secrets, kernel) = secrets.map_err(|error| TlsError::from_rustls(error, None, false))?;
        let channel =
            Channel::new(secrets, kernel, self.wants_certificate).map_err(|FatalAlert { error, .. }| error)?;
        Ok((channel, self.input))
    }
}

fn encode(
    mut data: EncodeTlsData<'_, rustls::client::ClientConnectionData>,
    output: &mut Vec<u8>,
) -> Result<(), TlsError> {
    let start = output.len();
    let mut room = 1024;
    loop {
        output.resize(start + room, 0);
        match data.encode(&mut output[start..]) {
            Ok(length) => {
                output.truncate(start + length);
                return Ok(());
            }
            Err(EncodeError::InsufficientSize(needed)) if needed.required_size > room => room = needed.required_size,
            Err(error) => {
                output.truncate(start);
                return Err(TlsError::Internal(error.to_string()));
            }
        }
    }
}
