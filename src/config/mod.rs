//! Kubernetes-style YAML → typed resources and settings: every error at once, with file, line and column.
//!
//! Text becomes a located tree (`yaml/`), the tree is read with the help of `reader/` by one folder or file a kind, which
//! holds the kind's types as well (`document` chooses), and `load` does it for files and folders. Nothing here knows what
//! resources mean beside each other: that is `policy`'s concern.

mod authorization_policy;
mod close_notify;
mod destination_rule;
mod document;
mod export_to;
mod expression;
mod load;
mod metadata;
mod names;
mod problem;
mod reader;
mod resources;
mod secret;
mod service_entry;
mod settings;
mod sidecar;
#[cfg(test)]
mod tests;
mod virtual_service;
pub(crate) mod yaml;

pub use authorization_policy::*;
pub use close_notify::CloseNotify;
pub use destination_rule::*;
pub use export_to::ExportTo;
pub use expression::{Expression, Substitution};
pub use load::{Loaded, load, load_text};
pub use metadata::Meta;
pub use names::HostPattern;
pub use problem::{Location, Problem, Severity};
pub use resources::Resources;
pub use secret::Secret;
pub use service_entry::*;
pub use settings::*;
pub use sidecar::*;
pub use virtual_service::*;
pub(crate) use yaml::scalar;
pub use yaml::scalar::{parse_bytes, parse_duration};
