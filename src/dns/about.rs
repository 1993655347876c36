//! The question by which egret's listener is known: `proxy.egret`, class CHAOS, type TXT, in the manner of RFC 4892.
//!
//! `egret init` and `egret doctor` ask a name server for it. Only the listener has an answer, so one proves that the query
//! came there. No host is of that class, so no lookup of an application is mistaken for it.

use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{DNSClass, Name, RData, RecordType};

const NAME: [&str; 2] = ["proxy", "egret"];

/// What the listener says of itself.
pub const TEXT: &str = concat!("egret ", env!("CARGO_PKG_VERSION"));

/// The query, as it goes into a datagram.
#[must_use]
pub fn query(id: u16) -> Vec<u8> {
    let name = Name::from_labels(NAME.map(str::as_bytes)).expect("two short labels are a name");
    let mut question = Query::query(name, RecordType::TXT);
    question.set_query_class(DNSClass::CH);
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(question);
    message.to_vec().expect("one short question fits a message")
}

/// Whether it is asked here.
#[must_use]
pub fn is_asked(question: &Query) -> bool {
    let mut labels = question.name.iter();
    question.query_class == DNSClass::CH
        && question.query_type == RecordType::TXT
        && NAME.iter().all(|label| labels.next().is_some_and(|asked| asked.eq_ignore_ascii_case(label.as_bytes())))
        && labels.next().is_none()
}

/// What the answer to the query `id` says; `None` for any other message.
#[must_use]
pub fn text(id: u16, bytes: &[u8]) -> Option<String> {
    let message = Message::from_vec(bytes).ok()?;
    let is_answer = message.metadata.id == id && message.metadata.message_type == MessageType::Response;
    let asked = message.queries.first().filter(|_| is_answer)?;
    if !is_asked(asked) {
        return None;
    }
    message.answers.iter().find_map(|record| match &record.data {
        RData::TXT(text) => text.txt_data.first().map(|text| String::from_utf8_lossy(text).into_owned()),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::answer;
    use crate::dns::query::Received;

    #[test]
    fn only_the_listener_answers() {
        let bytes = query(7);
        let Received::Query(asked) = Received::read(&bytes) else { panic!("a query") };
        assert!(is_asked(&asked.question) && asked.host().is_none());
        let answer = answer::about(&asked, TEXT);
        assert_eq!(text(7, &answer).as_deref(), Some(TEXT));
        assert_eq!(text(8, &answer), None);
        assert_eq!(text(7, &bytes), None);
        let nothing = answer::code(&asked, hickory_proto::op::ResponseCode::NXDomain, None);
        assert_eq!(text(7, &nothing), None);
    }
}
