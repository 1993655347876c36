//! Reads the conversations of `tests/http/*.txt`; see the README there.

use std::fs;
use std::path::Path;

/// What the server does with its connection after its answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum End {
    #[default]
    Stay,
    Close,
    /// RST.
    Reset,
}

/// What the server gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Receives {
    /// What the application sent, byte for byte.
    Same,
    Nothing,
    /// One request that ends before it is complete.
    Cut,
    /// Nothing, or one request that ends before it is complete.
    Part,
    Messages(Vec<String>),
    /// Whatever it gets is complete or not; only the rest of the case counts.
    Anything,
}

/// What the application gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gets {
    /// The server's answer, byte for byte.
    Same,
    Bytes(String),
    /// An answer with this status.
    Status(u16),
    /// Something that it can see not to be whole.
    Broken,
    /// The same, or 502 where nothing had gone on yet.
    Refused,
}

/// What the application's connection is good for afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    Open,
    Closed,
}

#[derive(Clone, Debug)]
pub struct Case {
    /// The number in the list of cases and what it is about.
    pub title: String,
    pub client: String,
    pub upstream: Receives,
    pub answer: String,
    pub end: End,
    pub gets: Gets,
    pub after: After,
    pub log: Vec<String>,
}

impl Case {
    fn new(title: String) -> Case {
        Case {
            title,
            client: "GET / HTTP/1.1\\r\\nHost: {h}\\r\\n\\r\\n".to_owned(),
            upstream: Receives::Same,
            answer: "HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok".to_owned(),
            end: End::Stay,
            gets: Gets::Same,
            after: After::Open,
            log: Vec::new(),
        }
    }

    pub fn method(&self) -> &str {
        self.client.split(' ').next().unwrap_or_default()
    }

    /// The bytes that `text` stands for.
    pub fn bytes(&self, text: &str, host: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let used = match first {
                '{' => self.inserted(rest, host, &mut bytes),
                '\\' => self.escaped(rest, &mut bytes),
                other => {
                    bytes.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes());
                    other.len_utf8()
                }
            };
            rest = &rest[used..];
        }
        bytes
    }

    /// `{h}`, or `{9*text}`.
    fn inserted(&self, text: &str, host: &str, bytes: &mut Vec<u8>) -> usize {
        let end = text.find('}').unwrap_or_else(|| panic!("{}: a brace is open", self.title));
        match &text[1..end] {
            "h" => bytes.extend_from_slice(host.as_bytes()),
            repeated => {
                let (count, piece) =
                    repeated.split_once('*').unwrap_or_else(|| panic!("{}: {repeated:?}?", self.title));
                let count = count.parse().unwrap_or_else(|error| panic!("{}: {count:?}: {error}", self.title));
                bytes.extend(self.bytes(piece, host).repeat(count));
            }
        }
        end + 1
    }

    fn escaped(&self, text: &str, bytes: &mut Vec<u8>) -> usize {
        let simple = match text.as_bytes().get(1) {
            Some(b'r') => b'\r',
            Some(b'n') => b'\n',
            Some(b't') => b'\t',
            Some(&other @ (b'\\' | b'{' | b's')) => {
                if other == b's' {
                    b' '
                } else {
                    other
                }
            }
            Some(b'x') => {
                let hex = text.get(2..4).and_then(|digits| u8::from_str_radix(digits, 16).ok());
                bytes.push(hex.unwrap_or_else(|| panic!("{}: two digits after \\x", self.title)));
                return 4;
            }
            _ => panic!("{}: an escape of what?", self.title),
        };
        bytes.push(simple);
        2
    }

    /// Takes one line of a case.
    fn set(&mut self, key: &str, value: &str) {
        match (key, value) {
            ("client", _) => value.clone_into(&mut self.client),
            ("upstream", "same") => self.upstream = Receives::Same,
            ("upstream", "nothing") => self.upstream = Receives::Nothing,
            ("upstream", "cut") => self.upstream = Receives::Cut,
            ("upstream", "part") => self.upstream = Receives::Part,
            ("upstream", "anything") => self.upstream = Receives::Anything,
            ("upstream", _) => match &mut self.upstream {
                Receives::Messages(messages) => messages.push(value.to_owned()),
                _ => self.upstream = Receives::Messages(vec![value.to_owned()]),
            },
            ("answer", _) => value.clone_into(&mut self.answer),
            ("end", "stay") => self.end = End::Stay,
            ("end", "close") => self.end = End::Close,
            ("end", "reset") => self.end = End::Reset,
            ("gets", "same") => self.gets = Gets::Same,
            ("gets", "broken") => self.gets = Gets::Broken,
            ("gets", "refused") => self.gets = Gets::Refused,
            ("gets", _) => match value.strip_prefix("status ").map(str::parse) {
                Some(Ok(status)) => self.gets = Gets::Status(status),
                _ => self.gets = Gets::Bytes(value.to_owned()),
            },
            ("after", "open") => self.after = After::Open,
            ("after", "closed") => self.after = After::Closed,
            ("log", _) => self.log.push(value.to_owned()),
            _ => panic!("{}: {key}: {value}?", self.title),
        }
        if matches!(self.gets, Gets::Broken | Gets::Refused) {
            self.after = After::Closed;
        }
    }
}

/// Every case of every file.
pub fn all() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/http");
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    let mut cases: Vec<_> = read("refused.txt").lines().filter(|line| is_text(line)).map(refusal).collect();
    for name in ["forwarded.txt", "answers.txt"] {
        cases.extend(conversations(&read(name)));
    }
    cases
}

fn is_text(line: &str) -> bool {
    !line.is_empty() && !line.starts_with('#')
}

/// `H2 400 bytes`.
fn refusal(line: &str) -> Case {
    let mut words = line.splitn(3, ' ');
    let (Some(number), Some(status), Some(client)) = (words.next(), words.next(), words.next()) else {
        panic!("not a refusal: {line}")
    };
    let mut case = Case::new(line.to_owned());
    client.clone_into(&mut case.client);
    case.upstream = Receives::Nothing;
    case.gets = Gets::Status(status.parse().unwrap_or_else(|error| panic!("{number}: {status}: {error}")));
    case.after = After::Closed;
    // Envoy has no flag for a request that is sound but for its Host.
    let is_sound = client.contains(" HTTP/1.1\\r\\n") && !client.to_ascii_lowercase().contains("host:");
    let flag = if is_sound { "-" } else { "DPE" };
    case.log = vec![format!(" {status} {flag} ")];
    case
}

fn conversations(text: &str) -> Vec<Case> {
    let mut cases = Vec::<Case>::new();
    for line in text.lines().filter(|line| is_text(line)) {
        match (line.strip_prefix("=== "), cases.last_mut()) {
            (Some(title), _) => cases.push(Case::new(title.to_owned())),
            (None, Some(case)) => {
                let (key, value) = line.split_once(": ").unwrap_or_else(|| panic!("{}: {line}?", case.title));
                case.set(key, value);
            }
            (None, None) => panic!("before the first case: {line}"),
        }
    }
    cases
}
