//! One question as bytes, and what a datagram that came back means for it.
//!
//! It does not know who sent the datagram or when: source address, port and time are the socket's and the caller's
//! business (RFC 5452 §9). The header and the question are judged before a record is read, since a truncated message
//! may end in the middle of one; nothing is taken from a record whose name the question did not lead to.

use std::net::IpAddr;
use std::time::Duration;

use hickory_proto::op::{Edns, Header, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};

use crate::flow::Hostname;

/// The largest answer we ask for over UDP: fits one unfragmented packet on every sane path (DNS flag day 2020).
pub const UDP_PAYLOAD: u16 = 1232;

/// How many aliases an answer may string together before it is taken for a loop.
const MAX_ALIASES: usize = 20;

/// Which kind of address is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    V4,
    V6,
}

/// Whether a query carries an EDNS record (RFC 6891); a few old servers answer FORMERR to one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extension {
    Offer,
    Omit,
}

/// The addresses of one family of one absolute name.
#[derive(Clone, Debug)]
pub struct Question {
    name: Name,
    kind: RecordType,
}

/// What a server said of the question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// At least one address, in the server's order, each once. `ttl` is the smallest of the records that led here.
    Addresses { ips: Vec<IpAddr>, ttl: Duration },
    /// The name exists and has no address of this family. `ttl` is how long that holds, if the server said (RFC 2308 §5).
    NoData { ttl: Option<Duration> },
    /// The name, or the name that it is an alias of, does not exist.
    NxDomain { ttl: Option<Duration> },
}

/// What a message means for the question it was judged against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Reply(Reply),
    /// The server could not or would not answer.
    Failed(Failure),
    /// The answer did not fit: ask again over TCP.
    Truncated,
    /// Not an answer to this question: keep waiting for the real one.
    NotAnAnswer(Mismatch),
}

/// Why a server gave no answer that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// SERVFAIL
    #[error("SERVFAIL")]
    ServFail,
    /// REFUSED
    #[error("REFUSED")]
    Refused,
    /// FORMERR: perhaps a server that does not know EDNS
    #[error("FORMERR")]
    FormErr,
    /// NOTIMP: perhaps a server that does not know EDNS
    #[error("NOTIMP")]
    NotImplemented,
    /// another response code
    #[error("response code {0}")]
    Code(u16),
    /// more aliases than a sane zone has, or a circle of them
    #[error("more than {MAX_ALIASES} aliases, or aliases in a circle")]
    Aliases,
}

/// Why a message is not an answer to the question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// it is no well-formed DNS message
    #[error("malformed")]
    Malformed,
    /// it is a query, or another kind of operation
    #[error("not a response to a standard query")]
    Kind,
    /// its id is not the query's
    #[error("another id")]
    Id,
    /// its question is not the query's
    #[error("another question")]
    Question,
}

impl Question {
    #[must_use]
    pub fn new(name: &Hostname, family: Family) -> Self {
        let labels = name.as_str().split('.').map(str::as_bytes);
        let name = Name::from_labels(labels).expect("a Hostname keeps the limits of RFC 1035 §2.3.4");
        let kind = match family {
            Family::V4 => RecordType::A,
            Family::V6 => RecordType::AAAA,
        };
        Self { name, kind }
    }

    /// The query as it goes into a datagram. `id` must come from a cryptographic generator (RFC 5452 §9.2).
    #[must_use]
    pub fn encode(&self, id: u16, extension: Extension) -> Vec<u8> {
        let mut message = Message::new(id, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(self.name.clone(), self.kind));
        if extension == Extension::Offer {
            let mut edns = Edns::new();
            edns.set_max_payload(UDP_PAYLOAD);
            message.set_edns(edns);
        }
        message.to_vec().expect("one question of at most 255 octets fits a message")
    }

    /// What `bytes` mean for this question, asked under `id`.
    #[must_use]
    pub fn judge(&self, id: u16, bytes: &[u8]) -> Answer {
        self.read(id, bytes).unwrap_or_else(Answer::NotAnAnswer)
    }

    fn read(&self, id: u16, bytes: &[u8]) -> Result<Answer, Mismatch> {
        let mut decoder = BinDecoder::new(bytes);
        let Header { metadata, counts } = Header::read(&mut decoder).map_err(|_| Mismatch::Malformed)?;
        if metadata.id != id {
            return Err(Mismatch::Id);
        }
        if metadata.message_type != MessageType::Response || metadata.op_code != OpCode::Query {
            return Err(Mismatch::Kind);
        }
        let failure = failure(metadata.response_code);
        match (counts.queries, failure) {
            (1, _) => self.check_question(&mut decoder)?,
            // A server that cannot read the query cannot repeat its question (RFC 1035 §4.1.1).
            (0, Some(failure)) => return Ok(Answer::Failed(failure)),
            _ => return Err(Mismatch::Question),
        }
        if let Some(failure) = failure {
            return Ok(Answer::Failed(failure));
        }
        if metadata.truncation {
            return Ok(Answer::Truncated);
        }
        let mut section = |count: u16| match Message::read_records(&mut decoder, count.into(), false, OpCode::Query) {
            Ok((records, _, _)) => Ok(records),
            Err(_) => Err(Mismatch::Malformed),
        };
        let answers = section(counts.answers)?;
        let authorities = section(counts.authorities)?;
        if let Some(failure) = extended_failure(metadata.response_code, counts.additionals, &mut decoder) {
            return Ok(Answer::Failed(failure));
        }
        Ok(self.conclude(metadata.response_code, &answers, &authorities))
    }

