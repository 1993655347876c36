//! Where a body ends (RFC 9112 §6, §7), found without changing or keeping a byte of it.
//!
//! ```text
//! Size ─┬─ ';' ─► Extension ─┐        ┌────────── more ──────────┐
//!       └──────── CR ────────┴► SizeLf ─┬─ n > 0 ─► Data ─► DataCr ─► DataLf ─► Size
//!                                       └─ n = 0 ─► Trailer ─► Done
//! ```
//!
//! The chunked form is forwarded as it was written, so it is checked for every reader that may come after: exact line
//! ends, plain hexadecimal, the grammar of extensions, no field in the trailer that could be taken for one of the head.

use std::ops::Range;

use super::body_length::BodyLength;
use super::error::BodyError;
use super::grammar::{is_token_byte, is_value_byte};
use super::trailer::Trailer;

/// A run of a body's bytes, for a receiver that gets the data without its framing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Bytes of the input that are done with.
    pub consumed: usize,
    /// The data among them.
    pub data: Range<usize>,
}

/// Follows one body through its bytes. It does not matter how they are cut.
#[derive(Clone, Debug)]
pub struct BodyScanner {
    state: State,
    /// Of the chunk whose line is being read.
    size: u64,
    payload: u64,
    line_bytes: u64,
    excess: u64,
    trailer: Trailer,
    /// The trailer's bytes, for whoever wants them.
    kept: Option<Vec<u8>>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Done,
    Counted(u64),
    UntilClose,
    Size { digits: u8 },
    Extension(Extension),
    SizeLf,
    Data(u64),
    DataCr,
    DataLf,
    Trailer,
    Failed(BodyError),
}

/// Where in `*( ";" name [ "=" ( token / quoted-string ) ] )` (RFC 9112 §7.1.1). The "bad" white space that the
/// grammar tolerates is refused: it would have to be removed before forwarding.
#[derive(Clone, Copy, Debug)]
enum Extension {
    NameStart,
    Name,
    ValueStart,
    Token,
    Quoted,
    Escaped,
    Closed,
}

/// A line of a chunk may be so long.
pub(super) const MAX_LINE_BYTES: u64 = 4 << 10;

/// Each chunk may have this much around its data, and as much as twice the data; what is beyond that adds up, over
/// the whole body, to no more than [`MAX_EXCESS_BYTES`]. So bodies sent in single bytes pass, as applications that
/// stream do send them, and bodies that are mostly extensions do not.
const FREE_LINE_BYTES: u64 = 16;
const MAX_EXCESS_BYTES: u64 = 16 << 10;

/// What comes next of a body that is not over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// The line of a chunk.
    Size,
    /// So many bytes of data.
    Data(u64),
    /// What stands behind the data of a chunk.
    DataEnd,
    /// The trailer section.
    Trailer,
}

impl BodyScanner {
    #[must_use]
    pub fn new(length: BodyLength) -> Self {
        let state = match length {
            BodyLength::None | BodyLength::Length(0) => State::Done,
            BodyLength::Length(bytes) => State::Counted(bytes),
            BodyLength::Chunked => State::Size { digits: 0 },
            BodyLength::UntilClose => State::UntilClose,
        };
        Self { state, size: 0, payload: 0, line_bytes: 0, excess: 0, trailer: Trailer::default(), kept: None }
    }

    /// As [`new`](Self::new), for a receiver that gets the trailer by itself: see [`take_trailer`](Self::take_trailer).
    #[must_use]
    pub fn keeping_trailer(length: BodyLength) -> Self {
        Self { kept: Some(Vec::new()), ..Self::new(length) }
    }

    /// The field lines of the trailer, each with its CR LF, once the body is complete; empty when there are none.
    pub fn take_trailer(&mut self) -> Vec<u8> {
        let mut lines = self.kept.take().unwrap_or_default();
        // The empty line that ends the section.
        lines.truncate(lines.len().saturating_sub(2));
        lines
    }

