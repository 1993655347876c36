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

use rustls::crypto::CryptoProvider;

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
    PROVIDER.get_or_init(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
}
