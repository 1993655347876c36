//! One certificate, read leniently: what a person wants to see of it, and the parts that a signature is made of.
//!
//! webpki refuses X.509 v1, which is what `openssl x509 -req` writes without an extension file, so everything that must
//! look at such a certificate starts here. Nothing here decides whether a certificate is to be believed.

use std::fmt::Write as _;
use std::net::IpAddr;

use rustls::pki_types::SubjectPublicKeyInfoDer;
use x509_parser::asn1_rs::{Any, FromDer as _};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::oid_registry::OID_X509_EXT_SUBJECT_ALT_NAME;
use x509_parser::prelude::X509Name;

/// What is shown of a certificate. Times are seconds since the epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFacts {
    pub subject: String,
    pub issuer: String,
    /// Lower-case hex, padded to 32 digits as istioctl prints it.
    pub serial: String,
    pub not_before: i64,
    pub not_after: i64,
    /// DNS names, URIs and addresses of the subjectAltName extension.
    pub names: Vec<String>,
}

impl CertificateFacts {
    /// The facts of a DER certificate; `None` when it is none.
    #[must_use]
    pub fn of(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        Some(Self {
            subject: printable(&certificate.subject().to_string()),
            issuer: printable(&certificate.issuer().to_string()),
            serial: serial_hex(certificate.raw_serial()),
            not_before: certificate.validity().not_before.timestamp(),
            not_after: certificate.validity().not_after.timestamp(),
            names: alternative_names(&certificate).iter().map(|name| printable(&name.to_string())).collect(),
        })
    }

    /// Seconds from its first to its last moment.
    #[must_use]
    pub fn life(&self) -> i64 {
        self.not_after.saturating_sub(self.not_before)
    }

    /// Whether `now` lies within the validity dates.
    #[must_use]
    pub fn valid_at(&self, now: i64) -> bool {
        (self.not_before..=self.not_after).contains(&now)
    }
}

/// A subjectAltName that TLS peers are known by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::tls) enum AlternativeName {
    Dns(String),
    Uri(String),
    Ip(IpAddr),
}

impl std::fmt::Display for AlternativeName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            AlternativeName::Dns(name) | AlternativeName::Uri(name) => f.write_str(name),
            AlternativeName::Ip(ip) => ip.fmt(f),
        }
    }
}

/// The names in the subjectAltName extension; the CN never counts (RFC 9525 §6.3). Broken entries are left out.
pub(in crate::tls) fn alternative_names(certificate: &X509Certificate<'_>) -> Vec<AlternativeName> {
    let extensions = certificate.extensions().iter().filter(|e| e.oid == OID_X509_EXT_SUBJECT_ALT_NAME);
    let mut names = Vec::new();
    for extension in extensions {
        if let ParsedExtension::SubjectAlternativeName(list) = extension.parsed_extension() {
            names.extend(list.general_names.iter().filter_map(alternative_name));
        }
    }
    names
}

fn alternative_name(name: &GeneralName<'_>) -> Option<AlternativeName> {
    match name {
        GeneralName::DNSName(name) => Some(AlternativeName::Dns((*name).to_owned())),
        GeneralName::URI(uri) => Some(AlternativeName::Uri((*uri).to_owned())),
        GeneralName::IPAddress(octets) => {
            let v4 = <[u8; 4]>::try_from(*octets).map(IpAddr::from).ok();
            v4.or_else(|| <[u8; 16]>::try_from(*octets).map(IpAddr::from).ok()).map(AlternativeName::Ip)
        }
        _ => None,
    }
}

/// The SubjectPublicKeyInfo of a DER certificate of any version.
pub(in crate::tls) fn public_key(der: &[u8]) -> Option<SubjectPublicKeyInfoDer<'_>> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    Some(SubjectPublicKeyInfoDer::from(certificate.tbs_certificate.subject_pki.raw))
}

/// A distinguished name's DER contents without the outer SEQUENCE, as trust anchors keep it.
pub(in crate::tls) fn name_contents<'a>(name: &X509Name<'a>) -> &'a [u8] {
    match Any::from_der(name.as_raw()) {
        Ok((_, sequence)) => sequence.data,
        Err(_) => &[],
    }
}

/// The AlgorithmIdentifier's contents beside a signature, in a certificate or a CRL
/// (both are `SEQUENCE { signed, algorithm, signature }`, RFC 5280 §4.1.1 and §5.1.1).
pub(in crate::tls) fn signature_algorithm(der: &[u8]) -> Option<&[u8]> {
    let (_, outer) = Any::from_der(der).ok()?;
    let (rest, _signed) = Any::from_der(outer.data).ok()?;
    let (_, algorithm) = Any::from_der(rest).ok()?;
    Some(algorithm.data)
}

/// A peer chooses what its certificate says; what reaches a log has no control characters and an end.
pub(in crate::tls) fn printable(text: &str) -> String {
    const LONGEST: usize = 256;
    let shown = text.chars().take(LONGEST).map(|c| if c.is_control() { '?' } else { c });
    shown.chain((text.chars().nth(LONGEST).is_some()).then_some('…')).collect()
}

/// `%032x` of a serial number's octets.
fn serial_hex(octets: &[u8]) -> String {
    let digits = octets.iter().fold(String::new(), |mut text, octet| {
        let _ = write!(text, "{octet:02x}");
        text
    });
    format!("{:0>32}", digits.trim_start_matches('0'))
}

/// RFC 3339 in UTC.
pub(in crate::tls) fn rfc3339(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serials_print_as_istioctl_prints_them() {
        for (octets, text) in [
            (&[0u8][..], "00000000000000000000000000000000"),
            (&[1], "00000000000000000000000000000001"),
            (&[0, 0x95, 0xc6], "000000000000000000000000000095c6"),
            (&[0xab; 20], &"ab".repeat(20)),
        ] {
            assert_eq!(serial_hex(octets), text);
        }
    }

    #[test]
    fn names_from_a_peer_cannot_break_a_log_line() {
        assert_eq!(printable("CN=a\nb\u{1b}[31m\0"), "CN=a?b?[31m?");
        assert_eq!(printable(&"x".repeat(1000)).chars().count(), 257);
    }

    #[test]
    fn times_are_utc() {
        assert_eq!(rfc3339(1_700_000_000), "2023-11-14T22:13:20Z");
    }
}
