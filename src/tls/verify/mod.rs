//! The verdict on a server: its chain, its name, its revocation status, its handshake signature.
//!
//! rustls asks [`Verifier`] and this asks webpki, except where webpki refuses to look (see `x509_v1`), or gives up on what RFC
//! 5280 has an answer to (see `second_opinion`). The handshake
//! signature is verified in every mode, `insecureSkipVerify` included: who has not the key is not even that server.

pub(in crate::tls) mod cert_error;
pub(in crate::tls) mod crl;
pub(in crate::tls) mod name_constraints;
pub(in crate::tls) mod names;
pub(in crate::tls) mod policy_tree;
pub(in crate::tls) mod second_opinion;
pub(in crate::tls) mod signature;
pub(in crate::tls) mod trust;
pub(in crate::tls) mod weakness;
pub(in crate::tls) mod x509_v1;

use std::cell::RefCell;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, PeerMisbehaved, SignatureScheme};
use webpki::{EndEntityCert, KeyUsage, RawPublicKeyEntity};
use x509_parser::asn1_rs::FromDer as _;
use x509_parser::certificate::X509Certificate;

use crate::tls::material::certificate::{CertificateFacts, printable, public_key};
use crate::tls::provider::provider;
use crate::tls::verify::cert_error::{CertError, Subject};
use crate::tls::verify::names::Names;
use crate::tls::verify::trust::Trust;

thread_local! {
    /// What the verifier found, for the session on the same thread that is waiting for rustls to return: rustls's error
    /// has room for the alert but not for the reason.
    static LAST: RefCell<Option<CertError>> = const { RefCell::new(None) };
}

/// The refusal behind the certificate error that rustls returned on this thread just now.
pub(in crate::tls) fn take_cert_error() -> Option<CertError> {
    LAST.take()
}

/// What a server must show.
#[derive(Debug)]
pub(in crate::tls) enum Verifier {
    /// Any certificate, as long as it has the key to it.
    KeyOnly,
    Chain {
        trust: Arc<Trust>,
        names: Names,
    },
}

impl Verifier {
    /// The verdict at `now`.
    pub(in crate::tls) fn judge(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), CertError> {
        match self {
            Verifier::KeyOnly => Ok(()),
            Verifier::Chain { trust, names } => {
                verify_chain(leaf, intermediates, trust, now).map_err(|refusal| {
                    let chain: Vec<_> = std::iter::once(leaf).chain(intermediates).collect();
                    weakness::named(refusal, &chain, trust)
                })?;
                let Ok((_, parsed)) = X509Certificate::from_der(leaf) else {
                    return Err(CertError::Malformed("not an X.509 certificate".to_owned()));
                };
                check_key_usage(&parsed)?;
                names.check(leaf, &parsed, server_name)
            }
        }
    }
}

fn verify_chain(
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    trust: &Trust,
    now: UnixTime,
) -> Result<(), CertError> {
    let seconds = now.as_secs() as i64;
    if trust.pins(leaf) {
        return x509_v1::verify_pinned(leaf, trust, seconds);
    }
    let subject = || subject_of(leaf, trust);
    match EndEntityCert::try_from(leaf) {
        Ok(certificate) => {
            let verdict = match trust.crls() {
                None => build_path(&certificate, intermediates, trust, now, None),
                Some(crls) => {
                    crls.with_options(|rules| build_path(&certificate, intermediates, trust, now, Some(rules)))
                }
            };
            match verdict {
                Err(error) if second_opinion::is_worth_it(&error) => {
                    second_opinion::verify(leaf, intermediates, trust, seconds)
                }
                // Of CAs of one name it tries each key, and what it says of a wrong one hides what it said of the right one.
                Err(webpki::Error::InvalidSignatureForPublicKey) if intermediates.len() > 1 => {
                    second_opinion::verify(leaf, intermediates, trust, seconds)
                }
                verdict => verdict.map_err(|error| CertError::from_webpki(error, subject)),
            }
        }
        Err(webpki::Error::UnsupportedCertVersion) => x509_v1::verify(leaf, intermediates, trust, seconds),
        Err(error) if second_opinion::is_worth_it(&error) => {
            second_opinion::verify(leaf, intermediates, trust, seconds)
        }
        Err(error) => Err(CertError::from_webpki(error, subject)),
    }
}

