//! Why a server's certificate was refused: one closed list, in the words that stand in the log.
//!
//! rustls's own errors carry either the alert for the server or a text for people; this keeps both.

use std::sync::Arc;

use rustls::{CertificateError, OtherError};

use crate::tls::material::certificate::rfc3339;

/// A certificate that was not believed. Times are seconds since the epoch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertError {
    /// after the validity dates of the certificate or of one above it
    #[error("certificate has expired: {subject} was valid until {}", rfc3339(*since))]
    Expired { subject: String, since: i64 },
    /// before them
    #[error("certificate is not yet valid: {subject} is valid from {}", rfc3339(*from))]
    NotYetValid { subject: String, from: i64 },
    /// no trusted CA signed it
    #[error("untrusted issuer: {subject} was issued by {issuer}, which is not among {trust}")]
    UntrustedIssuer { subject: String, issuer: String, trust: String },
    /// it is its own issuer and not itself trusted
    #[error("self-signed certificate {subject} is not among {trust}")]
    SelfSigned { subject: String, trust: String },
    /// none of its names is the one that was asked for
    #[error("name mismatch: wanted {wanted}, the certificate is for {}", listed(presented))]
    WrongName { wanted: String, presented: Vec<String> },
    /// it has no name that counts
    #[error(
        "certificate has no subjectAltName ({}); set `sni` without subjectAltNames to verify the chain only, or reissue it with a subjectAltName",
        if *v1 { "X.509 v1, CN only" } else { "a CN is not a name, RFC 9525" }
    )]
    NoName { v1: bool },
    /// a CRL lists it or one above it
    #[error("certificate revoked: {subject}")]
    Revoked { subject: String },
    /// CRLs are configured and none speaks for it
    #[error(
        "unable to get certificate CRL: none of the configured CRLs was issued by the issuer of {subject} or of a CA above it"
    )]
    NoCrl { subject: String },
    /// the CRL that speaks for it is out of date
    #[error("CRL has expired: its next update was due {}", rfc3339(*since))]
    CrlExpired { since: i64 },
    /// a CRL's signature is not its issuer's
    #[error("CRL signature failure: {0}")]
    CrlSignature(String),
    /// it is not meant for servers
    #[error("unsuitable certificate purpose: the extended key usage of {subject} does not include serverAuth")]
    Purpose { subject: String },
    /// its key may not sign
    #[error(
        "unsuitable certificate purpose: the key usage of {subject} does not include digitalSignature; reissue it with \
         that, or without a key usage"
    )]
    KeyUsage { subject: String },
    /// a critical extension that is not known
    #[error("bad certificate: {subject} has a critical extension that is not known here, {oid}; reissue it without")]
    UnknownExtension { subject: String, oid: String },
    /// a signature does not verify
    #[error("certificate signature failure")]
    Signature,
    /// a signature or key of a kind that is not accepted
    #[error(
        "unsupported certificate signature algorithm or key of the server or of a CA above it (SHA-224, SHA-1, MD5, DSA and \
         RSA below 2048 bits are refused): reissue it with SHA-256 or more"
    )]
    Algorithm,
    /// the same, where it is known of which certificate and why
    #[error(
        "unsupported certificate signature algorithm or key: {subject} {what}; ask its owner for one that is signed with SHA-256, with an RSA key of at least 2048 bits or an elliptic curve"
    )]
    Weak { subject: String, what: String },
    /// names or path lengths that a CA above it forbids
    #[error("certificate breaks a constraint of its issuer: {0}")]
    Constraint(String),
    /// anything else that makes it no certificate for a server
    #[error("bad certificate: {0}")]
    Malformed(String),
}

