//! The cryptography of the whole process, and the order in which its cipher suites are offered.

use std::sync::{Arc, OnceLock};

use rustls::SupportedCipherSuite;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::cipher_suite;

/// The cryptography of the whole process: aws-lc-rs, X25519MLKEM768 preferred.
pub(crate) fn provider() -> &'static Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| {
        let cipher_suites = CIPHER_SUITES.to_vec();
        Arc::new(CryptoProvider { cipher_suites, ..rustls::crypto::aws_lc_rs::default_provider() })
    })
}

/// Draws a few random bytes on the thread that asks. The first on a thread cost tens of milliseconds: the generator gathers
/// its own randomness then, which must not be the first connection's affair.
pub fn seed_randomness() {
    // Without any, the handshake that needs some fails and says so.
    let _ = provider().secure_random.fill(&mut [0; 32]);
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
