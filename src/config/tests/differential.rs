//! The reader against libyaml, through PyYAML: documents of Kubernetes' shape in every style, the same tree in the same
//! places. A failure prints its seed; `EGRET_SEED` plays it again.
//!
//! What differs on purpose, because kubectl's parser differs from PyYAML there: see [`DIFFERENT_WORDS`]; keys that are
//! booleans or numbers become text, keys written twice and tags of other schemas are refused, and so is a merge key
//! behind a field that it brings with another value. None of these is generated. The place of a block of text is that of
//! its first line, not of the `|`, that of an anchored value is behind the anchor, and that of a list whose dashes stand
//! below its key is the first item's, not the dash's. A value that is not there is `~`, anywhere behind its key.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::SystemTime;

use serde_json::Value as Json;

use crate::config::scalar::{Plain, classify};
use crate::config::yaml::{Node, Value, documents};

const DOCUMENTS: usize = 2000;

/// Plain scalars, and what they are to both readers.
const WORDS: [(&str, &str); 22] = [
    ("true", "bool"),
    ("False", "bool"),
    ("yes", "bool"),
    ("NO", "bool"),
    ("on", "bool"),
    ("Off", "bool"),
    ("~", "null"),
    ("null", "null"),
    ("80", "int"),
    ("-1", "int"),
    ("0x1F", "int"),
    ("0b101", "int"),
    ("0777", "int"),
    ("1_000", "int"),
    ("1.5", "float"),
    (".5", "float"),
    ("-.inf", "float"),
    ("a.example", "str"),
    ("10s", "str"),
    ("1.2.3.4", "str"),
    ("a", "str"),
    ("it's", "str"),
];

/// Plain scalars, what they are to kubectl, and to PyYAML.
const DIFFERENT_WORDS: [(&str, &str, &str); 7] = [
    ("y", "bool", "str"),
    ("N", "bool", "str"),
    ("0o17", "int", "str"),
    ("08", "float", "str"),
    ("1e3", "float", "str"),
    ("22:17", "str", "int"),
    ("2001-01-01", "str", "timestamp"),
];

/// Reads a JSON list of texts, writes one of their trees; `null` for what libyaml refuses.
const PEER: &str = r#"
import json, sys, yaml
def tree(loader, node, text, seen):
    mark = node.start_mark
    copied = id(node) in seen or text[mark.index:mark.index + 1] in ("&", "!", "|", ">")
    seen.add(id(node))
    at = None if copied else [mark.line + 1, mark.column + 1]
    if isinstance(node, yaml.ScalarNode):
        nothing = not node.style and not node.value
        return ["scalar", None if nothing else at, "~" if nothing else node.value, node.tag.rsplit(":", 1)[1]]
    if isinstance(node, yaml.SequenceNode):
        return ["list", at if node.flow_style else None, [tree(loader, item, text, seen) for item in node.value]]
    loader.flatten_mapping(node)
    entries = {}
    for key, value in node.value:
        entries[key.value] = [[key.start_mark.line + 1, key.start_mark.column + 1], value]
    return ["map", at, {key: [at, tree(loader, value, text, seen)] for key, (at, value) in entries.items()}]
def trees(text):
    loader = yaml.CSafeLoader(text)
    try:
        found = []
        while loader.check_node():
            found.append(tree(loader, loader.get_node(), text, set()))
        return found
    except yaml.YAMLError:
        return None
    finally:
        loader.dispose()
json.dump([trees(text) for text in json.load(sys.stdin)], sys.stdout)
"#;

/// What PyYAML makes of the texts.
fn peer(texts: &[String]) -> Vec<Json> {
    let mut python = Command::new("/usr/bin/python3")
        .args(["-I", "-c", PEER])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("scripts/setup installs python3");
    let question = serde_json::to_vec(texts).unwrap();
    let mut stdin = python.stdin.take().unwrap();
    let asking = std::thread::spawn(move || stdin.write_all(&question));
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success(), "scripts/setup installs python3-yaml");
    asking.join().unwrap().unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

fn kind(text: &str) -> &'static str {
    match classify(text) {
        Plain::Null => "null",
        Plain::Boolean(_) => "bool",
        Plain::Whole(_) => "int",
        Plain::Other(_) => "float",
        Plain::Text => "str",
    }
}

#[test]
fn words_mean_what_they_mean_to_libyaml_except_where_kubectl_differs() {
    let same = WORDS.iter().map(|(word, kind)| (*word, *kind, *kind));
    let all: Vec<_> = same.chain(DIFFERENT_WORDS).collect();
    let texts: Vec<String> = all.iter().map(|(word, ..)| (*word).to_owned()).collect();
    for ((word, ours, theirs), answer) in all.into_iter().zip(peer(&texts)) {
        assert_eq!((kind(word), answer[0][3].as_str()), (ours, Some(theirs)), "{word}");
    }
}

