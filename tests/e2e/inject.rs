//! `egret inject` on every kind of workload: golden files beside the inputs in `tests/golden/inject/`, and what has to
//! hold whatever they say: nothing else changes, and a second time changes nothing.
//!
//! To renew the golden files after a change that is meant: `EGRET_WRITE_GOLDEN=1 cargo test --test inject`, then read
//! the difference.

mod styles;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_yaml::Value;

/// Input and flags.
const GOLDEN: [(&str, &[&str]); 12] = [
    ("pod.yaml", &["--secret=client-credential"]),
    ("deployment.yaml", &[]),
    ("statefulset.yaml", &["--secret=a.b", "--secret=c", "--config-map=policy"]),
    ("daemonset.yaml", &["--seccomp-profile=profiles/egret.json"]),
    ("job.yaml", &[]),
    ("cronjob.yaml", &[]),
    ("list.yaml", &[]),
    ("stream.yaml", &[]),
    ("kinds.yaml", &[]),
    ("classic.yaml", &["--classic"]),
    ("pod.json", &[]),
    ("dns.yaml", &["--capture-dns"]),
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
    // libyaml-rs does not know a byte order mark in front of text.
    let text = text.trim_start_matches('\u{feff}');
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
        (pod("  containers: [{name: istio-proxy}]\n"), "container istio-proxy redirects too"),
        (pod("  containers: [{name: egret}]\n"), "the other of them is missing"),
        (init("      securityContext: {runAsUser: 1337}\n"), "container i runs with runAsUser"),
        (init("      restartPolicy: Always\n      securityContext: {privileged: true}\n"), "container i is privileged"),
        (pod("  containers: []\n"), "has no containers"),
        ("apiVersion: apps/v1\nkind: Deployment\n".to_owned(), "Deployment without a name has no spec.template.spec"),
        (
            pod("  containers: &c [{name: app}]\n  ephemeralContainers: *c\n  initContainers: *c\n"),
            "an alias in line 5, column 24 has this",
        ),
        (pod("  <<: {volumes: [{name: v}]}\n  containers:\n  - name: app\n") + "x: 1\nx: 2\n", "written twice"),
        ("a: [\n".to_owned(), "not valid YAML"),
        // kubectl reads another line here, and a line ended by a carriage return alone has no number that all agree on.
        (
            pod("  # c\u{2028}  hostNetwork: true\n  containers: [{name: app}]\n"),
            "-:4:6: the character U+2028 ends a line",
        ),
        (pod("  # a\r# b\n  containers: [{name: app}]\n"), "-:4:6: a carriage return without a line feed"),
        (pod("  containers:\n  - name: app\n").replace('\n', "\r\r\n"), "-:1:15: a carriage return"),
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
        "apiVersion: v1\nkind: Pod\n{SPEC}---\napiVersion: v1\nkind: Pod\n{SPEC}  hostNetwork: 1\n  \
                        securityContext:\n    runAsUser: 1337\n"
    );
    let (code, stdout, stderr) = inject(&text, &[]);
    assert!(code == 1 && stdout.is_empty(), "{stdout}");
    assert!(stderr.contains("-:14:16: hostNetwork") && stderr.contains("-:16:16: the pod runs"), "{stderr}");
}

#[test]
fn a_container_runtime_flag_or_name_that_is_wrong_is_a_usage_error() {
    for (flag, says) in [
        ("--secret=UPPER", "'U' (character 1)"),
        ("--seccomp-profile=", "neither empty"),
        ("--seccomp-profile=/profiles/egret.json", "nor absolute"),
        ("--seccomp-profile=profiles/../egret.json", "without \"..\""),
        ("--config-map=", "at least one character"),
        ("--secret=../x", "'/' (character 3)"),
        ("--config-map=a..b", "never first, last or twice"),
        (&format!("--secret={}", "a".repeat(254)), "may have 253 characters, and this one has 254"),
    ] {
        let (code, _, stderr) = inject(SPEC, &[flag]);
        assert!(code == 2 && stderr.contains(says), "{flag}: {stderr}");
    }
    for image in ["", "registry.example/egret:1 "] {
        let flags = ["inject", "--image", image, "-f", "/dev/null"];
        let output = Command::new(env!("CARGO_BIN_EXE_egret")).args(flags).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && stderr.contains("without blanks"), "{image:?}: {stderr}");
    }
    let (code, _, stderr) = inject("", &["-f", "/nonexistent.yaml"]);
    assert!(code == 1 && stderr.contains("/nonexistent.yaml: No such file"), "{stderr}");
}

