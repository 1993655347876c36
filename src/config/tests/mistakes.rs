//! Mistakes as data: each `*.txt` beside this file holds cases of a title, a file, and the messages expected of it.
//!
//! ```text
//! === what is wrong
//! the file's lines
//! => line:column: message
//! ```

use std::fmt::Write;
use std::path::Path;

use crate::config::load_text;

struct Case {
    title: String,
    file: String,
    expected: Vec<String>,
}

fn cases(text: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for line in text.lines() {
        if let Some(title) = line.strip_prefix("=== ") {
            cases.push(Case { title: title.to_owned(), file: String::new(), expected: Vec::new() });
            continue;
        }
        let case = cases.last_mut().expect("a case begins with a title");
        match line.strip_prefix("=> ") {
            Some(message) => case.expected.push(message.to_owned()),
            None => writeln!(case.file, "{line}").expect("a String takes everything"),
        }
    }
    cases
}

fn messages(file: &str) -> Vec<String> {
    let loaded = load_text(Path::new("f"), file);
    // What cannot be judged is an error for the pods that a policy is for.
    let unjudged = loaded.resources.authorization_policies.into_iter().flat_map(|policy| policy.unjudged);
    // And those of a delegate, for whoever delegates to it.
    let delegated = loaded.resources.virtual_services.into_iter().filter_map(|service| service.delegate).flatten();
    let mut problems: Vec<_> = loaded.problems.into_iter().chain(unjudged).chain(delegated).collect();
    problems.sort_by(|a, b| a.at.cmp(&b.at));
    problems.iter().map(|problem| problem.to_string().replace("f:", "")).collect()
}

fn check(text: &str, at_least: usize) {
    let cases = cases(text);
    assert!(cases.len() >= at_least, "only {} cases", cases.len());
    let mut wrong = String::new();
    for case in cases {
        let found = messages(&case.file);
        if found != case.expected {
            write!(wrong, "=== {}\n{}=> {}\n", case.title, case.file, found.join("\n=> "))
                .expect("a String takes everything");
        }
    }
    assert!(wrong.is_empty(), "these cases came out otherwise:\n{wrong}");
}

#[test]
fn in_the_yaml_itself() {
    check(include_str!("yaml.txt"), 16);
}

#[test]
fn in_what_all_objects_share() {
    check(include_str!("envelope.txt"), 21);
}

#[test]
fn in_service_entries() {
    check(include_str!("service-entry.txt"), 31);
}

#[test]
fn in_destination_rules() {
    check(include_str!("destination-rule.txt"), 12);
}

#[test]
fn in_tls_settings() {
    check(include_str!("tls.txt"), 20);
}

#[test]
fn in_the_other_kinds() {
    check(include_str!("others.txt"), 8);
}

#[test]
fn in_virtual_services() {
    check(include_str!("virtual-service.txt"), 13);
}

#[test]
fn in_authorization_policies() {
    check(include_str!("authorization-policy.txt"), 6);
}
