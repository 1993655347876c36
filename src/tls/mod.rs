//! TLS origination: trust, identity, verification, sessions.
//!
//! A [`ProfileRequest`] says what a policy wants; [`Store`] finds the material for it and makes a [`ClientProfile`],
//! which is immutable and shared; each worker makes one rustls configuration of it and opens [`Session`]s with that.
//! Only this module knows rustls. It does no I/O except reading credential files, and it never decides whether a
//! destination may be reached at all.

mod aead;
mod certificate;
mod channel;
mod client_certificate;
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
mod negotiated;
mod pem;
mod profile;
mod provider;
mod record;
mod refusal;
mod request;
mod secrets;
mod server;
mod session;
mod signature;
mod store;
mod table;
mod trust;
mod verify;

#[cfg(test)]
mod tests;

pub use certificate::CertificateFacts;
pub use error::{Alert, Spoken, TlsError};
pub use identity::Identity;
pub use material::MaterialError;
pub use negotiated::{Negotiated, NegotiatedAlpn};
pub use profile::{ClientProfile, MinimumVersion, ProfileError};
pub use refusal::Refusal;
pub use request::{Alpn, IdentitySource, NameCheck, ProfileMode, ProfileRequest, SniSource, TrustSource};
pub use server::server_config;
pub use session::Session;
pub use store::{Refresh, Store, StoreOptions};
pub use table::{Credential, SecretKind, SecretRow, SecretStatus, secrets_json, secrets_text};
pub use trust::Trust;
