//! What `egret secrets` shows: the columns of `istioctl proxy-config secret`, as text or JSON.
//!
//! Holds names, serials and dates; never keys.

use serde::{Deserialize, Serialize};

use super::certificate::{CertificateFacts, rfc3339};
use super::request::{IdentitySource, TrustSource};
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

/// A credential in use, apart from any moment at which it is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    pub resource_name: String,
    pub kind: SecretKind,
    /// Of the last good material: the leaf's, or the first CA's.
    pub facts: Option<CertificateFacts>,
    pub problem: Option<String>,
}

const DAY: i64 = 24 * 60 * 60;
/// Days before its end from which a certificate is warned of.
const WARNING_DAYS: i64 = 30;

impl Credential {
    /// As it shows at `now`, in seconds since the epoch.
    #[must_use]
    pub fn row(&self, now: i64) -> SecretRow {
        let status = if self.facts.is_some() { SecretStatus::Active } else { SecretStatus::Warming };
        let certificate = self.facts.as_ref().map(|facts| RowCertificate {
            cert_valid: facts.valid_at(now),
            serial_number: facts.serial.clone(),
            not_after: rfc3339(facts.not_after),
            not_before: rfc3339(facts.not_before),
            days_until_expiration: (facts.not_after - now).div_euclid(DAY),
        });
        SecretRow {
            resource_name: self.resource_name.clone(),
            kind: self.kind,
            status,
            certificate,
            problem: self.problem.clone(),
        }
    }

    /// When it ends, in seconds since the epoch. None for the operating system's bundle: one of its hundred roots is
    /// always about to end, and nothing follows from it.
    #[must_use]
    pub fn expires(&self) -> Option<i64> {
        let own = self.resource_name != SYSTEM_ROOTS;
        self.facts.as_ref().filter(|_| own).map(|facts| facts.not_after)
    }

    /// A sentence where it has expired at `now`, is not valid yet, or will expire within thirty days.
    #[must_use]
    pub fn expiry_warning(&self, now: i64) -> Option<String> {
        let end = self.expires()?;
        let facts = self.facts.as_ref()?;
        let (name, serial) = (&self.resource_name, &facts.serial);
        let days = (end - now).div_euclid(DAY);
        if now > end {
            Some(format!("{name} (serial {serial}) expired on {}: replace it", rfc3339(end)))
        } else if now < facts.not_before {
            Some(format!("{name} (serial {serial}) is not valid before {}", rfc3339(facts.not_before)))
        } else if days < WARNING_DAYS {
            Some(format!("{name} (serial {serial}) expires in {days} days, on {}: replace it", rfc3339(end)))
        } else {
            None
        }
    }
}

impl SecretRow {
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

const SYSTEM_ROOTS: &str = "file-root:system";

pub(super) fn trust_name(source: &TrustSource) -> String {
    match source {
        TrustSource::System => SYSTEM_ROOTS.to_owned(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_begin_thirty_days_before_the_end() {
        let facts = CertificateFacts {
            subject: "CN=client".to_owned(),
            issuer: "CN=root".to_owned(),
            serial: "2a".to_owned(),
            not_before: 10 * DAY,
            not_after: 100 * DAY,
            names: Vec::new(),
        };
        let credential = Credential {
            resource_name: "kubernetes://client".to_owned(),
            kind: SecretKind::CertChain,
            facts: Some(facts),
            problem: None,
        };
        for (now, said) in [
            (10 * DAY - 1, Some("is not valid before 1970-01-11T00:00:00Z")),
            (10 * DAY, None),
            (70 * DAY, None),
            (70 * DAY + 1, Some("expires in 29 days, on 1970-04-11T00:00:00Z")),
            (100 * DAY, Some("expires in 0 days")),
            (100 * DAY + 1, Some("expired on 1970-04-11T00:00:00Z")),
        ] {
            let warning = credential.expiry_warning(now);
            match said {
                None => assert_eq!(warning, None, "{now}"),
                Some(part) => {
                    let warning = warning.unwrap_or_default();
                    assert!(warning.starts_with("kubernetes://client (serial 2a) "), "{now}: {warning}");
                    assert!(warning.contains(part), "{now}: {warning}");
                }
            }
        }
        let system = Credential { resource_name: SYSTEM_ROOTS.to_owned(), kind: SecretKind::Ca, ..credential };
        assert_eq!((system.expires(), system.expiry_warning(200 * DAY)), (None, None));
    }

    #[test]
    fn a_row_is_of_its_moment() {
        let facts = CertificateFacts {
            subject: String::new(),
            issuer: String::new(),
            serial: "1".to_owned(),
            not_before: 0,
            not_after: 3 * DAY,
            names: Vec::new(),
        };
        let credential = Credential {
            resource_name: "file-root:/ca.pem".to_owned(),
            kind: SecretKind::Ca,
            facts: Some(facts),
            problem: None,
        };
        for (now, valid, days) in [(0, true, 3), (DAY + 1, true, 1), (3 * DAY + 1, false, -1)] {
            let of = credential.row(now).certificate.unwrap();
            assert_eq!((of.cert_valid, of.days_until_expiration), (valid, days), "{now}");
        }
    }
}
