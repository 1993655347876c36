//! What is agreed upon in a handshake, and what is said when nothing is.

use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{NamedGroup, ProtocolVersion};

use super::*;
use crate::tls::material::pem;
use crate::tls::tests::pki::OpensslFolder;

#[test]
fn what_is_negotiated_can_be_seen() {
    let rig = Rig::new();
    let mut pair = Pair::of(&rig.client(), &rig.both());
    pair.settle(usize::MAX).unwrap();
    let negotiated = pair.client.negotiated();
    assert_eq!(negotiated.version, Some(ProtocolVersion::TLSv1_3));
    assert_eq!(negotiated.group, Some(NamedGroup::X25519MLKEM768), "post-quantum is preferred");
    assert_eq!(negotiated.alpn, Some(AlpnProtocol::Http1));
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
fn what_is_offered_is_chosen_and_a_server_without_it_is_told_apart() {
    let rig = Rig::new();
    for (offered, spoken, result) in [
        (Alpn::HTTP2, &[&b"h2"[..], b"http/1.1"][..], Ok(Some(AlpnProtocol::Http2))),
        (Alpn::HTTP1, &[b"h2", b"http/1.1"], Ok(Some(AlpnProtocol::Http1))),
        (Alpn::HTTP2_OR_HTTP1, &[b"h2", b"http/1.1"], Ok(Some(AlpnProtocol::Http2))),
        (Alpn::HTTP2_OR_HTTP1, &[b"http/1.1"], Ok(Some(AlpnProtocol::Http1))),
        (Alpn::HTTP2_OR_HTTP1, &[b"spdy/3"], Err("NO_APPLICATION_PROTOCOL")),
        (Alpn::HTTP2, &[], Ok(None)),
        (Alpn::NONE, &[b"h2"], Ok(None)),
        (Alpn::HTTP2, &[b"http/1.1"], Err("NO_APPLICATION_PROTOCOL")),
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

/// A certificate is public: who shows it must have its key, in every mode, X.509 v1 included.
#[test]
fn a_server_without_the_key_of_its_certificate_is_refused_even_unverified() {
    let folder = OpensslFolder::new();
    folder.document_pki();
    let rig = Rig::new();
    let version_1 = folder.certificate("my-nginx.crt");
    let own_key = pem::private_key(&folder.read("my-nginx.key"), "my-nginx.key").unwrap();
    let other_rsa_key = pem::private_key(&folder.read("client.key"), "client.key").unwrap();
    let other_key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(rig.root.issue(&[], |_| {}).key.serialize_der()));
    let unverified = ProfileRequest { trust: TrustSource::Unverified, ..request(NameCheck::ChainOnly) };
    let anyone = ClientProfile::new(unverified, None, None, MinimumVersion::Tls12).unwrap();
    for (what, certificate, key, accepted) in [
        ("version 1 with its key", &version_1, own_key, true),
        ("version 1 with another key", &version_1, other_rsa_key, false),
        ("version 3 with another key", &rig.leaf.der(), other_key, false),
    ] {
        for versions in [&[&version::TLS13][..], &[&version::TLS12]] {
            let key = provider().key_provider.load_private_key(key.clone_key()).unwrap();
            let shown = CertifiedKey::new(vec![certificate.clone()], key);
            let builder = ServerConfig::builder_with_provider(Arc::clone(provider())).with_protocol_versions(versions);
            let builder = builder.unwrap().with_no_client_auth();
            let server = Arc::new(builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(shown))));
            let mut pair = Pair::of(&anyone, &server);
            match (pair.settle(usize::MAX), accepted) {
                (Ok(()), true) => assert!(!pair.client.is_handshaking()),
                (Err(TlsError::Refused(_)), false) => assert!(pair.received.is_empty()),
                (got, _) => panic!("{what}, {versions:?}: {got:?}"),
            }
        }
    }
}
