//! What stands against the rules of rooms (`tests/tidy/rooms.rs`) today. Each list may only become shorter: what is mended
//! must leave it in the same commit, and nothing may join it.

/// Sets of files that use each other.
pub const CIRCLES: [&str; 5] = [
    "config/authorization.rs config/egress_listener.rs config/hop.rs config/load_balancer.rs \
     config/locality.rs config/names.rs config/outlier_detection.rs config/reader.rs config/resources.rs \
     config/routing.rs config/text_match.rs config/text_pattern.rs",
    "config/authorization_policy.rs config/byte_route.rs config/client_tls.rs config/destination_rule.rs \
     config/document.rs config/endpoint.rs config/http_match.rs config/http_route.rs config/secret.rs \
     config/service_entry.rs config/settings.rs config/sidecar.rs config/virtual_service.rs",
    "inject/edit.rs inject/mod.rs inject/parts.rs inject/pod_resources.rs inject/refusal.rs inject/scalar.rs \
     inject/shared.rs inject/wishes.rs inject/workload.rs",
    "policy/compile.rs policy/endpoints.rs policy/guarded.rs policy/policy_table.rs policy/rules.rs policy/splits.rs \
     policy/traps/mod.rs policy/tunnels.rs policy/virtual_services.rs",
    "proxy/affinity.rs proxy/clocks.rs proxy/connection.rs proxy/context.rs proxy/detect.rs proxy/exchange/mod.rs \
     proxy/failure.rs proxy/held.rs proxy/http1.rs proxy/record.rs proxy/routing.rs proxy/transfer.rs",
];

/// Names that several types of a room have.
pub const TYPES: [&str; 3] = [
    "cli::Args: cli/check/mod.rs cli/doctor/mod.rs cli/explain.rs cli/init.rs cli/inject.rs cli/run.rs cli/show.rs \
     cli/webhook.rs",
    "policy::Rule: policy/authorization.rs policy/rules.rs",
    "proxy::Broken: proxy/opaque.rs proxy/transfer.rs",
];

/// Files for tests alone outside of a folder `tests/`.
pub const TEST_FILES: [&str; 0] = [];

/// Folders whose module stands beside them.
pub const FOLDERS_WITHOUT_MOD: [&str; 0] = [];
