//! The command line's table of contents: arguments in, one file of `cli/` out.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use egret::cli::init;

/// Transparent egress proxy: every outbound connection verified, encrypted and allowed by policy.
#[derive(Debug, Parser)]
#[command(name = "egret", version)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Init(init::Args),
}

fn main() -> ExitCode {
    match CommandLine::parse().command {
        Command::Init(args) => init::run(&args),
    }
}
