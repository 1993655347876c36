//! `egret webhook certificates`: a certificate for the webhook where no cert-manager makes one.
//!
//! Its authority's key is thrown away: nothing else can ever be signed with it, and the next certificate has a new one.

use std::io::{self, Write};

use data_encoding::BASE64;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};

/// As `config/kubernetes/webhook/configuration` has it, without the authority's certificate.
const CONFIGURATION: &str = include_str!("../../config/kubernetes/webhook/configuration/configuration.yaml");
/// In the configuration: where the webhook runs.
const NAMESPACE: &str = "egret-system";

/// Print a new certificate as a Secret, and the MutatingWebhookConfiguration that trusts it.
///
/// For `kubectl apply -f -`. The webhook takes up a new certificate by itself; print and apply again before the old one ends.
#[derive(Debug, clap::Args)]
pub(super) struct CertificatesArgs {
    /// Namespace that the webhook runs in
    #[arg(long, value_name = "NS", default_value = NAMESPACE, value_parser = label)]
    namespace: String,
    /// Days until the certificate ends
    #[arg(long, value_name = "N", default_value_t = 365, value_parser = clap::value_parser!(u16).range(1..=3650))]
    days: u16,
}

pub(super) fn print(args: &CertificatesArgs) -> Result<(), String> {
    let text = documents(args).map_err(|error| format!("cannot make a certificate: {error}"))?;
    io::stdout().lock().write_all(text.as_bytes()).map_err(|error| format!("standard output: {error}"))
}

fn documents(args: &CertificatesArgs) -> Result<String, rcgen::Error> {
    let namespace = &args.namespace;
    let mut params = params("egret webhook authority", args.days, Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    let host = format!("egret-webhook.{namespace}.svc");
    let mut params = self::params(&host, args.days, vec![host.clone()])?;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let key = KeyPair::generate()?;
    let leaf = params.signed_by(&key, &authority)?;
    let [certificate, key, bundle] =
        [leaf.pem(), key.serialize_pem(), authority.pem()].map(|pem| BASE64.encode(pem.as_bytes()));
    let configuration = CONFIGURATION
        .replace(&format!("namespace: {NAMESPACE}\n"), &format!("namespace: {namespace}\n"))
        .replace("    clientConfig:\n", &format!("    clientConfig:\n      caBundle: {bundle}\n"));
    Ok(format!(
        "apiVersion: v1\nkind: Secret\nmetadata:\n  name: egret-webhook\n  namespace: {namespace}\n\
         type: kubernetes.io/tls\ndata:\n  tls.crt: {certificate}\n  tls.key: {key}\n---\n{configuration}"
    ))
}

fn params(name: &str, days: u16, hosts: Vec<String>) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(hosts)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let now = std::time::SystemTime::now();
    // The API server's clock may be behind this one.
    params.not_before = (now - std::time::Duration::from_secs(3600)).into();
    params.not_after = (now + std::time::Duration::from_secs(u64::from(days) * 86_400)).into();
    Ok(params)
}

/// A DNS label (RFC 1123), as Kubernetes wants of namespaces.
fn label(text: &str) -> Result<String, String> {
    let sound = crate::inject::object_name(text).is_ok() && !text.contains('.');
    if sound { Ok(text.to_owned()) } else { Err("lower-case letters, digits and -, up to 50".to_owned()) }
}
