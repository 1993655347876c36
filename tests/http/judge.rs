//! Whether what a server got is one unambiguous request after the other, or the beginning of one.
//!
//! Two readers must agree: egret's own, which refuses what is ambiguous, and httparse, which knows nothing of it.

use super::http::{BodyScanner, HeadLimits, Parsed, parse_request};

use super::upstream::Message;

/// Says what is wrong with any of `messages`.
pub fn unambiguous(messages: &[Message]) -> Result<(), String> {
    let ends_early = messages.iter().rev().skip(1).any(|message| !message.is_complete);
    let faults = messages.iter().filter_map(|message| judge(message).err().map(|why| format!("{why}: {message:?}")));
    match faults.chain(ends_early.then(|| "something follows what is not complete".to_owned())).next() {
        Some(fault) => Err(format!("the server got {fault}")),
        None => Ok(()),
    }
}

fn judge(message: &Message) -> Result<(), String> {
    let raw = &message.raw;
    let (head, length) = match parse_request(raw, HeadLimits::default()) {
        Ok(Parsed::Complete { head, length }) => (head, length),
        Ok(Parsed::Partial) if !message.is_complete => return Ok(()),
        other => return Err(format!("{other:?}")),
    };
    let mut body = BodyScanner::new(head.body);
    let used = body.advance(&raw[length..]).map_err(|error| error.to_string())?;
    if body.is_complete() != message.is_complete || length + used != raw.len() {
        return Err(format!("of {} bytes {} are a request", raw.len(), length + used));
    }
    // httparse hands targets out as text.
    let line = raw.iter().position(|&byte| byte == b'\r').unwrap_or_default();
    let target = raw[..line].iter().map(|byte| if byte.is_ascii() { *byte } else { b'x' });
    let text: Vec<u8> = target.chain(raw[line..].iter().copied()).collect();
    let mut fields = [httparse::EMPTY_HEADER; 200];
    let mut request = httparse::Request::new(&mut fields);
    if request.parse(&text) != Ok(httparse::Status::Complete(length)) {
        return Err("httparse sees another head".to_owned());
    }
    let count = |name: &str| request.headers.iter().filter(|field| field.name.eq_ignore_ascii_case(name)).count();
    match (count("host"), count("content-length") + count("transfer-encoding")) {
        (0, _) if request.version == Some(0) => Ok(()),
        (1, 0 | 1) => Ok(()),
        (hosts, framings) => Err(format!("{hosts} hosts and {framings} framings")),
    }
}
