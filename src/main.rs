//! The command line's table of contents: arguments in, one file of `cli/` out.

use std::process::ExitCode;

use clap::Parser;
use egret::cli::{Cli, Command, check, doctor, explain, init, inject, run, show, webhook};

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Init(args) => init::run(&args),
        Command::Inject(args) => inject::run(&args),
        Command::Webhook(args) => webhook::run(args),
        Command::Run(args) => run::run(args),
        Command::Check(args) => check::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Status(args) => show::status(&args),
        Command::Secrets(args) => show::secrets(&args),
        Command::Routes(args) => show::routes(&args),
        Command::Endpoints(args) => show::endpoints(&args),
        Command::Connections(args) => show::connections(&args),
        Command::Log(args) => show::log(&args),
        Command::Wait(args) => show::wait(&args),
        Command::Explain(args) => explain::run(&args),
    }
}
