//! `egret check PATH…`: every error and warning of a configuration at once, as a compiler would print them.
//!
//! What is sound is then compiled as `egret run` would, credentials and all, for every pod that the files may be read by, so
//! that a destination which would answer 503 is known before it does. What has an error is left out of that, and nothing is
//! said to be missing meanwhile. Needs no running proxy, no network, no privileges: fit for a commit hook.

mod pods;

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use crate::cli::output::Output;
use crate::cli::run;
use crate::config::{self, Loaded, Problem, Resources, Severity};
use crate::control::expiry;
use crate::flow::Hostname;
use crate::policy::publish::{Addresses, Published};
use crate::policy::{Materials, NOT_FOR_EGRESS, NOT_FOR_THIS_WORKLOAD, compile, take_unjudged};
use crate::tls::{ClientProfile, MaterialError, ProfileRequest, Store, StoreOptions};
use pods::{Gathered, pods};

/// Check configuration files: every error and warning, with file, line and column
#[derive(clap::Args, Clone, Debug)]
pub struct CheckArgs {
    /// Files, or folders of *.yaml
    #[arg(value_name = "PATH", required = true)]
    pub paths: Vec<PathBuf>,
    /// The pod's namespace; without it each namespace that the files name is taken in turn
    #[arg(long, value_name = "NS", env = "EGRET_NAMESPACE")]
    pub namespace: Option<String>,
    /// The pod's labels; without them every workloadSelector of the namespace is taken in turn
    #[arg(long, value_name = "k=v,…", env = "EGRET_LABELS", value_delimiter = ',', value_parser = run::label)]
    pub labels: Vec<(String, String)>,
    /// Folder with one folder per credential: what `credentialName: X` finds as DIR/X/
    #[arg(long, value_name = "DIR", env = "EGRET_SECRETS", default_value = "/etc/egret/secrets")]
    pub secrets: PathBuf,
    /// How to print what was found: as text, problems go to stderr, one a line, and a summary to stdout; as JSON, one object
    /// goes to stdout
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Output,
}

