//! The request of HTTP/2 that asks for what the bytes of a request of HTTP/1 ask for, or for as much of it as can be said.

pub type Fields = Vec<(Vec<u8>, Vec<u8>)>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Twin {
    pub method: Vec<u8>,
    pub scheme: Vec<u8>,
    pub authority: Option<Vec<u8>>,
    pub path: Vec<u8>,
    pub fields: Fields,
    pub body: Vec<u8>,
    pub trailers: Fields,
}

/// The fields of a message that speak of its connection alone (RFC 9113 §8.2.2), and what frames its body.
pub const OF_A_CONNECTION: [&[u8]; 6] =
    [b"connection", b"transfer-encoding", b"keep-alive", b"proxy-connection", b"upgrade", b"http2-settings"];

impl Twin {
    /// Reads `bytes` as leniently as can be. What of them stands in no head is the body.
    pub fn of(bytes: &[u8]) -> Twin {
        let begin = bytes.iter().position(|byte| !b"\r\n".contains(byte)).unwrap_or(0);
        let (head, rest) = split(&bytes[begin..], b"\r\n\r\n");
        let mut lines = lines(head);
        let mut words: Vec<&[u8]> = lines.remove(0).split(|byte| *byte == b' ').collect();
        let method = words.remove(0).to_vec();
        if words.last().is_some_and(|word| word.to_ascii_uppercase().starts_with(b"HTTP/")) {
            words.pop();
        }
        let target = words.join(&b' ');
        let mut fields: Fields = lines.into_iter().map(field).collect();
        let (mut scheme, mut authority, mut path) = (b"http".to_vec(), None, target.clone());
        let (before, after) = split(&target, b"://");
        if after.len() + 3 + before.len() == target.len() && !before.contains(&b'/') && before != target {
            let end = after.iter().position(|byte| b"/?".contains(byte)).unwrap_or(after.len());
            (scheme, authority) = (before.to_vec(), Some(after[..end].to_vec()));
            path = if end == after.len() { b"/".to_vec() } else { after[end..].to_vec() };
        } else if method == b"CONNECT" {
            (authority, path) = (Some(target), Vec::new());
        } else if let Some(at) = fields.iter().position(|(name, _)| name == b"host") {
            authority = Some(fields.remove(at).1);
        }
        let mut twin = Twin { method, scheme, authority, path, fields, body: rest.to_vec(), trailers: Fields::new() };
        if twin.fields.iter().any(|(name, _)| name == b"transfer-encoding")
            && let Some((body, trailers)) = dechunked(rest)
        {
            (twin.body, twin.trailers) = (body, trailers);
        }
        twin
    }

    /// Whether it has a field that no message of HTTP/2 has.
    pub fn speaks_of_a_connection(&self) -> bool {
        self.fields.iter().any(|(name, value)| is_of_a_connection(name) || name == b"te" && value != b"trailers")
    }

    /// Without them, and without what `Connection` names.
    pub fn translated(mut self) -> Twin {
        let named: Vec<Vec<u8>> = self
            .fields
            .iter()
            .filter(|(name, _)| name == b"connection")
            .flat_map(|(_, value)| value.split(|byte| *byte == b',').map(|word| word.trim_ascii().to_ascii_lowercase()))
            .collect();
        let is_kept =
            |name: &[u8]| [&b"content-length"[..], b"authorization", b"x-forwarded-for", b"te"].contains(&name);
        self.fields.retain(|(name, value)| {
            !is_of_a_connection(name)
                && (is_kept(name) || !named.contains(name))
                && (name != b"te" || value == b"trailers")
        });
        self
    }

    /// The header block's fields, in order.
    pub fn block(&self) -> Fields {
        let mut all = vec![(b":method".to_vec(), self.method.clone())];
        if self.method != b"CONNECT" {
            all.push((b":scheme".to_vec(), self.scheme.clone()));
            all.push((b":path".to_vec(), self.path.clone()));
        }
        all.extend(self.authority.iter().map(|authority| (b":authority".to_vec(), authority.clone())));
        all.extend_from_slice(&self.fields);
        all
    }

    /// What a server must have got, whatever it was sent in: fields that frame it aside, sorted, cookies joined.
    pub fn essence(&self) -> Twin {
        let mut twin = self.clone().translated();
        let cookies: Vec<Vec<u8>> =
            twin.fields.iter().filter(|(name, _)| name == b"cookie").map(|(_, value)| value.clone()).collect();
        let authority = twin.authority.clone();
        twin.fields.retain(|(name, value)| match name.as_slice() {
            b"cookie" | b"content-length" => false,
            b"host" => Some(value) != authority.as_ref(),
            _ => true,
        });
        if !cookies.is_empty() {
            twin.fields.push((b"cookie".to_vec(), cookies.join(&b"; "[..])));
        }
        twin.fields.sort();
        twin.scheme = b"http".to_vec();
        twin
    }
}

fn is_of_a_connection(name: &[u8]) -> bool {
    OF_A_CONNECTION.contains(&name)
}

/// What stands before `mark` and behind it; all and nothing, if it is not there.
fn split<'b>(bytes: &'b [u8], mark: &[u8]) -> (&'b [u8], &'b [u8]) {
    match bytes.windows(mark.len()).position(|window| window == mark) {
        Some(at) => (&bytes[..at], &bytes[at + mark.len()..]),
        None => (bytes, &[]),
    }
}

fn lines(text: &[u8]) -> Vec<&[u8]> {
    let (mut lines, mut rest) = (Vec::new(), text);
    loop {
        let (line, after) = split(rest, b"\r\n");
        lines.push(line);
        if after.is_empty() {
            return lines;
        }
        rest = after;
    }
}

fn field(line: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
    let value = line.get(colon + 1..).unwrap_or_default();
    (line[..colon].to_ascii_lowercase(), trim(value).to_vec())
}

/// Without blanks around it; control characters stay.
fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// Body and trailers, if `bytes` are chunks that nobody doubts.
fn dechunked(mut bytes: &[u8]) -> Option<(Vec<u8>, Fields)> {
    let mut body = Vec::new();
    loop {
        let (line, rest) = split(bytes, b"\r\n");
        let (size, _) = split(line, b";");
        if size.is_empty() || size.len() > 8 || !size.iter().all(u8::is_ascii_hexdigit) || line.contains(&b'\n') {
            return None;
        }
        let size = usize::from_str_radix(std::str::from_utf8(size).ok()?, 16).ok()?;
        if size == 0 {
            let (trailers, _) = split(rest, b"\r\n\r\n");
            let trailers = if rest.starts_with(b"\r\n") { Vec::new() } else { lines(trailers) };
            return Some((body, trailers.into_iter().map(field).collect()));
        }
        body.extend_from_slice(rest.get(..size)?);
        bytes = rest[size..].strip_prefix(b"\r\n")?;
    }
}
