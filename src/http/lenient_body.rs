//! The body of an answer, on its way to a client: as it was written where the strict reader takes it, and otherwise
//! written anew.
//!
//! Old servers put blanks around chunk sizes, and some name fields in trailers that no trailer may have (RFC 9112 §7.1).
//! Lines of the chunked form are therefore taken as a whole: a line that the [`BodyScanner`] refuses is written in the form that
//! it takes, if it can mean one thing only, and the scanner judges what is written. It has the last word, so nothing is
//! passed on that it would not take from a client.

use super::body::{BodyScanner, Expected, MAX_LINE_BYTES};
use super::body_length::BodyLength;
use super::error::BodyError;
use super::grammar::{is_token, is_value, trim};
use super::lenient_head::{is_blank, split_name};
use super::trailer::{self, is_trailer_field};

/// What of some bytes belongs to the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Passed {
    /// So many of them, as they are.
    AsWritten(usize),
    /// `used` of them, for which `bytes` go on. These may be none: a line is not complete.
    Rewritten { used: usize, bytes: Vec<u8> },
}

/// Follows the body of an answer. It does not matter how its bytes are cut.
#[derive(Clone, Debug)]
pub struct AnswerBody {
    /// Follows what is passed on.
    scanner: BodyScanner,
    /// The beginning of a line, or of a trailer section, that is not complete.
    held: Vec<u8>,
    /// Lines of chunks may end with LF alone, as those of the head do.
    lf_ends_lines: bool,
    is_doubtful: bool,
}

impl AnswerBody {
    /// `lf_ends_lines`: lines of chunks may end with LF alone.
    #[must_use]
    pub fn new(length: BodyLength, lf_ends_lines: bool) -> Self {
        Self { scanner: BodyScanner::new(length), held: Vec::new(), lf_ends_lines, is_doubtful: false }
    }

    /// As [`new`](Self::new), for a receiver that gets the trailer by itself: see [`take_trailer`](Self::take_trailer).
    #[must_use]
    pub fn keeping_trailer(length: BodyLength, lf_ends_lines: bool) -> Self {
        Self { scanner: BodyScanner::keeping_trailer(length), ..Self::new(length, lf_ends_lines) }
    }

    /// As [`BodyScanner::take_trailer`].
    pub fn take_trailer(&mut self) -> Vec<u8> {
        self.scanner.take_trailer()
    }

