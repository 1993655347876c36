//! `egret check` on folders of mistakes: every one is told at once, with its place, as the golden files beside say.
//!
//! To renew the golden files after a change that is meant: `EGRET_WRITE_GOLDEN=1 cargo test --test check`, then read the
//! difference.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

/// The command in the project's folder, with a bundle of its own in place of the system's.
fn check(arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let bundle = folder.path().join("roots.pem");
    let key = rcgen::KeyPair::generate().expect("the system has randomness");
    let root = rcgen::CertificateParams::new(Vec::<String>::new())
        .and_then(|params| params.self_signed(&key))
        .expect("a root");
    fs::write(&bundle, root.pem()).expect("room for a small file");
    let secrets = folder.path().join("none");
    Command::new(env!("CARGO_BIN_EXE_egret"))
        .arg("check")
        .args(arguments)
        .arg("--secrets")
        .arg(&secrets)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("SSL_CERT_FILE", &bundle)
        .env_remove("EGRET_LABELS")
        .env_remove("EGRET_NAMESPACE")
        .output()
        .expect("egret starts")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("egret writes UTF-8")
}

/// The lines about `folder`, which are those of its golden file.
fn told(folder: &str, code: i32) -> Vec<String> {
    let output = check(&[&format!("tests/check/{folder}")]);
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    let said = text(&output.stderr);
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/check/{folder}.txt"));
    if std::env::var_os("EGRET_WRITE_GOLDEN").is_some() {
        fs::write(&golden, said).expect("the project's folder is writable");
    }
    let wanted = fs::read_to_string(&golden).expect("a golden file");
    assert!(said == wanted, "not as in {}:\n{said}", golden.display());
    said.lines().map(str::to_owned).collect()
}

/// `file:line:column: ` with numbers that count from 1.
fn is_located(line: &str) -> bool {
    let mut parts = line.splitn(4, ':');
    let is_ours =
        |file: &str| file.starts_with("tests/check/") && Path::new(file).extension().is_some_and(|e| e == "yaml");
    let file = parts.next().is_some_and(is_ours);
    let mut number = || parts.next().and_then(|text| text.parse::<u32>().ok()).is_some_and(|number| number > 0);
    file && number() && number()
}

#[test]
fn thirty_mistakes_are_told_at_once_each_with_its_place() {
    let lines = told("mistakes", 1);
    assert!(lines.len() >= 30, "{} lines", lines.len());
    let messages: BTreeSet<_> = lines.iter().map(|line| line.splitn(4, ':').nth(3)).collect();
    assert_eq!(messages.len(), lines.len(), "each is another one");
    for line in &lines {
        assert!(is_located(line), "{line}");
    }
}

#[test]
fn what_is_missing_is_told_where_everything_could_be_read() {
    let lines = told("missing", 0);
    assert!(lines.iter().all(|line| is_located(line) && line.contains(": warning: ")), "{lines:#?}");
    // Beside a document with an error nothing is said to be missing: that document might be it.
    let both = check(&["tests/check/missing", "tests/check/mistakes/broken.yaml"]);
    let said = text(&both.stderr);
    assert!(said.contains("broken.yaml:") && !said.contains("no ServiceEntry"), "{said}");
}

#[test]
fn json_tells_the_same() {
    let lines = told("mistakes", 1);
    let output = check(&["tests/check/mistakes", "-o", "json"]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let problems = report["problems"].as_array().expect("a list");
    assert_eq!(problems.len(), lines.len());
    for (problem, line) in problems.iter().zip(&lines) {
        let place = format!("{}:{}:{}: ", problem["file"].as_str().unwrap_or(""), problem["line"], problem["column"]);
        assert!(line.starts_with(&place) && line.ends_with(problem["message"].as_str().unwrap_or("?")), "{problem}");
    }
}

/// Every example, except for the credentials that an example cannot bring.
#[test]
fn examples_are_clean() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/examples");
    let mut files = Vec::new();
    for folder in [root.clone(), root.join("egress-tls-origination")] {
        let entries = fs::read_dir(&folder).expect("the examples").map(|entry| entry.expect("an entry").path());
        files.extend(entries.filter(|path| path.is_file()));
    }
    assert!(files.len() >= 9, "{files:?}");
    for file in files {
        let output = check(&[file.to_str().expect("a plain name")]);
        assert!(output.status.success(), "{output:?}");
        // The document's own `sni` is one of Istio's traps, and stands there all the same.
        let absent = ["secret default/", "cannot read /etc/egret/", "an explicit `sni` switches"];
        let lines = text(&output.stderr).lines();
        let others: Vec<&str> = lines.filter(|line| !absent.iter().any(|part| line.contains(part))).collect();
        assert!(others.is_empty(), "{}: {others:#?}", file.display());
    }
}
