//! What makes a certificate too weak to be believed, in words for its owner: hashes that can be forged, RSA keys that can be
//! factored. It refuses nothing itself; it says why a signature was refused.

use rustls::pki_types::CertificateDer;
use x509_parser::asn1_rs::FromDer as _;
use x509_parser::certificate::X509Certificate;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::tls::material::certificate::{name_contents, printable};
use crate::tls::verify::cert_error::CertError;
use crate::tls::verify::trust::Trust;

/// The least size of an RSA key, in bits (NIST SP 800-131A, and what browsers take).
const LEAST_RSA_BITS: usize = 2048;

/// Signatures over hashes for which collisions can be made.
const BROKEN: [(&str, &str); 6] = [
    ("1.2.840.113549.1.1.2", "MD2"),
    ("1.2.840.113549.1.1.4", "MD5"),
    ("1.2.840.113549.1.1.5", "SHA-1"),
    ("1.3.14.3.2.29", "SHA-1"),
    ("1.2.840.10045.4.1", "SHA-1"),
    ("1.2.840.10040.4.3", "SHA-1"),
];

/// `refusal`, or what is weak in the chain where a signature of it was refused.
pub(in crate::tls) fn named(refusal: CertError, chain: &[&CertificateDer<'_>], trust: &Trust) -> CertError {
    if !matches!(refusal, CertError::Signature | CertError::Algorithm) {
        return refusal;
    }
    let found = chain.iter().find_map(|der| of_signature(der).or_else(|| of_key(der)));
    found.or_else(|| of_anchor(chain, trust)).unwrap_or(refusal)
}

/// What is weak in the key that a server signs its handshake with.
pub(in crate::tls) fn of_key(der: &CertificateDer<'_>) -> Option<CertError> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let bits = weak_bits(certificate.public_key())?;
    Some(weak(&certificate, format!("has an RSA key of {bits} bits")))
}

/// A root is believed whatever it is signed with.
fn of_signature(der: &CertificateDer<'_>) -> Option<CertError> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let algorithm = certificate.signature_algorithm.algorithm.to_id_string();
    let (_, hash) = BROKEN.iter().find(|(id, _)| *id == algorithm)?;
    let is_root = certificate.subject() == certificate.issuer();
    (!is_root).then(|| weak(&certificate, format!("is signed with {hash}")))
}

/// The trusted CA that has signed one of the chain.
fn of_anchor(chain: &[&CertificateDer<'_>], trust: &Trust) -> Option<CertError> {
    chain.iter().find_map(|der| {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let issuer = name_contents(certificate.issuer());
        trust.anchors().iter().filter(|anchor| anchor.subject.as_ref() == issuer).find_map(|anchor| {
            let key = webpki::spki_for_anchor(anchor);
            let (_, key) = SubjectPublicKeyInfo::from_der(&key).ok()?;
            let what = format!("is signed by a CA with an RSA key of {} bits", weak_bits(&key)?);
            Some(weak(&certificate, what))
        })
    })
}

fn weak(certificate: &X509Certificate<'_>, what: String) -> CertError {
    CertError::Weak { subject: printable(&certificate.subject().to_string()), what }
}

fn weak_bits(key: &SubjectPublicKeyInfo<'_>) -> Option<usize> {
    match key.parsed() {
        Ok(PublicKey::RSA(key)) => Some(key.key_size()).filter(|bits| *bits < LEAST_RSA_BITS),
        _ => None,
    }
}
