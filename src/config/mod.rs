//! Kubernetes-style YAML → typed resources and settings: every error at once, with file, line and column.
mod resources;

pub use resources::*;