/// As in Istio's template, where a limit alone is a request as well. The API server refuses a request above its limit.
#[test]
fn annotations_for_resources_replace_all_defaults_of_both_containers() {
    let text =
        |annotations: &str| format!("apiVersion: v1\nkind: Pod\nmetadata:\n  annotations: {{{annotations}}}\n{SPEC}");
    let all = "sidecar.istio.io/proxyCPU: 100m, sidecar.istio.io/proxyCPULimit: 100m, sidecar.istio.io/proxyMemory: 64Mi, \
               sidecar.istio.io/proxyMemoryLimit: 64Mi";
    for (annotations, expected) in [
        ("sidecar.istio.io/proxyCPU: '3'", "{requests: {cpu: '3'}}"),
        ("sidecar.istio.io/proxyMemoryLimit: 32Mi", "{limits: {memory: 32Mi}}"),
        (
            "sidecar.istio.io/proxyCPU: 50m, sidecar.istio.io/proxyMemoryLimit: 1Gi",
            "{requests: {cpu: 50m}, limits: {memory: 1Gi}}",
        ),
        // Guaranteed, as the application.
        (all, "{requests: {cpu: 100m, memory: 64Mi}, limits: {cpu: 100m, memory: 64Mi}}"),
    ] {
        let expected: Value = serde_yaml::from_str(expected).unwrap();
        for flags in [&[][..], &["--classic"]] {
            let (pod, notes) = pod(&text(annotations), flags);
            let spec = &pod["spec"];
            let proxy = if flags.is_empty() { &spec["initContainers"][1] } else { &spec["containers"][0] };
            assert_eq!((&proxy["resources"], notes.as_str()), (&expected, ""), "{annotations}");
            assert_eq!(spec["initContainers"][0]["resources"], expected, "{annotations}");
        }
    }
    let both = "sidecar.istio.io/proxyCPU: '3', sidecar.istio.io/proxyCPULimit: '1'";
    let (code, stdout, stderr) = inject(&text(both), &[]);
    assert!(code == 1 && stdout.is_empty() && stderr.contains("above the limit 1 of proxyCPULimit"), "{stderr}");
    let config = "proxy.istio.io/config: '{proxyMetadata: {ISTIO_META_DNS_CAPTURE: \"true\"}}'";
    let (output, notes) = injected(&text(config), &[]);
    assert!(output.contains("--capture-dns") && output.contains("egret-state") && notes.is_empty(), "{output}{notes}");
    assert_eq!(injected(&text("proxy.istio.io/config: '{concurrency: 2}'"), &[]).1, "");
}

/// A name alone is no sign that egret is there.
#[test]
fn containers_that_only_have_egrets_names_are_refused() {
    let (sound, _) = injected(&format!("apiVersion: v1\nkind: Pod\n{SPEC}"), &[]);
    for (from, to, says) in [
        ("- init\n", "- sleep\n", "a container is called egret-init, but is not told to init"),
        ("- run\n", "- --run\n", "a container is called egret, but is not told to run"),
        ("registry.example/egret:1", "busybox", "has the image \"busybox\""),
    ] {
        assert!(sound.contains(from), "{sound}");
        let (code, stdout, stderr) = inject(&sound.replace(from, to), &[]);
        assert!(code == 1 && stdout.is_empty() && stderr.contains(says), "{to}: {stderr}");
    }
    // Another version, or a mirror's.
    let other = sound.replace("registry.example/egret:1", "mirror.example:5000/a/egret:2@sha256:0");
    assert_eq!(injected(&other, &[]).0, other);
}

/// `egret` made of a Pod's text: the Pod as it is then, and what was said.
#[track_caller]
fn pod(text: &str, flags: &[&str]) -> (Value, String) {
    let (output, notes) = injected(text, flags);
    (objects(&output).remove(0), notes)
}

