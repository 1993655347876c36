//! One exchange over an HTTP/1 connection: the request's bytes on their way up, the response's as they come.
//!
//! Bytes stay in the buffer that they were received in. Whether the connection may carry a further request is known when
//! the response has ended (RFC 9112 §9.3); who gets it is the pool's affair.

use super::message::{CarrierError, Form, Outgoing, Part};
use super::reader::Reader;
use super::stream::{Stream, StreamError};
use crate::http::{
    Answer, AnswerBody, BodyError, BodyLength, CHUNK_END, Doubt, HeadLimits, Passed, RequestContext, RequestHead,
    ResponseHead, chunk_start, last_chunk, parse_answer,
};
use crate::io::{Lease, SendFuture};

/// What must be left of a body, or of one of its chunks, for large receives to pay.
const BULK: u64 = 16 * 1024;

/// Sends the head and the first bytes of the body in one piece.
///
/// # Errors
/// The stream can seal nothing any more.
pub(super) fn begin<'c>(
    stream: &'c Stream,
    request: Outgoing<'_>,
    first: &[u8],
) -> Result<SendFuture<'c>, StreamError> {
    let Outgoing { head, raw, edits, form, is_over } = request;
    let mut rewritten = Vec::new();
    let head_bytes = if head.is_verbatim() && edits.is_empty() {
        raw
    } else {
        head.write_edited(raw, edits, &mut rewritten);
        &rewritten
    };
    if has_to_be_framed(head, form) {
        return send_chunk(stream, head_bytes, first, is_over.then_some(&[]));
    }
    stream.send_pieces(&[head_bytes, first])
}

/// Whether the parts of a body that comes in `form` have to be made chunks.
pub(super) fn has_to_be_framed(head: &RequestHead, form: Form) -> bool {
    form == Form::Data && head.body == BodyLength::Chunked
}

/// Sends `before`, then `data` as a chunk, and where the body ends with it the last chunk with these trailers.
///
/// # Errors
/// The stream can seal nothing any more.
fn send_chunk<'c>(
    stream: &'c Stream,
    before: &[u8],
    data: &[u8],
    trailers: Option<&[u8]>,
) -> Result<SendFuture<'c>, StreamError> {
    let start = if data.is_empty() { Vec::new() } else { chunk_start(data.len()) };
    let end = if data.is_empty() { &[] } else { CHUNK_END };
    let last = trailers.map(last_chunk).unwrap_or_default();
    stream.send_pieces(&[before, &start, data, end, &last])
}

/// Sends a further part of a body; `chunks`: it [has to be framed](has_to_be_framed). `is_last`: the body ends with it.
///
/// # Errors
/// The stream can seal nothing any more.
pub(super) fn send_part(
    stream: &Stream,
    part: Part,
    is_last: bool,
    chunks: bool,
) -> Result<SendFuture<'_>, StreamError> {
    match part {
        Part::Bytes(bytes) if chunks => send_chunk(stream, &[], bytes.as_ref(), is_last.then_some(&[])),
        Part::Bytes(bytes) => stream.send(bytes),
        Part::Trailers(lines) if chunks => send_chunk(stream, &[], &[], Some(&lines)),
        // Behind a body whose length was told, HTTP/1 has no trailers.
        Part::Trailers(_) => stream.send(Vec::new()),
    }
}

/// Much of a body is received in few, large pieces.
pub fn expect(stream: &Stream, remaining: Option<u64>) {
    stream.expect(remaining.filter(|&bytes| bytes > BULK).unwrap_or(0));
}

/// A response as it comes.
pub struct Http1Response<'c> {
    reader: Reader<'c>,
    /// Of the head that was read last, in bytes.
    length: usize,
    scanner: AnswerBody,
    body: BodyLength,
    /// Of the heads so far.
    doubt: Doubt,
    /// The body lasts until the connection ends.
    is_open_ended: bool,
    /// Bytes came behind the end of the response: nobody asked for them, and the connection must not be used again.
    surplus: bool,
    heard: bool,
    /// Trailers that are to be handed out: the body ends with them.
    trailers: Option<Lease>,
}

impl<'c> Http1Response<'c> {
    pub(super) fn new(stream: &'c Stream) -> Self {
        let scanner = AnswerBody::new(BodyLength::None, false);
        let reader = Reader::new(stream);
        Self {
            reader,
            length: 0,
            scanner,
            body: BodyLength::None,
            doubt: Doubt::default(),
            is_open_ended: false,
            surplus: false,
            heard: false,
            trailers: None,
        }
    }

    pub(super) async fn head(
        &mut self,
        request: RequestContext,
        limits: HeadLimits,
    ) -> Result<ResponseHead, CarrierError> {
        loop {
            match parse_answer(self.reader.bytes(), request, limits) {
                Ok(Answer::AsWritten { head, length }) => {
                    self.doubt.lf_ends_lines = false;
                    return Ok(self.begin(head, length));
                }
                Ok(Answer::Rewritten { head, bytes, length, doubt }) => {
                    let written = bytes.len();
                    self.reader.replace(length, bytes);
                    let ends_connection = self.doubt.ends_connection || doubt.ends_connection;
                    self.doubt = Doubt { ends_connection, ..doubt };
                    return Ok(self.begin(head, written));
                }
                Ok(Answer::Partial) => {}
                Err(error) => return Err(CarrierError::Protocol(error.to_string())),
            }
            match self.reader.fill().await {
                Ok(true) => self.heard = true,
                Ok(false) if self.has_begun() => return Err(CarrierError::Cut(None)),
                Ok(false) => return Err(CarrierError::Ended(None)),
                Err(error) if self.has_begun() => return Err(CarrierError::Cut(Some(error))),
                Err(error) => return Err(CarrierError::Ended(Some(error))),
            }
        }
    }

