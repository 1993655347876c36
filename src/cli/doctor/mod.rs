//! `egret doctor`: can this host run the proxy and redirect to it? Every answer at once, each with what to do.
//!
//! It tries rather than reads versions, takes back what it tried (an empty table may stay), and decides nothing: `egret init` and `egret run`
//! judge for themselves by the same code.

mod finding;
mod host;
mod redirection;

use std::process::ExitCode;

use crate::cli::output::Output;
use finding::{Finding, Verdict};

/// Say whether this host can run the proxy and redirect to it, and what to do where it cannot.
///
/// Run it where `egret init` would run: as root with CAP_NET_ADMIN, in the pod's network namespace. Without the
/// capability it judges what concerns the proxy and says what it could not try. Flags of `egret init` are taken from
/// the same EGRET_ variables. Exit code 1 when a line is `fail`.
#[derive(Debug, clap::Args)]
pub struct DoctorArgs {
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// Looks at everything and prints it.
pub fn run(args: &DoctorArgs) -> ExitCode {
    let findings: Vec<Finding> = host::findings().into_iter().chain(redirection::findings()).collect();
    match args.output {
        Output::Text => print!("{}", text(&findings)),
        Output::Json => match serde_json::to_string_pretty(&findings) {
            Ok(json) => println!("{json}"),
            Err(error) => {
                eprintln!("egret doctor: {error}");
                return ExitCode::FAILURE;
            }
        },
    }
    let failed = findings.iter().any(|finding| finding.verdict == Verdict::Fail);
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn text(findings: &[Finding]) -> String {
    let width = findings.iter().map(|finding| finding.check.len()).max().unwrap_or(0);
    let line = |Finding { check, verdict, message }: &Finding| {
        let verdict = match verdict {
            Verdict::Ok => "ok",
            Verdict::Warn => "warn",
            Verdict::Fail => "FAIL",
        };
        format!("{verdict:<4}  {check:<width$}  {message}\n")
    };
    findings.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_stand_in_columns() {
        let findings = [Finding::ok("a", "x"), Finding::fail("long", "y"), Finding::warn("b", "z")];
        assert_eq!(text(&findings), "ok    a     x\nFAIL  long  y\nwarn  b     z\n");
        let json = serde_json::to_string(&findings[1]).unwrap();
        assert_eq!(json, r#"{"check":"long","verdict":"fail","message":"y"}"#);
    }
}
