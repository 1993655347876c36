//! Whatever the bytes are: no panic, no unbounded memory, and an error wherever a resource is dropped.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use proptest::prelude::*;

use crate::config::load_text;
use crate::config::yaml::documents;

const FILE: &str = "f";

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        load_text(Path::new(FILE), &String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn arbitrary_punctuation_never_panics(text in "[-:?,{}#&*!|>'\"%@`~<=\\[\\] \t\n\r\\\\a-c0-2.\u{85}\u{feff}]{0,120}") {
        load_text(Path::new(FILE), &text);
    }

    /// A sound file with one piece cut out, doubled or replaced still gives either resources or complaints.
    #[test]
    fn damaged_files_are_read_or_complained_of(
        start in 0usize..700, length in 0usize..40, piece in "[-:{}\\[\\]#&*!'\" \na-z0-9\t]{0,8}",
    ) {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("config/examples/static.yaml")).unwrap();
        let start = text.floor_char_boundary(start.min(text.len()));
        let end = text.floor_char_boundary((start + length).min(text.len()));
        let damaged = format!("{}{piece}{}", &text[..start], &text[end..]);
        let loaded = load_text(Path::new(FILE), &damaged);
        let sound = loaded.resources.service_entries.len() + loaded.resources.destination_rules.len();
        let trees = documents(&damaged).len();
        prop_assert!(sound >= trees || !loaded.problems.is_empty(), "dropped without a word:\n{damaged}");
    }
}

fn first_problem(text: &str) -> String {
    load_text(Path::new(FILE), text).problems.first().map(ToString::to_string).unwrap_or_default()
}

#[test]
fn a_billion_laughs_are_cut_short() {
    let mut text = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n".to_owned();
    for i in 1..12 {
        let before = format!("*a{}, ", i - 1).repeat(9);
        writeln!(text, "a{i}: &a{i} [{before}]").unwrap();
    }
    assert!(first_problem(&text).contains("copy more than 4 MiB"), "{}", first_problem(&text));
}

#[test]
fn depth_is_bounded_however_it_comes_about() {
    // The scanner has a limit of its own, which it reaches first while it looks for the end of a key.
    assert!(first_problem(&"[".repeat(100_000)).contains("recursion limit exceeded"));
    assert!(first_problem(&"- ".repeat(100_000)).contains("nested more than 64 levels"));
    let mut text = "- &a0 [x]\n".to_owned();
    for i in 1..100 {
        writeln!(text, "- &a{i} [*a{}]", i - 1).unwrap();
    }
    assert!(first_problem(&text).contains("nested more than 64 levels"));
}