/// What TLS 1.3 and every key exchange of TLS 1.2 that is spoken here use a server's key for is signing (RFC 8446 §4.4.2.2). A
/// key usage that is not there allows everything.
fn check_key_usage(parsed: &X509Certificate<'_>) -> Result<(), CertError> {
    match parsed.key_usage() {
        Ok(None) => Ok(()),
        Ok(Some(usage)) if usage.value.digital_signature() => Ok(()),
        Ok(Some(_)) => Err(CertError::KeyUsage { subject: printable(&parsed.subject().to_string()) }),
        Err(_) => Err(CertError::Malformed("its key usage is unreadable, or given twice".to_owned())),
    }
}

fn build_path(
    certificate: &EndEntityCert<'_>,
    intermediates: &[CertificateDer<'_>],
    trust: &Trust,
    now: UnixTime,
    revocation: Option<webpki::RevocationOptions<'_>>,
) -> Result<(), webpki::Error> {
    let anchor_in_date = |path: &webpki::VerifiedPath<'_>| {
        x509_v1::check_anchor_dates(trust, path.anchor(), now.as_secs() as i64).map_err(|refusal| match refusal {
            CertError::NotYetValid { from, .. } => webpki::Error::CertNotValidYet { time: now, not_before: time(from) },
            CertError::Expired { since, .. } => webpki::Error::CertExpired { time: now, not_after: time(since) },
            _ => webpki::Error::UnknownIssuer,
        })
    };
    let algorithms = provider().signature_verification_algorithms.all;
    certificate
        .verify_for_usage(
            algorithms,
            trust.anchors(),
            intermediates,
            now,
            KeyUsage::server_auth(),
            revocation,
            Some(&anchor_in_date),
        )
        .map(|_| ())
}

fn time(seconds: i64) -> UnixTime {
    UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds.max(0) as u64))
}

fn subject_of(leaf: &CertificateDer<'_>, trust: &Trust) -> Subject {
    let trust = trust.source().to_owned();
    match CertificateFacts::of(leaf) {
        Some(facts) => {
            let dates = (facts.not_before, facts.not_after);
            Subject { name: facts.subject, issuer: facts.issuer, trust, dates }
        }
        None => Subject { name: "(unreadable)".to_owned(), issuer: "(unreadable)".to_owned(), trust, dates: (0, 0) },
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.judge(end_entity, intermediates, server_name, now).map(|()| ServerCertVerified::assertion()).map_err(
            |refusal| {
                LAST.set(Some(refusal.clone()));
                refusal.into_rustls()
            },
        )
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &provider().signature_verification_algorithms;
        if webpki_reads(cert) {
            return verify_tls12_signature(message, cert, dss, algorithms).map_err(|error| told(error, cert));
        }
        verify_v1_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &provider().signature_verification_algorithms;
        if webpki_reads(cert) {
            return verify_tls13_signature(message, cert, dss, algorithms).map_err(|error| told(error, cert));
        }
        let key = public_key(cert).ok_or(CertificateError::BadEncoding)?;
        verify_tls13_signature_with_raw_key(message, &key, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

/// `error`, with the weakness of the key that the handshake was signed with left for the session, if it has one.
fn told(error: rustls::Error, cert: &CertificateDer<'_>) -> rustls::Error {
    match weakness::of_key(cert) {
        Some(weak) => {
            LAST.set(Some(weak.clone()));
            weak.into_rustls()
        }
        None => error,
    }
}

/// False for X.509 v1 and for critical extensions that webpki does not know: such a key is read by other means.
fn webpki_reads(cert: &CertificateDer<'_>) -> bool {
    use webpki::Error::{UnsupportedCertVersion, UnsupportedCriticalExtension};
    !matches!(EndEntityCert::try_from(cert), Err(UnsupportedCertVersion | UnsupportedCriticalExtension))
}

/// In TLS 1.2 a scheme may stand for several algorithms (a curve for each hash): the key decides which.
fn verify_v1_tls12_signature(
    message: &[u8],
    cert: &CertificateDer<'_>,
    dss: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, rustls::Error> {
    let key = public_key(cert).ok_or(CertificateError::BadEncoding)?;
    let key = RawPublicKeyEntity::try_from(&key).map_err(|_| CertificateError::BadEncoding)?;
    let mapping = provider().signature_verification_algorithms.mapping;
    let candidates = mapping
        .iter()
        .find(|(scheme, _)| *scheme == dss.scheme)
        .map(|(_, algorithms)| *algorithms)
        .ok_or(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme)?;
    for algorithm in candidates {
        match key.verify_signature(*algorithm, message, dss.signature()) {
            Ok(()) => return Ok(HandshakeSignatureValid::assertion()),
            Err(webpki::Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_)) => {}
            Err(_) => break,
        }
    }
    Err(CertificateError::BadSignature.into())
}
