//! Which file of a room uses which: every path in the code is followed to the file that defines the name.
//!
//! It resolves names as rustc does, as far as names alone can tell: `crate::`, `self::`, `super::`, child modules, imported
//! names, re-exports and globs. It does not know types, so a method call is no use of the file that holds the method.
//! A `pub use` of a `mod.rs` is no use either: it is the door of its folder, not a reader of what goes through it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use quote::ToTokens;

use super::source::{Source, Token, flatten};

/// From each file to those that it uses, in one room. Files for tests alone are not in it.
pub type Uses = BTreeMap<PathBuf, BTreeSet<PathBuf>>;

/// How many re-exports a name may go through. A glob that leads back to itself must end.
const LONGEST_CHAIN: usize = 8;

/// `src/tls/verify.rs` → `tls`; `None` for main.rs and lib.rs, which stand above all modules.
pub fn room(path: &Path) -> Option<String> {
    let inside = path.strip_prefix("src").ok()?;
    let first = inside.components().next()?.as_os_str().to_str()?.trim_end_matches(".rs").to_owned();
    (!matches!(first.as_str(), "main" | "lib")).then_some(first)
}

pub fn uses(sources: &[Source]) -> Uses {
    let tree = Tree::of(sources);
    let mut uses = Uses::new();
    for source in sources.iter().filter(|source| !source.is_test) {
        uses.entry(source.path.clone()).or_default();
    }
    for (place, module) in &tree.modules {
        let same_room = |file: &PathBuf| *file != module.file && room(file) == room(&module.file);
        let found = tree.used_by(place, module).into_iter().filter(same_room);
        uses.entry(module.file.clone()).or_default().extend(found);
    }
    uses
}

/// The sets of files that use each other, directly or through others of the set.
pub fn circles(uses: &Uses) -> BTreeSet<BTreeSet<PathBuf>> {
    let reached: BTreeMap<&PathBuf, BTreeSet<&PathBuf>> = uses.keys().map(|file| (file, reach(uses, file))).collect();
    let together = |file: &PathBuf| -> BTreeSet<PathBuf> {
        reached[file].iter().filter(|other| reached[*other].contains(file)).map(|other| (*other).clone()).collect()
    };
    uses.keys().map(together).filter(|circle| !circle.is_empty()).collect()
}

fn reach<'a>(uses: &'a Uses, file: &PathBuf) -> BTreeSet<&'a PathBuf> {
    let (mut found, mut open) = (BTreeSet::new(), vec![&uses[file]]);
    while let Some(next) = open.pop() {
        open.extend(next.iter().filter(|file| found.insert(*file)).map(|file| &uses[file]));
    }
    found
}

/// All modules of the crate by their paths; an inline module is one of its own, in the same file.
struct Tree {
    modules: BTreeMap<Vec<String>, Module>,
}

#[derive(Default)]
struct Module {
    file: PathBuf,
    defined: BTreeSet<String>,
    imports: Vec<Import>,
    /// Everything but imports and modules.
    code: Vec<Token>,
}

struct Import {
    /// The name that the module knows it by; `*` for a glob.
    name: String,
    path: Vec<String>,
    is_public: bool,
}

impl Tree {
    fn of(sources: &[Source]) -> Self {
        let mut tree = Tree { modules: BTreeMap::new() };
        for source in sources.iter().filter(|source| !source.is_test && !source.path.ends_with("main.rs")) {
            tree.add(module_path(&source.path), &source.path, &source.program());
        }
        tree
    }

    fn add(&mut self, place: Vec<String>, file: &Path, items: &[syn::Item]) {
        let mut module = Module { file: file.to_owned(), ..Module::default() };
        for item in items {
            match item {
                syn::Item::Use(import) => {
                    let is_public = !matches!(import.vis, syn::Visibility::Inherited);
                    leaves(&import.tree, &mut Vec::new(), &mut |name, path| {
                        module.imports.push(Import { name, path, is_public });
                    });
                }
                syn::Item::Mod(inner) => {
                    if let Some((_, items)) = &inner.content {
                        let place = place.iter().cloned().chain([inner.ident.to_string()]).collect();
                        self.add(place, file, items);
                    }
                }
                other => {
                    module.defined.extend(name_of(other));
                    module.code.extend(flatten(other.to_token_stream()));
                }
            }
        }
        self.modules.insert(place, module);
    }

    fn used_by(&self, place: &[String], module: &Module) -> BTreeSet<PathBuf> {
        let is_door = module.file.ends_with("mod.rs");
        let imported = module.imports.iter().filter(|import| !(is_door && import.is_public)).filter_map(|import| {
            let path = self.absolute(place, &import.path, 0)?;
            // What is used of an imported module is seen where it is used.
            if self.modules.contains_key(&path) { None } else { self.locate(&path, 0) }
        });
        let written = paths(&module.code)
            .filter_map(|path| self.absolute(place, &path, 0).and_then(|path| self.locate(&path, 0)));
        imported.chain(written).collect()
    }

