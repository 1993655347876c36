//! The credentials of the process: finds what profiles ask for, notices when it changes, keeps the last good.
//!
//! The control thread owns the store; workers only see the profiles that come out of it. A profile whose material did
//! not change is the same `Arc` as before, so that pools and session caches live on. Material that cannot be loaded at
//! first is an error (the destination is refused); material that breaks later leaves the profile as it was, because a
//! pair of files is rarely replaced in one step, and is reported.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};

use crate::config::Secret;
use crate::tls::material::MaterialError;
use crate::tls::material::identity::Identity;
use crate::tls::material::secrets::{Part, Vault};
use crate::tls::material::secrets_view::{self, Credential, SecretKind, SecretRow};
use crate::tls::profile::{ClientProfile, MinimumVersion};
use crate::tls::request::{IdentitySource, ProfileMode, ProfileRequest, TrustSource};
use crate::tls::verify::trust::{Strictness, Trust, finished, system_bundle};

/// Where credentials are.
#[derive(Clone, Debug, Default)]
pub struct StoreOptions {
    /// The workload's own; secrets of others are not found.
    pub namespace: String,
    /// `--secrets DIR`: mounted secrets, a folder each.
    pub secrets_dir: Option<PathBuf>,
    pub minimum: MinimumVersion,
    /// The variable `SSL_CERT_FILE`, which names the operating system's bundle.
    pub ssl_cert_file: Option<OsString>,
}

/// What a refresh found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refresh {
    /// Some profile is another than before, or became or ceased to be usable: compile and publish again.
    pub changed: bool,
}

/// Profiles by request, and the material that they are made of.
pub struct Store {
    vault: Vault,
    options: StoreOptions,
    trusts: HashMap<TrustSource, Material<Trust>>,
    identities: HashMap<IdentitySource, Material<Identity>>,
    profiles: HashMap<ProfileRequest, Profile>,
}

/// One piece of material as it is now, and as it last was when it was good.
struct Material<T> {
    /// Digest of the octets that it was made of: unchanged octets are not parsed again.
    inputs: Option<[u8; 32]>,
    now: Result<Arc<T>, MaterialError>,
    last_good: Option<Arc<T>>,
}

struct Profile {
    usable: Option<Arc<ClientProfile>>,
    /// Why there is none, or why the one in use is not the newest.
    problem: Option<String>,
    /// Asked for since [`Store::begin_round`].
    asked: bool,
}

impl Store {
    #[must_use]
    pub fn new(options: StoreOptions, secrets: &[Secret]) -> Self {
        let vault = Vault {
            namespace: options.namespace.clone(),
            documents: secrets.to_vec(),
            folder: options.secrets_dir.clone(),
        };
        Self { vault, options, trusts: HashMap::new(), identities: HashMap::new(), profiles: HashMap::new() }
    }

    /// The profile for `request`: loaded on first use, afterwards as the last [`Self::refresh`] left it.
    ///
    /// # Errors
    /// Why its material cannot be used; the text is for the log and for the 503 that the destination answers with.
    pub fn profile(&mut self, request: &ProfileRequest) -> Result<Arc<ClientProfile>, String> {
        if !self.profiles.contains_key(request) {
            let profile = match self.build(request) {
                Ok(profile) => Profile { usable: Some(Arc::new(profile)), problem: None, asked: true },
                Err(problem) => Profile { usable: None, problem: Some(problem), asked: true },
            };
            self.profiles.insert(request.clone(), profile);
        }
        let profile = self.profiles.get_mut(request).expect("inserted above if it was missing");
        profile.asked = true;
        let problem = profile.problem.clone();
        profile.usable.clone().ok_or_else(|| problem.unwrap_or_default())
    }

    /// The lowest version for profiles from the next [`Self::refresh`] on.
    pub fn set_minimum(&mut self, minimum: MinimumVersion) {
        self.options.minimum = minimum;
    }

    /// Reads everything again that some profile uses.
    pub fn refresh(&mut self, secrets: &[Secret]) -> Refresh {
        secrets.clone_into(&mut self.vault.documents);
        for source in self.trusts.keys().cloned().collect::<Vec<_>>() {
            let read = self.read_trust(&source);
            let slot = self.trusts.get_mut(&source).expect("the key was just listed");
            slot.update(read, Trust::digest);
        }
        for source in self.identities.keys().cloned().collect::<Vec<_>>() {
            let read = self.read_identity(&source);
            let slot = self.identities.get_mut(&source).expect("the key was just listed");
            slot.update(read, Identity::digest);
        }
        let mut changed = false;
        for request in self.profiles.keys().cloned().collect::<Vec<_>>() {
            let built = self.build(&request);
            let profile = self.profiles.get_mut(&request).expect("the key was just listed");
            changed |= profile.update(built);
        }
        Refresh { changed }
    }

    /// Begins a compilation of the policy: what is not asked for until [`Self::end_round`] is no longer needed.
    pub fn begin_round(&mut self) {
        self.profiles.values_mut().for_each(|profile| profile.asked = false);
    }

