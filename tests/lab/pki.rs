//! Certificates: a root, leaves with one thing wrong each, and the document's own openssl commands.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};

use super::process::run;

pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// What kind of leaf to make; the middle ones have exactly one fault each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaf {
    Good,
    Expired,
    NotYetValid,
    /// Signed by its own key.
    SelfSigned,
    /// Valid for a season that began half an hour ago; all others, where they do not say otherwise, for centuries.
    Seasonal,
}

/// Certificate and key in PEM.
#[derive(Clone, Debug)]
pub struct Pair {
    pub certificate: String,
    pub key: String,
}

/// Where a [`Pair`] was written.
#[derive(Clone, Debug)]
pub struct PairFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Authority {
    pub fn new(name: &str) -> Authority {
        let mut params = CertificateParams::new(Vec::new()).expect("no names to be wrong");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, new_key()).expect("a valid root");
        Authority { issuer }
    }

    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A leaf for `host` (a DNS name or an address).
    pub fn issue(&self, host: &str, kind: Leaf) -> Pair {
        let mut params = CertificateParams::new([host.to_owned()]).expect("a host name or an address");
        params.distinguished_name.push(DnType::CommonName, host);
        match kind {
            Leaf::Expired => params.not_after = date_time_ymd(2001, 1, 1),
            Leaf::NotYetValid => params.not_before = date_time_ymd(4000, 1, 1),
            Leaf::Seasonal => {
                let half_an_hour_ago = SystemTime::now() - Duration::from_secs(30 * 60);
                let since_1970 = half_an_hour_ago.duration_since(UNIX_EPOCH).expect("a clock after 1970");
                params.not_before = date_time_ymd(1970, 1, 1) + since_1970;
                params.not_after = params.not_before + Duration::from_secs(90 * 24 * 3600);
            }
            Leaf::Good | Leaf::SelfSigned => {}
        }
        let key = new_key();
        let certificate = match kind {
            Leaf::SelfSigned => params.self_signed(&key),
            _ => params.signed_by(&key, &self.issuer),
        };
        Pair { certificate: certificate.expect("a valid leaf").pem(), key: key.serialize_pem() }
    }
}

impl Pair {
    pub fn write(&self, folder: &Path, name: &str) -> PairFiles {
        let files =
            PairFiles { certificate: folder.join(format!("{name}.crt")), key: folder.join(format!("{name}.key")) };
        fs::write(&files.certificate, &self.certificate).expect("the lab's folder is writable");
        fs::write(&files.key, &self.key).expect("the lab's folder is writable");
        files
    }
}

/// The certificates of Istio's egress TLS origination page, by its openssl commands: an X.509 v1 leaf without a SAN,
/// signed by `example.com.crt`. Returns the leaf; the root is `example.com.crt` in `folder`.
pub fn documents_leaf(folder: &Path, host: &str) -> PairFiles {
    let at = |name: &str| folder.join(name).to_str().expect("temporary paths are UTF-8").to_owned();
    let (root, root_key) = (at("example.com.crt"), at("example.com.key"));
    let (leaf, leaf_key, request) =
        (at(&format!("{host}.crt")), at(&format!("{host}.key")), at(&format!("{host}.csr")));
    let subject = format!("/CN={host}/O=some organization");
    let new_root = "req -x509 -sha256 -nodes -days 365 -newkey rsa:2048 -subj";
    openssl(new_root, &["/O=example Inc./CN=example.com", "-keyout", &root_key, "-out", &root]);
    openssl("req -newkey rsa:2048 -nodes -subj", &[&subject, "-keyout", &leaf_key, "-out", &request]);
    let sign = "x509 -req -sha256 -days 365 -set_serial 0 -CA";
    openssl(sign, &[&root, "-CAkey", &root_key, "-in", &request, "-out", &leaf]);
    PairFiles { certificate: leaf.into(), key: leaf_key.into() }
}

#[track_caller]
fn openssl(words: &str, rest: &[&str]) {
    let mut arguments: Vec<&str> = words.split(' ').collect();
    arguments.extend(rest);
    run("openssl", &arguments);
}

fn new_key() -> KeyPair {
    KeyPair::generate().expect("the system has randomness")
}
