//! Answers of name servers, of others, and of nobody.

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use proptest::prelude::*;

use super::*;

fn query(name: &str) -> (Vec<u8>, usize) {
    let mut message = Message::new(0x0101, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::HTTPS));
    let bytes = message.to_vec().unwrap();
    let end = bytes.len();
    (bytes, end)
}

fn answer(to: &[u8], change: impl FnOnce(&mut Message)) -> Vec<u8> {
    let mut message = Message::from_vec(to).unwrap().into_response();
    change(&mut message);
    message.to_vec().unwrap()
}

#[test]
fn only_an_answer_to_the_question_is_one() {
    let (asked, end) = query("Name.Example.test.");
    let sent = outbound(&asked, 0xbeef);
    assert_eq!(sent[2..], asked[2..]);
    let plain = answer(&sent, |_| {});
    let mut other_type = plain.clone();
    // HTTPS is 65 and TXT's neighbour 97 differs from it as `A` does from `a`.
    other_type[end - 3] = 97;
    let code = |code| answer(&sent, |message| message.metadata.response_code = code);
    let with_address = answer(&sent, |message| {
        let name = message.queries[0].name.clone();
        message.add_answer(Record::from_rdata(name, 5, RData::A(A::new(192, 0, 2, 1))));
    });
    for (what, bytes, expected) in [
        ("an answer", plain.clone(), Relayed::Answer),
        ("with a record", with_address, Relayed::Answer),
        ("no such name", code(ResponseCode::NXDomain), Relayed::Answer),
        ("cut", answer(&sent, |message| message.metadata.truncation = true), Relayed::Answer),
        ("SERVFAIL", code(ResponseCode::ServFail), Relayed::Failed),
        ("REFUSED", code(ResponseCode::Refused), Relayed::Failed),
        ("NOTIMP", code(ResponseCode::NotImp), Relayed::Failed),
        ("in other letters", outbound(&plain.to_ascii_lowercase(), 0xbeef), Relayed::NotAnAnswer),
        ("another id", outbound(&plain, 0xbeee), Relayed::NotAnAnswer),
        ("the query itself", sent.clone(), Relayed::NotAnAnswer),
        ("another type", other_type, Relayed::NotAnAnswer),
        ("another name", outbound(&answer(&query("other.example.test.").0, |_| {}), 0xbeef), Relayed::NotAnAnswer),
        ("a header alone that fails", [&code(ResponseCode::FormErr)[..4], &[0; 8]].concat(), Relayed::Answer),
        ("a header alone", [&plain[..4], &[0; 8]].concat(), Relayed::NotAnAnswer),
        ("no header", plain[..11].to_vec(), Relayed::NotAnAnswer),
        ("nothing", Vec::new(), Relayed::NotAnAnswer),
    ] {
        if what == "in other letters" {
            // Only the name's letters may differ; the header's octets are no letters.
            let mut lowered = plain.clone();
            lowered[HEADER..end - 4].make_ascii_lowercase();
            assert_eq!(judge(&asked, end, 0xbeef, &lowered), Relayed::Answer, "{what}");
            continue;
        }
        assert_eq!(judge(&asked, end, 0xbeef, &bytes), expected, "{what}");
    }
}

proptest! {
    #[test]
    fn anything_is_judged(bytes in proptest::collection::vec(any::<u8>(), 0..300), end in 0_usize..400, id in any::<u16>()) {
        let (asked, _) = query("a.test.");
        let _ = judge(&asked, end, id, &bytes);
        let _ = judge(&bytes, end, id, &asked);
    }

    /// A forger who does not know the id has no chance by anything else.
    #[test]
    fn another_id_is_never_an_answer(id in any::<u16>(), other in any::<u16>()) {
        prop_assume!(id != other);
        let (asked, end) = query("a.test.");
        let forged = answer(&outbound(&asked, other), |_| {});
        prop_assert_eq!(judge(&asked, end, id, &forged), Relayed::NotAnAnswer);
    }
}
