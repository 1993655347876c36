//! Each setting has an effect, and a change of it has one when the table of settings says so.

use std::collections::{BTreeMap, BTreeSet};

use egret::config::{SETTINGS, TakesEffect};
use syn::visit::{self, Visit};

use super::source::{Source, none, rust};

/// To read a setting, to show or to explain it is no effect.
const SHOWS: [&str; 2] = ["src/config", "src/explain"];
/// What runs once, before the workers: what is read here alone no reload can change.
const START: &str = "src/control/mod.rs";

/// Of each setting's field in `Settings` the files that read it.
fn readers(sources: &[Source]) -> BTreeMap<String, BTreeSet<String>> {
    let mut readers: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in sources.iter().filter(|source| !SHOWS.iter().any(|shown| source.path.starts_with(shown))) {
        let mut read = SettingsRead::default();
        source.program().iter().for_each(|item| read.visit_item(item));
        for field in read.0 {
            readers.entry(field).or_default().insert(source.path.display().to_string());
        }
    }
    readers
}

/// The field of a setting: `tcpKeepalive.time` is a part of `tcp_keepalive`.
fn field(key: &str) -> String {
    let block = key.split('.').next().unwrap_or(key);
    let letter = |c: char| if c.is_ascii_uppercase() { format!("_{}", c.to_ascii_lowercase()) } else { c.to_string() };
    block.chars().map(letter).collect()
}

/// What is wrong with the word of the table, given who reads the setting.
fn fault(key: &str, readers: Option<&BTreeSet<String>>, takes_effect: TakesEffect) -> Option<String> {
    let Some(readers) = readers else { return Some(format!("nobody reads {key}")) };
    let only_at_start = readers.iter().all(|file| file == START);
    match takes_effect {
        TakesEffect::Reload if only_at_start => {
            Some(format!("{key} is read at the start alone ({START}): it takes effect at a restart"))
        }
        TakesEffect::Restart if !only_at_start => {
            Some(format!("{key} takes effect at a restart, and is read later as well: {readers:?}"))
        }
        TakesEffect::Reload | TakesEffect::Restart => None,
    }
}

#[test]
fn every_setting_has_an_effect_when_the_table_says_so() {
    let readers = readers(&rust(&["src"]));
    let faults = SETTINGS.iter().filter_map(|setting| {
        let readers = readers.get(&field(setting.key));
        fault(setting.key, readers, setting.takes_effect)
    });
    none(&faults.collect::<Vec<_>>());
}

#[test]
fn the_rule_of_settings_can_fail() {
    let files = |files: &[&str]| files.iter().map(|file| (*file).to_owned()).collect::<BTreeSet<_>>();
    let (start, later) = (files(&[START]), files(&[START, "src/worker.rs"]));
    assert!(fault("a", None, TakesEffect::Reload).is_some());
    assert!(fault("a", Some(&start), TakesEffect::Reload).is_some());
    assert!(fault("a", Some(&later), TakesEffect::Restart).is_some());
    assert!(fault("a", Some(&start), TakesEffect::Restart).is_none());
    assert!(fault("a", Some(&later), TakesEffect::Reload).is_none());
    assert_eq!(field("tcpKeepalive.time"), "tcp_keepalive");
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
