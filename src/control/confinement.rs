//! Takes the steps of [`crate::confine`], each at its moment of the start, and says when a path lies outside of what may
//! be read.
//!
//! Privileges go before there is any thread or ring. Files are confined when the first table is there, since only then
//! the credentials' folders are known, and before the workers, which inherit it. System calls come last, when nothing is
//! to be started any more.

use std::collections::HashSet;
use std::path::PathBuf;

use super::options::RunOptions;
use crate::confine::{self, Folders, Report, Steps};
use crate::io::{self, EngineKind};

pub(super) struct Confinement {
    steps: Steps,
    engine: EngineKind,
    /// What the process was told to read, whether it is there or not.
    paths: Vec<PathBuf>,
    folders: Option<Folders>,
    /// Paths that have been warned of.
    outside: HashSet<PathBuf>,
    report: Report,
}

impl Confinement {
    /// Gives up privileges; the rest comes later.
    pub(super) fn begin(options: &RunOptions, engine: EngineKind) -> Self {
        let mut report = Report::default();
        report.take("privileges", options.confine.privileges, confine::drop_privileges);
        let mut paths = confine::system_folders();
        paths.extend(options.config.iter().cloned());
        paths.push(options.secrets.clone());
        paths.extend(options.confine_paths.iter().cloned());
        paths.extend(std::env::var_os("SSL_CERT_FILE").map(PathBuf::from));
        Self { steps: options.confine, engine, paths, folders: None, outside: HashSet::new(), report }
    }

    /// Confines files to the folders around what was given and what the configuration names now.
    pub(super) fn before_workers(&mut self, watched: Vec<PathBuf>) {
        let folders = Folders::around(self.paths.drain(..).chain(watched));
        let folders = self.steps.folders.then_some(folders);
        let wanted = self.steps.files || self.steps.folders;
        if self.report.take("files", wanted, || confine::confine_files(folders.as_ref())) {
            self.folders = folders;
        }
        if self.engine == EngineKind::Uring {
            let restricted = || {
                if !io::can_restrict_rings() {
                    return Err(confine::ConfineError::NoRestrictions);
                }
                Ok("each worker's ring is closed to all but its own operations".to_owned())
            };
            self.steps.rings = self.report.take("rings", self.steps.rings, restricted);
        }
    }

    /// Shall the workers close their rings?
    pub(super) fn restricts_rings(&self) -> bool {
        self.steps.rings
    }

    /// Confines system calls, of all threads.
    pub(super) fn after_workers(&mut self) {
        self.report.take("calls", self.steps.calls, || confine::confine_calls(self.engine));
    }

    pub(super) fn report(&self) -> Report {
        self.report.clone()
    }

    /// Warns, once for each, of paths that the configuration names and that cannot be read for being confined.
    pub(super) fn warn_of(&mut self, watched: &[PathBuf]) {
        let Some(folders) = &self.folders else { return };
        for path in watched.iter().filter(|path| !folders.hold(path)) {
            if self.outside.insert(path.clone()) {
                tracing::warn!(
                    path = %path.display(),
                    "outside of the folders that this process may still read ({folders}); name its folder with \
                     --confine-path and restart, or leave `folders` out of --confine"
                );
            }
        }
    }
}
