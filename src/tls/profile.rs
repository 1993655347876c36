//! One way of speaking TLS to a destination, once the material of a [`ProfileRequest`] is loaded.
//!
//! A profile is immutable and compares by digest: connections and session tickets are reused only under the same
//! trust, revocation lists, names, identity, SNI rule and ALPN. It does not know which destination uses it.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use rustls::ClientConfig;
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::pki_types::{DnsName, ServerName};
use rustls::sign::SingleCertAndKey;

pub use crate::config::MinimumVersion;
use crate::flow::Host;
use crate::tls::material::client_certificate::NoClientCertificate;
use crate::tls::material::identity::Identity;
use crate::tls::provider::provider;
use crate::tls::request::{Alpn, NameCheck, ProfileMode, ProfileRequest, SniSource, TrustSource};
use crate::tls::verify::Verifier;
use crate::tls::verify::names::Names;
use crate::tls::verify::trust::{Trust, finished};

/// Session tickets kept by one worker for one profile: 32 server names, 8 tickets each. rustls reserves the room for the
/// names at once.
const SESSIONS: usize = 8 * 32;

/// Why a profile cannot be, or cannot be used for a host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    /// mode MUTUAL without a client certificate
    #[error("mode MUTUAL needs clientCertificate and privateKey, or credentialName")]
    NoIdentity,
    /// nothing to verify servers with
    #[error("no CA to verify servers with, and insecureSkipVerify is not set")]
    NoTrust,
    /// the name to check would not be the name that is sent
    #[error("a fixed sni cannot go with a check of the request's host: give subjectAltNames, or leave sni out")]
    FixedSniFromHost,
    /// an empty list of names
    #[error("the list of subjectAltNames to check is empty")]
    NoNames,
    /// the host is no name that TLS can carry
    #[error(
        "{0} is not a name that TLS can ask for: a label begins or ends with a hyphen, or is longer than 63 characters; use \
         another name for the server (`sni` and `subjectAltNames` of the DestinationRule), or TLS passed through"
    )]
    ServerName(String),
}

/// A loaded [`ProfileRequest`].
pub struct ClientProfile {
    request: ProfileRequest,
    minimum: MinimumVersion,
    verifier: Arc<Verifier>,
    identity: Option<Arc<Identity>>,
    trust: Option<Arc<Trust>>,
    /// What is sent instead of the request's host.
    fixed_name: Option<Host>,
    digest: [u8; 32],
}

impl ClientProfile {
    /// Puts a request and its material together; only [`TrustSource::Unverified`] needs no `trust`.
    ///
    /// # Errors
    /// What the request asks for cannot be had together.
    pub fn new(
        request: ProfileRequest,
        trust: Option<Arc<Trust>>,
        identity: Option<Arc<Identity>>,
        minimum: MinimumVersion,
    ) -> Result<Self, ProfileError> {
        let identity = identity.filter(|_| request.mode == ProfileMode::Mutual);
        if request.mode == ProfileMode::Mutual && identity.is_none() {
            return Err(ProfileError::NoIdentity);
        }
        let trust = trust.filter(|_| request.trust != TrustSource::Unverified);
        let verifier = match (&trust, &request.trust) {
            (Some(trust), _) => {
                check_names(&request)?;
                Verifier::Chain { trust: Arc::clone(trust), names: Names::new(&request.names) }
            }
            (None, TrustSource::Unverified) => Verifier::KeyOnly,
            (None, _) => return Err(ProfileError::NoTrust),
        };
        let digest = digest_of(&request, trust.as_deref(), identity.as_deref(), minimum);
        let fixed_name = match &request.sni {
            SniSource::Fixed(name) => Some(Host::Name(name.clone())),
            SniSource::FromHost | SniSource::Omit => None,
        };
        Ok(Self { request, minimum, verifier: Arc::new(verifier), identity, trust, fixed_name, digest })
    }

    /// Identity of everything that makes connections interchangeable: mode, trust, CRLs, names, client certificate, SNI
    /// rule, ALPN, protocol versions. Pools are keyed by it.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }

    #[must_use]
    pub fn request(&self) -> &ProfileRequest {
        &self.request
    }

    #[must_use]
    pub fn trust(&self) -> Option<&Arc<Trust>> {
        self.trust.as_ref()
    }