    /// Goes on through `input`. Returns how many of its bytes belong to the body and may be forwarded: all, unless the
    /// body ends before.
    ///
    /// # Errors
    /// Nothing of `input` may be forwarded then, and every further call fails alike.
    pub fn advance(&mut self, input: &[u8]) -> Result<usize, BodyError> {
        let mut at = 0;
        while at < input.len() && !self.is_complete() {
            at += match self.data(&input[at..]) {
                0 => self.framing(input[at])?,
                data => data,
            };
        }
        Ok(at)
    }

    /// Like [`advance`](Self::advance), but stops after the first run of data. Call it until all of the input is
    /// consumed or the body is complete.
    ///
    /// # Errors
    /// As [`advance`](Self::advance).
    pub fn next_chunk(&mut self, input: &[u8]) -> Result<Chunk, BodyError> {
        let mut at = 0;
        while at < input.len() && !self.is_complete() {
            let data = self.data(&input[at..]);
            if data > 0 {
                return Ok(Chunk { consumed: at + data, data: at..at + data });
            }
            at += self.framing(input[at])?;
        }
        Ok(Chunk { consumed: at, data: at..at })
    }

    /// Appends the data in `input` to `data`, without its framing. Returns how many bytes of `input` belong to the body.
    ///
    /// # Errors
    /// As [`advance`](Self::advance).
    pub fn unframe(&mut self, input: &[u8], data: &mut Vec<u8>) -> Result<usize, BodyError> {
        let mut at = 0;
        while at < input.len() && !self.is_complete() {
            let chunk = self.next_chunk(&input[at..])?;
            data.extend_from_slice(&input[at..][chunk.data]);
            at += chunk.consumed;
        }
        Ok(at)
    }

