//! The documents against the program: what a table lists must be what the program has, links must lead somewhere, and a
//! command that a page shows must exist and say what the page says.
//!
//! A fault names the page and what to add or remove. Nothing here needs root, a network or a running proxy.

#[path = "docs/fields.rs"]
mod fields;
#[path = "docs/flags.rs"]
mod flags;
#[path = "docs/page.rs"]
mod page;
#[path = "docs/words.rs"]
mod words;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use page::{Page, none, root};

const README: &str = "README.md";
/// A page that is longer is read by nobody.
const README_LINES: usize = 200;
/// Folders whose files a page may name.
const FOLDERS: [&str; 9] = [".ci", "benches", "config", "docs", "fuzz", "iptables", "scripts", "src", "tests"];

/// The README and the handbook.
fn pages() -> Vec<Page> {
    let of_users = |page: &Page| page.path == Path::new(README) || page.path.starts_with("docs");
    let found: Vec<Page> = page::all().into_iter().filter(of_users).collect();
    assert!(found.len() > 8, "the handbook was not found");
    found
}

/// `a/b/../c` → `a/c`.
fn plain(path: &Path) -> PathBuf {
    let mut parts = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                parts.pop();
            }
            Component::CurDir => {}
            other => parts.push(other),
        }
    }
    parts
}

/// Why a link of `page` leads nowhere.
fn broken(page: &Page, link: &str, all: &[Page]) -> Option<String> {
    if link.contains("://") || link.starts_with("mailto:") {
        return None;
    }
    let (file, anchor) = link.split_once('#').map_or((link, None), |(file, anchor)| (file, Some(anchor)));
    let to = match file {
        "" => page.path.clone(),
        _ => plain(&page.path.parent().unwrap_or(Path::new("")).join(file)),
    };
    if !root().join(&to).exists() {
        return Some(format!("{}: {link}: there is no {}", page.path.display(), to.display()));
    }
    let anchor = anchor?;
    let known =
        all.iter().find(|other| other.path == to).is_some_and(|other| other.anchors().iter().any(|a| a == anchor));
    (!known).then(|| format!("{}: {link}: {} has no heading for #{anchor}", page.path.display(), to.display()))
}

#[test]
fn links_lead_somewhere() {
    let all = page::all();
    let mut faults = Vec::new();
    for page in &all {
        let links = page.sections.iter().flat_map(|section| &section.links);
        faults.extend(links.filter_map(|link| broken(page, link, &all)));
    }
    none(&faults);
}

#[test]
fn the_readme_is_short() {
    let lines = Page::read(README).text.lines().count();
    assert!(lines <= README_LINES, "{README} has {lines} lines, more than {README_LINES}: move what is long to docs/");
}

/// docs/comparison.svg tells in titles what its marks are made of, and prints the rest.
#[test]
fn the_chart_is_of_the_latest_benchmarks() {
    let [chart, figures] =
        ["docs/comparison.svg", "BENCHMARKS.md"].map(|file| fs::read_to_string(root().join(file)).unwrap());
    let inner = |part: &str| Some(part.split_once('>')?.1.split_once('<')?.0.to_owned());
    let texts = chart.split(" figure\"").skip(1).filter_map(inner);
    let titles = chart.split("<title").skip(1).filter_map(inner);
    let numbers = titles.flat_map(|title| {
        title.split(", ").filter_map(|part| Some(part.split_once(": ")?.1.to_owned())).collect::<Vec<_>>()
    });
    let all: BTreeSet<String> = texts.chain(numbers).collect();
    assert!(all.len() > 60, "only {} figures were found in the chart", all.len());
    let stale = all.iter().filter(|figure| !figures.contains(&format!(" {figure} ")));
    let fix = "run python3 benches/compare/comparison.py";
    none(
        &stale
            .map(|figure| format!("docs/comparison.svg: {figure} is not in BENCHMARKS.md; {fix}"))
            .collect::<Vec<_>>(),
    );
}

/// The lines of a block that somebody types: behind the prompt, where there is one.
fn typed(block: &[String]) -> Vec<String> {
    let prompted: Vec<String> = block.iter().filter_map(|line| line.strip_prefix("$ ")).map(str::to_owned).collect();
    if prompted.is_empty() { block.to_vec() } else { prompted }
}

/// Every line of code of a page: blocks, and what stands between backticks.
fn code(page: &Page) -> Vec<String> {
    let of_section = |section: &page::Section| {
        let blocks = section.blocks.iter().flat_map(|block| typed(block));
        blocks.chain(section.spans.iter().cloned()).collect::<Vec<_>>()
    };
    page.sections.iter().flat_map(of_section).collect()
}

