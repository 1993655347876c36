//! TLS servers that a test bends: any chain, client certificates asked for, tickets, and records sealed by hand.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider, sign};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{WantsServerCert, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ConfigBuilder, ConnectionTrafficSecrets, RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use super::pki::Pair;
use super::server::TlsStream;

/// What a server shows and wants.
#[derive(Clone, Debug, Default)]
pub struct Shows {
    /// Certificates, leaf first, and the leaf's key; nothing of it is checked.
    pub chain: String,
    pub key: String,
    /// A CA whose certificates clients must show.
    pub clients: Option<String>,
    pub alpn: Vec<&'static str>,
    pub tls12_only: bool,
}

impl Shows {
    pub fn pair(pair: &Pair) -> Self {
        Self { chain: pair.certificate.clone(), key: pair.key.clone(), ..Self::default() }
    }

    pub fn config(&self) -> ServerConfig {
        let provider = Arc::new(default_provider());
        let versions: &[_] = if self.tls12_only {
            &[&rustls::version::TLS12]
        } else {
            &[&rustls::version::TLS13, &rustls::version::TLS12]
        };
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(versions);
        let builder = self.ask(builder.expect("the provider has both versions"));
        let chain = CertificateDer::pem_slice_iter(self.chain.as_bytes()).collect::<Result<_, _>>();
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).expect("a PEM of ours");
        let key = sign::any_supported_type(&key).expect("a key of ours");
        let certified = CertifiedKey::new(chain.expect("PEMs of ours"), key);
        let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
        config.alpn_protocols = self.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        config
    }

    fn ask(
        &self,
        builder: ConfigBuilder<ServerConfig, rustls::WantsVerifier>,
    ) -> ConfigBuilder<ServerConfig, WantsServerCert> {
        let Some(clients) = &self.clients else { return builder.with_no_client_auth() };
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(clients.as_bytes()) {
            roots.add(certificate.expect("a PEM of ours")).expect("a CA of ours");
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::new(default_provider()));
        builder.with_client_cert_verifier(verifier.build().expect("roots were given"))
    }
}

/// Completes a handshake.
pub fn accept(config: &Arc<ServerConfig>, socket: TcpStream) -> io::Result<TlsStream> {
    let connection = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(connection, socket);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(stream)
}

/// The serial number of the certificate that the client showed.
pub fn client_serial(stream: &TlsStream) -> Option<u64> {
    let certificate = stream.conn.peer_certificates()?.first()?;
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    parsed.raw_serial().iter().try_fold(0_u64, |sum, byte| sum.checked_mul(256)?.checked_add(u64::from(*byte)))
}

/// A TLS 1.3 session whose records the test seals itself, so that it can send what no TLS library would.
pub struct BareServer {
    socket: TcpStream,
    key: LessSafeKey,
    iv: [u8; 12],
    sequence: u64,
}

impl BareServer {
    /// Completes a handshake and waits for the first bytes of a request.
    pub fn accept(shows: &Shows, socket: TcpStream) -> io::Result<Self> {
        let mut provider = default_provider();
        provider.cipher_suites = vec![cipher_suite::TLS13_AES_128_GCM_SHA256];
        let builder = ServerConfig::builder_with_provider(Arc::new(provider));
        let builder = builder.with_protocol_versions(&[&rustls::version::TLS13]).map_err(io::Error::other)?;
        let mut config = builder.with_no_client_auth().with_cert_resolver(shows.config().cert_resolver);
        config.enable_secret_extraction = true;
        config.send_tls13_tickets = 0;
        let mut stream = accept(&Arc::new(config), socket)?;
        if stream.read(&mut [0; 4096])? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let secrets = stream.conn.dangerous_extract_secrets().map_err(io::Error::other)?;
        let (sequence, ConnectionTrafficSecrets::Aes128Gcm { key, iv }) = secrets.tx else {
            return Err(io::Error::other("another cipher suite than the only one"));
        };
        let key = UnboundKey::new(&AES_128_GCM, key.as_ref()).map_err(io::Error::other)?;
        let iv = iv.as_ref().try_into().map_err(io::Error::other)?;
        Ok(Self { socket: stream.sock, key: LessSafeKey::new(key), iv, sequence })
    }

    /// One record of `content_type` (RFC 8446 §5.2), however senseless.
    pub fn record(&mut self, content_type: u8, content: &[u8]) -> Vec<u8> {
        let mut sealed = content.to_vec();
        sealed.push(content_type);
        let length = u16::try_from(sealed.len() + 16).expect("a record's length");
        let [high, low] = length.to_be_bytes();
        let header = [23, 3, 3, high, low];
        let mut nonce = self.iv;
        nonce[4..].iter_mut().zip(self.sequence.to_be_bytes()).for_each(|(byte, with)| *byte ^= with);
        self.sequence += 1;
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.key.seal_in_place_append_tag(nonce, Aad::from(header), &mut sealed).expect("a short record");
        [&header[..], &sealed].concat()
    }

    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.socket.write_all(bytes)
    }

    /// Reads until the client ends.
    pub fn linger(&mut self) -> io::Result<()> {
        io::copy(&mut self.socket, &mut io::sink()).map(drop)
    }
}
