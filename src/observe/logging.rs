//! Operational messages: `tracing` to stderr, at a level that can be changed while running.

use std::io::IsTerminal;
use std::sync::OnceLock;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

static LEVEL: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// Starts logging at `level`: `error`, `warn`, `info`, `debug`, `trace`, or a filter such as `egret::control=debug`.
///
/// # Errors
/// Why `level` is no filter. Only the first call has an effect.
pub fn start(level: &str) -> Result<(), String> {
    let (filter, handle) = reload::Layer::new(parse(level)?);
    let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal()).with_target(false);
    if tracing_subscriber::registry().with(filter).with(lines).try_init().is_ok() {
        let _ = LEVEL.set(handle);
    }
    Ok(())
}

/// Changes the level of the running process.
///
/// # Errors
/// Why `level` is no filter, or that logging was not started here.
pub fn set_level(level: &str) -> Result<(), String> {
    let handle = LEVEL.get().ok_or("logging is not running")?;
    handle.reload(parse(level)?).map_err(|error| error.to_string())
}

/// The library of HTTP/2 warns of frames, as many as a peer likes to send, and its lower levels show fields: it says
/// something only where a filter names it.
fn parse(level: &str) -> Result<EnvFilter, String> {
    EnvFilter::try_new(level)
        .and_then(|_| EnvFilter::try_new(format!("h2=off,{level}")))
        .map_err(|error| format!("{level:?} is no log level ({error}); use error, warn, info, debug or trace"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_shown_only_by_a_filter_that_names_them() {
        let filter = |level| parse(level).map(|filter| filter.to_string());
        for (level, frames) in [("info", "h2=off"), ("trace", "h2=off"), ("info,h2=debug", "h2=debug")] {
            let filter = filter(level).unwrap();
            assert_eq!(filter.split(',').find(|part| part.starts_with("h2")), Some(frames), "{filter}");
        }
        assert!(filter("nonsense=loud").unwrap_err().starts_with("\"nonsense=loud\" is no log level"));
    }
}
