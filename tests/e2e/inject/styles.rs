//! `egret inject` whatever style a manifest is written in, and streams of which a part is not for it.

use serde_yaml::Value;

use super::{SPEC, injected, objects, pod, without_egret};

/// What is put in, below whatever stands in front of it.
fn workload(spec: &str) -> String {
    format!("apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: a\nspec:\n  template:\n    spec:\n{spec}")
}

/// Every way to write a list: egret's items come first, the others and all comments stay, a second time changes nothing.
#[test]
fn lists_are_edited_in_every_style() {
    let app = "      containers:\n      - name: a\n        image: x\n";
    for rest in [
        "      volumes: [] # none\n",
        "      volumes: []# not a comment of YAML\n".replace("[]#", "[]  #").as_str(),
        "      initContainers: # later\n      volumes:   # nothing yet\n",
        "      initContainers: null # later\n      volumes: ~\n",
        "      initContainers:\n      - # fetch\n        name: i\n        image: y\n",
        "      initContainers:\n      # first\n      -\n\n        # fetch\n        name: i\n      - name: j\n",
        "      initContainers: [{name: i, image: y}]\n",
        "      initContainers: [\n        {name: i},   # fetch\n      ]\n      volumes: [\n      ]\n",
        "      \"volumes\": []\n      'initContainers':\n        - &i name: i\n          image: y\n",
    ] {
        for text in [workload(&format!("{app}{rest}")), workload(&format!("{rest}{app}"))] {
            for text in [text.clone(), text.replace('\n', "\r\n"), format!("\u{feff}{text}")] {
                edited(&text);
            }
        }
    }
    for text in [
        "{apiVersion: v1, kind: Pod, spec: {containers: [{name: app}]}}\n",
        "# first\n---\n{apiVersion: v1, kind: Pod, spec: {volumes: null, initContainers: [], containers: [{name: app}]}}\n",
        "apiVersion: v1\nkind: Pod\nspec: {containers: [\n{name: app}]\n}\n",
        "apiVersion: v1\nkind: Pod\nspec:\n  <<: {terminationGracePeriodSeconds: 5}\n  containers:\n  - name: app\n",
        "# JSON\n{\"apiVersion\": \"v1\", \"kind\": \"Pod\", \"spec\": {\n\"containers\": [{\"name\": \"a\"}],\n\"volumes\": []\n}}\n",
    ] {
        edited(text);
    }
}

#[track_caller]
fn edited(text: &str) {
    let (output, _) = injected(text, &[]);
    let pod = &objects(&output)[0]["spec"];
    let spec = if pod["template"].is_null() { pod } else { &pod["template"]["spec"] };
    assert_eq!(spec["initContainers"][1]["name"], "egret", "{output}");
    assert_eq!(spec["volumes"][0]["name"], "egret-config", "{output}");
    let [mut before, mut after] = [objects(text), objects(&output)];
    before.iter_mut().chain(&mut after).for_each(|object| {
        without_egret(object);
        without_nothing(object);
    });
    assert_eq!(before, after, "{output}");
    let comments = |text: &str| text.lines().filter(|line| line.contains('#')).count();
    assert_eq!(comments(text), comments(&output), "{output}");
    let endings = |text: &str| (text.matches('\n').count(), text.matches("\r\n").count());
    let (lines, carriage_returns) = endings(&output);
    assert!(carriage_returns == if endings(text).1 > 0 { lines } else { 0 }, "{output:?}");
    assert_eq!(injected(&output, &[]).0, output);
}

fn without_nothing(value: &mut Value) {
    if let Value::Mapping(entries) = value {
        entries.values_mut().for_each(without_nothing);
        entries.retain(|_, value| !value.is_null());
    }
}

