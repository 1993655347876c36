//! The commands, one file each: arguments in, exit code out (0 done, 1 failed, 2 usage; `init` also 126).

pub mod check;
pub mod doctor;
pub mod explain;
mod grid;
pub mod init;
pub mod inject;
mod output;
pub mod run;
pub mod show;
pub mod webhook;
mod webhook_certificates;

/// Transparent egress proxy: everything that leaves is encrypted, verified, and goes only where policy allows.
#[derive(Debug, clap::Parser)]
#[command(name = "egret", version, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, clap::Subcommand)]
#[allow(clippy::large_enum_variant, reason = "there is one in a process, for the moment of its start")]
pub enum Command {
    /// Write the redirect rules of this network namespace, and prove that they work
    Init(init::InitArgs),
    /// Put egret into the pods of manifests
    Inject(inject::InjectArgs),
    /// Put egret into pods while they are created: an admission webhook
    Webhook(webhook::WebhookArgs),
    /// Run the proxy
    Run(run::RunArgs),
    /// Report every error and warning of configuration files at once
    Check(check::CheckArgs),
    /// Say what would happen to a request, and which resource decides it
    Explain(explain::ExplainArgs),
    /// Say whether this host can run the proxy and redirect to it, and what to do where it cannot
    Doctor(doctor::DoctorArgs),
    /// Ask a running proxy how it is
    Status(show::ShowArgs),
    /// List the credentials that a running proxy uses
    Secrets(show::ShowArgs),
    /// List what a running proxy decides by: port, host or SNI, address, and where that leads
    Routes(show::ShowArgs),
    /// List where connections go now: addresses, their health, the names that they are of
    Endpoints(show::ShowArgs),
    /// Count the connections that a running proxy carries
    Connections(show::ShowArgs),
    /// Change how much a running proxy says
    Log(show::LogArgs),
    /// Block until the proxy is ready
    Wait(show::WaitArgs),
}