/// kubectl reads YAML 1.1: these are true, or 1337, to the API server.
#[test]
fn other_spellings_of_true_and_of_a_number_count() {
    let spec = |spec: &str| format!("apiVersion: v1\nkind: Pod\nspec:\n{spec}  containers:\n    - name: app\n");
    let context = |context: &str| format!("{}      securityContext: {{{context}}}\n", spec(""));
    for yes in ["true", "True", "TRUE", "yes", "Yes", "on", "ON", "y", "Y"] {
        let text = spec(&format!("  hostNetwork: {yes}\n"));
        let (output, notes) = injected(&text, &[]);
        assert!(
            output == text && notes.contains("-:4:16: Pod without a name is left as it is: hostNetwork"),
            "{notes}"
        );
        let (code, _, stderr) = inject(&context(&format!("privileged: {yes}")), &[]);
        assert!(code == 1 && stderr.contains("container app is privileged"), "{yes}: {stderr}");
    }
    for number in ["1337", "0x539", "02471", "0o2471", "1_337", "1337.0", "+1337", "1.337e3", "0b10100111001"] {
        for key in ["runAsUser", "runAsGroup"] {
            let (code, _, stderr) = inject(&context(&format!("{key}: {number}")), &[]);
            assert!(code == 1 && stderr.contains(&format!("runs with {key} 1337")), "{key}: {number}: {stderr}");
        }
        let text = spec(&format!("  securityContext: {{runAsUser: {number}}}\n"));
        assert!(inject(&text, &[]).2.contains("the pod runs with runAsUser 1337"), "{number}");
    }
    // A tag would have to be read as kubectl reads it, so it is refused, wherever it stands.
    assert_eq!(inject(&spec("  hostNetwork: !!bool yes\n"), &[]).0, 1);
    for (text, says) in [
        (spec("  hostNetwork: \"yes\"\n"), "hostNetwork: the API server wants true or false and would refuse the text"),
        (context("privileged: 'true'"), "write it without quotes"),
        (context("runAsUser: \"1337\""), "runAsUser: the API server wants a whole number"),
        (context("runAsGroup: 22:17"), "would refuse \"22:17\""),
    ] {
        let (code, _, stderr) = inject(&text, &[]);
        assert!(code == 1 && stderr.contains(says), "{text}: {stderr}");
    }
    let sound = spec("  hostNetwork: no\n  securityContext: {runAsUser: 1_338, runAsGroup: ~}\n");
    injected(&sound, &[]);
    injected(&context("privileged: off, runAsUser: 0x53A"), &[]);
}

/// As Istio's IgnoredNamespaces: a redirect before the cluster's DNS would take it from every pod.
#[test]
fn the_clusters_own_namespaces_are_left_as_they_are() {
    let deployment = |name: &str, namespace: &str, spec: &str| {
        format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec:\n  \
             template:\n    spec:\n{spec}      containers:\n      - name: app\n        image: x\n"
        )
    };
    for namespace in ["kube-system", "kube-public", "kube-node-lease", "local-path-storage"] {
        // What could not be guarded is no reason to refuse the stream either.
        for spec in ["", "      hostNetwork: true\n"] {
            let text = deployment("coredns", namespace, spec);
            let (output, notes) = injected(&text, &[]);
            assert_eq!(output, text);
            let says =
                format!("Deployment coredns is left as it is: egret never goes into pods of the namespace {namespace}");
            assert!(notes.starts_with("-:1:1: ") && notes.contains(&says), "{notes}");
        }
    }
    let (output, notes) = injected(&deployment("web", "kube-system-of-ours", ""), &[]);
    assert!(output.contains("egret-init") && notes.is_empty(), "{notes}");
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: dns, namespace: kube-system}\nspec: {ports: []}\n";
    assert_eq!(injected(service, &[]), (service.to_owned(), String::new()));
}

