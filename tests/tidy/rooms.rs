//! The rules inside a room (a folder of `src/`): no circles between its files, no two types of one name, its unit tests
//! in a folder `tests/`, folders by `mod.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::imports::{circles, name_of, room, uses};
use super::known;
use super::source::{Source, none, root, rust};

/// Where test-only files may stand besides `tests/`: it is a driver beside two others, which only tests run.
const TEST_DRIVER: &str = "src/io/simulation";

/// The one circle that is meant: operations own connections, and connections start operations (`src/io/mod.rs`).
const HONEST_CIRCLE: &str = "io/engine.rs io/reactor.rs io/socket/connect.rs io/socket/connection.rs io/socket/listener.rs \
                             io/socket/mod.rs io/socket/operations.rs io/socket/receive.rs io/socket/send.rs";

/// A path below `src/`, as the lists have it.
fn short(path: &Path) -> String {
    path.strip_prefix("src").unwrap_or(path).display().to_string()
}

/// What was found must be what is listed: `found` alone breaks the rule, what is only listed has been mended.
fn differences(rule: &str, list: &str, found: &BTreeSet<String>, known: &[&str]) -> Vec<String> {
    let known: BTreeSet<String> = known.iter().map(|entry| (*entry).to_owned()).collect();
    let new = found.difference(&known).map(|entry| format!("{rule}: {entry:?}"));
    let gone = known.difference(found).map(|entry| format!("take {entry:?} out of known::{list}: it is mended"));
    new.chain(gone).collect()
}

fn found_circles(sources: &[Source]) -> BTreeSet<String> {
    let line = |circle: BTreeSet<PathBuf>| circle.iter().map(|file| short(file)).collect::<Vec<_>>().join(" ");
    circles(&uses(sources)).into_iter().map(line).collect()
}

#[test]
fn files_of_a_room_do_not_use_each_other_in_circles() {
    let mut found = found_circles(&rust(&["src"]));
    assert!(found.remove(HONEST_CIRCLE), "the circle of io/ is another: {found:?}");
    none(&differences(
        "a circle of files: what they share belongs in a file below them",
        "CIRCLES",
        &found,
        &known::CIRCLES,
    ));
}

/// `tls::Alert: tls/a.rs tls/b.rs` for each name that several types of a room have.
fn shared_names(sources: &[Source]) -> BTreeSet<String> {
    let mut types: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    for source in sources {
        let Some(room) = room(&source.path) else { continue };
        for name in type_names(&source.program()) {
            types.entry((room.clone(), name)).or_default().push(short(&source.path));
        }
    }
    let several = types.into_iter().filter(|(_, files)| files.len() > 1);
    several.map(|((room, name), files)| format!("{room}::{name}: {}", files.join(" "))).collect()
}

fn type_names(items: &[syn::Item]) -> Vec<String> {
    let names = items.iter().flat_map(|item| match item {
        syn::Item::Enum(_) | syn::Item::Struct(_) | syn::Item::Trait(_) | syn::Item::Type(_) | syn::Item::Union(_) => {
            name_of(item).into_iter().collect()
        }
        syn::Item::Mod(module) => module.content.iter().flat_map(|(_, items)| type_names(items)).collect(),
        _ => Vec::new(),
    });
    names.collect()
}

#[test]
fn types_of_a_room_have_names_of_their_own() {
    let found = shared_names(&rust(&["src"]));
    none(&differences("several types of one name", "TYPES", &found, &known::TYPES));
}

/// The files for tests alone that stand among those of the program.
fn strewn_tests(sources: &[Source]) -> BTreeSet<String> {
    let strewn = sources.iter().filter(|source| {
        let in_tests = source.path.parent().is_some_and(|folder| folder.iter().any(|part| part == "tests"));
        source.is_test && !in_tests && !source.path.starts_with(TEST_DRIVER)
    });
    strewn.map(|source| short(&source.path)).collect()
}

#[test]
fn unit_tests_stand_in_a_folder_of_their_room() {
    let found = strewn_tests(&rust(&["src"]));
    none(&differences("a file for tests alone outside of tests/", "TEST_FILES", &found, &known::TEST_FILES));
}

/// The folders whose module stands beside them, `a.rs` beside `a/`, rather than in them.
fn folders_without_mod(sources: &[Source]) -> BTreeSet<String> {
    let folders: BTreeSet<&Path> = sources.iter().filter_map(|source| source.path.parent()).collect();
    let beside = sources.iter().map(|source| source.path.with_extension("")).filter(|path| folders.contains(&**path));
    beside.map(|folder| short(&folder)).collect()
}

#[test]
fn a_folder_is_declared_by_its_mod_rs() {
    let found = folders_without_mod(&rust(&["src"]));
    let known = &known::FOLDERS_WITHOUT_MOD;
    none(&differences("a folder beside its file: make the file its mod.rs", "FOLDERS_WITHOUT_MOD", &found, known));
}

fn source(path: &str, text: &str) -> Source {
    let syntax = syn::parse_file(text).unwrap();
    Source { path: path.into(), text: text.to_owned(), syntax, is_test: false }
}

