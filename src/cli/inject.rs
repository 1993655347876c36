//! `egret inject`: manifests in, the same with egret in every pod out.
//!
//! Nothing is printed unless everything can be: half of a stream would be applied by `kubectl` all the same.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::inject::{Options, inject};

/// Put egret into the pods of manifests.
///
/// Reads Pod, Deployment, StatefulSet, DaemonSet, ReplicaSet, Job, CronJob and List, several documents to a stream, YAML
/// or JSON, and prints all of it with an init container that redirects and a sidecar that carries. Everything else stays
/// as it was written, and injecting twice changes nothing. Istio's annotations for egress are understood.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// File to read; `-` for standard input
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    file: PathBuf,
    /// Image of egret
    #[arg(long, value_name = "IMAGE", env = "EGRET_IMAGE", default_value = concat!("egret:", env!("CARGO_PKG_VERSION")))]
    image: String,
    /// ConfigMap of the pod's namespace that holds egret's configuration
    #[arg(long, value_name = "NAME", default_value = "egret", value_parser = object_name)]
    config_map: String,
    /// Secrets that a `credentialName` names; repeatable
    #[arg(long = "secret", value_name = "NAME", value_parser = object_name)]
    secrets: Vec<String>,
    /// An ordinary container in place of a native sidecar, for Kubernetes before 1.29
    #[arg(long)]
    classic: bool,
    /// Seccomp profile below the kubelet's folder on the node, such as profiles/egret.json. Without it the sidecar is
    /// unconfined, because the default profile of container runtimes forbids io_uring
    #[arg(long, value_name = "FILE")]
    seccomp_profile: Option<String>,
}

/// Reads, injects, prints.
pub fn run(args: &Args) -> ExitCode {
    let name = args.file.display();
    let text = match read(&args.file) {
        Ok(text) => text,
        Err(error) => return failed(format_args!("{name}: {error}")),
    };
    let options = Options {
        image: args.image.clone(),
        config_map: args.config_map.clone(),
        secrets: args.secrets.clone(),
        classic: args.classic,
        seccomp_profile: args.seccomp_profile.clone(),
    };
    match inject(&text, &options) {
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

/// A DNS subdomain name (RFC 1123), as Kubernetes wants of ConfigMaps and Secrets; short enough for a volume's name.
fn object_name(text: &str) -> Result<String, String> {
    const LONGEST: usize = 50;
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let sound = !text.is_empty()
        && text.len() <= LONGEST
        && text.chars().all(|c| inner(c) || matches!(c, '-' | '.'))
        && text.starts_with(inner)
        && text.ends_with(inner);
    if sound { Ok(text.to_owned()) } else { Err(format!("lower-case letters, digits, - and ., up to {LONGEST}")) }
}
