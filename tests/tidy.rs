//! The project's law, as far as a machine can judge it: module order, size, unsafe code, words that must not occur.
//!
//! It reads the source as rustc would (through `syn`), not by pattern, so that a comment cannot break a rule and a
//! macro cannot hide one.

#[path = "tidy/imports.rs"]
mod imports;
#[path = "tidy/known.rs"]
mod known;
#[path = "tidy/rooms.rs"]
mod rooms;
#[path = "tidy/rows.rs"]
mod rows;
#[path = "tidy/settings.rs"]
mod settings;
#[path = "tidy/source.rs"]
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use imports::room;
use source::{Source, files, none, root, rust, tokens};

const FUNCTION_LINES: usize = 70;
const MEDIAN_FUNCTION_LINES: usize = 15;
const FILE_LINES: usize = 500;

/// Top-level modules from the bottom up; a module may use those of its own row and of the rows before it.
const ORDER: [&[&str]; 9] = [
    &["flow"],
    &["config", "confine", "dns", "grpc", "http", "io", "observe", "sniff", "tls"],
    &["http2", "policy"],
    &["explain", "upstream"],
    &["proxy"],
    &["worker"],
    &["control", "inject", "redirect"],
    &["webhook"],
    &["cli"],
];

/// Names that say nothing about what a file holds.
const EMPTY_NAMES: [&str; 6] = ["util", "utils", "common", "helpers", "manager", "misc"];

/// The modules named after `crate::` in this file, and after a chain of `super::` that reaches the crate.
fn uses(source: &Source) -> BTreeSet<String> {
    let tokens = tokens(&source.program());
    let text: Vec<&str> = tokens.iter().map(|token| token.text.as_str()).collect();
    let mut found = BTreeSet::new();
    for start in 0..text.len() {
        let mut rest = &text[start..];
        let depth = source.path.components().count() - if source.path.ends_with("mod.rs") { 2 } else { 1 };
        match rest {
            ["crate", ":", ":", tail @ ..] => rest = tail,
            _ => match (0..depth).try_fold(rest, |rest, _| rest.strip_prefix(&["super", ":", ":"])) {
                Some(tail) if start < 3 || text[start - 3..start] != ["super", ":", ":"] => rest = tail,
                _ => continue,
            },
        }
        found.extend(heads(rest));
    }
    found.into_iter().filter(|name| ORDER.iter().any(|row| row.contains(&name.as_str()))).collect()
}

/// `tls::…` → tls; `{dns::x, http}` → dns, http.
fn heads(path: &[&str]) -> Vec<String> {
    if path.first() != Some(&"{") {
        return path.first().map(|name| (*name).to_owned()).into_iter().collect();
    }
    let (mut depth, mut names) = (0, Vec::new());
    for pair in path.windows(2) {
        match pair[0] {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            break;
        }
        if depth == 1 && matches!(pair[0], "{" | ",") {
            names.push(pair[1].to_owned());
        }
    }
    names
}

fn module_graph() -> BTreeMap<String, BTreeSet<String>> {
    let mut graph: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in rust(&["src"]) {
        if let Some(module) = room(&source.path) {
            let mut used = uses(&source);
            used.remove(&module);
            graph.entry(module).or_default().extend(used);
        }
    }
    graph
}

#[test]
fn modules_use_only_what_stands_before_them() {
    let row = |name: &str| ORDER.iter().position(|row| row.contains(&name));
    let mut faults = Vec::new();
    for (module, used) in module_graph() {
        let Some(own) = row(&module) else {
            faults.push(format!("src/{module} is not in the order of modules: add it to ORDER"));
            continue;
        };
        let above = used.iter().filter(|name| row(name).is_some_and(|other| other > own));
        faults.extend(above.map(|name| format!("{module} uses {name}, which stands above it")));
    }
    none(&faults);
}

#[test]
fn modules_do_not_use_each_other_in_circles() {
    let mut graph = module_graph();
    // Take away what uses nothing that is left, until nothing can be taken.
    while let Some(leaf) = graph.iter().find(|(_, used)| !used.iter().any(|name| graph.contains_key(name))) {
        let leaf = leaf.0.clone();
        graph.remove(&leaf);
    }
    assert!(graph.is_empty(), "a circle of modules: {graph:?}");
}

