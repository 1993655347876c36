//! TLS origination: trust, identity, verification, sessions.
//!
//! A [`ProfileRequest`] says what a policy wants; [`Store`] finds the material for it and makes a [`ClientProfile`],
//! which is immutable and shared; each worker makes one rustls configuration of it and opens [`Session`]s with that.
//! Only this module knows rustls. It does no I/O except reading credential files, and it never decides whether a
//! destination may be reached at all.

mod aead;
mod alert;
mod cert_error;
mod certificate;
mod channel;
mod client_certificate;
mod crl;
mod error;
mod handshake;
mod identity;
mod iovec_reader;
mod material;
mod names;
mod negotiated;
mod pem;
mod profile;
mod provider;
mod record;
mod record_deframer;
mod request;
mod secrets;
mod secrets_view;
mod server;
mod session;
mod signature;
mod store;
mod trust;
mod verify;
mod x509_v1;

#[cfg(test)]
mod tests;

pub use cert_error::CertError;
pub use certificate::CertificateFacts;
pub use error::{Alert, Spoken, TlsError};
pub use identity::Identity;
pub use material::MaterialError;
pub use negotiated::Negotiated;
pub use profile::{ClientProfile, MinimumVersion, ProfileError};
pub use request::{Alpn, AlpnProtocol, IdentitySource, NameCheck, ProfileMode, ProfileRequest, SniSource, TrustSource};
pub use secrets_view::{Credential, SecretKind, SecretRow, SecretStatus, secrets_json, secrets_text};
pub use server::server_config;
pub use session::Session;
pub use store::{Refresh, Store, StoreOptions};
pub use trust::Trust;
