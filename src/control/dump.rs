//! `/config_dump`: what is in force, whence each object of it comes, and what was wrong with the files since.
//!
//! Secrets are named; nothing of what they hold is told.

use std::time::Duration;

use serde_json::{Value, json};

use crate::config::{
    AccessLogFormat, ConnectPolicy, Location, Meta, MinimumVersion, Problem, Resources, Settings, Severity,
};
use crate::control::reload::Status;
use crate::control::restart::Waiting;
use crate::policy::{Document, PolicyTable};

/// The whole of it. `resources` are those that `table` was made of, seen by a pod of `namespace`.
pub(super) fn config_dump(
    status: &Status,
    in_force: Option<(&PolicyTable, &Resources)>,
    namespace: &str,
    names: &Value,
) -> Value {
    let (table, resources) = in_force.unzip();
    json!({
        "version": status.version,
        "loaded_at": status.loaded_at.map(|at| at.to_string()),
        "objects": resources.map(|resources| objects(resources, namespace)).unwrap_or_default(),
        "warnings": problems(&status.warnings),
        "reload_failures": status.failures,
        "last_error": status.failed.as_ref().map(|failed| json!({
            "at": failed.at.to_string(),
            "is_current": status.error().is_some(),
            "problems": problems(&failed.problems),
        })),
        "settings": table.map(|table| settings(table.settings())),
        "waiting_for_restart": waiting(&status.waiting),
        "routes": table.map(PolicyTable::routes),
        "endpoints": table.map(PolicyTable::endpoints),
        "names": names,
    })
}

