//! A TLS server of which nothing is random: each handshake with a cipher suite is byte for byte the one before it, so
//! the same records can be fed to several clients, and a finding repeats.
//!
//! Its records are sealed and opened here from RFC 8446 §5 and RFC 5246 §6, and by none of egret's code.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, OnceLock};

use ::aws_lc_rs::{aead, hkdf};
use egret::io::Lease;
use egret::tls::Session;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    ActiveKeyExchange, CryptoProvider, GetRandomFailed, SecureRandom, SharedSecret, SupportedKxGroup, aws_lc_rs,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::{CertifiedKey, Signer, SigningKey, SingleCertAndKey};
use rustls::{
    ClientConfig, ClientConnection, ConnectionTrafficSecrets, DigitallySignedStruct, Error, KeyLog, NamedGroup,
    ProtocolVersion, ServerConfig, ServerConnection, SignatureAlgorithm, SignatureScheme, SupportedCipherSuite,
};

const SCHEME: SignatureScheme = SignatureScheme::ECDSA_NISTP256_SHA256;

/// The server with one cipher suite.
pub struct Peer {
    pub is_tls13: bool,
    client: Arc<ClientConfig>,
    /// What it says in the handshake, in turn with the client.
    flights: Vec<Vec<u8>>,
    pub sealing: Direction,
    pub opening: Direction,
}

/// Where a direction of an established session begins.
#[derive(Clone)]
pub struct Direction {
    is_tls13: bool,
    algorithm: &'static aead::Algorithm,
    hash: hkdf::Algorithm,
    key: Vec<u8>,
    iv: [u8; 12],
    sequence: u64,
    /// TLS 1.3 only.
    traffic_secret: Vec<u8>,
}

/// All servers: three cipher suites of each version.
pub fn all() -> &'static [Peer] {
    static ALL: OnceLock<Vec<Peer>> = OnceLock::new();
    ALL.get_or_init(|| {
        let ecdsa = |suite: &&SupportedCipherSuite| !format!("{:?}", suite.suite()).contains("_RSA_");
        aws_lc_rs::ALL_CIPHER_SUITES.iter().filter(ecdsa).map(|suite| Peer::new(*suite)).collect()
    })
}

fn name() -> ServerName<'static> {
    "peer.example".try_into().expect("a name")
}

impl Peer {
    fn new(suite: SupportedCipherSuite) -> Self {
        let provider = Arc::new(CryptoProvider {
            cipher_suites: vec![suite],
            kx_groups: vec![&Fixed],
            secure_random: &Fixed,
            ..aws_lc_rs::default_provider()
        });
        let log = Arc::new(Secrets::default());
        let (client, server) = (client_config(&provider, suite), server_config(&provider, suite, &log));
        let (flights, server) = converse(&client, server);
        let is_tls13 = server.protocol_version() == Some(ProtocolVersion::TLSv1_3);
        let hash = if format!("{:?}", suite.suite()).ends_with("384") { hkdf::HKDF_SHA384 } else { hkdf::HKDF_SHA256 };
        let secrets = server.dangerous_extract_secrets().expect("allowed by the configuration");
        let direction = |(sequence, secrets): (u64, ConnectionTrafficSecrets), label| {
            let (algorithm, key, iv) = match &secrets {
                ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&aead::AES_128_GCM, key, iv),
                ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&aead::AES_256_GCM, key, iv),
                ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (&aead::CHACHA20_POLY1305, key, iv),
                _ => panic!("an unknown cipher"),
            };
            let iv = iv.as_ref().try_into().expect("12 bytes");
            let key = key.as_ref()[..algorithm.key_len()].to_vec();
            Direction { is_tls13, algorithm, hash, key, iv, sequence, traffic_secret: log.of(label) }
        };
        let sealing = direction(secrets.tx, "SERVER_TRAFFIC_SECRET_0");
        let opening = direction(secrets.rx, "CLIENT_TRAFFIC_SECRET_0");
        Self { is_tls13, client, flights, sealing, opening }
    }

    /// An established session of egret's.
    pub fn session(&self) -> Session {
        let mut session = Session::new(&self.client, name()).expect("a session");
        for flight in &self.flights {
            let mut plaintext = VecDeque::new();
            session.take_output(&mut Vec::new());
            session.open(Lease::from_vec(flight.clone()), &mut plaintext).expect("the handshake of before");
            assert!(plaintext.is_empty());
        }
        session.take_output(&mut Vec::new());
        assert!(!session.is_handshaking());
        session
    }

    /// An established connection of rustls's own.
    pub fn reference(&self) -> ClientConnection {
        let mut client = ClientConnection::new(Arc::clone(&self.client), name()).expect("a connection");
        for flight in &self.flights {
            say(&mut client, &mut Vec::new());
            hear(&mut client, flight);
        }
        say(&mut client, &mut Vec::new());
        assert!(!client.is_handshaking());
        client
    }
}

