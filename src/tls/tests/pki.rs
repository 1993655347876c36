//! Certificates and servers for the tests of this module: made by rcgen, or by the `openssl` command where it is
//! openssl's way of doing things that matters.

use std::path::PathBuf;
use std::process::Command;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer,
    KeyIdMethod, KeyPair, KeyUsagePurpose, RevocationReason, RevokedCertParams, SerialNumber, date_time_ymd,
};
use rustls::pki_types::CertificateDer;

/// A CA with its key.
pub(crate) struct Authority {
    pub(crate) issuer: Issuer<'static, KeyPair>,
    pub(crate) certificate: Certificate,
}

/// A certificate with its key.
pub(crate) struct Leaf {
    pub(crate) certificate: Certificate,
    pub(crate) key: KeyPair,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        Self::with(name, |_| {})
    }

    /// A self-signed CA after `change`.
    pub(crate) fn with(name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let params = authority_params(name, change);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self { issuer: Issuer::new(params, key), certificate }
    }

    /// A CA below this one.
    pub(crate) fn below(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let params = authority_params(name, change);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Self { issuer: Issuer::new(params, key), certificate }
    }

    /// The same CA certified again by `other`.
    pub(crate) fn cross_signed_by(&self, other: &Authority, name: &str) -> CertificateDer<'static> {
        let params = authority_params(name, |_| {});
        params.signed_by(self.issuer.key(), &other.issuer).unwrap().der().clone()
    }

    /// A server certificate for `names` after `change`.
    pub(crate) fn issue(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Leaf {
        let mut params =
            CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "leaf");
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Leaf { certificate, key }
    }

    pub(crate) fn der(&self) -> CertificateDer<'static> {
        self.certificate.der().clone()
    }

    pub(crate) fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// A revocation list of this CA, due again in 2100, or in 2001 when `stale`.
    pub(crate) fn crl(&self, revoked: &[u64], stale: bool) -> String {
        let next_update = if stale { date_time_ymd(2001, 1, 1) } else { date_time_ymd(2100, 1, 1) };
        let revoked_certs = revoked.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2000, 2, 1),
            reason_code: Some(RevocationReason::KeyCompromise),
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2000, 1, 1),
            next_update,
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked_certs.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().pem().unwrap()
    }
}

fn authority_params(name: &str, change: impl FnOnce(&mut CertificateParams)) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    change(&mut params);
    params
}

impl Leaf {
    pub(crate) fn der(&self) -> CertificateDer<'static> {
        self.certificate.der().clone()
    }

    pub(crate) fn pem(&self) -> String {
        self.certificate.pem()
    }

    pub(crate) fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }
}

/// A folder in which `openssl` commands run.
pub(crate) struct OpensslFolder(tempfile::TempDir);

impl OpensslFolder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// Runs `openssl` with `arguments`, separated by `|`.
    pub(crate) fn run(&self, arguments: &str) {
        let output = Command::new("openssl").args(arguments.split('|')).current_dir(self.0.path()).output();
        let output = output.expect("the openssl command is part of what the tests need");
        assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), text).unwrap();
    }

    pub(crate) fn certificate(&self, name: &str) -> CertificateDer<'static> {
        crate::tls::material::pem::certificates(&self.read(name), name).unwrap().remove(0)
    }

    /// The commands of the document: a root, and leaves of X.509 version 1 with a CN only.
    pub(crate) fn document_pki(&self) {
        self.run("req|-x509|-sha256|-nodes|-days|365|-newkey|rsa:2048|-subj|/O=example Inc./CN=example.com|-keyout|example.com.key|-out|example.com.crt");
        self.document_leaf("my-nginx", "/CN=my-nginx.mesh-external.svc.cluster.local/O=some organization", "0");
        self.document_leaf("client", "/CN=client.example.com/O=client organization", "1");
    }

    pub(crate) fn document_leaf(&self, name: &str, subject: &str, serial: &str) {
        self.run(&format!("req|-out|{name}.csr|-newkey|rsa:2048|-nodes|-keyout|{name}.key|-subj|{subject}"));
        self.run(&format!("x509|-req|-sha256|-days|365|-CA|example.com.crt|-CAkey|example.com.key|-set_serial|{serial}|-in|{name}.csr|-out|{name}.crt"));
    }
}
