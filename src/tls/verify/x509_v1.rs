//! Certificates that webpki refuses to judge: X.509 v1 leaves, which is what `openssl x509 -req` makes without an
//! extension file, and certificates that are trusted because the operator listed them themselves.
//!
//! Neither is checked less than others: signature by the issuer, validity dates, revocation. A v1 certificate cannot
//! say what it is for, so it is only ever a leaf; the CAs above it must be v3 CAs or configured anchors. Names are not
//! looked at here: a v1 certificate has none.

use rustls::pki_types::{CertificateDer, SubjectPublicKeyInfoDer};
use x509_parser::asn1_rs::FromDer as _;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;
use x509_parser::x509::X509Version;

use crate::tls::material::certificate::{name_contents, printable, signature_algorithm};
use crate::tls::verify::cert_error::{CertError, Subject};
use crate::tls::verify::crl::Asked;
use crate::tls::verify::signature::{SignatureBudget, verify_signature};
use crate::tls::verify::trust::Trust;

/// Longest chain between a leaf and its anchor: a peer chooses the certificates it sends, not how long they are looked at.
const MAX_DEPTH: u8 = 6;

/// Whether `leaf`, of version 1, was issued by one of `trust`'s CAs, directly or through `intermediates`.
pub(in crate::tls) fn verify(
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    trust: &Trust,
    now: i64,
) -> Result<(), CertError> {
    let leaf = Signed::parse(leaf)?;
    if leaf.parsed.version() != X509Version::V1 || !leaf.parsed.extensions().is_empty() {
        return Err(CertError::Malformed("not an X.509 certificate of version 1 or 3".to_owned()));
    }
    // Unreadable intermediates may belong to another chain.
    let issuers: Vec<Signed<'_>> = intermediates.iter().filter_map(|der| Signed::parse(der).ok()).collect();
    let mut search = Search { trust, issuers: &issuers, now, budget: SignatureBudget::new() };
    search.chain(&leaf, 0)
}

/// Whether `leaf`, itself one of `trust`'s certificates, may be used by a server now.
pub(in crate::tls) fn verify_pinned(leaf: &CertificateDer<'_>, trust: &Trust, now: i64) -> Result<(), CertError> {
    let leaf = Signed::parse(leaf)?;
    leaf.check_dates(now)?;
    if !leaf.purpose_allows_servers() {
        return Err(CertError::Purpose { subject: leaf.subject() });
    }
    if trust.crls().is_none() {
        return Ok(());
    }
    // Its list is its issuer's, which must be known to be believed; for a self-signed certificate that is itself.
    let mut budget = SignatureBudget::new();
    let issuer = name_contents(leaf.parsed.issuer());
    let anchors = trust.anchors().iter().filter(|anchor| anchor.subject.as_ref() == issuer);
    let keys = anchors.map(webpki::spki_for_anchor);
    for key in keys {
        if leaf.signed_by(&key, &mut budget).is_ok() {
            return leaf.check_revocation(trust, key, now, &mut budget);
        }
    }
    Err(CertError::NoCrl { subject: leaf.subject() })
}

/// One certificate with the octets that its signature covers.
pub(in crate::tls) struct Signed<'a> {
    pub(in crate::tls) der: &'a [u8],
    pub(in crate::tls) parsed: X509Certificate<'a>,
}

impl<'a> Signed<'a> {
    pub(in crate::tls) fn parse(der: &'a CertificateDer<'_>) -> Result<Self, CertError> {
        match X509Certificate::from_der(der) {
            Ok(([], parsed)) if parsed.signature_value.unused_bits == 0 => Ok(Self { der, parsed }),
            _ => Err(CertError::Malformed("not an X.509 certificate".to_owned())),
        }
    }

    pub(in crate::tls) fn subject(&self) -> String {
        printable(&self.parsed.subject().to_string())
    }

    pub(in crate::tls) fn check_dates(&self, now: i64) -> Result<(), CertError> {
        let dates = self.parsed.validity();
        let (from, until) = (dates.not_before.timestamp(), dates.not_after.timestamp());
        if now < from {
            return Err(CertError::NotYetValid { subject: self.subject(), from });
        }
        if now > until {
            return Err(CertError::Expired { subject: self.subject(), since: until });
        }
        Ok(())
    }

    pub(in crate::tls) fn signed_by(
        &self,
        key: &SubjectPublicKeyInfoDer<'_>,
        budget: &mut SignatureBudget,
    ) -> Result<(), CertError> {
        let algorithm = signature_algorithm(self.der).unwrap_or_default();
        // RFC 5280 §4.1.1.2: the algorithm inside what is signed must be the one outside.
        if self.parsed.tbs_certificate.signature != self.parsed.signature_algorithm {
            return Err(CertError::Malformed("signature algorithm mismatch".to_owned()));
        }
        let message = self.parsed.tbs_certificate.as_ref();
        verify_signature(key, algorithm, message, &self.parsed.signature_value.data, budget)
    }

    pub(in crate::tls) fn purpose_allows_servers(&self) -> bool {
        match self.parsed.extended_key_usage() {
            Ok(None) => true,
            Ok(Some(usage)) => usage.value.any || usage.value.server_auth,
            Err(_) => false,
        }
    }

