//! Response heads of old servers: those that are not written as RFC 9112 wants, but that a recipient may understand.
//!
//! Such a head is written anew in the form that every reader understands in one way, and then judged by the strict reader,
//! which has the last word: nothing is passed on that it does not take. What could be read in two ways about where the
//! body ends (a folded Content-Length, blanks before its colon, two lengths) is left as it is, and so is refused.
//! Requests are never read like this.

use super::error::{HeadError, ResponseError};
use super::fields::{ConnectionOption, Name};
use super::grammar::{is_token, is_token_byte, trim};
use super::head::{HeadLimits, Parsed};
use super::response::{RequestContext, ResponseHead, parse_response};

/// What became of the bytes of an answer so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Nothing is wrong yet; call again with these bytes and more.
    Partial,
    /// The head is `input[..length]`.
    AsWritten { head: ResponseHead, length: usize },
    /// The head is the whole of `bytes`, which stand for `input[..length]`.
    Rewritten { head: ResponseHead, bytes: Vec<u8>, length: usize, doubt: Doubt },
}

/// How sure it is that the server means what was understood.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Doubt {
    /// Another reader could see another end of the message: nothing that follows may be taken for another answer.
    pub ends_connection: bool,
    /// The status line ended with LF alone, and so may lines of chunks.
    pub lf_ends_lines: bool,
}

/// Reads the response head at the beginning of `input`, as liberally as RFC 9112 allows a recipient: lines that end in LF
/// alone (§2.2), folded fields (§5.2), blanks before a colon (§5.1) and in the status line (§4), Transfer-Encoding from
/// HTTP/1.0 (§6.1), parameters in Connection.
///
/// # Errors
/// As [`parse_response`].
pub fn parse_answer(input: &[u8], request: RequestContext, limits: HeadLimits) -> Result<Answer, ResponseError> {
    match parse_response(input, request, limits) {
        Ok(Parsed::Partial) => Ok(Answer::Partial),
        Ok(Parsed::Complete { head, length }) => Ok(Answer::AsWritten { head, length }),
        Err(ResponseError::Head(error @ (HeadError::TooLarge | HeadError::TooManyFields))) => Err(error.into()),
        Err(_) if input.starts_with(b"HTTP/1.") => rewrite(input, request, limits),
        Err(error) => Err(error),
    }
}

fn rewrite(input: &[u8], request: RequestContext, limits: HeadLimits) -> Result<Answer, ResponseError> {
    let window = &input[..input.len().min(limits.max_bytes)];
    let Tidied { bytes, length, doubt } = Tidied::of(window);
    match (parse_response(&bytes, request, limits)?, length) {
        (Parsed::Complete { mut head, .. }, Some(length)) => {
            head.keep_alive &= !doubt.ends_connection;
            Ok(Answer::Rewritten { head, bytes, length, doubt })
        }
        _ if window.len() < input.len() => Err(HeadError::TooLarge.into()),
        _ => Ok(Answer::Partial),
    }
}

/// A head, or the beginning of one, written anew.
struct Tidied {
    bytes: Vec<u8>,
    /// Of the original, once its last line is there.
    length: Option<usize>,
    doubt: Doubt,
}

impl Tidied {
    fn of(input: &[u8]) -> Self {
        let mut tidied = Self { bytes: Vec::with_capacity(input.len() + 64), length: None, doubt: Doubt::default() };
        let mut lines = tidied.lines(input);
        // The last has no end yet, or is the empty one.
        let last = lines.pop().unwrap_or_default();
        let mut lines = lines.into_iter();
        if let Some(status) = lines.next() {
            tidied.bytes.extend(status_line(&status));
            tidied.bytes.extend_from_slice(b"\r\n");
            for line in lines {
                tidied.add_field(&line);
                tidied.bytes.extend_from_slice(b"\r\n");
            }
            if tidied.length.is_some() {
                tidied.bytes.extend_from_slice(b"\r\n");
            } else {
                // A name whose colon is not there yet.
                let end = if last.contains(&b':') { last.len() } else { last.trim_ascii_end().len() };
                tidied.add_field(&last[..end]);
            }
        } else {
            tidied.bytes.extend(status_line(&last));
        }
        tidied
    }

