//! Whether a certificate or a revocation list was signed by a key: what webpki does for what it reads itself.

use rustls::pki_types::SubjectPublicKeyInfoDer;

use crate::tls::provider::provider;
use crate::tls::verify::cert_error::CertError;

/// Most signatures tried for one handshake: a peer chooses the certificates it sends, not how long they are looked at.
const MAX_SIGNATURES: u8 = 64;

/// Signature checks left for this handshake.
pub(in crate::tls) struct SignatureBudget(u8);

impl SignatureBudget {
    pub(in crate::tls) fn new() -> Self {
        Self(MAX_SIGNATURES)
    }

    fn spend(&mut self) -> Result<(), CertError> {
        self.0 =
            self.0.checked_sub(1).ok_or_else(|| CertError::Malformed("too many certificates to try".to_owned()))?;
        Ok(())
    }
}

/// Whether `signature` over `message` was made by `key` with the algorithm that stands beside it (`algorithm`: contents
/// of an AlgorithmIdentifier).
pub(in crate::tls) fn verify_signature(
    key: &SubjectPublicKeyInfoDer<'_>,
    algorithm: &[u8],
    message: &[u8],
    signature: &[u8],
    budget: &mut SignatureBudget,
) -> Result<(), CertError> {
    let key = webpki::RawPublicKeyEntity::try_from(key).map_err(|_| CertError::Algorithm)?;
    let known = provider().signature_verification_algorithms.all;
    for candidate in known.iter().filter(|known| known.signature_alg_id().as_ref() == algorithm) {
        budget.spend()?;
        match key.verify_signature(*candidate, message, signature) {
            Ok(()) => return Ok(()),
            Err(webpki::Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_)) => {}
            Err(_) => return Err(CertError::Signature),
        }
    }
    Err(CertError::Algorithm)
}
