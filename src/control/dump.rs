//! `/config_dump`: what is in force, whence each object of it comes, and what was wrong with the files since.
//!
//! Secrets are named; nothing of what they hold is told.

use serde_json::{Value, json};

use crate::config::{Location, Meta, Problem, Resources, Severity};
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
        "settings": table.map(|table| table.settings().to_json()),
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::load_text;

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
