//! What stands against the rules of rooms (`tests/tidy/rooms.rs`) today. Each list may only become shorter: what is mended
//! must leave it in the same commit, and nothing may join it.

/// Sets of files that use each other.
pub const CIRCLES: [&str; 2] = [
    "policy/authorization.rs policy/authorized.rs policy/compile.rs policy/decide.rs policy/endpoints.rs \
     policy/guarded.rs policy/http_routes.rs policy/localities.rs policy/rules.rs policy/sought.rs \
     policy/splits.rs policy/table.rs policy/traps/mod.rs policy/traps/routes.rs policy/tunnels.rs \
     policy/virtual_services.rs",
    "proxy/affinity.rs proxy/clocks.rs proxy/connection.rs proxy/context.rs proxy/detect.rs proxy/exchange/mod.rs \
     proxy/failure.rs proxy/held.rs proxy/http1.rs proxy/record.rs proxy/routing.rs proxy/transfer.rs",
];

/// Names that several types of a room have.
pub const TYPES: [&str; 3] = [
    "policy::Rule: policy/authorization.rs policy/rules.rs",
    "policy::Taken: policy/http_routes.rs policy/splits.rs",
    "proxy::Broken: proxy/opaque.rs proxy/transfer.rs",
];

/// Files for tests alone outside of a folder `tests/`.
pub const TEST_FILES: [&str; 0] = [];

/// Folders whose module stands beside them.
pub const FOLDERS_WITHOUT_MOD: [&str; 0] = [];
