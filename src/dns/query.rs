//! A client's message, as far as one who answers it or passes it on must understand it: header, the one question, EDNS.
//!
//! It does not know who sent it. What it cannot read of the records behind the question is left to the name server that
//! the message may go to; nothing of them is needed but the size that the client takes.

use hickory_proto::op::{Edns, Header, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};

/// Octets of a message's header (RFC 1035 §4.1.1).
pub const HEADER: usize = 12;

/// The least that every client takes over UDP (RFC 1035 §4.2.1).
const PLAIN_PAYLOAD: u16 = 512;

/// What a message that came to the listener is.
#[derive(Debug)]
pub enum Received {
    /// Not answered: too short to have a header, or an answer itself. Answers to answers would go round for ever.
    Dropped,
    /// Answered at once with this code, and never passed on.
    Unfit {
        id: u16,
        op_code: OpCode,
        code: ResponseCode,
    },
    Query(ClientQuery),
}

/// One question of class IN or another, and what its asker said beside it.
#[derive(Debug)]
pub struct ClientQuery {
    pub id: u16,
    pub recursion_desired: bool,
    pub checking_disabled: bool,
    /// As asked: letters keep their case.
    pub question: Query,
    /// Where the question ends in the message.
    pub question_end: usize,
    pub edns: ClientEdns,
}

/// What the OPT record of a query says (RFC 6891).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientEdns {
    Absent,
    /// Version 0, and what the client takes over UDP.
    Known {
        payload: u16,
        dnssec_ok: bool,
    },
    /// A version that nobody here speaks.
    OtherVersion,
    /// The records behind the question could not be read.
    Unreadable,
}

impl Received {
    /// Reads a message. Never fails: what cannot be read has an answer of its own, or none.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Self {
        let mut decoder = BinDecoder::new(bytes);
        let Ok(Header { metadata, counts }) = Header::read(&mut decoder) else { return Self::Dropped };
        if metadata.message_type == MessageType::Response {
            return Self::Dropped;
        }
        let unfit = |code| Self::Unfit { id: metadata.id, op_code: metadata.op_code, code };
        if metadata.op_code != OpCode::Query {
            return unfit(ResponseCode::NotImp);
        }
        if counts.queries != 1 {
            return unfit(ResponseCode::FormErr);
        }
        let Ok(question) = Query::read(&mut decoder) else { return unfit(ResponseCode::FormErr) };
        let question_end = decoder.index();
        if question_end != HEADER + wire_length(&question) {
            // A pointer in the first name of a message can only lead into the header.
            return unfit(ResponseCode::FormErr);
        }
        let records = [counts.answers, counts.authorities, counts.additionals];
        let edns = edns(&mut decoder, records);
        Self::Query(ClientQuery {
            id: metadata.id,
            recursion_desired: metadata.recursion_desired,
            checking_disabled: metadata.checking_disabled,
            question,
            question_end,
            edns,
        })
    }
}

impl ClientQuery {
    /// The name in lower case without its last dot, if it is of class IN and its labels have none but the letters of host
    /// names; another name is nobody's host.
    #[must_use]
    pub fn host(&self) -> Option<String> {
        if self.question.query_class != DNSClass::IN {
            return None;
        }
        let mut host = String::with_capacity(self.question.name.len());
        for label in &self.question.name {
            let is_plain = label.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
            if !is_plain {
                return None;
            }
            if !host.is_empty() {
                host.push('.');
            }
            host.extend(label.iter().map(|byte| char::from(byte.to_ascii_lowercase())));
        }
        (!host.is_empty()).then_some(host)
    }

    /// What is asked for.
    #[must_use]
    pub fn kind(&self) -> RecordType {
        self.question.query_type
    }

    /// The largest answer that the client takes over UDP.
    #[must_use]
    pub fn udp_payload(&self) -> usize {
        match self.edns {
            ClientEdns::Known { payload, .. } => payload.max(PLAIN_PAYLOAD).into(),
            ClientEdns::Absent | ClientEdns::OtherVersion | ClientEdns::Unreadable => PLAIN_PAYLOAD.into(),
        }
    }
}

/// Octets of the question where its name is written in full: a length before each label, the root, type and class.
fn wire_length(question: &Query) -> usize {
    let labels: usize = question.name.iter().map(|label| 1 + label.len()).sum();
    labels + 1 + 4
}

fn edns(decoder: &mut BinDecoder<'_>, [answers, authorities, additionals]: [u16; 3]) -> ClientEdns {
    let before = usize::from(answers) + usize::from(authorities);
    let read = Message::read_records(decoder, before, false, OpCode::Query)
        .and_then(|_| Message::read_records(decoder, additionals.into(), true, OpCode::Query));
    match read {
        Err(_) => ClientEdns::Unreadable,
        Ok((_, None, _)) => ClientEdns::Absent,
        Ok((_, Some(edns), _)) => known(&edns),
    }
}

fn known(edns: &Edns) -> ClientEdns {
    if edns.version() != 0 {
        return ClientEdns::OtherVersion;
    }
    ClientEdns::Known { payload: edns.max_payload(), dnssec_ok: edns.flags().dnssec_ok }
}

#[cfg(test)]
#[path = "tests/query.rs"]
mod tests;
