//! TLS origination: trust, identity, verification, sessions.
//!
//! A [`ProfileRequest`] says what a policy wants; [`Store`] finds the material for it and makes a [`ClientProfile`],
//! which is immutable and shared; each worker makes one rustls configuration of it and opens [`Session`]s with that.
//! Only this module knows rustls. It does no I/O except reading credential files, and it never decides whether a
//! destination may be reached at all.

mod aead;
mod certificate;
mod channel;
mod crl;
mod cutter;
mod error;
mod fault;
mod gather;
mod handshake;
mod identity;
mod legacy;
mod material;
mod names;
mod pem;
mod profile;
mod record;
mod refusal;
mod secrets;
mod server;
mod session;
mod store;
mod table;
mod trust;
mod verify;

#[cfg(test)]
mod conversations;
#[cfg(test)]
mod credentials;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod verdicts;

use std::sync::{Arc, OnceLock};

use rustls::SupportedCipherSuite;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::cipher_suite;

pub use certificate::CertificateFacts;
pub use error::{Alert, Spoken, TlsError};
pub use identity::Identity;
pub use material::MaterialError;
pub use profile::{
    Alpn, ClientProfile, IdentitySource, MinimumVersion, NameCheck, ProfileError, ProfileMode, ProfileRequest,
    SniSource, TrustSource,
};
pub use refusal::Refusal;
pub use server::server_config;
pub use session::{Negotiated, NegotiatedAlpn, Session};
pub use store::{Refresh, Store, StoreOptions};
pub use table::{Credential, SecretKind, SecretRow, SecretStatus, secrets_json, secrets_text};
pub use trust::Trust;

/// The cryptography of the whole process: aws-lc-rs, X25519MLKEM768 preferred.
pub(crate) fn provider() -> &'static Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| {
        let cipher_suites = CIPHER_SUITES.to_vec();
        Arc::new(CryptoProvider { cipher_suites, ..rustls::crypto::aws_lc_rs::default_provider() })
    })
}

/// All that rustls has, AES-128 before AES-256: its key schedule is SHA-256's, for which processors have instructions.
/// SHA-384's is a sixth of a resumed handshake.
static CIPHER_SUITES: [SupportedCipherSuite; 9] = [
    cipher_suite::TLS13_AES_128_GCM_SHA256,
    cipher_suite::TLS13_AES_256_GCM_SHA384,
    cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cipher_suite_of_the_library_is_offered_in_our_order() {
        let name = |suite: &SupportedCipherSuite| format!("{:?}", suite.suite());
        let (ours, theirs) = (CIPHER_SUITES.map(|suite| name(&suite)), rustls::crypto::aws_lc_rs::ALL_CIPHER_SUITES);
        let mut theirs: Vec<String> = theirs.iter().map(name).collect();
        let mut sorted = ours.to_vec();
        sorted.sort();
        theirs.sort();
        assert_eq!(sorted, theirs);
        assert_eq!(ours[0], "TLS13_AES_128_GCM_SHA256");
        assert!(provider().cipher_suites == CIPHER_SUITES);
    }
}
