//! A client certificate with its private key, checked to be a pair when it is loaded.
//!
//! rustls would parse the certificate with webpki and so refuse X.509 v1; here the certified key is put together by
//! hand and the pair is compared by public key. Private keys stay inside rustls's signing key, which erases them.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use rustls::pki_types::CertificateDer;
use rustls::sign::{CertifiedKey, SigningKey};
use x509_parser::asn1_rs::FromDer as _;
use x509_parser::certificate::X509Certificate;

use crate::tls::material::MaterialError;
use crate::tls::material::certificate::{CertificateFacts, public_key};
use crate::tls::material::pem;
use crate::tls::provider::provider;
use crate::tls::verify::trust::{finished, sha256};

/// Who egret is towards a server. Immutable; shows no secret.
pub struct Identity {
    pub(in crate::tls) key: Arc<CertifiedKey>,
    facts: CertificateFacts,
    digest: [u8; 32],
}

impl Identity {
    /// The chain and key of two PEM texts (each with the place that it came from), leaf first whatever their order.
    ///
    /// # Errors
    /// Either cannot be read, or no certificate of the chain belongs to the key.
    pub(in crate::tls) fn from_pem(
        (chain, chain_place): (&[u8], &str),
        (key, key_place): (&[u8], &str),
    ) -> Result<Self, MaterialError> {
        let chain = pem::certificates(chain, chain_place)?;
        let key = pem::private_key(key, key_place)?;
        let key = provider()
            .key_provider
            .load_private_key(key)
            .map_err(|error| MaterialError::BadKey { place: key_place.to_owned(), reason: describe(&error) })?;
        let chain = leaf_first(chain, key.as_ref()).ok_or_else(|| MaterialError::Mismatch {
            certificate: chain_place.to_owned(),
            key: key_place.to_owned(),
        })?;
        let facts = CertificateFacts::of(&chain[0]).ok_or_else(|| MaterialError::BadCertificate {
            place: chain_place.to_owned(),
            reason: "not an X.509 certificate".to_owned(),
        })?;
        let digest = digest_of(&chain);
        Ok(Self { key: Arc::new(CertifiedKey::new(chain, key)), facts, digest })
    }

    /// The leaf certificate.
    #[must_use]
    pub fn facts(&self) -> &CertificateFacts {
        &self.facts
    }

    /// Identity of the chain; the key is determined by it.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("subject", &self.facts.subject).finish_non_exhaustive()
    }
}

/// rustls's words for a key it refuses, without its wrapping.
fn describe(error: &rustls::Error) -> String {
    match error {
        rustls::Error::General(text) => text.clone(),
        other => other.to_string(),
    }
}

/// `chain` with the certificate of `key` first and each next one the issuer of the one before; what does not link up
/// follows in its old order. `None` when no certificate belongs to the key.
fn leaf_first(mut chain: Vec<CertificateDer<'static>>, key: &dyn SigningKey) -> Option<Vec<CertificateDer<'static>>> {
    let wanted = key.public_key()?;
    let leaf = chain.iter().position(|certificate| public_key(certificate).is_some_and(|own| own == wanted))?;
    let mut ordered = vec![chain.remove(leaf)];
    while let Some(next) = issuer_of(&ordered[ordered.len() - 1], &chain) {
        ordered.push(chain.remove(next));
    }
    ordered.append(&mut chain);
    Some(ordered)
}

fn issuer_of(certificate: &CertificateDer<'_>, among: &[CertificateDer<'_>]) -> Option<usize> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let issuer = certificate.issuer().as_raw();
    among.iter().position(|candidate| {
        X509Certificate::from_der(candidate).is_ok_and(|(_, candidate)| candidate.subject().as_raw() == issuer)
    })
}

fn digest_of(chain: &[CertificateDer<'_>]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    for certificate in chain {
        context.update(&sha256(certificate));
    }
    finished(context)
}
