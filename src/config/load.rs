//! Files and folders → resources and problems. Knows the file system; knows no kind of resource.
//!
//! A folder may be a mounted ConfigMap that the kubelet swaps while it is being read. Its files are symlinks through
//! `..data`; when that link changes between the first look and the last, everything is read again, so that old and new
//! files are never mixed.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::document::{self, Resource};
use super::problem::{Location, Problem, Severity};
use super::reader::Report;
use super::resources::Resources;
use super::yaml;

/// Larger than any ConfigMap (1 MiB) by far; a path to something else ends here rather than in memory.
const MAX_FILE_BYTES: u64 = 16 << 20;
/// How often a folder that changes while it is read is read again.
const MAX_ATTEMPTS: usize = 3;

/// What the configuration files say, and everything wrong with them.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The sound resources. A table may be made of them only if there are no errors.
    pub resources: Resources,
    /// By file, line and column; those without a place first.
    pub problems: Vec<Problem>,
    /// The files that were read, in the order of reading.
    pub files: Vec<PathBuf>,
}

impl Loaded {
    /// Whether a running proxy must keep the table it has.
    pub fn has_errors(&self) -> bool {
        self.problems.iter().any(|problem| problem.severity == Severity::Error)
    }
}

/// Reads every path: a file, or a folder's `*.yaml` and `*.yml` by name, hidden ones left out.
pub fn load(paths: &[PathBuf]) -> Loaded {
    let mut loader = Loader::default();
    for path in paths {
        loader.read_path(path);
    }
    loader.finish()
}

/// Reads one text as if it stood in `file`; for configuration that comes from elsewhere than a file.
pub fn load_text(file: &Path, text: &str) -> Loaded {
    let mut loader = Loader::default();
    loader.loaded.files.push(file.to_owned());
    loader.read_text(file, text);
    loader.finish()
}

#[derive(Default)]
struct Loader {
    loaded: Loaded,
    /// Files by their real path, so that one named twice is read once.
    seen: HashSet<PathBuf>,
    /// Kind, namespace and name → where it was first defined.
    defined: HashMap<(&'static str, String, String), Location>,
}

impl Loader {
    fn read_path(&mut self, path: &Path) {
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => match read_folder(path) {
                Ok(files) => files.into_iter().for_each(|(file, bytes)| self.read_bytes(&file, bytes)),
                Err(error) => self.complain(format!("cannot read the folder {}: {error}", path.display())),
            },
            Ok(_) => self.read_bytes(path, read_file(path)),
            Err(error) => self.complain(format!("cannot read {}: {error}", path.display())),
        }
    }

    fn read_bytes(&mut self, file: &Path, bytes: io::Result<Vec<u8>>) {
        if file.file_stem().is_some_and(|stem| stem.eq_ignore_ascii_case("kustomization")) {
            let at = Some(Location { file: file.into(), line: 1, column: 1 });
            let message = "this file is for kustomize and is not read; give egret what `kubectl kustomize` makes of it"
                .to_owned();
            self.loaded.problems.push(Problem { severity: Severity::Warning, at, message });
            return;
        }
        let real = fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
        if !self.seen.insert(real) {
            return;
        }
        self.loaded.files.push(file.to_owned());
        match bytes {
            Ok(bytes) => match str::from_utf8(&bytes) {
                Ok(text) => self.read_text(file, text),
                Err(error) => {
                    let at = place_in(file, &bytes[..error.valid_up_to()]);
                    let message = "not UTF-8 from here on; save the file as UTF-8".to_owned();
                    self.loaded.problems.push(Problem { severity: Severity::Error, at: Some(at), message });
                }
            },
            Err(error) => self.complain(format!("cannot read {}: {error}", file.display())),
        }
    }

    fn read_text(&mut self, file: &Path, text: &str) {
        let mut report = Report::new(file);
        let mut resources = Vec::new();
        for document in yaml::documents(text) {
            document::read(document, &mut report, &mut resources);
        }
        self.loaded.problems.extend(report.into_problems());
        for resource in resources {
            self.add(resource);
        }
    }

