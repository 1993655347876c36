//! What a server that has all the keys can do to an established session, record by record: it is forged here from the
//! secrets of a real one.

use std::io::Write as _;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use rustls::{ClientConnection, ContentType};

use super::*;
use crate::tls::session::record::{self, RecordKey};

const TLS13: &[&SupportedProtocolVersion] = &[&version::TLS13];
const TLS12: &[&SupportedProtocolVersion] = &[&version::TLS12];

const DATA: ContentType = ContentType::ApplicationData;
const HANDSHAKE: ContentType = ContentType::Handshake;
const ALERT: ContentType = ContentType::Alert;
/// With this as its content type, the content of a TLS 1.3 record ends in its own type and padding.
const PADDING: ContentType = ContentType::Unknown(0);

/// The server's end of the keys.
struct Forger {
    sealing: RecordKey,
    opening: RecordKey,
}

impl Forger {
    fn new(server: ServerConnection) -> Self {
        let is_tls13 = server.protocol_version() == Some(rustls::ProtocolVersion::TLSv1_3);
        let secrets = server.dangerous_extract_secrets().unwrap();
        let key = |(number, secrets)| RecordKey::new(is_tls13, number, &secrets).unwrap();
        Self { sealing: key(secrets.tx), opening: key(secrets.rx) }
    }

    fn seal(&mut self, kind: ContentType, content: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        self.sealing.seal(kind, &mut out, |out| out.extend_from_slice(content)).unwrap();
        out
    }

    /// Types and contents of the records in `wire`.
    fn open(&mut self, mut wire: Vec<u8>) -> Vec<(ContentType, Vec<u8>)> {
        let mut found = Vec::new();
        while let Some(length) = record::record_length(&wire).unwrap() {
            let (kind, content) = self.opening.open(&mut wire[..length]).unwrap();
            found.push((kind, wire[content].to_vec()));
            wire.drain(..length);
        }
        assert!(wire.is_empty());
        found
    }
}

