//! Real pods: `podman kube play` with what `egret inject` prints, from images that are made here and never pulled. The
//! document's mutual TLS example works in them, and a pod whose rules cannot be written does not start.
//!
//! podman of Debian 12 knows less of a pod than a kubelet does. What it cannot read is put into its words in
//! [`Podman::adapted`], and nowhere else: mounted Secrets and the downward API become folders with the same files, and
//! the seccomp profile an annotation. It has no native sidecars, so the pods are injected with `--classic`.
//!
//! Everything happens in a network namespace without a way out, in a store of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::lab::netns::Namespace;
use crate::lab::process::{Finished, finish, require_root_and_tools, run};
use crate::lab::{pki, utf8};
use serde_yaml::Value;
use tempfile::TempDir;

const EGRET: &str = env!("CARGO_BIN_EXE_egret");
const SERVER: &str = "my-nginx.mesh-external.svc.cluster.local";
const SERVER_ADDRESS: &str = "198.51.100.10";

struct Podman {
    namespace: Namespace,
    folder: TempDir,
}

fn at(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

impl Podman {
    fn new(tag: &str) -> Podman {
        require_root_and_tools();
        let folder = tempfile::Builder::new().prefix("egret-pod-").tempdir().unwrap();
        run("chmod", &["755", utf8(folder.path())]);
        let namespace = Namespace::new(&format!("{}-{tag}", std::process::id()));
        namespace.ip(&["link", "set", "lo", "up"]);
        // The limits that podman sets by default are above those of many machines. runc also runs on hosts with the
        // first version of control groups.
        let config = "[containers]\ndefault_ulimits = [\"nofile=4096:4096\", \"nproc=4096:4096\"]\n\
                      [engine]\nruntime = \"runc\"\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"none\"\n";
        fs::write(folder.path().join("containers.conf"), config).unwrap();
        let podman = Podman { namespace, folder };
        podman.run(&["network", "create", "--internal", "--subnet=198.51.100.0/24", podman.network()]);
        podman
    }

    /// Addresses are given out by the network's name, machine-wide.
    fn network(&self) -> &str {
        self.namespace.name()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.namespace.name())).arg("podman");
        for (flag, name) in
            [("--root", "store"), ("--runroot", "run"), ("--tmpdir", "tmp"), ("--network-config-dir", "net")]
        {
            command.arg(flag).arg(self.path(name));
        }
        command.args(arguments).env("CONTAINERS_CONF", self.path("containers.conf"));
        command
    }

    fn try_run(&self, arguments: &[&str]) -> Finished {
        finish(self.command(arguments))
    }

    #[track_caller]
    fn run(&self, arguments: &[&str]) -> String {
        self.try_run(arguments).succeeded().stdout
    }

    /// Makes an image of a folder.
    fn import(&self, root: &Path, name: &str) {
        let mut tar = Command::new("tar").args(["-C", utf8(root), "-c", "."]).stdout(Stdio::piped()).spawn().unwrap();
        let mut command = self.command(&["import", "-q", "-c", "ENV PATH=/usr/sbin:/usr/bin", "-", name]);
        let imported = command.stdin(tar.stdout.take().unwrap()).stdout(Stdio::null()).status().unwrap();
        assert!(tar.wait().unwrap().success() && imported.success(), "{name} cannot be imported");
    }

    fn egret_image(&self) {
        let root = self.path("egret-root");
        run(utf8(&at("scripts/image-root")), &[EGRET, utf8(&root)]);
        let name = concat!("egret:", env!("CARGO_PKG_VERSION"));
        self.run(&["build", "-q", "-t", name, "-f", utf8(&at("Containerfile")), utf8(&root)]);
    }

    /// An image of programs of this machine, under the name that the example asks for.
    fn image(&self, name: &str, programs: &[&str], prepare: impl FnOnce(&Path)) {
        let root = self.path(&name.replace(['/', ':'], "-"));
        for folder in ["usr/bin", "usr/sbin", "usr/lib", "usr/lib64", "tmp", "proc", "etc"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        for link in ["bin", "sbin", "lib", "lib64"] {
            std::os::unix::fs::symlink(format!("usr/{link}"), root.join(link)).unwrap();
        }
        for program in programs {
            let libraries = run("ldd", &[program]);
            let paths = libraries.split_whitespace().filter(|word| word.starts_with('/'));
            for path in paths.chain([*program]) {
                let copy = root.join(path.trim_start_matches('/'));
                fs::create_dir_all(copy.parent().unwrap()).unwrap();
                fs::copy(path, copy).unwrap();
            }
        }
        prepare(&root);
        self.import(&root, name);
    }

    fn curl_image(&self) {
        self.image("docker.io/curlimages/curl:8.14.1", &["/usr/bin/curl", "/usr/bin/sleep"], |_| {});
    }

    fn nginx_image(&self) {
        self.image("docker.io/library/nginx:1.29", &["/usr/sbin/nginx"], |root| {
            for folder in ["usr/share/nginx/html", "var/log/nginx", "var/lib/nginx", "run"] {
                fs::create_dir_all(root.join(folder)).unwrap();
            }
            fs::write(root.join("usr/share/nginx/html/index.html"), "hello from outside\n").unwrap();
            fs::write(root.join("etc/passwd"), "root:x:0:0::/:\nnobody:x:65534:65534::/:\n").unwrap();
            fs::write(root.join("etc/group"), "root:x:0:\nnogroup:x:65534:\n").unwrap();
        });
    }

    /// The Deployment of a manifest in the words of this podman; Secrets are folders under `secrets/`.
    fn adapted(&self, manifest: &str) -> Value {
        use serde::Deserialize;
        let documents = serde_yaml::Deserializer::from_str(manifest).map(|one| Value::deserialize(one).unwrap());
        let mut deployment = documents.into_iter().find(|one| one["kind"] == "Deployment").expect("a Deployment");
        // Podman would remove an init container that has ended, sometimes before it knows that it has.
        deployment["metadata"]["annotations"]["io.podman.annotations.init.container.type"] = "always".into();
        let template = &mut deployment["spec"]["template"];
        let annotation = "container.seccomp.security.alpha.kubernetes.io/egret";
        template["metadata"]["annotations"][annotation] = "localhost/egret.json".into();
        for volume in items(&mut template["spec"]["volumes"]) {
            let folder = match (volume["secret"]["secretName"].as_str(), &volume["downwardAPI"]) {
                (Some(secret), _) => self.path("secrets").join(secret),
                (None, Value::Mapping(_)) => self.path("pod"),
                (None, _) => continue,
            };
            *volume = serde_yaml::from_str(&format!(
                "{{name: {}, hostPath: {{path: {}}}}}",
                volume["name"].as_str().unwrap(),
                utf8(&folder)
            ))
            .unwrap();
        }
        for list in ["initContainers", "containers"] {
            for container in items(&mut template["spec"][list]) {
                // Published on the host, as podman understands them.
                container.as_mapping_mut().unwrap().remove("ports");
                if let Some(env) = container.get_mut("env") {
                    *env = serde_yaml::from_str("[{name: EGRET_NAMESPACE, value: default}]").unwrap();
                }
            }
        }
        deployment
    }

    fn play(&self, name: &str, pod: &Value, config_map: &Path, flags: &[&str]) -> Finished {
        let file = self.path(name);
        fs::write(&file, serde_yaml::to_string(pod).unwrap()).unwrap();
        let profiles = at("config/seccomp");
        let mut arguments = vec!["kube", "play", "--network", self.network(), "--configmap", utf8(config_map)];
        arguments.extend(["--seccomp-profile-root", utf8(&profiles)]);
        arguments.extend(flags);
        arguments.push(utf8(&file));
        self.try_run(&arguments)
    }

    /// A ConfigMap with files of the project, as kustomize makes it of the example.
    fn config_map(&self, name: &str, files: &[&str]) -> PathBuf {
        let mut map: Value = serde_yaml::from_str(&format!(
            "{{apiVersion: v1, kind: ConfigMap, metadata: {{name: {name}}}, data: {{}}}}"
        ))
        .unwrap();
        for file in files {
            let path = at("config/kubernetes").join(file);
            let key = path.file_name().unwrap().to_str().unwrap();
            map["data"][key] = fs::read_to_string(&path).unwrap().into();
        }
        let file = self.path(&format!("{name}.configmap"));
        fs::write(&file, serde_yaml::to_string(&map).unwrap()).unwrap();
        file
    }

    /// The certificates of config/kubernetes/README.md as mounted Secrets, and the pod's labels.
    fn mounted(&self) {
        let made = self.path("made");
        fs::create_dir(&made).unwrap();
        let write = |secret: &str, files: &[(&str, &Path)]| {
            let folder = self.path("secrets").join(secret);
            fs::create_dir_all(&folder).unwrap();
            for (name, source) in files {
                fs::write(folder.join(name), fs::read(source).unwrap()).unwrap();
            }
        };
        let server = pki::documents_leaf(&made, SERVER);
        write("nginx-server-certs", &[("tls.crt", &server.certificate), ("tls.key", &server.key)]);
        // Each call makes a new root.
        let server_root = fs::read(made.join("example.com.crt")).unwrap();
        let client = pki::documents_leaf(&made, "client.example.com");
        write("nginx-ca-certs", &[("example.com.crt", &made.join("example.com.crt"))]);
        fs::write(made.join("ca.crt"), server_root).unwrap();
        write(
            "client-credential",
            &[("tls.crt", &client.certificate), ("tls.key", &client.key), ("ca.crt", &made.join("ca.crt"))],
        );
        fs::create_dir(self.path("pod")).unwrap();
        fs::write(self.path("pod/labels"), "app=\"sleep\"\n").unwrap();
    }

    /// The example's client with egret in it.
    fn sleep(&self) -> Value {
        let example = at("config/kubernetes/example/sleep.yaml");
        let injected = run(EGRET, &["inject", "--classic", "--secret=client-credential", "-f", utf8(&example)]);
        let mut sleep = self.adapted(&injected);
        let names = format!("[{{ip: {SERVER_ADDRESS}, hostnames: [{SERVER}]}}]");
        sleep["spec"]["template"]["spec"]["hostAliases"] = serde_yaml::from_str(&names).unwrap();
        sleep
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        // Also while a failed test unwinds: what fails here must not hide the first failure.
        self.try_run(&["pod", "rm", "--all", "--force", "--time=0"]);
        self.try_run(&["network", "rm", "--force", self.network()]);
        // Which addresses were given out is kept beside podman, and left behind.
        let _ = fs::remove_dir_all(Path::new("/var/lib/cni/networks").join(self.network()));
    }
}

