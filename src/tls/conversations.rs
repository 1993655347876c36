//! Tests of sessions against real rustls servers in memory: what is negotiated, what a person reads when it fails, and
//! what a peer cannot make a session do.

use std::io::{Read as _, Write as _};
use std::sync::Arc;

use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    NamedGroup, ProtocolVersion, RootCertStore, ServerConfig, ServerConnection, SupportedProtocolVersion, version,
};

use super::testing::{Authority, Leaf};
use super::trust::Strictness;
use super::*;
use crate::flow::Host;

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
        alpn: Alpn::Http1,
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
    fn from_server(&mut self) -> Vec<u8> {
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
            let to_client = self.from_server();
            if to_server.is_empty() && to_client.is_empty() {
                return Ok(());
            }
            for part in to_client.chunks(piece) {
                let result = self.client.feed(part, &mut self.received);
                if result.is_err() {
                    return result;
                }
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

#[test]
fn a_conversation_survives_any_split() {
    let rig = Rig::new();
    for versions in [&[&version::TLS13][..], &[&version::TLS12]] {
        for piece in [1, 7, 16_384, usize::MAX] {
            let server = rig.server_config(versions, None, &[b"http/1.1"]);
            let mut pair = Pair::of(&rig.client(), &server);
            pair.settle(piece).unwrap();
            assert!(!pair.client.is_handshaking());
            let mut wire = Vec::new();
            let big = vec![b'x'; 100_000];
            pair.client.seal(&[b"GET / ", &big, b"", b" end"], &mut wire).unwrap();
            let mut rest = wire.as_slice();
            let mut heard = Vec::new();
            while !rest.is_empty() {
                pair.server.read_tls(&mut rest).unwrap();
                pair.server.process_new_packets().unwrap();
                heard.extend(pair.at_server());
            }
            assert_eq!(heard.len(), 100_010);
            assert!(heard.starts_with(b"GET / xx") && heard.ends_with(b"x end"));
            pair.server.writer().write_all(&big[..50_000]).unwrap();
            pair.settle(piece).unwrap();
            assert_eq!(pair.received, &big[..50_000]);
        }
    }
}

#[test]
fn what_is_negotiated_can_be_seen() {
    let rig = Rig::new();
    let mut pair = Pair::of(&rig.client(), &rig.both());
    pair.settle(usize::MAX).unwrap();
    let negotiated = pair.client.negotiated();
    assert_eq!(negotiated.version, Some(ProtocolVersion::TLSv1_3));
    assert_eq!(negotiated.group, Some(NamedGroup::X25519MLKEM768), "post-quantum is preferred");
    assert_eq!(negotiated.alpn, Some(NegotiatedAlpn::Http1));
    assert!(negotiated.cipher_suite.is_some() && !negotiated.resumed);
    assert_eq!(pair.server.server_name(), Some(NAME));
}

#[test]
fn a_session_resumes_within_one_configuration_and_never_from_another() {
    let rig = Rig::new();
    for versions in [&[&version::TLS13][..], &[&version::TLS12]] {
        let server = rig.server_config(versions, None, &[b"http/1.1"]);
        let client = rig.client();
        let (one, other) = (client.client_config(), client.client_config());
        for (config, resumed) in [(&one, false), (&one, true), (&other, false), (&one, true)] {
            let mut pair = Pair::new(config, client.server_name(&host()).unwrap(), &server);
            pair.settle(usize::MAX).unwrap();
            assert_eq!(pair.client.negotiated().resumed, resumed, "{versions:?}");
        }
        let elsewhere = Host::Name("other.example.com".parse().unwrap());
        let chain_only = profile(&rig.root, request(NameCheck::ChainOnly), None);
        let config = chain_only.client_config();
        for (host, resumed) in [(host(), false), (elsewhere, false), (host(), true)] {
            let mut pair = Pair::new(&config, chain_only.server_name(&host).unwrap(), &server);
            pair.settle(usize::MAX).unwrap();
            assert_eq!(pair.client.negotiated().resumed, resumed, "{host}");
        }
    }
}

#[test]
fn sni_is_what_the_profile_says() {
    let rig = Rig::new();
    let address = Host::Ip("192.0.2.1".parse().unwrap());
    let fixed = || SniSource::Fixed("sni.example.com".parse().unwrap());
    for (sni, host, sent) in [
        (SniSource::FromHost, host(), Some(NAME)),
        (SniSource::FromHost, address.clone(), None),
        (fixed(), host(), Some("sni.example.com")),
        (fixed(), address.clone(), Some("sni.example.com")),
        (SniSource::Omit, host(), None),
        (SniSource::Omit, address, None),
    ] {
        let wanted = ProfileRequest { sni: sni.clone(), ..request(NameCheck::ChainOnly) };
        let client = profile(&rig.root, wanted, None);
        let mut pair = Pair::new(&client.client_config(), client.server_name(&host).unwrap(), &rig.both());
        pair.settle(usize::MAX).unwrap();
        assert_eq!(pair.server.server_name(), sent, "{sni:?} {host}");
    }
}

#[test]
fn one_protocol_is_offered_and_a_server_without_it_is_told_apart() {
    let rig = Rig::new();
    for (offered, spoken, result) in [
        (Alpn::Http2, &[&b"h2"[..], b"http/1.1"][..], Ok(Some(NegotiatedAlpn::Http2))),
        (Alpn::Http1, &[b"h2", b"http/1.1"], Ok(Some(NegotiatedAlpn::Http1))),
        (Alpn::Http2, &[], Ok(None)),
        (Alpn::None, &[b"h2"], Ok(None)),
        (Alpn::Http2, &[b"http/1.1"], Err("NO_APPLICATION_PROTOCOL")),
    ] {
        let client = profile(&rig.root, ProfileRequest { alpn: offered, ..request(NameCheck::FromHost) }, None);
        let server = rig.server_config(&[&version::TLS13, &version::TLS12], None, spoken);
        let mut pair = Pair::of(&client, &server);
        match (pair.settle(usize::MAX), result) {
            (Ok(()), Ok(alpn)) => assert_eq!(pair.client.negotiated().alpn, alpn, "{offered:?}"),
            (Err(error), Err(token)) => assert!(error.to_string().contains(token), "{error}"),
            (got, wanted) => panic!("{offered:?} {spoken:?}: {got:?}, wanted {wanted:?}"),
        }
    }
}

#[test]
fn refused_servers_are_told_why_and_so_is_the_log() {
    let rig = Rig::new();
    let stranger = Authority::new("stranger");
    for (client, says) in [
        (profile(&stranger, request(NameCheck::FromHost), None), "CERTIFICATE_VERIFY_FAILED: untrusted issuer"),
        (
            profile(&rig.root, request(NameCheck::Exact(vec!["spiffe://td/x".to_owned()])), None),
            "CERTIFICATE_VERIFY_FAILED: name mismatch: wanted one of spiffe://td/x, the certificate is for api.example.com",
        ),
    ] {
        for versions in [&[&version::TLS13][..], &[&version::TLS12]] {
            let mut pair = Pair::of(&client, &rig.server_config(versions, None, &[]));
            let error = pair.settle(usize::MAX).unwrap_err();
            assert!(error.to_string().contains(says), "{error}");
            let mut alert = Vec::new();
            pair.client.take_output(&mut alert);
            assert!(!alert.is_empty(), "the server is owed an alert");
            let mut out = Vec::new();
            assert_eq!(pair.client.seal(&[b"secret"], &mut out).unwrap_err(), error);
            assert!(out.is_empty() && pair.received.is_empty());
            assert_eq!(pair.client.feed(b"\x17\x03\x03", &mut pair.received).unwrap_err(), error, "it stays over");
        }
    }
}

#[test]
fn client_certificates_are_shown_when_there_is_one_and_missed_in_words_when_there_is_none() {
    let rig = Rig::new();
    let clients = Authority::new("clients");
    let identity = clients.issue(&["client.example.com"], |_| {});
    let mutual = ProfileRequest { mode: ProfileMode::Mutual, ..request(NameCheck::FromHost) };
    let stranger = Authority::new("stranger").issue(&["client.example.com"], |_| {});
    for versions in [&[&version::TLS13][..], &[&version::TLS12]] {
        let server = rig.server_config(versions, Some(&clients), &[]);
        let mut pair = Pair::of(&profile(&rig.root, mutual.clone(), Some(&identity)), &server);
        pair.settle(usize::MAX).unwrap();
        assert_eq!(pair.server.peer_certificates().unwrap(), [identity.der()]);

        let mut pair = Pair::of(&rig.client(), &server);
        let error = pair.settle(usize::MAX).unwrap_err().to_string();
        assert!(error.contains("asked for a client certificate and none is configured"), "{error}");

        let mut pair = Pair::of(&profile(&rig.root, mutual.clone(), Some(&stranger)), &server);
        let error = pair.settle(usize::MAX).unwrap_err().to_string();
        assert!(error.contains("TLSV1_ALERT_UNKNOWN_CA") && !error.contains("none is configured"), "{error}");
    }
}

#[test]
fn the_minimum_version_holds() {
    let rig = Rig::new();
    let strict =
        ClientProfile::new(request(NameCheck::FromHost), Some(trust(&rig.root)), None, MinimumVersion::Tls13).unwrap();
    let mut pair = Pair::of(&strict, &rig.server_config(&[&version::TLS12], None, &[]));
    let error = pair.settle(usize::MAX).unwrap_err().to_string();
    assert!(error.contains("PROTOCOL_VERSION"), "{error}");
}

#[test]
fn a_server_that_does_not_speak_tls_is_recognised_and_its_bytes_go_nowhere() {
    let rig = Rig::new();
    for (spoken, says) in [
        (&b"HTTP/1.1 400 Bad Request\r\n\r\nsecret"[..], "plain HTTP"),
        (b"SSH-2.0-x\r\n", "SSH"),
        (b"220 smtp ready\r\n", "SMTP"),
        (b"\0\0\x12\x04\0\0\0\0\0", "plain HTTP/2"),
        (b"\xde\xad\xbe\xef", "another protocol"),
    ] {
        let mut pair = Pair::of(&rig.client(), &rig.both());
        let error = pair.client.feed(spoken, &mut pair.received).unwrap_err().to_string();
        assert!(error.contains("WRONG_VERSION_NUMBER") && error.contains(says), "{error}");
        assert!(pair.received.is_empty());
    }
}

/// nginx CVE-2026-1642: an answer in the clear before a proper handshake must not reach anybody.
#[test]
fn plaintext_before_the_handshake_ends_the_session() {
    let rig = Rig::new();
    let mut pair = Pair::of(&rig.client(), &rig.both());
    // An application data record in the clear, well formed in every other way.
    let injected = b"\x17\x03\x03\x00\x13HTTP/1.1 200 OK\r\n\r\n";
    let error = pair.client.feed(injected, &mut pair.received).unwrap_err();
    assert!(matches!(error, TlsError::Protocol { .. }), "{error}");
    assert!(pair.received.is_empty());
    assert!(pair.settle(usize::MAX).is_err());
    assert!(pair.received.is_empty());
}

#[test]
fn a_clean_end_and_a_truncation_are_told_apart() {
    let rig = Rig::new();
    let mut pair = Pair::of(&rig.client(), &rig.both());
    assert!(matches!(pair.client.end(), Err(TlsError::ClosedInHandshake { .. })));
    pair.settle(usize::MAX).unwrap();
    pair.server.writer().write_all(b"body").unwrap();
    pair.settle(usize::MAX).unwrap();
    assert_eq!(pair.client.end(), Err(TlsError::Truncated));
    pair.server.send_close_notify();
    pair.settle(usize::MAX).unwrap();
    assert!(pair.client.peer_closed());
    assert_eq!(pair.client.end(), Ok(()));
    // TLS 1.3 lets the other direction live on (RFC 8446 §6.1).
    let mut wire = Vec::new();
    pair.client.seal(&[b"still here"], &mut wire).unwrap();
    pair.client.close(&mut wire);
    pair.server.read_tls(&mut wire.as_slice()).unwrap();
    let state = pair.server.process_new_packets().unwrap();
    assert_eq!(pair.at_server(), b"still here");
    assert!(state.peer_has_closed());
}

#[test]
fn bytes_after_close_notify_are_not_data() {
    let rig = Rig::new();
    let mut pair = Pair::of(&rig.client(), &rig.both());
    pair.settle(usize::MAX).unwrap();
    pair.server.send_close_notify();
    let mut wire = pair.from_server();
    wire.extend_from_slice(b"HTTP/1.1 200 OK\r\n\r\n");
    pair.client.feed(&wire, &mut pair.received).unwrap();
    pair.client.feed(b"more", &mut pair.received).unwrap();
    assert!(pair.client.peer_closed() && pair.received.is_empty());
}

#[test]
fn altered_records_end_the_session_and_what_came_before_stays() {
    let rig = Rig::new();
    let mut pair = Pair::of(&rig.client(), &rig.both());
    pair.settle(usize::MAX).unwrap();
    pair.server.writer().write_all(b"good").unwrap();
    let mut wire = pair.from_server();
    pair.server.writer().write_all(b"bad").unwrap();
    let good = wire.len();
    wire.extend(pair.from_server());
    let last = wire.len() - 1;
    wire[last] ^= 1;
    let error = pair.client.feed(&wire, &mut pair.received).unwrap_err().to_string();
    assert!(error.contains("BAD_RECORD_MAC"), "{error}");
    assert!(good > 0 && pair.received == b"good");
}

#[test]
fn key_updates_in_both_directions_change_nothing_for_the_application() {
    let rig = Rig::new();
    let mut pair = Pair::of(&rig.client(), &rig.server_config(&[&version::TLS13], None, &[]));
    pair.settle(usize::MAX).unwrap();
    let mut sent = Vec::new();
    for round in 0..200u32 {
        // The server asks for an update every time; the client's answer goes with what it sends next.
        pair.server.refresh_traffic_keys().unwrap();
        let part = vec![round as u8; 16 * 1024];
        pair.server.writer().write_all(&part).unwrap();
        sent.extend_from_slice(&part);
        pair.settle(5000).unwrap();
        let mut wire = Vec::new();
        pair.client.seal(&[b"ack"], &mut wire).unwrap();
        pair.server.read_tls(&mut wire.as_slice()).unwrap();
        pair.server.process_new_packets().unwrap();
        assert_eq!(pair.at_server(), b"ack");
    }
    assert!(pair.received == sent);
}

#[test]
fn oversized_records_are_refused() {
    let rig = Rig::new();
    let mut pair = Pair::of(&rig.client(), &rig.both());
    pair.settle(usize::MAX).unwrap();
    let length = (16_384u16 + 257).to_be_bytes();
    let mut wire = vec![0x17, 3, 3, length[0], length[1]];
    wire.resize(5 + 16_384 + 257, 0);
    assert!(matches!(pair.client.feed(&wire, &mut pair.received), Err(TlsError::Protocol { .. })));
    let mut alert = Vec::new();
    pair.client.take_output(&mut alert);
    assert!(!alert.is_empty() && pair.received.is_empty());
}

#[test]
fn nothing_shows_a_private_key() {
    let rig = Rig::new();
    let identity = rig.root.issue(&["client.example.com"], |_| {});
    let mutual = ProfileRequest { mode: ProfileMode::Mutual, ..request(NameCheck::FromHost) };
    let profile = profile(&rig.root, mutual, Some(&identity));
    let shown =
        format!("{profile:?} {:?}", Session::new(&profile.client_config(), profile.server_name(&host()).unwrap()));
    let pem = identity.key_pem();
    for line in pem.lines().filter(|line| !line.starts_with('-')) {
        assert!(!shown.contains(line));
    }
    assert!(shown.contains("subject"), "{shown}");
}

#[test]
fn a_digest_tells_profiles_apart_by_everything_that_matters() {
    let rig = Rig::new();
    let identity = rig.root.issue(&["a.example.com"], |_| {});
    let base = || request(NameCheck::FromHost);
    let mutual = || ProfileRequest { mode: ProfileMode::Mutual, ..base() };
    let exact = |names: &[&str]| request(NameCheck::Exact(names.iter().map(|n| (*n).to_owned()).collect()));
    let profiles = [
        profile(&rig.root, base(), None),
        profile(&Authority::new("root"), base(), None),
        profile(&rig.root, request(NameCheck::ChainOnly), None),
        profile(&rig.root, exact(&["a"]), None),
        profile(&rig.root, exact(&["a", "b"]), None),
        profile(&rig.root, exact(&["a\", \"b"]), None),
        profile(&rig.root, ProfileRequest { alpn: Alpn::Http2, ..base() }, None),
        profile(&rig.root, ProfileRequest { sni: SniSource::Omit, ..base() }, None),
        profile(&rig.root, mutual(), Some(&identity)),
        profile(&rig.root, mutual(), Some(&rig.root.issue(&["a.example.com"], |_| {}))),
        ClientProfile::new(base(), Some(trust(&rig.root)), None, MinimumVersion::Tls13).unwrap(),
        ClientProfile::new(base(), None, None, MinimumVersion::Tls12).unwrap(),
    ];
    for (at, one) in profiles.iter().enumerate() {
        for other in &profiles[at + 1..] {
            assert_ne!(one.digest(), other.digest(), "{one:?} {other:?}");
        }
    }
    assert_eq!(profiles[0].digest(), profile(&rig.root, base(), None).digest());
    // SIMPLE never shows a certificate, even if one lies about.
    assert_eq!(profiles[0].digest(), profile(&rig.root, base(), Some(&identity)).digest());
}

#[test]
fn contradictory_requests_are_refused() {
    let rig = Rig::new();
    let fixed = SniSource::Fixed(NAME.parse().unwrap());
    let make = |request| ClientProfile::new(request, Some(trust(&rig.root)), None, MinimumVersion::Tls12).unwrap_err();
    let from_host = ProfileRequest { sni: fixed, ..request(NameCheck::FromHost) };
    assert_eq!(make(from_host), ProfileError::FixedSniFromHost);
    assert_eq!(make(request(NameCheck::Exact(Vec::new()))), ProfileError::NoNames);
    let mutual = ProfileRequest { mode: ProfileMode::Mutual, ..request(NameCheck::FromHost) };
    assert_eq!(make(mutual), ProfileError::NoIdentity);
    let profile = rig.client();
    assert!(profile.server_name(&Host::Name("-a.example.com".parse().unwrap())).is_err());
}
