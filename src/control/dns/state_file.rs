//! Automatic addresses written down, so that a proxy that starts again in the same pod gives the same ones: a line for each
//! host whose addresses are new.
//!
//! The file is opened before files are confined and only appended to, so that a process which ends in the middle leaves at
//! most one broken line. It is written anew, shorter, at each start.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use crate::dns::automatic_addresses::AutomaticAddresses;

/// Far more than every address of the default range takes; a larger file is none of ours.
const LARGEST: u64 = 16 << 20;

/// Open for appending.
#[derive(Debug)]
pub struct StateFile {
    path: PathBuf,
    file: File,
    restored: String,
    has_failed: bool,
}

/// Why there is no state file.
#[derive(Debug, thiserror::Error)]
#[error("--dns-state {}: {source}; give a file in a folder that the proxy may write, such as an emptyDir", .path.display())]
pub struct StateFileError {
    path: PathBuf,
    source: io::Error,
}

impl StateFile {
    /// Reads what is there and opens it.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn open(path: &Path) -> Result<Self, StateFileError> {
        Self::reopen(path).map_err(|source| StateFileError { path: path.to_owned(), source })
    }

    fn reopen(path: &Path) -> io::Result<Self> {
        let restored = AutomaticAddresses::restore(&read(path)?).written();
        // Whole or not at all.
        let new = path.with_extension("new");
        std::fs::write(&new, &restored)?;
        std::fs::rename(&new, path)?;
        let file = OpenOptions::new().append(true).open(path)?;
        Ok(Self { path: path.to_owned(), file, restored, has_failed: false })
    }

    /// What an earlier process gave.
    #[must_use]
    pub fn addresses(&self) -> AutomaticAddresses {
        AutomaticAddresses::restore(&self.restored)
    }

    /// Adds lines; a failure is said once, and costs no more than other addresses after a restart.
    pub fn append(&mut self, lines: &str) {
        if lines.is_empty() {
            return;
        }
        if let Err(error) = self.file.write_all(lines.as_bytes())
            && !std::mem::replace(&mut self.has_failed, true)
        {
            tracing::warn!(path = %self.path.display(), %error, "automatic addresses cannot be written down");
        }
    }
}

fn read(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    match File::open(path) {
        Ok(file) => file.take(LARGEST).read_to_end(&mut bytes)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(error) => return Err(error),
    };
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restart_goes_on_where_the_process_ended() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dns");
        let mut first = StateFile::open(&path).unwrap();
        assert_eq!(first.addresses().written(), "");
        first.append("a.test 240.240.0.7\nb.test 240.240.0.8 2001:2::8\n");
        first.append("a.test 240.240.0.9\n");
        // The process ended in the middle of a line.
        first.append("c.test 240.2");
        let mut second = StateFile::open(&path).unwrap();
        assert_eq!(second.addresses().written(), "a.test 240.240.0.9\nb.test 240.240.0.8 2001:2::8\n");
        second.append("d.test 240.240.0.10\n");
        assert!(std::fs::read_to_string(&path).unwrap().contains("d.test"));
        let error = StateFile::open(&dir.path().join("not/there")).unwrap_err().to_string();
        assert!(error.contains("emptyDir"), "{error}");
    }
}
