//! Tests of sessions against real rustls servers in memory: what is negotiated, what a person reads when it fails, and
//! what a peer cannot make a session do.

use std::collections::VecDeque;
use std::io::Read as _;
use std::sync::Arc;

use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, SupportedProtocolVersion, version};

use crate::flow::Host;
use crate::io::Lease;
use crate::tls::provider::provider;
use crate::tls::tests::pki::{Authority, Leaf};
use crate::tls::verify::trust::Strictness;
use crate::tls::*;

mod established;
mod handshakes;
mod peers;
mod profiles;
mod records;

const NAME: &str = "api.example.com";

fn host() -> Host {
    Host::Name(NAME.parse().unwrap())
}

fn request(names: NameCheck) -> ProfileRequest {
    ProfileRequest {
        mode: ProfileMode::Simple,
        trust: TrustSource::System,
        identity: None,
        names,
        sni: SniSource::FromHost,
        alpn: Alpn::HTTP1,
    }
}

fn trust(authority: &Authority) -> Arc<Trust> {
    Arc::new(Trust::from_pem((authority.pem().as_bytes(), "ca.pem"), None, Strictness::Explicit).unwrap())
}

fn profile(authority: &Authority, request: ProfileRequest, identity: Option<&Leaf>) -> ClientProfile {
    let identity = identity.map(|leaf| {
        let (chain, key) = (leaf.pem(), leaf.key_pem());
        Arc::new(Identity::from_pem((chain.as_bytes(), "tls.crt"), (key.as_bytes(), "tls.key")).unwrap())
    });
    ClientProfile::new(request, Some(trust(authority)), identity, MinimumVersion::Tls12).unwrap()
}

struct Rig {
    root: Authority,
    leaf: Leaf,
}

impl Rig {
    fn new() -> Self {
        let root = Authority::new("root");
        let leaf = root.issue(&[NAME], |_| {});
        Self { root, leaf }
    }

    fn server_config(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        clients: Option<&Authority>,
        alpn: &[&[u8]],
    ) -> Arc<ServerConfig> {
        let builder =
            ServerConfig::builder_with_provider(Arc::clone(provider())).with_protocol_versions(versions).unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add(authority.der()).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider()))
                    .build()
                    .unwrap();
                builder.with_client_cert_verifier(verifier)
            }
        };
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.leaf.key.serialize_der()));
        let mut config = builder.with_single_cert(vec![self.leaf.der()], key).unwrap();
        // So that a test can send what no rustls server would.
        config.enable_secret_extraction = true;
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        Arc::new(config)
    }

    fn both(&self) -> Arc<ServerConfig> {
        self.server_config(&[&version::TLS13, &version::TLS12], None, &[b"http/1.1"])
    }

    fn client(&self) -> ClientProfile {
        profile(&self.root, request(NameCheck::FromHost), None)
    }
}

impl Session {
    /// As [`open`](Session::open), for bytes that lie anywhere.
    fn feed(&mut self, ciphertext: &[u8], plaintext: &mut Vec<u8>) -> Result<(), TlsError> {
        let mut opened = VecDeque::new();
        let result = self.open(Lease::from_vec(ciphertext.to_vec()), &mut opened);
        for lease in &opened {
            plaintext.extend_from_slice(lease);
        }
        result
    }
}

/// A session and a server, joined by two buffers.
struct Pair {
    client: Session,
    server: ServerConnection,
    received: Vec<u8>,
}

impl Pair {
    fn new(
        config: &Arc<rustls::ClientConfig>,
        name: rustls::pki_types::ServerName<'static>,
        server: &Arc<ServerConfig>,
    ) -> Self {
        let client = Session::new(config, name).unwrap();
        Self { client, server: ServerConnection::new(Arc::clone(server)).unwrap(), received: Vec::new() }
    }

    fn of(profile: &ClientProfile, server: &Arc<ServerConfig>) -> Self {
        Self::new(&profile.client_config(), profile.server_name(&host()).unwrap(), server)
    }

    /// What the server has to send.
    fn server_output(&mut self) -> Vec<u8> {
        let mut wire = Vec::new();
        while self.server.wants_write() {
            self.server.write_tls(&mut wire).unwrap();
        }
        wire
    }

    /// Carries bytes both ways, to the client in pieces of `piece`, until nobody has any.
    fn settle(&mut self, piece: usize) -> Result<(), TlsError> {
        loop {
            let mut to_server = Vec::new();
            self.client.take_output(&mut to_server);
            let mut rest = to_server.as_slice();
            while !rest.is_empty() {
                self.server.read_tls(&mut rest).unwrap();
                // A server's own refusal shows in what it sends.
                let _ = self.server.process_new_packets();
            }
            let to_client = self.server_output();
            if to_server.is_empty() && to_client.is_empty() {
                return Ok(());
            }
            for part in to_client.chunks(piece) {
                self.client.feed(part, &mut self.received)?;
            }
        }
    }

    /// Bytes that the server has received from the client.
    fn at_server(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        let mut part = [0; 4096];
        while let Ok(length @ 1..) = self.server.reader().read(&mut part) {
            all.extend_from_slice(&part[..length]);
        }
        all
    }
}