    /// The lines of the head without their ends, each with its folded parts; behind them what has come of the next, or of
    /// a whole head the empty line.
    fn lines(&mut self, input: &[u8]) -> Vec<Vec<u8>> {
        let mut lines: Vec<Vec<u8>> = Vec::new();
        let mut at = 0;
        while let Some(end) = memchr::memchr(b'\n', &input[at..]) {
            let written = &input[at..at + end];
            let line = written.strip_suffix(b"\r").unwrap_or(written);
            if line.len() == written.len() {
                self.doubt.lf_ends_lines |= lines.is_empty();
                self.doubt.ends_connection = true;
            }
            at += end + 1;
            if line.is_empty() && !lines.is_empty() {
                self.length = Some(at);
                lines.push(Vec::new());
                return lines;
            }
            add_line(&mut lines, line);
        }
        let rest = &input[at..];
        let rest = rest.strip_suffix(b"\r").unwrap_or(rest);
        if rest.is_empty() || !is_blank(rest[0]) || !may_be_folded(&lines) {
            lines.push(rest.to_vec());
        } else {
            add_line(&mut lines, rest);
            // It may still go on; what is there is judged as if it did not.
            lines.push(Vec::new());
        }
        lines
    }

    fn add_field(&mut self, line: &[u8]) {
        let (name, rest) = split_name(line);
        let colon = rest.iter().position(|&byte| !is_blank(byte)).unwrap_or(rest.len());
        let blanks = colon > 0 && rest.get(colon) == Some(&b':') && !frames(name);
        let rest = if blanks { &rest[colon..] } else { rest };
        if Name::of(name) == Name::TransferEncoding && self.bytes.starts_with(b"HTTP/1.0") {
            // RFC 9112 §6.1: the framing counts, and the connection must end. What goes on says HTTP/1.1 in any case.
            self.bytes[b"HTTP/1.".len()] = b'1';
            self.doubt.ends_connection = true;
        }
        self.bytes.extend_from_slice(name);
        match rest.strip_prefix(b":") {
            Some(value) if Name::of(name) == Name::Connection => {
                self.bytes.extend_from_slice(b": ");
                write_options(value, &mut self.bytes);
            }
            _ => self.bytes.extend_from_slice(rest),
        }
    }
}

/// Adds `line` to the one before where it is a folded part of it (RFC 9112 §5.2).
fn add_line(lines: &mut Vec<Vec<u8>>, line: &[u8]) {
    if line.first().is_some_and(|&first| is_blank(first)) && may_be_folded(lines) {
        unfold(lines, line);
    } else {
        lines.push(line.to_vec());
    }
}

fn unfold(lines: &mut [Vec<u8>], line: &[u8]) {
    let Some(before) = lines.last_mut() else { return };
    before.truncate(before.trim_ascii_end().len());
    before.push(b' ');
    before.extend_from_slice(trim(line));
}

/// Whether the last of `lines` is a field that may be folded: a reader that does not know how would see another length.
fn may_be_folded(lines: &[Vec<u8>]) -> bool {
    lines.len() > 1 && lines.last().is_some_and(|line| line.contains(&b':') && !frames(split_name(line).0))
}

/// `version SP status [SP reason]`, whatever blanks stand between them. What has no such form stays as it is.
fn status_line(line: &[u8]) -> Vec<u8> {
    let Some((version, rest)) = line.split_at_checked(b"HTTP/1.1".len()) else { return line.to_vec() };
    if rest.first().is_some_and(|&byte| !is_blank(byte)) {
        return line.to_vec();
    }
    let rest = trim(rest);
    let end = rest.iter().position(|&byte| is_blank(byte)).unwrap_or(rest.len());
    let (status, reason) = (&rest[..end], trim(&rest[end..]));
    let space: &[u8] = if reason.is_empty() { b"" } else { b" " };
    [version, b" ", status, space, reason].concat()
}

/// The options of a Connection field without their parameters; what is no option is left out.
fn write_options(value: &[u8], out: &mut Vec<u8>) {
    let mut separator: &[u8] = b"";
    for member in value.split(|&byte| byte == b',') {
        for (at, word) in member.split(|byte| matches!(byte, b';' | b' ' | b'\t')).filter(|w| !w.is_empty()).enumerate()
        {
            // Whatever stands before it: a server that says so closes.
            let closes = ConnectionOption::of(word) == ConnectionOption::Close;
            if is_token(word) && (at == 0 || closes) {
                out.extend_from_slice(separator);
                out.extend_from_slice(word);
                separator = b", ";
            }
        }
    }
}

/// The token that `line` begins with, and the rest.
pub(super) fn split_name(line: &[u8]) -> (&[u8], &[u8]) {
    line.split_at(line.iter().position(|&byte| !is_token_byte(byte)).unwrap_or(line.len()))
}

/// Whether a field of this name says where the body ends.
fn frames(name: &[u8]) -> bool {
    matches!(Name::of(name), Name::ContentLength | Name::TransferEncoding)
}

pub(super) fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

#[cfg(test)]
#[path = "tests/lenient_head.rs"]
mod tests;