/// kubectl's decoder takes them with `---` between them, or nothing.
#[test]
fn streams_of_json() {
    let pod = |name: &str| {
        format!(
            "{{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{{\"name\":\"{name}\"}},\"spec\":{{\"containers\":[{{\"name\":\"a\"}}]}}}}"
        )
    };
    for between in ["\n---\n", "\n---\n---\n", "\n# and\n---\n"] {
        let (output, _) = injected(&(pod("a") + between + &pod("b") + "\n"), &[]);
        let all = objects(&output);
        let named: Vec<_> = all.iter().filter(|pod| !pod.is_null()).collect();
        assert_eq!(named.len(), 2, "{output}");
        for pod in named {
            assert_eq!(pod["spec"]["initContainers"][0]["name"], "egret-init", "{output}");
        }
    }
    let (output, _) = injected(&pod("\\ud83d\\ude00"), &[]);
    let alone: serde_json::Value = serde_json::from_str(&output).unwrap();
    assert_eq!(
        (&alone["metadata"]["name"], &alone["spec"]["volumes"][0]["name"]),
        (&"😀".into(), &"egret-config".into())
    );
    for between in ["", " ", "\n", "\r\n\r\n"] {
        let (output, _) = injected(&(pod("a") + between + &pod("\\ud83d\\ude00") + "\n"), &[]);
        let all: Vec<serde_json::Value> =
            serde_json::Deserializer::from_str(&output).into_iter().collect::<Result<_, _>>().unwrap();
        assert_eq!(all.len(), 2, "{output}");
        assert!(all.iter().all(|pod| pod["spec"]["volumes"][0]["name"] == "egret-config"), "{output}");
        assert_eq!(all[1]["metadata"]["name"], "😀");
    }
}

/// As Istio: a node's agents stand in one stream with what wants egret.
#[test]
fn a_pod_on_the_hosts_network_is_left_and_named_and_the_rest_is_injected() {
    let agent =
        workload("      hostNetwork: true\n      containers: [{name: x, securityContext: {privileged: true}}]\n");
    let web = workload("      containers:\n      - name: web\n");
    let list = "apiVersion: v1\nkind: PodList\nitems:\n- spec: {hostNetwork: on, containers: [{name: a}]}\n- spec:\n    \
                containers:\n    - name: b\n";
    for (text, place) in [(format!("{agent}---\n{web}"), "-:8:20: Deployment a"), (list.to_owned(), "-:4:23: Pod")] {
        let (output, notes) = injected(&text, &[]);
        assert!(notes.contains(place) && notes.contains("sidecar.istio.io/inject: \"false\""), "{notes}");
        assert_eq!(output.matches("name: egret-init").count(), 1, "{output}");
        assert!(output.starts_with(&text[..text.find("containers").unwrap()]), "{output}");
    }
}

#[test]
fn levels_of_components_and_every_quantity_of_kubernetes_are_taken() {
    let pod = |annotation: &str| {
        pod(
            &format!("apiVersion: v1\nkind: Pod\nmetadata:\n  annotations:\n    sidecar.istio.io/{annotation}\n{SPEC}"),
            &[],
        )
    };
    for (annotation, level) in [
        ("logLevel: \"warning,upstream:debug\"", Some("--log-level=warn")),
        ("logLevel: \"http:trace, debug\"", Some("--log-level=debug")),
        ("logLevel: upstream:debug", None),
    ] {
        let (pod, notes) = pod(annotation);
        let flags = pod["spec"]["initContainers"][1]["args"].as_sequence().unwrap();
        let found = flags.iter().filter_map(Value::as_str).find(|flag| flag.starts_with("--log-level"));
        assert_eq!(found, level);
        assert!(notes.contains("levels of Envoy's components have no effect"), "{notes}");
    }
    for quantity in ["0", ".5", "+1", "1e0", "1.", "500n"] {
        let (pod, notes) = pod(&format!("proxyCPU: \"{quantity}\""));
        assert_eq!(pod["spec"]["initContainers"][1]["resources"]["requests"]["cpu"], quantity);
        assert_eq!(notes, "");
    }
}
