//! Tables of certificates and the verdict on each in every verification mode.
//!
//! A verdict is `ok` or words that the reason must contain, so a certificate that is refused for another reason than
//! the one meant fails its test.

mod chains;
mod names;
mod revocation;
mod second_opinion;
mod weak;
mod x509_v1;

use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName, UnixTime};

use crate::tls::request::NameCheck;
use crate::tls::tests::pki::Authority;
use crate::tls::verify::Verifier;
use crate::tls::verify::names::Names;
use crate::tls::verify::trust::{Strictness, Trust};

/// The host of every request here that does not say otherwise.
const HOST: &str = "api.example.com";
const SPIFFE: &str = "spiffe://td/ns/a";
const OK: &str = "ok";
const MISMATCH: &str = "name mismatch";
const NO_NAME: &str = "no subjectAltName";

/// What a server shows, to whom, and the verdicts.
struct Case {
    what: &'static str,
    /// Leaf first.
    chain: Vec<CertificateDer<'static>>,
    trust: Arc<Trust>,
    now: UnixTime,
    host: ServerName<'static>,
    verdicts: Verdicts,
}

/// One for each mode: automatic, one of a list, both, chain only. Unverified is always fine.
struct Verdicts([&'static str; 4]);

impl Verdicts {
    /// The chain decides before any name is looked at.
    fn all(refused: &'static str) -> Self {
        Self([refused; 4])
    }
}

impl Case {
    fn new(what: &'static str, chain: &[CertificateDer<'static>], trust: &Arc<Trust>, verdicts: Verdicts) -> Self {
        let host = ServerName::try_from(HOST).unwrap();
        Self { what, chain: chain.to_vec(), trust: Arc::clone(trust), now: UnixTime::now(), host, verdicts }
    }

    fn at(mut self, seconds: u64) -> Self {
        self.now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
        self
    }

    fn asked_for(mut self, host: &'static str) -> Self {
        self.host = ServerName::try_from(host).unwrap();
        self
    }

    fn check(&self) {
        let listed = vec!["api.example.com".to_owned(), SPIFFE.to_owned(), "192.0.2.1".to_owned()];
        let modes = [
            NameCheck::FromHost,
            NameCheck::Exact(listed),
            NameCheck::FromHostAnd(vec![SPIFFE.to_owned()]),
            NameCheck::ChainOnly,
        ];
        for (mode, wanted) in modes.iter().zip(self.verdicts.0) {
            let verifier = Verifier::Chain { trust: Arc::clone(&self.trust), names: Names::new(mode) };
            let verdict = self.judge(&verifier);
            assert!(
                if wanted == OK { verdict == OK } else { verdict.contains(wanted) },
                "{}, {mode:?}: {verdict}, wanted {wanted}",
                self.what
            );
        }
        assert_eq!(self.judge(&Verifier::KeyOnly), OK, "{} unverified", self.what);
    }

    fn judge(&self, verifier: &Verifier) -> String {
        let verdict = verifier.judge(&self.chain[0], &self.chain[1..], &self.host, self.now);
        verdict.map_or_else(|refusal| refusal.to_string(), |()| OK.to_owned())
    }
}

fn check_all(cases: &[Case], at_least: usize) {
    assert!(cases.len() >= at_least, "{} cases", cases.len());
    cases.iter().for_each(Case::check);
}

fn trust(cas: &[&Authority]) -> Arc<Trust> {
    trust_pem(&cas.iter().map(|ca| ca.pem()).collect::<String>(), None)
}

fn trust_pem(cas: &str, crl: Option<&str>) -> Arc<Trust> {
    let crl = crl.map(|text| (text.as_bytes(), "ca.crl"));
    Arc::new(Trust::from_pem((cas.as_bytes(), "ca.crt"), crl, Strictness::Explicit).unwrap())
}
