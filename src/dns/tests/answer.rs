//! Answers as bytes, read back by the library.

use hickory_proto::op::Query;
use hickory_proto::rr::RecordType;
use proptest::prelude::*;

use super::*;
use crate::dns::query::Received;

fn query(name: &str, edns: Option<(u16, u8)>) -> ClientQuery {
    let mut message = Message::new(0x1234, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
    if let Some((payload, version)) = edns {
        let mut edns = Edns::new();
        edns.set_max_payload(payload).set_version(version);
        message.set_edns(edns);
    }
    match Received::read(&message.to_vec().unwrap()) {
        Received::Query(query) => query,
        other => panic!("{other:?}"),
    }
}

fn many(count: u8) -> Vec<IpAddr> {
    (0..count).map(|n| IpAddr::from([10, 0, 0, n])).collect()
}

#[test]
fn addresses_are_authoritative_and_short_lived() {
    let bytes = addresses(&query("Db.EXAMPLE.com.", Some((1232, 0))), None, &many(2), LARGEST);
    let message = Message::from_vec(&bytes).unwrap();
    assert_eq!(message.metadata.id, 0x1234);
    assert_eq!(message.metadata.message_type, MessageType::Response);
    assert_eq!(message.metadata.response_code, ResponseCode::NoError);
    assert!(message.metadata.authoritative && message.metadata.recursion_desired);
    assert!(message.metadata.recursion_available && !message.metadata.truncation);
    assert_eq!(message.queries[0].name.to_ascii(), "Db.EXAMPLE.com.", "letters come back as they were sent");
    let shown: Vec<String> = message.answers.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["Db.EXAMPLE.com. 30 IN A 10.0.0.0", "Db.EXAMPLE.com. 30 IN A 10.0.0.1"]);
    assert!(message.edns.is_some());
    assert!(Message::from_vec(&addresses(&query("a.test.", None), None, &[], LARGEST)).unwrap().edns.is_none());
}

#[test]
fn an_alias_leads_to_the_listed_name() {
    let alias = Hostname::new("db.test").unwrap();
    let bytes = addresses(&query("db.test.ns.svc.cluster.local.", None), Some(&alias), &many(1), LARGEST);
    let shown: Vec<String> = Message::from_vec(&bytes).unwrap().answers.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["db.test.ns.svc.cluster.local. 30 IN CNAME db.test.", "db.test. 30 IN A 10.0.0.0"]);
}

#[test]
fn codes_say_why() {
    let message =
        Message::from_vec(&code(&query("x.test.", Some((1232, 0))), ResponseCode::NXDomain, Some(Reason::Prohibited)))
            .unwrap();
    assert_eq!(message.metadata.response_code, ResponseCode::NXDomain);
    let edns = message.edns.as_ref().unwrap();
    assert_eq!(edns.option(EdnsCode::from(15)), Some(&EdnsOption::Unknown(15, vec![0, 18])));
    let other = Message::from_vec(&code(&query("x.test.", Some((1232, 1))), ResponseCode::NoError, None)).unwrap();
    assert_eq!(u16::from(other.metadata.response_code), 16, "BADVERS");
    let unfit = Message::from_vec(&unfit(9, OpCode::Update, ResponseCode::NotImp)).unwrap();
    assert_eq!((unfit.metadata.id, unfit.metadata.op_code), (9, OpCode::Update));
    let cut = Message::from_vec(&cut(&query("x.test.", None))).unwrap();
    assert!(cut.metadata.truncation && cut.answers.is_empty());
}

proptest! {
    /// What is too long is cut and says so; what fits is whole.
    #[test]
    fn answers_fit(count in 0_u8..=255, limit in 512_usize..2000, with_edns in any::<bool>()) {
        let asked = query("a-host-of-some-length.example.com.", with_edns.then_some((1232, 0)));
        let whole = addresses(&asked, None, &many(count), LARGEST);
        let bytes = addresses(&asked, None, &many(count), limit);
        prop_assert!(bytes.len() <= limit);
        let message = Message::from_vec(&bytes).unwrap();
        prop_assert_eq!(message.metadata.truncation, whole.len() > limit);
        if whole.len() <= limit {
            prop_assert_eq!(bytes, whole);
        } else {
            prop_assert!(message.answers.len() >= 9, "{} records", message.answers.len());
        }
    }
}