fn client_config(provider: &Arc<CryptoProvider>, suite: SupportedCipherSuite) -> Arc<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(Arc::clone(provider)).with_protocol_versions(&[suite.version()]);
    let builder = builder.expect("a version").dangerous().with_custom_certificate_verifier(Arc::new(Fixed));
    let mut config = builder.with_no_client_auth();
    config.resumption = Resumption::disabled();
    config.enable_secret_extraction = true;
    Arc::new(config)
}

fn server_config(provider: &Arc<CryptoProvider>, suite: SupportedCipherSuite, log: &Arc<Secrets>) -> ServerConfig {
    let builder = ServerConfig::builder_with_provider(Arc::clone(provider)).with_protocol_versions(&[suite.version()]);
    let key = CertifiedKey::new(vec![CertificateDer::from(vec![0x30, 0])], Arc::new(Fixed));
    let resolver = Arc::new(SingleCertAndKey::from(key));
    let mut config = builder.expect("a version").with_no_client_auth().with_cert_resolver(resolver);
    config.send_tls13_tickets = 0;
    config.enable_secret_extraction = true;
    config.key_log = Arc::clone(log) as Arc<dyn KeyLog>;
    config
}

/// A handshake; returns the server's part of it.
fn converse(client: &Arc<ClientConfig>, server: ServerConfig) -> (Vec<Vec<u8>>, ServerConnection) {
    let mut client = ClientConnection::new(Arc::clone(client), name()).expect("a connection");
    let mut server = ServerConnection::new(Arc::new(server)).expect("a connection");
    let mut flights = Vec::new();
    while client.is_handshaking() || server.is_handshaking() {
        let (mut question, mut answer) = (Vec::new(), Vec::new());
        say(&mut client, &mut question);
        hear(&mut server, &question);
        say(&mut server, &mut answer);
        hear(&mut client, &answer);
        flights.push(answer);
    }
    (flights, server)
}

fn say<D>(connection: &mut rustls::ConnectionCommon<D>, out: &mut Vec<u8>) {
    while connection.wants_write() {
        connection.write_tls(out).expect("a vector takes all");
    }
}

fn hear<D>(connection: &mut rustls::ConnectionCommon<D>, mut input: &[u8]) {
    while !input.is_empty() {
        connection.read_tls(&mut input).expect("a slice gives all");
        connection.process_new_packets().expect("the handshake succeeds");
    }
}

/// In place of what is random or costly in a handshake.
#[derive(Debug)]
struct Fixed;

impl SecureRandom for Fixed {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), GetRandomFailed> {
        bytes.fill(0x5a);
        Ok(())
    }
}

impl SupportedKxGroup for Fixed {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        Ok(Box::new(Fixed))
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

impl ActiveKeyExchange for Fixed {
    fn complete(self: Box<Self>, _peer: &[u8]) -> Result<SharedSecret, Error> {
        Ok(SharedSecret::from(&[7; 32][..]))
    }

