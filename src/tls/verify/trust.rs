//! Trusted CAs: of a file, a secret or the operating system, with the revocation lists that go with them.
//!
//! Knows how to read CA certificates, not which ones a policy wants, and judges no server certificate.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{Context, SHA256, digest};
use rustls::pki_types::{CertificateDer, TrustAnchor};

use crate::tls::material::MaterialError;
use crate::tls::material::certificate::CertificateFacts;
use crate::tls::material::pem;
use crate::tls::verify::crl::Crls;

/// Where distributions keep their bundle, in the order in which Istio looks (istio `pkg/security/security.go`).
const SYSTEM_BUNDLES: [&str; 7] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/usr/local/etc/ssl/cert.pem",
];

/// A set of trusted CAs, immutable. Never without a CA.
pub struct Trust {
    /// In words, for messages: `the CAs of /etc/ca.pem`.
    source: String,
    anchors: Vec<TrustAnchor<'static>>,
    /// Beside `anchors`: webpki does not look at an anchor's dates, OpenSSL and BoringSSL do.
    validity: Vec<(i64, i64)>,
    /// SHA-256 of each certificate: a server certificate that is itself in the file is trusted by being there.
    pins: HashSet<[u8; 32]>,
    crls: Option<Crls>,
    /// Certificates in the bundle that could not be used.
    skipped: usize,
    first: Option<CertificateFacts>,
    digest: [u8; 32],
}

/// Whether certificates that cannot be used are an error or, in a bundle that nobody here wrote, only counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tls) enum Strictness {
    Explicit,
    SystemBundle,
}

impl Trust {
    /// The CAs of a PEM text and, from another, their revocation lists (text and place of each).
    ///
    /// # Errors
    /// No usable CA; in an explicit file also broken PEM; any CRL that cannot be used.
    pub(in crate::tls) fn from_pem(
        (text, place): (&[u8], &str),
        crl: Option<(&[u8], &str)>,
        strictness: Strictness,
    ) -> Result<Self, MaterialError> {
        let found = pem::blocks(text);
        if let (Strictness::Explicit, Some(reason)) = (strictness, found.reason) {
            return Err(MaterialError::Pem { place: place.to_owned(), reason });
        }
        if found.certificates.is_empty() {
            return Err(MaterialError::NoCertificate { place: place.to_owned() });
        }
        let crls = crl.map(|(text, place)| Crls::from_pem(text, place)).transpose()?;
        let mut trust = Self {
            source: format!("the CAs of {place}"),
            anchors: Vec::with_capacity(found.certificates.len()),
            validity: Vec::with_capacity(found.certificates.len()),
            pins: HashSet::new(),
            crls,
            skipped: found.broken,
            first: None,
            digest: [0; 32],
        };
        let mut reason = None;
        for certificate in &found.certificates {
            if let Err(error) = trust.add(certificate) {
                trust.skipped += 1;
                reason.get_or_insert(error);
            }
        }
        if let (true, Some(reason)) = (trust.anchors.is_empty(), reason) {
            return Err(MaterialError::BadCertificate { place: place.to_owned(), reason });
        }
        trust.digest = trust.compute_digest(&found.certificates);
        Ok(trust)
    }

    fn add(&mut self, certificate: &CertificateDer<'_>) -> Result<(), String> {
        let facts = CertificateFacts::of(certificate).ok_or("not an X.509 certificate")?;
        let anchor = webpki::anchor_from_trusted_cert(certificate).map_err(|error| format!("{error:?}"))?;
        self.anchors.push(anchor.to_owned());
        self.validity.push((facts.not_before, facts.not_after));
        self.pins.insert(sha256(certificate));
        self.first.get_or_insert(facts);
        Ok(())
    }

