//! What `egret secrets` shows: the columns of `istioctl proxy-config secret`, as text or JSON.
//!
//! Holds names, serials and dates; never keys.

use serde::{Deserialize, Serialize};

use crate::config::{ClientTls, TlsMode};

use crate::tls::material::certificate::{CertificateFacts, rfc3339};
use crate::tls::material::secrets::CA_SUFFIX;
use crate::tls::request::{IdentitySource, TrustSource};

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
    /// Where its certificate is read from, for people: a file, the folder of a mounted Secret, a Secret document's place.
    pub stored_in: Option<String>,
    /// Of the last good material: the leaf's, or the first CA's.
    pub facts: Option<CertificateFacts>,
    pub problem: Option<String>,
}

const DAY: i64 = 24 * 60 * 60;
/// How long before its end a certificate is warned of at most.
const LONGEST_WARNING: i64 = 30 * DAY;

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

    /// A sentence where it has expired at `now`, is not valid yet, or is in the last third of its life, which counts as
    /// thirty days at most: a certificate of a day must not be warned of all day, nor one of ten years for three.
    #[must_use]
    pub fn expiry_warning(&self, now: i64) -> Option<String> {
        let end = self.expires()?;
        let facts = self.facts.as_ref()?;
        let (name, serial) = (&self.resource_name, &facts.serial);
        let replace = match &self.stored_in {
            Some(place) => format!("replace it in {place}"),
            None => "replace it".to_owned(),
        };
        if now > end {
            Some(format!("{name} (serial {serial}) expired on {}: {replace}", rfc3339(end)))
        } else if now < facts.not_before {
            let begin = rfc3339(facts.not_before);
            Some(format!("{name} (serial {serial}) is not valid before {begin}: wait, check the clock, or {replace}"))
        } else if end - now < facts.life() / 3 && end - now < LONGEST_WARNING {
            let left = left(end - now);
            Some(format!("{name} (serial {serial}) expires in {left}, on {}: {replace}", rfc3339(end)))
        } else {
            None
        }
    }

    /// Whether a `tls` block asks for this credential.
    #[must_use]
    pub fn is_named_by(&self, tls: &ClientTls) -> bool {
        let name = match self.kind {
            SecretKind::Ca if tls.insecure_skip_verify || tls.mode == TlsMode::Disable => None,
            SecretKind::Ca => match (&tls.credential_name, &tls.ca_certificates) {
                (Some(name), _) => Some(trust_name(&TrustSource::Credential(name.clone()))),
                (None, Some(ca)) => Some(trust_name(&TrustSource::File { ca: ca.clone(), crl: None })),
                (None, None) => None,
            },
            SecretKind::CertChain if tls.mode != TlsMode::Mutual => None,
            SecretKind::CertChain => match (&tls.credential_name, &tls.client_certificate, &tls.private_key) {
                (Some(name), _, _) => Some(identity_name(&IdentitySource::Credential(name.clone()))),
                (None, Some(cert), Some(key)) => {
                    Some(identity_name(&IdentitySource::Files { cert: cert.clone(), key: key.clone() }))
                }
                _ => None,
            },
        };
        name.is_some_and(|name| name == self.resource_name)
    }
}

/// A time that is left, in the unit that says something.
fn left(seconds: i64) -> String {
    const HOUR: i64 = 60 * 60;
    match seconds {
        ..HOUR => format!("{} minutes", seconds / 60),
        HOUR..=172_799 => format!("{} hours", seconds / HOUR),
        _ => format!("{} days", seconds / DAY),
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

pub(in crate::tls) fn trust_name(source: &TrustSource) -> String {
    match source {
        TrustSource::System => SYSTEM_ROOTS.to_owned(),
        TrustSource::File { ca, .. } => format!("file-root:{}", ca.display()),
        TrustSource::Credential(name) => format!("kubernetes://{name}{CA_SUFFIX}"),
        TrustSource::Unverified => "unverified".to_owned(),
    }
}

pub(in crate::tls) fn identity_name(source: &IdentitySource) -> String {
    match source {
        IdentitySource::Files { cert, key } => format!("file-cert:{}~{}", cert.display(), key.display()),
        IdentitySource::Credential(name) => format!("kubernetes://{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credential(not_before: i64, not_after: i64) -> Credential {
        let facts = CertificateFacts {
            subject: "CN=client".to_owned(),
            issuer: "CN=root".to_owned(),
            serial: "2a".to_owned(),
            not_before,
            not_after,
            names: Vec::new(),
        };
        Credential {
            resource_name: "kubernetes://client".to_owned(),
            kind: SecretKind::CertChain,
            stored_in: Some("/etc/egret/secrets/client".to_owned()),
            facts: Some(facts),
            problem: None,
        }
    }

    /// Begin and end of a certificate's life, a moment in it, and what is said.
    #[test]
    fn warnings_begin_with_the_last_third_of_a_life_and_at_most_thirty_days_before_its_end() {
        const HOUR: i64 = 60 * 60;
        let quarter = (10 * DAY, 100 * DAY);
        let cases = [
            (
                quarter,
                10 * DAY - 1,
                Some(
                    "is not valid before 1970-01-11T00:00:00Z: wait, check the clock, or replace it in /etc/egret/secrets/client",
                ),
            ),
            (quarter, 10 * DAY, None),
            (quarter, 70 * DAY, None),
            (
                quarter,
                70 * DAY + 1,
                Some("expires in 29 days, on 1970-04-11T00:00:00Z: replace it in /etc/egret/secrets/client"),
            ),
            (quarter, 100 * DAY, Some("expires in 0 minutes")),
            (quarter, 100 * DAY + 1, Some("expired on 1970-04-11T00:00:00Z: replace it in /etc/egret/secrets/client")),
            // A year, and ten: thirty days before the end.
            ((0, 365 * DAY), 334 * DAY, None),
            ((0, 365 * DAY), 336 * DAY, Some("expires in 29 days")),
            ((0, 3650 * DAY), 3600 * DAY, None),
            ((0, 3650 * DAY), 3640 * DAY, Some("expires in 10 days")),
            // A day, as SPIRE gives, and an hour: neither is warned of all its life.
            ((0, DAY), 0, None),
            ((0, DAY), 16 * HOUR, None),
            ((0, DAY), 16 * HOUR + 1, Some("expires in 7 hours")),
            ((0, HOUR), 39 * 60, None),
            ((0, HOUR), 41 * 60, Some("expires in 19 minutes")),
            ((0, 10 * DAY), 6 * DAY, None),
            ((0, 10 * DAY), 7 * DAY, Some("expires in 3 days")),
        ];
        for ((begin, end), now, said) in cases {
            let warning = credential(begin, end).expiry_warning(now);
            match said {
                None => assert_eq!(warning, None, "{begin}..{end} at {now}"),
                Some(part) => {
                    let warning = warning.unwrap_or_default();
                    assert!(warning.starts_with("kubernetes://client (serial 2a) "), "{now}: {warning}");
                    assert!(warning.contains(part), "{now}: {warning}");
                }
            }
        }
        let own = credential(10 * DAY, 100 * DAY);
        let system = Credential { resource_name: SYSTEM_ROOTS.to_owned(), kind: SecretKind::Ca, ..own };
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
            stored_in: None,
            facts: Some(facts),
            problem: None,
        };
        for (now, valid, days) in [(0, true, 3), (DAY + 1, true, 1), (3 * DAY + 1, false, -1)] {
            let of = credential.row(now).certificate.unwrap();
            assert_eq!((of.cert_valid, of.days_until_expiration), (valid, days), "{now}");
        }
    }
}
