//! docs/fields.md against the readers of the configuration, asked as a user would ask them: an unknown field is answered
//! with the list of the known ones, so the schema is found by walking from answer to answer.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use egret::config::{Severity, load_text};
use serde_json::{Value, json};

use crate::page::{Page, none, spans};

const PAGE: &str = "docs/fields.md";
const KINDS: [(&str, &str); 7] = [
    ("ServiceEntry", "networking.istio.io/v1"),
    ("DestinationRule", "networking.istio.io/v1"),
    ("VirtualService", "networking.istio.io/v1"),
    ("Sidecar", "networking.istio.io/v1"),
    ("AuthorizationPolicy", "security.istio.io/v1"),
    ("Secret", "v1"),
    ("Settings", "egret/v1"),
];
/// Nothing is near it, so no reader asks whether another field was meant.
const UNKNOWN: &str = "zzzzzzzzzzzzzzzzzzzzzzzz";
/// A key of a map whose keys are the author's.
const ANY: &str = "anykey";
/// Item of a list.
const ITEM: &str = "[]";
/// Fields that stand in several places and are listed once.
const POLICIES: [&str; 4] = ["loadBalancer", "connectionPool", "outlierDetection", "tls"];

/// What a field is to its reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Support {
    /// Its value is read.
    Read,
    Warning,
    /// Never looked at.
    Ignored,
    /// Refused whatever its value; a field that is read may be so, too.
    Refused,
}

struct Walk {
    kind: &'static str,
    version: &'static str,
    found: BTreeMap<String, Support>,
}

/// `spec.ports[0].name`, as messages name it.
fn shown(path: &[String]) -> String {
    let part = |text: &String| if text == ITEM { "[0]".to_owned() } else { format!(".{text}") };
    path.iter().map(part).collect::<String>().trim_start_matches('.').to_owned()
}

fn below(path: &[String], next: &[&str]) -> Vec<String> {
    path.iter().cloned().chain(next.iter().map(|part| (*part).to_owned())).collect()
}

impl Walk {
    /// The messages about a document that has nothing but `value` at `path`.
    fn messages(&self, path: &[String], value: Value) -> Vec<(Severity, String)> {
        let wrap = |value, part: &String| match part.as_str() {
            ITEM => json!([value]),
            // Nobody knows what kind of values these are before there is a key.
            "values" | "notValues" => json!({ part.as_str(): value, "key": "source.namespace" }),
            name => json!({ name: value }),
        };
        let mut document = path.iter().rev().fold(value, wrap);
        if let Some(map) = document.as_object_mut() {
            map.entry("apiVersion").or_insert(json!(self.version));
            map.entry("kind").or_insert(json!(self.kind));
        }
        // Routes without hosts are not read: who delegates to them is not known.
        if let (true, Some(spec)) = (self.kind == "VirtualService", document["spec"].as_object_mut()) {
            spec.entry("hosts").or_insert(json!(["a.example"]));
        }
        let loaded = load_text(Path::new("x.yaml"), &document.to_string());
        let unjudged = loaded.resources.authorization_policies.into_iter().flat_map(|policy| policy.unjudged);
        loaded.problems.into_iter().chain(unjudged).map(|problem| (problem.severity, problem.message)).collect()
    }

    /// The fields of the object at `path`; `None` where no object is read.
    fn known(&self, path: &[String]) -> Option<Vec<String>> {
        let place = shown(path);
        let start = if place.is_empty() { "unknown field".to_owned() } else { format!("{place}: unknown field") };
        let all = self.messages(path, json!({ UNKNOWN: 1 }));
        let (_, message) = all.into_iter().find(|(_, text)| text.starts_with(&start) && text.contains(UNKNOWN))?;
        let (_, list) = message.split_once("; expected ")?;
        let names = list.split(", ").flat_map(|part| part.split(" or "));
        Some(names.map(str::to_owned).collect())
    }

    fn visit(&mut self, path: &[String]) {
        let warned = self.support(path) == Support::Warning;
        for shape in [&[][..], &[ITEM], &[ANY]] {
            let inner = below(path, shape);
            let Some(fields) = self.known(&inner).filter(|_| !warned) else { continue };
            if fields.iter().collect::<BTreeSet<_>>()
                == BTreeSet::from(["exact", "prefix", "regex"].map(String::from).each_ref())
            {
                for field in &fields {
                    self.found.insert(format!("StringMatch.{field}"), Support::Read);
                }
                self.found.insert(name(&inner), Support::Read);
                return;
            }
            for field in &fields {
                self.visit(&below(&inner, &[field]));
            }
            return;
        }
        self.found.insert(name(path), self.support(path));
    }

