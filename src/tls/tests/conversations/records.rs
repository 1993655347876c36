//! Application data, endings and what a peer may not do.

use std::io::Write as _;

use super::*;

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
    let mut wire = pair.server_output();
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
    let mut wire = pair.server_output();
    pair.server.writer().write_all(b"bad").unwrap();
    let good = wire.len();
    wire.extend(pair.server_output());
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