    fn compute_digest(&self, certificates: &[CertificateDer<'_>]) -> [u8; 32] {
        let mut context = Context::new(&SHA256);
        let crls = self.crls.iter().flat_map(Crls::ders);
        for (kind, der) in certificates.iter().map(|c| (0u8, c.as_ref())).chain(crls.map(|c| (1u8, c))) {
            context.update(&[kind]);
            context.update(&sha256(der));
        }
        finished(context)
    }

    pub(in crate::tls) fn source(&self) -> &str {
        &self.source
    }

    pub(in crate::tls) fn anchors(&self) -> &[TrustAnchor<'static>] {
        &self.anchors
    }

    pub(in crate::tls) fn crls(&self) -> Option<&Crls> {
        self.crls.as_ref()
    }

    /// Until when and from when `anchor`, one of [`Self::anchors`], is valid: `(not_before, not_after)`.
    pub(in crate::tls) fn validity_of(&self, anchor: &TrustAnchor<'_>) -> (i64, i64) {
        let same = |own: &TrustAnchor<'_>| {
            own.subject == anchor.subject && own.subject_public_key_info == anchor.subject_public_key_info
        };
        // Cross-signed and renewed roots share subject and key: the widest dates count.
        let dates = self.anchors.iter().zip(&self.validity).filter(|(own, _)| same(own)).map(|(_, dates)| *dates);
        dates.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))).unwrap_or((i64::MAX, i64::MIN))
    }

    /// Whether this very certificate is one of the trusted ones.
    pub(in crate::tls) fn pins(&self, certificate: &CertificateDer<'_>) -> bool {
        self.pins.contains(&sha256(certificate))
    }

    /// Identity of the CAs and CRLs.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// How many certificates of the source could not be used.
    #[must_use]
    pub fn skipped(&self) -> usize {
        self.skipped
    }

    /// How many CAs are trusted.
    #[must_use]
    pub fn len(&self) -> usize {
        self.anchors.len()
    }

    /// Never true: a trust without CAs is not made.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.anchors.is_empty()
    }

    /// The first CA, which is what tools show of a bundle.
    #[must_use]
    pub fn first(&self) -> Option<&CertificateFacts> {
        self.first.as_ref()
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust")
            .field("source", &self.source)
            .field("anchors", &self.anchors.len())
            .finish_non_exhaustive()
    }
}

/// The file with the operating system's CAs: `SSL_CERT_FILE` if set, else the first of the known places that exists.
pub(in crate::tls) fn system_bundle(ssl_cert_file: Option<&OsStr>) -> Result<PathBuf, MaterialError> {
    if let Some(path) = ssl_cert_file.filter(|path| !path.is_empty()) {
        return Ok(PathBuf::from(path));
    }
    let found = SYSTEM_BUNDLES.iter().map(Path::new).find(|path| path.is_file());
    found.map(Path::to_owned).ok_or_else(|| MaterialError::NoSystemBundle { searched: SYSTEM_BUNDLES.join(", ") })
}

pub(in crate::tls) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let hash = digest(&SHA256, bytes);
    <[u8; 32]>::try_from(hash.as_ref()).expect("SHA-256 yields 32 octets")
}

pub(in crate::tls) fn finished(context: Context) -> [u8; 32] {
    let hash = context.finish();
    <[u8; 32]>::try_from(hash.as_ref()).expect("SHA-256 yields 32 octets")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::tests::pki::Authority;

    fn load(text: &str, strictness: Strictness) -> Result<Trust, MaterialError> {
        Trust::from_pem((text.as_bytes(), "ca.pem"), None, strictness)
    }

    #[test]
    fn a_broken_certificate_in_the_systems_bundle_is_skipped_and_in_a_file_of_ones_own_refused() {
        let broken = "-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n";
        let bundle = format!("{broken}{}", Authority::new("root").pem());
        let system = load(&bundle, Strictness::SystemBundle).unwrap();
        assert_eq!((system.len(), system.skipped()), (1, 1));
        assert!(matches!(load(&bundle, Strictness::Explicit), Err(MaterialError::Pem { .. })));
    }

    #[test]
    fn a_file_without_a_usable_ca_is_refused() {
        let not_x509 = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
        for strictness in [Strictness::Explicit, Strictness::SystemBundle] {
            assert!(matches!(load(not_x509, strictness), Err(MaterialError::BadCertificate { .. })));
            assert!(matches!(load("", strictness), Err(MaterialError::NoCertificate { .. })));
        }
    }

    #[test]
    fn the_digest_is_that_of_the_certificates() {
        let (one, two) = (Authority::new("one").pem(), Authority::new("two").pem());
        let digest = |text: &str| load(text, Strictness::Explicit).unwrap().digest();
        assert_eq!(digest(&one), digest(&one.replace('\n', "\r\n")));
        assert_ne!(digest(&one), digest(&two));
        assert_ne!(digest(&one), digest(&format!("{one}{two}")));
    }

    #[test]
    fn ssl_cert_file_comes_first() {
        assert_eq!(system_bundle(Some(OsStr::new("/x/y.pem"))).unwrap(), PathBuf::from("/x/y.pem"));
        let unset = system_bundle(None);
        assert_eq!(system_bundle(Some(OsStr::new(""))), unset);
    }
}