    /// Whether a part of a head is here.
    fn has_begun(&self) -> bool {
        !self.reader.bytes().is_empty()
    }

    /// Bytes of the body so far, without framing.
    pub(super) fn payload(&self) -> u64 {
        self.scanner.payload()
    }

    fn begin(&mut self, head: ResponseHead, length: usize) -> ResponseHead {
        self.length = length;
        self.scanner = AnswerBody::new(head.body, self.doubt.lf_ends_lines);
        self.body = head.body;
        self.is_open_ended = head.is_close_delimited();
        head
    }

    pub(super) fn head_bytes(&self) -> &[u8] {
        self.reader.bytes().get(..self.length).unwrap_or_default()
    }

    pub(super) fn take_head(&mut self) -> Lease {
        self.reader.take(self.length)
    }

    pub(super) fn start(&mut self, form: Form) -> Result<Lease, CarrierError> {
        let mut all = self.reader.take_all();
        match form {
            Form::Framed => match self.scanner.advance(&all[self.length..]).map_err(broken_body)? {
                Passed::AsWritten(used) => {
                    self.surplus = self.length + used < all.len();
                    all.truncate(self.length + used);
                    Ok(all)
                }
                Passed::Rewritten { used, bytes } => {
                    self.surplus = self.length + used < all.len();
                    Ok(Lease::from_vec([&all[..self.length], &bytes].concat()))
                }
            },
            Form::Data => {
                self.scanner = AnswerBody::keeping_trailer(self.body, self.doubt.lf_ends_lines);
                let mut start = Vec::with_capacity(all.len());
                start.extend_from_slice(&all[..self.length]);
                self.unframe(&all[self.length..], &mut start)?;
                Ok(Lease::from_vec(start))
            }
        }
    }

    pub(super) async fn next(&mut self, form: Form) -> Result<Option<Part>, CarrierError> {
        if let Some(trailers) = self.trailers.take() {
            return Ok(Some(Part::Trailers(trailers)));
        }
        if self.scanner.is_complete() {
            return Ok(self.end());
        }
        expect(self.reader.stream(), self.scanner.remaining());
        match self.reader.next().await {
            Ok(Some(bytes)) => self.part(bytes, form).map(|part| Some(part.into())),
            Ok(None) if self.is_open_ended => Ok(self.end()),
            Ok(None) => Err(CarrierError::Cut(None)),
            Err(error) if self.is_open_ended => Err(CarrierError::Ended(Some(error))),
            Err(error) => Err(CarrierError::Cut(Some(error))),
        }
    }

    /// Whether nothing more of the body comes.
    pub(super) fn is_over(&self) -> bool {
        self.scanner.is_complete() && self.trailers.is_none()
    }

    fn end(&self) -> Option<Part> {
        self.reader.stream().expect(0);
        None
    }

    /// What belongs to the response of `bytes`.
    fn part(&mut self, mut bytes: Lease, form: Form) -> Result<Lease, CarrierError> {
        match form {
            Form::Framed => match self.scanner.advance(&bytes).map_err(broken_body)? {
                Passed::AsWritten(used) => {
                    self.surplus = used < bytes.len();
                    bytes.truncate(used);
                    Ok(bytes)
                }
                Passed::Rewritten { used, bytes: rewritten } => {
                    self.surplus = used < bytes.len();
                    Ok(Lease::from_vec(rewritten))
                }
            },
            Form::Data => {
                let mut data = Vec::with_capacity(bytes.len());
                self.unframe(&bytes, &mut data)?;
                Ok(Lease::from_vec(data))
            }
        }
    }

    /// Appends the data in `bytes` to `data`, without its framing.
    fn unframe(&mut self, bytes: &[u8], data: &mut Vec<u8>) -> Result<(), CarrierError> {
        let used = self.scanner.unframe(bytes, data).map_err(broken_body)?;
        self.surplus = used < bytes.len();
        if self.scanner.is_complete() {
            let lines = self.scanner.take_trailer();
            self.trailers = (!lines.is_empty()).then(|| Lease::from_vec(lines));
        }
        Ok(())
    }

    pub(super) fn has_more(&self) -> bool {
        self.reader.stream().has_opened()
    }

    pub(super) fn is_clean(&self) -> bool {
        let is_sure = !self.doubt.ends_connection && !self.scanner.is_doubtful();
        is_sure && !self.is_open_ended && !self.surplus && self.reader.bytes().is_empty()
    }

    pub(super) fn has_spoken(&self) -> bool {
        self.heard
    }

    pub(super) fn reader(&mut self) -> &mut Reader<'c> {
        &mut self.reader
    }
}

fn broken_body(error: BodyError) -> CarrierError {
    CarrierError::Protocol(error.to_string())
}

#[cfg(test)]
#[path = "tests/http1.rs"]
mod tests;