fn established(rig: &Rig, versions: &[&'static SupportedProtocolVersion]) -> (Session, Forger) {
    let mut pair = Pair::of(&rig.client(), &rig.server_config(versions, None, &[]));
    pair.settle(usize::MAX).unwrap();
    (pair.client, Forger::new(pair.server))
}

/// One record of each.
type Script<'a> = &'a [(ContentType, &'a [u8])];

/// The outcome of a script: plaintext, error, and what is answered.
fn play(rig: &Rig, versions: &[&'static SupportedProtocolVersion], script: Script<'_>) -> Outcome {
    let (mut client, mut forger) = established(rig, versions);
    let wire: Vec<u8> = script.iter().flat_map(|(kind, content)| forger.seal(*kind, content)).collect();
    let mut plaintext = Vec::new();
    let error = client.feed(&wire, &mut plaintext).err().map(|error| error.to_string());
    let mut answer = Vec::new();
    client.take_output(&mut answer);
    let lacks_renegotiation = client.lacks_renegotiation();
    Outcome { lacks_renegotiation, plaintext, error, answer: forger.open(answer) }
}

struct Outcome {
    lacks_renegotiation: bool,
    plaintext: Vec<u8>,
    error: Option<String>,
    answer: Vec<(ContentType, Vec<u8>)>,
}

/// What must end a session, with the words for the log and the alert for the server (RFC 8446 §6).
#[test]
fn what_may_not_come_ends_the_session_and_both_sides_learn_why() {
    let rig = Rig::new();
    let (unexpected, decode, overflow) = (Some(10), Some(50), Some(22));
    let huge = vec![0; (1 << 14) + 1];
    let overpadded = [&[23][..], &[0; 1 << 14]].concat();
    let five_warnings = [(ALERT, &[1, 112][..]); 5];
    let empty = [(DATA, &b""[..]); 33];
    let ticket = [&b"\x04\0\x0f\xf3\0\0\x0e\x10\0\0\0\0\0\x0f\xe6"[..], &[b't'; 0xfe6], &[0, 0]].concat();
    let tickets = [(HANDSHAKE, &ticket[..]); 17];
    let cases: &[(&[&SupportedProtocolVersion], Script<'_>, &str, Option<u8>)] = &[
        (TLS13, &tickets, "EXCESSIVE_MESSAGE_SIZE", unexpected),
        (TLS13, &[(HANDSHAKE, &[13, 0, 0, 3, 0, 0, 0])], "CertificateRequest message after", unexpected),
        (TLS13, &[(HANDSHAKE, &[0, 0, 0, 0])], "HelloRequest message after", unexpected),
        (TLS12, &[(HANDSHAKE, &[0, 0, 0, 1, 0])], "HelloRequest message after", unexpected),
        (TLS12, &[(HANDSHAKE, &[4, 0, 0, 0])], "NewSessionTicket message after", unexpected),
        (TLS12, &[(HANDSHAKE, &[24, 0, 0, 1, 0])], "KeyUpdate message after", unexpected),
        (TLS12, &[(HANDSHAKE, &[1, 0, 0, 0])], "ClientHello message after", unexpected),
        (TLS13, &[(HANDSHAKE, &[4, 0, 0, 2, 0, 0])], "BAD_HANDSHAKE_MESSAGE", decode),
        (TLS13, &[(HANDSHAKE, &[24, 0, 0, 1, 2])], "a key update", decode),
        (TLS13, &[(HANDSHAKE, &[24, 0, 0, 0])], "a key update", decode),
        (TLS13, &[(HANDSHAKE, &[24, 0, 0, 1, 0, 24])], "behind a key update", unexpected),
        (TLS13, &[(HANDSHAKE, &[4, 0xff, 0xff, 0xff])], "more than 64 KiB", decode),
        (TLS13, &[(HANDSHAKE, &[4, 0]), (DATA, b"x")], "in the middle of a handshake message", unexpected),
        (TLS13, &[(HANDSHAKE, &[4, 0]), (DATA, b"")], "in the middle of a handshake message", unexpected),
        (TLS12, &[(HANDSHAKE, &[0]), (ALERT, &[1, 0])], "in the middle of a handshake message", unexpected),
        (TLS13, &[(HANDSHAKE, b"")], "an empty handshake record", unexpected),
        (TLS13, &[(ContentType::ChangeCipherSpec, &[1])], "ChangeCipherSpec record after", unexpected),
        (TLS12, &[(ContentType::ChangeCipherSpec, &[1])], "ChangeCipherSpec record after", unexpected),
        (TLS13, &[(ContentType::Heartbeat, &[1])], "Heartbeat record after", unexpected),
        (TLS13, &[(PADDING, &[0, 0, 0])], "without a content type", unexpected),
        (TLS13, &[(DATA, &huge)], "DATA_LENGTH_TOO_LONG", overflow),
        (TLS12, &[(DATA, &huge)], "DATA_LENGTH_TOO_LONG", overflow),
        (TLS13, &[(PADDING, &overpadded)], "DATA_LENGTH_TOO_LONG", overflow),
        (TLS13, &empty, "too many empty records", unexpected),
        (TLS12, &empty, "too many empty records", unexpected),
        (TLS12, &five_warnings, "too many warnings", unexpected),
        (TLS13, &[(ALERT, b"")], "an alert", decode),
        (TLS13, &[(ALERT, &[1])], "an alert", decode),
        (TLS12, &[(ALERT, &[1, 0, 0])], "an alert", decode),
        (TLS13, &[(ALERT, &[3, 0])], "an alert", decode),
        (TLS13, &[(ALERT, &[2, 48])], "TLSV1_ALERT_UNKNOWN_CA", None),
        (TLS13, &[(ALERT, &[1, 80])], "ALERT", None),
        (TLS12, &[(ALERT, &[2, 40])], "SSLV3_ALERT_HANDSHAKE_FAILURE", None),
    ];
    for &(versions, script, words, alert) in cases {
        let script: Vec<_> = [(DATA, &b"before"[..])].into_iter().chain(script.iter().copied()).collect();
        let script: Vec<_> = script.into_iter().chain([(DATA, &b"after"[..])]).collect();
        let outcome = play(&rig, versions, &script);
        let what = format!("{versions:?} {words}");
        let error = outcome.error.unwrap_or_else(|| panic!("{what} was accepted"));
        assert!(error.contains(words), "{what}: {error}");
        assert_eq!(outcome.plaintext, b"before", "{what}");
        let told = alert.map(|alert| (ALERT, vec![2, alert]));
        assert_eq!(outcome.answer, Vec::from_iter(told), "{what}");
    }
}

#[test]
fn what_may_come_changes_nothing_for_the_application() {
    let rig = Rig::new();
    let full = vec![b'x'; 1 << 14];
    // The padding counts (RFC 8446 §5.4); one zero is the forged content type.
    let full_padded = [&full[..16_000], &[23], &[0; 383]].concat();
    let nearly_full = [&full[..16_383], &[23]].concat();
    let empty = [(DATA, &b""[..]); 32];
    let cases: &[(&[&SupportedProtocolVersion], Script<'_>)] = &[
        (TLS13, &[(PADDING, b"a\x17\0\0\0"), (PADDING, b"\x17\0"), (PADDING, b"bc\x17")]),
        (TLS13, &[(PADDING, &full_padded)]),
        (TLS13, &[(PADDING, &nearly_full), (DATA, &full)]),
        (TLS12, &[(DATA, &full)]),
        (TLS13, &empty),
        (TLS12, &empty),
        (TLS13, &[(ALERT, &[1, 90])]),
        (TLS12, &[(ALERT, &[1, 90]), (ALERT, &[1, 112])]),
    ];
    for &(versions, script) in cases {
        let script: Vec<_> = script.iter().copied().chain([(DATA, &b"end"[..]), (ALERT, &[1, 0])]).collect();
        let outcome = play(&rig, versions, &script);
        assert_eq!(outcome.error, None, "{versions:?}");
        assert!(outcome.plaintext.ends_with(b"end") && outcome.answer.is_empty());
        assert!(outcome.plaintext.iter().all(|byte| b"abcxend".contains(byte)), "padding is no data");
    }
    // A renegotiation is refused politely once (RFC 5246 §7.2.2).
    let outcome = play(&rig, TLS12, &[(HANDSHAKE, &[0, 0, 0, 0]), (DATA, b"end")]);
    assert_eq!((outcome.error, outcome.answer), (None, vec![(ALERT, vec![1, 100])]));
    assert!(!outcome.lacks_renegotiation, "it went on without");
    assert!(play(&rig, TLS12, &[(DATA, b"x"), (HANDSHAKE, &[0, 0, 0, 0]), (ALERT, &[1, 0])]).lacks_renegotiation);
    let outcome = play(&rig, TLS12, &[(HANDSHAKE, &[0; 8]), (DATA, b"end")]);
    assert!(outcome.error.is_some() && outcome.plaintext.is_empty());
}

#[test]
fn records_and_messages_may_be_split_at_every_byte() {
    let rig = Rig::new();
    // Lifetime, age, nonce, ticket, extensions (RFC 8446 §4.6.1).
    let ticket = b"\x04\0\0\x12\0\0\x0e\x10\0\0\0\0\x01\0\0\x04tick\0\0";
    for versions in [TLS13, TLS12] {
        let mut wire_length = usize::MAX;
        let mut at = 0;
        while at <= wire_length {
            let (mut client, mut forger) = established(&rig, versions);
            let mut wire = forger.seal(DATA, b"one");
            if versions == TLS13 {
                wire.extend(forger.seal(HANDSHAKE, &ticket[..3]));
                wire.extend(forger.seal(HANDSHAKE, &[&ticket[3..], &ticket[..]].concat()));
            }
            wire.extend(forger.seal(DATA, b""));
            wire.extend(forger.seal(DATA, b"two"));
            wire.extend(forger.seal(ALERT, &[1, 0]));
            wire_length = wire.len();
            let mut plaintext = Vec::new();
            client.feed(&wire[..at], &mut plaintext).unwrap();
            assert!(!client.peer_closed() || at == wire_length);
            client.feed(&wire[at..], &mut plaintext).unwrap();
            assert!(plaintext == b"onetwo" && client.peer_closed(), "{versions:?} {at}");
            at += 1;
        }
    }
}

/// A record that arrives whole goes on in the very bytes that it arrived in.
#[test]
fn whole_records_are_opened_where_they_lie() {
    let rig = Rig::new();
    for versions in [TLS13, TLS12] {
        let (mut client, mut forger) = established(&rig, versions);
        let contents = [vec![b'a'; 10], vec![b'b'; 16_384], vec![b'c'; 3]];
        let wire: Vec<u8> = contents.iter().flat_map(|content| forger.seal(DATA, content)).collect();
        let lease = Lease::from_vec(wire);
        let inside = lease.as_ptr_range();
        let mut opened = VecDeque::new();
        client.open(lease, &mut opened).unwrap();
        assert_eq!(opened.len(), 3);
        for (plaintext, content) in opened.iter().zip(&contents) {
            assert!(plaintext[..] == content[..]);
            assert!(inside.contains(&plaintext.as_ptr()), "copied");
        }
    }
}

#[test]
fn key_update_storms_are_ended_and_asked_for_updates_answered_once() {
    let rig = Rig::new();
    let mut pair = Pair::of(&rig.client(), &rig.server_config(TLS13, None, &[]));
    pair.settle(usize::MAX).unwrap();
    let mut sent = Vec::new();
    for round in 0..500 {
        // With data in between there may be any number; nothing may pile up for a server that does not read.
        pair.server.refresh_traffic_keys().unwrap();
        pair.server.writer().write_all(&[round as u8]).unwrap();
        sent.push(round as u8);
        let wire = pair.server_output();
        pair.client.feed(&wire, &mut pair.received).unwrap();
        let mut answer = Vec::new();
        pair.client.take_output(&mut answer);
        assert!(answer.is_empty(), "answered with what is sent next");
    }
    assert_eq!(pair.received, sent);
    let mut wire = Vec::new();
    pair.client.seal(&[b"ack"], &mut wire).unwrap();
    assert!(wire.len() < 60, "one key update and one record, not {} bytes", wire.len());
    pair.server.read_tls(&mut wire.as_slice()).unwrap();
    pair.server.process_new_packets().unwrap();
    assert_eq!(pair.at_server(), b"ack");

    let mut ended = None;
    for _ in 0..33 {
        pair.server.refresh_traffic_keys().unwrap();
        let wire = pair.server_output();
        ended = pair.client.feed(&wire, &mut pair.received).err();
    }
    assert!(ended.is_some_and(|error| error.to_string().contains("too many key updates")));
}

#[test]
fn keys_are_replaced_or_given_up_before_they_are_worn_out() {
    let rig = Rig::new();
    let mut pair = Pair::of(&rig.client(), &rig.server_config(TLS13, None, &[]));
    pair.settle(usize::MAX).unwrap();
    pair.client.set_record_limit(3);
    let data = vec![b'x'; 200_000];
    let mut wire = Vec::new();
    pair.client.seal(&[&data], &mut wire).unwrap();
    let updates = wire.len() - data.len() - data.len().div_ceil(16_384) * 22;
    assert_eq!(updates % 27, 0);
    assert!(updates / 27 >= 5, "a key for two records each");
    assert!(!pair.client.is_worn());
    let mut heard = 0;
    let mut rest = wire.as_slice();
    while !rest.is_empty() {
        pair.server.read_tls(&mut rest).unwrap();
        pair.server.process_new_packets().unwrap();
        heard += pair.at_server().len();
    }
    assert_eq!(heard, data.len());

    let (mut client, mut forger) = established(&rig, TLS12);
    client.set_record_limit(20);
    let mut wire = Vec::new();
    while !client.is_worn() {
        client.seal(&[b"x"], &mut wire).unwrap();
    }
    // What is more than the reserve is refused before any of it is sent, and the server is told in order.
    let error = client.seal(&[&data], &mut wire).unwrap_err();
    assert!(error.to_string().contains("one TLS 1.2 key"), "{error}");
    assert_eq!(client.seal(&[b"x"], &mut wire).unwrap_err(), error);
    let heard = forger.open(wire);
    assert_eq!(heard.last().unwrap(), &(ALERT, vec![1, 0]));
    assert!(heard.iter().all(|(_, content)| content.len() <= 2), "{heard:?}");
}

#[test]
fn nothing_is_sealed_after_close_notify() {
    let rig = Rig::new();
    for versions in [TLS13, TLS12] {
        let (mut client, mut forger) = established(&rig, versions);
        let mut wire = Vec::new();
        client.seal(&[b"GET ", b"/"], &mut wire).unwrap();
        client.close(&mut wire);
        client.close(&mut wire);
        assert!(client.seal(&[b"x"], &mut wire).is_err());
        let wanted = vec![(DATA, b"GET /".to_vec()), (ALERT, vec![1, 0])];
        assert_eq!(forger.open(wire), wanted, "pieces share a record");
    }
}

/// rustls's own connection, which reads what our session reads.
fn rustls_reads(connection: &mut ClientConnection, mut wire: &[u8]) -> (Vec<u8>, bool) {
    let mut plaintext = Vec::new();
    let mut fine = true;
    while fine && !wire.is_empty() {
        connection.read_tls(&mut wire).unwrap();
        let state = connection.process_new_packets();
        fine = state.is_ok();
        // The end of a closed connection is an error of reading, not of the session.
        let _ = connection.reader().read_to_end(&mut plaintext);
        if state.is_ok_and(|state| state.peer_has_closed()) {
            break;
        }
    }
    (plaintext, fine)
}

/// The same server for rustls itself.
fn reference(rig: &Rig, versions: &[&'static SupportedProtocolVersion]) -> (ClientConnection, Forger) {
    let client = rig.client();
    let name = client.server_name(&host()).unwrap();
    let mut connection = ClientConnection::new(client.client_config(), name).unwrap();
    let mut server = ServerConnection::new(rig.server_config(versions, None, &[])).unwrap();
    loop {
        let (mut there, mut back) = (Vec::new(), Vec::new());
        connection.write_tls(&mut there).unwrap();
        server.read_tls(&mut there.as_slice()).unwrap();
        server.process_new_packets().unwrap();
        while server.wants_write() {
            server.write_tls(&mut back).unwrap();
        }
        if there.is_empty() && back.is_empty() {
            return (connection, Forger::new(server));
        }
        assert!(rustls_reads(&mut connection, &back).1);
    }
}

fn any_record() -> impl Strategy<Value = (u8, Vec<u8>)> {
    let message = (any::<u8>(), proptest::collection::vec(any::<u8>(), 0..40)).prop_map(|(kind, body)| {
        let kinds = [0, 4, 13, 24, 24, 1];
        let kind = kinds[usize::from(kind) % kinds.len()];
        // rustls takes a HelloRequest that is not empty, as it must be, for one.
        let body = if kind == 0 { Vec::new() } else { body };
        let mut message = vec![kind, 0, 0, body.len() as u8];
        message.extend(body);
        message
    });
    prop_oneof![
        4 => (Just(23), proptest::collection::vec(any::<u8>(), 0..50)),
        2 => (Just(22), message),
        // Empty handshake records are refused here and not by rustls (RFC 8446 §5.1: they must not be sent).
        1 => (Just(22), proptest::collection::vec(0..30u8, 1..8)),
        1 => (Just(21), proptest::collection::vec(prop_oneof![Just(0), Just(1), Just(2), Just(90), any::<u8>()], 0..4)),
        1 => (20..26u8, proptest::collection::vec(any::<u8>(), 1..4)),
        1 => (Just(0), proptest::collection::vec(prop_oneof![Just(0), Just(21), Just(23), 30..=255u8], 0..20)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { rng_seed: RngSeed::Fixed(8446), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_records_mean_the_same_as_to_rustls(
        is_tls13: bool,
        records in proptest::collection::vec(any_record(), 1..12),
        pieces in 1..200usize,
    ) {
        let rig = Rig::new();
        let versions = if is_tls13 { TLS13 } else { TLS12 };
        let (mut ours, mut forger) = established(&rig, versions);
        let (mut theirs, mut their_forger) = reference(&rig, versions);
        let script = |forger: &mut Forger| -> Vec<u8> {
            records.iter().flat_map(|(kind, content)| forger.seal(ContentType::from(*kind), content)).collect()
        };
        let wire = script(&mut forger);
        let mut plaintext = Vec::new();
        let fine = wire.chunks(pieces).all(|piece| ours.feed(piece, &mut plaintext).is_ok());
        let (wanted, wanted_fine) = rustls_reads(&mut theirs, &script(&mut their_forger));
        prop_assert_eq!(plaintext, wanted);
        prop_assert_eq!(fine, wanted_fine);
    }

    #[test]
    fn arbitrary_bytes_never_yield_plaintext(
        is_tls13: bool,
        wire in proptest::collection::vec(prop_oneof![Just(23), Just(3), Just(0), any::<u8>()], 0..600),
    ) {
        let rig = Rig::new();
        let (mut client, _) = established(&rig, if is_tls13 { TLS13 } else { TLS12 });
        let mut plaintext = Vec::new();
        let _ = client.feed(&wire, &mut plaintext);
        prop_assert!(plaintext.is_empty() && !client.peer_closed());
    }
}
