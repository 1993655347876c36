//! Manifests in, the same manifests with egret's containers out.
//!
//! What is inserted is whole lines of text at places that the located tree of the document gives, so that comments,
//! order and spelling of everything else stay as they were; JSON is edited as a tree. It knows what a pod is and no more
//! of Kubernetes, and it never weakens a pod: what would let the application past egret is refused, with its place.

mod additions;
mod aliases;
mod annotations;
mod edit;
mod eligibility;
mod injection;
mod manifests;
mod names;
mod options;
mod patch;
mod pod;
mod pod_resources;
mod quantity;
mod remark;
mod scalar;
mod splice;
mod unknown_kinds;
mod workload;

pub use manifests::{Injected, inject};
pub use names::object_name;
pub use options::Options;
pub use patch::{Patched, patch};
pub use remark::Remark;
pub use workload::is_ignored;
