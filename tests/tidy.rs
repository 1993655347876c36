//! The project's law, as far as a machine can judge it: module order, size, unsafe code, words that must not occur.
//!
//! It reads the source as rustc would (through `syn`), not by pattern, so that a comment cannot break a rule and a
//! macro cannot hide one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

const FUNCTION_LINES: usize = 70;
const MEDIAN_FUNCTION_LINES: usize = 15;
const FILE_LINES: usize = 500;

/// Top-level modules from the bottom up; a module may use those of its own row and of the rows before it.
const ORDER: [&[&str]; 9] = [
    &["flow"],
    &["config", "confine", "dns", "http", "io", "observe", "sniff", "tls"],
    &["policy"],
    &["explain", "upstream"],
    &["proxy"],
    &["worker"],
    &["control", "inject", "redirect"],
    &["webhook"],
    &["cli"],
];

/// Names that say nothing about what a file holds.
const EMPTY_NAMES: [&str; 6] = ["util", "utils", "common", "helpers", "manager", "misc"];

struct Source {
    path: PathBuf,
    text: String,
    syntax: syn::File,
    /// Its `mod` declaration, or one above it, is for tests alone.
    is_test: bool,
}

impl Source {
    /// The items that are part of the program itself.
    fn program(&self) -> Vec<syn::Item> {
        if self.is_test { Vec::new() } else { without_tests(&self.syntax.items) }
    }

    /// Where rustc looks for the modules that this file declares.
    fn folder(&self) -> PathBuf {
        match self.path.file_name().and_then(|name| name.to_str()) {
            Some("mod.rs" | "lib.rs" | "main.rs") => self.path.with_file_name(""),
            _ => self.path.with_extension(""),
        }
    }

    /// The modules that this file declares for tests alone: their paths without `.rs` or `/mod.rs`.
    fn test_modules(&self) -> Vec<PathBuf> {
        let modules = self.syntax.items.iter().filter_map(|item| match item {
            syn::Item::Mod(module) if module.content.is_none() && is_test_only(&module.attrs) => Some(module),
            _ => None,
        });
        let place = |module: &syn::ItemMod| match module.attrs.iter().find_map(path_attribute) {
            // `#[path]` counts from the folder of the file itself.
            Some(file) => self.path.with_file_name(file).with_extension(""),
            None => self.folder().join(module.ident.to_string()),
        };
        modules.map(place).collect()
    }
}

/// The value of `#[path = "…"]`.
fn path_attribute(attribute: &syn::Attribute) -> Option<String> {
    let syn::Meta::NameValue(pair) = &attribute.meta else { return None };
    let syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(file), .. }) = &pair.value else { return None };
    pair.path.is_ident("path").then(|| file.value())
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below `folder` that is part of the project.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let hidden = entry.file_name().to_string_lossy().starts_with('.') && entry.file_name() != ".ci";
        let link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
        match path.is_dir() {
            _ if hidden || link || path == root().join("target") => {}
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found.sort();
    found
}

fn rust(folders: &[&str]) -> Vec<Source> {
    let all = folders.iter().flat_map(|folder| files(&root().join(folder)));
    let sources = all.filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    let parse = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        let syntax = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Source { path: path.strip_prefix(root()).unwrap().to_owned(), text, syntax, is_test: false }
    };
    let mut sources: Vec<Source> = sources.map(parse).collect();
    let test_modules: Vec<PathBuf> = sources.iter().flat_map(Source::test_modules).collect();
    for source in &mut sources {
        source.is_test = test_modules
            .iter()
            .any(|module| source.path.starts_with(module) || source.path == module.with_extension("rs"));
    }
    sources
}

/// Fails with every fault at once.
#[track_caller]
fn none(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

fn is_test_only(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("test")
            || attribute.path().is_ident("cfg")
                && flatten(attribute.meta.to_token_stream()).any(|token| token.is("test"))
    })
}

/// The items that are not for tests alone.
fn without_tests(items: &[syn::Item]) -> Vec<syn::Item> {
    let kept = items.iter().filter(|item| !is_test_only(attributes(item)));
    let strip = |item: &syn::Item| match item {
        syn::Item::Mod(module) => {
            let mut module = module.clone();
            if let Some((_, items)) = &mut module.content {
                *items = without_tests(items);
            }
            syn::Item::Mod(module)
        }
        other => other.clone(),
    };
    kept.map(strip).collect()
}

fn attributes(item: &syn::Item) -> &[syn::Attribute] {
    match item {
        syn::Item::Mod(item) => &item.attrs,
        syn::Item::Fn(item) => &item.attrs,
        syn::Item::Impl(item) => &item.attrs,
        syn::Item::Use(item) => &item.attrs,
        syn::Item::Const(item) => &item.attrs,
        syn::Item::Struct(item) => &item.attrs,
        syn::Item::Enum(item) => &item.attrs,
        syn::Item::Static(item) => &item.attrs,
        syn::Item::Type(item) => &item.attrs,
        syn::Item::Trait(item) => &item.attrs,
        syn::Item::Macro(item) => &item.attrs,
        _ => &[],
    }
}

