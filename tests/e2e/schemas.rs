//! Kubernetes' own schemas over every manifest of the project, over what `egret inject` makes of every kind of workload,
//! and over what Helm makes of the chart. The judges are PyPI's kubernetes-validate and Helm as a library; `make setup`
//! puts both into `target/python`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;
use serde_yaml::Value;

const EGRET: &str = env!("CARGO_BIN_EXE_egret");
/// The first version with native sidecars switched on, and the latest that the schemas are there for.
const VERSIONS: [&str; 2] = ["1.29", "1.37"];
/// Kinds of others, which Kubernetes' schemas do not hold.
const CUSTOM: [&str; 8] = [
    "Kustomization",
    "ServiceEntry",
    "DestinationRule",
    "PodMonitor",
    "PrometheusRule",
    "Issuer",
    "Certificate",
    // A custom resource that is called Job.
    "batch.volcano.sh/v1alpha1",
];

fn at(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        let link = entry.file_type().unwrap().is_symlink();
        if path.is_dir() && !path.ends_with("templates") {
            files(&path, found);
        } else if !link && path.extension().is_some_and(|end| end == "yaml") {
            found.push(path);
        }
    }
}

fn python(program: &str) -> PathBuf {
    let path = at("target/python/bin").join(program);
    assert!(path.exists(), "{} is not installed: run `make setup`", path.display());
    path
}

/// Judges files strictly, which means: unknown fields are errors. Returns what passed, as `kind/name`.
#[track_caller]
fn validated(files: &[PathBuf]) -> BTreeSet<String> {
    let mut passed = BTreeSet::new();
    for version in VERSIONS {
        let mut command = Command::new(python("kubernetes-validate"));
        let output = command.args(["--strict", "-k", version]).args(files).output().unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{version}:\n{said}");
        for line in said.lines() {
            if let Some((_, resource)) = line.split_once(" passed for resource ") {
                passed.insert(resource.split(' ').next().unwrap().to_owned());
                continue;
            }
            let custom = CUSTOM.iter().any(|kind| line.contains(&format!("{kind} ")));
            assert!(custom && line.contains("find schema"), "{version}: {line}");
        }
    }
    passed
}

#[test]
fn every_manifest_of_the_project_is_valid() {
    let mut all = Vec::new();
    files(&at("config/kubernetes"), &mut all);
    // Not Kubernetes': Settings is egret's, Chart.yaml and values.yaml are Helm's.
    all.retain(|path| !["settings.yaml", "Chart.yaml", "values.yaml"].iter().any(|name| path.ends_with(name)));
    let passed = validated(&all);
    for resource in ["deployment/sleep", "deployment/egret-webhook", "mutatingwebhookconfiguration/egret"] {
        assert!(passed.contains(resource), "{resource} was not looked at: {passed:?}");
    }
}

#[test]
fn what_inject_makes_of_every_workload_is_valid() {
    let inputs = ["pod.yaml", "deployment.yaml", "statefulset.yaml", "daemonset.yaml", "job.yaml", "cronjob.yaml"];
    let inputs = inputs.into_iter().chain(["list.yaml", "stream.yaml", "classic.yaml", "pod.json"]);
    let folder = tempfile::tempdir().unwrap();
    let mut outputs = Vec::new();
    for input in inputs {
        for flags in [&["--secret=a.b"][..], &["--classic", "--seccomp-profile=profiles/egret.json"]] {
            let file = at("tests/golden/inject").join(input);
            let made = Command::new(EGRET).arg("inject").args(flags).arg("-f").arg(file).output().unwrap();
            assert!(made.status.success(), "{input}: {}", String::from_utf8_lossy(&made.stderr));
            let output = folder.path().join(format!("{}-{input}.yaml", outputs.len()));
            fs::write(&output, unpacked(&String::from_utf8(made.stdout).unwrap())).unwrap();
            outputs.push(output);
        }
    }
    let passed = validated(&outputs);
    let kinds: BTreeSet<&str> = passed.iter().map(|resource| resource.split('/').next().unwrap()).collect();
    for kind in ["pod", "deployment", "statefulset", "daemonset", "job", "cronjob"] {
        assert!(kinds.contains(kind), "no {kind} was looked at: {passed:?}");
    }
}