/// The word behind each `name` of a line.
fn after<'l>(line: &'l str, name: &str) -> Vec<&'l str> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let is_word = |word: &&str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase());
    words.windows(2).filter(|pair| pair[0] == name).map(|pair| pair[1]).filter(is_word).collect()
}

#[test]
fn commands_that_pages_name_exist() {
    let commands: BTreeSet<String> = flags::commands().into_iter().map(|(name, _)| name).collect();
    let makefile = fs::read_to_string(root().join("Makefile")).unwrap();
    let targets: BTreeSet<&str> = makefile.lines().filter_map(|line| Some(line.split_once(':')?.0)).collect();
    let mut faults = Vec::new();
    for page in pages() {
        let place = page.path.display();
        for line in code(&page) {
            let unknown = after(&line, "egret").into_iter().filter(|word| !commands.contains(*word));
            faults.extend(unknown.map(|word| format!("{place}: egret has no command {word}: {line}")));
            let unknown = after(&line, "make").into_iter().filter(|word| !targets.contains(word));
            faults.extend(unknown.map(|word| format!("{place}: the Makefile has no target {word}: {line}")));
        }
    }
    let operations = Page::read("docs/operations.md");
    let listed: String = operations.section("Commands").rows.iter().map(|row| row.join(" ") + "\n").collect();
    let missing = commands.iter().filter(|name| !listed.contains(&format!("`egret {name}")));
    faults.extend(missing.map(|name| format!("docs/operations.md, Commands: no row for `egret {name}`; add it")));
    none(&faults);
}

#[test]
fn files_flags_and_variables_that_pages_name_exist() {
    let (flags, variables) = (flags::all_flags(), flags::all_variables());
    let mut faults = Vec::new();
    for page in pages() {
        let place = page.path.display();
        for span in page.sections.iter().flat_map(|section| &section.spans) {
            let word = span.split_whitespace().next().unwrap_or_default();
            let of_project = FOLDERS.iter().any(|folder| word.starts_with(&format!("{folder}/")));
            if of_project && !root().join(word).exists() {
                faults.push(format!("{place}: there is no file {word}"));
            }
            let flag = word.split('=').next().unwrap_or_default();
            if flag.starts_with("--") && !flags.contains(flag) {
                faults.push(format!("{place}: no command of egret has {flag}"));
            }
            if word.len() > "EGRET_".len() && word.starts_with("EGRET_") && !variables.contains(word) {
                faults.push(format!("{place}: no command of egret reads {word}"));
            }
        }
    }
    none(&faults);
}

/// What a command prints: problems first, then the rest.
fn printed(line: &str) -> Vec<String> {
    let mut words = line.split_whitespace();
    assert_eq!(words.next(), Some("egret"), "{line}");
    let mut command = Command::new(env!("CARGO_BIN_EXE_egret"));
    // The user's own variables would be flags.
    let output = command.args(words).env_clear().current_dir(root()).output().unwrap();
    let said = [output.stderr, output.stdout].concat();
    String::from_utf8(said).unwrap().lines().map(|line| line.trim_end().to_owned()).collect()
}

/// Whether `shown` is `said`, where `…` stands for any number of lines.
fn fits(shown: &[String], said: &[String]) -> bool {
    match shown.split_first() {
        None => said.is_empty(),
        Some((first, rest)) if first == "…" => (0..=said.len()).any(|at| fits(rest, &said[at..])),
        Some((first, rest)) => said.split_first().is_some_and(|(line, more)| line == first && fits(rest, more)),
    }
}

#[test]
fn commands_say_what_pages_show() {
    let (mut faults, mut run) = (Vec::new(), 0);
    for page in pages() {
        for block in page.sections.iter().flat_map(|section| &section.blocks) {
            let Some((prompt, shown)) = block.split_first() else { continue };
            let Some(line) = prompt.strip_prefix("$ egret ") else { continue };
            let said = printed(&format!("egret {line}"));
            run += 1;
            if !shown.is_empty() && !fits(shown, &said) {
                let (place, said) = (page.path.display(), said.join("\n"));
                faults.push(format!("{place}: `egret {line}` says something else now; put it into the page:\n{said}"));
            }
            if said.is_empty() || said[0].starts_with("error:") {
                faults.push(format!("{}: `egret {line}` fails: {said:?}", page.path.display()));
            }
        }
    }
    assert!(run > 5, "only {run} commands were found in the pages");
    none(&faults);
}
