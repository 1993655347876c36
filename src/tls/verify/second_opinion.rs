//! Paths that webpki gives up on although RFC 5280 has an answer: directory names in name constraints, critical policy
//! extensions, and CAs that certified themselves anew (self-issued), which count for neither path lengths nor names.
//! Governments and companies have such CAs, and other clients take them.
//!
//! Asked only after webpki's refusal for one of these reasons, it judges the whole path again and believes nothing of the
//! first verdict: signatures (by webpki), dates, who may issue, purposes, every critical extension, names, policies,
//! revocation. What it does not know, it refuses.

use std::collections::HashSet;

use rustls::pki_types::{CertificateDer, SubjectPublicKeyInfoDer, TrustAnchor};
use x509_parser::asn1_rs::FromDer as _;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{NameConstraints, ParsedExtension};
use x509_parser::x509::X509Version;

use crate::tls::material::certificate::{name_contents, printable};
use crate::tls::verify::cert_error::{CertError, Subject};
use crate::tls::verify::name_constraints::{self, ComparisonBudget};
use crate::tls::verify::policy_tree;
use crate::tls::verify::signature::SignatureBudget;
use crate::tls::verify::trust::Trust;
use crate::tls::verify::x509_v1::{Signed, check_anchor_dates};

/// Longest path between a leaf and its anchor, as webpki has it.
const MAX_DEPTH: usize = 6;

/// Whether webpki's refusal may be one of those that this can answer.
pub(in crate::tls) fn is_worth_it(refusal: &webpki::Error) -> bool {
    matches!(
        refusal,
        webpki::Error::NameConstraintViolation
            | webpki::Error::UnsupportedCriticalExtension
            | webpki::Error::PathLenConstraintViolated
    )
}

/// Whether `leaf` was issued by one of `trust`'s CAs, directly or through `intermediates`, for a server.
pub(in crate::tls) fn verify(
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    trust: &Trust,
    now: i64,
) -> Result<(), CertError> {
    let leaf = Signed::parse(leaf)?;
    check_leaf(&leaf)?;
    // Unreadable intermediates may belong to another chain.
    let issuers: Vec<Signed<'_>> = intermediates.iter().filter_map(|der| Signed::parse(der).ok()).collect();
    let (budget, comparisons) = (SignatureBudget::new(), ComparisonBudget::new());
    Search { trust, issuers: &issuers, now, budget, comparisons }.chain(&mut vec![&leaf])
}

fn check_leaf(leaf: &Signed<'_>) -> Result<(), CertError> {
    check_extensions(leaf, |extension| {
        matches!(
            extension,
            ParsedExtension::BasicConstraints(_)
                | ParsedExtension::KeyUsage(_)
                | ParsedExtension::ExtendedKeyUsage(_)
                | ParsedExtension::SubjectAlternativeName(_)
                | ParsedExtension::CertificatePolicies(_)
        )
    })?;
    if leaf.parsed.is_ca() {
        return Err(CertError::Malformed("a CA's certificate is used as a server's".to_owned()));
    }
    if !leaf.purpose_allows_servers() {
        return Err(CertError::Purpose { subject: leaf.subject() });
    }
    Ok(())
}

/// Version 3, no extension twice, and of the critical ones only those that `is_known`.
fn check_extensions(
    certificate: &Signed<'_>,
    is_known: impl Fn(&ParsedExtension<'_>) -> bool,
) -> Result<(), CertError> {
    if certificate.parsed.version() != X509Version::V3 {
        return Err(CertError::Malformed("not an X.509 certificate of version 3".to_owned()));
    }
    let mut seen = HashSet::new();
    for extension in certificate.parsed.extensions() {
        let parsed = extension.parsed_extension();
        if !seen.insert(extension.oid.to_id_string()) {
            return Err(CertError::Malformed(format!("an extension twice: {}", extension.oid.to_id_string())));
        }
        if matches!(parsed, ParsedExtension::ParseError { .. }) {
            return Err(CertError::Malformed(format!("an extension is unreadable: {}", extension.oid.to_id_string())));
        }
        if extension.critical && !is_known(parsed) {
            return Err(CertError::UnknownExtension {
                subject: certificate.subject(),
                oid: extension.oid.to_id_string(),
            });
        }
    }
    Ok(())
}

fn is_self_issued(certificate: &Signed<'_>) -> bool {
    name_contents(certificate.parsed.subject()) == name_contents(certificate.parsed.issuer())
}

struct Search<'s> {
    trust: &'s Trust,
    issuers: &'s [Signed<'s>],
    now: i64,
    budget: SignatureBudget,
    comparisons: ComparisonBudget,
}

