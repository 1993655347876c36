//! The folders beneath which files may be read: from the paths that the process was given, with what symlinks and later
//! arrivals among them need.
//!
//! Landlock holds on to the folders themselves, not to their names. So a file's folder is taken, because the file may be
//! replaced; a folder that is reached through a symlink together with the one that holds it, because the link may be
//! turned to a sibling (`..data` of a mounted ConfigMap); and for what is not there yet the nearest folder that is.

use std::fmt;
use std::path::{Path, PathBuf};

/// Folders without duplicates, none of them the root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Folders(Vec<PathBuf>);

impl Folders {
    /// Whatever may be needed to read `paths` now and later; a folder's path may end in `/`.
    pub fn around(paths: impl IntoIterator<Item = PathBuf>) -> Self {
        let mut folders = Self::default();
        paths.into_iter().for_each(|path| folders.reach(&path));
        folders.0.sort();
        folders.0.dedup();
        let all = folders.0.clone();
        folders.0.retain(|folder| !all.iter().any(|other| folder != other && folder.starts_with(other)));
        folders
    }

    fn reach(&mut self, path: &Path) {
        let Ok(path) = std::path::absolute(path) else { return };
        let Some(given) = path.ancestors().find(|folder| folder.is_dir()) else { return };
        let Ok(real) = std::fs::canonicalize(given) else { return };
        if real != given {
            self.0.extend(real.parent().map(Path::to_path_buf));
        }
        // A file in the root: itself, for as long as it is not replaced.
        self.0.push(if real == Path::new("/") { path.clone() } else { real });
        // A file that is itself a link: where it leads.
        if let Ok(file) = std::fs::canonicalize(&path)
            && let Some(folder) = file.parent()
            && !file.is_dir()
        {
            self.0.push(folder.to_path_buf());
        }
        self.0.retain(|folder| folder != Path::new("/"));
    }

    /// May `path` be read, as far as can be seen now?
    pub fn hold(&self, path: &Path) -> bool {
        let real = std::fs::canonicalize(path).or_else(|_| std::path::absolute(path));
        real.is_ok_and(|real| self.0.iter().any(|folder| real.starts_with(folder)))
    }

    pub fn paths(&self) -> &[PathBuf] {
        &self.0
    }
}

impl fmt::Display for Folders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, folder) in self.0.iter().enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            write!(f, "{comma}{}", folder.display())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_siblings_and_later_arrivals_are_reached() {
        let place = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(place.path()).unwrap();
        let at = |name: &str| root.join(name);
        for folder in ["volume/..first", "volume/..second", "elsewhere", "apart/deep"] {
            fs::create_dir_all(at(folder)).unwrap();
        }
        fs::write(at("volume/..first/a.yaml"), "").unwrap();
        symlink("..first", at("volume/..data")).unwrap();
        symlink("..data/a.yaml", at("volume/a.yaml")).unwrap();
        fs::write(at("elsewhere/ca.pem"), "").unwrap();
        symlink(at("elsewhere/ca.pem"), at("apart/deep/ca.pem")).unwrap();
        for (given, reached) in [
            ("volume", &["volume"][..]),
            ("volume/a.yaml", &["volume"]),
            ("volume/..data", &["volume"]),
            ("volume/..data/a.yaml", &["volume"]),
            ("apart/deep/ca.pem", &["apart/deep", "elsewhere"]),
            ("apart/deep/not/yet/there.pem", &["apart/deep"]),
        ] {
            let wanted: Vec<PathBuf> = reached.iter().map(|name| at(name)).collect();
            assert_eq!(Folders::around([at(given)]).paths(), wanted, "{given}");
        }
        let volume = Folders::around([at("volume/..data/a.yaml")]);
        assert!(volume.hold(&at("volume/..second/new.yaml")) && !volume.hold(&at("elsewhere/ca.pem")));
    }

    #[test]
    fn the_root_is_never_given() {
        assert_eq!(Folders::around(["/".into()]).paths(), Vec::<PathBuf>::new());
        assert_eq!(Folders::around(["/surely/not/there".into()]).paths(), ["/surely/not/there"].map(PathBuf::from));
    }
}