    fn support(&self, path: &[String]) -> Support {
        let probes = [json!({}), json!([]), json!(1), json!(true), json!("x"), json!("1s"), json!({ UNKNOWN: 1 })];
        let place = format!("{}:", shown(path));
        let parent = shown(&path[..path.len().saturating_sub(1)]);
        let last = path.last().cloned().unwrap_or_default();
        let about = |text: &str| {
            let inner = [".", "["].iter().any(|next| text.starts_with(&format!("{}{next}", shown(path))));
            text.starts_with(&place) || inner || text.starts_with(&format!("{parent}: {last} "))
        };
        let answers: Vec<Vec<(Severity, String)>> = probes.map(|probe| self.messages(path, probe)).into();
        let own =
            |all: &Vec<(Severity, String)>| all.iter().filter(|(_, text)| about(text)).cloned().collect::<Vec<_>>();
        let own: Vec<_> = answers.iter().map(own).collect();
        let unsupported = |(_, text): &(Severity, String)| text.starts_with(&format!("{place} is not supported"));
        if own.iter().flatten().any(|one| one.0 == Severity::Warning && unsupported(one)) {
            return Support::Warning;
        }
        if own.iter().all(Vec::is_empty) {
            return Support::Ignored;
        }
        let refused = |all: &Vec<(Severity, String)>| all.iter().any(|(severity, _)| *severity == Severity::Error);
        if own.iter().all(refused) { Support::Refused } else { Support::Read }
    }
}

/// As the page writes it, each repeated block under its first place.
fn name(path: &[String]) -> String {
    let text = shown(path).replace("[0]", "[]").replace(&format!(".{ANY}"), ".NAME");
    let text = text.strip_prefix("spec.").unwrap_or(&text).replace("subsets[].trafficPolicy.", "trafficPolicy.");
    let of_port = text.strip_prefix("trafficPolicy.portLevelSettings[].");
    let text = match of_port {
        Some(rest) if POLICIES.iter().any(|name| rest.starts_with(name)) => format!("trafficPolicy.{rest}"),
        _ => text,
    };
    text.replace("http[].route[].headers.", "http[].headers.")
}

/// The section of the page that a field stands in.
fn section<'s>(kind: &'s str, field: &str) -> &'s str {
    match field {
        "apiVersion" | "kind" | "status" => "Metadata",
        _ if field.starts_with("metadata.") => "Metadata",
        _ if field.starts_with("StringMatch.") => "StringMatch",
        _ => kind,
    }
}

/// Every field that a reader knows, by section.
fn read_by_the_program() -> BTreeMap<(String, String), Support> {
    let mut all = BTreeMap::new();
    for (kind, version) in KINDS {
        let mut walk = Walk { kind, version, found: BTreeMap::new() };
        let fields = walk.known(&[]).unwrap_or_else(|| panic!("{kind} does not list its fields"));
        for field in &fields {
            walk.visit(std::slice::from_ref(field));
        }
        assert!(walk.found.len() > 15, "the walk through {kind} found {} fields only", walk.found.len());
        for (field, support) in walk.found {
            let short = field.strip_prefix("StringMatch.").unwrap_or(&field).to_owned();
            all.insert((section(kind, &field).to_owned(), short), support);
        }
    }
    all
}

fn word(cell: &str) -> Option<fn(Support) -> bool> {
    match cell {
        // A closed set of words refuses every probe, so that a field that is read may look refused.
        "yes" => Some(|support| matches!(support, Support::Read | Support::Refused)),
        "warning" => Some(|support| support == Support::Warning),
        "error" => Some(|support| support == Support::Refused),
        "ignored" => Some(|support| support == Support::Ignored),
        _ => None,
    }
}

#[test]
fn every_field_that_is_read_is_documented() {
    let page = Page::read(PAGE);
    let read = read_by_the_program();
    let titles = KINDS.map(|(kind, _)| kind).into_iter().chain(["Metadata", "StringMatch"]);
    let (mut faults, mut documented) = (Vec::new(), BTreeSet::new());
    for title in titles {
        // Of the tables of a section those about fields have three columns and a word of support.
        for row in page.section(title).rows.iter().filter(|row| row.len() == 3 && word(&row[1]).is_some()) {
            let key = (title.to_owned(), spans(&row[0]).concat());
            match read.get(&key) {
                None => faults.push(format!("{PAGE}, {title}: no reader knows `{}`; remove the row", key.1)),
                Some(support) if !word(&row[1]).is_some_and(|fits| fits(*support)) => faults.push(format!(
                    "{PAGE}, {title}: `{}` is called \"{}\", and to the reader it is {support:?}; correct the row",
                    key.1, row[1]
                )),
                Some(_) => {}
            }
            documented.insert(key);
        }
    }
    let missing = read.keys().filter(|key| !documented.contains(*key));
    faults.extend(missing.map(|(title, field)| format!("{PAGE}, {title}: no row for `{field}`; add it")));
    none(&faults);
}
