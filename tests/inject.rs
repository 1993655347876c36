//! `egret inject` on every kind of workload: golden files beside the inputs in `tests/golden/inject/`, and what has to
//! hold whatever they say: nothing else changes, and a second time changes nothing.
//!
//! To renew the golden files after a change that is meant: `EGRET_WRITE_GOLDEN=1 cargo test --test inject`, then read
//! the difference.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_yaml::Value;

/// Input and flags.
const GOLDEN: [(&str, &[&str]); 10] = [
    ("pod.yaml", &["--secret=client-credential"]),
    ("deployment.yaml", &[]),
    ("statefulset.yaml", &["--secret=a.b", "--secret=c", "--config-map=policy"]),
    ("daemonset.yaml", &["--seccomp-profile=profiles/egret.json"]),
    ("job.yaml", &[]),
    ("cronjob.yaml", &[]),
    ("list.yaml", &[]),
    ("stream.yaml", &[]),
    ("classic.yaml", &["--classic"]),
    ("pod.json", &[]),
];

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/inject")
}

/// Exit code, standard output and standard error.
fn inject(text: &str, flags: &[&str]) -> (i32, String, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_egret"))
        .args(["inject", "--image=registry.example/egret:1"])
        .args(flags)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A wrong flag ends it before it reads.
    let _ = child.stdin.take().unwrap().write_all(text.as_bytes());
    let output = child.wait_with_output().unwrap();
    let [stdout, stderr] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    (output.status.code().unwrap(), stdout, stderr)
}

#[track_caller]
fn injected(text: &str, flags: &[&str]) -> (String, String) {
    let (code, stdout, stderr) = inject(text, flags);
    assert_eq!(code, 0, "{stderr}");
    (stdout, stderr)
}

fn objects(text: &str) -> Vec<Value> {
    use serde::Deserialize;
    serde_yaml::Deserializer::from_str(text).map(|document| Value::deserialize(document).unwrap()).collect()
}

/// Takes out whatever has a name of egret's, and lists that are empty then.
fn without_egret(value: &mut Value) {
    match value {
        Value::Sequence(items) => {
            items.retain(|item| !item["name"].as_str().is_some_and(|name| name.starts_with("egret")));
            items.iter_mut().for_each(without_egret);
        }
        Value::Mapping(entries) => {
            entries.values_mut().for_each(without_egret);
            entries.retain(|_, value| !matches!(value, Value::Sequence(items) if items.is_empty()));
        }
        _ => {}
    }
}

#[test]
fn golden_files() {
    for (name, flags) in GOLDEN {
        let input = fs::read_to_string(folder().join(name)).unwrap();
        let (output, _) = injected(&input, flags);
        let golden = folder().join("injected").join(name);
        if std::env::var_os("EGRET_WRITE_GOLDEN").is_some() {
            fs::write(&golden, &output).unwrap();
        }
        let wanted = fs::read_to_string(&golden).unwrap();
        assert!(output == wanted, "{name}: not as in {}:\n{output}", golden.display());
    }
}

#[test]
fn nothing_else_changes_and_a_second_time_changes_nothing() {
    for (name, flags) in GOLDEN {
        let input = fs::read_to_string(folder().join(name)).unwrap();
        let (output, _) = injected(&input, flags);
        let (again, notes) = injected(&output, flags);
        assert_eq!(again, output, "{name}");
        assert!(notes.contains("egret is in this pod already"), "{name}: {notes}");
        let [mut before, mut after] = [objects(&input), objects(&output)];
        before.iter_mut().chain(&mut after).for_each(without_egret);
        assert_eq!(before, after, "{name}");
        if Path::new(name).extension().is_some_and(|end| end == "yaml") {
            let mut rest = output.lines();
            let lines = input.lines().filter(|line| !line.ends_with("volumes: []"));
            lines.for_each(|line| assert!(rest.any(|kept| kept == line), "{name}: lost {line:?}"));
        }
    }
}

#[test]
fn rules_come_first_and_the_sidecar_before_the_application() {
    let names = |pod: &Value, list: &str| -> Vec<String> {
        let items = pod[list].as_sequence().cloned().unwrap_or_default();
        items.iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect()
    };
    let spec = |name: &str, flags: &[&str]| {
        let input = fs::read_to_string(folder().join(name)).unwrap();
        objects(&injected(&input, flags).0)[0]["spec"]["template"]["spec"].clone()
    };
    let native = spec("deployment.yaml", &[]);
    assert_eq!(names(&native, "initContainers"), ["egret-init", "egret", "migrate"]);
    assert_eq!(names(&native, "containers"), ["sleep"]);
    assert_eq!(native["initContainers"][1]["restartPolicy"], "Always");
    let classic = spec("deployment.yaml", &["--classic"]);
    assert_eq!(names(&classic, "initContainers"), ["egret-init", "migrate"]);
    assert_eq!(names(&classic, "containers"), ["egret", "sleep"]);
    assert_eq!(classic["containers"][0]["lifecycle"]["postStart"]["exec"]["command"][1], "wait");
    assert_eq!(names(&native, "volumes"), ["egret-config", "egret-pod", "secret-volume"]);
}