fn items(list: &mut Value) -> &mut [Value] {
    list.as_sequence_mut().map_or(&mut [], Vec::as_mut_slice)
}

#[test]
fn the_documents_mutual_tls_example_works_in_a_pod() {
    let podman = Podman::new("mutual");
    podman.egret_image();
    podman.curl_image();
    podman.nginx_image();
    podman.mounted();
    let mut nginx = podman.adapted(&fs::read_to_string(at("config/kubernetes/example/nginx.yaml")).unwrap());
    // What the official image does by its entry point.
    nginx["spec"]["template"]["spec"]["containers"][0]["command"] =
        serde_yaml::from_str("[nginx, -g, 'daemon off; error_log /dev/stderr;']").unwrap();
    let config = podman.config_map("nginx-configmap", &["example/nginx.conf"]);
    podman.play("nginx.yaml", &nginx, &config, &["--ip", SERVER_ADDRESS]).succeeded();
    let config = podman.config_map("egret", &["base/settings.yaml", "example/mutual.yaml"]);
    podman.play("sleep.yaml", &podman.sleep(), &config, &[]).succeeded();

    // The kubelet would do this before it starts the application: the container's postStart hook.
    podman.run(&["exec", "sleep-pod-0-egret", "egret", "wait", "--timeout", "20"]);
    let url = format!("http://{SERVER}");
    let said = podman.try_run(&["exec", "sleep-pod-0-sleep", "curl", "-sS", "-m", "20", &url]);
    let log = podman.try_run(&["logs", "sleep-pod-0-egret"]);
    assert_eq!(said.stdout, "hello from outside\n", "{said:?}\n{log:?}");
    assert!(log.stdout.contains(&format!("outbound|80||{SERVER}")), "{log:?}");
    // Without a client certificate nginx has no page: what came was fetched with the one that egret holds.
    let direct = ["exec", "sleep-pod-0-sleep", "curl", "-sSk", "-m", "20", "-o", "/dev/null", "-w", "%{http_code}"];
    let direct = podman.run(&[&direct[..], &[&format!("https://{SERVER}")]].concat());
    assert_eq!(direct, "400");
    // The profile of config/seccomp, loaded by runc, is what lets io_uring through.
    let status = podman.run(&["exec", "sleep-pod-0-egret", "egret", "status"]);
    assert!(status.contains("uring") && status.contains("this host allows io_uring"), "{status}");
    let state = podman.run(&["inspect", "--format", "{{.Config.User}} {{.EffectiveCaps}}", "sleep-pod-0-egret"]);
    assert_eq!(state, "1337:1337 []\n");
}

