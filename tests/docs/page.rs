//! A Markdown page as far as the checks need it: sections with their tables, code, links. It refuses to know what a page
//! is about.

use std::fs;
use std::path::{Path, PathBuf};

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A file with its text, named from the root of the repository.
pub struct Page {
    pub path: PathBuf,
    pub sections: Vec<Section>,
    pub text: String,
}

/// A heading and what follows up to the next one.
#[derive(Default)]
pub struct Section {
    pub title: String,
    /// Rows of its tables without their headers; a cell is Markdown.
    pub rows: Vec<Vec<String>>,
    /// What stands between backticks, outside of blocks.
    pub spans: Vec<String>,
    /// Blocks of code, line by line.
    pub blocks: Vec<Vec<String>>,
    pub links: Vec<String>,
}

impl Page {
    pub fn read(path: &str) -> Self {
        let text = fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        Self { path: path.into(), sections: sections(&text), text }
    }

    /// The section called `title`.
    #[track_caller]
    pub fn section(&self, title: &str) -> &Section {
        let found = self.sections.iter().find(|section| section.title == title);
        found.unwrap_or_else(|| panic!("{} has no section \"{title}\"; add it", self.path.display()))
    }

    /// The anchors that GitHub gives the headings.
    pub fn anchors(&self) -> Vec<String> {
        let mut anchors: Vec<String> = Vec::new();
        for section in &self.sections {
            let title = section.title.to_lowercase().replace(' ', "-");
            let slug: String = title.chars().filter(|c| c.is_alphanumeric() || "-_".contains(*c)).collect();
            let same = anchors.iter().filter(|other| **other == slug).count();
            anchors.push(if same == 0 { slug } else { format!("{slug}-{same}") });
        }
        anchors
    }
}

fn sections(text: &str) -> Vec<Section> {
    let (mut sections, mut fenced) = (vec![Section::default()], false);
    for line in text.lines() {
        let last = sections.last_mut().expect("there is always one");
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
            if fenced {
                last.blocks.push(Vec::new());
            }
        } else if fenced {
            last.blocks.last_mut().expect("a fence opens a block").push(line.to_owned());
        } else if let Some(title) = line.strip_prefix('#') {
            let title = title.trim_start_matches('#').trim().to_owned();
            sections.push(Section { title, ..Section::default() });
        } else {
            last.add(line);
        }
    }
    sections
}

impl Section {
    fn add(&mut self, line: &str) {
        self.spans.extend(spans(line));
        self.links.extend(links(line));
        let Some(inner) = line.strip_prefix('|').and_then(|rest| rest.trim_end().strip_suffix('|')) else { return };
        if inner.chars().all(|c| "|-: ".contains(c)) {
            // What stands above the rule is the header.
            self.rows.pop();
            return;
        }
        // A bar within a cell is escaped.
        let cells = inner.replace("\\|", "\u{1}");
        self.rows.push(cells.split('|').map(|cell| cell.trim().replace('\u{1}', "|")).collect());
    }
}

/// What stands between backticks.
pub fn spans(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The targets of links and images, Markdown's and HTML's.
fn links(line: &str) -> Vec<String> {
    let mut found = Vec::new();
    let plain: String = line.split('`').step_by(2).collect::<Vec<_>>().join("_");
    for (open, close) in [("](", ')'), ("src=\"", '"'), ("srcset=\"", '"')] {
        let parts = plain.split(open).skip(1);
        found.extend(parts.filter_map(|part| Some(part.split_once(close)?.0.to_owned())));
    }
    found
}

/// Every Markdown file of the repository, from its root.
pub fn all() -> Vec<Page> {
    let mut found = Vec::new();
    collect(root(), &mut found);
    found.sort();
    let name = |path: &PathBuf| path.strip_prefix(root()).expect("found below it").to_string_lossy().into_owned();
    found.iter().map(|path| Page::read(&name(path))).collect()
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        if path.is_dir() && !hidden && path != root().join("target") && path != root().join("fuzz/target") {
            collect(&path, found);
        } else if path.extension().is_some_and(|end| end == "md") {
            found.push(path);
        }
    }
}

/// Fails with every fault at once.
#[track_caller]
pub fn none(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}
