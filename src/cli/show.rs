//! `egret status`, `secrets`, `routes`, `endpoints`, `connections`, `log`, `wait`: questions to a running proxy, answered by its admin endpoint.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::cli::grid::grid;
use crate::cli::output::Output;
use crate::control::admin_client::{self, AskError, Reply};
use crate::observe::{Http2ConnectionRow, Http2Side};
use crate::policy::{Document, EndpointRow, EndpointStatus, RouteRow};
use crate::tls::{SecretRow, secrets_text};

/// How often `wait` asks.
const WAIT_INTERVAL: Duration = Duration::from_millis(100);

/// Where the proxy answers, and how to print what it says.
#[derive(Debug, clap::Args)]
pub struct ShowArgs {
    /// The proxy's admin endpoint
    #[arg(long, value_name = "HOST:PORT", env = "EGRET_ADMIN", default_value = "127.0.0.1:15000")]
    admin: String,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Debug, clap::Args)]
pub struct LogArgs {
    /// error, warn, info, debug, trace, or a filter such as info,egret::proxy=debug
    level: String,
    /// The proxy's admin endpoint
    #[arg(long, value_name = "HOST:PORT", env = "EGRET_ADMIN", default_value = "127.0.0.1:15000")]
    admin: String,
}

#[derive(Debug, clap::Args)]
pub struct WaitArgs {
    /// The proxy's health endpoint
    #[arg(long, value_name = "HOST:PORT", env = "EGRET_HEALTH", default_value = "127.0.0.1:15021")]
    health: String,
    /// Give up after this many seconds
    #[arg(long, value_name = "SECONDS", env = "EGRET_WAIT_TIMEOUT", default_value_t = 60)]
    timeout: u64,
}

/// `egret status`: what the process is doing; fails when it is not ready.
pub fn status(args: &ShowArgs) -> ExitCode {
    let answers = || -> Result<(Value, Reply), String> { Ok((json(args, "/server_info")?, read(args, "/ready")?)) };
    finish(answers().map(|(info, ready)| {
        match args.output {
            Output::Json => println!("{info:#}"),
            Output::Text => print!("{}", fields(&info)),
        }
        if ready.status == 200 {
            return ExitCode::SUCCESS;
        }
        eprintln!("egret: not ready: {}", ready.body.trim_end());
        ExitCode::FAILURE
    }))
}

/// `egret secrets`: the columns of `istioctl proxy-config secret`.
pub fn secrets(args: &ShowArgs) -> ExitCode {
    table(args, "/certs", |rows: Vec<SecretRow>| secrets_text(&rows))
}

/// `egret routes`: what the table in force decides by.
pub fn routes(args: &ShowArgs) -> ExitCode {
    let header = ["PORT", "PROTOCOL", "HOST", "ADDRESS", "TLS", "CLUSTER", "ENTRY", "RULE", "ROUTE", "FROM"];
    table(args, "/routes", |rows: Vec<RouteRow>| grid(&header, rows.iter().map(route_columns)))
}

/// `egret endpoints`: the columns of `istioctl proxy-config endpoints`, and whence an address comes.
pub fn endpoints(args: &ShowArgs) -> ExitCode {
    let header = ["ENDPOINT", "STATUS", "OUTLIER CHECK", "WEIGHT", "RESOLVED FROM", "CONNECTIONS", "CLUSTER"];
    table(args, "/endpoints", |rows: Vec<EndpointRow>| grid(&header, rows.iter().map(endpoint_columns)))
}

fn route_columns(row: &RouteRow) -> Vec<String> {
    let object = |document: &Option<Document>| {
        document.as_ref().map_or("-".to_owned(), |document| format!("{}/{}", document.namespace, document.name))
    };
    let from = [&row.virtual_service, &row.service_entry].into_iter().flatten().next();
    let route = match (&row.virtual_service, &row.route) {
        (Some(service), Some(route)) => format!("{}/{} {route}", service.namespace, service.name),
        _ => "-".to_owned(),
    };
    vec![
        row.port.map_or("*".to_owned(), |port| port.to_string()),
        row.protocol.clone(),
        row.host.clone(),
        row.address.clone(),
        row.tls.clone(),
        row.cluster.clone(),
        object(&row.service_entry),
        object(&row.destination_rule),
        route,
        from.map_or("-".to_owned(), |document| format!("{}:{}", document.file, document.line)),
    ]
}

fn endpoint_columns(row: &EndpointRow) -> Vec<String> {
    let (status, check) = match row.status {
        EndpointStatus::Healthy => ("HEALTHY", "OK"),
        EndpointStatus::Ejected => ("UNHEALTHY", "FAILED"),
        EndpointStatus::Unresolved => ("UNRESOLVED", "-"),
        EndpointStatus::Refused => ("REFUSED", "-"),
    };
    let connections = match (row.connections, row.max_connections) {
        (Some(now), Some(most)) => format!("{now} of {most}"),
        _ => "-".to_owned(),
    };
    vec![
        row.endpoint.clone(),
        status.to_owned(),
        check.to_owned(),
        row.weight.to_string(),
        row.resolved_from.clone().unwrap_or_else(|| "-".to_owned()),
        connections,
        row.cluster.clone(),
    ]
}

