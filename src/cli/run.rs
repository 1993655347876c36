//! `egret run`: the proxy itself.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::config::SettingsOverrides;
use crate::confine::Steps;
use crate::control::{self, RunOptions};
use crate::io::EngineSelection;
use crate::observe::logging;
use crate::policy::Workload;

#[derive(Debug, clap::Args)]
pub struct RunArgs {
    /// File or folder of *.yaml with ServiceEntry, DestinationRule, Sidecar, Secret and Settings documents; repeatable
    #[arg(long, value_name = "PATH", env = "EGRET_CONFIG", value_delimiter = ',', default_value = "/etc/egret")]
    config: Vec<PathBuf>,
    /// The pod's namespace: where resources without one live, and what exportTo and selectors are held against
    #[arg(long, value_name = "NS", env = "EGRET_NAMESPACE", default_value = "default")]
    namespace: String,
    /// The pod's labels, for workloadSelector
    #[arg(long, value_name = "k=v,…", env = "EGRET_LABELS", value_delimiter = ',', value_parser = label)]
    labels: Vec<(String, String)>,
    /// The pod's labels as the downward API writes them: a line `key="value"` each
    #[arg(long, value_name = "FILE", env = "EGRET_LABELS_FILE", conflicts_with = "labels")]
    labels_file: Option<PathBuf>,
    /// Worker threads; default: the CPU limit of the cgroup, rounded up
    #[arg(long, value_name = "N", env = "EGRET_WORKERS", value_parser = clap::value_parser!(u16).range(1..=256))]
    workers: Option<u16>,
    /// Folder with one folder per credential: what `credentialName: X` finds as DIR/X/
    #[arg(long, value_name = "DIR", env = "EGRET_SECRETS", default_value = "/etc/egret/secrets")]
    secrets: PathBuf,
    /// How sockets are driven: io_uring, epoll, or (`auto`) io_uring where this host allows it and epoll elsewhere
    #[arg(long, value_enum, env = "EGRET_ENGINE", default_value = "auto")]
    engine: EngineChoice,
    /// What the process gives up once it runs, a warning where the kernel cannot: privileges (capabilities, gaining any,
    /// core dumps), files (Landlock: writing and executing any), calls (a seccomp filter), rings (io_uring closed to all
    /// but its own operations); only on request (or with `all`) folders: reading outside of those named at the start
    #[arg(
        long,
        value_enum,
        value_name = "STEP,…",
        env = "EGRET_CONFINE",
        value_delimiter = ',',
        default_value = "privileges,files,calls,rings"
    )]
    confine: Vec<ConfineStep>,
    /// Another folder that may be read when files are confined; repeatable
    #[arg(long, value_name = "DIR", env = "EGRET_CONFINE_PATH", value_delimiter = ',')]
    confine_path: Vec<PathBuf>,
    /// How long, in microseconds, a worker waits for several events at once while 72 or more connections are busy, both
    /// ends counted, or five of them receive large bodies, or much is passed through; 0: never
    #[arg(long, value_name = "MICROS", env = "EGRET_BATCH_WAIT", default_value_t = 100, value_parser = clap::value_parser!(u32).range(0..=1000))]
    batch_wait: u32,
    /// Serve redirected connections to loopback addresses (never to egret's own ports)
    #[arg(long, env = "EGRET_ALLOW_LOOPBACK")]
    allow_loopback: bool,
    /// Port that the redirect rules lead to
    #[arg(long, value_name = "PORT", env = "EGRET_PROXY_PORT", default_value_t = 15001)]
    proxy_port: u16,
    /// Port of the DNS listener, which `egret init --capture-dns` redirects to
    #[arg(long, value_name = "PORT", env = "EGRET_DNS_PORT", default_value_t = 15053, value_parser = clap::value_parser!(u16).range(1..))]
    dns_port: u16,
    /// File in which automatic addresses of hosts outlive a restart; in a folder that lives as long as the pod
    #[arg(long, value_name = "FILE", env = "EGRET_DNS_STATE")]
    dns_state: Option<PathBuf>,
    /// Operational messages on stderr: error, warn, info, debug, trace or a filter
    #[arg(long, value_name = "LEVEL", env = "EGRET_LOG_LEVEL", default_value = "info")]
    log_level: String,
    #[command(flatten)]
    settings: SettingsOverrides,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum EngineChoice {
    Auto,
    Uring,
    Epoll,
}