    pub(in crate::tls) fn check_revocation(
        &self,
        trust: &Trust,
        issuer_key: SubjectPublicKeyInfoDer<'_>,
        now: i64,
        budget: &mut SignatureBudget,
    ) -> Result<(), CertError> {
        let Some(crls) = trust.crls() else { return Ok(()) };
        let asked = Asked {
            subject: &self.subject(),
            serial: self.parsed.raw_serial(),
            issuer: name_contents(self.parsed.issuer()),
            issuer_key,
        };
        crls.check(&asked, now, budget)
    }

    /// A key usage that is not there allows everything, as in webpki and OpenSSL.
    pub(in crate::tls) fn may_sign_crls(&self) -> bool {
        self.parsed.key_usage().is_ok_and(|usage| usage.is_none_or(|usage| usage.value.crl_sign()))
    }

    /// Whether it may issue certificates with `below` CAs under it (RFC 5280 §4.2.1.9, §4.2.1.3). A CA with name
    /// constraints may not issue a certificate without names.
    fn may_issue(&self, below: u8) -> bool {
        let known_critical = |parsed: &ParsedExtension<'_>| {
            matches!(
                parsed,
                ParsedExtension::BasicConstraints(_)
                    | ParsedExtension::KeyUsage(_)
                    | ParsedExtension::ExtendedKeyUsage(_)
            )
        };
        let mut is_ca = false;
        for extension in self.parsed.extensions() {
            let parsed = extension.parsed_extension();
            match parsed {
                ParsedExtension::BasicConstraints(limits) => {
                    is_ca = limits.ca && limits.path_len_constraint.is_none_or(|most| u32::from(below) <= most);
                }
                ParsedExtension::KeyUsage(usage) if !usage.key_cert_sign() => return false,
                ParsedExtension::NameConstraints(_) => return false,
                parsed if extension.critical && !known_critical(parsed) => return false,
                _ => {}
            }
        }
        is_ca && self.parsed.version() == X509Version::V3 && self.purpose_allows_servers()
    }
}

struct Search<'a> {
    trust: &'a Trust,
    issuers: &'a [Signed<'a>],
    now: i64,
    budget: SignatureBudget,
}

impl Search<'_> {
    /// Finds an issuer of `certificate` among the anchors, else among the intermediates, and so on up.
    fn chain(&mut self, certificate: &Signed<'_>, below: u8) -> Result<(), CertError> {
        certificate.check_dates(self.now)?;
        let issuer = name_contents(certificate.parsed.issuer());
        let mut refusal = self.untrusted(certificate);
        for anchor in self.trust.anchors().iter().filter(|anchor| anchor.subject.as_ref() == issuer) {
            match self.issued_by_anchor(certificate, anchor) {
                Ok(()) => return Ok(()),
                Err(error) => refusal = error,
            }
        }
        if below >= MAX_DEPTH {
            return Err(refusal);
        }
        let issuers = self.issuers;
        for candidate in issuers.iter().filter(|c| name_contents(c.parsed.subject()) == issuer) {
            match self.issued_by_intermediate(certificate, candidate, below) {
                Ok(()) => return Ok(()),
                Err(error) => refusal = error,
            }
        }
        Err(refusal)
    }

    fn issued_by_anchor(
        &mut self,
        certificate: &Signed<'_>,
        anchor: &rustls::pki_types::TrustAnchor<'_>,
    ) -> Result<(), CertError> {
        let key = webpki::spki_for_anchor(anchor);
        certificate.signed_by(&key, &mut self.budget)?;
        check_anchor_dates(self.trust, anchor, self.now)?;
        if anchor.name_constraints.is_some() {
            return Err(CertError::Constraint("its issuer allows certain names only and it has none".to_owned()));
        }
        certificate.check_revocation(self.trust, key, self.now, &mut self.budget)
    }

    fn issued_by_intermediate(
        &mut self,
        certificate: &Signed<'_>,
        issuer: &Signed<'_>,
        below: u8,
    ) -> Result<(), CertError> {
        if !issuer.may_issue(below) {
            return Err(CertError::Constraint(format!("{} may not issue it", issuer.subject())));
        }
        let key = SubjectPublicKeyInfoDer::from(issuer.parsed.tbs_certificate.subject_pki.raw);
        certificate.signed_by(&key, &mut self.budget)?;
        if self.trust.crls().is_some() && !issuer.may_sign_crls() {
            return Err(CertError::CrlSignature(format!("{} may not issue revocation lists", issuer.subject())));
        }
        certificate.check_revocation(self.trust, key, self.now, &mut self.budget)?;
        self.chain(issuer, below + 1)
    }

    fn untrusted(&self, certificate: &Signed<'_>) -> CertError {
        let issuer = printable(&certificate.parsed.issuer().to_string());
        let trust = self.trust.source().to_owned();
        Subject { name: certificate.subject(), issuer, trust, dates: (0, 0) }.untrusted()
    }
}

/// An expired CA vouches for nothing: OpenSSL and BoringSSL check an anchor's dates too, webpki does not.
pub(in crate::tls) fn check_anchor_dates(
    trust: &Trust,
    anchor: &rustls::pki_types::TrustAnchor<'_>,
    now: i64,
) -> Result<(), CertError> {
    let (from, until) = trust.validity_of(anchor);
    let subject = || "the trusted CA".to_owned();
    if now < from {
        return Err(CertError::NotYetValid { subject: subject(), from });
    }
    if now > until {
        return Err(CertError::Expired { subject: subject(), since: until });
    }
    Ok(())
}
