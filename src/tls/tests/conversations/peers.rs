//! Data both ways with every cipher suite, in every size that matters to records, and tickets however they arrive.

use std::io::Write as _;

use rustls::SupportedCipherSuite;
use rustls::crypto::CryptoProvider;

use super::*;

fn server_with(rig: &Rig, suite: SupportedCipherSuite) -> Arc<ServerConfig> {
    let provider = CryptoProvider { cipher_suites: vec![suite], ..provider().as_ref().clone() };
    let builder = ServerConfig::builder_with_provider(Arc::new(provider)).with_protocol_versions(&[suite.version()]);
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(rig.leaf.key.serialize_der()));
    Arc::new(builder.unwrap().with_no_client_auth().with_single_cert(vec![rig.leaf.der()], key).unwrap())
}

#[test]
fn every_cipher_suite_carries_data_both_ways() {
    let rig = Rig::new();
    let mut seen = 0;
    for suite in &provider().cipher_suites {
        // The certificate of these tests has an ECDSA key.
        if format!("{:?}", suite.suite()).contains("_RSA_") {
            continue;
        }
        seen += 1;
        let mut pair = Pair::of(&rig.client(), &server_with(&rig, *suite));
        pair.settle(usize::MAX).unwrap();
        assert_eq!(pair.client.negotiated().cipher_suite, Some(*suite));
        for length in [1, 15, 16, 17, 16_383, 16_384, 16_385, 32_768, 60_000] {
            let data: Vec<u8> = (0..length).map(|index| (index * 31 % 251) as u8).collect();
            let mut wire = b"in front".to_vec();
            pair.client.seal(&[&data[..length / 3], b"", &data[length / 3..]], &mut wire).unwrap();
            let mut rest = &wire[8..];
            let mut heard = Vec::new();
            while !rest.is_empty() {
                pair.server.read_tls(&mut rest).unwrap();
                pair.server.process_new_packets().unwrap();
                heard.extend(pair.at_server());
            }
            assert!(heard == data, "{suite:?} {length}");
            pair.received.clear();
            pair.server.writer().write_all(&data).unwrap();
            pair.settle(1 + length * 3 / 7).unwrap();
            assert!(pair.received == data, "{suite:?} {length}");
        }
    }
    assert_eq!(seen, 6);
}

/// What a server says together with the end of its handshake is opened, and by our own layer.
#[test]
fn data_behind_the_handshake_in_one_piece_is_not_lost() {
    let rig = Rig::new();
    for versions in [&[&version::TLS13][..], &[&version::TLS12]] {
        for piece in [1, 50, usize::MAX] {
            let client = rig.client();
            let mut pair = Pair::of(&client, &rig.server_config(versions, None, &[]));
            // In TLS 1.3 it may speak before the client's Finished; in TLS 1.2 behind its own.
            pair.server.writer().write_all(b"220 ready\r\n").unwrap();
            pair.settle(piece).unwrap();
            assert_eq!(pair.received, b"220 ready\r\n", "{versions:?} {piece}");
            pair.server.writer().write_all(&vec![b'x'; 20_000]).unwrap();
            pair.settle(piece).unwrap();
            assert_eq!(pair.received.len(), 20_011);
        }
    }
}

#[test]
fn tickets_count_however_they_are_split_and_those_of_resumed_sessions_too() {
    let rig = Rig::new();
    for versions in [&[&version::TLS13][..], &[&version::TLS12]] {
        let server = rig.server_config(versions, None, &[]);
        let client = rig.client();
        let config = client.client_config();
        for (round, piece) in [1, 2, 100, usize::MAX, 1].into_iter().enumerate() {
            let mut pair = Pair::new(&config, client.server_name(&host()).unwrap(), &server);
            pair.settle(piece).unwrap();
            assert_eq!(pair.client.negotiated().resumed, round > 0, "{versions:?} {piece}");
        }
    }
}
