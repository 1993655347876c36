//! The answer to a server that asks for a client certificate where the policy has none.

use std::cell::Cell;
use std::sync::Arc;

use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;

thread_local! {
    /// Set when a server asks for a certificate, for the session on the same thread that is feeding rustls.
    static CERTIFICATE_WANTED: Cell<bool> = const { Cell::new(false) };
}

/// Whether a certificate was asked for since the last call.
pub(in crate::tls) fn take_certificate_wanted() -> bool {
    CERTIFICATE_WANTED.take()
}

/// The answer of mode SIMPLE to a server that asks for a certificate: none, and a note for the error text in case the
/// server insists.
#[derive(Debug)]
pub(in crate::tls) struct NoClientCertificate;

impl ResolvesClientCert for NoClientCertificate {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<rustls::sign::CertifiedKey>> {
        CERTIFICATE_WANTED.set(true);
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}
