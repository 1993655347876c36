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

/// How often what changes while it is read is read again.
const MAX_READINGS: usize = 3;

/// What `read` makes of `paths`, read again where they change meanwhile: a file that is being written when another one
/// is the reason to read must not be taken for what it is at that moment.
pub fn at_rest<T>(paths: &[PathBuf], mut read: impl FnMut() -> T) -> T {
    let mut readings = 0;
    loop {
        let before = look(paths);
        let value = read();
        readings += 1;
        if readings == MAX_READINGS || look(paths) == before {
            return value;
        }
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::time::{Duration, Instant, SystemTime};

    use tempfile::TempDir;

    use super::*;

    /// Looks until a change settles. The file system's clock has to move on between a write and the next, or even the
    /// kernel cannot tell them apart; so it is waited for after each change, not slept for.
    fn settles(watch: &mut Watch) -> bool {
        (0..3).any(|_| {
            let changed = watch.changed();
            clock_moves_on();
            changed
        })
    }

    fn clock_moves_on() {
        let folder = tempfile::tempdir().unwrap();
        let stamp = |name: &str| {
            fs::write(folder.path().join(name), "").unwrap();
            fs::metadata(folder.path().join(name)).unwrap().modified().unwrap()
        };
        let (first, deadline) = (stamp("first"), Instant::now() + Duration::from_secs(10));
        while stamp("second") == first {
            assert!(Instant::now() < deadline, "the file system's clock stands still");
            std::thread::yield_now();
        }
    }

    fn folder_with(name: &str, text: &str) -> (TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(name);
        fs::write(&file, text).unwrap();
        clock_moves_on();
        (folder, file)
    }

    /// Applies `change` five times and expects each to be seen once, whether the file or its folder is watched.
    fn every_time(file: &Path, folder: &Path, change: impl Fn(u32)) {
        let mut watches = [Watch::new(vec![file.to_owned()]), Watch::new(vec![folder.to_owned()])];
        for generation in 0..5 {
            change(generation);
            clock_moves_on();
            for watch in &mut watches {
                assert!(settles(watch), "change {generation} of {:?} was missed", watch.paths);
                assert!(!settles(watch), "change {generation} of {:?} was seen twice", watch.paths);
            }
        }
    }

    #[test]
    fn a_file_written_in_place() {
        let (folder, file) = folder_with("a.yaml", "0");
        // Always of one length: size and inode stay, only the times move.
        every_time(&file, folder.path(), |generation| fs::write(&file, format!("{generation}")).unwrap());
    }

    #[test]
    fn a_file_written_in_place_with_its_times_set_back() {
        let (folder, file) = folder_with("a.yaml", "0");
        every_time(&file, folder.path(), |generation| {
            fs::write(&file, format!("{generation}")).unwrap();
            fs::File::options().write(true).open(&file).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        });
    }

    #[test]
    fn a_file_renamed_over() {
        let (folder, file) = folder_with("a.yaml", "0");
        let fresh = folder.path().join(".a.yaml.tmp");
        every_time(&file, folder.path(), |generation| {
            fs::write(&fresh, format!("{generation}")).unwrap();
            fs::rename(&fresh, &file).unwrap();
        });
    }

    #[test]
    fn a_file_deleted_and_made_again() {
        let (folder, file) = folder_with("a.yaml", "0");
        every_time(&file, folder.path(), |generation| match generation % 2 {
            0 => fs::remove_file(&file).unwrap(),
            _ => fs::write(&file, "0").unwrap(),
        });
    }

    #[test]
    fn a_mounted_secret_swapped_through_its_data_link() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let swap = |generation: u32| {
            let fresh = root.join(format!("..{generation}"));
            fs::create_dir(&fresh).unwrap();
            fs::write(fresh.join("tls.crt"), "same").unwrap();
            symlink(&fresh, root.join("..data_tmp")).unwrap();
            fs::rename(root.join("..data_tmp"), root.join("..data")).unwrap();
            if let Some(old) = generation.checked_sub(1) {
                fs::remove_dir_all(root.join(format!("..{old}"))).unwrap();
            }
        };
        swap(0);
        symlink("..data/tls.crt", root.join("tls.crt")).unwrap();
        clock_moves_on();
        every_time(&root.join("tls.crt"), root, |generation| swap(generation + 1));
    }

    #[test]
    fn folders_of_secrets_and_files_that_come_and_go_within() {
        let folder = tempfile::tempdir().unwrap();
        let secret = folder.path().join("client");
        let mut watch = Watch::new(vec![folder.path().to_owned()]);
        assert!(!settles(&mut watch));
        fs::create_dir(&secret).unwrap();
        assert!(settles(&mut watch), "a new Secret");
        fs::write(secret.join("tls.key"), "k").unwrap();
        assert!(settles(&mut watch), "a new key");
        fs::write(secret.join(".tls.key.swp"), "k").unwrap();
        assert!(!settles(&mut watch), "a hidden file is nothing");
        fs::remove_dir_all(&secret).unwrap();
        assert!(settles(&mut watch), "a Secret taken away");
    }

    #[test]
    fn a_path_that_does_not_exist_yet() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("later");
        let mut watch = Watch::new(vec![path.clone()]);
        assert!(!settles(&mut watch));
        fs::create_dir(&path).unwrap();
        assert!(settles(&mut watch));
    }

    #[test]
    fn a_file_that_is_still_being_written_waits() {
        let (_folder, file) = folder_with("a.yaml", "");
        let mut watch = Watch::new(vec![file.clone()]);
        for half in ["a", "ab", "abc"] {
            fs::write(&file, half).unwrap();
            assert!(!watch.changed(), "{half:?} is not settled");
        }
        assert!(watch.changed(), "the second look at the same");
    }

    #[test]
    fn a_file_that_never_rests_is_reported_all_the_same() {
        let (_folder, file) = folder_with("a.yaml", "");
        let mut watch = Watch::new(vec![file.clone()]);
        let mut looks = 0;
        while !watch.changed() {
            looks += 1;
            assert!(looks <= MAX_UNSETTLED_LOOKS + 1);
            fs::write(&file, "x".repeat(looks as usize)).unwrap();
        }
    }

    #[test]
    fn new_paths_count_as_changed_and_old_ones_do_not() {
        let (folder, file) = folder_with("a.yaml", "");
        let other = folder.path().join("b.pem");
        fs::write(&other, "").unwrap();
        let mut watch = Watch::new(vec![file.clone()]);
        watch.set_paths(vec![file.clone(), other.clone()]);
        assert!(settles(&mut watch), "b.pem may have changed before anybody looked");
        watch.set_paths(vec![other.clone(), file]);
        assert!(!settles(&mut watch));
        watch.set_paths(vec![other]);
        assert!(!settles(&mut watch), "a path that is no longer watched is no change");
    }

    #[test]
    fn what_changes_while_it_is_read_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.yaml");
        fs::write(&file, "whole").unwrap();
        let paths = [folder.path().to_owned()];
        for (changes, expected) in [(0, 1), (1, 2), (2, 3), (9, 3)] {
            let mut readings = 0;
            let seen = at_rest(&paths, || {
                readings += 1;
                let text = fs::read_to_string(&file).unwrap();
                if readings <= changes {
                    fs::write(&file, "x".repeat(readings)).unwrap();
                }
                text
            });
            assert_eq!(readings, expected, "{changes} changes");
            if changes == 1 {
                assert_eq!(seen, "x", "what it came to rest at");
            }
        }
    }
}
