//! docs/settings.md against the command line: every flag, variable, short form and default of every command, and the
//! fields of the Settings document with the flags of their names.

use std::collections::{BTreeMap, BTreeSet};

use clap::{ArgAction, CommandFactory};
use egret::cli::Cli;
use egret::config::{SETTINGS, TakesEffect};
use serde_yaml::Value;

use crate::page::{Page, Section, none, root, spans};

const PAGE: &str = "docs/settings.md";
const DOCUMENT: &str = "Settings document";

/// Every command with the words that call it, without `egret`.
pub fn commands() -> Vec<(String, clap::Command)> {
    fn walk(name: &str, command: &clap::Command, found: &mut Vec<(String, clap::Command)>) {
        for sub in command.get_subcommands() {
            let name = format!("{name} {}", sub.get_name()).trim_start().to_owned();
            walk(&name, sub, found);
            found.push((name, sub.clone()));
        }
    }
    let mut found = Vec::new();
    walk("", &Cli::command(), &mut found);
    found
}

/// Every long flag of every command.
pub fn all_flags() -> BTreeSet<String> {
    commands().iter().flat_map(|(_, command)| flags(command)).map(|arg| long(&arg)).collect()
}

/// Every variable that a flag of some command is read from.
pub fn all_variables() -> BTreeSet<String> {
    let all = commands().into_iter().flat_map(|(_, command)| flags(&command));
    all.filter_map(|arg| Some(arg.get_env()?.to_string_lossy().into_owned())).collect()
}

fn flags(command: &clap::Command) -> Vec<clap::Arg> {
    let own = |arg: &&clap::Arg| arg.get_long().is_some_and(|long| !["help", "version"].contains(&long));
    command.get_arguments().filter(own).cloned().collect()
}

fn long(arg: &clap::Arg) -> String {
    format!("--{}", arg.get_long().unwrap_or_default())
}

/// The sections that a command's flags stand in. `egret status, secrets` is one for two commands.
fn sections<'p>(page: &'p Page, command: &str) -> Vec<&'p Section> {
    let speaks = |section: &&Section| {
        let names = section.title.strip_prefix("egret ").unwrap_or_default();
        names.split(", ").any(|name| name == command)
    };
    let mut found: Vec<&Section> = page.sections.iter().filter(speaks).collect();
    match command {
        "run" => found.push(page.section(DOCUMENT)),
        // What goes into a pod is asked for as with `egret inject`.
        "webhook" => found.push(page.section("egret inject")),
        _ => {}
    }
    found
}

/// The rows that are about a flag, by the first `--` span of their first two cells.
fn rows(sections: &[&Section]) -> Vec<(String, String)> {
    let rows = sections.iter().flat_map(|section| &section.rows);
    let named = rows.filter_map(|row| {
        let flag = row.iter().take(2).flat_map(|cell| spans(cell)).find(|span| span.starts_with("--"))?;
        Some((flag, row.join("|")))
    });
    named.collect()
}

/// What the row of a flag must say besides the flag.
fn wanted(arg: &clap::Arg) -> Vec<String> {
    let variable = arg.get_env().map(|name| name.to_string_lossy().into_owned());
    let short = arg.get_short().map(|short| format!("-{short}"));
    let is_switch = matches!(arg.get_action(), ArgAction::SetTrue);
    let defaults = arg.get_default_values().iter().map(|value| value.to_string_lossy().into_owned());
    // The image carries the version, and a default of nothing is no text.
    let defaults = defaults.filter(|value| !is_switch && !value.is_empty() && arg.get_id() != "image");
    variable.into_iter().chain(short).chain(defaults).collect()
}

#[test]
fn every_flag_is_documented_with_its_variable_and_default() {
    let page = Page::read(PAGE);
    let mut faults = Vec::new();
    for (name, command) in commands() {
        let rows = rows(&sections(&page, &name));
        let flags = flags(&command);
        for arg in &flags {
            let Some((_, row)) = rows.iter().find(|(flag, _)| *flag == long(arg)) else {
                faults.push(format!("{PAGE}: no row for {} of `egret {name}`; add it to that section", long(arg)));
                continue;
            };
            let said = spans(row);
            let missing = wanted(arg).into_iter().filter(|text| !said.contains(text));
            faults.extend(missing.map(|text| format!("{PAGE}: {} of `egret {name}` does not say `{text}`", long(arg))));
        }
        let known: BTreeSet<String> = flags.iter().map(long).collect();
        // A file to read is no matter of the webhook, whose other flags are those of `egret inject`.
        let elsewhere = |flag: &str| name == "webhook" && flag == "--file";
        let other = rows.iter().filter(|(flag, _)| !known.contains(flag) && !elsewhere(flag));
        faults.extend(other.map(|(flag, _)| format!("{PAGE}: `egret {name}` has no {flag}; remove the row")));
    }
    none(&faults);
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Bool(value) => value.to_string(),
        Value::Number(value) => value.to_string(),
        _ => String::new(),
    }
}

/// config/examples/settings.yaml has every field at its default; the program's own tests hold it against the program.
fn defaults() -> Vec<(String, String)> {
    let text = std::fs::read_to_string(root().join("config/examples/settings.yaml")).unwrap();
    let document: Value = serde_yaml::from_str(&text).unwrap();
    let spec = document["spec"].as_mapping().unwrap();
    spec.iter().flat_map(|(name, value)| settings(&shown(name), value)).collect()
}

/// A field is one setting; a block is one for each of its fields, and that of its mode has the block's name.
fn settings(name: &str, value: &Value) -> Vec<(String, String)> {
    let Value::Mapping(block) = value else { return vec![(name.to_owned(), shown(value))] };
    let of_block = |(field, value): (&Value, &Value)| match shown(field).as_str() {
        "mode" => (name.to_owned(), shown(value)),
        field => (format!("{name}.{field}"), shown(value)),
    };
    block.iter().map(of_block).collect()
}

#[test]
fn every_setting_is_documented_with_its_default_and_when_it_takes_effect() {
    let page = Page::read(PAGE);
    let rows = &page.section(DOCUMENT).rows;
    let rows: Vec<&Vec<String>> = rows.iter().filter(|row| row.len() == 6).collect();
    let name = |row: &[String]| spans(&row[0]).concat().trim_end_matches(".mode").to_owned();
    let defaults: BTreeMap<String, String> = defaults().into_iter().collect();
    let mut faults = Vec::new();
    for setting in SETTINGS {
        let key = setting.key;
        let Some(row) = rows.iter().find(|row| name(row) == key) else {
            faults.push(format!("{PAGE}: no row for the setting {key}; add it to \"{DOCUMENT}\""));
            continue;
        };
        let (flag, variable) = (format!("--{}", setting.flag()), setting.variable());
        let expected = [(1, &flag, "flag"), (2, &variable, "variable"), (3, &defaults[key], "default")];
        let wrong = expected.iter().filter(|(cell, text, _)| !text.is_empty() && spans(&row[*cell]).concat() != **text);
        faults.extend(wrong.map(|(_, text, what)| format!("{PAGE}: the {what} of {key} is `{text}`")));
        let when = match setting.takes_effect {
            TakesEffect::Reload => "reload",
            TakesEffect::Restart => "**restart**",
        };
        if !row[5].starts_with(when) {
            faults.push(format!("{PAGE}: a change of {key} takes effect at a {when}; begin the last column with it"));
        }
    }
    let other = rows.iter().map(|row| name(row)).filter(|field| SETTINGS.iter().all(|setting| setting.key != field));
    faults.extend(other.map(|field| format!("{PAGE}: there is no setting {field}; remove the row")));
    none(&faults);
}