    fn add(&mut self, resource: Resource) {
        let meta = resource.meta();
        // There is one process, so one Settings, whatever its name.
        let name = if matches!(resource, Resource::Settings(..)) { String::new() } else { meta.name.clone() };
        let namespace = if name.is_empty() { String::new() } else { meta.namespace.clone().unwrap_or_default() };
        let key = (resource.kind(), namespace, name);
        if let Some(first) = self.defined.get(&key) {
            let what = match resource {
                Resource::Settings(..) => "Settings".to_owned(),
                _ => format!("{} {:?}", resource.kind(), meta.name),
            };
            let message = format!("{what} is already defined at {first}; remove one of them");
            self.loaded.problems.push(Problem { severity: Severity::Error, at: Some(meta.at.clone()), message });
            return;
        }
        self.defined.insert(key, meta.at.clone());
        let resources = &mut self.loaded.resources;
        match resource {
            Resource::ServiceEntry(entry) => resources.service_entries.push(entry),
            Resource::DestinationRule(rule) => resources.destination_rules.push(rule),
            Resource::AuthorizationPolicy(policy) => resources.authorization_policies.push(policy),
            Resource::Sidecar(sidecar) => resources.sidecars.push(sidecar),
            Resource::Secret(secret) => resources.secrets.push(secret),
            Resource::UnsoundSecret(meta) => resources.unsound_secrets.push(meta),
            Resource::Settings(meta, settings) => {
                resources.settings = settings;
                resources.settings_at = Some(meta.at);
            }
            Resource::VirtualService(service) => resources.virtual_services.push(service),
        }
    }

    fn complain(&mut self, message: String) {
        self.loaded.problems.push(Problem { severity: Severity::Error, at: None, message });
    }

    fn finish(mut self) -> Loaded {
        self.loaded.problems.sort_by(|a, b| a.at.cmp(&b.at));
        self.loaded.resources.incomplete = self.loaded.has_errors();
        self.loaded
    }
}

/// Line and column behind `before`.
fn place_in(file: &Path, before: &[u8]) -> Location {
    let line_start = before.iter().rposition(|b| *b == b'\n').map_or(0, |i| i + 1);
    let line = memchr::memchr_iter(b'\n', before).count() as u32 + 1;
    let column = String::from_utf8_lossy(&before[line_start..]).chars().count() as u32 + 1;
    Location { file: file.into(), line, column }
}

type FileContents = (PathBuf, io::Result<Vec<u8>>);

/// The contents of a folder's files, all of one generation where the folder is swapped as a whole.
fn read_folder(folder: &Path) -> io::Result<Vec<FileContents>> {
    let mut attempt = 1;
    loop {
        let generation = fs::read_link(folder.join("..data")).ok();
        let names = yaml_files(folder)?;
        let mut files: Vec<FileContents> = names.into_iter().map(|file| (file.clone(), read_file(&file))).collect();
        let vanished = files.iter().any(|(_, contents)| is_gone(contents));
        let swapped = fs::read_link(folder.join("..data")).ok() != generation;
        if swapped && attempt == MAX_ATTEMPTS {
            return Err(io::Error::other("it changes faster than it can be read"));
        }
        if !swapped && (!vanished || attempt == MAX_ATTEMPTS) {
            // Still gone at the last attempt: a file that was deleted is no mistake, a link to nowhere is.
            files.retain(|(file, contents)| !is_gone(contents) || fs::symlink_metadata(file).is_ok());
            return Ok(files);
        }
        attempt += 1;
    }
}

fn is_gone(contents: &io::Result<Vec<u8>>) -> bool {
    contents.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

fn yaml_files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        let yaml = matches!(path.extension().and_then(OsStr::to_str), Some("yaml" | "yml"));
        if yaml && !hidden && !fs::metadata(&path).is_ok_and(|metadata| metadata.is_dir()) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    // Opening a FIFO would wait for a writer.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(io::Error::other(format!("larger than {} MiB", MAX_FILE_BYTES >> 20)));
    }
    Ok(bytes)
}