#[test]
fn unsafe_code_is_in_the_engine_only() {
    let mut faults = Vec::new();
    for source in rust(&["src", "tests", "benches"]) {
        // An allocator that counts can be declared in no other way.
        let counts = ["tests/allocations.rs", "benches/cases/allocator.rs"].map(Path::new).contains(&&*source.path);
        if counts || source.path.starts_with("src/io") {
            continue;
        }
        let found = tokens(&source.syntax.items).into_iter().filter(|token| token.is("unsafe"));
        faults.extend(found.map(|token| format!("{}:{}: unsafe", source.path.display(), token.line)));
    }
    none(&faults);
}

#[test]
fn nothing_is_unwrapped_or_left_to_do() {
    let mut faults = Vec::new();
    for source in rust(&["src"]) {
        let tokens = tokens(&source.program());
        for window in tokens.windows(4) {
            let texts: [&str; 4] = std::array::from_fn(|index| window[index].text.as_str());
            let place = format!("{}:{}", source.path.display(), window[0].line);
            match texts {
                [".", "unwrap", "(", ")"] => faults.push(format!("{place}: .unwrap()")),
                [name @ ("todo" | "unimplemented" | "dbg"), "!", ..] => faults.push(format!("{place}: {name}!")),
                _ => {}
            }
        }
    }
    none(&faults);
}

/// Collects the length of every function, from its `fn` line to its closing brace.
#[derive(Default)]
struct Functions {
    found: Vec<(String, usize, usize)>,
}

impl Functions {
    fn add(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let first = signature.span().start().line;
        self.found.push((signature.ident.to_string(), first, block.span().end().line - first + 1));
    }
}

impl<'ast> Visit<'ast> for Functions {
    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        self.add(&function.sig, &function.block);
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        self.add(&function.sig, &function.block);
        visit::visit_impl_item_fn(self, function);
    }

    fn visit_trait_item_fn(&mut self, function: &'ast syn::TraitItemFn) {
        if let Some(block) = &function.default {
            self.add(&function.sig, block);
        }
        visit::visit_trait_item_fn(self, function);
    }
}

#[test]
fn functions_and_files_are_short() {
    let (mut faults, mut lengths) = (Vec::new(), Vec::new());
    for source in rust(&["src", "tests", "benches"]) {
        let path = source.path.display();
        let lines = source.text.lines().count();
        if lines > FILE_LINES {
            faults.push(format!("{path}: {lines} lines, more than {FILE_LINES}: split it by idea"));
        }
        let mut functions = Functions::default();
        functions.visit_file(&source.syntax);
        for (name, line, length) in functions.found {
            lengths.push(length);
            if length > FUNCTION_LINES {
                faults.push(format!("{path}:{line}: fn {name} has {length} lines, more than {FUNCTION_LINES}"));
            }
        }
    }
    lengths.sort_unstable();
    let median = lengths[lengths.len() / 2];
    if median > MEDIAN_FUNCTION_LINES {
        faults.push(format!("the median function has {median} lines, more than {MEDIAN_FUNCTION_LINES}"));
    }
    none(&faults);
}

/// A file that no module declares is not compiled, and its tests are not missed.
#[test]
fn every_end_to_end_file_is_a_module() {
    let folder = Path::new("tests/e2e");
    let sources = rust(&["tests/e2e"]);
    let main = sources.iter().find(|source| source.path == folder.join("main.rs")).expect("tests/e2e/main.rs");
    let module = |item: &syn::Item| match item {
        syn::Item::Mod(module) => Some(module.ident.to_string()),
        _ => None,
    };
    let declared: BTreeSet<String> = main.syntax.items.iter().filter_map(module).collect();
    let beside = sources.iter().filter(|source| source.path.parent() == Some(folder) && source.path != main.path);
    let names = beside.filter_map(|source| source.path.file_stem()?.to_str());
    let faults: Vec<_> = names
        .filter(|name| !declared.contains(*name))
        .map(|name| format!("tests/e2e/{name}.rs is no module of tests/e2e/main.rs, so its tests are never run"))
        .collect();
    none(&faults);
}

