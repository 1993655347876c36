//! Kubernetes secrets, as documents of the configuration or as folders of mounted ones, and the names of their keys.
//!
//! The lookups and messages are those of istiod (`pilot/pkg/credentials/kube/secrets.go`): the generic pair before the
//! TLS pair, and for the CA of credential `X` the secret `X-cacert` before `X`. Key material is passed on, never shown.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::config::Secret;
use crate::tls::material::MaterialError;

const PAIRS: [(&str, &str); 2] = [("cert", "key"), ("tls.crt", "tls.key")];
/// CA and the revocation list beside it.
const ROOTS: [(&str, &str); 2] = [("cacert", "crl"), ("ca.crt", "ca.crl")];
/// What Istio appends to a credential's name for its CA.
pub(in crate::tls) const CA_SUFFIX: &str = "-cacert";

/// Where secrets are looked up: documents first, then `folder/<name>/<key>`.
pub(in crate::tls) struct Vault {
    pub(in crate::tls) namespace: String,
    pub(in crate::tls) documents: Vec<Secret>,
    pub(in crate::tls) folder: Option<PathBuf>,
}

/// A value with words for where it stands.
pub(in crate::tls) struct Part {
    pub(in crate::tls) text: Vec<u8>,
    pub(in crate::tls) place: String,
}

impl Vault {
    /// Certificate chain and private key of credential `name`.
    pub(in crate::tls) fn pair(&self, name: &str) -> Result<(Part, Part), MaterialError> {
        let data = self.find(name)?.ok_or_else(|| self.missing(name))?;
        let has = |key: &str| data.get(key).is_some_and(|value| !value.is_empty());
        if let Some((cert, key)) = PAIRS.into_iter().find(|(cert, key)| has(cert) && has(key)) {
            return Ok((self.part(name, &data, cert), self.part(name, &data, key)));
        }
        let empty = |(cert, key): &(&str, &str)| data.contains_key(*cert) && data.contains_key(*key);
        match PAIRS.into_iter().find(empty) {
            Some((first, second)) => Err(MaterialError::EmptyPair { first, second }),
            None => Err(MaterialError::NoPairKeys { found: key_list(&data) }),
        }
    }

    /// CA certificates of credential `name`, and the revocation lists beside them.
    pub(in crate::tls) fn root(&self, name: &str) -> Result<(Part, Option<Part>), MaterialError> {
        let own_secret = format!("{name}{CA_SUFFIX}");
        let (name, data) = match self.find(&own_secret)? {
            Some(data) => (own_secret.as_str(), data),
            None => (name, self.find(name)?.ok_or_else(|| self.missing(name))?),
        };
        let has = |key: &str| data.get(key).is_some_and(|value| !value.is_empty());
        if let Some((ca, crl)) = ROOTS.into_iter().find(|(ca, _)| has(ca)) {
            // A list that is there but empty is an error further on: it may not silently switch revocation off.
            let crl = data.contains_key(crl).then(|| self.part(name, &data, crl));
            return Ok((self.part(name, &data, ca), crl));
        }
        match ROOTS.into_iter().find(|(ca, _)| data.contains_key(*ca)) {
            Some((key, _)) => Err(MaterialError::EmptyKey { key }),
            None => Err(MaterialError::NoCaKeys { found: key_list(&data) }),
        }
    }

    /// The folders in which credential `name` may be mounted, existing or not.
    pub(in crate::tls) fn folders(&self, name: &str) -> Vec<PathBuf> {
        let folder = self.folder.iter().filter(|_| check_name(name).is_ok());
        folder.flat_map(|folder| [folder.join(name), folder.join(format!("{name}{CA_SUFFIX}"))]).collect()
    }

    fn find(&self, name: &str) -> Result<Option<BTreeMap<String, Vec<u8>>>, MaterialError> {
        check_name(name)?;
        if let Some(document) = self.document(name) {
            return Ok(Some(document.data.clone()));
        }
        match &self.folder {
            Some(folder) => read_mounted(&folder.join(name)),
            None => Ok(None),
        }
    }

    /// Where secret `name` is, for people: its document's place or its folder.
    pub(in crate::tls) fn place(&self, name: &str) -> Option<String> {
        check_name(name).ok()?;
        if let Some(document) = self.document(name) {
            return Some(document.meta.at.to_string());
        }
        let folder = self.folder.as_ref()?.join(name);
        folder.is_dir().then(|| folder.display().to_string())
    }

    /// As [`Self::place`], for the CA of credential `name`.
    pub(in crate::tls) fn root_place(&self, name: &str) -> Option<String> {
        self.place(&format!("{name}{CA_SUFFIX}")).or_else(|| self.place(name))
    }

    fn document(&self, name: &str) -> Option<&Secret> {
        let own = |secret: &&Secret| {
            secret.meta.name == name && secret.meta.namespace.as_ref().is_none_or(|ns| *ns == self.namespace)
        };
        self.documents.iter().find(own)
    }

    fn missing(&self, name: &str) -> MaterialError {
        MaterialError::SecretNotFound { namespace: self.namespace.clone(), name: name.to_owned() }
    }

    fn part(&self, name: &str, data: &BTreeMap<String, Vec<u8>>, key: &str) -> Part {
        let text = data.get(key).cloned().unwrap_or_default();
        Part { text, place: format!("key {key} of secret {}/{name}", self.namespace) }
    }
}

/// A name from the configuration becomes part of a path: only what Kubernetes allows (RFC 1123 subdomain).
fn check_name(name: &str) -> Result<(), MaterialError> {
    let allowed = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.');
    let one_label_down = !name.is_empty() && !name.starts_with('.') && !name.contains("..");
    if allowed && one_label_down && name.len() <= 253 {
        return Ok(());
    }
    Err(MaterialError::SecretName { name: name.to_owned() })
}

/// The keys of a mounted secret. The kubelet swaps the link `..data` to replace all files at once, so it is followed
/// first and everything is read from one generation.
fn read_mounted(folder: &Path) -> Result<Option<BTreeMap<String, Vec<u8>>>, MaterialError> {
    let unreadable = |path: &Path, error: &io::Error| MaterialError::Unreadable {
        place: path.display().to_string(),
        reason: error.to_string(),
    };
    let generation = fs::canonicalize(folder.join("..data")).unwrap_or_else(|_| folder.to_owned());
    let entries = match fs::read_dir(&generation) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(folder, &error)),
    };
    let mut data = BTreeMap::new();
    for entry in entries {
        let path = entry.map_err(|error| unreadable(folder, &error))?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if name.starts_with("..") || !path.is_file() {
            continue;
        }
        let known = PAIRS.iter().chain(&ROOTS).any(|(one, other)| name == *one || name == *other);
        let text = if known { fs::read(&path).map_err(|error| unreadable(&path, &error))? } else { Vec::new() };
        data.insert(name, text);
    }
    Ok(Some(data))
}

/// At most three names, as istiod prints them.
fn key_list(data: &BTreeMap<String, Vec<u8>>) -> String {
    const SHOWN: usize = 3;
    let shown: Vec<&str> = data.keys().take(SHOWN).map(String::as_str).collect();
    match data.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{}, and {more} more...", shown.join(", ")),
    }
}