    fn pub_key(&self) -> &[u8] {
        &[9; 32]
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

impl SigningKey for Fixed {
    fn choose_scheme(&self, _offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        Some(Box::new(Fixed))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}

impl Signer for Fixed {
    fn sign(&self, _message: &[u8]) -> Result<Vec<u8>, Error> {
        Ok(vec![1; 64])
    }

    fn scheme(&self) -> SignatureScheme {
        SCHEME
    }
}

impl ServerCertVerifier for Fixed {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SCHEME]
    }
}

/// Traffic secrets, by their labels.
#[derive(Debug, Default)]
struct Secrets(Mutex<Vec<(String, Vec<u8>)>>);

impl Secrets {
    fn of(&self, label: &str) -> Vec<u8> {
        let secrets = self.0.lock().expect("nobody panics with it");
        secrets.iter().find(|(known, _)| known == label).map(|(_, secret)| secret.clone()).unwrap_or_default()
    }
}

impl KeyLog for Secrets {
    fn log(&self, label: &str, _client_random: &[u8], secret: &[u8]) {
        self.0.lock().expect("nobody panics with it").push((label.to_owned(), secret.to_vec()));
    }
}

impl Direction {
    /// One record; zeros behind the content in TLS 1.3 alone.
    pub fn seal(&mut self, kind: u8, content: &[u8], padding: usize) -> Vec<u8> {
        let mut sealed = content.to_vec();
        let explicit: &[u8] = if self.has_explicit_nonce() { &(!self.sequence).to_be_bytes() } else { &[] };
        let outer = if self.is_tls13 { 23 } else { kind };
        if self.is_tls13 {
            sealed.push(kind);
            sealed.resize(sealed.len() + padding, 0);
        }
        let length = (explicit.len() + sealed.len() + 16) as u16;
        let mut record = vec![outer, 3, 3];
        record.extend_from_slice(&length.to_be_bytes());
        let additional = self.additional_data(&record, content.len());
        record.extend_from_slice(explicit);
        let nonce = self.nonce(explicit);
        self.cipher().seal_in_place_append_tag(nonce, aead::Aad::from(additional), &mut sealed).expect("sealed");
        record.append(&mut sealed);
        self.sequence += 1;
        record
    }

    /// Type and content of a whole record; `None` when it is not genuine.
    pub fn open(&mut self, record: &[u8]) -> Option<(u8, Vec<u8>)> {
        let explicit = if self.has_explicit_nonce() { record.get(5..13)? } else { &[] };
        let mut content = record.get(5 + explicit.len()..)?.to_vec();
        let additional = self.additional_data(&record[..5], content.len().checked_sub(16)?);
        let nonce = self.nonce(explicit);
        let length = self.cipher().open_in_place(nonce, aead::Aad::from(additional), &mut content).ok()?.len();
        content.truncate(length);
        self.sequence += 1;
        if !self.is_tls13 {
            return Some((record[0], content));
        }
        content.truncate(content.iter().rposition(|&byte| byte != 0)? + 1);
        Some((content.pop()?, content))
    }

    /// Goes over to the next key (RFC 8446 §7.2).
    pub fn update(&mut self) {
        self.traffic_secret = self.expand("traffic upd", self.traffic_secret.len());
        self.key = self.expand("key", self.key.len());
        self.iv = self.expand("iv", 12).try_into().expect("12 bytes");
        self.sequence = 0;
    }

    fn expand(&self, label: &str, length: usize) -> Vec<u8> {
        struct Length(usize);
        impl hkdf::KeyType for Length {
            fn len(&self) -> usize {
                self.0
            }
        }
        let info = [&(length as u16).to_be_bytes()[..], &[6 + label.len() as u8], b"tls13 ", label.as_bytes(), &[0]];
        let mut out = vec![0; length];
        let secret = hkdf::Prk::new_less_safe(self.hash, &self.traffic_secret);
        secret.expand(&info, Length(length)).and_then(|expanded| expanded.fill(&mut out)).expect("a short output");
        out
    }

    fn has_explicit_nonce(&self) -> bool {
        !self.is_tls13 && self.algorithm != &aead::CHACHA20_POLY1305
    }

    fn cipher(&self) -> aead::LessSafeKey {
        aead::LessSafeKey::new(aead::UnboundKey::new(self.algorithm, &self.key).expect("a key of its length"))
    }

    fn nonce(&self, explicit: &[u8]) -> aead::Nonce {
        let mut nonce = self.iv;
        if explicit.is_empty() {
            nonce[4..].iter_mut().zip(self.sequence.to_be_bytes()).for_each(|(byte, number)| *byte ^= number);
        } else {
            nonce[4..].copy_from_slice(explicit);
        }
        aead::Nonce::assume_unique_for_key(nonce)
    }

    fn additional_data(&self, header: &[u8], length: usize) -> Vec<u8> {
        if self.is_tls13 {
            return header.to_vec();
        }
        [&self.sequence.to_be_bytes()[..], &header[..3], &(length as u16).to_be_bytes()].concat()
    }
}
