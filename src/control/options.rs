//! What a process is started with. Who reads it from a command line is the caller.

use std::path::PathBuf;

use crate::config::SettingsOverrides;
use crate::confine::Steps;
use crate::io::EngineSelection;
use crate::policy::Workload;

/// What `egret run` was asked to do.
pub struct RunOptions {
    pub config: Vec<PathBuf>,
    pub workload: Workload,
    /// `None`: as many as the cgroup allows CPUs.
    pub workers: Option<usize>,
    pub secrets: PathBuf,
    pub engine: EngineSelection,
    pub confine: Steps,
    /// More folders that files may be read from.
    pub confine_paths: Vec<PathBuf>,
    /// See [`EngineOptions::batch_micros`](crate::io::EngineOptions::batch_micros).
    pub batch_wait: u32,
    pub allow_loopback: bool,
    pub proxy_port: u16,
    /// Port of the DNS listener on loopback.
    pub dns_port: u16,
    /// Where automatic addresses are written down.
    pub dns_state: Option<PathBuf>,
    pub overrides: SettingsOverrides,
}