impl CertError {
    /// What webpki found wrong with `subject`'s chain.
    pub(in crate::tls) fn from_webpki(error: webpki::Error, subject: impl Fn() -> Subject) -> Self {
        use webpki::Error as E;
        match error {
            E::CertExpired { not_after, .. } => {
                let since = not_after.as_secs() as i64;
                CertError::Expired { subject: subject().dated(since), since }
            }
            E::CertNotValidYet { not_before, .. } => {
                let from = not_before.as_secs() as i64;
                CertError::NotYetValid { subject: subject().dated(from), from }
            }
            E::UnknownIssuer => subject().untrusted(),
            E::CertRevoked => CertError::Revoked { subject: subject().name },
            E::UnknownRevocationStatus => CertError::NoCrl { subject: subject().name },
            E::CrlExpired { next_update, .. } => CertError::CrlExpired { since: next_update.as_secs() as i64 },
            E::InvalidCrlSignatureForPublicKey
            | E::IssuerNotCrlSigner
            | E::UnsupportedCrlSignatureAlgorithmContext(_)
            | E::UnsupportedCrlSignatureAlgorithmForPublicKeyContext(_) => CertError::CrlSignature(words(&error)),
            E::RequiredEkuNotFoundContext(_) | E::EmptyEkuExtension => CertError::Purpose { subject: subject().name },
            E::InvalidSignatureForPublicKey => CertError::Signature,
            E::UnsupportedSignatureAlgorithmContext(_) | E::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => {
                CertError::Algorithm
            }
            E::NameConstraintViolation | E::PathLenConstraintViolated | E::EndEntityUsedAsCa => {
                CertError::Constraint(words(&error))
            }
            E::CaUsedAsEndEntity if subject().self_signed() => subject().untrusted(),
            other => CertError::Malformed(words(&other)),
        }
    }

    /// As rustls wants it: the variant chooses the alert that the server sees.
    pub(in crate::tls) fn into_rustls(self) -> rustls::Error {
        let error = match self {
            CertError::Expired { .. } => CertificateError::Expired,
            CertError::NotYetValid { .. } => CertificateError::NotValidYet,
            CertError::UntrustedIssuer { .. } | CertError::SelfSigned { .. } => CertificateError::UnknownIssuer,
            CertError::WrongName { .. } | CertError::NoName { .. } => CertificateError::NotValidForName,
            CertError::Revoked { .. } => CertificateError::Revoked,
            CertError::NoCrl { .. } => CertificateError::UnknownRevocationStatus,
            CertError::CrlExpired { .. } => CertificateError::ExpiredRevocationList,
            CertError::Purpose { .. } | CertError::KeyUsage { .. } => CertificateError::InvalidPurpose,
            CertError::UnknownExtension { .. } => CertificateError::UnhandledCriticalExtension,
            CertError::Signature => CertificateError::BadSignature,
            CertError::Malformed(_) => CertificateError::BadEncoding,
            other => CertificateError::Other(OtherError(Arc::new(other))),
        };
        error.into()
    }
}

/// Who a refusal is about.
pub(in crate::tls) struct Subject {
    pub(in crate::tls) name: String,
    pub(in crate::tls) issuer: String,
    /// Where the trusted CAs come from, in words.
    pub(in crate::tls) trust: String,
    /// First and last second of its validity.
    pub(in crate::tls) dates: (i64, i64),
}

impl Subject {
    /// Whose date it is that was not kept: webpki does not say which certificate of a path it means.
    fn dated(self, date: i64) -> String {
        let own = date == self.dates.0 || date == self.dates.1;
        if own { self.name } else { format!("a CA above {}", self.name) }
    }

    fn self_signed(&self) -> bool {
        self.name == self.issuer
    }

    pub(in crate::tls) fn untrusted(self) -> CertError {
        if self.self_signed() {
            return CertError::SelfSigned { subject: self.name, trust: self.trust };
        }
        CertError::UntrustedIssuer { subject: self.name, issuer: self.issuer, trust: self.trust }
    }
}

/// `UnsupportedCriticalExtension` → `unsupported critical extension`.
fn words(error: &webpki::Error) -> String {
    let name = format!("{error:?}");
    let name = name.split(['(', '{']).next().unwrap_or_default().trim();
    let mut text = String::with_capacity(name.len() + 8);
    for (at, letter) in name.char_indices() {
        if letter.is_ascii_uppercase() && at > 0 {
            text.push(' ');
        }
        text.push(letter.to_ascii_lowercase());
    }
    text
}

/// At most ten names: a certificate may have thousands.
fn listed(names: &[String]) -> String {
    const SHOWN: usize = 10;
    let shown: Vec<String> = names.iter().take(SHOWN).map(|name| name.escape_debug().to_string()).collect();
    match names.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn webpki_speaks_in_words() {
        assert_eq!(words(&webpki::Error::UnsupportedCriticalExtension), "unsupported critical extension");
    }

    #[test]
    fn long_lists_of_names_are_cut() {
        let names: Vec<String> = (0..12).map(|n| format!("n{n}")).collect();
        assert!(listed(&names).ends_with("n9 and 2 more"));
    }
}