    /// Whether the last byte of the body has been seen. Never, when it lasts until the connection closes.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Bytes that are still to come: `None` when nobody knows.
    #[must_use]
    pub fn remaining(&self) -> Option<u64> {
        match self.state {
            State::Done => Some(0),
            State::Counted(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// Bytes of data so far, without framing.
    #[must_use]
    pub fn payload(&self) -> u64 {
        self.payload
    }

    /// What comes next, between two lines.
    pub(super) fn expected(&self) -> Expected {
        match self.state {
            State::Counted(bytes) | State::Data(bytes) => Expected::Data(bytes),
            State::UntilClose => Expected::Data(u64::MAX),
            State::DataCr | State::DataLf => Expected::DataEnd,
            State::Trailer | State::Done => Expected::Trailer,
            State::Size { .. } | State::Extension(_) | State::SizeLf | State::Failed(_) => Expected::Size,
        }
    }

    /// Whether the last byte stands in a line of framing, or in the trailer section.
    pub(super) fn is_within_line(&self) -> bool {
        match self.state {
            State::Size { digits } => digits > 0,
            State::Trailer => self.trailer.has_begun(),
            State::Extension(_) | State::SizeLf | State::DataLf => true,
            _ => false,
        }
    }

    /// Bytes of the next line that were left out count as if they were there.
    pub(super) fn charge(&mut self, bytes: usize) {
        self.line_bytes += bytes as u64;
    }

    /// Takes the data that `input` begins with; returns its length.
    fn data(&mut self, input: &[u8]) -> usize {
        let taken = self.take_data(input);
        self.payload += taken as u64;
        taken
    }

    fn take_data(&mut self, input: &[u8]) -> usize {
        let (State::Counted(bytes) | State::Data(bytes)) = self.state else {
            return if matches!(self.state, State::UntilClose) { input.len() } else { 0 };
        };
        let taken = input.len().min(usize::try_from(bytes).unwrap_or(usize::MAX));
        let left = bytes - taken as u64;
        self.state = match (self.state, left) {
            (State::Counted(_), 0) => State::Done,
            (State::Counted(_), _) => State::Counted(left),
            (_, 0) => State::DataCr,
            (_, _) => State::Data(left),
        };
        taken
    }

    /// Takes one byte of framing; returns 1.
    fn framing(&mut self, byte: u8) -> Result<usize, BodyError> {
        match self.next_state(byte) {
            Ok(state) => {
                self.state = state;
                Ok(1)
            }
            Err(error) => {
                self.state = State::Failed(error);
                Err(error)
            }
        }
    }

    fn next_state(&mut self, byte: u8) -> Result<State, BodyError> {
        match self.state {
            State::Size { digits } => self.size_byte(digits, byte),
            State::Extension(part) => {
                self.count_line_byte()?;
                if byte == b'\r' && part.may_end() {
                    return Ok(State::SizeLf);
                }
                part.next(byte).map(State::Extension).ok_or(BodyError::ChunkExtension)
            }
            State::SizeLf => {
                expect(byte, b'\n')?;
                self.end_line()
            }
            State::DataCr => expect(byte, b'\r').map(|()| State::DataLf),
            State::DataLf => expect(byte, b'\n').map(|()| State::Size { digits: 0 }),
            State::Trailer => {
                let is_last = self.trailer.push(byte)?;
                if let Some(kept) = &mut self.kept {
                    kept.push(byte);
                }
                Ok(if is_last { State::Done } else { State::Trailer })
            }
            State::Failed(error) => Err(error),
            State::Done | State::Counted(_) | State::UntilClose | State::Data(_) => Ok(self.state),
        }
    }

    fn size_byte(&mut self, digits: u8, byte: u8) -> Result<State, BodyError> {
        self.count_line_byte()?;
        match (byte as char).to_digit(16) {
            Some(_) if digits == 16 => Err(BodyError::ChunkSize),
            Some(digit) => {
                self.size = if digits == 0 { 0 } else { self.size << 4 } | u64::from(digit);
                Ok(State::Size { digits: digits + 1 })
            }
            // Above 2^63 readers that count in signed numbers see another size.
            None if digits == 0 || self.size > i64::MAX as u64 => Err(BodyError::ChunkSize),
            None if byte == b'\r' => Ok(State::SizeLf),
            None if byte == b';' => Ok(State::Extension(Extension::NameStart)),
            None => Err(BodyError::ChunkSize),
        }
    }

    fn count_line_byte(&mut self) -> Result<(), BodyError> {
        self.line_bytes += 1;
        if self.line_bytes > MAX_LINE_BYTES { Err(BodyError::Overhead) } else { Ok(()) }
    }

    /// The line of a chunk has been read.
    fn end_line(&mut self) -> Result<State, BodyError> {
        let free = self.size.saturating_mul(2).saturating_add(FREE_LINE_BYTES);
        self.excess = (self.excess + self.line_bytes).saturating_sub(free);
        self.line_bytes = 0;
        match self.size {
            _ if self.excess > MAX_EXCESS_BYTES => Err(BodyError::Overhead),
            0 => Ok(State::Trailer),
            size => Ok(State::Data(size)),
        }
    }
}

fn expect(byte: u8, expected: u8) -> Result<(), BodyError> {
    if byte == expected { Ok(()) } else { Err(BodyError::ChunkEnd) }
}

impl Extension {
    fn may_end(self) -> bool {
        matches!(self, Self::Name | Self::Token | Self::Closed)
    }

    fn next(self, byte: u8) -> Option<Self> {
        match (self, byte) {
            (Self::Name | Self::Token | Self::Closed, b';') => Some(Self::NameStart),
            (Self::Name, b'=') => Some(Self::ValueStart),
            (Self::NameStart | Self::Name, _) if is_token_byte(byte) => Some(Self::Name),
            (Self::ValueStart, b'"') => Some(Self::Quoted),
            (Self::ValueStart | Self::Token, _) if is_token_byte(byte) => Some(Self::Token),
            (Self::Quoted, b'"') => Some(Self::Closed),
            (Self::Quoted, b'\\') => Some(Self::Escaped),
            (Self::Quoted | Self::Escaped, _) if is_value_byte(byte) => Some(Self::Quoted),
            _ => None,
        }
    }
}

#[cfg(test)]
#[path = "tests/body.rs"]
mod tests;
