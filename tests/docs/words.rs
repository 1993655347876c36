//! docs/metrics.md and docs/access-log.md against the words that the program writes: names of metrics, keys of a log line,
//! response flags, details. Where the library can be asked it is; the rest is read from the source as rustc reads it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use egret::observe::{
    AccessRecord, Exposition, Source, TrafficSeries, WorkerCounters, render_counters, render_traffic,
};
use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;

use crate::page::{Page, Section, none, root, spans};

const METRICS: &str = "docs/metrics.md";
const LOG: &str = "docs/access-log.md";

/// The tokens of the program below `folder`, groups opened, without what is for tests alone.
fn tokens(folder: &str) -> Vec<String> {
    let mut paths = Vec::new();
    collect(&root().join(folder), &mut paths);
    let mut found = Vec::new();
    for path in paths.iter().filter(|path| !is_test(path)) {
        let text = fs::read_to_string(path).unwrap();
        let file = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let items = file.items.iter().filter(|item| !for_tests(item));
        items.for_each(|item| flatten(item.to_token_stream(), &mut found));
    }
    assert!(!found.is_empty(), "{folder} has no program in it");
    found
}

fn collect(path: &Path, found: &mut Vec<PathBuf>) {
    if path.is_dir() {
        fs::read_dir(path).unwrap().flatten().for_each(|entry| collect(&entry.path(), found));
    } else if path.extension().is_some_and(|end| end == "rs") {
        found.push(path.to_owned());
    }
}

fn is_test(path: &Path) -> bool {
    let part = |part: &std::ffi::OsStr| {
        let name = part.to_string_lossy();
        let stem = name.trim_end_matches(".rs");
        stem == "tests" || stem.ends_with("_tests") || stem.ends_with("_cases")
    };
    path.strip_prefix(root()).is_ok_and(|inside| inside.iter().any(part))
}

fn for_tests(item: &syn::Item) -> bool {
    let attributes = match item {
        syn::Item::Mod(item) => &item.attrs,
        syn::Item::Fn(item) => &item.attrs,
        syn::Item::Impl(item) => &item.attrs,
        _ => return false,
    };
    attributes.iter().any(|attribute| attribute.to_token_stream().to_string().replace(' ', "") == "#[cfg(test)]")
}

fn flatten(stream: TokenStream, found: &mut Vec<String>) {
    for tree in stream {
        match tree {
            TokenTree::Group(group) => flatten(group.stream(), found),
            other => found.push(other.to_string()),
        }
    }
}

/// The text of a string literal.
fn text(token: &str) -> Option<&str> {
    token.strip_prefix('"')?.strip_suffix('"')
}

/// The first cells of a section's rows: what stands between backticks.
fn named(section: &Section) -> impl Iterator<Item = (String, &Vec<String>)> {
    section.rows.iter().flat_map(|row| spans(&row[0]).into_iter().map(move |name| (name, row)))
}

fn is_metric(text: &str) -> bool {
    let known = ["egret_", "istio_", "process_"].iter().any(|start| text.starts_with(start));
    known && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

/// Every metric that the program can render, with its type where the source tells it beside the name.
fn metrics() -> BTreeMap<String, Option<String>> {
    let all = [tokens("src/observe"), tokens("src/control")].concat();
    let mut found: BTreeMap<String, Option<String>> = BTreeMap::new();
    for (at, token) in all.iter().enumerate() {
        let Some(name) = text(token).filter(|name| is_metric(name)) else { continue };
        let kind = all.get(at + 2).and_then(|next| text(next)).filter(|kind| ["counter", "gauge"].contains(kind));
        let entry = found.entry(name.to_owned()).or_default();
        *entry = entry.take().or(kind.map(str::to_owned));
    }
    let mut out = Exposition::new();
    render_counters(&mut out, [&WorkerCounters::default()]);
    render_traffic(&mut out, &Source::default(), &BTreeMap::new(), [&TrafficSeries::default()]);
    for line in out.finish().lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            found.insert(name.to_owned(), Some(kind.to_owned()));
        }
    }
    assert!(found.len() > 50, "only {} metrics were found in the source", found.len());
    found
}

