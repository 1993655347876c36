//! Notices that configuration or credential files changed, by looking at them. Reads no file, keeps no descriptor.
//!
//! Polling instead of inotify: a watch on a mounted ConfigMap or Secret is lost with the folder that the kubelet swaps
//! away, overlay and network file systems report nothing, and the third rotation is where such watchers have failed. A
//! `stat` of a few dozen files once a second costs some microseconds and cannot be lost.
//!
//! A change is reported once it has settled, that is when two looks in a row saw the same: a file that is still being
//! written is not read half-way if that can be avoided. It also closes the gap of equal timestamps: what is written
//! after the second look differs from the first in its times, as long as the looks are further apart than the file
//! system's clock ticks (milliseconds; one second on some network file systems).

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Folders below a watched path that are looked into: a folder of mounted Secrets has one a Secret.
const MAX_DEPTH: usize = 3;
/// Files and folders remembered of one path; a path that holds more is no configuration.
const MAX_ENTRIES: usize = 20_000;
/// A path that never comes to rest is reported as changed after so many looks all the same.
const MAX_UNSETTLED_LOOKS: u32 = 10;

/// Watches a set of paths, files or folders, which need not exist.
#[derive(Debug)]
pub struct Watch {
    paths: Vec<PathBuf>,
    /// What the reader of the files was last told of.
    reported: Snapshot,
    /// What the last look saw, while it differs from that.
    unsettled: Option<Snapshot>,
    unsettled_looks: u32,
}

impl Watch {
    /// Begins to watch. Make it before the files are read for the first time: what changes in between is then seen.
    #[must_use]
    pub fn new(paths: Vec<PathBuf>) -> Self {
        let reported = look(&paths);
        Self { paths, reported, unsettled: None, unsettled_looks: 0 }
    }

    /// Looks again: whether the paths have changed since the last time that this said so, and have come to rest. Call
    /// it about once a second, never twice within a few milliseconds.
    pub fn changed(&mut self) -> bool {
        let seen = look(&self.paths);
        if seen == self.reported {
            self.unsettled = None;
            self.unsettled_looks = 0;
            return false;
        }
        self.unsettled_looks += 1;
        if self.unsettled.as_ref() == Some(&seen) || self.unsettled_looks > MAX_UNSETTLED_LOOKS {
            self.reported = seen;
            self.unsettled = None;
            self.unsettled_looks = 0;
            return true;
        }
        self.unsettled = Some(seen);
        false
    }

    /// Watches other paths from now on (a new policy may name other certificates). A path that was not watched before
    /// counts as changed: when its file was read, nobody was looking.
    pub fn set_paths(&mut self, paths: Vec<PathBuf>) {
        self.reported.retain(|path, _| paths.iter().any(|root| path.starts_with(root)));
        self.paths = paths;
    }
}

/// Everything below the watched paths, by path.
type Snapshot = BTreeMap<PathBuf, Fingerprint>;

/// What tells two states of a path apart without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Fingerprint {
    /// Of what symlinks lead to. The change time moves with every write, even where a tool sets the times back.
    Present {
        device: u64,
        inode: u64,
        size: u64,
        modified: (i64, i64),
        changed: (i64, i64),
    },
    Absent(ErrorKind),
}

impl Fingerprint {
    fn of(metadata: &Metadata) -> Self {
        // A folder's own times move with files that are of no interest (an editor's backup, the kubelet's work); what
        // is in it is looked at entry by entry. Its identity still counts.
        let folder = metadata.is_dir();
        let times = |seconds, nanos| if folder { (0, 0) } else { (seconds, nanos) };
        Fingerprint::Present {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: if folder { 0 } else { metadata.size() },
            modified: times(metadata.mtime(), metadata.mtime_nsec()),
            changed: times(metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

fn look(paths: &[PathBuf]) -> Snapshot {
    let mut snapshot = Snapshot::new();
    for path in paths {
        look_at(path, MAX_DEPTH, &mut snapshot);
    }
    snapshot
}

fn look_at(path: &Path, depth: usize, snapshot: &mut Snapshot) {
    if snapshot.len() >= MAX_ENTRIES {
        return;
    }
    // `metadata` follows symlinks: a swapped `..data` shows as other files behind the same names.
    let fingerprint = match fs::metadata(path) {
        Ok(metadata) => {
            if metadata.is_dir() && depth > 0 {
                look_into(path, depth - 1, snapshot);
            }
            Fingerprint::of(&metadata)
        }
        Err(error) => Fingerprint::Absent(error.kind()),
    };
    snapshot.insert(path.to_owned(), fingerprint);
}

fn look_into(folder: &Path, depth: usize, snapshot: &mut Snapshot) {
    // A folder that cannot be listed shows as an empty one; that it is there, and which, is in its own fingerprint.
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        // `..data` and `..2024_…` are how the kubelet swaps; hidden files are never read.
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            look_at(&entry.path(), depth, snapshot);
        }
    }
}
