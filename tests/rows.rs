//! Every number of `tests/http/rows.txt` is shown by tests that are there, and every conversation has its number there.

#[path = "http/cases.rs"]
#[allow(dead_code, reason = "only the titles are read")]
mod cases;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use syn::visit::Visit;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The numbers and the tests that they name.
fn rows() -> BTreeMap<String, Vec<String>> {
    let text = read("tests/http/rows.txt");
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut rows = BTreeMap::new();
    for line in lines {
        let (words, tests) = line.split_once(" | ").unwrap_or_else(|| panic!("no tests: {line}"));
        let number = words.split(' ').next().unwrap_or_default().to_owned();
        let tests = tests.split(' ').map(str::to_owned).collect();
        assert!(rows.insert(number, tests).is_none(), "twice: {line}");
    }
    rows
}

/// In the access log, as Envoy's users know them.
const FLAGS: [&str; 15] = ["UH", "UF", "UO", "NR", "URX", "DT", "DC", "UT", "UC", "SI", "DPE", "UPE", "DI", "FI", "NC"];

#[test]
fn no_number_is_left_out() {
    let all = (1..=60).map(|n| format!("H{n}")).chain((1..=18).map(|n| format!("S{n}")));
    let all = all
        .chain((1..=24).map(|n| format!("K{n}")))
        .chain((1..=10).map(|n| format!("R{n}")))
        .chain((1..=8).map(|n| format!("A{n}")))
        .chain(FLAGS.map(str::to_owned));
    let all: BTreeSet<_> = all.collect();
    assert_eq!(rows().into_keys().collect::<BTreeSet<_>>(), all);
}

/// The numbers of the conversations, and the flags in their log lines.
fn conversations() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for case in cases::all() {
        found.insert(case.title.split(' ').next().unwrap_or_default().to_owned());
        let words = case.log.iter().flat_map(|line| line.split([' ', ',']));
        found.extend(words.filter(|word| FLAGS.contains(word)).map(str::to_owned));
    }
    found
}

/// Whether `text` has `flag` where a log line would have it.
fn has_flag(text: &str, flag: &str) -> bool {
    text.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word == flag)
}

#[test]
fn every_number_is_shown() {
    let conversations = conversations();
    let rows = rows();
    let mut faults: Vec<_> = conversations.iter().filter(|number| !rows.contains_key(*number)).cloned().collect();
    let mut known = BTreeMap::new();
    for (number, tests) in &rows {
        let claims = tests.iter().any(|test| test == "cases");
        if claims != conversations.contains(number) {
            faults.push(format!("{number}: `cases` and the conversations disagree"));
        }
        for test in tests.iter().filter(|test| *test != "cases") {
            let (file, function) = test.split_once("::").unwrap_or_else(|| panic!("{number}: {test}?"));
            let functions = known.entry(file.to_owned()).or_insert_with(|| Tests::of(file));
            let is_there = functions.contains(function);
            if !is_there || FLAGS.contains(&number.as_str()) && !has_flag(&read(file), number) {
                faults.push(format!("{number}: {test} is no test"));
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

/// The names of the functions of a file that are run as tests.
#[derive(Default)]
struct Tests(BTreeSet<String>);

impl Tests {
    fn of(file: &str) -> BTreeSet<String> {
        let mut found = Tests::default();
        found.visit_file(&syn::parse_file(&read(file)).unwrap_or_else(|error| panic!("{file}: {error}")));
        found.0
    }
}

impl<'ast> Visit<'ast> for Tests {
    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        let is_test = function.attrs.iter().any(|attribute| attribute.path().is_ident("test"));
        if is_test && !function.attrs.iter().any(|attribute| attribute.path().is_ident("ignore")) {
            self.0.insert(function.sig.ident.to_string());
        }
    }

    fn visit_macro(&mut self, found: &'ast syn::Macro) {
        // Properties stand in `proptest!`, as functions with arguments that are no Rust.
        let text = found.tokens.to_string();
        let is_proptest = found.path.is_ident("proptest");
        let names = text.split("fn ").skip(1).filter_map(|rest| rest.split([' ', '(']).next());
        self.0.extend(names.filter(|_| is_proptest).map(str::to_owned));
    }
}