    /// Forgets what the compilation that just succeeded did not ask for.
    pub fn end_round(&mut self) {
        self.profiles.retain(|_, profile| profile.asked);
        let profiles = &self.profiles;
        self.trusts.retain(|source, _| profiles.keys().any(|request| request.trust == *source));
        self.identities.retain(|source, _| profiles.keys().any(|request| request.identity.as_ref() == Some(source)));
    }

    /// What is wrong now, one sentence each, sorted: destinations that are refused and profiles that are out of date.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems: Vec<String> = self.profiles.values().filter_map(Profile::report).collect();
        problems.sort();
        problems.dedup();
        problems
    }

    /// Every file and folder that credentials in use come from, whether it exists or not, sorted.
    #[must_use]
    pub fn watched_paths(&self) -> Vec<PathBuf> {
        let mut paths = Vec::new();
        for source in self.trusts.keys() {
            match source {
                TrustSource::System => paths.extend(self.system_bundle()),
                TrustSource::File { ca, crl } => paths.extend([ca].into_iter().chain(crl).cloned()),
                TrustSource::Credential(name) => paths.extend(self.vault.folders(name)),
                TrustSource::Unverified => {}
            }
        }
        for source in self.identities.keys() {
            match source {
                IdentitySource::Files { cert, key } => paths.extend([cert.clone(), key.clone()]),
                IdentitySource::Credential(name) => paths.extend(self.vault.folders(name)),
            }
        }
        paths.sort();
        paths.dedup();
        paths
    }

    /// What `egret secrets` shows now, sorted by name.
    #[must_use]
    pub fn table(&self) -> Vec<SecretRow> {
        let now = jiff::Timestamp::now().as_second();
        self.credentials().iter().map(|credential| credential.row(now)).collect()
    }

    /// Every credential in use, sorted by name.
    #[must_use]
    pub fn credentials(&self) -> Vec<Credential> {
        let trusts = self.trusts.iter().map(|(source, material)| Credential {
            resource_name: secrets_view::trust_name(source),
            kind: SecretKind::Ca,
            stored_in: match source {
                TrustSource::File { ca, .. } => Some(ca.display().to_string()),
                TrustSource::Credential(name) => self.vault.root_place(name),
                TrustSource::System | TrustSource::Unverified => None,
            },
            facts: material.last_good.as_ref().and_then(|trust| trust.first()).cloned(),
            problem: material.problem(),
        });
        let identities = self.identities.iter().map(|(source, material)| Credential {
            resource_name: secrets_view::identity_name(source),
            kind: SecretKind::CertChain,
            stored_in: match source {
                IdentitySource::Files { cert, .. } => Some(cert.display().to_string()),
                IdentitySource::Credential(name) => self.vault.place(name),
            },
            facts: material.last_good.as_ref().map(|identity| identity.facts().clone()),
            problem: material.problem(),
        });
        let mut all: Vec<Credential> = trusts.chain(identities).collect();
        all.sort_by(|a, b| a.resource_name.cmp(&b.resource_name));
        all
    }

    fn build(&mut self, request: &ProfileRequest) -> Result<ClientProfile, String> {
        let trust = self.trust(&request.trust);
        let source = request.identity.as_ref().filter(|_| request.mode == ProfileMode::Mutual);
        // Both are tried, so that both are watched and both are listed.
        let identity = source.map(|source| self.identity(source)).transpose();
        let trust = trust.map_err(|error| about(request, &error))?;
        let identity = identity.map_err(|error| about(request, &error))?;
        ClientProfile::new(request.clone(), trust, identity, self.options.minimum).map_err(|error| error.to_string())
    }

    fn trust(&mut self, source: &TrustSource) -> Result<Option<Arc<Trust>>, MaterialError> {
        if *source == TrustSource::Unverified {
            return Ok(None);
        }
        let read = (!self.trusts.contains_key(source)).then(|| self.read_trust(source));
        load(self.trusts.entry(source.clone()), read, Trust::digest).map(Some)
    }

    fn identity(&mut self, source: &IdentitySource) -> Result<Arc<Identity>, MaterialError> {
        let read = (!self.identities.contains_key(source)).then(|| self.read_identity(source));
        load(self.identities.entry(source.clone()), read, Identity::digest)
    }

    fn read_trust(&self, source: &TrustSource) -> Result<Inputs<Trust>, MaterialError> {
        let (ca, crl, strictness) = match source {
            TrustSource::System => (read(&self.system_bundle()?)?, None, Strictness::SystemBundle),
            TrustSource::File { ca, crl } => (read(ca)?, crl.as_deref().map(read).transpose()?, Strictness::Explicit),
            TrustSource::Credential(name) => {
                let (ca, crl) = self.vault.root(name)?;
                (ca, crl, Strictness::Explicit)
            }
            TrustSource::Unverified => return Err(MaterialError::Request("no CA is wanted")),
        };
        let digest = digest_of([Some(&ca), crl.as_ref()]);
        let parse = move || {
            let crl = crl.as_ref().map(|crl| (crl.text.as_slice(), crl.place.as_str()));
            Trust::from_pem((&ca.text, &ca.place), crl, strictness)
        };
        Ok(Inputs { digest, parse: Box::new(parse) })
    }

    fn read_identity(&self, source: &IdentitySource) -> Result<Inputs<Identity>, MaterialError> {
        let (cert, key) = match source {
            IdentitySource::Files { cert, key } => (read(cert)?, read(key)?),
            IdentitySource::Credential(name) => self.vault.pair(name)?,
        };
        let digest = digest_of([Some(&cert), Some(&key)]);
        let parse = move || Identity::from_pem((&cert.text, &cert.place), (&key.text, &key.place));
        Ok(Inputs { digest, parse: Box::new(parse) })
    }

    fn system_bundle(&self) -> Result<PathBuf, MaterialError> {
        system_bundle(self.options.ssl_cert_file.as_deref())
    }
}

