//! Credentials with something special about them, revocation lists, and secrets as the kubelet mounts them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType, IsCa, KeyIdMethod,
    KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};

use super::Lab;
use super::pki::Pair;

/// A CA whose leaves a test may change in every field.
pub struct Issuing(CertifiedIssuer<'static, KeyPair>);

impl Issuing {
    pub fn new(name: &str) -> Self {
        Self::with(name, |_| {})
    }

    pub fn with(name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        Self(CertifiedIssuer::self_signed(params_of_ca(name, change), new_key()).expect("a valid root"))
    }

    /// A CA below this one.
    pub fn below(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        Self(CertifiedIssuer::signed_by(params_of_ca(name, change), new_key(), &self.0).expect("a valid CA"))
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A leaf with subjectAltNames `names` after `change`.
    pub fn issue(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Pair {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names of a certificate");
        params.distinguished_name.push(DnType::CommonName, "leaf");
        change(&mut params);
        let key = new_key();
        let certificate = params.signed_by(&key, &self.0).expect("a valid leaf").pem();
        Pair { certificate, key: key.serialize_pem() }
    }

    /// A client certificate with this serial number.
    pub fn client(&self, serial: u64) -> Pair {
        self.issue(&["client.example.com"], |params| params.serial_number = Some(serial.into()))
    }

    /// A revocation list, due again in `next_update`.
    pub fn crl(&self, revoked: &[u64], next_update: i32) -> String {
        let revoked = revoked.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2000, 2, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2000, 1, 1),
            next_update: date_time_ymd(next_update, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.0).and_then(|list| list.pem()).expect("a valid list")
    }
}

fn params_of_ca(name: &str, change: impl FnOnce(&mut CertificateParams)) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    change(&mut params);
    params
}

fn new_key() -> KeyPair {
    KeyPair::generate().expect("the system has randomness")
}

/// A secret in a folder as the kubelet mounts it: every file a link through `..data`, which is renamed over.
pub struct Mounted {
    folder: PathBuf,
    generation: usize,
}

impl Mounted {
    pub fn new(lab: &Lab, name: &str, files: &[(&str, &str)]) -> Self {
        let folder = secrets_dir(lab).join(name);
        fs::create_dir_all(&folder).expect("the lab's folder is ours");
        for (key, _) in files {
            symlink(Path::new("..data").join(key), folder.join(key)).expect("a new folder");
        }
        let mut mounted = Self { folder, generation: 0 };
        mounted.swap(files);
        mounted
    }

    /// Another generation of the same keys.
    pub fn swap(&mut self, files: &[(&str, &str)]) {
        let name = |generation: usize| format!("..generation_{generation}");
        self.generation += 1;
        let fresh = self.folder.join(name(self.generation));
        fs::create_dir(&fresh).expect("a new name");
        for (key, text) in files {
            fs::write(fresh.join(key), text).expect("a new file");
        }
        let link = self.folder.join("..data_tmp");
        symlink(name(self.generation), &link).expect("no such link");
        fs::rename(link, self.folder.join("..data")).expect("a rename within one folder");
        if self.generation > 1 {
            fs::remove_dir_all(self.folder.join(name(self.generation - 1))).expect("the older generation");
        }
    }

    pub fn path(&self, key: &str) -> PathBuf {
        self.folder.join(key)
    }
}

/// What `egret run --secrets` is given.
pub fn secrets_dir(lab: &Lab) -> PathBuf {
    lab.dir().join("secrets")
}

/// The files of a secret by the keys that Kubernetes gives them.
pub fn tls_secret<'a>(pair: &'a Pair, ca: &'a str) -> [(&'static str, &'a str); 3] {
    [("tls.crt", &pair.certificate), ("tls.key", &pair.key), ("ca.crt", ca)]
}