    /// A path as it is written in the module at `place`, from the crate's root; `None` where it leads out of the crate
    /// or is the name of something local.
    fn absolute(&self, place: &[String], path: &[String], depth: usize) -> Option<Vec<String>> {
        let (first, rest) = path.split_first()?;
        let join = |start: &[String], rest: &[String]| start.iter().chain(rest).cloned().collect::<Vec<_>>();
        match first.as_str() {
            "crate" => return Some(rest.to_vec()),
            "self" => return Some(join(place, rest)),
            "super" => {
                let above = rest.iter().take_while(|name| *name == "super").count();
                let start = place.get(..place.len().checked_sub(above + 1)?)?;
                return Some(join(start, &rest[above..]));
            }
            _ => {}
        }
        let child = join(place, std::slice::from_ref(first));
        if self.modules.contains_key(&child) {
            // Alone, it is a variable of the same name.
            return (!rest.is_empty()).then(|| join(&child, rest));
        }
        let module = self.modules.get(place)?;
        if depth == LONGEST_CHAIN || module.defined.contains(first) {
            return None;
        }
        let named = module.imports.iter().find(|import| import.name == *first && import.path.first() != Some(first));
        if let Some(import) = named {
            return Some(join(&self.absolute(place, &import.path, depth + 1)?, rest));
        }
        let globs = module.imports.iter().filter(|import| import.name == "*");
        let mut opened = globs.filter_map(|import| self.absolute(place, &import.path, depth + 1));
        opened.find(|module| self.knows(module, first)).map(|module| join(&module, path))
    }

    /// Whether the module at `place` has a name, its own or an imported one.
    fn knows(&self, place: &[String], name: &String) -> bool {
        let child = place.iter().cloned().chain([name.clone()]).collect::<Vec<_>>();
        self.modules.contains_key(&child)
            || self.modules.get(place).is_some_and(|module| {
                module.defined.contains(name) || module.imports.iter().any(|import| import.name == *name)
            })
    }

    /// The file that defines what a path from the crate's root names.
    fn locate(&self, path: &[String], depth: usize) -> Option<PathBuf> {
        let at = (0..=path.len()).rev().find(|end| self.modules.contains_key(&path[..*end]))?;
        let (place, rest) = path.split_at(at);
        let module = &self.modules[place];
        match rest.first() {
            Some(name) if depth < LONGEST_CHAIN && !module.defined.contains(name) => {
                let further = self.absolute(place, rest, depth).and_then(|path| self.locate(&path, depth + 1));
                further.or_else(|| Some(module.file.clone()))
            }
            _ => Some(module.file.clone()),
        }
    }
}

/// `src/tls/verify.rs` and `src/tls/verify/mod.rs` → tls, verify; lib.rs → nothing.
fn module_path(file: &Path) -> Vec<String> {
    let inside = file.strip_prefix("src").unwrap_or(file).with_extension("");
    let parts = inside.components().map(|part| part.as_os_str().to_string_lossy().into_owned());
    parts.filter(|part| part != "mod" && part != "lib").collect()
}

/// Every leaf of a `use`: the name that it brings, and the path as it is written.
fn leaves(tree: &syn::UseTree, path: &mut Vec<String>, found: &mut impl FnMut(String, Vec<String>)) {
    let joined = |path: &[String], name: String| path.iter().cloned().chain([name]).collect::<Vec<_>>();
    match tree {
        syn::UseTree::Path(inner) => {
            path.push(inner.ident.to_string());
            leaves(&inner.tree, path, found);
            path.pop();
        }
        syn::UseTree::Name(name) if name.ident == "self" => {
            found(path.last().cloned().unwrap_or_default(), path.clone());
        }
        syn::UseTree::Name(name) => found(name.ident.to_string(), joined(path, name.ident.to_string())),
        syn::UseTree::Rename(name) => found(name.rename.to_string(), joined(path, name.ident.to_string())),
        syn::UseTree::Glob(_) => found("*".to_owned(), path.clone()),
        syn::UseTree::Group(group) => group.items.iter().for_each(|tree| leaves(tree, path, found)),
    }
}

pub fn name_of(item: &syn::Item) -> Option<String> {
    let name = match item {
        syn::Item::Const(item) => &item.ident,
        syn::Item::Enum(item) => &item.ident,
        syn::Item::Fn(item) => &item.sig.ident,
        syn::Item::Macro(item) => item.ident.as_ref()?,
        syn::Item::Static(item) => &item.ident,
        syn::Item::Struct(item) => &item.ident,
        syn::Item::Trait(item) => &item.ident,
        syn::Item::Type(item) => &item.ident,
        syn::Item::Union(item) => &item.ident,
        _ => return None,
    };
    Some(name.to_string())
}

/// Every `a::b::c` of the code, and every name that stands alone; neither fields, methods, lifetimes nor the `super` of
/// `pub(super)`.
fn paths(code: &[Token]) -> impl Iterator<Item = Vec<String>> {
    let text = |at: usize| code.get(at).map_or("", |token| token.text.as_str());
    let is_name = move |at: usize| text(at).starts_with(|first: char| first.is_alphabetic() || first == '_');
    let begins = move |at: &usize| match at.checked_sub(1).map(text) {
        Some("." | "'") => false,
        Some(":") => *at < 2 || text(*at - 2) != ":",
        _ => true,
    };
    let found = (0..code.len()).filter(move |at| is_name(*at)).filter(begins).map(move |start| {
        let mut path = vec![text(start).to_owned()];
        let mut at = start + 1;
        while text(at) == ":" && text(at + 1) == ":" && is_name(at + 2) {
            path.push(text(at + 2).to_owned());
            at += 3;
        }
        path
    });
    found.filter(|path| path.len() > 1 || !matches!(path[0].as_str(), "super" | "self" | "crate"))
}