/// Octets that were read, and how to make the thing of them.
struct Inputs<T> {
    digest: [u8; 32],
    parse: Box<dyn FnOnce() -> Result<T, MaterialError>>,
}

fn load<K, T>(
    slot: Slot<'_, K, Material<T>>,
    read: Option<Result<Inputs<T>, MaterialError>>,
    digest: fn(&T) -> [u8; 32],
) -> Result<Arc<T>, MaterialError> {
    let material = match (slot, read) {
        (Slot::Occupied(slot), _) => slot.into_mut(),
        (Slot::Vacant(slot), Some(read)) => {
            let unread = Err(MaterialError::Request("not read yet"));
            let material = slot.insert(Material { inputs: None, now: unread, last_good: None });
            material.update(read, digest);
            material
        }
        (Slot::Vacant(_), None) => return Err(MaterialError::Request("not read yet")),
    };
    material.now.clone()
}

impl<T> Material<T> {
    fn update(&mut self, read: Result<Inputs<T>, MaterialError>, digest: fn(&T) -> [u8; 32]) {
        let read = match read {
            Ok(read) => read,
            Err(error) => {
                self.inputs = None;
                self.now = Err(error);
                return;
            }
        };
        if self.inputs == Some(read.digest) {
            return;
        }
        self.inputs = Some(read.digest);
        self.now = (read.parse)().map(|fresh| match &self.last_good {
            // Other octets, same meaning: a comment, a line end, the order of the chain.
            Some(old) if digest(old) == digest(&fresh) => Arc::clone(old),
            _ => Arc::new(fresh),
        });
        if let Ok(good) = &self.now {
            self.last_good = Some(Arc::clone(good));
        }
    }

    fn problem(&self) -> Option<String> {
        self.now.as_ref().err().map(MaterialError::to_string)
    }
}

impl Profile {
    /// Takes over what was built; whether workers would notice.
    fn update(&mut self, built: Result<ClientProfile, String>) -> bool {
        match built {
            Ok(fresh) => {
                self.problem = None;
                if self.usable.as_ref().is_some_and(|old| old.digest() == fresh.digest()) {
                    return false;
                }
                self.usable = Some(Arc::new(fresh));
                true
            }
            Err(problem) => {
                let noticed = self.usable.is_none() && self.problem.as_ref() != Some(&problem);
                self.problem = Some(problem);
                noticed
            }
        }
    }

    fn report(&self) -> Option<String> {
        let problem = self.problem.as_ref()?;
        Some(match self.usable {
            Some(_) => format!("{problem}; the last good credentials stay in use"),
            None => problem.clone(),
        })
    }
}

/// Says which credential an error is about where its text does not.
fn about(request: &ProfileRequest, error: &MaterialError) -> String {
    match (&request.trust, &request.identity) {
        (TrustSource::Credential(name), _) | (_, Some(IdentitySource::Credential(name))) => {
            format!("credentialName {name}: {error}")
        }
        _ => error.to_string(),
    }
}

fn read(path: impl AsRef<Path>) -> Result<Part, MaterialError> {
    let path = path.as_ref();
    let place = path.display().to_string();
    let unreadable = |reason: String| MaterialError::Unreadable { place: place.clone(), reason };
    // A pipe or a device would block the thread that serves readiness.
    let metadata = std::fs::metadata(path).map_err(|error| unreadable(error.to_string()))?;
    if !metadata.is_file() {
        return Err(unreadable("not a regular file".to_owned()));
    }
    let text = std::fs::read(path).map_err(|error| unreadable(error.to_string()))?;
    Ok(Part { text, place })
}

fn digest_of(parts: [Option<&Part>; 2]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(&[u8::from(part.is_some())]);
        let text = part.map(|part| part.text.as_slice()).unwrap_or_default();
        context.update(&(text.len() as u64).to_be_bytes());
        context.update(text);
    }
    finished(context)
}