    /// Whether the last byte of the body has been seen.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.scanner.is_complete()
    }

    /// As [`BodyScanner::payload`].
    #[must_use]
    pub fn payload(&self) -> u64 {
        self.scanner.payload()
    }

    /// As [`BodyScanner::remaining`].
    #[must_use]
    pub fn remaining(&self) -> Option<u64> {
        self.scanner.remaining()
    }

    /// Something was understood that other readers may understand otherwise: nothing that follows may be taken for another
    /// answer.
    #[must_use]
    pub fn is_doubtful(&self) -> bool {
        self.is_doubtful
    }

    /// Goes on through `input`.
    ///
    /// # Errors
    /// Nothing of `input` may be passed on then.
    pub fn advance(&mut self, input: &[u8]) -> Result<Passed, BodyError> {
        if self.held.is_empty() {
            let mut ahead = self.scanner.clone();
            if let Ok(used) = ahead.advance(input)
                && !ahead.is_within_line()
            {
                self.scanner = ahead;
                return Ok(Passed::AsWritten(used));
            }
        }
        let mut bytes = Vec::with_capacity(input.len());
        let used = self.rewrite(input, &mut |scanner, piece| {
            scanner.advance(piece)?;
            bytes.extend_from_slice(piece);
            Ok(())
        })?;
        Ok(Passed::Rewritten { used, bytes })
    }

    /// Appends the data in `input` to `data`, without its framing. Returns how many bytes of `input` belong to the body.
    ///
    /// # Errors
    /// As [`advance`](Self::advance).
    pub fn unframe(&mut self, input: &[u8], data: &mut Vec<u8>) -> Result<usize, BodyError> {
        let before = data.len();
        if self.held.is_empty() {
            let mut ahead = self.scanner.clone();
            match ahead.unframe(input, data) {
                Ok(used) if !ahead.is_within_line() => {
                    self.scanner = ahead;
                    return Ok(used);
                }
                _ => data.truncate(before),
            }
        }
        self.rewrite(input, &mut |scanner, piece| scanner.unframe(piece, data).map(drop))
    }

    /// Gives `pass` what goes on for the bytes of `input`, line by line. Returns how many of them belong to the body.
    fn rewrite(&mut self, input: &[u8], pass: &mut Pass<'_>) -> Result<usize, BodyError> {
        let mut at = 0;
        while at < input.len() && !self.scanner.is_complete() {
            let rest = &input[at..];
            let expected = self.scanner.expected();
            if let Expected::Data(bytes) = expected {
                let taken = rest.len().min(usize::try_from(bytes).unwrap_or(usize::MAX));
                pass(&mut self.scanner, &rest[..taken])?;
                at += taken;
                continue;
            }
            let taken = memchr::memchr(b'\n', rest).map_or(rest.len(), |end| end + 1);
            self.held.extend_from_slice(&rest[..taken]);
            at += taken;
            let line = match expected {
                Expected::Size => self.size_line()?,
                Expected::DataEnd => self.data_end()?,
                Expected::Trailer => self.trailer_section()?,
                Expected::Data(_) => None,
            };
            if let Some(line) = line {
                self.held.clear();
                pass(&mut self.scanner, &line)?;
            }
        }
        Ok(at)
    }

    /// The line of a chunk, once it is whole: blanks around the size go, and so do extensions that are none (RFC 9112 §7.1.1
    /// wants unknown ones ignored).
    fn size_line(&mut self) -> Result<Option<Vec<u8>>, BodyError> {
        if self.held.len() as u64 > MAX_LINE_BYTES {
            return Err(BodyError::Overhead);
        }
        let line = self.held.strip_suffix(b"\n");
        let text = line.unwrap_or(&self.held);
        let text = match (text.strip_suffix(b"\r"), line) {
            (None, Some(_)) if !self.lf_ends_lines => return Err(BodyError::ChunkSize),
            (text_before, _) => text_before.unwrap_or(text),
        };
        let (size, extension) = text.split_at(text.iter().position(|&byte| byte == b';').unwrap_or(text.len()));
        let size = trim(size);
        if !size.iter().all(u8::is_ascii_hexdigit) || line.is_some() && size.is_empty() {
            return Err(BodyError::ChunkSize);
        }
        if !is_value(extension) {
            return Err(BodyError::ChunkExtension);
        }
        if line.is_none() {
            return Ok(None);
        }
        if self.scanner.clone().advance(&self.held).is_ok() {
            return Ok(Some(self.held.clone()));
        }
        self.is_doubtful = true;
        let tidied = [size, b"\r\n"].concat();
        self.scanner.charge(self.held.len().saturating_sub(tidied.len()));
        Ok(Some(tidied))
    }

    /// What stands behind the data of a chunk, once it is whole.
    fn data_end(&mut self) -> Result<Option<Vec<u8>>, BodyError> {
        match self.held.as_slice() {
            b"\r" => Ok(None),
            b"\r\n" => Ok(Some(b"\r\n".to_vec())),
            b"\n" if self.lf_ends_lines => Ok(Some(b"\r\n".to_vec())),
            _ => Err(BodyError::ChunkEnd),
        }
    }

    /// The trailer section, once it is whole. Fields that no trailer may have are left out: RFC 9110 §6.5.1 forbids a
    /// recipient to merge them.
    fn trailer_section(&mut self) -> Result<Option<Vec<u8>>, BodyError> {
        if self.held.len() > trailer::MAX_BYTES as usize {
            return Err(BodyError::TrailerTooLarge);
        }
        if !self.lf_ends_lines && self.held.ends_with(b"\n") && !self.held.ends_with(b"\r\n") {
            return Err(BodyError::TrailerField);
        }
        let is_over = match self.held.strip_suffix(b"\r\n") {
            Some(before) => before.is_empty() || before.ends_with(b"\n"),
            None => self.lf_ends_lines && (self.held == b"\n" || self.held.ends_with(b"\n\n")),
        };
        if !is_over {
            return Ok(None);
        }
        if self.scanner.clone().advance(&self.held).is_ok() {
            return Ok(Some(self.held.clone()));
        }
        tidy_trailer(&self.held, self.lf_ends_lines).map(Some)
    }
}

type Pass<'p> = dyn FnMut(&mut BodyScanner, &[u8]) -> Result<(), BodyError> + 'p;

/// The lines of a trailer section without those that no trailer may have.
fn tidy_trailer(section: &[u8], lf_ends_lines: bool) -> Result<Vec<u8>, BodyError> {
    let mut out = Vec::with_capacity(section.len());
    // Whether a folded part belongs to a line that goes on; `None`: there is none before it.
    let mut passes = None;
    for written in section.split_inclusive(|&byte| byte == b'\n') {
        let line = match written.strip_suffix(b"\r\n") {
            None if !lf_ends_lines => return Err(BodyError::TrailerField),
            line => line.or(written.strip_suffix(b"\n")).unwrap_or(written),
        };
        if line.first().is_some_and(|&first| is_blank(first)) {
            match passes {
                Some(true) => {
                    out.truncate(out.len() - b"\r\n".len());
                    out.extend([b" ", trim(line), b"\r\n"].concat());
                }
                Some(false) => {}
                None => return Err(BodyError::TrailerField),
            }
            continue;
        }
        let (name, rest) = split_name(line);
        let rest = rest.trim_ascii_start();
        if !line.is_empty() && (!is_token(name) || !rest.starts_with(b":")) {
            return Err(BodyError::TrailerField);
        }
        passes = (!line.is_empty()).then(|| is_trailer_field(name));
        if passes != Some(false) {
            out.extend([name, rest, b"\r\n"].concat());
        }
    }
    Ok(out)
}

#[cfg(test)]
#[path = "tests/lenient_body.rs"]
mod tests;
