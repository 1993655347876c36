//! `egret inject`: manifests in, the same with egret in every pod out.
//!
//! Nothing is printed unless everything can be: half of a stream would be applied by `kubectl` all the same.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::inject::{Options, inject, object_name};

/// Put egret into the pods of manifests.
///
/// Reads Pod, PodTemplate, Deployment, StatefulSet, DaemonSet, ReplicaSet, ReplicationController, Job, CronJob, OpenShift's
/// DeploymentConfig, Argo's Rollout, OpenKruise's CloneSet, StatefulSet, DaemonSet and BroadcastJob, JobSet, and lists of
/// them, several documents to a stream, YAML or JSON, and prints all of it with an init container that redirects and a
/// sidecar that carries. Everything else stays as it was written, and injecting twice changes nothing. Istio's annotations
/// for egress are understood. What holds pods and gets no egret is named on standard error: other kinds, and everything in
/// kube-system, kube-public, kube-node-lease and local-path-storage.
#[derive(Debug, clap::Args)]
pub struct InjectArgs {
    /// File to read; `-` for standard input
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    file: PathBuf,
    #[command(flatten)]
    parts: ContainerArgs,
}

/// What goes into every pod; `egret webhook` takes the same flags.
#[derive(Clone, Debug, clap::Args)]
pub struct ContainerArgs {
    /// Image of egret
    #[arg(long, value_name = "IMAGE", env = "EGRET_IMAGE", default_value = concat!("egret:", env!("CARGO_PKG_VERSION")), value_parser = image)]
    image: String,
    /// ConfigMap of the pod's namespace that holds egret's configuration
    #[arg(long, value_name = "NAME", default_value = "egret", value_parser = object_name)]
    config_map: String,
    /// Secrets that a `credentialName` names; repeatable. A pod's annotation egret/secrets names more of them
    #[arg(long = "secret", value_name = "NAME", value_parser = object_name)]
    secrets: Vec<String>,
    /// An ordinary container in place of a native sidecar, for Kubernetes before 1.29
    #[arg(long)]
    classic: bool,
    /// Pods' lookups go to egret, unless ISTIO_META_DNS_CAPTURE in a pod's annotation proxy.istio.io/config is false; where
    /// it is true, they do without this flag
    #[arg(long)]
    capture_dns: bool,
    /// Seccomp profile below the kubelet's folder on the node, such as profiles/egret.json. Without it the sidecar is
    /// unconfined, because the default profile of container runtimes forbids io_uring
    #[arg(long, value_name = "FILE", value_parser = seccomp_profile)]
    seccomp_profile: Option<String>,
}

/// The API server takes neither an empty image nor blanks around it; within, the kubelet does not.
fn image(text: &str) -> Result<String, String> {
    if text.is_empty() || text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err("an image is written like registry.example/egret:1, without blanks".to_owned());
    }
    Ok(text.to_owned())
}

/// As the API server has it (`validateLocalDescendingPath`).
fn seccomp_profile(text: &str) -> Result<String, String> {
    if text.trim().is_empty() || text.starts_with('/') || text.split('/').any(|part| part == "..") {
        return Err(
            "a profile is a path below the kubelet's folder of profiles, such as profiles/egret.json: neither empty \
                    nor absolute, and without \"..\""
                .to_owned(),
        );
    }
    Ok(text.to_owned())
}

impl ContainerArgs {
    pub(super) fn options(&self) -> Options {
        Options {
            image: self.image.clone(),
            config_map: self.config_map.clone(),
            secrets: self.secrets.clone(),
            classic: self.classic,
            capture_dns: self.capture_dns,
            seccomp_profile: self.seccomp_profile.clone(),
        }
    }
}

/// Reads, injects, prints.
pub fn run(args: &InjectArgs) -> ExitCode {
    let name = args.file.display();
    let text = match read(&args.file) {
        Ok(text) => text,
        Err(error) => return failed(format_args!("{name}: {error}")),
    };
    match inject(&text, &args.parts.options()) {
        Ok(injected) => {
            for note in &injected.notes {
                eprintln!("{name}:{note}");
            }
            match io::stdout().lock().write_all(injected.text.as_bytes()) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => failed(format_args!("standard output: {error}")),
            }
        }
        Err(problems) => {
            for problem in &problems {
                eprintln!("{name}:{problem}");
            }
            failed(format_args!("nothing was printed, because of what is said above"))
        }
    }
}

fn failed(message: std::fmt::Arguments<'_>) -> ExitCode {
    eprintln!("egret inject: {message}");
    ExitCode::FAILURE
}

fn read(file: &Path) -> io::Result<String> {
    if file != Path::new("-") {
        return std::fs::read_to_string(file);
    }
    let mut text = String::new();
    io::stdin().lock().read_to_string(&mut text)?;
    Ok(text)
}
