//! `egret check PATH…`: every error and warning of a configuration at once, as a compiler would print them.
//!
//! Needs no running proxy, no network, no privileges: fit for a commit hook.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use crate::config::{self, Loaded, Problem, Severity};

/// Check configuration files: every error and warning, with file, line and column
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Files, or folders of *.yaml
    #[arg(value_name = "PATH", required = true)]
    pub paths: Vec<PathBuf>,
    /// How to print what was found
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Output,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Output {
    /// Problems on stderr, one a line, and a summary on stdout
    #[default]
    Text,
    /// One JSON object on stdout
    Json,
}

/// Exits with 1 if there is an error; warnings alone are no failure.
pub fn run(args: &Args) -> ExitCode {
    let loaded = config::load(&args.paths);
    let problems = problems_of(&loaded);
    let written = match args.output {
        Output::Text => write_text(&problems, loaded.files.len(), &mut io::stderr().lock(), &mut io::stdout().lock()),
        Output::Json => write_json(&problems, &loaded, &mut io::stdout().lock()),
    };
    let failed = written.is_err() || count(&problems, Severity::Error) > 0;
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Every problem of a configuration, by file and line.
pub fn problems_of(loaded: &Loaded) -> Vec<Problem> {
    let mut problems = loaded.problems.clone();
    problems.sort_by(|a, b| a.at.cmp(&b.at));
    problems
}

fn count(problems: &[Problem], severity: Severity) -> usize {
    problems.iter().filter(|problem| problem.severity == severity).count()
}

fn write_text(problems: &[Problem], files: usize, errors: &mut impl Write, summary: &mut impl Write) -> io::Result<()> {
    for problem in problems {
        writeln!(errors, "{problem}")?;
    }
    errors.flush()?;
    writeln!(summary, "{}", summary_of(problems, files))
}

/// `2 errors, 1 warning in 3 files`.
fn summary_of(problems: &[Problem], files: usize) -> String {
    let counted = |number: usize, what: &str| match number {
        1 => format!("1 {what}"),
        _ => format!("{number} {what}s"),
    };
    let errors = counted(count(problems, Severity::Error), "error");
    let warnings = counted(count(problems, Severity::Warning), "warning");
    format!("{errors}, {warnings} in {}", counted(files, "file"))
}

fn write_json(problems: &[Problem], loaded: &Loaded, out: &mut impl Write) -> io::Result<()> {
    let listed: Vec<_> = problems.iter().map(problem_json).collect();
    let files: BTreeSet<_> = loaded.files.iter().map(|file| file.display().to_string()).collect();
    let report = serde_json::json!({
        "errors": count(problems, Severity::Error),
        "warnings": count(problems, Severity::Warning),
        "files": files,
        "problems": listed,
    });
    writeln!(out, "{report:#}")
}

fn problem_json(problem: &Problem) -> serde_json::Value {
    let at = problem.at.as_ref();
    serde_json::json!({
        "severity": match problem.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        },
        "file": at.map(|at| at.file.display().to_string()),
        "line": at.map(|at| at.line),
        "column": at.map(|at| at.column),
        "message": problem.message,
    })
}
