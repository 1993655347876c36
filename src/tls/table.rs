//! What `egret secrets` shows: the columns of `istioctl proxy-config secret`, as text or JSON.
//!
//! Holds names, serials and dates; never keys.

use serde::{Deserialize, Serialize};

use super::certificate::{CertificateFacts, rfc3339};
use super::profile::{IdentitySource, TrustSource};
use super::secrets::CA_SUFFIX;

/// One credential in use.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct SecretRow {
    /// `kubernetes://X`, `kubernetes://X-cacert`, `file-cert:<cert>~<key>`, `file-root:<ca>`, `file-root:system`.
    pub resource_name: String,
    #[serde(rename = "type")]
    pub kind: SecretKind,
    #[serde(rename = "state")]
    pub status: SecretStatus,
    /// Of the leaf, or of the first CA of a bundle; absent while nothing could be loaded.
    #[serde(flatten)]
    pub certificate: Option<RowCertificate>,
    /// Why nothing could be loaded, or why what is in use is not the newest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct RowCertificate {
    /// Whether the time of the listing lies within the dates.
    pub cert_valid: bool,
    pub serial_number: String,
    /// RFC 3339.
    pub not_after: String,
    pub not_before: String,
    /// Whole days until `not_after`, negative afterwards.
    pub days_until_expiration: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum SecretKind {
    #[serde(rename = "CA")]
    Ca,
    #[serde(rename = "Cert Chain")]
    CertChain,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum SecretStatus {
    #[serde(rename = "ACTIVE")]
    Active,
    #[serde(rename = "WARMING")]
    Warming,
}

impl SecretRow {
    pub(super) fn new(
        resource_name: String,
        kind: SecretKind,
        facts: Option<&CertificateFacts>,
        problem: Option<String>,
    ) -> Self {
        let now = jiff::Timestamp::now().as_second();
        let status = if facts.is_some() { SecretStatus::Active } else { SecretStatus::Warming };
        let certificate = facts.map(|facts| RowCertificate {
            cert_valid: facts.valid_at(now),
            serial_number: facts.serial.clone(),
            not_after: rfc3339(facts.not_after),
            not_before: rfc3339(facts.not_before),
            days_until_expiration: (facts.not_after - now).div_euclid(24 * 60 * 60),
        });
        Self { resource_name, kind, status, certificate, problem }
    }

    fn columns(&self) -> [String; 7] {
        let kind = match self.kind {
            SecretKind::Ca => "CA",
            SecretKind::CertChain => "Cert Chain",
        };
        let status = match self.status {
            SecretStatus::Active => "ACTIVE",
            SecretStatus::Warming => "WARMING",
        };
        let [valid, serial, not_after, not_before] = match &self.certificate {
            None => ["false".to_owned(), String::new(), String::new(), String::new()],
            Some(of) => {
                [of.cert_valid.to_string(), of.serial_number.clone(), of.not_after.clone(), of.not_before.clone()]
            }
        };
        [self.resource_name.clone(), kind.to_owned(), status.to_owned(), valid, serial, not_after, not_before]
    }
}

const HEADER: [&str; 7] = ["RESOURCE NAME", "TYPE", "STATUS", "VALID CERT", "SERIAL NUMBER", "NOT AFTER", "NOT BEFORE"];
/// Between columns, as istioctl's.
const GAP: usize = 5;

/// The table with its header, a line a row.
#[must_use]
pub fn secrets_text(rows: &[SecretRow]) -> String {
    let lines: Vec<[String; 7]> =
        std::iter::once(HEADER.map(str::to_owned)).chain(rows.iter().map(SecretRow::columns)).collect();
    let widths: [usize; 7] =
        std::array::from_fn(|at| lines.iter().map(|line| line[at].chars().count()).max().unwrap_or(0));
    let mut text = String::new();
    for line in &lines {
        let cells = line.iter().zip(widths).map(|(cell, width)| format!("{cell:<0$}", width + GAP));
        text.push_str(cells.collect::<String>().trim_end());
        text.push('\n');
    }
    text
}

/// The rows as a JSON array.
#[must_use]
pub fn secrets_json(rows: &[SecretRow]) -> String {
    serde_json::to_string_pretty(rows).expect("strings, numbers and booleans always have a JSON form")
}

pub(super) fn trust_name(source: &TrustSource) -> String {
    match source {
        TrustSource::System => "file-root:system".to_owned(),
        TrustSource::File { ca, .. } => format!("file-root:{}", ca.display()),
        TrustSource::Credential(name) => format!("kubernetes://{name}{CA_SUFFIX}"),
        TrustSource::Unverified => "unverified".to_owned(),
    }
}

pub(super) fn identity_name(source: &IdentitySource) -> String {
    match source {
        IdentitySource::Files { cert, key } => format!("file-cert:{}~{}", cert.display(), key.display()),
        IdentitySource::Credential(name) => format!("kubernetes://{name}"),
    }
}
