//! What `config/kubernetes/`, `config/seccomp/` and the image hold, as far as it can be judged without a cluster: the
//! files fit each other and the binary, and the image's root file system can redirect and serve.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::lab;
use crate::lab::Lab;
use crate::lab::process::{finish, run};
use serde_yaml::Value;

const EGRET: &str = env!("CARGO_BIN_EXE_egret");

fn at(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn text(path: &str) -> String {
    fs::read_to_string(at(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn the_example_is_what_egret_makes_of_its_sources() {
    let example = "config/kubernetes/example";
    let sleep = at(&format!("{example}/sleep.yaml"));
    let image = format!("--image=egret:{}", env!("CARGO_PKG_VERSION"));
    let injected = run(EGRET, &["inject", &image, "--secret=client-credential", "-f", lab::utf8(&sleep)]);
    assert_eq!(injected, text(&format!("{example}/sleep.injected.yaml")));
    assert_eq!(text(&format!("{example}/mutual.yaml")), text("config/examples/egress-tls-origination/mutual.yaml"));
}

#[test]
fn every_configuration_in_the_manifests_passes_the_check() {
    for files in [&["base/settings.yaml"][..], &["base/settings.yaml", "example/mutual.yaml"]] {
        let files: Vec<PathBuf> = files.iter().map(|file| at("config/kubernetes").join(file)).collect();
        let mut command = Command::new(EGRET);
        command.arg("check").args(&files);
        finish(command).succeeded();
    }
}

#[test]
fn kustomizations_name_files_that_exist() {
    let mut named = 0;
    for folder in ["base", "example", "monitoring", "webhook/server", "webhook/configuration", "webhook/cert-manager"] {
        let folder = at("config/kubernetes").join(folder);
        let kustomization = fs::read_to_string(folder.join("kustomization.yaml")).unwrap();
        let kustomization: Value = serde_yaml::from_str(&kustomization).unwrap();
        let list = |value: &Value| value.as_sequence().cloned().unwrap_or_default();
        let generated = list(&kustomization["configMapGenerator"]);
        let files =
            list(&kustomization["resources"]).into_iter().chain(generated.iter().flat_map(|g| list(&g["files"])));
        for file in files {
            named += 1;
            let path = folder.join(file.as_str().unwrap());
            assert!(path.exists(), "{}: no {}", folder.display(), path.display());
        }
    }
    assert_eq!(named, 14);
}

#[test]
fn every_version_is_the_crates() {
    let version = env!("CARGO_PKG_VERSION");
    let chart: Value = serde_yaml::from_str(&text("config/kubernetes/chart/Chart.yaml")).unwrap();
    assert_eq!((&chart["version"], &chart["appVersion"]), (&version.into(), &version.into()));
    let server = text("config/kubernetes/webhook/server/server.yaml");
    assert_eq!(server.matches(&format!("egret:{version}\n")).count(), 2);
}

#[test]
fn the_seccomp_profile_allows_io_uring() {
    let profile: serde_json::Value = serde_json::from_str(&text("config/seccomp/egret.json")).unwrap();
    assert_eq!(profile["defaultAction"], "SCMP_ACT_ALLOW");
    let rules = profile["syscalls"].as_array().unwrap();
    let forbidden: Vec<&str> =
        rules.iter().flat_map(|rule| rule["names"].as_array().unwrap()).map(|name| name.as_str().unwrap()).collect();
    assert!(forbidden.contains(&"mount") && forbidden.contains(&"ptrace"));
    assert!(!forbidden.iter().any(|name| name.starts_with("io_uring")), "{forbidden:?}");
}

#[test]
fn the_images_root_file_system_redirects_with_both_of_its_backends() {
    let lab = Lab::new();
    let root = lab.dir().join("root");
    run(lab::utf8(&at("scripts/image-root")), &[EGRET, lab::utf8(&root)]);
    let inside = |arguments: &str| {
        // /proc is the container runtime's to mount; here it lives and dies with this command's mount namespace.
        let script = format!("mount -t proc proc {0}/proc && exec chroot {0} egret {arguments}", root.display());
        let path = ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "unshare", "--mount", "sh", "-c", &script];
        finish(lab.pod.command("env", &path)).succeeded().stdout
    };
    assert!(inside("doctor").contains("ok    nft "));
    // What iptables-nft could do in it, nft does: it would cost a quarter of a megabyte.
    for backend in ["nft", "iptables-legacy"] {
        let said = inside(&format!("init --block-quic --backend {backend}"));
        assert!(said.contains(&format!("backend: {backend} ")) && said.contains("rules: applied"), "{said}");
        assert!(said.contains("verification: ") && said.contains("ipv6: redirected"), "{said}");
    }
    assert!(root.join("etc/ssl/certs/ca-certificates.crt").exists());
}