#[test]
fn every_metric_is_documented_with_its_type_and_labels() {
    let page = Page::read(METRICS);
    let rows = page.sections.iter().flat_map(named).filter(|(name, row)| row.len() == 4 && is_metric(name));
    let rows: BTreeMap<String, &Vec<String>> = rows.collect();
    let (rendered, mut faults) = (metrics(), Vec::new());
    for (name, kind) in &rendered {
        match (rows.get(name), kind) {
            (None, _) => faults.push(format!("{METRICS}: no row for {name}; add it")),
            (Some(row), Some(kind)) if row[1] != *kind => {
                faults.push(format!("{METRICS}: {name} is a {kind}, the row says \"{}\"", row[1]));
            }
            (Some(_), _) => {}
        }
    }
    WorkerCounters::default().for_each(|family, _| {
        let (Some((label, value)), Some(row)) = (family.label, rows.get(family.metric)) else { return };
        if !spans(&row[2]).contains(&label.to_owned()) || !spans(&row[3]).contains(&value.to_owned()) {
            faults.push(format!("{METRICS}: {} does not say {label}=\"{value}\"; add it to the row", family.metric));
        }
    });
    let other = rows.keys().filter(|name| !rendered.contains_key(*name));
    faults.extend(other.map(|name| format!("{METRICS}: nothing renders {name}; remove the row")));
    none(&faults);
}

/// The flags of the macro in src/flow.rs: `NAME = bit , "UH" ;`.
fn response_flags() -> BTreeSet<String> {
    let all = tokens("src/flow.rs");
    let rows = all.windows(6).filter(|row| row[1] == "=" && row[3] == "," && row[5] == ";");
    let flags = rows.filter(|row| row[0].bytes().all(|b| b.is_ascii_uppercase() || b == b'_'));
    let found: BTreeSet<String> = flags.filter_map(|row| text(&row[4]).map(str::to_owned)).collect();
    assert!(found.contains("UH") && found.len() > 10, "the flags of src/flow.rs were not found: {found:?}");
    found
}

/// What one set has and the other has not, as faults.
fn compare(section: &str, written: &BTreeSet<String>, documented: &BTreeSet<String>) -> Vec<String> {
    let missing = written.difference(documented).map(|name| format!("{LOG}, \"{section}\": no row for {name}; add it"));
    let other = documented.difference(written);
    let other = other.map(|name| format!("{LOG}, \"{section}\": the program writes no {name}; remove the row"));
    missing.chain(other).collect()
}

#[test]
fn every_response_flag_is_documented() {
    let page = Page::read(LOG);
    let section = "Response flags";
    let documented = named(page.section(section)).map(|(name, _)| name).collect();
    none(&compare(section, &response_flags(), &documented));
}

#[test]
fn every_field_of_a_line_is_documented() {
    let mut line = Vec::new();
    AccessRecord::blank(SystemTime::UNIX_EPOCH).write_json(&mut line);
    let line: serde_json::Value = serde_json::from_slice(&line).unwrap();
    let written = line.as_object().unwrap().keys().cloned().collect();
    let page = Page::read(LOG);
    let documented = named(page.section("Fields")).map(|(name, _)| name).collect();
    none(&compare("Fields", &written, &documented));
}

/// A word of `response_code_details` or `connection_termination_details`: `no_healthy_upstream`, `http1.codec_error`.
fn is_detail(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'.';
    text.len() > 2 && text.contains('_') && text.bytes().all(word) && !is_metric(text)
}

/// Every word that the program has for why something ended; those of routes are among them.
fn details() -> BTreeSet<String> {
    let of_policy = ["destination_guard", "must_sniff", "verdict"].map(|file| format!("src/policy/table/{file}.rs"));
    let sources = ["src/proxy", "src/http/error.rs"].map(str::to_owned).into_iter().chain(of_policy);
    let all = sources.flat_map(|source| tokens(&source)).collect::<Vec<_>>();
    let found: BTreeSet<String> =
        all.iter().filter_map(|t| text(t)).filter(|t| is_detail(t)).map(str::to_owned).collect();
    assert!(found.len() > 30, "the details were not found: {found:?}");
    found
}

#[test]
fn every_detail_is_documented() {
    let page = Page::read(LOG);
    let written = details();
    let said: BTreeSet<&String> = page.sections.iter().flat_map(|section| &section.spans).collect();
    let missing = written.iter().filter(|word| !said.contains(word));
    let mut faults: Vec<String> = missing
        .map(|word| format!("{LOG}: `{word}` is nowhere; add it to the details of requests or connections"))
        .collect();
    // Those of the log's own and with a variable end are found by their beginning.
    let known: Vec<String> = ["src/proxy", "src/http", "src/policy"].iter().flat_map(|source| tokens(source)).collect();
    let rows = ["Details of requests", "Details of connections"].map(|title| named(page.section(title)));
    for (name, _) in rows.into_iter().flatten() {
        let start = name.split(['{', '[', '…']).next().unwrap_or_default().to_owned();
        if !known.iter().filter_map(|token| text(token)).any(|text| text.starts_with(&start)) {
            faults.push(format!("{LOG}: the program has no detail `{name}`; remove the row"));
        }
    }
    none(&faults);
}
