//! `egret check PATH…`: every error and warning of a configuration at once, as a compiler would print them.
//!
//! Needs no running proxy, no network, no privileges: fit for a commit hook.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use crate::cli::explain::{OFFLINE, Offline};
use crate::config::{self, DestinationRule, Loaded, Problem, Resources, Severity};
use crate::policy::{Workload, compile};

/// Check configuration files: every error and warning, with file, line and column
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Files, or folders of *.yaml
    #[arg(value_name = "PATH", required = true)]
    pub paths: Vec<PathBuf>,
    /// Namespace of the pod that the files are for
    #[arg(long, value_name = "NS", default_value = "default")]
    pub namespace: String,
    /// Labels of the pod that the files are for [default: whatever the rules select]
    #[arg(long, value_name = "K=V,…", value_delimiter = ',', value_parser = super::explain::label)]
    pub labels: Vec<(String, String)>,
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
    let problems = problems_of(&loaded, &args.namespace, &args.labels);
    let written = match args.output {
        Output::Text => write_text(&problems, loaded.files.len(), &mut io::stderr().lock(), &mut io::stdout().lock()),
        Output::Json => write_json(&problems, &loaded, &mut io::stdout().lock()),
    };
    let failed = written.is_err() || count(&problems, Severity::Error) > 0;
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Every problem of a configuration, by file and line: of each document, and of all of them together as the pod of
/// this namespace and these labels sees them.
pub fn problems_of(loaded: &Loaded, namespace: &str, labels: &[(String, String)]) -> Vec<Problem> {
    let mut problems = loaded.problems.clone();
    if labels.is_empty() {
        for pod in pods(&loaded.resources, namespace) {
            let (_, found) = compile(&loaded.resources, &pod, &mut Offline);
            problems.extend(found.into_iter().filter(|problem| concerns(problem, &loaded.resources, &pod)));
        }
    } else {
        let pod = Workload { namespace: namespace.to_owned(), labels: labels.iter().cloned().collect() };
        problems.extend(compile(&loaded.resources, &pod, &mut Offline).1);
    }
    problems.retain(|problem| !problem.message.contains(OFFLINE));
    problems.sort_by(|a, b| (&a.at, &a.message).cmp(&(&b.at, &b.message)));
    problems.dedup();
    problems
}

/// A pod without labels, and one for every selector.
fn pods(resources: &Resources, namespace: &str) -> Vec<Workload> {
    let selectors = resources.destination_rules.iter().filter_map(|rule| rule.workload_selector.as_ref());
    let labels: BTreeSet<_> = selectors.cloned().chain([BTreeMap::new()]).collect();
    labels.into_iter().map(|labels| Workload { namespace: namespace.to_owned(), labels }).collect()
}

/// Whether `pod` can judge it: a rule that selects other pods is judged by those.
fn concerns(problem: &Problem, resources: &Resources, pod: &Workload) -> bool {
    let here = |rule: &&DestinationRule| problem.at.as_ref() == Some(&rule.meta.at);
    let rule = resources.destination_rules.iter().find(here);
    let selector = rule.and_then(|rule| rule.workload_selector.as_ref());
    selector.is_none_or(|selector| selector.iter().all(|(key, value)| pod.labels.get(key) == Some(value)))
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const MISTAKES: &str = "apiVersion: v1\nkind: Pod\n---\napiVersion: v1\nkind: Secret\nmetadata: {name: S}\n";

    #[test]
    fn text_is_one_problem_a_line_and_a_summary() {
        let loaded = config::load_text(Path::new("a.yaml"), MISTAKES);
        let (mut errors, mut summary) = (Vec::new(), Vec::new());
        write_text(&problems_of(&loaded, "default", &[]), loaded.files.len(), &mut errors, &mut summary).unwrap();
        let errors = String::from_utf8(errors).unwrap();
        let lines: Vec<_> = errors.lines().collect();
        assert_eq!(lines.len(), 2, "{errors}");
        assert_eq!(lines[0], "a.yaml:2:7: warning: kind: Pod (v1) is ignored: egret does not use it");
        assert!(lines[1].starts_with("a.yaml:6:18: metadata.name: "), "{errors}");
        assert_eq!(String::from_utf8(summary).unwrap(), "1 error, 1 warning in 1 file\n");
    }

    #[test]
    fn json_holds_the_same() {
        let loaded = config::load_text(Path::new("a.yaml"), MISTAKES);
        let mut out = Vec::new();
        write_json(&problems_of(&loaded, "default", &[]), &loaded, &mut out).unwrap();
        let report: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!((&report["errors"], &report["warnings"]), (&1.into(), &1.into()));
        assert_eq!(report["files"], serde_json::json!(["a.yaml"]));
        assert_eq!(report["problems"][1]["severity"], "error");
        assert_eq!((&report["problems"][1]["line"], &report["problems"][1]["column"]), (&6.into(), &18.into()));
    }

    #[test]
    fn only_errors_fail() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.yaml");
        let exit = |text: &str| {
            std::fs::write(&file, text).unwrap();
            run(&Args { paths: vec![file.clone()], namespace: "default".into(), labels: vec![], output: Output::Text })
        };
        assert_eq!(format!("{:?}", exit("")), format!("{:?}", ExitCode::SUCCESS));
        assert_eq!(format!("{:?}", exit("apiVersion: v1\nkind: Pod\n")), format!("{:?}", ExitCode::SUCCESS));
        assert_eq!(format!("{:?}", exit(MISTAKES)), format!("{:?}", ExitCode::FAILURE));
    }

    const ENTRY: &str = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: a}\n\
        spec: {hosts: [a.example], ports: [{number: 80, name: p, protocol: PROTOCOL, targetPort: 443}], resolution: DNS}\n";
    const RULE: &str = "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: a}\nspec:\n  \
        host: HOST\n  workloadSelector: {matchLabels: {app: sleep}}\n  trafficPolicy: {tls: {mode: SIMPLE}}\n";

    /// What documents say together is checked as well, and a rule only as the pods that it selects see it.
    #[test]
    fn documents_are_judged_together() {
        for (protocol, host, labels, expected) in [
            ("HTTP", "a.example", "", &[][..]),
            ("HTTP", "a.example", "app=other", &["workloadSelector wants app=sleep"]),
            ("HTTP", "b.example", "", &["b.example"]),
            ("GRPC", "a.example", "", &["requests go out as HTTP/1.1"]),
            ("HTTPS", "a.example", "", &["already speaks TLS"]),
        ] {
            let text = format!("{}{}", ENTRY.replace("PROTOCOL", protocol), RULE.replace("HOST", host));
            let labels: Vec<_> =
                labels.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned())).into_iter().collect();
            let problems = problems_of(&config::load_text(Path::new("a.yaml"), &text), "default", &labels);
            assert_eq!(problems.len(), expected.len(), "{protocol} {host}: {problems:?}");
            for (problem, words) in problems.iter().zip(expected) {
                assert!(problem.to_string().contains(words) && problem.at.is_some(), "{problem}");
            }
        }
    }
}
