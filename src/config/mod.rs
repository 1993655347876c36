//! Kubernetes-style YAML → typed resources and settings: every error at once, with file, line and column.
//!
//! Text becomes a located tree (`yaml`), the tree is read by one file a kind (`document` chooses) with the help of
//! `reader`, and `load` does it for files and folders. Nothing here knows what resources mean beside each other: that
//! is `policy`'s concern.

mod authorization;
mod authorization_policy;
mod byte_route;
mod chunks;
mod client_tls;
mod connection_pool;
mod destination_rule;
mod document;
mod egress_listener;
mod endpoint;
mod export_to;
mod helm;
mod hop;
mod http_match;
mod http_route;
mod line_breaks;
mod load;
mod load_balancer;
mod locality;
mod located;
mod names;
mod outlier_detection;
mod overrides;
mod reader;
mod resources;
mod routing;
pub(crate) mod scalar;
mod secret;
mod service_entry;
mod settings;
mod sidecar;
#[cfg(test)]
mod tests;
mod text_match;
mod text_pattern;
mod tree_builder;
mod virtual_service;
pub(crate) mod yaml;

pub use authorization::*;
pub use egress_listener::{EgressListener, ImportedFrom, ImportedHost};
pub use hop::{ProxyProtocol, RetryBudget, Tunnel, TunnelProtocol};
pub use load::{Loaded, load, load_text};
pub use load_balancer::{ConsistentHash, HashCookie, HashKey, HashTable, LoadBalancer, LoadBalancing, Warmup};
pub use locality::{Distribute, Locality, LocalityBalancing, LocalityPattern};
pub use outlier_detection::OutlierDetection;
pub use overrides::SettingsOverrides;
pub use resources::*;
pub use routing::*;
pub use scalar::{parse_bytes, parse_duration};
pub use text_match::{Expression, TextMatch};
pub use text_pattern::TextPattern;