#[test]
fn what_holds_pods_and_gets_no_egret_is_named() {
    let template = "    spec:\n      containers:\n      - name: a\n        image: x\n";
    let with = |head: &str| format!("{head}metadata: {{name: a}}\nspec:\n  template:\n{template}");
    for (text, says) in [
        (
            with("apiVersion: serving.knative.dev/v1\nkind: Service\n"),
            "-:1:1: Service a is left as it is: Knative Serving takes no init containers",
        ),
        (
            with("apiVersion: example.com/v1\nkind: Fleet\n"),
            "-:1:1: Fleet a is left as it is: it seems to hold pods (line 8), but egret does not know kind \"Fleet\" of \
             \"example.com/v1\"",
        ),
        // A kind of Kubernetes with another group is another kind.
        (with("apiVersion: batch.volcano.sh/v1alpha1\nkind: Job\n"), "does not know kind \"Job\" of \"batch.volcano.sh/v1alpha1\""),
        (
            "apiVersion: example.com/v1\nkind: Cluster\nmetadata: {generateName: c-}\nspec:\n  parts:\n  - podTemplate:\n      \
             spec:\n        containers: [{name: x}]\n"
                .to_owned(),
            "Cluster c- is left as it is: it seems to hold pods (line 8)",
        ),
        (
            "apiVersion: v1\nkind: List\nitems:\n- apiVersion: monitoring.coreos.com/v1\n  kind: Prometheus\n  spec:\n    \
             containers: [{name: extra}]\n"
                .to_owned(),
            "-:4:3: Prometheus without a name is left as it is",
        ),
        (
            "apiVersion: argoproj.io/v1alpha1\nkind: Workflow\nmetadata: {name: w}\nspec:\n  templates:\n  - name: m\n    \
             container: {image: x}\n"
                .to_owned(),
            "-:1:1: Workflow w is left as it is: pods are made from it (line 7)",
        ),
    ] {
        let (output, notes) = injected(&text, &[]);
        assert_eq!(output, text);
        assert!(notes.contains(says) && notes.lines().count() == 1, "{notes}");
    }
    // A Rollout may take the template of a Deployment; what only looks like pods from afar is no reason for a note.
    for text in [
        "apiVersion: argoproj.io/v1alpha1\nkind: Rollout\nmetadata: {name: r}\nspec:\n  workloadRef: {kind: Deployment, name: d}\n",
        "apiVersion: example.com/v1\nkind: Freight\nmetadata: {name: f}\nspec:\n  containers: [small, large]\n",
        "apiVersion: example.com/v1\nkind: Port\nmetadata: {name: p}\nspec:\n  containers: 5\n",
    ] {
        assert_eq!(injected(text, &[]), (text.to_owned(), String::new()));
    }
}

/// KEP-2837: containers have to fit into `spec.resources`, or the API server refuses the pod.
#[test]
fn a_pod_with_resources_of_its_own_has_room_for_egret_or_is_refused() {
    let annotated = |annotations: &str, own: &str, app: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n  annotations: {{{annotations}}}\nspec:\n  \
             resources:\n    {own}\n  containers:\n  - name: app\n    resources: {app}\n"
        )
    };
    let asked = "sidecar.istio.io/proxyCPU: 50m, sidecar.istio.io/proxyMemory: 64Mi";
    let text = |own: &str, app: &str| annotated(asked, own, app);
    let app = "{requests: {cpu: 100m, memory: 100Mi}}";
    for (own, app, says) in [
        ("requests: {cpu: 100m}", app, "-:8:21: spec.resources.requests.cpu is 100m, but"),
        ("requests: {cpu: 0.1}", app, "request 150m, and the API server refuses such a pod; raise it to 150m"),
        (
            "requests: {memory: 163Mi}",
            app,
            "raise it to 164Mi, or let egret ask for less with sidecar.istio.io/proxyMemory",
        ),
        // Without requests of the pod, its limits are what the containers' requests have to fit into.
        ("limits: {memory: 128Mi}", app, "spec.resources.limits.memory is 128Mi"),
        // A container with a limit alone requests as much.
        ("requests: {cpu: 1}", "{limits: {cpu: 1}}", "raise it to 1050m"),
        ("requests: {cpu: much}", app, "expected a quantity such as 100m or 128Mi, found \"much\""),
        ("requests: {cpu: 1}", "{requests: {cpu: [1]}}", "requests.cpu: expected a quantity"),
    ] {
        let (code, stdout, stderr) = inject(&text(own, app), &[]);
        assert!(code == 1 && stdout.is_empty() && stderr.contains(says), "{own} {app}: {stderr}");
    }
    let (fits, notes) = pod(&text("requests: {cpu: 150m, memory: 164Mi}", app), &[]);
    assert!(fits["spec"]["initContainers"][1]["name"] == "egret" && notes.is_empty(), "{notes}");
    // egret's limits are lowered to the pod's.
    let (lowered, notes) = pod(&annotated("", "limits: {cpu: 200m, memory: 1Gi}", app), &["--classic"]);
    let limits = |container: &Value| container["resources"]["limits"].clone();
    let (init, proxy) = (limits(&lowered["spec"]["initContainers"][0]), limits(&lowered["spec"]["containers"][0]));
    assert_eq!((&init["cpu"], &init["memory"]), (&"200m".into(), &"128Mi".into()));
    assert_eq!((&proxy["cpu"], &proxy["memory"]), (&"200m".into(), &"512Mi".into()));
    assert_eq!(notes, "-:8:19: spec.resources.limits.cpu is 200m, so egret's containers get no more\n");
    // A rule about one resource says nothing about another.
    injected(&text("limits: {hugepages-2Mi: 64Mi}", app), &[]);
}