/// Each with kind, namespace, name and place, in the order of the files.
fn objects(resources: &Resources, own: &str) -> Vec<Value> {
    let mut found: Vec<(&'static str, Document)> = Vec::new();
    let mut add = |kind, meta: &Meta| {
        let namespace = meta.namespace.as_deref().unwrap_or(own);
        found.push((kind, Document::at(namespace, &meta.name, &meta.at)));
    };
    resources.service_entries.iter().for_each(|entry| add("ServiceEntry", &entry.meta));
    resources.destination_rules.iter().for_each(|rule| add("DestinationRule", &rule.meta));
    resources.virtual_services.iter().for_each(|service| add("VirtualService", &service.meta));
    resources.authorization_policies.iter().for_each(|policy| add("AuthorizationPolicy", &policy.meta));
    resources.sidecars.iter().for_each(|sidecar| add("Sidecar", &sidecar.meta));
    resources.secrets.iter().for_each(|secret| add("Secret", &secret.meta));
    // Of the process itself, and of no namespace.
    found.extend(resources.settings_at.iter().map(|at| ("Settings", Document::at("", "settings", at))));
    found.sort_by(|(_, a), (_, b)| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
    found.iter().map(|(kind, document)| object(kind, document)).collect()
}

fn object(kind: &str, document: &Document) -> Value {
    let Document { namespace, name, file, line, column } = document;
    json!({ "kind": kind, "namespace": namespace, "name": name, "file": file, "line": line, "column": column })
}

fn problems(all: &[Problem]) -> Vec<Value> {
    let place = |at: &Location| (at.file.display().to_string(), at.line, at.column);
    let one = |problem: &Problem| {
        let at = problem.at.as_ref().map(place);
        json!({
            "severity": match problem.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
            },
            "file": at.as_ref().map(|(file, ..)| file),
            "line": at.as_ref().map(|(_, line, _)| line),
            "column": at.as_ref().map(|(.., column)| column),
            "message": problem.message,
            "text": problem.to_string(),
        })
    };
    all.iter().map(one).collect()
}

/// The settings whose values in the files only a restart brings into force.
fn waiting(all: &[Waiting]) -> Vec<Value> {
    let one = |waiting: &Waiting| {
        json!({
            "setting": waiting.setting,
            "in_force": waiting.in_force,
            "after_restart": waiting.after_restart,
            "file": waiting.at.as_ref().map(|at| at.file.display().to_string()),
            "line": waiting.at.as_ref().map(|at| at.line),
        })
    };
    all.iter().map(one).collect()
}

/// As a Settings document would say it.
fn settings(settings: &Settings) -> Value {
    let Settings {
        outbound_traffic_policy,
        connect_policy,
        access_log,
        protocol_detection_timeout,
        request_headers_timeout,
        idle_timeout,
        body_stall_timeout,
        request_timeout,
        connect_timeout,
        tls_handshake_timeout,
        tcp_keepalive,
        tcp_user_timeout,
        min_tls_version,
        max_head_bytes,
        max_head_fields,
        max_connections,
        dns_refresh_rate,
        drain_duration,
        minimum_drain_duration,
        protected_addresses,
        strict,
    } = settings;
    json!({
        "outboundTrafficPolicy": { "mode": outbound_traffic_policy.name() },
        "connectPolicy": match connect_policy {
            ConnectPolicy::Deny => "DENY",
            ConnectPolicy::RegistryOnly => "REGISTRY_ONLY",
        },
        "accessLog": match access_log {
            AccessLogFormat::Text => "TEXT",
            AccessLogFormat::Json => "JSON",
            AccessLogFormat::Off => "OFF",
        },
        "protocolDetectionTimeout": duration(protocol_detection_timeout),
        "requestHeadersTimeout": duration(request_headers_timeout),
        "idleTimeout": duration(idle_timeout),
        "bodyStallTimeout": duration(body_stall_timeout),
        "requestTimeout": duration(request_timeout),
        "connectTimeout": duration(connect_timeout),
        "tlsHandshakeTimeout": duration(tls_handshake_timeout),
        "tcpKeepalive": {
            "time": duration(&tcp_keepalive.time),
            "interval": duration(&tcp_keepalive.interval),
            "probes": tcp_keepalive.probes,
        },
        "tcpUserTimeout": duration(tcp_user_timeout),
        "minTlsVersion": match min_tls_version {
            MinimumVersion::Tls12 => "TLSV1_2",
            MinimumVersion::Tls13 => "TLSV1_3",
        },
        "maxHeadBytes": max_head_bytes,
        "maxHeadFields": max_head_fields,
        "maxConnections": max_connections,
        "dnsRefreshRate": duration(dns_refresh_rate),
        "drainDuration": duration(drain_duration),
        "minimumDrainDuration": duration(minimum_drain_duration),
        "protectedAddresses": protected_addresses.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "strict": strict,
    })
}

fn duration(duration: &Duration) -> String {
    format!("{}s", duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::OutboundPolicy;
    use crate::config::load_text;

    /// What is told can be written into a Settings document, and is then told again.
    #[test]
    fn settings_are_told_as_they_are_written() {
        let changed = Settings {
            outbound_traffic_policy: OutboundPolicy::RegistryOnly,
            connect_policy: ConnectPolicy::RegistryOnly,
            access_log: AccessLogFormat::Json,
            connect_timeout: Duration::from_millis(1500),
            min_tls_version: MinimumVersion::Tls13,
            strict: true,
            ..Settings::default()
        };
        for expected in [Settings::default(), changed] {
            let spec = json!({ "apiVersion": "egret/v1", "kind": "Settings", "spec": settings(&expected) });
            let loaded = load_text(Path::new("settings.yaml"), &spec.to_string());
            assert_eq!(loaded.problems, []);
            assert_eq!(loaded.resources.settings, expected);
        }
    }

    #[test]
    fn objects_have_their_places_and_secrets_keep_theirs() {
        let text = "apiVersion: v1\nkind: Secret\nmetadata: {name: s, namespace: shop}\nstringData: {tls.key: hidden}\n\
                    ---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: e}\nspec: {hosts: \
                    [a.example], ports: [{number: 80, name: http, protocol: HTTP}]}\n---\napiVersion: egret/v1\nkind: \
                    Settings\nspec: {strict: true}\n";
        let loaded = load_text(Path::new("all.yaml"), text);
        assert_eq!(loaded.problems, []);
        let listed = objects(&loaded.resources, "mine");
        let shown: Vec<String> = listed
            .iter()
            .map(|one| {
                format!("{} {}/{} {}:{}", one["kind"], one["namespace"], one["name"], one["line"], one["column"])
            })
            .collect();
        let expected = ["Secret shop/s 2:7", "ServiceEntry mine/e 7:7", "Settings /settings 12:7"];
        assert_eq!(shown.iter().map(|line| line.replace('"', "")).collect::<Vec<_>>(), expected);
        assert!(!format!("{listed:?}").contains("hidden"));
    }
}
