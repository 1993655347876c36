//! Certificates that come to their end: said in the log once a day each, with the rules that use them, and as metrics at
//! any time.
//!
//! Knows nothing of files and handshakes: an expired certificate is used as before, since only the other side can say
//! whether it still takes it.

use std::collections::HashMap;

use crate::config::{ClientTls, DestinationRule, Location, Problem, Severity};
use crate::observe::Exposition;
use crate::tls::{Credential, SecretKind};

const DAY: i64 = 24 * 60 * 60;

/// Which warnings were given, and when.
#[derive(Debug, Default)]
pub struct ExpiryWarnings(HashMap<String, i64>);

impl ExpiryWarnings {
    /// The warnings to give at `now` (seconds since the epoch). A replaced certificate has another serial, hence another
    /// text, and is warned of at once.
    pub fn due(&mut self, credentials: &[Credential], rules: &[DestinationRule], now: i64) -> Vec<Problem> {
        let key = |c: &Credential| format!("{} {}", c.resource_name, c.facts.as_ref().map_or("", |f| &f.serial));
        self.0.retain(|given, _| credentials.iter().any(|c| key(c) == *given));
        let mut due = Vec::new();
        for credential in credentials {
            let Some(warning) = warning(credential, rules, now) else { continue };
            let last = self.0.entry(key(credential)).or_insert(i64::MIN);
            if now.saturating_sub(*last) >= DAY {
                *last = now;
                due.push(warning);
            }
        }
        due
    }
}

/// What is to be said of a credential's end at `now`, at the place of the first rule that uses it.
pub fn warning(credential: &Credential, rules: &[DestinationRule], now: i64) -> Option<Problem> {
    let mut message = credential.expiry_warning(now)?;
    let mut places = places(credential, rules).into_iter();
    let at = places.next();
    let others: Vec<String> = places.map(|place| place.to_string()).collect();
    if !others.is_empty() {
        message = format!("{message}; {} uses it as well", others.join(", "));
    }
    Some(Problem { severity: Severity::Warning, at, message })
}

/// Where a `tls` block names the credential.
fn places(credential: &Credential, rules: &[DestinationRule]) -> Vec<Location> {
    let blocks = rules.iter().flat_map(tls_blocks);
    let mut places: Vec<Location> =
        blocks.filter(|tls| credential.is_named_by(tls)).map(|tls| tls.at.clone()).collect();
    places.sort();
    places.dedup();
    places
}

fn tls_blocks(rule: &DestinationRule) -> impl Iterator<Item = &ClientTls> {
    let policies = rule.traffic_policy.iter().chain(rule.subsets.iter().filter_map(|s| s.traffic_policy.as_ref()));
    let ports = policies.flat_map(|policy| std::iter::once(&policy.all).chain(policy.ports.iter().map(|(_, own)| own)));
    ports.filter_map(|port| port.tls.as_ref())
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
    let start = "egret_certificate_start_timestamp_seconds";
    out.family(start, "gauge", "When the certificate in use began, in seconds since the epoch.");
    for (credential, _) in ends() {
        let (name, kind) = labels(credential);
        let begin = credential.facts.as_ref().map_or(0, |facts| facts.not_before);
        out.sample(start, &[("name", &name), ("type", kind)], begin);
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
        Credential { resource_name, kind: SecretKind::CertChain, facts: Some(facts), stored_in: None, problem: None }
    }

    fn due(warnings: &mut ExpiryWarnings, credentials: &[Credential], now: i64) -> usize {
        warnings.due(credentials, &[], now).len()
    }

    #[test]
    fn each_is_said_once_a_day() {
        let mut warnings = ExpiryWarnings::default();
        // Of twenty days, so that its last third begins after the thirteenth.
        let old = [credential("1", 20 * DAY)];
        let start = 14 * DAY;
        assert_eq!(due(&mut warnings, &old, start - DAY), 0);
        assert_eq!(due(&mut warnings, &old, start), 1);
        assert_eq!(due(&mut warnings, &old, start + DAY - 1), 0);
        assert_eq!(due(&mut warnings, &old, start + DAY), 1);
        assert_eq!(due(&mut warnings, &old, start + DAY + 5), 0);
        assert_eq!(due(&mut warnings, &[credential("2", 300 * DAY)], start + DAY + 6), 0, "replaced in time");
        let other = [credential("3", 16 * DAY)];
        assert_eq!(due(&mut warnings, &other, start + DAY + 7), 1, "replaced by another that ends soon");
    }

    #[test]
    fn a_warning_stands_where_the_credential_is_used() {
        let rule = |name: &str, tls: &str| {
            format!(
                "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: {name}}}\nspec:\n  host: \
                 {name}.example\n  trafficPolicy:\n    portLevelSettings:\n    - port: {{number: 80}}\n      tls: \
                 {tls}\n---\n"
            )
        };
        let text = [
            rule("a", "{mode: MUTUAL, credentialName: client}"),
            rule("b", "{mode: SIMPLE, credentialName: client}"),
            rule("c", "{mode: MUTUAL, clientCertificate: /c.crt, privateKey: /c.key, caCertificates: /ca.crt}"),
            rule("d", "{mode: SIMPLE, insecureSkipVerify: true}"),
            rule("e", "{mode: MUTUAL, credentialName: client}"),
        ];
        let loaded = crate::config::load_text(std::path::Path::new("a.yaml"), &text.concat());
        let rules = loaded.resources.destination_rules;
        assert_eq!(rules.len(), 5, "{:?}", loaded.problems);
        let said = |name: &str, kind: SecretKind| {
            let named = Credential { resource_name: name.to_owned(), kind, ..credential("1", 20 * DAY) };
            let warning = warning(&named, &rules, 19 * DAY).unwrap();
            (warning.at.map(|at| at.line), warning.message)
        };
        let (line, message) = said("kubernetes://client", SecretKind::CertChain);
        assert_eq!(line, Some(9));
        assert!(message.ends_with("; a.yaml:49:7 uses it as well"), "{message}");
        assert_eq!(said("kubernetes://client-cacert", SecretKind::Ca).0, Some(9));
        assert_eq!(said("file-cert:/c.crt~/c.key", SecretKind::CertChain).0, Some(29));
        let (line, message) = said("file-root:/ca.crt", SecretKind::Ca);
        assert_eq!(line, Some(29));
        assert!(!message.contains("as well"), "{message}");
        assert_eq!(said("kubernetes://other", SecretKind::CertChain).0, None);
    }

    #[test]
    fn metrics_name_the_credential() {
        let mut out = Exposition::new();
        render(&[credential("1", 20 * DAY)], DAY + 1, &mut out);
        let text = out.finish();
        let labels = "{name=\"kubernetes://client\",type=\"Cert Chain\"}";
        assert!(text.contains(&format!("egret_certificate_expiry_timestamp_seconds{labels} 1728000\n")), "{text}");
        assert!(text.contains(&format!("egret_certificate_start_timestamp_seconds{labels} 0\n")), "{text}");
        assert!(text.contains(&format!("egret_certificate_days_until_expiry{labels} 18\n")), "{text}");
    }
}
