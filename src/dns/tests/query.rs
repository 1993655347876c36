//! What clients send, well-formed and not.

use hickory_proto::rr::Name;
use proptest::prelude::*;

use super::*;

fn bytes(name: &str, kind: RecordType, edns: Option<u16>) -> Vec<u8> {
    let labels = name.split('.').filter(|label| !label.is_empty()).map(str::as_bytes);
    let name = Name::from_labels(labels).unwrap();
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name, kind));
    if let Some(payload) = edns {
        let mut edns = Edns::new();
        edns.set_max_payload(payload);
        message.set_edns(edns);
    }
    message.to_vec().unwrap()
}

fn read(bytes: &[u8]) -> ClientQuery {
    match Received::read(bytes) {
        Received::Query(query) => query,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_query_is_read() {
    let message = bytes("Db1.EXAMPLE.com.", RecordType::AAAA, Some(1400));
    let query = read(&message);
    assert_eq!((query.id, query.recursion_desired, query.kind()), (7, true, RecordType::AAAA));
    assert_eq!(query.host().as_deref(), Some("db1.example.com"));
    assert_eq!(query.question.name.to_ascii(), "Db1.EXAMPLE.com.");
    assert_eq!(&message[query.question_end - 4..query.question_end], [0, 28, 0, 1]);
    assert_eq!(query.udp_payload(), 1400);
    assert_eq!(read(&bytes("a.test.", RecordType::A, None)).udp_payload(), 512);
    assert_eq!(read(&bytes("a.test.", RecordType::A, Some(100))).udp_payload(), 512);
}

#[test]
fn names_that_are_no_hosts() {
    for name in [".", "a\\.b.test.", "\\000.test.", "sp\\032ace.test.", "\u{fc}.test."] {
        let Ok(name) = Name::from_str_relaxed(name) else { continue };
        let mut message = Message::new(7, MessageType::Query, OpCode::Query);
        message.add_query(Query::query(name.clone(), RecordType::A));
        let query = read(&message.to_vec().unwrap());
        let host = query.host();
        assert!(host.as_deref().is_none_or(|host| host.starts_with("xn--")), "{name}: {host:?}");
    }
    assert_eq!(read(&bytes("_x._tcp.a-b.test.", RecordType::SRV, None)).host().as_deref(), Some("_x._tcp.a-b.test"));
    let mut chaos = bytes("a.test.", RecordType::TXT, None);
    let end = chaos.len();
    chaos[end - 1] = 3;
    assert_eq!(read(&chaos).host(), None);
}

#[test]
fn what_is_no_query_of_one_question() {
    let good = bytes("a.test.", RecordType::A, None);
    let with = |at: usize, value: u8| {
        let mut bad = good.clone();
        bad[at] = value;
        bad
    };
    let code = |bytes: &[u8]| match Received::read(bytes) {
        Received::Dropped => None,
        Received::Unfit { id, code, .. } => {
            assert_eq!(id, 7);
            Some(code)
        }
        Received::Query(query) => panic!("{query:?}"),
    };
    let compressed = [&good[..HEADER], &[0xc0, 0x00, 0, 1, 0, 1]].concat();
    let endless = [&good[..HEADER], &[0xc0, 0x0c, 0, 1, 0, 1]].concat();
    let pointed = [&good[..HEADER], &[1, b'a', 0xc0, 0x0c, 0, 1, 0, 1]].concat();
    for (what, message, expected) in [
        ("nothing", Vec::new(), None),
        ("half a header", good[..11].to_vec(), None),
        ("an answer", with(2, 0x81), None),
        ("an update", with(2, 0x29), Some(ResponseCode::NotImp)),
        ("a notification", with(2, 0x21), Some(ResponseCode::NotImp)),
        ("no question", with(5, 0), Some(ResponseCode::FormErr)),
        ("two questions", with(5, 2), Some(ResponseCode::FormErr)),
        ("a question that is cut", good[..good.len() - 1].to_vec(), Some(ResponseCode::FormErr)),
        ("a label that is too long", with(12, 64), Some(ResponseCode::FormErr)),
        ("a pointer into the header", compressed, Some(ResponseCode::FormErr)),
        ("a pointer to itself", endless, Some(ResponseCode::FormErr)),
        ("a pointer back to the name", pointed, Some(ResponseCode::FormErr)),
    ] {
        assert_eq!(code(&message), expected, "{what}");
    }
}

#[test]
fn records_behind_the_question_are_no_hindrance() {
    let mut other = bytes("a.test.", RecordType::A, Some(1232));
    // The version stands in the OPT record's TTL.
    let version = other.len() - 5;
    other[version] = 1;
    assert_eq!(read(&other).edns, ClientEdns::OtherVersion);
    let mut cut = bytes("a.test.", RecordType::A, Some(1232));
    cut.truncate(cut.len() - 3);
    assert_eq!(read(&cut).edns, ClientEdns::Unreadable);
    let mut twice = bytes("a.test.", RecordType::A, Some(1232));
    twice[11] = 2;
    let record = twice[twice.len() - 11..].to_vec();
    twice.extend(record);
    assert_eq!(read(&twice).edns, ClientEdns::Unreadable);
}

proptest! {
    /// Whatever comes: no panic, no endless loop, and a question that is where it is said to be.
    #[test]
    fn anything_is_read(message in proptest::collection::vec(any::<u8>(), 0..600)) {
        if let Received::Query(query) = Received::read(&message) {
            prop_assert!(query.question_end <= message.len());
            prop_assert!(query.host().is_none_or(|host| host.len() <= 253));
            prop_assert!(query.udp_payload() >= 512);
        }
    }

    /// The same of messages that are nearly good.
    #[test]
    fn nearly_good_messages_are_read(
        labels in proptest::collection::vec("[a-zA-Z0-9_-]{1,20}", 1..6),
        edns in proptest::option::of(any::<u16>()),
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<proptest::sample::Index>(),
    ) {
        let mut message = bytes(&format!("{}.", labels.join(".")), RecordType::A, edns);
        for (at, value) in changes {
            let at = at.index(message.len());
            message[at] = value;
        }
        message.truncate(cut.index(message.len() + 1));
        if let Received::Query(query) = Received::read(&message) {
            prop_assert!(query.question_end <= message.len());
        }
    }
}
