//! `tls` of a traffic policy (`ClientTLSSettings`): which TLS to originate, and the combinations that Istio forbids.
//!
//! Stricter than Istio in one thing: a block that names certificates, an SNI or names to verify, but no mode, would mean
//! DISABLE, plaintext. Nobody who writes that wants plaintext, so it is an error.

use std::path::PathBuf;

use crate::config::names;
use crate::config::problem::Location;
use crate::config::reader::{Field, Object, Report};
use crate::config::yaml::quoted;
use crate::flow::Hostname;

/// `ClientTLSSettings`.
#[derive(Clone, Debug)]
pub struct ClientTls {
    pub mode: TlsMode,
    pub client_certificate: Option<PathBuf>,
    pub private_key: Option<PathBuf>,
    pub ca_certificates: Option<PathBuf>,
    pub ca_crl: Option<PathBuf>,
    pub credential_name: Option<String>,
    /// As written: DNS names, `spiffe://…` and other URIs, IP addresses.
    pub subject_alt_names: Vec<String>,
    pub sni: Option<Hostname>,
    pub insecure_skip_verify: bool,
    /// Where the `tls` block stands.
    pub at: Location,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsMode {
    Disable,
    Simple,
    Mutual,
    IstioMutual,
}

const MODES: &[(&str, TlsMode)] = &[
    ("DISABLE", TlsMode::Disable),
    ("SIMPLE", TlsMode::Simple),
    ("MUTUAL", TlsMode::Mutual),
    ("ISTIO_MUTUAL", TlsMode::IstioMutual),
];
/// Every field but the mode.
const DETAILS: [&str; 8] = [
    "clientCertificate",
    "privateKey",
    "caCertificates",
    "caCrl",
    "credentialName",
    "subjectAltNames",
    "sni",
    "insecureSkipVerify",
];

pub(super) fn read(field: &Field<'_>, report: &mut Report) -> Option<ClientTls> {
    let mut object = field.object(report)?;
    let mode_field = object.optional("mode");
    let mode = if let Some(field) = &mode_field {
        field.choice(MODES, report)
    } else {
        without_mode(&object, report);
        Some(TlsMode::Disable)
    };
    let mut path = |name, report: &mut Report| object.optional_text(name, report).map(|(_, text)| PathBuf::from(text));
    let client_certificate = path("clientCertificate", report);
    let private_key = path("privateKey", report);
    let ca_certificates = path("caCertificates", report);
    let ca_crl = path("caCrl", report);
    let credential_name =
        object.optional_text("credentialName", report).and_then(|(field, name)| read_credential(&field, name, report));
    let subject_alt_names = object.optional("subjectAltNames").map(|field| field.words(report)).unwrap_or_default();
    let sni = object.optional_text("sni", report);
    let sni = sni.and_then(|(field, name)| names::host_name(name, name).map_err(|m| field.error(m, report)).ok());
    let insecure_skip_verify = object.optional("insecureSkipVerify").and_then(|field| field.boolean(report));
    let Some(mode) = mode else {
        object.finish(report);
        return None;
    };
    let tls = ClientTls {
        mode,
        client_certificate,
        private_key,
        ca_certificates,
        ca_crl,
        credential_name,
        subject_alt_names,
        sni,
        insecure_skip_verify: insecure_skip_verify.unwrap_or(false),
        at: report.location(field.key_at()),
    };
    check(&tls, mode_field.is_some(), &object, report);
    object.finish(report);
    Some(tls)
}

fn without_mode(object: &Object<'_>, report: &mut Report) {
    match DETAILS.iter().find(|name| object.has(name)) {
        Some(name) => {
            let message = format!(
                "mode is required beside {name}: without it Istio reads DISABLE, plaintext; write SIMPLE or MUTUAL"
            );
            object.error(message, report);
        }
        None => object.warning("without a mode this means DISABLE, plaintext", report),
    }
}

/// The name of a Secret. It also names a folder, so nothing but a plain name may pass.
fn read_credential(field: &Field<'_>, name: &str, report: &mut Report) -> Option<String> {
    if name.contains("://") {
        field.error(format!("{}: only the name of a Secret is supported, without a scheme", quoted(name)), report);
    } else if names::is_dns_subdomain(name) {
        return Some(name.to_owned());
    } else {
        field.error(
            format!("{} is no name of a Secret: use lower-case letters, digits, '-' and '.'", quoted(name)),
            report,
        );
    }
    None
}

/// `validateTLS` of Istio (`pkg/config/validation/agent/validation.go`), and what would silently have no effect.
fn check(tls: &ClientTls, mode_written: bool, object: &Object<'_>, report: &mut Report) {
    let error = |message: &str, report: &mut Report| object.error(message, report);
    let files = tls.client_certificate.is_some()
        || tls.private_key.is_some()
        || tls.ca_certificates.is_some()
        || tls.ca_crl.is_some();
    if tls.credential_name.is_some() && files {
        let rest = "clientCertificate, privateKey, caCertificates or caCrl";
        error(&format!("credentialName cannot be combined with {rest}: the Secret holds them all"), report);
    }
    if tls.ca_crl.is_some() && tls.ca_certificates.is_none() && tls.credential_name.is_none() {
        error("caCrl needs caCertificates: the system's CAs are not checked against it", report);
    }
    match tls.mode {
        TlsMode::Disable if mode_written => warn_without_effect(&DETAILS, "DISABLE", object, report),
        TlsMode::Disable => {}
        TlsMode::Simple => {
            check_skip_verify(tls, tls.credential_name.is_some(), object, report);
            warn_without_effect(&["clientCertificate", "privateKey"], "SIMPLE", object, report);
        }
        TlsMode::Mutual => {
            check_skip_verify(tls, false, object, report);
            if tls.credential_name.is_none() && !object.has("credentialName") {
                for (name, set) in
                    [("clientCertificate", tls.client_certificate.is_some()), ("privateKey", tls.private_key.is_some())]
                {
                    if !set {
                        error(&format!("mode MUTUAL needs {name}, or credentialName"), report);
                    }
                }
            }
        }
        TlsMode::IstioMutual => {
            if files || tls.credential_name.is_some() {
                error("mode ISTIO_MUTUAL uses the mesh's certificates and allows none here; use MUTUAL", report);
            }
        }
    }
}

fn check_skip_verify(tls: &ClientTls, credential: bool, object: &Object<'_>, report: &mut Report) {
    if !tls.insecure_skip_verify {
        return;
    }
    let forbidden = [
        ("caCertificates", tls.ca_certificates.is_some()),
        ("credentialName", credential),
        ("subjectAltNames", !tls.subject_alt_names.is_empty()),
    ];
    for (name, set) in forbidden {
        if set {
            let message = format!("insecureSkipVerify verifies nothing and cannot be combined with {name}; remove one");
            object.error(message, report);
        }
    }
}

fn warn_without_effect(names: &[&str], mode: &str, object: &Object<'_>, report: &mut Report) {
    for name in names.iter().filter(|name| object.has(name)) {
        object.warning(format!("{name} has no effect with mode {mode}"), report);
    }
}