/// A stream in place of a List, which is no resource of its own.
fn unpacked(text: &str) -> String {
    if !text.contains("kind: List") {
        return text.to_owned();
    }
    let documents = serde_yaml::Deserializer::from_str(text).map(|one| Value::deserialize(one).unwrap());
    let items = documents.flat_map(|one| match one["items"].as_sequence() {
        Some(items) if one["kind"] == "List" => items.clone(),
        _ => vec![one],
    });
    items.flat_map(|item| ["---\n".to_owned(), serde_yaml::to_string(&item).unwrap()]).collect()
}

/// Helm's lint and Helm's rendering of the chart: a file for each template, by its name.
const RENDER: &str = "
import json, sys, helm_python as helm
chart, values, folder = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3]
findings = helm.lint(chart, values)
assert not findings['errors'], findings
with helm.Chart.load(chart) as loaded:
    loaded.validate_schema(values)
    for name, text in loaded.render(values, name='release', namespace='mesh').items():
        open(folder + '/' + name.rsplit('/', 1)[1], 'w').write(text)
";

fn render(values: &str, folder: &Path) -> Result<(), String> {
    let chart = at("config/kubernetes/chart");
    let mut command = Command::new(python("python"));
    command.args(["-c", RENDER]).arg(chart).arg(values).arg(folder).stdin(Stdio::null());
    let output = command.output().unwrap();
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

/// What the chart makes of `values`, validated.
#[track_caller]
fn rendered(values: &str) -> Vec<Value> {
    let folder = tempfile::tempdir().unwrap();
    render(values, folder.path()).unwrap_or_else(|error| panic!("{values}: {error}"));
    let mut all = Vec::new();
    files(folder.path(), &mut all);
    all.retain(|path| !fs::read_to_string(path).unwrap().trim().is_empty());
    if !all.is_empty() {
        validated(&all);
    }
    let texts = all.iter().map(|path| fs::read_to_string(path).unwrap());
    let documents = texts.flat_map(|text| {
        let each = serde_yaml::Deserializer::from_str(&text).map(|one| Value::deserialize(one).unwrap());
        each.collect::<Vec<_>>()
    });
    documents.filter(|document| !document.is_null()).collect()
}

#[track_caller]
fn object<'v>(all: &'v [Value], kind: &str, name: &str) -> &'v Value {
    let found = all.iter().find(|one| one["kind"] == kind && one["metadata"]["name"] == name);
    found.unwrap_or_else(|| panic!("no {kind} {name}"))
}

#[test]
fn the_chart_installs_a_webhook_that_its_configuration_trusts() {
    let all = rendered("{}");
    let configuration = object(&all, "MutatingWebhookConfiguration", "egret");
    let webhooks = configuration["webhooks"].as_sequence().unwrap();
    let secret = object(&all, "Secret", "egret-webhook");
    for webhook in webhooks {
        assert_eq!(webhook["clientConfig"]["caBundle"], secret["data"]["ca.crt"]);
        assert_eq!(webhook["clientConfig"]["service"]["namespace"], "mesh");
    }
    // Everything else is as where kustomize has it.
    let base = fs::read_to_string(at("config/kubernetes/webhook/configuration/configuration.yaml")).unwrap();
    let mut base: Value = serde_yaml::from_str(&base).unwrap();
    for webhook in base["webhooks"].as_sequence_mut().unwrap() {
        webhook["clientConfig"]["service"]["namespace"] = "mesh".into();
        webhook["clientConfig"]["caBundle"] = secret["data"]["ca.crt"].clone();
    }
    assert_eq!(base["webhooks"], configuration["webhooks"]);
    let deployment = object(&all, "Deployment", "egret-webhook");
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["image"], concat!("egret:", env!("CARGO_PKG_VERSION")));
    let service = object(&all, "Service", "egret-webhook");
    assert_eq!(service["spec"]["selector"], deployment["spec"]["selector"]["matchLabels"]);
    assert_eq!(all.len(), 6, "{all:#?}");
}

