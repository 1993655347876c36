//! Settings that hold from the start of the process to its end, and values of them that a reload has read since.
//!
//! A reload must not show such a value as if it were in force: the table gets the value of the start, and what the files say
//! is named as waiting. This module compares settings; it reads no file and knows no worker.

use crate::config::{Location, Problem, SETTINGS, Settings, Severity, TakesEffect};

/// A value that the files have now and that only a restart brings into force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// As a Settings document names it.
    pub setting: &'static str,
    /// The value of the start, as a Settings document writes it.
    pub in_force: String,
    /// What a start by the files of this moment would take.
    pub after_restart: String,
    /// The Settings document; `None` where it was removed, so that the value is the default.
    pub at: Option<Location>,
}

impl Waiting {
    /// For a list of several.
    #[must_use]
    pub fn summary(&self) -> String {
        format!("{}: {}, now {}", self.setting, self.after_restart, self.in_force)
    }

    #[must_use]
    pub fn warning(&self) -> Problem {
        let Self { setting, in_force, after_restart, at } = self;
        let message = format!(
            "{setting}: {after_restart} needs a restart of egret, which reads it at the start only; {in_force} stays in force"
        );
        Problem { severity: Severity::Warning, at: at.clone(), message }
    }
}

/// Puts the values of the start back into `read`, for settings that cannot change; tells what it put back.
pub fn hold(started: &Settings, read: &mut Settings, at: Option<&Location>) -> Vec<Waiting> {
    let mut waiting = Vec::new();
    for setting in SETTINGS.iter().filter(|setting| setting.takes_effect == TakesEffect::Restart) {
        let after_restart = setting.value.text(read);
        if setting.copy(started, read) {
            let in_force = setting.value.text(started);
            waiting.push(Waiting { setting: setting.key, in_force, after_restart, at: at.cloned() });
        }
    }
    waiting
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::load_text;

    /// Settings in which every field differs from the default.
    fn all_changed() -> Settings {
        let text = "apiVersion: egret/v1\nkind: Settings\nspec: {outboundTrafficPolicy: REGISTRY_ONLY, connectPolicy: \
                    REGISTRY_ONLY, accessLog: JSON, protocolDetectionTimeout: 1s, requestHeadersTimeout: 2s, idleTimeout: \
                    3s, bodyStallTimeout: 4s, requestTimeout: 6s, connectTimeout: 7s, tlsHandshakeTimeout: 8s, \
                    tcpKeepalive: {time: 9s, interval: 11s, probes: 12}, tcpUserTimeout: 13s, minTlsVersion: TLSV1_3, \
                    maxHeadBytes: 2Ki, maxHeadFields: 14, maxConnections: 20, dnsRefreshRate: 16s, dnsPolicy: \
                    ANSWER_LISTED_ONLY, dnsTransport: TLS, dnsServerName: dns.example, dnsCaCertificates: /ca.pem, \
                    ipAutoallocateIpv4Prefix: 10.9.0.0/16, ipAutoallocateIpv6Prefix: none, drainDuration: 17s, \
                    minimumDrainDuration: 18s, protectedAddresses: [], strict: true}\n";
        let loaded = load_text(Path::new("settings.yaml"), text);
        assert_eq!(loaded.problems, []);
        loaded.resources.settings
    }

    #[test]
    fn only_what_needs_a_restart_is_held() {
        let (started, mut read) = (Settings { max_connections: 10, ..Settings::default() }, all_changed());
        let at = Location { file: Path::new("settings.yaml").into(), line: 2, column: 7 };
        let waiting = hold(&started, &mut read, Some(&at));
        assert_eq!(read, Settings { max_connections: 10, ..all_changed() });
        let told: Vec<String> = waiting.iter().map(|one| one.warning().to_string()).collect();
        let expected = "settings.yaml:2:7: warning: maxConnections: 20 needs a restart of egret, which reads it at the start \
                        only; 10 stays in force";
        assert_eq!(told, [expected]);
    }

    #[test]
    fn what_has_not_changed_or_was_changed_back_is_not_told() {
        let started = all_changed();
        for (read, waits) in [(20, false), (21, true), (20, false)] {
            let mut settings = Settings { max_connections: read, ..Settings::default() };
            assert_eq!(!hold(&started, &mut settings, None).is_empty(), waits, "{read}");
            assert_eq!(settings.max_connections, 20);
        }
    }
}
