//! What a request head and a response head have in common: lines, fields, limits, places in the bytes.
//!
//! Every line is judged as soon as any of it is there, so that a head which cannot become valid is refused before it
//! is complete; and judged from the bytes alone, so that it does not matter how they were cut into segments.

use super::error::HeadError;
use super::grammar::{is_token_byte, is_value, trim};

/// A place in the bytes of a head: offsets from the first byte that was given to the parser.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// Heads are far below 4 GiB: [`HeadLimits`] sees to it.
    pub(super) fn new(start: usize, end: usize) -> Self {
        Self { start: start as u32, end: end as u32 }
    }

    /// The bytes at this place of `raw`, which must be what was parsed (or begin with it); empty in shorter bytes.
    #[must_use]
    pub fn of(self, raw: &[u8]) -> &[u8] {
        raw.get(self.start as usize..self.end as usize).unwrap_or_default()
    }
}

/// The two versions that are spoken here (RFC 9112 §2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    Http10,
    Http11,
}

impl Version {
    /// As it stands on the wire and in the access log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Version::Http10 => "HTTP/1.0",
            Version::Http11 => "HTTP/1.1",
        }
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        match bytes {
            b"HTTP/1.0" => Some(Self::Http10),
            b"HTTP/1.1" => Some(Self::Http11),
            _ => None,
        }
    }
}

/// How large a head may become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Bytes from the first of the start line to the last of the empty line.
    pub max_bytes: usize,
    /// Field lines.
    pub max_fields: usize,
}

impl Default for HeadLimits {
    /// 64 KiB and 128 fields; Envoy's are 60 KiB and 100.
    fn default() -> Self {
        Self { max_bytes: 64 << 10, max_fields: 128 }
    }
}

/// What became of the bytes so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed<H> {
    /// Nothing is wrong yet; call again with these bytes and more.
    Partial,
    /// The head is `raw[..length]`; what follows is body or the next message.
    Complete { head: H, length: usize },
}

/// The lines of a head, in order, with their line ends checked.
pub(super) struct Lines<'a> {
    input: &'a [u8],
    at: usize,
}

pub(super) enum Line<'a> {
    /// Without its CR LF.
    Whole(&'a [u8]),
    /// The beginning of a line whose LF is not there yet, without the CR that may be its end.
    Part(&'a [u8]),
}

impl<'a> Lines<'a> {
    pub(super) fn new(input: &'a [u8], at: usize) -> Self {
        Self { input, at }
    }

    /// Offset of the next line.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn next(&mut self) -> Result<Line<'a>, HeadError> {
        let rest = &self.input[self.at..];
        let Some(length) = memchr::memchr(b'\n', rest) else {
            return Ok(Line::Part(rest.strip_suffix(b"\r").unwrap_or(rest)));
        };
        let line = rest[..length].strip_suffix(b"\r").ok_or(HeadError::LineEnd)?;
        self.at += length + 1;
        Ok(Line::Whole(line))
    }
}

/// One field line, its value without the white space around it.
#[derive(Clone, Copy)]
pub(super) struct Field<'a> {
    pub name: &'a [u8],
    pub value: &'a [u8],
    /// Where the value stands.
    pub at: Span,
    /// All of it as it was written, without its CR LF.
    pub line: &'a [u8],
}

/// Gives every field of the section at `lines` to `each`.
///
/// Returns the offset after the empty line that ends the section, or `None` when it is not there yet.
pub(super) fn each_field<'a, E: From<HeadError>>(
    lines: &mut Lines<'a>,
    max_fields: usize,
    mut each: impl FnMut(Field<'a>) -> Result<(), E>,
) -> Result<Option<usize>, E> {
    let mut count = 0;
    loop {
        let start = lines.at();
        match lines.next()? {
            Line::Part(line) => {
                split(line, start)?;
                return Ok(None);
            }
            Line::Whole(b"") => return Ok(Some(lines.at())),
            Line::Whole(line) => {
                // What is wrong with a line counts before how many there are: half of it may have been judged already.
                let field = split(line, start)?.ok_or(HeadError::FieldName)?;
                count += 1;
                if count > max_fields {
                    return Err(HeadError::TooManyFields.into());
                }
                each(field)?;
            }
        }
    }
}

/// The field in `line`, which stands at `start`; `None` when there is no colon yet.
fn split(line: &[u8], start: usize) -> Result<Option<Field<'_>>, HeadError> {
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return Err(HeadError::Folded);
    }
    let Some(colon) = line.iter().position(|&b| !is_token_byte(b)) else {
        return Ok(None);
    };
    if colon == 0 || line[colon] != b':' {
        return Err(HeadError::FieldName);
    }
    let after = &line[colon + 1..];
    if !is_value(after) {
        return Err(HeadError::ValueByte);
    }
    let value = trim(after);
    let offset = start + colon + 1 + (value.as_ptr().addr() - after.as_ptr().addr());
    Ok(Some(Field { name: &line[..colon], value, at: Span::new(offset, offset + value.len()), line }))
}

/// The fields that begin at `at` of a head that was parsed before.
pub(super) fn fields(head: &[u8], at: usize) -> impl Iterator<Item = Field<'_>> {
    let mut lines = Lines::new(head, at.min(head.len()));
    std::iter::from_fn(move || {
        let start = lines.at();
        match lines.next() {
            Ok(Line::Whole(line)) => split(line, start).ok().flatten(),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    type NamesAndValues<'a> = Vec<(&'a [u8], &'a [u8])>;

    fn fields(input: &[u8]) -> Result<Option<NamesAndValues<'_>>, HeadError> {
        let mut all = Vec::new();
        let end = each_field(&mut Lines::new(input, 0), 3, |field| {
            assert_eq!(field.at.of(input), field.value);
            all.push((field.name, field.value));
            Ok::<_, HeadError>(())
        })?;
        Ok(end.map(|_| all))
    }

    #[test]
    fn fields_are_split_and_trimmed() {
        let expected: [(&[u8], &[u8]); 3] = [(b"A", b"x y"), (b"b", b""), (b"C", b"\xff")];
        assert_eq!(fields(b"A: \tx y \r\nb:\r\nC:\xff\r\n\r\nrest").unwrap().unwrap(), expected);
    }

    #[test]
    fn faults_are_seen_as_soon_as_they_are_there() {
        for (input, error) in [
            (&b"A : "[..], HeadError::FieldName),
            (b"A\t", HeadError::FieldName),
            (b":", HeadError::FieldName),
            (b"A\r\n", HeadError::FieldName),
            (b"A\x80", HeadError::FieldName),
            (b"A: b\n", HeadError::LineEnd),
            (b"A: b\rc", HeadError::ValueByte),
            (b"A: b\0", HeadError::ValueByte),
            (b"A: b\x7f", HeadError::ValueByte),
            (b" A", HeadError::Folded),
            (b"A: b\r\n\tc", HeadError::Folded),
            (b"a:\r\na:\r\na:\r\na:\r\n", HeadError::TooManyFields),
            // One too many, and wrong in itself: the same verdict before its end is there and after.
            (b"a:\r\na:\r\na:\r\n b", HeadError::Folded),
            (b"a:\r\na:\r\na:\r\n b\r\n", HeadError::Folded),
        ] {
            assert_eq!(fields(input), Err(error), "{:?}", input.escape_ascii().to_string());
        }
        for partial in [&b""[..], b"\r", b"A", b"A:", b"A: b\r", b"A: b\r\n", b"A: b\r\n\r"] {
            assert_eq!(fields(partial), Ok(None), "{:?}", partial.escape_ascii().to_string());
        }
    }
}
