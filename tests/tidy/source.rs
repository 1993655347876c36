//! The project's source as syntax trees: which files there are, which of their items are for tests alone, their tokens.
//!
//! It knows no rule; `tests/tidy.rs` and its other files judge.

use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;

pub struct Source {
    pub path: PathBuf,
    pub text: String,
    pub syntax: syn::File,
    /// Its `mod` declaration, or one above it, is for tests alone.
    pub is_test: bool,
}

impl Source {
    /// The items that are part of the program itself.
    pub fn program(&self) -> Vec<syn::Item> {
        if self.is_test { Vec::new() } else { without_tests(&self.syntax.items) }
    }

    /// Where rustc looks for the modules that this file declares.
    pub fn folder(&self) -> PathBuf {
        match self.path.file_name().and_then(|name| name.to_str()) {
            Some("mod.rs" | "lib.rs" | "main.rs") => self.path.with_file_name(""),
            _ => self.path.with_extension(""),
        }
    }

    /// The modules that this file declares for tests alone, all of them if it is for tests itself: their paths without
    /// `.rs` or `/mod.rs`.
    pub fn test_modules(&self) -> Vec<PathBuf> {
        let modules = self.syntax.items.iter().filter_map(|item| match item {
            syn::Item::Mod(module) if module.content.is_none() && (self.is_test || is_test_only(&module.attrs)) => {
                Some(module)
            }
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
pub fn path_attribute(attribute: &syn::Attribute) -> Option<String> {
    let syn::Meta::NameValue(pair) = &attribute.meta else { return None };
    let syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(file), .. }) = &pair.value else { return None };
    pair.path.is_ident("path").then(|| file.value())
}

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below `folder` that is part of the project.
pub fn files(folder: &Path) -> Vec<PathBuf> {
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

pub fn rust(folders: &[&str]) -> Vec<Source> {
    let all = folders.iter().flat_map(|folder| files(&root().join(folder)));
    let sources = all.filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    let parse = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        let syntax = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Source { path: path.strip_prefix(root()).unwrap().to_owned(), text, syntax, is_test: false }
    };
    let mut sources: Vec<Source> = sources.map(parse).collect();
    // What a test module declares is for tests too, wherever `#[path]` puts it; so until nothing is added.
    loop {
        let modules: Vec<PathBuf> = sources.iter().flat_map(Source::test_modules).collect();
        let is_test =
            |path: &Path| modules.iter().any(|module| path.starts_with(module) || path == module.with_extension("rs"));
        let new = sources.iter_mut().filter(|source| !source.is_test && is_test(&source.path));
        if new.map(|source| source.is_test = true).count() == 0 {
            return sources;
        }
    }
}

/// Fails with every fault at once.
#[track_caller]
pub fn none(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

pub fn is_test_only(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("test")
            || attribute.path().is_ident("cfg")
                && flatten(attribute.meta.to_token_stream()).any(|token| token.is("test"))
    })
}

/// The items that are not for tests alone.
pub fn without_tests(items: &[syn::Item]) -> Vec<syn::Item> {
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

pub fn attributes(item: &syn::Item) -> &[syn::Attribute] {
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
pub struct Token {
    pub text: String,
    pub line: usize,
}

impl Token {
    pub fn is(&self, text: &str) -> bool {
        self.text == text
    }
}

pub fn flatten(stream: TokenStream) -> Box<dyn Iterator<Item = Token>> {
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

pub fn tokens(items: &[syn::Item]) -> Vec<Token> {
    items.iter().flat_map(|item| flatten(item.to_token_stream())).collect()
}
