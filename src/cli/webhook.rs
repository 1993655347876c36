//! `egret webhook`: pods get egret while they are created.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use super::inject::ContainerArgs;
use super::webhook_certificates::{self, CertificatesArgs};
use crate::observe::logging;
use crate::webhook::{self, Rules, WebhookOptions};

/// Put egret into pods while they are created: a mutating admission webhook over TLS.
///
/// The API server asks it at POST /inject; GET /healthz is for probes. What goes into a pod, what its annotations say and
/// which pods are refused is as with `egret inject`. The certificate is read again when its file changes.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct WebhookArgs {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    serve: ServeArgs,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Print a new certificate as a Secret, and the MutatingWebhookConfiguration that trusts it
    Certificates(CertificatesArgs),
}

#[derive(Debug, clap::Args)]
struct ServeArgs {
    /// Address to listen on
    #[arg(long, value_name = "ADDRESS", env = "EGRET_WEBHOOK_LISTEN", default_value = "[::]:9443")]
    listen: SocketAddr,
    /// PEM file with the webhook's certificate chain
    #[arg(long, value_name = "FILE", default_value = "/etc/egret/webhook/tls.crt")]
    tls_cert: PathBuf,
    /// PEM file with its private key
    #[arg(long, value_name = "FILE", default_value = "/etc/egret/webhook/tls.key")]
    tls_key: PathBuf,
    /// Namespace whose pods are never touched; repeatable. kube-system, kube-public, kube-node-lease and
    /// local-path-storage never are
    #[arg(long = "exclude-namespace", value_name = "NS")]
    excluded_namespaces: Vec<String>,
    /// Seconds to serve on after SIGTERM, until every API server has heard of it
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    drain_seconds: u16,
    /// Operational messages on stderr: error, warn, info, debug, trace or a filter
    #[arg(long, value_name = "LEVEL", env = "EGRET_LOG_LEVEL", default_value = "info")]
    log_level: String,
    #[command(flatten)]
    parts: ContainerArgs,
}

/// Serves until SIGTERM, or prints certificates.
pub fn run(args: WebhookArgs) -> ExitCode {
    let done = match args.action {
        Some(Action::Certificates(args)) => webhook_certificates::print(&args),
        None => serve(args.serve),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("egret webhook: {message}");
            ExitCode::FAILURE
        }
    }
}

fn serve(args: ServeArgs) -> Result<(), String> {
    logging::start(&args.log_level)?;
    let options = WebhookOptions {
        listen: args.listen,
        certificate: args.tls_cert,
        key: args.tls_key,
        rules: Rules { options: args.parts.options(), excluded_namespaces: args.excluded_namespaces },
        drain: Duration::from_secs(args.drain_seconds.into()),
    };
    webhook::run(options).map_err(|error| error.to_string())
}