#[test]
fn the_charts_values_reach_the_webhook_and_the_namespaces() {
    let all = rendered(
        r#"{"image": {"repository": "registry.example/egret", "tag": "2"},
            "webhook": {"replicas": 1, "failurePolicy": "Ignore", "certManager": {"enabled": true},
                        "inject": {"secrets": ["a", "b"], "classic": true, "seccompProfile": "profiles/egret.json"}},
            "namespaces": [{"name": "shop", "outboundTrafficPolicy": "REGISTRY_ONLY", "files": {"x.yaml": "a: 1\n"}},
                           {"name": "bank"}],
            "monitoring": {"podMonitor": true, "rules": true, "dashboard": true}}"#,
    );
    let container = &object(&all, "Deployment", "egret-webhook")["spec"]["template"]["spec"]["containers"][0];
    let flags = [
        "--image=registry.example/egret:2",
        "--secret=a",
        "--secret=b",
        "--classic",
        "--seccomp-profile=profiles/egret.json",
    ];
    let wanted: Vec<&str> = ["webhook"].into_iter().chain(flags).collect();
    assert_eq!(container["args"], serde_yaml::to_value(wanted).unwrap());
    let configuration = object(&all, "MutatingWebhookConfiguration", "egret");
    assert_eq!(configuration["metadata"]["annotations"]["cert-manager.io/inject-ca-from"], "mesh/egret-webhook");
    assert_eq!(configuration["webhooks"][0]["failurePolicy"], "Ignore");
    assert_eq!(configuration["webhooks"][0]["clientConfig"]["caBundle"], Value::Null);
    let maps: Vec<&Value> =
        all.iter().filter(|one| one["kind"] == "ConfigMap" && one["metadata"]["name"] == "egret").collect();
    assert_eq!(
        (&maps[0]["metadata"]["namespace"], &maps[1]["metadata"]["namespace"]),
        (&"shop".into(), &"bank".into())
    );
    assert_eq!(maps[0]["data"]["x.yaml"].as_str().unwrap().trim(), "a: 1");
    for (map, mode) in maps.iter().zip(["REGISTRY_ONLY", "ALLOW_ANY"]) {
        let settings: Value = serde_yaml::from_str(map["data"]["settings.yaml"].as_str().unwrap()).unwrap();
        assert_eq!(settings["spec"]["outboundTrafficPolicy"]["mode"], mode);
    }
    let monitor = object(&all, "PodMonitor", "egret");
    assert_eq!(monitor["spec"]["namespaceSelector"]["matchNames"], serde_yaml::to_value(["shop", "bank"]).unwrap());
    let dashboard = object(&all, "ConfigMap", "egret-dashboard")["data"]["dashboard.json"].as_str().unwrap().to_owned();
    let source = fs::read_to_string(at("config/kubernetes/monitoring/dashboard.json")).unwrap();
    let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    assert_eq!(json(&dashboard), json(&source));
    object(&all, "PrometheusRule", "egret");
    object(&all, "Certificate", "egret-webhook");
}

#[test]
fn a_slip_in_the_charts_values_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    for (values, says) in [
        (r#"{"webhok": {}}"#, "webhok"),
        (r#"{"webhook": {"failurePolicy": "fail"}}"#, "failurePolicy"),
        (r#"{"namespaces": [{"name": "shop", "outboundTrafficPolicy": "REGISTRY"}]}"#, "outboundTrafficPolicy"),
        (r#"{"namespaces": [{"name": "shop", "files": {"a.txt": ""}}]}"#, "a.txt"),
    ] {
        let error = render(values, folder.path()).unwrap_err();
        assert!(error.contains(says), "{values}: {error}");
    }
}

#[test]
fn without_a_webhook_the_chart_makes_no_cluster_wide_object() {
    let all = rendered(r#"{"webhook": {"enabled": false}, "namespaces": [{"name": "shop"}]}"#);
    assert_eq!(all.len(), 1, "{all:#?}");
    assert_eq!(all[0]["kind"], "ConfigMap");
}