    fn check_question(&self, decoder: &mut BinDecoder<'_>) -> Result<(), Mismatch> {
        let query = Query::read(decoder).map_err(|_| Mismatch::Malformed)?;
        let same = query.name == self.name && query.query_type == self.kind && query.query_class == DNSClass::IN;
        if same { Ok(()) } else { Err(Mismatch::Question) }
    }

    fn conclude(&self, code: ResponseCode, answers: &[Record], authorities: &[Record]) -> Answer {
        let Some((owner, alias_ttl)) = follow_aliases(&self.name, answers) else {
            return Answer::Failed(Failure::Aliases);
        };
        let mut ips = Vec::new();
        let mut ttl = alias_ttl;
        for record in of_name(answers, owner) {
            let Some(ip) = address(record).filter(|_| record.record_type() == self.kind) else { continue };
            ttl = ttl.min(time_to_live(record.ttl));
            if !ips.contains(&ip) {
                ips.push(ip);
            }
        }
        if !ips.is_empty() {
            return Answer::Reply(Reply::Addresses { ips, ttl });
        }
        let ttl = negative_ttl(owner, authorities).map(|negative| negative.min(alias_ttl));
        // RFC 6604: the code speaks of the last name of the chain.
        let missing = code == ResponseCode::NXDomain;
        Answer::Reply(if missing { Reply::NxDomain { ttl } } else { Reply::NoData { ttl } })
    }
}

/// The failure that `code` reports, if it is one.
fn failure(code: ResponseCode) -> Option<Failure> {
    match code {
        ResponseCode::NoError | ResponseCode::NXDomain => None,
        ResponseCode::ServFail => Some(Failure::ServFail),
        ResponseCode::Refused => Some(Failure::Refused),
        ResponseCode::FormErr => Some(Failure::FormErr),
        ResponseCode::NotImp => Some(Failure::NotImplemented),
        other => Some(Failure::Code(other.into())),
    }
}

/// A code of more than four bits: the others are in the EDNS record (RFC 6891 §6.1.3), as those of BADVERS are.
fn extended_failure(code: ResponseCode, additionals: u16, decoder: &mut BinDecoder<'_>) -> Option<Failure> {
    // Nothing else is wanted from the records here, so what cannot be read of them is left.
    let (_, edns, _) = Message::read_records(decoder, additionals.into(), true, OpCode::Query).ok()?;
    let high = edns.map(|edns| edns.rcode_high()).filter(|high| *high != 0)?;
    Some(Failure::Code(u16::from(ResponseCode::from(high, code.low()))))
}

/// The name at the end of the chain of aliases that starts at `from`, and the smallest TTL on the way. `None` for a
/// circle or a chain that is too long.
fn follow_aliases<'a>(from: &'a Name, answers: &'a [Record]) -> Option<(&'a Name, Duration)> {
    let mut owner = from;
    let mut ttl = Duration::MAX;
    for _ in 0..=MAX_ALIASES {
        let alias = of_name(answers, owner).find_map(|record| match &record.data {
            RData::CNAME(target) => Some((&target.0, record.ttl)),
            _ => None,
        });
        let Some((target, seconds)) = alias else { return Some((owner, ttl)) };
        owner = target;
        ttl = ttl.min(time_to_live(seconds));
    }
    None
}

fn of_name<'a>(records: &'a [Record], owner: &'a Name) -> impl Iterator<Item = &'a Record> {
    records.iter().filter(move |record| record.dns_class == DNSClass::IN && record.name == *owner)
}

fn address(record: &Record) -> Option<IpAddr> {
    match &record.data {
        RData::A(ip) => Some(IpAddr::V4(ip.0)),
        // `::ffff:a.b.c.d` is an IPv4 address to the kernel, so it must be one to every check as well.
        RData::AAAA(ip) => Some(IpAddr::V6(ip.0).to_canonical()),
        _ => None,
    }
}

/// RFC 2181 §8: a TTL with the top bit set is zero.
fn time_to_live(seconds: u32) -> Duration {
    Duration::from_secs(if seconds > i32::MAX as u32 { 0 } else { seconds.into() })
}

/// RFC 2308 §5: the smaller of the SOA's own TTL and its MINIMUM, if the SOA is of a zone that holds `owner`.
fn negative_ttl(owner: &Name, authorities: &[Record]) -> Option<Duration> {
    authorities.iter().find_map(|record| match &record.data {
        RData::SOA(soa) if record.name.zone_of(owner) => Some(time_to_live(record.ttl.min(soa.minimum))),
        _ => None,
    })
}

#[cfg(test)]
#[path = "tests/message.rs"]
mod tests;