/// The circles of a crate of these files: paths below `src/` and texts.
fn circles_of(files: &[(&str, &str)]) -> Vec<String> {
    let sources: Vec<Source> = files.iter().map(|(path, text)| source(&format!("src/{path}"), text)).collect();
    found_circles(&sources).into_iter().collect()
}

#[test]
fn a_circle_is_found_however_it_is_written() {
    let circle = ["io/a.rs io/b.rs"];
    let pair =
        |a: &str, b: &str| circles_of(&[("io/mod.rs", "mod a; mod b; pub use b::B;"), ("io/a.rs", a), ("io/b.rs", b)]);
    let b = "use super::a::A; pub struct B;";
    assert_eq!(pair("use super::b::B; pub struct A;", b), circle);
    assert_eq!(pair("use crate::io::b::B; pub struct A;", b), circle);
    assert_eq!(pair("use crate::io::{b::{self as other}}; pub struct A(other::B);", b), circle);
    assert_eq!(pair("pub struct A(super::b::B);", b), circle);
    assert_eq!(pair("pub struct A; fn f() { log!(crate::io::b::g()) }", b), circle);
    // Through the door of the room, and through a glob.
    assert_eq!(pair("use super::B; pub struct A;", b), circle);
    assert_eq!(pair("use crate::io::B as C; pub struct A;", b), circle);
    assert_eq!(pair("use super::*; pub struct A(B);", b), circle);
    assert_eq!(pair("pub struct A; mod inner { use super::super::b::B; }", b), circle);
}

#[test]
fn what_is_no_circle_is_not_taken_for_one() {
    let none: [&str; 0] = [];
    let pair =
        |a: &str, b: &str| circles_of(&[("io/mod.rs", "mod a; mod b; pub use b::B;"), ("io/a.rs", a), ("io/b.rs", b)]);
    let b = "use super::a::A; pub struct B;";
    assert_eq!(pair("pub struct A; #[cfg(test)] mod tests { use crate::io::b::B; }", b), none);
    assert_eq!(pair("pub struct A; fn f(x: X) { x.b(); let b = 1; }", b), none);
    assert_eq!(pair("use other::B; pub struct A(B);", b), none);
    assert_eq!(
        circles_of(&[
            ("io/mod.rs", "mod a;"),
            ("io/a.rs", "use crate::tls::b::B; pub struct A;"),
            ("tls/mod.rs", "pub mod b;"),
            ("tls/b.rs", "pub struct B(crate::io::a::A);")
        ]),
        none
    );
    let visible = [("io/mod.rs", "mod a; fn f() { a::g() }"), ("io/a.rs", "pub(super) fn g() {}")];
    assert_eq!(circles_of(&visible), none);
    // A mod.rs that hands out its files' names uses none of them; one that has code of its own does.
    let room = |code: &str| {
        circles_of(&[
            ("io/mod.rs", &format!("mod a; pub use a::A; pub struct Own; {code}")),
            ("io/a.rs", "use super::Own; pub struct A;"),
        ])
    };
    assert_eq!(room(""), none);
    assert_eq!(room("fn f() -> A { a::new() }"), ["io/a.rs io/mod.rs"]);
}

#[test]
fn a_long_circle_is_one() {
    let file = |next: &str| format!("use super::{next}::f; pub fn f() {{}}");
    let found = circles_of(&[
        ("io/a.rs", &file("b")),
        ("io/b.rs", &file("c")),
        ("io/c.rs", &file("a")),
        ("io/d.rs", &file("a")),
    ]);
    assert_eq!(found, ["io/a.rs io/b.rs io/c.rs"]);
}

#[test]
fn the_rules_of_rooms_can_fail() {
    let same = [source("src/io/a.rs", "struct X;"), source("src/io/b.rs", "mod x { type X = u8; }")];
    assert_eq!(shared_names(&same).into_iter().collect::<Vec<_>>(), ["io::X: io/a.rs io/b.rs"]);
    let apart =
        [source("src/io/a.rs", "struct X;"), source("src/tls/b.rs", "enum X {}"), source("src/io/c.rs", "fn X() {}")];
    assert!(shared_names(&apart).is_empty());

    let test = |path: &str| Source { is_test: true, ..source(path, "") };
    let strewn = strewn_tests(&[
        test("src/io/tests/a.rs"),
        test("src/io/tests.rs"),
        test("src/io/a_cases.rs"),
        source("src/io/a.rs", ""),
    ]);
    assert_eq!(strewn.into_iter().collect::<Vec<_>>(), ["io/a_cases.rs", "io/tests.rs"]);

    let beside = [source("src/io/a.rs", ""), source("src/io/a/b.rs", ""), source("src/io/mod.rs", "")];
    assert_eq!(folders_without_mod(&beside).into_iter().collect::<Vec<_>>(), ["io/a"]);

    let found = ["new", "old"].map(str::to_owned).into();
    let said = differences("a rule", "LIST", &found, &["old", "gone"]);
    assert_eq!(said, ["a rule: \"new\"", "take \"gone\" out of known::LIST: it is mended"]);
    assert!(root().join(TEST_DRIVER).is_dir(), "{TEST_DRIVER} is gone: take the exception away");
}