#[test]
fn a_pod_whose_rules_cannot_be_written_does_not_start() {
    let podman = Podman::new("failing");
    podman.egret_image();
    podman.curl_image();
    podman.mounted();
    let mut sleep = podman.sleep();
    let init = &mut sleep["spec"]["template"]["spec"]["initContainers"][0];
    assert_eq!(init["name"], "egret-init");
    init["securityContext"]["capabilities"].as_mapping_mut().unwrap().remove("add");
    let config = podman.config_map("egret", &["base/settings.yaml"]);
    let said = podman.play("sleep.yaml", &sleep, &config, &[]);
    assert!(!said.status.success(), "{said:?}");
    let running = podman.run(&["ps", "--format", "{{.Names}}"]);
    assert!(!running.contains("sleep-pod-0-sleep") && !running.contains("sleep-pod-0-egret\n"), "{running}");
}

/// The profile that podman brings, with Docker's answer to what it does not allow: EPERM. Neither allows io_uring.
fn default_profile(podman: &Podman) -> PathBuf {
    let installed = "/usr/share/containers/seccomp.json";
    let text = fs::read_to_string(installed).unwrap_or_else(|error| panic!("{installed}: {error}; run `make setup`"));
    let mut profile: serde_json::Value = serde_json::from_str(&text).unwrap();
    profile["defaultErrnoRet"] = 1.into();
    profile["defaultErrno"] = "EPERM".into();
    for rule in profile["syscalls"].as_array_mut().unwrap() {
        rule["names"].as_array_mut().unwrap().retain(|name| !name.as_str().unwrap().starts_with("io_uring"));
    }
    let file = podman.path("default.json");
    fs::write(&file, profile.to_string()).unwrap();
    file
}