/// One token, groups opened; with the line where it stands.
struct Token {
    text: String,
    line: usize,
}

impl Token {
    fn is(&self, text: &str) -> bool {
        self.text == text
    }
}

fn flatten(stream: TokenStream) -> Box<dyn Iterator<Item = Token>> {
    Box::new(stream.into_iter().flat_map(|tree| -> Box<dyn Iterator<Item = Token>> {
        let line = tree.span().start().line;
        match tree {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    proc_macro2::Delimiter::Parenthesis => ("(", ")"),
                    proc_macro2::Delimiter::Brace => ("{", "}"),
                    proc_macro2::Delimiter::Bracket => ("[", "]"),
                    proc_macro2::Delimiter::None => ("", ""),
                };
                let edge = |text: &str| std::iter::once(Token { text: text.to_owned(), line });
                Box::new(edge(open).chain(flatten(group.stream())).chain(edge(close)))
            }
            other => Box::new(std::iter::once(Token { text: other.to_string(), line })),
        }
    }))
}

fn tokens(items: &[syn::Item]) -> Vec<Token> {
    items.iter().flat_map(|item| flatten(item.to_token_stream())).collect()
}

/// `src/tls/verify.rs` → `tls`; `None` for main.rs and lib.rs, which stand above all modules.
fn module_of(path: &Path) -> Option<String> {
    let inside = path.strip_prefix("src").ok()?;
    let first = inside.components().next()?.as_os_str().to_str()?.trim_end_matches(".rs").to_owned();
    (!matches!(first.as_str(), "main" | "lib")).then_some(first)
}

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
        if let Some(module) = module_of(&source.path) {
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
    let used = |path: &str, text: &str| uses(&source(path, text)).into_iter().collect::<Vec<_>>().join(" ");
    assert_eq!(used("src/io/a.rs", "use crate::tls::X; fn f() { crate::dns::g() }"), "dns tls");
    assert_eq!(used("src/io/a.rs", "use crate::{cli, http::{sniff}, flow};"), "cli flow http");
    assert_eq!(used("src/io/a.rs", "fn f() { log!(crate::proxy::x()) }"), "proxy");
    assert_eq!(used("src/io/a.rs", "use super::super::policy; use super::tls;"), "policy");
    assert_eq!(used("src/io/mod.rs", "use super::policy; mod tls;"), "policy");
    assert_eq!(used("src/io/a.rs", "#[cfg(test)] mod tests { use crate::cli; }"), "");
    assert!(mentions("see /a/x", "/a/") && mentions("\"/a/\"", "/a/") && !mentions("at /b/a/x", "/a/"));
}

/// A setting that nobody reads is a promise that nobody keeps. To show it, in a dump or an explanation, is no effect.
#[test]
fn every_setting_has_an_effect() {
    let sources = rust(&["src"]);
    let declares = |item: &syn::Item| match item {
        syn::Item::Struct(item) if item.ident == "Settings" => Some(item.fields.clone()),
        _ => None,
    };
    let fields = sources.iter().flat_map(Source::program).find_map(|item| declares(&item)).expect("struct Settings");
    let mut read = SettingsRead::default();
    let shows = ["src/config", "src/explain", "src/control/dump.rs"];
    for source in sources.iter().filter(|source| !shows.iter().any(|shown| source.path.starts_with(shown))) {
        source.program().iter().for_each(|item| read.visit_item(item));
    }
    let names = fields.iter().filter_map(|field| field.ident.as_ref()).map(ToString::to_string);
    let faults: Vec<_> =
        names.filter(|name| !read.0.contains(name)).map(|name| format!("nobody reads {name}")).collect();
    none(&faults);
}

/// The fields that are read of something called `settings`.
#[derive(Default)]
struct SettingsRead(BTreeSet<String>);

impl<'ast> Visit<'ast> for SettingsRead {
    fn visit_expr_field(&mut self, field: &'ast syn::ExprField) {
        let is_settings = match &*field.base {
            syn::Expr::Path(path) => path.path.segments.last().is_some_and(|last| last.ident == "settings"),
            syn::Expr::Field(base) => matches!(&base.member, syn::Member::Named(name) if name == "settings"),
            syn::Expr::MethodCall(call) => call.method == "settings",
            _ => false,
        };
        if let (true, syn::Member::Named(name)) = (is_settings, &field.member) {
            self.0.insert(name.to_string());
        }
        visit::visit_expr_field(self, field);
    }
}
