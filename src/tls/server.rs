//! The other side of TLS: what the admission webhook answers with. Nothing that egret carries for an application is
//! ever accepted over TLS, so this knows one certificate, no client certificates and no HTTP/2.

use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::sign::SingleCertAndKey;

use crate::tls::material::MaterialError;
use crate::tls::material::identity::Identity;
use crate::tls::provider::provider;

/// TLS 1.2 and 1.3 with the certificate chain and the private key of two PEM files.
///
/// # Errors
/// What is wrong with which file.
pub fn server_config(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, MaterialError> {
    let read = |path: &Path| {
        let place = path.display().to_string();
        std::fs::read(path).map_err(|e| MaterialError::Unreadable { place, reason: e.to_string() })
    };
    let (chain, private) = (read(certificate)?, read(key)?);
    let places = [certificate, key].map(|path| path.display().to_string());
    let identity = Identity::from_pem((&chain, &places[0]), (&private, &places[1]))?;
    let mut config = ServerConfig::builder_with_provider(Arc::clone(provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider has TLS 1.2 and 1.3")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(identity.key)));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
