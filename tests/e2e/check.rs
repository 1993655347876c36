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

/// What `egret check` says of `documents` to pods of a namespace with labels, and its exit code.
fn told_to(documents: &str, pods: &[&str]) -> (String, Option<i32>) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("f.yaml");
    fs::write(&file, documents).expect("room for a small file");
    let output = check(&[&[file.to_str().expect("a plain name")], pods].concat());
    (text(&output.stderr).replace(&format!("{}:", file.display()), ""), output.status.code())
}

#[test]
fn a_policy_that_cannot_be_judged_stops_the_pods_that_it_is_for_alone() {
    let policy = |metadata: &str, spec: &str| {
        let rules = "rules: [{from: [{source: {principals: [cluster.local/ns/default/sa/curl]}}], to: [{operation: {hosts: \
                     [a.example]}}]}]";
        format!(
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: a{metadata}}}\nspec: {{{spec}{rules}}}\n"
        )
    };
    let selecting = "selector: {matchLabels: {app: httpbin}}, ";
    for (document, pods, fails) in [
        (policy(", namespace: backend", selecting), &["--namespace", "shop", "--labels", "app=client"][..], false),
        (policy(", namespace: backend", ""), &["--namespace", "shop"], false),
        (policy("", selecting), &["--labels", "app=client"], false),
        (policy(", namespace: backend", selecting), &[], true),
        (policy("", selecting), &["--labels", "app=httpbin"], true),
        (policy("", ""), &["--namespace", "shop"], true),
    ] {
        let (said, code) = told_to(&document, pods);
        assert_eq!(code, Some(i32::from(fails)), "{document}{pods:?}: {said}");
        assert!(said.contains("principals: cannot be judged where one pod's traffic leaves"), "{said}");
        assert_eq!(said.contains("warning: this AuthorizationPolicy is for other pods"), !fails, "{said}");
    }
}

#[test]
fn a_policy_about_callers_stops_nobody_and_is_counted() {
    let policy = |name: &str| {
        format!(
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: {name}}}\nspec: {{selector: {{matchLabels: {{app: \
             httpbin}}}}, rules: [{{from: [{{source: {{principals: [x]}}}}], to: [{{operation: {{methods: [GET]}}}}]}}]}}\n"
        )
    };
    let folder = tempfile::tempdir().expect("room for a folder");
    let file = folder.path().join("f.yaml");
    fs::write(&file, [policy("a"), policy("b")].join("---\n")).expect("room for a small file");
    let output = check(&[file.to_str().expect("a plain name"), "--labels", "app=httpbin"]);
    let (said, summary) = (text(&output.stderr), text(&output.stdout));
    assert_eq!(
        (output.status.code(), said.matches("is not for egress and is left out").count()),
        (Some(0), 2),
        "{said}"
    );
    assert_eq!(summary, "0 errors, 2 warnings in 1 file; 2 AuthorizationPolicies are not for egress\n");
}

#[test]
fn a_secret_that_has_an_error_is_not_called_missing() {
    let documents = |secret: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: a}}\nspec: {{hosts: [a.example], \
             ports: [{{number: 80, name: http, protocol: HTTP, targetPort: 443}}], resolution: DNS}}\n---\napiVersion: \
             networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: a}}\nspec: {{host: a.example, \
             workloadSelector: {{matchLabels: {{app: a}}}}, trafficPolicy: {{tls: {{mode: MUTUAL, credentialName: \
             client}}}}}}\n---\napiVersion: v1\nkind: Secret\n{secret}\n"
        )
    };
    for (secret, missing) in [
        ("metadata: {name: client}\ndata: {tls.crt: LS0}", false),
        ("metadata: {name: client, namespace: default}\nstringData: {tls.crt: 7}", false),
        ("metadata: {name: other}\ndata: {tls.crt: LS0}", true),
    ] {
        let (said, code) = told_to(&documents(secret), &["--namespace", "default"]);
        assert_eq!(code, Some(1), "{said}");
        assert_eq!(said.contains("secret default/client not found"), missing, "{secret}: {said}");
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