#[test]
fn documents_are_read_as_libyaml_reads_them() {
    let now = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as u64;
    let seed = std::env::var("EGRET_SEED").map_or_else(|_| now(), |seed| seed.parse().unwrap());
    println!("EGRET_SEED={seed}");
    let texts: Vec<String> = (0..DOCUMENTS as u64).map(|i| Writer::new(seed.wrapping_add(i)).text()).collect();
    let mut refused = 0;
    for (text, theirs) in texts.iter().zip(peer(&texts)) {
        let Some(theirs) = theirs.as_array() else {
            refused += 1;
            continue;
        };
        let ours = documents(text);
        assert_eq!(ours.len(), theirs.len(), "documents of\n{text}");
        for (ours, theirs) in ours.iter().zip(theirs) {
            assert!(ours.errors.is_empty(), "{:?} in\n{text}", ours.errors);
            let differs = difference(ours.root.as_ref().unwrap(), theirs);
            assert!(differs.is_none(), "{} in\n{text}", differs.unwrap());
        }
    }
    assert!(refused < DOCUMENTS / 10, "libyaml refused {refused} of {DOCUMENTS}: the test has lost its point");
}

fn difference(ours: &Node, theirs: &Json) -> Option<String> {
    let at = |at: crate::config::yaml::Place| serde_json::json!([at.line, at.column]);
    if !theirs[1].is_null() && at(ours.at) != theirs[1] {
        return Some(format!("{:?} is not at {}", ours.at, theirs[1]));
    }
    match &ours.value {
        Value::Scalar { text, plain } => {
            let meant = if *plain { kind(text) } else { "str" };
            let same = theirs[0] == "scalar" && theirs[2] == text.as_str() && theirs[3] == meant;
            (!same).then(|| format!("{text:?} (plain: {plain}) is not {theirs}"))
        }
        Value::Sequence(items) => {
            let their_items = theirs[2].as_array().filter(|list| theirs[0] == "list" && list.len() == items.len());
            let Some(their_items) = their_items else {
                return Some(format!("a list at {:?} is not {theirs}", ours.at));
            };
            items.iter().zip(their_items).find_map(|(ours, theirs)| difference(ours, theirs))
        }
        Value::Mapping(entries) => {
            let map = theirs[2].as_object().filter(|map| theirs[0] == "map" && map.len() == entries.len());
            let Some(map) = map else { return Some(format!("a mapping at {:?} is not {theirs}", ours.at)) };
            entries.iter().find_map(|entry| match map.get(&entry.key) {
                Some(theirs) if theirs[0] == at(entry.at) => difference(&entry.value, &theirs[1]),
                other => Some(format!("the key {:?} at {:?} is not {other:?}", entry.key, entry.at)),
            })
        }
    }
}

/// Writes documents that make use of YAML's freedom.
struct Writer {
    state: u64,
    out: String,
    /// Anchors of mappings and lists that are complete, for aliases; of mappings, for merge keys.
    anchors: Vec<String>,
    mappings: Vec<String>,
}

impl Writer {
    fn new(seed: u64) -> Self {
        let state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        Self { state, out: String::new(), anchors: Vec::new(), mappings: Vec::new() }
    }