#[test]
fn names_of_a_config_map_and_of_secrets_may_be_as_long_as_kubernetes_allows() {
    let config_map = "my-very-long-team-name-egress-configuration-production-eu";
    let secret = "my-nginx-mesh-external-svc-cluster-local-client-credential";
    let long = ["s".repeat(63), "t".repeat(63), "u".repeat(63), "v".repeat(61)].join(".");
    let text = format!("apiVersion: v1\nkind: Pod\nmetadata:\n  annotations:\n    egret/secrets: {long}\n{SPEC}");
    let (pod, _) = pod(&text, &["--config-map", config_map, "--secret", secret]);
    let volumes = pod["spec"]["volumes"].as_sequence().unwrap();
    assert_eq!(volumes[0]["configMap"]["name"], config_map);
    let mounts = pod["spec"]["initContainers"][1]["volumeMounts"].as_sequence().unwrap();
    for wanted in [secret, &long] {
        let volume = volumes.iter().find(|volume| volume["secret"]["secretName"] == wanted).unwrap();
        let name = volume["name"].as_str().unwrap();
        assert!(name.len() <= 63 && !name.contains('.'), "{name}");
        let mount = mounts.iter().find(|mount| mount["name"] == name).unwrap();
        assert_eq!(mount["mountPath"], format!("/etc/egret/secrets/{wanted}"));
    }
}

/// A volume that is only called like one of egret's would silently become its configuration.
#[test]
fn a_volume_of_the_pods_own_is_not_taken_for_egrets() {
    let text =
        |volume: &str| format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: a}}\n{SPEC}  volumes:\n  - {volume}\n");
    for volume in [
        "{name: egret-config, emptyDir: {}}",
        "{name: egret-pod, configMap: {name: x}}",
        "{name: egret-config, configMap: {name: mine}}",
    ] {
        let (code, stdout, stderr) = inject(&text(volume), &[]);
        assert!(
            code == 1 && stdout.is_empty() && stderr.contains("is egret's, and this is another of that name"),
            "{stderr}"
        );
    }
    let (code, _, stderr) = inject(&text("{name: egret-secret-a, emptyDir: {}}"), &["--secret", "a"]);
    assert!(code == 1 && stderr.contains("the volume egret-secret-a is egret's"), "{stderr}");
    for volume in
        ["{name: egret-secret-a, emptyDir: {}}", "{name: egret-config, configMap: {name: egret, defaultMode: 420}}"]
    {
        let (pod, notes) = pod(&text(volume), &[]);
        let volumes = pod["spec"]["volumes"].as_sequence().unwrap();
        let named = volumes.iter().filter(|volume| volume["name"] == "egret-config").count();
        assert_eq!((named, notes.as_str()), (1, ""), "{volume}");
    }
}

/// What is no application's on Linux stands among manifests that want egret.
#[test]
fn agents_of_nodes_and_windows_pods_do_not_stop_the_stream() {
    let pod = |kind: &str, extra: &str, context: &str| {
        format!(
            "apiVersion: apps/v1\nkind: {kind}\nmetadata: {{name: other}}\nspec:\n  template:\n    spec:\n{extra}      containers:\n      \
             - {{name: app, image: x{context}}}\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: web}}\nspec:\n  template:\n    \
             spec:\n      containers:\n      - name: web\n        image: x\n"
        )
    };
    for (text, says) in [
        (pod("DaemonSet", "", ", securityContext: {privileged: yes}"), "container app of a DaemonSet is privileged"),
        (pod("DaemonSet", "      hostNetwork: true\n", ""), "redirect the whole node"),
        (pod("Deployment", "      os: {name: windows}\n", ""), "a Windows pod has no redirect"),
        (pod("Deployment", "      nodeSelector: {kubernetes.io/os: windows}\n", ""), "a Windows pod has no redirect"),
    ] {
        let (output, notes) = injected(&text, &[]);
        assert_eq!(output.matches("name: egret-init").count(), 1, "{output}");
        assert!(
            notes.contains(says) && notes.contains("other is left as it is") && notes.lines().count() == 1,
            "{notes}"
        );
    }
    let (code, _, stderr) = inject(&pod("Deployment", "", ", securityContext: {privileged: true}"), &[]);
    assert!(code == 1 && stderr.contains("container app is privileged, so it could remove the redirect"), "{stderr}");
}
