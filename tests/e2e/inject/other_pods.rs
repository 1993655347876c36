//! Pods that are none of an application's on Linux, and what pods have of their own under egret's names.

use super::{SPEC, inject, injected, pod};

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
