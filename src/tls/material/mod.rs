//! What can be wrong with credentials as an operator wrote them: certificates, keys, CAs, CRLs.
//!
//! Every message names the file or the secret's key it is about and says what to do; none shows key material.

pub(in crate::tls) mod certificate;
pub(in crate::tls) mod client_certificate;
pub(in crate::tls) mod identity;
pub(in crate::tls) mod pem;
pub(in crate::tls) mod secrets;
pub(in crate::tls) mod secrets_view;
pub(in crate::tls) mod store;

/// Why credentials cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MaterialError {
    /// the file cannot be read
    #[error("cannot read {place}: {reason}")]
    Unreadable { place: String, reason: String },
    /// the text is not PEM
    #[error("{place}: not valid PEM: {reason}")]
    Pem { place: String, reason: String },
    /// there is no certificate in it
    #[error("{place}: no certificate in it; expected PEM that begins with -----BEGIN CERTIFICATE-----")]
    NoCertificate { place: String },
    /// a certificate in it cannot be used
    #[error("{place}: unusable certificate: {reason}")]
    BadCertificate { place: String, reason: String },
    /// there is no private key in it
    #[error("{place}: no private key in it; expected PEM in PKCS#8, PKCS#1 or SEC1 form")]
    NoKey { place: String },
    /// the private key needs a passphrase
    #[error(
        "{place}: the private key is encrypted and nobody can type its passphrase here; decrypt it with `openssl pkey -in KEY -out PLAIN-KEY`"
    )]
    EncryptedKey { place: String },
    /// the private key is of a kind that cannot sign in TLS
    #[error("{place}: unusable private key: {reason}; use RSA of 2048 bits or more, ECDSA P-256, P-384 or Ed25519")]
    BadKey { place: String, reason: String },
    /// certificate and key are not a pair
    #[error(
        "the private key {key} does not belong to the certificate {certificate}; replace both together (if they are being replaced right now this passes)"
    )]
    Mismatch { certificate: String, key: String },
    /// there is no CRL in it
    #[error("{place}: no certificate revocation list in it; expected PEM that begins with -----BEGIN X509 CRL-----")]
    NoCrl { place: String },
    /// a CRL in it cannot be used
    #[error("{place}: unusable certificate revocation list: {reason}")]
    BadCrl { place: String, reason: String },
    /// no bundle of CA certificates was found
    #[error(
        "no CA bundle of the operating system found (looked for {searched}); install ca-certificates, set SSL_CERT_FILE, or give caCertificates"
    )]
    NoSystemBundle { searched: String },
    /// the secret does not exist
    #[error("secret {namespace}/{name} not found")]
    SecretNotFound { namespace: String, name: String },
    /// the secret's keys for this purpose are there, but one has no value
    #[error("found keys {first:?} and {second:?}, but they were empty")]
    EmptyPair { first: &'static str, second: &'static str },
    /// the secret has a CA key without a value
    #[error("found key {key:?}, but it was empty")]
    EmptyKey { key: &'static str },
    /// the secret has none of the keys that hold a certificate and its key
    #[error("found secret, but didn't have expected keys (cert and key) or (tls.crt and tls.key); found: {found}")]
    NoPairKeys { found: String },
    /// the secret has none of the keys that hold a CA certificate
    #[error("found secret, but didn't have expected keys cacert or ca.crt; found: {found}")]
    NoCaKeys { found: String },
    /// the name cannot be that of a secret
    #[error("{name:?} is not the name of a secret (lower-case letters, digits, '-' and '.')")]
    SecretName { name: String },
    /// the request asks for what cannot be had together
    #[error("{0}")]
    Request(&'static str),
}
