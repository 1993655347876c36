//! Messages that are passed on as they are: under an id of ours on the way out, under the client's on the way back.
//!
//! It reads no record. What comes back must be an answer to the very question, or it is nobody's answer (RFC 5452 §9); a
//! compression pointer is never followed, so no answer can lead round in circles.

use crate::dns::query::HEADER;

/// The query as it leaves: another id, and nothing else.
#[must_use]
pub fn outbound(query: &[u8], id: u16) -> Vec<u8> {
    let mut sent = query.to_vec();
    set_id(&mut sent, id);
    sent
}

/// Writes an id over a message's own.
pub fn set_id(message: &mut [u8], id: u16) {
    if let Some(own) = message.get_mut(..2) {
        own.copy_from_slice(&id.to_be_bytes());
    }
}

/// What a message is to the query that it may answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relayed {
    /// The client's answer, whatever it says; also that it did not fit.
    Answer,
    /// The server could not or would not answer; another one may.
    Failed,
    /// Of another query, or no answer at all: keep waiting.
    NotAnAnswer,
}

/// SERVFAIL, NOTIMP, REFUSED: resolvers ask the next server then (resolv.conf(5)).
const ASK_ANOTHER: [u8; 3] = [2, 4, 5];
const QUESTION_TAIL: usize = 4;

/// Judges `bytes` as an answer to `query`, whose question ends at `question_end`, asked under `id`.
#[must_use]
pub fn judge(query: &[u8], question_end: usize, id: u16, bytes: &[u8]) -> Relayed {
    let Some(header) = bytes.first_chunk::<HEADER>() else { return Relayed::NotAnAnswer };
    let is_response = header[2] & 0x80 != 0;
    let is_query_operation = header[2] & 0x78 == 0;
    if header[..2] != id.to_be_bytes() || !is_response || !is_query_operation {
        return Relayed::NotAnAnswer;
    }
    let code = header[3] & 0x0f;
    match u16::from_be_bytes([header[4], header[5]]) {
        1 if same_question(query, question_end, bytes) => {}
        // A server that cannot read the query cannot repeat its question (RFC 1035 §4.1.1).
        0 if code != 0 && code != 3 => {}
        _ => return Relayed::NotAnAnswer,
    }
    if ASK_ANOTHER.contains(&code) { Relayed::Failed } else { Relayed::Answer }
}

/// Names are the same whatever the case of their letters; type and class are numbers.
fn same_question(query: &[u8], end: usize, bytes: &[u8]) -> bool {
    let name_end = end.saturating_sub(QUESTION_TAIL);
    let parts = |message: &'_ [u8]| -> Option<(Vec<u8>, [u8; QUESTION_TAIL])> {
        let name = message.get(HEADER..name_end)?.to_ascii_lowercase();
        Some((name, message.get(name_end..end)?.try_into().ok()?))
    };
    parts(query).is_some_and(|asked| parts(bytes) == Some(asked))
}

#[cfg(test)]
#[path = "tests/relay.rs"]
mod tests;
