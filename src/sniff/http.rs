//! Is this the beginning of an HTTP/1 request line?
//!
//! On a port where anything may come, methods are capitals (RFC 9110 §9.1: case-sensitive, and registered so), and what
//! follows is wider than the parser in `http` accepts, on purpose: what a lenient server might take for a request must
//! reach the parser, which refuses it, and not pass as opaque bytes. On a port of protocol HTTP any line with a version
//! of HTTP in it is a request, however odd, and so is what begins with a method of HTTP.

use super::detection::Detection;

/// A request line that has not told by then what it is will not.
const MAX_BYTES: usize = 8 << 10;

/// As `http` limits it: a longer word is no method.
const MAX_METHOD_BYTES: usize = 32;

/// A word that waits for its end, or what is known.
enum Word<'a> {
    Whole { word: &'a [u8], rest: &'a [u8] },
    Part(&'a [u8]),
}

pub(super) fn detect(bytes: &[u8]) -> Detection {
    let window = &bytes[..bytes.len().min(MAX_BYTES)];
    match request_line(window) {
        // At the limit: only a method of HTTP and a path say that it is HTTP.
        Detection::NeedMore if window.len() == MAX_BYTES => match word(window.trim_ascii_start()) {
            Word::Whole { word, .. } if METHODS.contains(&word) => Detection::Http1,
            Word::Whole { .. } | Word::Part(_) => Detection::Opaque,
        },
        detection => detection,
    }
}

/// The same on a port that is declared HTTP. Bytes that are no text are something else still.
pub(super) fn detect_declared(bytes: &[u8]) -> Detection {
    let window = &bytes[..bytes.len().min(MAX_BYTES)];
    let line = window.trim_ascii_start();
    let (is_method, has_path) = match word(line) {
        Word::Whole { word, rest } => (METHODS.contains(&word), skip_blanks(rest).first() == Some(&b'/')),
        Word::Part(_) => (false, false),
    };
    if is_method {
        return Detection::Http1;
    }
    // What begins with a letter is text, whatever stands in it.
    let is_text = line.first().is_some_and(u8::is_ascii_alphabetic);
    for (at, byte) in line.iter().enumerate() {
        match byte {
            b'H' | b'h' if version(&line[at..]) == Some(true) => return Detection::Http1,
            b'!'..=b'~' => {}
            b'\r' | b'\t' | b' ' | 0x80..=0xff if at > 0 => {}
            b'\n' => return Detection::Opaque,
            _ if is_text => {}
            _ => return Detection::Opaque,
        }
    }
    match window.len() {
        MAX_BYTES if has_path => Detection::Http1,
        MAX_BYTES => Detection::Opaque,
        _ => Detection::NeedMore,
    }
}

/// Whether the first line is a method, a target, and a version that is none of HTTP.
pub(super) fn is_foreign_request(bytes: &[u8]) -> bool {
    let window = &bytes[..bytes.len().min(MAX_BYTES)];
    let Some(end) = window.windows(2).position(|pair| pair == b"\r\n") else { return false };
    match *window[..end].split(|byte| *byte == b' ').collect::<Vec<_>>() {
        [method, target, last] => {
            !method.is_empty() && may_be_method(method) && !target.is_empty() && version(last) == Some(false)
        }
        _ => false,
    }
}

/// Methods that are HTTP's even where no version follows, as in HTTP/0.9.
const METHODS: [&[u8]; 9] = [b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH"];

fn request_line(bytes: &[u8]) -> Detection {
    let is_line_end = |b: &&u8| matches!(b, b'\r' | b'\n');
    let line = &bytes[bytes.iter().take_while(is_line_end).count()..];
    let (method, rest) = match word(line) {
        Word::Part(part) if may_be_method(part) => return Detection::NeedMore,
        Word::Whole { word, rest } if !word.is_empty() && may_be_method(word) => (word, rest),
        Word::Part(_) | Word::Whole { .. } => return Detection::Opaque,
    };
    let (target, rest) = match word(skip_blanks(rest)) {
        Word::Part(part) if may_become_target(method, part) => return Detection::NeedMore,
        Word::Whole { word, rest } if is_target(method, word) => (word, rest),
        Word::Part(_) | Word::Whole { .. } => return Detection::Opaque,
    };
    match version(skip_blanks(rest)) {
        Some(false) if METHODS.contains(&method) && is_simple(rest, target) => Detection::Http1,
        Some(true) => Detection::Http1,
        Some(false) => Detection::Opaque,
        None => Detection::NeedMore,
    }
}

/// The bytes up to the first blank or line end.
fn word(bytes: &[u8]) -> Word<'_> {
    match bytes.iter().position(|b| matches!(b, b' ' | b'\t' | b'\r' | b'\n')) {
        Some(end) => Word::Whole { word: &bytes[..end], rest: &bytes[end..] },
        None => Word::Part(bytes),
    }
}

fn skip_blanks(bytes: &[u8]) -> &[u8] {
    let blanks = bytes.iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
    &bytes[blanks..]
}

/// `M-SEARCH` and `VERSION-CONTROL` are methods; no lower-case letter nor digit is in any.
fn may_be_method(word: &[u8]) -> bool {
    let is_method_byte = |b: &u8| b.is_ascii_uppercase() || matches!(b, b'-' | b'_');
    word.len() <= MAX_METHOD_BYTES && word.first().is_none_or(u8::is_ascii_uppercase) && word.iter().all(is_method_byte)
}

const SCHEMES: [&[u8]; 2] = [b"http://", b"https://"];

fn starts_with(bytes: &[u8], prefix: &[u8]) -> bool {
    bytes.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

/// Whether `part`, the beginning of a word (perhaps nothing yet), may still become a target.
fn may_become_target(method: &[u8], part: &[u8]) -> bool {
    let is_prefix = |scheme: &&[u8]| starts_with(scheme, part) || starts_with(part, scheme);
    let is_path = part.first() == Some(&b'/') || part == b"*";
    part.is_empty() || is_path || SCHEMES.iter().any(is_prefix) || (is_connect(method) && is_authority(part))
}

fn is_target(method: &[u8], word: &[u8]) -> bool {
    let is_absolute = || SCHEMES.iter().any(|scheme| starts_with(word, scheme));
    let is_path = word.first() == Some(&b'/') || word == b"*";
    is_path || is_absolute() || (is_connect(method) && !word.is_empty() && is_authority(word))
}

fn is_connect(method: &[u8]) -> bool {
    method == b"CONNECT"
}

fn is_authority(word: &[u8]) -> bool {
    word.iter().all(|b| b.is_ascii_alphanumeric() || b"-._:[]%@".contains(b))
}

/// Whether `rest` begins with a version of HTTP; `None` when that cannot be told yet.
fn version(rest: &[u8]) -> Option<bool> {
    const NAME: &[u8] = b"HTTP/";
    let common = rest.len().min(NAME.len());
    let same = rest[..common].eq_ignore_ascii_case(&NAME[..common]);
    if same && common < NAME.len() { None } else { Some(same) }
}

/// Whether the line ends after its `target`, as in HTTP/0.9. A CONNECT needs a version: other protocols have that word.
fn is_simple(rest: &[u8], target: &[u8]) -> bool {
    matches!(skip_blanks(rest).first(), Some(b'\r' | b'\n')) && target.first() == Some(&b'/')
}