impl From<EngineChoice> for EngineSelection {
    fn from(choice: EngineChoice) -> Self {
        match choice {
            EngineChoice::Auto => EngineSelection::Auto,
            EngineChoice::Uring => EngineSelection::Uring,
            EngineChoice::Epoll => EngineSelection::Epoll,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum ConfineStep {
    All,
    None,
    Privileges,
    Files,
    Folders,
    Calls,
    Rings,
}

/// Every step that is named.
fn steps(named: &[ConfineStep]) -> Steps {
    named.iter().fold(Steps::NONE, |steps, step| match step {
        ConfineStep::All => Steps::ALL,
        ConfineStep::None => steps,
        ConfineStep::Privileges => Steps { privileges: true, ..steps },
        ConfineStep::Files => Steps { files: true, ..steps },
        ConfineStep::Folders => Steps { folders: true, ..steps },
        ConfineStep::Calls => Steps { calls: true, ..steps },
        ConfineStep::Rings => Steps { rings: true, ..steps },
    })
}

pub fn run(args: RunArgs) -> ExitCode {
    let level = args.log_level.clone();
    let done =
        logging::start(&level).and_then(|()| options(args)).and_then(|o| control::run(o).map_err(|e| e.to_string()));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("egret run: {message}");
            ExitCode::FAILURE
        }
    }
}

fn options(args: RunArgs) -> Result<RunOptions, String> {
    let labels = match &args.labels_file {
        None => args.labels.into_iter().collect(),
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(|e| format!("--labels-file {}: {e}", path.display()))?;
            downward_labels(&text).map_err(|e| format!("--labels-file {}: {e}", path.display()))?
        }
    };
    Ok(RunOptions {
        config: args.config,
        workload: Workload { namespace: args.namespace, labels },
        workers: args.workers.map(usize::from),
        secrets: args.secrets,
        engine: args.engine.into(),
        confine: steps(&args.confine),
        confine_paths: args.confine_path,
        batch_wait: args.batch_wait,
        allow_loopback: args.allow_loopback,
        proxy_port: args.proxy_port,
        dns_port: args.dns_port,
        dns_state: args.dns_state,
        overrides: args.settings,
    })
}

pub(super) fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} is no label; write key=value")),
    }
}

/// The downward API's format: `key="escaped value"`, one a line.
fn downward_labels(text: &str) -> Result<BTreeMap<String, String>, String> {
    let lines = text.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty());
    lines
        .map(|(line, number)| {
            let (key, quoted) = line.split_once('=').ok_or_else(|| format!("line {number}: no '='"))?;
            let value: String =
                serde_json::from_str(quoted).map_err(|_| format!("line {number}: the value is no quoted string"))?;
            Ok((key.to_owned(), value))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_the_downward_api() {
        let labels = downward_labels("app=\"sleep\"\n\nnote=\"a \\\"b\\\"\"\n").unwrap();
        assert_eq!(labels["app"], "sleep");
        assert_eq!(labels["note"], "a \"b\"");
        assert!(downward_labels("app").unwrap_err().contains("line 1"));
        assert!(downward_labels("a=\"b\"\nc=d\n").unwrap_err().contains("line 2"));
    }

    #[test]
    fn steps_of_confinement() {
        assert_eq!(steps(&[ConfineStep::All]), Steps::ALL);
        assert_eq!(steps(&[ConfineStep::None]), Steps::NONE);
        let two = steps(&[ConfineStep::Files, ConfineStep::Rings]);
        assert_eq!(two, Steps { privileges: false, calls: false, ..Steps::DEFAULT });
        let default = [ConfineStep::Privileges, ConfineStep::Files, ConfineStep::Calls, ConfineStep::Rings];
        assert_eq!(steps(&default), Steps::DEFAULT);
    }

    #[test]
    fn labels_of_the_command_line() {
        assert_eq!(label("app=sleep"), Ok(("app".into(), "sleep".into())));
        assert_eq!(label("app="), Ok(("app".into(), String::new())));
        assert!(label("=x").is_err() && label("app").is_err());
    }
}
