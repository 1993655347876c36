//! Istio's public tasks about egress, in documents of our own: each file of `tests/istio-tasks` says at its beginning what
//! commands say of it. `# $ egret …` is a command, of which the file is the configuration; each line up to the next one must
//! be told, however it is spaced.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/istio-tasks");
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// A command and what must be told.
struct Step {
    command: String,
    told: Vec<String>,
}

fn steps(text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for line in text.lines().map_while(|line| line.strip_prefix('#')) {
        match (line.strip_prefix(" $ egret "), steps.last_mut()) {
            (Some(command), _) => steps.push(Step { command: command.to_owned(), told: Vec::new() }),
            (None, Some(step)) => step.told.push(line.trim().to_owned()),
            (None, None) => {}
        }
    }
    steps
}

/// What a command prints, with one blank where it has several.
fn said(command: &str, file: &Path) -> String {
    let mut words = command.split(' ');
    let name = words.next().unwrap();
    let place = if name == "check" { vec![] } else { vec!["--config"] };
    let output = Command::new(env!("CARGO_BIN_EXE_egret"))
        .arg(name)
        .args(words)
        .args(place)
        .arg(file)
        .args(["check"].contains(&name).then_some("--secrets=/nonexistent"))
        .env_remove("EGRET_LABELS")
        .env_remove("EGRET_NAMESPACE")
        .output()
        .expect("egret starts");
    let text = [output.stderr, output.stdout].concat();
    let text = String::from_utf8(text).expect("egret writes UTF-8");
    text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ") + "\n").collect()
}

#[test]
fn commands_tell_what_the_files_say() {
    let mut wrong = String::new();
    for file in files() {
        let text = fs::read_to_string(&file).unwrap();
        let steps = steps(&text);
        assert!(steps.len() >= 2, "{}: a check, and what becomes of something", file.display());
        for Step { command, told } in steps {
            assert!(!told.is_empty(), "{}: {command} tells nothing", file.display());
            let said = said(&command, &file);
            for line in told.iter().filter(|line| !said.contains(&***line)) {
                writeln!(wrong, "{}: egret {command}: {line:?} is not told in\n{said}", file.display()).unwrap();
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