#[test]
fn every_file_says_what_it_is() {
    let mut faults = Vec::new();
    for source in rust(&["src", "tests", "benches"]) {
        let path = source.path.display();
        if !source.text.starts_with("//! ") {
            faults.push(format!("{path} does not begin with //!"));
        }
        let stem = source.path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        if EMPTY_NAMES.contains(&stem) {
            faults.push(format!("{path}: the name says nothing"));
        }
    }
    none(&faults);
}

#[test]
fn nothing_depends_on_the_machine_it_was_written_on() {
    // The checkout's own first folder, unless every system has one of that name.
    let first = root().components().nth(1).map(|part| format!("/{}/", part.as_os_str().to_string_lossy()));
    let usual = ["/usr/", "/var/", "/tmp/", "/opt/", "/etc/", "/run/", "/proc/", "/sys/", "/dev/"];
    let checkout = first.filter(|folder| !usual.contains(&folder.as_str()));
    let private: Vec<String> =
        checkout.into_iter().chain(["home", "root", "Users"].map(|folder| format!("/{folder}/"))).collect();
    let mut faults = Vec::new();
    for path in files(root()) {
        // Lock files and other binary or generated files hold no paths of ours.
        let Ok(text) = fs::read_to_string(&path) else { continue };
        for (line, number) in text.lines().zip(1..) {
            if private.iter().any(|folder| mentions(line, folder)) || line.contains(concat!("TO", "DO")) {
                let path = path.strip_prefix(root()).unwrap().display();
                faults.push(format!("{path}:{number}: {}", line.trim()));
            }
        }
    }
    none(&faults);
}

/// Whether `folder` stands in the line as the beginning of an absolute path.
fn mentions(line: &str, folder: &str) -> bool {
    line.match_indices(folder).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        before.is_none_or(|before| {
            !before.is_ascii_alphanumeric() && !matches!(before, '_' | '-' | '.' | '}' | ')' | '*')
        })
    })
}

#[test]
fn the_rules_can_fail() {
    let source = |path: &str, text: &str| Source {
        path: path.into(),
        text: text.to_owned(),
        syntax: syn::parse_file(text).unwrap(),
        is_test: false,
    };
    let declared = |path: &str| source(path, "mod a; #[cfg(test)] mod b; #[cfg(test)] mod c {}").test_modules();
    assert_eq!(declared("src/io/mod.rs"), [Path::new("src/io/b")]);
    assert_eq!(declared("src/io/x.rs"), [Path::new("src/io/x/b")]);
    let elsewhere = source("src/io/x.rs", "#[cfg(test)] #[path = \"x_tests.rs\"] mod tests;").test_modules();
    assert_eq!(elsewhere, [Path::new("src/io/x_tests")]);
    let below = Source { is_test: true, ..source("src/io/tests/mod.rs", "mod cases;") }.test_modules();
    assert_eq!(below, [Path::new("src/io/tests/cases")]);
    let used = |path: &str, text: &str| uses(&source(path, text)).into_iter().collect::<Vec<_>>().join(" ");
    assert_eq!(used("src/io/a.rs", "use crate::tls::X; fn f() { crate::dns::g() }"), "dns tls");
    assert_eq!(used("src/io/a.rs", "use crate::{cli, http::{sniff}, flow};"), "cli flow http");
    assert_eq!(used("src/io/a.rs", "fn f() { log!(crate::proxy::x()) }"), "proxy");
    assert_eq!(used("src/io/a.rs", "use super::super::policy; use super::tls;"), "policy");
    assert_eq!(used("src/io/mod.rs", "use super::policy; mod tls;"), "policy");
    assert_eq!(used("src/io/a.rs", "#[cfg(test)] mod tests { use crate::cli; }"), "");
    assert!(mentions("see /a/x", "/a/") && mentions("\"/a/\"", "/a/") && !mentions("at /b/a/x", "/a/"));
}