#[test]
fn under_the_profiles_of_runtimes_it_takes_epoll_and_under_its_own_io_uring() {
    let podman = Podman::new("profiles");
    podman.egret_image();
    let config = podman.path("config");
    fs::create_dir(&config).unwrap();
    fs::copy(at("config/kubernetes/base/settings.yaml"), config.join("settings.yaml")).unwrap();
    let volume = format!("{}:/etc/egret:ro", utf8(&config));
    let image = concat!("egret:", env!("CARGO_PKG_VERSION"));
    let profile = |path: &Path| format!("--security-opt=seccomp={}", utf8(path));
    for (name, seccomp, engine, reason) in [
        ("podman", None, "epoll", "io_uring is not there (ENOSYS)"),
        ("docker", Some(profile(&default_profile(&podman))), "epoll", "io_uring is forbidden (EPERM)"),
        ("own", Some(profile(&at("config/seccomp/egret.json"))), "uring", "this host allows io_uring"),
    ] {
        let mut run = vec!["run", "-d", "--name", name, "--network=none", "--read-only", "--cap-drop=all"];
        run.extend(["--security-opt=no-new-privileges", "-v", &volume]);
        run.extend(seccomp.as_deref());
        run.push(image);
        podman.run(&run);
        podman.run(&["exec", name, "egret", "wait", "--timeout", "20"]);
        let status = podman.run(&["exec", name, "egret", "status"]);
        assert!(status.contains(engine) && status.contains(reason), "{name}: {status}");
        assert!(status.contains("system calls left"), "{name}: {status}");
        // Told to end, it ends by itself, not by a kill.
        podman.run(&["stop", "--time=10", name]);
        assert_eq!(podman.run(&["inspect", "--format", "{{.State.ExitCode}}", name]), "0\n", "{name}");
        podman.run(&["rm", name]);
    }
}
