//! `egret explain URL`: which documents decide about a connection, and what would become of it.
//!
//! Of a running proxy the table in force is asked, with its keys and addresses. With `--config` files alone are: no name
//! is resolved, no key is loaded, nothing is sent, so what TLS would need is told as asked for, not as found.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::cli::output::Output;
use crate::cli::run::label;
use crate::config::{Problem, Severity};
use crate::control::admin_client;
use crate::control::dns::NameAccount;
use crate::explain::{Question, Report, Target, offline};
use crate::policy::{Workload, take_unjudged};

#[derive(Clone, Debug, clap::Args)]
pub struct ExplainArgs {
    /// What the application connects to: http://HOST/…, https://HOST, tls://HOST:PORT or tcp://ADDRESS:PORT; or `dns`
    pub url: String,
    /// With `dns`: the name that the pod looks up
    pub name: Option<String>,
    /// Explain by these files or folders of *.yaml, without a running proxy; repeatable
    #[arg(long = "config", value_name = "PATH")]
    pub config: Vec<PathBuf>,
    /// Without --config, the running proxy's admin endpoint
    #[arg(long, value_name = "HOST:PORT", env = "EGRET_ADMIN", default_value = "127.0.0.1:15000")]
    pub admin: String,
    /// With --config, the namespace of the pod
    #[arg(long, value_name = "NS", requires = "config")]
    pub namespace: Option<String>,
    /// With --config, the labels of the pod
    #[arg(long, value_name = "K=V,…", value_delimiter = ',', value_parser = label, requires = "config")]
    pub labels: Vec<(String, String)>,
    /// The address that the application dials, when HOST is a name: matters where entries have addresses
    #[arg(long, value_name = "IP")]
    pub address: Option<IpAddr>,
    /// Of an HTTP request; routes and AuthorizationPolicies may ask for it
    #[arg(short = 'X', long, value_name = "METHOD", default_value = "GET")]
    pub method: String,
    /// A header field of an HTTP request; routes and AuthorizationPolicies may ask for it; repeatable
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    pub headers: Vec<String>,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

/// Prints the explanation. Exit 1 when the configuration has errors or no proxy answers, 2 when the URL is none.
pub fn run(args: &ExplainArgs) -> ExitCode {
    match (args.url.as_str(), &args.name) {
        ("dns", Some(name)) => return lookup(args, name),
        ("dns", None) => return misused("which name? egret explain dns NAME"),
        (_, Some(name)) => return misused(&format!("{name}: one URL can be explained at a time")),
        (_, None) => {}
    }
    let question = Question {
        url: args.url.clone(),
        address: args.address,
        method: Some(args.method.clone()),
        headers: args.headers.clone(),
    };
    let target = match Target::parse(&question) {
        Ok(target) => target,
        Err(error) => {
            eprintln!("{}: {error}", args.url);
            return ExitCode::from(2);
        }
    };
    let report = if args.config.is_empty() { of_running(&args.admin, &question) } else { of_files(&target, args) };
    let printed = report.and_then(|report| match args.output {
        Output::Text => Ok(report.text()),
        Output::Json => serde_json::to_string_pretty(&report).map(|json| json + "\n").map_err(|e| e.to_string()),
    });
    match printed {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn misused(how: &str) -> ExitCode {
    eprintln!("{how}");
    ExitCode::from(2)
}

/// What a lookup is answered. Only the running proxy knows: automatic addresses are its own.
fn lookup(args: &ExplainArgs, name: &str) -> ExitCode {
    if !args.config.is_empty() {
        return misused("egret explain dns asks the running proxy, which has the addresses: leave out --config");
    }
    let printed = account_of(&args.admin, name).and_then(|account| match args.output {
        Output::Text => Ok(account.text()),
        Output::Json => serde_json::to_string_pretty(&account).map(|json| json + "\n").map_err(|e| e.to_string()),
    });
    match printed {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn account_of(admin: &str, name: &str) -> Result<NameAccount, String> {
    let path = format!("/dns?name={}", admin_client::query_value(name));
    let reply = admin_client::get(admin, &path).map_err(|error| format!("egret: {error}"))?;
    if reply.status != 200 {
        return Err(format!("egret: {}", reply.body.trim_end()));
    }
    serde_json::from_str(&reply.body)
        .map_err(|error| format!("egret: the proxy's answer is not understood ({error}); is it another version?"))
}

fn of_files(target: &Target, args: &ExplainArgs) -> Result<Report, String> {
    let mut loaded = crate::config::load(&args.config);
    let namespace = args.namespace.clone().unwrap_or_else(|| "default".to_owned());
    let workload = Workload { namespace, labels: args.labels.iter().cloned().collect() };
    loaded.problems.extend(take_unjudged(&mut loaded.resources, std::slice::from_ref(&workload), true));
    if loaded.has_errors() {
        let errors = loaded.problems.iter().filter(|problem| problem.severity == Severity::Error);
        return Err(errors.map(Problem::to_string).collect::<Vec<_>>().join("\n"));
    }
    Ok(offline(target, &loaded.resources, &workload))
}

fn of_running(admin: &str, question: &Question) -> Result<Report, String> {
    let field = |name, value: Option<&str>| value.map(|value| format!("{name}={}", admin_client::query_value(value)));
    let address = question.address.map(|address| address.to_string());
    let fields = [
        field("url", Some(&question.url)),
        field("address", address.as_deref()),
        field("method", question.method.as_deref()),
    ];
    let headers = question.headers.iter().filter_map(|line| field("header", Some(line)));
    let path = format!("/explain?{}", fields.into_iter().flatten().chain(headers).collect::<Vec<_>>().join("&"));
    let reply = admin_client::get(admin, &path)
        .map_err(|error| format!("egret: {error}; `--config PATH` explains by files, without a proxy"))?;
    if reply.status != 200 {
        return Err(format!("egret: {}", reply.body.trim_end()));
    }
    serde_json::from_str(&reply.body)
        .map_err(|error| format!("egret: the proxy's answer is not understood ({error}); is it another version?"))
}