/// Exits with 1 if there is an error; warnings alone are no failure.
pub fn run(args: &CheckArgs) -> ExitCode {
    let mut loaded = config::load(&args.paths);
    loaded.problems.extend(nothing_read(&loaded, args));
    let pods = pods(&loaded.resources, args.namespace.as_deref(), &args.labels);
    loaded.problems.extend(take_unjudged(&mut loaded.resources, &pods, !args.labels.is_empty()));
    let in_use = problems_in_use(&loaded.resources, args);
    loaded.problems.extend(in_use);
    let problems = problems_of(&loaded);
    let written = match args.output {
        Output::Text => write_text(&problems, loaded.files.len(), &mut io::stderr().lock(), &mut io::stdout().lock()),
        Output::Json => write_json(&problems, &loaded, &mut io::stdout().lock()),
    };
    let failed = written.is_err() || count(&problems, Severity::Error) > 0;
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// A check of nothing finds nothing, and must not look like one that did.
fn nothing_read(loaded: &Loaded, args: &CheckArgs) -> Option<Problem> {
    if !loaded.files.is_empty() || loaded.has_errors() {
        return None;
    }
    let paths: Vec<_> = args.paths.iter().map(|path| path.display().to_string()).collect();
    let message = format!(
        "nothing was read: of a folder its *.yaml and *.yml are, neither *.json nor what stands in folders below; name the \
         files or folders themselves ({})",
        paths.join(", ")
    );
    Some(Problem { severity: Severity::Warning, at: None, message })
}

/// What shows only when resources stand together and their credentials are read, once each.
fn problems_in_use(resources: &Resources, args: &CheckArgs) -> Vec<Problem> {
    let pods = pods(resources, args.namespace.as_deref(), &args.labels);
    let mut found = Gathered::of(&pods);
    let (now, mut expiring) = (jiff::Timestamp::now().as_second(), Vec::new());
    let rules = &resources.destination_rules;
    let mut from = 0;
    for of_namespace in pods.chunk_by(|pod, next| pod.namespace == next.namespace) {
        // A secret is found in the pod's own namespace alone.
        let options = StoreOptions {
            namespace: of_namespace[0].namespace.clone(),
            secrets_dir: Some(args.secrets.clone()),
            minimum: resources.settings.min_tls_version,
            ssl_cert_file: std::env::var_os("SSL_CERT_FILE"),
        };
        let mut materials = OnDisk { store: Store::new(options, &resources.secrets) };
        for (at, pod) in of_namespace.iter().enumerate() {
            let (_, problems) = compile(resources, pod, &mut materials);
            // That a selector wants other labels says nothing where each is tried.
            let elsewhere = |p: &Problem| args.labels.is_empty() && p.message.starts_with(NOT_FOR_THIS_WORKLOAD);
            let said = |p: &Problem| elsewhere(p) || is_of_unsound_secret(p, resources, &pod.namespace);
            problems.into_iter().filter(|problem| !said(problem)).for_each(|p| found.add(from + at, p));
        }
        from += of_namespace.len();
        let credentials = materials.store.credentials();
        expiring.extend(credentials.iter().filter_map(|credential| expiry::warning(credential, rules, now)));
    }
    let mut problems = found.into_problems();
    for warning in expiring {
        let same = |other: &Problem| other.at == warning.at && other.message == warning.message;
        if !problems.iter().any(same) {
            problems.push(warning);
        }
    }
    problems
}

/// Whether a Secret is called missing that is there and has an error, of which its own place tells.
fn is_of_unsound_secret(problem: &Problem, resources: &Resources, namespace: &str) -> bool {
    resources.unsound_secrets.iter().any(|secret| {
        let missing = MaterialError::SecretNotFound {
            namespace: secret.namespace.as_deref().unwrap_or(namespace).to_owned(),
            name: secret.name.clone(),
        };
        problem.message.contains(&missing.to_string())
    })
}

/// Credentials as they lie on the disk; names are not resolved.
struct OnDisk {
    store: Store,
}

impl Materials for OnDisk {
    fn profile(&mut self, wanted: &ProfileRequest) -> Result<Arc<ClientProfile>, String> {
        self.store.profile(wanted)
    }

    fn addresses(&mut self, _: &Hostname) -> Addresses {
        Published::new(Vec::new())
    }
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

/// `2 errors, 1 warning in 3 files`, and how many policies are none of egret's.
fn summary_of(problems: &[Problem], files: usize) -> String {
    let counted = |number: usize, what: &str| match number {
        1 => format!("1 {what}"),
        _ => format!("{number} {what}s"),
    };
    let errors = counted(count(problems, Severity::Error), "error");
    let warnings = counted(count(problems, Severity::Warning), "warning");
    let others = match not_for_egress(problems) {
        0 => String::new(),
        1 => "; 1 AuthorizationPolicy is not for egress".to_owned(),
        number => format!("; {number} AuthorizationPolicies are not for egress"),
    };
    format!("{errors}, {warnings} in {}{others}", counted(files, "file"))
}

/// How many AuthorizationPolicies are about what comes to pods.
fn not_for_egress(problems: &[Problem]) -> usize {
    problems.iter().filter(|problem| problem.message.starts_with(NOT_FOR_EGRESS)).count()
}

fn write_json(problems: &[Problem], loaded: &Loaded, out: &mut impl Write) -> io::Result<()> {
    let listed: Vec<_> = problems.iter().map(problem_json).collect();
    let files: BTreeSet<_> = loaded.files.iter().map(|file| file.display().to_string()).collect();
    let report = serde_json::json!({
        "errors": count(problems, Severity::Error),
        "warnings": count(problems, Severity::Warning),
        "notForEgress": not_for_egress(problems),
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
        write_text(&problems_of(&loaded), loaded.files.len(), &mut errors, &mut summary).unwrap();
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
        write_json(&problems_of(&loaded), &loaded, &mut out).unwrap();
        let report: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!((&report["errors"], &report["warnings"]), (&1.into(), &1.into()));
        assert_eq!(report["files"], serde_json::json!(["a.yaml"]));
        assert_eq!(report["problems"][1]["severity"], "error");
        assert_eq!((&report["problems"][1]["line"], &report["problems"][1]["column"]), (&6.into(), &18.into()));
    }

    fn args(file: &Path, secrets: &Path) -> CheckArgs {
        CheckArgs {
            paths: vec![file.to_owned()],
            namespace: None,
            labels: Vec::new(),
            secrets: secrets.to_owned(),
            output: Output::Text,
        }
    }

    /// Each line is a `tls` block of port 80, whether the rule selects `app: sleep`, and what must be said of it.
    #[test]
    fn credentials_that_would_not_work_are_warned_of() {
        let folder = tempfile::tempdir().unwrap();
        let leaf = |name: &str, not_after: (i32, u8)| {
            let key = rcgen::KeyPair::generate().unwrap();
            let mut params = rcgen::CertificateParams::new([name.to_owned()]).unwrap();
            params.not_after = rcgen::date_time_ymd(not_after.0, not_after.1, 1);
            let text = params.self_signed(&key).unwrap().pem();
            std::fs::write(folder.path().join(format!("{name}.crt")), text).unwrap();
            std::fs::write(folder.path().join(format!("{name}.key")), key.serialize_pem()).unwrap();
        };
        leaf("good", (4000, 1));
        leaf("old", (2001, 1));
        std::fs::create_dir(folder.path().join("empty")).unwrap();
        let files = |cert: &str, key: &str| {
            let at = |name: &str| folder.path().join(name).display().to_string();
            format!("clientCertificate: {}, privateKey: {}, caCertificates: {}", at(cert), at(key), at("good.crt"))
        };
        let cases = [
            (format!("mode: MUTUAL, {}", files("good.crt", "good.key")), false, None),
            (format!("mode: MUTUAL, {}", files("good.crt", "old.key")), false, Some("does not belong to")),
            (format!("mode: MUTUAL, {}", files("gone.crt", "gone.key")), false, Some("cannot read")),
            (format!("mode: MUTUAL, {}", files("old.crt", "old.key")), false, Some("expired on 2001-01-01")),
            ("mode: MUTUAL, credentialName: client".to_owned(), false, Some("workloadSelector")),
            ("mode: MUTUAL, credentialName: client".to_owned(), true, Some("secret default/client not found")),
            ("mode: MUTUAL, credentialName: empty".to_owned(), true, Some("didn't have expected keys")),
        ];
        for (tls, selects, said) in cases {
            let file = folder.path().join("a.yaml");
            std::fs::write(&file, rule(80, &tls, selects)).unwrap();
            let loaded = config::load(std::slice::from_ref(&file));
            assert_eq!(count(&loaded.problems, Severity::Error), 0, "{:?}", loaded.problems);
            let found = problems_in_use(&loaded.resources, &args(&file, folder.path()));
            let text = found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
            match said {
                None => assert_eq!(text, "", "{tls}"),
                Some(part) => assert!(text.contains(part), "{tls}: {part:?} is not in {text:?}"),
            }
            let other_pod = CheckArgs { labels: vec![("app".into(), "other".into())], ..args(&file, folder.path()) };
            let unseen = problems_in_use(&loaded.resources, &other_pod);
            let credential = |p: &Problem| said.is_some_and(|said| p.message.contains(said));
            assert_eq!(unseen.iter().any(credential), said.is_some() && !selects, "{tls}: {unseen:?}");
        }
    }

    #[test]
    fn tls_inside_tls_is_warned_of() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.yaml");
        std::fs::write(&file, rule(443, "mode: SIMPLE", false)).unwrap();
        let loaded = config::load(std::slice::from_ref(&file));
        let found = problems_in_use(&loaded.resources, &args(&file, folder.path()));
        assert!(found.iter().any(|p| p.message.contains("already speaks TLS on port 443")), "{found:?}");
    }

    fn rule(port: u16, tls: &str, selects: bool) -> String {
        let selector = if selects { "workloadSelector: {matchLabels: {app: sleep}}, " } else { "" };
        format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: a}}\nspec: {{hosts: [a.example], \
             resolution: DNS, ports: [{{number: 80, name: http, protocol: HTTP, targetPort: 443}}, {{number: 443, name: \
             https, protocol: HTTPS}}]}}\n---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: \
             {{name: a}}\nspec: {{{selector}host: a.example, trafficPolicy: {{portLevelSettings: [{{port: {{number: \
             {port}}}, tls: {{{tls}}}}}]}}}}\n"
        )
    }

    /// An entry for `host` and a rule that originates TLS, which holds for pods of its namespace with its labels.
    fn originating(namespace: &str, host: &str, app: &str) -> String {
        let namespace = if namespace.is_empty() { String::new() } else { format!(", namespace: {namespace}") };
        format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {app}{namespace}}}\nspec: {{hosts: \
             [{host}], resolution: DNS, ports: [{{number: 80, name: http, protocol: HTTP, targetPort: 443}}]}}\n---\n\
             apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: {app}{namespace}}}\nspec: \
             {{host: {host}, workloadSelector: {{matchLabels: {{app: {app}}}}}, trafficPolicy: {{tls: {{mode: MUTUAL, \
             credentialName: {app}}}}}}}\n---\n"
        )
    }

    /// What is told of `text`, without what stands before the message.
    fn told(text: &str, namespace: Option<&str>, labels: &[(&str, &str)]) -> Vec<String> {
        let loaded = config::load_text(Path::new("f.yaml"), text);
        assert_eq!(loaded.problems, [], "{text}");
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let args = CheckArgs {
            namespace: namespace.map(str::to_owned),
            labels,
            ..args(Path::new("-"), Path::new("/nowhere"))
        };
        problems_in_use(&loaded.resources, &args).into_iter().map(|problem| problem.message).collect()
    }

    #[test]
    fn every_namespace_of_the_files_is_taken_in_turn() {
        let has = |all: &[String], parts: &[&str]| all.iter().any(|one| parts.iter().all(|part| one.contains(part)));
        let team_a = originating("team-a", "a.example", "a");
        let found = told(&team_a, None, &[]);
        assert!(has(&found, &["secret team-a/a not found"]) && !has(&found, &["plaintext"]), "{found:?}");
        assert!(!has(&found, &["for pods of"]), "{found:?}");
        // Another than the files name, because it was asked for.
        let found = told(&team_a, Some("default"), &[]);
        assert!(has(&found, &["leave in plaintext"]) && !has(&found, &["secret"]), "{found:?}");

        // What concerns one of them says so, what concerns all of them is told once.
        let general = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: c, namespace: team-b}\nspec: \
                       {hosts: [c.example], resolution: DNS, ports: [{number: 80, name: h, protocol: HTTP, targetPort: \
                       443}]}\n";
        let both = format!("{team_a}{}{general}", originating("team-b", "b.example", "b"));
        let found = told(&both, None, &[]);
        for parts in [
            &["a.example is refused", "secret team-a/a not found", "(for pods of namespace team-a)"],
            &["b.example is refused", "secret team-b/b not found", "(for pods of namespace team-b)"],
        ] {
            assert!(has(&found, parts), "{parts:?} is not told in {found:?}");
        }
        let plain: Vec<&String> = found.iter().filter(|one| one.contains("leave in plaintext")).collect();
        assert_eq!(plain.iter().filter(|one| !one.contains("for pods of")).count(), 1, "{found:?}");
        assert_eq!(plain.len(), 3, "that of each entry whose rule the other's pods do not have, and one: {found:?}");
        let found = told(&both, Some("team-b"), &[]);
        assert!(has(&found, &["secret team-b/b not found"]) && !has(&found, &["team-a/a"]), "{found:?}");
        assert!(!has(&found, &["for pods of"]), "{found:?}");
    }

    #[test]
    fn namespaces_that_something_is_exported_to_are_taken_too() {
        let both = originating("svc", "a.example", "a").replace("spec: {", "spec: {exportTo: [pod], ");
        let general = both
            .replace("workloadSelector: {matchLabels: {app: a}}, ", "")
            .replace("MUTUAL, credentialName: a", "SIMPLE, insecureSkipVerify: true");
        let loaded = config::load_text(Path::new("f.yaml"), &general);
        let found: Vec<String> = problems_in_use(&loaded.resources, &args(Path::new("-"), Path::new("/nowhere")))
            .into_iter()
            .map(|problem| problem.message)
            .collect();
        let absent = found.iter().find(|one| one.contains("has no effect"));
        assert!(absent.is_none_or(|one| one.ends_with("(for pods of namespace svc)")), "{found:?}");
        // Both kinds that may be exported, each alone.
        for kind in ["ServiceEntry", "VirtualService"] {
            let text = match kind {
                "ServiceEntry" => {
                    "spec: {exportTo: [elsewhere], hosts: [a.example], resolution: DNS, ports: [{number: 80, name: h, protocol: HTTP}]}"
                }
                _ => {
                    "spec: {exportTo: [elsewhere], hosts: [a.example], http: [{route: [{destination: {host: a.example}}]}]}"
                }
            };
            let text = format!(
                "apiVersion: networking.istio.io/v1\nkind: {kind}\nmetadata: {{name: a, namespace: svc}}\n{text}\n"
            );
            let loaded = config::load_text(Path::new("f.yaml"), &text);
            let pods = pods(&loaded.resources, None, &[]);
            let namespaces: Vec<&str> = pods.iter().map(|pod| pod.namespace.as_str()).collect();
            assert_eq!(namespaces, ["elsewhere", "svc"], "{kind}");
        }
    }

    #[test]
    fn selectors_are_those_of_the_namespace() {
        let two = originating("", "a.example", "a") + &originating("", "b.example", "b");
        let found = told(&two, None, &[]);
        let of = |part: &str| found.iter().filter(|one| one.contains(part)).collect::<Vec<_>>();
        assert!(of("secret default/a")[0].ends_with("(for pods of namespace default with app=a)"), "{found:?}");
        assert!(of("secret default/b")[0].ends_with("(for pods of namespace default with app=b)"), "{found:?}");
        assert_eq!(of("plaintext").len(), 2, "each host's for the other's pods: {found:?}");
        assert!(of("plaintext").iter().all(|one| one.contains("for pods of")), "{found:?}");
        let found = told(&two, None, &[("app", "a")]);
        assert!(found.iter().all(|one| !one.contains("for pods of")), "{found:?}");
        // Nobody's labels are taken for those of another namespace.
        let other = format!("{}{}", originating("team-a", "a.example", "a"), originating("", "b.example", "b"));
        let found = told(&other, Some("default"), &[]);
        assert!(found.iter().any(|one| one.contains("secret default/b not found")), "{found:?}");
        // The root namespace's objects are for pods of others.
        let root = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: r, namespace: istio-system}\n\
                    spec: {hosts: [r.example], resolution: DNS, ports: [{number: 443, name: h, protocol: HTTP}]}\n";
        assert_eq!(told(root, None, &[]).len(), 1);
    }

    #[test]
    fn a_folder_of_which_nothing_is_read_is_told() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("below")).unwrap();
        for name in ["a.json", "below/b.yaml", ".hidden.yaml"] {
            std::fs::write(folder.path().join(name), MISTAKES).unwrap();
        }
        let told = |path: &Path| {
            let args = args(path, folder.path());
            nothing_read(&config::load(&args.paths), &args).map(|problem| problem.message)
        };
        assert!(told(folder.path()).is_some_and(|message| message.contains("neither *.json nor")));
        assert_eq!(told(&folder.path().join("below")), None);
        assert_eq!(told(&folder.path().join("a.json")), None);
        // An error of its own.
        assert_eq!(told(&folder.path().join("nowhere")), None);
    }

    #[test]
    fn only_errors_fail() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.yaml");
        let exit = |text: &str| {
            std::fs::write(&file, text).unwrap();
            run(&args(&file, folder.path()))
        };
        assert_eq!(format!("{:?}", exit("")), format!("{:?}", ExitCode::SUCCESS));
        assert_eq!(format!("{:?}", exit("apiVersion: v1\nkind: Pod\n")), format!("{:?}", ExitCode::SUCCESS));
        assert_eq!(format!("{:?}", exit(MISTAKES)), format!("{:?}", ExitCode::FAILURE));
    }
}
