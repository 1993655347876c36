//! Every number of a list of rows is shown by tests that are there: of `tests/http/rows.txt`, where every conversation
//! has its number as well, and of `tests/policy/rows.txt`.

#[path = "../http/cases.rs"]
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

const HTTP: &str = "tests/http/rows.txt";
const POLICY: &str = "tests/policy/rows.txt";

/// The numbers of a list and the tests that they name: `NUMBER WORDS | TESTS`. None where it says `| - REASON`.
fn rows(list: &str) -> BTreeMap<String, Vec<String>> {
    let text = read(list);
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut rows = BTreeMap::new();
    for line in lines {
        let (words, tests) = line.split_once(" | ").unwrap_or_else(|| panic!("no tests: {line}"));
        let number = words.split(' ').next().unwrap_or_default().to_owned();
        let tests = match tests.strip_prefix("- ") {
            Some(reason) => {
                assert!(reason.split(' ').count() > 2, "no reason: {line}");
                Vec::new()
            }
            None => tests.split(' ').map(str::to_owned).collect(),
        };
        assert!(rows.insert(number, tests).is_none(), "twice: {line}");
    }
    rows
}

/// In the access log, as Envoy's users know them.
const FLAGS: [&str; 15] = ["UH", "UF", "UO", "NR", "URX", "DT", "DC", "UT", "UC", "SI", "DPE", "UPE", "DI", "FI", "NC"];

/// `H1` to `H60`, and so on.
fn numbers(kinds: &[(&str, u32)]) -> BTreeSet<String> {
    kinds.iter().flat_map(|(kind, last)| (1..=*last).map(move |n| format!("{kind}{n}"))).collect()
}

#[test]
fn no_number_is_left_out() {
    let mut http = numbers(&[("H", 60), ("S", 18), ("K", 24), ("R", 10), ("A", 8)]);
    http.extend(FLAGS.map(str::to_owned));
    assert_eq!(rows(HTTP).into_keys().collect::<BTreeSet<_>>(), http);
    let policy = numbers(&[
        ("E", 26),
        ("V", 23),
        ("M", 6),
        ("D", 13),
        ("T", 45),
        ("C", 14),
        ("B", 9),
        ("O", 10),
        ("W", 6),
        ("I", 21),
        ("R", 18),
        ("N", 4),
        ("S", 33),
        ("P", 40),
        ("X", 10),
    ]);
    assert_eq!(rows(POLICY).into_keys().collect::<BTreeSet<_>>(), policy);
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

/// The tests that a list names and that are not there, but for `cases`.
fn missing(list: &str) -> Vec<String> {
    let (mut faults, mut known) = (Vec::new(), BTreeMap::new());
    for (number, tests) in rows(list) {
        for test in tests.iter().filter(|test| *test != "cases") {
            let (file, function) = test.split_once("::").unwrap_or_else(|| panic!("{number}: {test}?"));
            let functions = known.entry(file.to_owned()).or_insert_with(|| Tests::of(file));
            let is_there = functions.contains(function);
            if !is_there || FLAGS.contains(&number.as_str()) && !has_flag(&read(file), &number) {
                faults.push(format!("{number}: {test} is no test"));
            }
        }
    }
    faults
}

#[test]
fn every_number_of_http_is_shown() {
    let (conversations, rows) = (conversations(), rows(HTTP));
    let mut faults: Vec<_> = conversations.iter().filter(|number| !rows.contains_key(*number)).cloned().collect();
    for (number, tests) in &rows {
        let claims = tests.iter().any(|test| test == "cases");
        if claims != conversations.contains(number) {
            faults.push(format!("{number}: `cases` and the conversations disagree"));
        }
    }
    faults.extend(missing(HTTP));
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn every_number_of_policy_is_shown() {
    let faults = missing(POLICY);
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
