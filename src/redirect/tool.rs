//! Running nft and the iptables family: text in, text out, and a failure as the error a person can act on.
//!
//! It knows nothing of rules. The tools are the interface on purpose: they are what operators have, read and trust,
//! and they carry the compatibility with kernels and with each other that a netlink client would have to repeat.

use std::io::{ErrorKind, Write};
use std::process::{Command, Output, Stdio};

use super::RedirectError;

/// Runs `program` with `input` on its standard input; its standard output.
pub fn run(program: &str, arguments: &[&str], input: &str) -> Result<String, RedirectError> {
    let output = output(program, arguments, input).map_err(|error| match error.kind() {
        ErrorKind::NotFound => RedirectError::ToolMissing(program.into()),
        _ => RedirectError::ToolFailed { tool: program.into(), said: error.to_string() },
    })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(failure(program, &output))
}

fn output(program: &str, arguments: &[&str], input: &str) -> std::io::Result<Output> {
    let mut child = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // A tool that gives up before it has read everything says why on its standard error; that is the message wanted.
        let _ = stdin.write_all(input.as_bytes());
    }
    child.wait_with_output()
}

fn failure(program: &str, output: &Output) -> RedirectError {
    let said = one_line(&String::from_utf8_lossy(&output.stderr));
    let said = if said.is_empty() { output.status.to_string() } else { said };
    let tool = program.to_owned();
    // What modprobe was denied is no lack of the tool's privilege: in a container it may load nothing in any case.
    let mut own = said.split("; ").filter(|line| !line.contains("modprobe"));
    if own.any(|line| line.contains("Operation not permitted") || line.contains("Permission denied")) {
        RedirectError::NotPermitted { tool, said }
    } else {
        RedirectError::ToolFailed { tool, said }
    }
}

/// An error that fits the last line of a log: the tool's lines without the pictures that point at columns.
fn one_line(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| line.chars().any(char::is_alphanumeric));
    lines.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_say_who_must_act() {
        assert_eq!(run("cat", &[], "in").unwrap(), "in");
        assert!(matches!(run("egret-no-such-tool", &[], ""), Err(RedirectError::ToolMissing(_))));
        let denied = run("sh", &["-c", "echo 'Operation not permitted (you must be root)' >&2; exit 1"], "");
        assert!(matches!(denied, Err(RedirectError::NotPermitted { .. })));
        let modprobe = "echo \"modprobe: ERROR: could not insert 'ip_tables': Operation not permitted\" >&2; \
                        echo \"can't initialize iptables table: Table does not exist (do you need to insmod?)\" >&2; exit 3";
        let failed = run("sh", &["-c", modprobe], "");
        assert!(matches!(failed, Err(RedirectError::ToolFailed { .. })), "{failed:?}");
        let failed = run("sh", &["-c", "printf 'one\\n  ^^^\\n two\\n' >&2; exit 1"], "").unwrap_err();
        assert_eq!(failed.to_string(), "sh failed: one; two");
        assert!(run("sh", &["-c", "exit 3"], "").unwrap_err().to_string().contains("exit status: 3"));
    }

    #[test]
    fn a_tool_that_does_not_read_is_no_broken_pipe() {
        assert!(run("true", &[], &"x".repeat(1 << 20)).is_ok());
    }
}
