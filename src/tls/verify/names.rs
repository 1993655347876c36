//! Which name a server certificate must be for.
//!
//! Only subjectAltNames count, never a CN (RFC 9525 §6.3). A wildcard in a certificate stands for exactly one whole
//! leftmost label. An address matches an address entry, never a text that looks like one.

use std::net::IpAddr;

use rustls::pki_types::{CertificateDer, ServerName};
use webpki::EndEntityCert;
use x509_parser::certificate::X509Certificate;
use x509_parser::x509::X509Version;

use crate::tls::material::certificate::{AlternativeName, alternative_names, printable};
use crate::tls::request::NameCheck;
use crate::tls::verify::cert_error::CertError;

/// The rule of one profile, ready to be asked.
#[derive(Clone, Debug)]
pub(in crate::tls) struct Names {
    /// The name that the connection was opened for must be in the certificate.
    server_name: bool,
    /// When there are any, one of these must be in it too.
    listed: Option<Vec<Wanted>>,
}

/// One entry of `subjectAltNames`, compared as Envoy's exact matchers compare it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Wanted {
    /// Lower case.
    Dns(String),
    Uri(String),
    Ip(IpAddr),
}

impl Names {
    pub(in crate::tls) fn new(check: &NameCheck) -> Self {
        let (server_name, listed) = match check {
            NameCheck::FromHost => (true, None),
            NameCheck::Exact(list) => (false, Some(list)),
            NameCheck::FromHostAnd(list) => (true, Some(list)),
            NameCheck::ChainOnly => (false, None),
        };
        Self { server_name, listed: listed.map(|list| list.iter().map(|text| Wanted::parse(text)).collect()) }
    }

    /// Whether any certificate of a trusted chain will do.
    pub(in crate::tls) fn unchecked(&self) -> bool {
        !self.server_name && self.listed.is_none()
    }

    /// Whether `certificate`, whose content is `parsed`, is for the wanted name; `server_name` is the one the connection was opened for.
    pub(in crate::tls) fn check(
        &self,
        certificate: &CertificateDer<'_>,
        parsed: &X509Certificate<'_>,
        server_name: &ServerName<'_>,
    ) -> Result<(), CertError> {
        if self.unchecked() {
            return Ok(());
        }
        let presented = alternative_names(parsed);
        if presented.is_empty() {
            return Err(CertError::NoName { v1: parsed.version() == X509Version::V1 });
        }
        if self.server_name && !is_for(certificate, server_name, &presented) {
            return Err(mismatch(server_name.to_str().into_owned(), &presented));
        }
        match &self.listed {
            Some(listed) if !presented.iter().any(|name| listed.iter().any(|wanted| wanted.matches(name))) => {
                let wanted: Vec<String> = listed.iter().map(Wanted::to_string).collect();
                Err(mismatch(format!("one of {}", wanted.join(", ")), &presented))
            }
            _ => Ok(()),
        }
    }
}

/// webpki decides; of a certificate that it does not read (a critical extension that it does not know) the same rules hold.
fn is_for(certificate: &CertificateDer<'_>, name: &ServerName<'_>, presented: &[AlternativeName]) -> bool {
    match EndEntityCert::try_from(certificate) {
        Ok(certificate) => certificate.verify_is_valid_for_subject_name(name).is_ok(),
        Err(webpki::Error::UnsupportedCriticalExtension) => {
            let wanted = match name {
                ServerName::DnsName(name) => Wanted::Dns(name.as_ref().trim_end_matches('.').to_ascii_lowercase()),
                ServerName::IpAddress(ip) => Wanted::Ip((*ip).into()),
                _ => return false,
            };
            presented.iter().any(|name| wanted.matches(name))
        }
        Err(_) => false,
    }
}

fn mismatch(wanted: String, presented: &[AlternativeName]) -> CertError {
    CertError::WrongName { wanted, presented: presented.iter().map(|name| printable(&name.to_string())).collect() }
}

impl Wanted {
    fn parse(text: &str) -> Self {
        match text.parse() {
            Ok(ip) => Wanted::Ip(ip),
            Err(_) if text.contains(':') => Wanted::Uri(text.to_owned()),
            Err(_) => Wanted::Dns(text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase()),
        }
    }

    fn matches(&self, presented: &AlternativeName) -> bool {
        match (self, presented) {
            (Wanted::Dns(wanted), AlternativeName::Dns(name)) => dns_matches(wanted, &name.to_ascii_lowercase()),
            (Wanted::Uri(wanted), AlternativeName::Uri(uri)) => wanted == uri,
            (Wanted::Ip(wanted), AlternativeName::Ip(ip)) => wanted == ip,
            _ => false,
        }
    }
}

impl std::fmt::Display for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Wanted::Dns(text) | Wanted::Uri(text) => f.write_str(text),
            Wanted::Ip(ip) => ip.fmt(f),
        }
    }
}

/// Both in lower case. `*.` in the certificate covers one label, and not a whole top-level domain.
fn dns_matches(wanted: &str, presented: &str) -> bool {
    if wanted == presented {
        return !wanted.is_empty();
    }
    let (Some(suffix), Some((label, rest))) = (presented.strip_prefix("*."), wanted.split_once('.')) else {
        return false;
    };
    !label.is_empty() && label != "*" && suffix.contains('.') && !suffix.contains('*') && rest == suffix
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listed_names_match_as_wholes() {
        let dns = |name: &str| AlternativeName::Dns(name.to_owned());
        let uri = |name: &str| AlternativeName::Uri(name.to_owned());
        let ip = |name: &str| AlternativeName::Ip(name.parse().unwrap());
        for (wanted, presented, matches) in [
            ("api.example.com", dns("api.example.com"), true),
            ("API.example.com.", dns("Api.Example.Com"), true),
            ("api.example.com", dns("*.example.com"), true),
            ("a.b.example.com", dns("*.example.com"), false),
            ("example.com", dns("*.example.com"), false),
            ("foo.example.com", dns("f*.example.com"), false),
            ("foo.example.com", dns("*.*.com"), false),
            ("example.com", dns("*.com"), false),
            ("*.example.com", dns("*.example.com"), true),
            ("*.example.com", dns("api.example.com"), false),
            ("api.example.com", dns("api.example.com\0.evil.com"), false),
            ("", dns(""), false),
            ("192.0.2.1", dns("192.0.2.1"), false),
            ("192.0.2.1", ip("192.0.2.1"), true),
            ("192.0.2.1", ip("192.0.2.2"), false),
            ("2001:DB8:0::1", ip("2001:db8::1"), true),
            ("spiffe://td/ns/a", uri("spiffe://td/ns/a"), true),
            ("spiffe://td/ns/a", uri("spiffe://td/ns/A"), false),
            ("spiffe://td/ns/a", dns("spiffe://td/ns/a"), false),
            ("api.example.com", uri("api.example.com"), false),
        ] {
            assert_eq!(Wanted::parse(wanted).matches(&presented), matches, "{wanted} against {presented:?}");
        }
    }
}
