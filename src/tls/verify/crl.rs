//! Certificate revocation lists: loaded once, asked at every handshake.
//!
//! With CRLs configured every certificate below the trust anchor must be spoken for by one that is in date: no answer
//! is a refusal, as in Envoy. webpki asks the lists for chains that it builds; [`Crls::check`] asks for the certificates
//! that it refuses to read (X.509 v1) and for those that are trusted by themselves.

use rustls::pki_types::{CertificateRevocationListDer, SubjectPublicKeyInfoDer};
use webpki::{BorrowedCertRevocationList, CertRevocationList, ExpirationPolicy, RevocationOptions};
use x509_parser::asn1_rs::FromDer as _;
use x509_parser::revocation_list::CertificateRevocationList as ParsedCrl;

use crate::tls::material::MaterialError;
use crate::tls::material::certificate::signature_algorithm;
use crate::tls::material::pem;
use crate::tls::verify::cert_error::CertError;
use crate::tls::verify::signature::{SignatureBudget, verify_signature};

/// The revocation lists that belong to one set of trusted CAs. Never empty.
pub(in crate::tls) struct Crls {
    /// Newest first: webpki asks the first list of an issuer only.
    lists: Vec<CertRevocationList<'static>>,
    ders: Vec<CertificateRevocationListDer<'static>>,
}

impl Crls {
    /// Reads every list of a PEM text.
    ///
    /// # Errors
    /// None in it, or one that cannot be used: a list that is ignored would let a revoked certificate pass.
    pub(in crate::tls) fn from_pem(text: &[u8], place: &str) -> Result<Self, MaterialError> {
        let found = pem::blocks(text);
        if let Some(reason) = found.reason {
            return Err(MaterialError::Pem { place: place.to_owned(), reason });
        }
        if found.crls.is_empty() {
            return Err(MaterialError::NoCrl { place: place.to_owned() });
        }
        let mut ders = found.crls;
        ders.sort_by_key(|der| std::cmp::Reverse(this_update(der)));
        let lists = ders.iter().map(|der| load(der, place)).collect::<Result<_, _>>()?;
        Ok(Self { lists, ders })
    }

    /// The DER of every list, for a digest.
    pub(in crate::tls) fn ders(&self) -> impl Iterator<Item = &[u8]> {
        self.ders.iter().map(AsRef::as_ref)
    }

    /// Calls `then` with the rules for webpki: whole chain, unknown status refused, expiry enforced.
    pub(in crate::tls) fn with_options<R>(&self, then: impl FnOnce(RevocationOptions<'_>) -> R) -> R {
        let lists: Vec<&CertRevocationList<'_>> = self.lists.iter().collect();
        let builder = webpki::RevocationOptionsBuilder::new(&lists).expect("never empty by construction");
        then(builder.with_expiration_policy(ExpirationPolicy::Enforce).build())
    }

    /// Whether the certificate with `serial` (raw octets), issued by `issuer` (name contents) with `key`, may be used.
    ///
    /// # Errors
    /// Revoked, or no list in date of that issuer says otherwise.
    pub(in crate::tls) fn check(
        &self,
        asked: &Asked<'_>,
        now: i64,
        budget: &mut SignatureBudget,
    ) -> Result<(), CertError> {
        let Some(at) = self.lists.iter().position(|list| list.issuer() == asked.issuer) else {
            return Err(CertError::NoCrl { subject: asked.subject.to_owned() });
        };
        let der = &self.ders[at];
        let Ok((_, parsed)) = ParsedCrl::from_der(der) else {
            return Err(CertError::CrlSignature("unreadable".to_owned()));
        };
        // A partitioned or delta list (critical extension) does not speak for a certificate that names no list.
        if parsed.extensions().iter().any(|extension| extension.critical) {
            return Err(CertError::NoCrl { subject: asked.subject.to_owned() });
        }
        let algorithm = signature_algorithm(der).unwrap_or_default();
        let signed = parsed.tbs_cert_list.as_ref();
        verify_signature(&asked.issuer_key, algorithm, signed, &parsed.signature_value.data, budget)
            .map_err(|refusal| CertError::CrlSignature(refusal.to_string()))?;
        match parsed.next_update() {
            Some(due) if due.timestamp() > now => {}
            due => return Err(CertError::CrlExpired { since: due.map_or(0, |due| due.timestamp()) }),
        }
        match self.lists[at].find_serial(asked.serial) {
            Ok(None) => Ok(()),
            Ok(Some(_)) => Err(CertError::Revoked { subject: asked.subject.to_owned() }),
            Err(error) => Err(CertError::Malformed(format!("{error:?}"))),
        }
    }
}

/// The certificate that a list is asked about.
pub(in crate::tls) struct Asked<'a> {
    pub(in crate::tls) subject: &'a str,
    /// Raw octets.
    pub(in crate::tls) serial: &'a [u8],
    /// The issuer's name, DER contents.
    pub(in crate::tls) issuer: &'a [u8],
    pub(in crate::tls) issuer_key: SubjectPublicKeyInfoDer<'a>,
}

fn load(der: &CertificateRevocationListDer<'_>, place: &str) -> Result<CertRevocationList<'static>, MaterialError> {
    let list = BorrowedCertRevocationList::from_der(der).and_then(|list| list.to_owned());
    let list = list.map_err(|error| MaterialError::BadCrl { place: place.to_owned(), reason: explain(&error) })?;
    Ok(CertRevocationList::from(list))
}

fn explain(error: &webpki::Error) -> String {
    match error {
        webpki::Error::UnsupportedCrlVersion => {
            "it is of version 1; issue version 2 (openssl: set crlnumber or crl_extensions)".to_owned()
        }
        webpki::Error::UnsupportedDeltaCrl => "it is a delta CRL; give complete ones".to_owned(),
        other => format!("{other:?}"),
    }
}

fn this_update(der: &CertificateRevocationListDer<'_>) -> i64 {
    ParsedCrl::from_der(der).map_or(i64::MIN, |(_, list)| list.last_update().timestamp())
}