#[test]
fn annotations_without_effect_are_noted_and_wrong_ones_refused() {
    let input = fs::read_to_string(folder().join("deployment.yaml")).unwrap();
    let (_, notes) = injected(&input, &[]);
    assert_eq!(notes, "-:25:38: sidecar.istio.io/proxyImage has no effect with egret\n");
    for (annotation, says) in [
        ("traffic.sidecar.istio.io/excludeOutboundPorts: \"0\"", "a port is a number from 1 to 65535"),
        ("traffic.sidecar.istio.io/includeOutboundIPRanges: 10.0.0.0/99", "a network is written like"),
        ("traffic.sidecar.istio.io/excludeInterfaces: \"a b\"", "excludeInterfaces"),
        ("sidecar.istio.io/interceptionMode: TPROXY", "egret redirects"),
        ("sidecar.istio.io/proxyCPU: much", "100m or 128Mi"),
        ("sidecar.istio.io/logLevel: loud", "expected trace, debug"),
        ("sidecar.istio.io/nativeSidecar: perhaps", "\\\"true\\\" or"),
    ] {
        let pod = format!("apiVersion: v1\nkind: Pod\nmetadata:\n  annotations:\n    {annotation}\n{SPEC}");
        let (code, stdout, stderr) = inject(&pod, &[]);
        let says = says.replace('\\', "");
        assert!(code == 1 && stdout.is_empty() && stderr.contains(&says), "{annotation}: {stderr}");
        assert!(stderr.starts_with("-:5:"), "{stderr}");
    }
}

const SPEC: &str = "spec:\n  containers:\n    - name: app\n      image: app\n";

#[test]
fn pods_that_could_get_past_egret_are_refused_with_the_place() {
    let pod = |spec: &str| format!("apiVersion: v1\nkind: Pod\nspec:\n{spec}");
    let app = |context: &str| pod(&format!("  containers:\n    - name: app\n      securityContext: {context}\n"));
    let init = |rest: &str| pod(&format!("  initContainers:\n    - name: i\n{rest}  containers: [{{name: app}}]\n"));
    for (text, says) in [
        (app("{runAsUser: 1337}"), "-:6:36: container app runs with runAsUser 1337"),
        (app("{runAsGroup: 1337}"), "runAsGroup 1337, egret's own"),
        (app("{privileged: true}"), "container app is privileged"),
        (app("{capabilities: {add: [CHOWN, NET_ADMIN]}}"), "-:6:53: container app keeps NET_ADMIN"),
        (app("{capabilities: {add: [CAP_NET_ADMIN]}}"), "keeps CAP_NET_ADMIN"),
        (app("{capabilities: {add: [all]}}"), "keeps ALL"),
        (pod("  securityContext: {runAsUser: 1337}\n  containers: [{name: app}]\n"), "the pod runs with runAsUser"),
        (pod("  hostNetwork: true\n  containers: [{name: app}]\n"), "redirect the whole node"),
        (pod("  containers: [{name: istio-proxy}]\n"), "container istio-proxy redirects too"),
        (pod("  containers: [{name: egret}]\n"), "the other of them is missing"),
        (init("      securityContext: {runAsUser: 1337}\n"), "container i runs with runAsUser"),
        (init("      restartPolicy: Always\n      securityContext: {privileged: true}\n"), "container i is privileged"),
        (pod("  containers: []\n"), "has no containers"),
        ("apiVersion: apps/v1\nkind: Deployment\n".to_owned(), "this Deployment has no spec.template.spec"),
        ("{apiVersion: v1, kind: Pod, spec: {containers: [{name: app}]}}\n".to_owned(), "not valid JSON"),
        (
            pod("  containers: [{name: app}]\n").replace("spec:\n  c", "spec: {c").replace("]\n", "]}\n"),
            "cannot be edited",
        ),
        ("a: [\n".to_owned(), "not valid YAML"),
    ] {
        let (code, stdout, stderr) = inject(&text, &[]);
        assert!(code == 1 && stdout.is_empty() && stderr.contains(says), "{text}: {stderr}");
    }
    // An ordinary init container has ended before the application starts.
    injected(&init("      securityContext: {privileged: true}\n"), &[]);
}

#[test]
fn every_reason_is_given_at_once_and_nothing_is_printed() {
    let text = format!(
        "apiVersion: v1\nkind: Pod\n{SPEC}---\napiVersion: v1\nkind: Pod\n{SPEC}  hostNetwork: true\n  \
                        securityContext:\n    runAsUser: 1337\n"
    );
    let (code, stdout, stderr) = inject(&text, &[]);
    assert!(code == 1 && stdout.is_empty(), "{stdout}");
    assert!(stderr.contains("-:14:16: hostNetwork") && stderr.contains("-:16:16: the pod runs"), "{stderr}");
}

#[test]
fn a_container_runtime_flag_or_name_that_is_wrong_is_a_usage_error() {
    for flag in ["--secret=UPPER", "--config-map=", "--secret=../x"] {
        assert_eq!(inject(SPEC, &[flag]).0, 2, "{flag}");
    }
    let (code, _, stderr) = inject("", &["-f", "/nonexistent.yaml"]);
    assert!(code == 1 && stderr.contains("/nonexistent.yaml: No such file"), "{stderr}");
}