impl<'s> Search<'s> {
    /// Finds an issuer of the last of `path` among the anchors, else among the intermediates, and so on up.
    fn chain<'p>(&mut self, path: &mut Vec<&'p Signed<'p>>) -> Result<(), CertError>
    where
        's: 'p,
    {
        let Some(&certificate) = path.last() else { return Err(CertError::Malformed("no certificate".to_owned())) };
        certificate.check_dates(self.now)?;
        let issuer = name_contents(certificate.parsed.issuer());
        let mut refusal = self.untrusted(certificate);
        let trust = self.trust;
        for anchor in trust.anchors().iter().filter(|anchor| anchor.subject.as_ref() == issuer) {
            match self.ends_at(path, anchor) {
                Ok(()) => return Ok(()),
                Err(error) => refusal = error,
            }
        }
        if path.len() > MAX_DEPTH {
            return Err(refusal);
        }
        let (issuers, mut has_told) = (self.issuers, false);
        for candidate in issuers.iter().filter(|candidate| name_contents(candidate.parsed.subject()) == issuer) {
            if path.iter().any(|known| known.der == candidate.der) {
                continue;
            }
            let below = path[1..].iter().filter(|certificate| !is_self_issued(certificate)).count();
            let outcome = self.is_issued_by(certificate, candidate, below).and_then(|()| {
                path.push(candidate);
                let outcome = self.chain(path);
                path.pop();
                outcome
            });
            match outcome {
                Ok(()) => return Ok(()),
                // Another key of the same name says nothing of what was wrong with the right one.
                Err(CertError::Signature) if has_told => {}
                Err(error) => {
                    refusal = error;
                    has_told = true;
                }
            }
        }
        Err(refusal)
    }

    fn is_issued_by(&mut self, certificate: &Signed<'_>, issuer: &Signed<'_>, below: usize) -> Result<(), CertError> {
        check_issuer(issuer, below)?;
        let key = SubjectPublicKeyInfoDer::from(issuer.parsed.tbs_certificate.subject_pki.raw);
        certificate.signed_by(&key, &mut self.budget)?;
        if self.trust.crls().is_some() && !issuer.may_sign_crls() {
            return Err(CertError::CrlSignature(format!("{} may not issue revocation lists", issuer.subject())));
        }
        certificate.check_revocation(self.trust, key, self.now, &mut self.budget)
    }