    #[must_use]
    pub fn identity(&self) -> Option<&Arc<Identity>> {
        self.identity.as_ref()
    }

    /// A fresh configuration with its own session cache: one for each worker, so that no lock is shared and no ticket
    /// crosses to another profile.
    #[must_use]
    pub fn client_config(&self) -> Arc<ClientConfig> {
        self.client_config_offering(self.request.alpn)
    }

    /// The same for connections that offer `alpn` instead of what the request says.
    #[must_use]
    pub fn client_config_offering(&self, alpn: Alpn) -> Arc<ClientConfig> {
        let versions: &[&rustls::SupportedProtocolVersion] = match self.minimum {
            MinimumVersion::Tls12 => &[&rustls::version::TLS13, &rustls::version::TLS12],
            MinimumVersion::Tls13 => &[&rustls::version::TLS13],
        };
        let resolver: Arc<dyn ResolvesClientCert> = match &self.identity {
            Some(identity) => Arc::new(SingleCertAndKey::from(Arc::clone(&identity.key))),
            None => Arc::new(NoClientCertificate),
        };
        let mut config = ClientConfig::builder_with_provider(Arc::clone(provider()))
            .with_protocol_versions(versions)
            .expect("the provider has cipher suites for both versions")
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&self.verifier) as _)
            .with_client_cert_resolver(resolver);
        config.enable_sni = self.request.sni != SniSource::Omit;
        config.enable_early_data = false;
        // Application data is sealed by our own record layer, which needs the keys.
        config.enable_secret_extraction = true;
        config.resumption = Resumption::in_memory_sessions(SESSIONS);
        let offered = alpn.protocols().iter();
        config.alpn_protocols = offered.map(|protocol| protocol.name().as_bytes().to_vec()).collect();
        Arc::new(config)
    }

    /// The name to open a session with for a request to `host` (for a connection without a request: its address). It is
    /// what is sent as SNI, unless none is sent, and what the verifier checks where it checks the host.
    ///
    /// # Errors
    /// `host` is a name that certificates cannot hold.
    pub fn session_name<'n>(&'n self, host: &'n Host) -> Result<&'n Host, ProfileError> {
        let name = self.fixed_name.as_ref().unwrap_or(host);
        match name {
            Host::Name(text) if DnsName::try_from(text.as_str()).is_err() => {
                Err(ProfileError::ServerName(text.to_string()))
            }
            _ => Ok(name),
        }
    }

    /// [`session_name`](Self::session_name) in the form that rustls wants.
    ///
    /// # Errors
    /// As there.
    pub fn server_name(&self, host: &Host) -> Result<ServerName<'static>, ProfileError> {
        match self.session_name(host)? {
            Host::Ip(ip) => Ok(ServerName::IpAddress((*ip).into())),
            Host::Name(name) => DnsName::try_from(name.as_str().to_owned())
                .map(ServerName::DnsName)
                .map_err(|_| ProfileError::ServerName(name.to_string())),
        }
    }
}

impl fmt::Debug for ClientProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientProfile")
            .field("request", &self.request)
            .field("trust", &self.trust)
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

fn check_names(request: &ProfileRequest) -> Result<(), ProfileError> {
    let from_host = matches!(request.names, NameCheck::FromHost | NameCheck::FromHostAnd(_));
    if from_host && matches!(request.sni, SniSource::Fixed(_)) {
        return Err(ProfileError::FixedSniFromHost);
    }
    match &request.names {
        NameCheck::Exact(list) | NameCheck::FromHostAnd(list) if list.is_empty() => Err(ProfileError::NoNames),
        _ => Ok(()),
    }
}

fn digest_of(
    request: &ProfileRequest,
    trust: Option<&Trust>,
    identity: Option<&Identity>,
    minimum: MinimumVersion,
) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    // Where material was read from is left out: the same CA in another file is the same trust.
    let rules = format!("{:?}|{:?}|{:?}|{:?}|{minimum:?}", request.mode, request.names, request.sni, request.alpn);
    context.update(&(rules.len() as u64).to_be_bytes());
    context.update(rules.as_bytes());
    for part in [trust.map(Trust::digest), identity.map(Identity::digest)] {
        context.update(&[u8::from(part.is_some())]);
        context.update(&part.unwrap_or_default());
    }
    finished(context)
}
