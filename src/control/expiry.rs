//! Certificates that come to their end: said in the log once a day each, and as metrics at any time.
//!
//! Knows nothing of files and handshakes: an expired certificate is used as before, since only the other side can say
//! whether it still takes it.

use std::collections::HashMap;

use crate::observe::Exposition;
use crate::tls::{Credential, SecretKind};

const DAY: i64 = 24 * 60 * 60;

/// Which warnings were given, and when.
#[derive(Debug, Default)]
pub struct ExpiryWarnings(HashMap<String, i64>);

impl ExpiryWarnings {
    /// The warnings to give at `now` (seconds since the epoch). A replaced certificate has another serial, hence another
    /// text, and is warned of at once.
    pub fn due(&mut self, credentials: &[Credential], now: i64) -> Vec<String> {
        let key = |c: &Credential| format!("{} {}", c.resource_name, c.facts.as_ref().map_or("", |f| &f.serial));
        self.0.retain(|given, _| credentials.iter().any(|c| key(c) == *given));
        let mut due = Vec::new();
        for credential in credentials {
            let Some(warning) = credential.expiry_warning(now) else { continue };
            let last = self.0.entry(key(credential)).or_insert(i64::MIN);
            if now.saturating_sub(*last) >= DAY {
                *last = now;
                due.push(warning);
            }
        }
        due
    }
}

/// When each credential ends, as a time and as days from `now`, negative afterwards.
pub fn render(credentials: &[Credential], now: i64, out: &mut Exposition) {
    let ends = || credentials.iter().filter_map(|credential| Some((credential, credential.expires()?)));
    let labels = |credential: &Credential| {
        let kind = match credential.kind {
            SecretKind::Ca => "CA",
            SecretKind::CertChain => "Cert Chain",
        };
        (credential.resource_name.clone(), kind)
    };
    let time = "egret_certificate_expiry_timestamp_seconds";
    out.family(time, "gauge", "When the certificate in use ends, in seconds since the epoch.");
    for (credential, end) in ends() {
        let (name, kind) = labels(credential);
        out.sample(time, &[("name", &name), ("type", kind)], end);
    }
    let days = "egret_certificate_days_until_expiry";
    out.family(days, "gauge", "Whole days until the certificate in use ends; negative afterwards.");
    for (credential, end) in ends() {
        let (name, kind) = labels(credential);
        out.sample(days, &[("name", &name), ("type", kind)], (end - now).div_euclid(DAY));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::CertificateFacts;

    fn credential(serial: &str, not_after: i64) -> Credential {
        let facts = CertificateFacts {
            subject: String::new(),
            issuer: String::new(),
            serial: serial.to_owned(),
            not_before: 0,
            not_after,
            names: Vec::new(),
        };
        let resource_name = "kubernetes://client".to_owned();
        Credential { resource_name, kind: SecretKind::CertChain, facts: Some(facts), problem: None }
    }

    #[test]
    fn each_is_said_once_a_day() {
        let mut warnings = ExpiryWarnings::default();
        let old = [credential("1", 20 * DAY)];
        assert_eq!(warnings.due(&old, 0).len(), 1);
        assert_eq!(warnings.due(&old, DAY - 1).len(), 0);
        assert_eq!(warnings.due(&old, DAY).len(), 1);
        assert_eq!(warnings.due(&old, DAY + 5).len(), 0);
        assert_eq!(warnings.due(&[credential("2", 300 * DAY)], DAY + 6).len(), 0, "replaced in time");
        assert_eq!(warnings.due(&[credential("3", 5 * DAY)], DAY + 7).len(), 1, "replaced by another that ends soon");
    }

    #[test]
    fn metrics_name_the_credential() {
        let mut out = Exposition::new();
        render(&[credential("1", 20 * DAY)], DAY + 1, &mut out);
        let text = out.finish();
        let labels = "{name=\"kubernetes://client\",type=\"Cert Chain\"}";
        assert!(text.contains(&format!("egret_certificate_expiry_timestamp_seconds{labels} 1728000\n")), "{text}");
        assert!(text.contains(&format!("egret_certificate_days_until_expiry{labels} 18\n")), "{text}");
    }
}
