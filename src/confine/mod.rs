//! What the running process gives up, so that whoever takes it over by a fault gets little: privileges, files, system
//! calls, and what its rings may do.
//!
//! Each step may be switched off ([`Steps`]) and says what it did. A kernel that lacks one leaves a warning, not an end:
//! the proxy without it is as safe as most programs. It refuses to know what the process does with what is left.

mod calls;
mod folders;

use std::path::PathBuf;

use caps::CapSet;
use landlock::{
    ABI, Access, AccessFs, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetStatus, Scope, path_beneath_rules,
};
use seccompiler::{BpfProgram, apply_filter_all_threads};

use crate::io::EngineKind;

pub use folders::Folders;

/// What is to be given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "five independent switches")]
pub struct Steps {
    pub privileges: bool,
    /// Writing and executing files.
    pub files: bool,
    /// Reading files outside of the folders known at the start: a configuration that later names a file elsewhere cannot
    /// be followed then, so this one is asked for. Has `files` in it.
    pub folders: bool,
    pub calls: bool,
    pub rings: bool,
}

impl Steps {
    pub const ALL: Steps = Steps { privileges: true, files: true, folders: true, calls: true, rings: true };
    pub const DEFAULT: Steps = Steps { folders: false, ..Self::ALL };
    pub const NONE: Steps = Steps { privileges: false, files: false, folders: false, calls: false, rings: false };
}

/// Why a step could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum ConfineError {
    #[error("{step}: {source}")]
    Kernel { step: &'static str, source: nix::Error },
    #[error("capabilities: {0}")]
    Capabilities(#[from] caps::errors::CapsError),
    #[error("Landlock: {0}")]
    Landlock(#[from] landlock::RulesetError),
    #[error("the kernel has no Landlock (5.13), or it is not switched on (lsm=landlock,…)")]
    NoLandlock,
    #[error("the kernel cannot restrict rings (5.10)")]
    NoRestrictions,
    #[error("seccomp: {0}")]
    Seccomp(#[from] seccompiler::Error),
    #[error("seccomp: {0}")]
    Filter(#[from] seccompiler::BackendError),
}

/// Gives up privileges, for this thread and those it starts: no core dumps and no tracing by the same user, no gain by
/// executing, no capabilities.
///
/// # Errors
/// The first thing that the kernel refuses; what was done before it stays done.
pub fn drop_privileges() -> Result<String, ConfineError> {
    let of = |step| move |source| ConfineError::Kernel { step, source };
    nix::sys::prctl::set_dumpable(false).map_err(of("PR_SET_DUMPABLE"))?;
    nix::sys::prctl::set_no_new_privs().map_err(of("PR_SET_NO_NEW_PRIVS"))?;
    let held = caps::read(None, CapSet::Permitted)?.len();
    caps::clear(None, CapSet::Ambient)?;
    // Needs CAP_SETPCAP; without it the set stays, and no_new_privs keeps anything from being gained by it.
    let _ = caps::clear(None, CapSet::Bounding);
    for set in [CapSet::Inheritable, CapSet::Effective, CapSet::Permitted] {
        caps::clear(None, set)?;
    }
    Ok(format!("not dumpable, no new privileges, {held} capabilities dropped"))
}

/// From now on this thread, and those that it starts, may write and execute no file, and read those beneath `folders`
/// alone where such are given. Where the kernel can (6.12), no signals leave the process either.
///
/// # Errors
/// The kernel has no Landlock, or does not allow it.
pub fn confine_files(folders: Option<&Folders>) -> Result<String, ConfineError> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let everywhere = [PathBuf::from("/")];
    let beneath = folders.map_or(String::new(), |folders| format!(", beneath {folders}"));
    let status = Ruleset::default()
        .handle_access(AccessFs::from_all(ABI::V5))?
        .scope(Scope::from_all(ABI::V6))?
        .create()?
        .add_rules(path_beneath_rules(folders.map_or(&everywhere[..], Folders::paths), read))?
        .restrict_self()?;
    match status.ruleset {
        RulesetStatus::NotEnforced => Err(ConfineError::NoLandlock),
        RulesetStatus::PartiallyEnforced => Ok(format!("read only (older kernel: in part){beneath}")),
        RulesetStatus::FullyEnforced => Ok(format!("read only{beneath}")),
    }
}

/// From now on no thread of this process may make a system call that `engine` does not need while it runs. Nothing can
/// be started any more: no thread, no program, no listener, no ring.
///
/// # Errors
/// The kernel has no seccomp, or another thread has a filter that this one lacks.
pub fn confine_calls(engine: EngineKind) -> Result<String, ConfineError> {
    let filter = calls::filter(engine)?;
    let program = BpfProgram::try_from(filter)?;
    apply_filter_all_threads(&program)?;
    Ok(format!("{} system calls left", calls::count(engine)))
}

/// What became of each step, for people.
#[derive(Clone, Debug, Default)]
pub struct Report(Vec<(&'static str, String)>);

impl Report {
    /// Takes a step if it is wanted, and notes and logs what became of it.
    pub fn take(
        &mut self,
        name: &'static str,
        wanted: bool,
        step: impl FnOnce() -> Result<String, ConfineError>,
    ) -> bool {
        if !wanted {
            tracing::info!(step = name, "confinement: switched off");
            self.0.push((name, "off".to_owned()));
            return false;
        }
        let outcome = step();
        match &outcome {
            Ok(done) => tracing::info!(step = name, "confinement: {done}"),
            Err(error) => tracing::warn!(step = name, %error, "confinement: not to be had; running on without it"),
        }
        let done = outcome.is_ok();
        self.0.push((name, outcome.unwrap_or_else(|error| format!("not to be had: {error}"))));
        done
    }

    /// Step and outcome, in the order in which they were taken.
    pub fn lines(&self) -> &[(&'static str, String)] {
        &self.0
    }
}

/// Folders that a running proxy may have to read whatever its configuration says: certificates, names, time.
pub fn system_folders() -> Vec<PathBuf> {
    // By its number: `self` is a link, and links reach more (see Folders).
    let own = PathBuf::from(format!("/proc/{}", std::process::id()));
    let others = [
        "/etc/",
        "/etc/resolv.conf",
        "/etc/hosts",
        "/etc/ssl/certs",
        "/usr/share/ca-certificates/",
        "/usr/local/share/ca-certificates/",
        "/usr/share/zoneinfo/",
        "/sys/fs/cgroup/",
    ];
    others.into_iter().map(PathBuf::from).chain([own]).collect()
}

#[cfg(test)]
mod tests;