/// Prints the rows at `path`: for people as `shown` does, for programs as they came.
fn table<R: DeserializeOwned>(args: &ShowArgs, path: &str, shown: impl FnOnce(Vec<R>) -> String) -> ExitCode {
    let rows = json(args, path).and_then(|value| match args.output {
        Output::Json => Ok(format!("{value:#}\n")),
        Output::Text => serde_json::from_value(value).map(shown).map_err(|error| not_understood(&error)),
    });
    finish(rows.map(|text| {
        print!("{text}");
        ExitCode::SUCCESS
    }))
}

/// `egret connections`: how many connections of applications are open, and the streams of those that have streams, to servers as
/// well.
pub fn connections(args: &ShowArgs) -> ExitCode {
    finish(json(args, "/connections").and_then(|value| {
        match args.output {
            Output::Json => println!("{value:#}"),
            Output::Text => print!("{}", connections_text(value)?),
        }
        Ok(ExitCode::SUCCESS)
    }))
}

fn connections_text(mut value: Value) -> Result<String, String> {
    let rows = value.as_object_mut().and_then(|object| object.remove("http2")).unwrap_or_default();
    let rows: Vec<Http2ConnectionRow> = serde_json::from_value(rows).map_err(|error| not_understood(&error))?;
    let mut text = fields(&value);
    if !rows.is_empty() {
        let header = ["SIDE", "PROTOCOL", "PEER", "STREAMS", "TOTAL", "WORKER", "CLUSTER"];
        text += "\n";
        text += &grid(&header, rows.iter().map(connection_columns));
    }
    Ok(text)
}

fn connection_columns(row: &Http2ConnectionRow) -> Vec<String> {
    let side = match row.side {
        Http2Side::Downstream => "downstream",
        Http2Side::Upstream => "upstream",
    };
    vec![
        side.to_owned(),
        row.protocol.clone(),
        row.peer.to_string(),
        row.active_streams.to_string(),
        row.total_streams.to_string(),
        row.worker.to_string(),
        row.cluster.clone().unwrap_or_else(|| "-".to_owned()),
    ]
}

/// `egret log LEVEL`: changes the level of operational messages.
pub fn log(args: &LogArgs) -> ExitCode {
    let path = format!("/logging?level={}", args.level);
    finish(admin_client::post(&args.admin, &path).map_err(|error| error.to_string()).and_then(
        |reply| match reply.status {
            200 => Ok(ExitCode::SUCCESS),
            _ => Err(reply.body.trim_end().to_owned()),
        },
    ))
}

/// `egret wait`: returns when the proxy is ready; for a postStart hook.
pub fn wait(args: &WaitArgs) -> ExitCode {
    let deadline = Instant::now() + Duration::from_secs(args.timeout);
    loop {
        let why = match admin_client::get(&args.health, "/healthz/ready") {
            Ok(reply) if reply.status == 200 => return ExitCode::SUCCESS,
            Ok(reply) => reply.body.trim_end().to_owned(),
            Err(error) => error.to_string(),
        };
        if Instant::now() >= deadline {
            eprintln!("egret wait: not ready after {} s: {why}", args.timeout);
            return ExitCode::FAILURE;
        }
        std::thread::sleep(WAIT_INTERVAL);
    }
}

fn not_understood(error: &serde_json::Error) -> String {
    format!("the proxy's answer is not understood ({error}); is it another version?")
}

fn read(args: &ShowArgs, path: &str) -> Result<Reply, String> {
    admin_client::get(&args.admin, path).map_err(|error: AskError| error.to_string())
}

fn json(args: &ShowArgs, path: &str) -> Result<Value, String> {
    let reply = read(args, path)?;
    if reply.status != 200 {
        return Err(format!("{path}: {} {}", reply.status, reply.body.trim_end()));
    }
    serde_json::from_str(&reply.body)
        .map_err(|error| format!("{path}: no JSON ({error}); is it egret that listens there?"))
}

/// A line a field, names padded.
fn fields(value: &Value) -> String {
    let Some(object) = value.as_object() else { return format!("{value}\n") };
    let width = object.keys().map(String::len).max().unwrap_or(0);
    object
        .iter()
        .map(|(name, value)| match value {
            Value::String(text) => format!("{name:<width$}  {text}\n"),
            other => format!("{name:<width$}  {other}\n"),
        })
        .collect()
}

fn finish(outcome: Result<ExitCode, String>) -> ExitCode {
    outcome.unwrap_or_else(|message| {
        eprintln!("egret: {message}");
        ExitCode::FAILURE
    })
}
