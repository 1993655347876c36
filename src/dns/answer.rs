//! Answers that egret gives itself: of names that policy lists, refusals, and failures.
//!
//! It knows neither the table of names nor who asks. The question stands in every answer as it was asked, letter by
//! letter: some clients vary the case of a name and want it back (draft-vixie-dnsext-dns0x20).

use std::net::IpAddr;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, TXT};
use hickory_proto::rr::{DNSClass, Name, RData, Record};

use crate::dns::query::{ClientEdns, ClientQuery};
use crate::flow::Hostname;

/// Seconds that an answer of the table may be kept, as in Istio.
pub const TTL: u32 = 30;

/// What egret says that it takes over UDP (DNS flag day 2020).
const OWN_PAYLOAD: u16 = 1232;

/// The largest message of all: its length has two octets over TCP.
pub const LARGEST: usize = u16::MAX as usize;

/// Extended DNS Errors (RFC 8914 §5.2): why a code is what it is, for people with `dig`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    NotReady = 14,
    Prohibited = 18,
    NoReachableAuthority = 22,
}

/// The addresses of a listed name, or none: the name exists. `alias` is the listed name where another one was asked for.
/// At most `limit` octets: what does not fit is left out, and the client told so.
#[must_use]
pub fn addresses(query: &ClientQuery, alias: Option<&Hostname>, ips: &[IpAddr], limit: usize) -> Vec<u8> {
    let mut message = begin(query, ResponseCode::NoError, None);
    message.metadata.authoritative = true;
    let asked = &query.question.name;
    let owner = alias.map_or_else(|| asked.clone(), absolute);
    if alias.is_some() {
        message.add_answer(Record::from_rdata(asked.clone(), TTL, RData::CNAME(CNAME(owner.clone()))));
    }
    message.add_answers(ips.iter().map(|ip| {
        let data = match ip {
            IpAddr::V4(ip) => RData::A(A(*ip)),
            IpAddr::V6(ip) => RData::AAAA(AAAA(*ip)),
        };
        Record::from_rdata(owner.clone(), TTL, data)
    }));
    fitted(message, limit)
}

/// A text of class CHAOS, as name servers tell about themselves (RFC 4892).
#[must_use]
pub fn about(query: &ClientQuery, text: &str) -> Vec<u8> {
    let mut message = begin(query, ResponseCode::NoError, None);
    message.metadata.authoritative = true;
    let mut record = Record::from_rdata(query.question.name.clone(), 0, RData::TXT(TXT::new(vec![text.to_owned()])));
    record.dns_class = DNSClass::CH;
    message.add_answer(record);
    written(&message)
}

/// A code instead of an answer, and why.
#[must_use]
pub fn code(query: &ClientQuery, code: ResponseCode, reason: Option<Reason>) -> Vec<u8> {
    written(&begin(query, code, reason))
}

/// The answer to a message that is no query, or whose question cannot be read.
#[must_use]
pub fn unfit(id: u16, op_code: OpCode, code: ResponseCode) -> Vec<u8> {
    written(&Message::error_msg(id, op_code, code))
}

/// The beginning of a message that is too long for the client: header and question, and word that it is cut.
#[must_use]
pub fn cut(query: &ClientQuery) -> Vec<u8> {
    let mut message = begin(query, ResponseCode::NoError, None);
    message.metadata.truncation = true;
    written(&message)
}

fn begin(query: &ClientQuery, code: ResponseCode, reason: Option<Reason>) -> Message {
    let mut message = Message::new(query.id, MessageType::Response, OpCode::Query);
    message.metadata.recursion_desired = query.recursion_desired;
    message.metadata.recursion_available = true;
    message.metadata.checking_disabled = query.checking_disabled;
    message.metadata.response_code = code;
    message.add_query(query.question.clone());
    if let ClientEdns::Known { dnssec_ok, .. } = query.edns {
        let mut edns = Edns::new();
        edns.set_max_payload(OWN_PAYLOAD).set_dnssec_ok(dnssec_ok);
        if let Some(reason) = reason {
            let code = EdnsCode::from(15);
            edns.options_mut().insert(EdnsOption::Unknown(code.into(), (reason as u16).to_be_bytes().to_vec()));
        }
        message.set_edns(edns);
    }
    if query.edns == ClientEdns::OtherVersion {
        // RFC 6891 §6.1.3.
        message.metadata.response_code = ResponseCode::BADVERS;
        message.set_edns(Edns::new());
    }
    message
}

/// Leaves out as many of the last records as do not fit.
fn fitted(mut message: Message, limit: usize) -> Vec<u8> {
    let whole = written(&message);
    if whole.len() <= limit {
        return whole;
    }
    message.metadata.truncation = true;
    let answers = std::mem::take(&mut message.answers);
    let mut with = |count: usize| {
        message.answers = answers[..count].to_vec();
        written(&message)
    };
    let (mut fits, mut too_many) = (0, answers.len());
    while too_many - fits > 1 {
        let middle = usize::midpoint(fits, too_many);
        if with(middle).len() <= limit { fits = middle } else { too_many = middle }
    }
    with(fits)
}

fn absolute(host: &Hostname) -> Name {
    let labels = host.as_str().split('.').map(str::as_bytes);
    Name::from_labels(labels).expect("a Hostname keeps the limits of RFC 1035 §2.3.4")
}

fn written(message: &Message) -> Vec<u8> {
    message.to_vec().expect("a question and its few hundred addresses fit a message")
}

#[cfg(test)]
#[path = "tests/answer.rs"]
mod tests;
