//! TLS origination: trust, identity, verification, sessions.
//!
//! A [`ProfileRequest`] says what a policy wants; [`Store`] finds the material for it and makes a [`ClientProfile`],
//! which is immutable and shared; each worker makes one rustls configuration of it and opens [`Session`]s with that.
//! Only this module knows rustls. It does no I/O except reading credential files, and it never decides whether a
//! destination may be reached at all.

mod error;
mod material;
mod profile;
mod provider;
mod request;
mod server;
mod session;
mod verify;

#[cfg(test)]
mod tests;

pub use error::{Alert, Spoken, TlsError};
pub use material::MaterialError;
pub use material::certificate::CertificateFacts;
pub use material::identity::Identity;
pub use material::secrets_view::{Credential, SecretKind, SecretRow, SecretStatus, secrets_json, secrets_text};
pub use material::store::{Refresh, Store, StoreOptions};
pub use profile::{ClientProfile, MinimumVersion, ProfileError};
pub use provider::seed_randomness;
pub use request::{Alpn, AlpnProtocol, IdentitySource, NameCheck, ProfileMode, ProfileRequest, SniSource, TrustSource};
pub use server::server_config;
pub use session::Session;
pub use session::negotiated::Negotiated;
pub use verify::cert_error::CertError;
pub use verify::trust::Trust;