    fn below(&mut self, bound: usize) -> usize {
        // xorshift64*
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        (self.state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % bound
    }

    fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    fn pick(&mut self, words: &[&'static str]) -> &'static str {
        words[self.below(words.len())]
    }

    fn put(&mut self, text: &str) {
        self.out.push_str(text);
    }

    fn text(mut self) -> String {
        for _ in 0..=self.below(2) {
            let start = self.pick(&["---\n", "---\n", "--- # a comment\n", "# a comment\n---\n\n"]);
            self.put(start);
            (self.anchors, self.mappings) = (Vec::new(), Vec::new());
            self.mapping(0, 0);
        }
        if self.one_in(4) { self.out.replace('\n', "\r\n") } else { self.out }
    }

    /// Lines of a block mapping.
    fn mapping(&mut self, indent: usize, depth: usize) {
        if !self.mappings.is_empty() && self.one_in(3) {
            let (one, other) = (self.below(self.mappings.len()), self.below(self.mappings.len()));
            let alone = self.one_in(2);
            let (one, other) = (&self.mappings[one], &self.mappings[other]);
            let merged = if alone { format!("*{one}") } else { format!("[*{one}, *{other}]") };
            writeln!(self.out, "{:indent$}<<: {merged}", "").unwrap();
        }
        for number in 0..=self.below(4) {
            let name = self.pick(&["name", "spec", "labels", "app.kubernetes.io/name", "ports", "é"]);
            let key = match self.below(4) {
                0 => format!("\"{name}{number}\""),
                1 => format!("'{name}{number}'"),
                _ => format!("{name}{number}"),
            };
            write!(self.out, "{:indent$}{key}:", "").unwrap();
            self.value(indent, depth);
        }
    }

    /// What stands behind `key:`, whose line is indented by `indent`, to the end of its last line.
    fn value(&mut self, indent: usize, depth: usize) {
        match self.below(if depth < 4 { 9 } else { 5 }) {
            0 => self.block_text(indent),
            1 if !self.anchors.is_empty() => {
                let number = self.below(self.anchors.len());
                writeln!(self.out, " *{}", self.anchors[number]).unwrap();
            }
            1..=3 => {
                self.put(" ");
                self.scalar(indent);
                self.end_of_line();
            }
            4 | 5 => {
                self.put(" ");
                self.flow(indent, depth);
                self.end_of_line();
            }
            6 => self.sequence(indent, depth),
            _ => {
                let anchor = self.one_in(3).then(|| format!("m{}", self.out.len()));
                if let Some(anchor) = &anchor {
                    write!(self.out, " &{anchor}").unwrap();
                }
                self.end_of_line();
                let deeper = indent + 1 + self.below(4);
                self.mapping(deeper, depth + 1);
                self.anchors.extend(anchor.clone());
                self.mappings.extend(anchor);
            }
        }
    }

    fn sequence(&mut self, indent: usize, depth: usize) {
        let anchor = self.one_in(4).then(|| format!("l{}", self.out.len()));
        if let Some(anchor) = &anchor {
            write!(self.out, " &{anchor}").unwrap();
        }
        self.end_of_line();
        // The dashes may stand below the first letter of the key.
        let dashes = indent + self.below(3);
        for _ in 0..=self.below(3) {
            write!(self.out, "{:dashes$}-", "").unwrap();
            if self.one_in(3) {
                let gap = 1 + self.below(2);
                write!(self.out, "{:gap$}first: 1\n{:column$}second:", "", "", column = dashes + 1 + gap).unwrap();
                self.value(dashes + 1 + gap, depth + 1);
            } else {
                self.value(dashes, depth + 1);
            }
        }
        self.anchors.extend(anchor);
    }

    fn end_of_line(&mut self) {
        let end =
            self.pick(&["\n", "\n", "\n", "\n", " # it's a \"comment\": [\n", "  \n", "\n\n", "\n# a comment\n\n"]);
        self.put(end);
    }

    fn block_text(&mut self, indent: usize) {
        let head = self.pick(&[" |\n", " >\n", " |-\n", " >-\n", " |+\n", " >+ # kept\n"]);
        self.put(head);
        let deeper = indent + 1 + self.below(3);
        for _ in 0..=self.below(3) {
            let line = self.pick(&["echo \"$1\"", "# no comment", "a: b", "{{ .x }}", "  further", "[", "'"]);
            let line = if self.out.ends_with(head) { line.trim_start() } else { line };
            writeln!(self.out, "{:deeper$}{line}", "").unwrap();
            if self.one_in(4) {
                self.put("\n");
            }
        }
    }

    /// A break within brackets or quotes, where any column will do.
    fn line_break(&mut self, indent: usize) {
        let column = self.below(indent + 4);
        write!(self.out, "\n{:column$}", "").unwrap();
    }

    fn scalar(&mut self, indent: usize) {
        match self.below(5) {
            4 => self.tagged(),
            0 => {
                let parts = ["it''s", "# a", "é: \\n", "{{ .x }}", "- b"];
                self.quoted('\'', &parts, indent);
            }
            1 => {
                let parts = ["a\\tb", "\\u00e9", "# a", "\\\"", "\\x41 \\\\", "{{ .x }}", "it's"];
                self.quoted('"', &parts, indent);
            }
            _ => {
                let word = WORDS[self.below(WORDS.len())].0;
                let tag = self.pick(&["", "", "", "", "", "!!str ", "!<tag:yaml.org,2002:str> "]);
                self.put(tag);
                self.put(word);
            }
        }
    }

    /// A text that its tag makes something else.
    fn tagged(&mut self) {
        let text =
            self.pick(&["!!int \"80\"", "!!bool 'yes'", "!!float \"1.5\"", "!!null ''", "!!int 0x1F", "!!bool Off"]);
        self.put(text);
    }

    fn quoted(&mut self, quote: char, parts: &[&'static str], indent: usize) {
        self.out.push(quote);
        for number in 0..self.below(4) {
            if number > 0 && self.one_in(2) {
                self.line_break(indent);
            } else if number > 0 {
                self.put(" ");
            }
            let part = self.pick(parts);
            self.put(part);
        }
        self.out.push(quote);
    }

    fn flow(&mut self, indent: usize, depth: usize) {
        let mapping = self.one_in(2);
        self.put(if mapping { "{" } else { "[" });
        let items = self.below(4);
        for number in 0..items {
            if self.one_in(4) {
                self.line_break(indent);
            }
            if mapping {
                let key = self.pick(&["name", "\"name\"", "'name'"]);
                let key = key.replace("name", &format!("name{number}"));
                write!(self.out, "{key}: ").unwrap();
            }
            if depth < 4 && self.one_in(4) {
                self.flow(indent, depth + 1);
            } else {
                self.scalar(indent);
            }
            if number + 1 < items || self.one_in(3) {
                self.put(", ");
            }
        }
        if self.one_in(3) {
            self.line_break(indent);
        }
        self.put(if mapping { "}" } else { "]" });
    }
}