    /// `path` ends at `anchor`: what its CAs say of everything below them is judged now.
    fn ends_at(&mut self, path: &[&Signed<'_>], anchor: &TrustAnchor<'_>) -> Result<(), CertError> {
        let Some(top) = path.last() else { return Err(CertError::Malformed("no certificate".to_owned())) };
        let key = webpki::spki_for_anchor(anchor);
        top.signed_by(&key, &mut self.budget)?;
        check_anchor_dates(self.trust, anchor, self.now)?;
        top.check_revocation(self.trust, key, self.now, &mut self.budget)?;
        if let Some(contents) = &anchor.name_constraints {
            let der = sequence(contents);
            let Ok(([], constraints)) = NameConstraints::from_der(&der) else {
                return Err(CertError::Constraint("the trusted CA's name constraints cannot be read".to_owned()));
            };
            self.check_names(path, &constraints, "the trusted CA")?;
        }
        for (at, issuer) in path.iter().enumerate().skip(1) {
            for extension in issuer.parsed.extensions() {
                if let ParsedExtension::NameConstraints(constraints) = extension.parsed_extension() {
                    self.check_names(&path[..at], constraints, &issuer.subject())?;
                }
            }
        }
        let downwards: Vec<&X509Certificate<'_>> = path.iter().rev().map(|signed| &signed.parsed).collect();
        if policy_tree::holds(&downwards) {
            Ok(())
        } else {
            Err(CertError::Constraint("a CA requires a certificate policy that is not kept down to it".to_owned()))
        }
    }

    /// Names of those `below`, the leaf first. A CA that certified itself anew is the same CA (RFC 5280 §6.1.4 (g)).
    fn check_names(
        &mut self,
        below: &[&Signed<'_>],
        constraints: &NameConstraints<'_>,
        whose: &str,
    ) -> Result<(), CertError> {
        for (at, certificate) in below.iter().enumerate() {
            let is_judged = at == 0 || !is_self_issued(certificate);
            if is_judged && !name_constraints::allow(constraints, &certificate.parsed, &mut self.comparisons) {
                let subject = certificate.subject();
                return Err(CertError::Constraint(format!("{whose} allows no names such as those of {subject}")));
            }
        }
        Ok(())
    }

    fn untrusted(&self, certificate: &Signed<'_>) -> CertError {
        let issuer = printable(&certificate.parsed.issuer().to_string());
        let trust = self.trust.source().to_owned();
        Subject { name: certificate.subject(), issuer, trust, dates: (0, 0) }.untrusted()
    }
}

/// Whether `issuer` may issue certificates, with `below` CAs under it that are not self-issued (RFC 5280 §4.2.1.9, §4.2.1.3).
fn check_issuer(issuer: &Signed<'_>, below: usize) -> Result<(), CertError> {
    check_extensions(issuer, |extension| {
        matches!(
            extension,
            ParsedExtension::BasicConstraints(_)
                | ParsedExtension::KeyUsage(_)
                | ParsedExtension::ExtendedKeyUsage(_)
                | ParsedExtension::NameConstraints(_)
                | ParsedExtension::CertificatePolicies(_)
                | ParsedExtension::PolicyMappings(_)
                | ParsedExtension::PolicyConstraints(_)
                | ParsedExtension::InhibitAnyPolicy(_)
        )
    })?;
    let may_not = |why: &str| CertError::Constraint(format!("{} may not issue it: {why}", issuer.subject()));
    let mut is_ca = false;
    for extension in issuer.parsed.extensions() {
        match extension.parsed_extension() {
            ParsedExtension::BasicConstraints(limits) => {
                let too_long = |most: &u32| usize::try_from(*most).is_ok_and(|most| below > most);
                if limits.path_len_constraint.as_ref().is_some_and(too_long) {
                    return Err(may_not("its path length is used up"));
                }
                is_ca = limits.ca;
            }
            ParsedExtension::KeyUsage(usage) if !usage.key_cert_sign() => return Err(may_not("its key usage")),
            _ => {}
        }
    }
    match (is_ca, issuer.purpose_allows_servers()) {
        (false, _) => Err(may_not("it is no CA")),
        (true, false) => Err(CertError::Purpose { subject: issuer.subject() }),
        (true, true) => Ok(()),
    }
}

/// `contents` as a SEQUENCE: anchors keep their constraints without its tag and length.
fn sequence(contents: &[u8]) -> Vec<u8> {
    let length = contents.len();
    let mut der = vec![0x30];
    if length < 0x80 {
        der.push(length as u8);
    } else {
        let octets: Vec<u8> = length.to_be_bytes().into_iter().skip_while(|&octet| octet == 0).collect();
        der.push(0x80 | octets.len() as u8);
        der.extend(octets);
    }
    der.extend_from_slice(contents);
    der
}
