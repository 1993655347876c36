//! Manifests in, the same manifests with egret's containers out.
//!
//! What is inserted is whole lines of text at places that the located tree of the document gives, so that comments,
//! order and spelling of everything else stay as they were; JSON is edited as a tree. It knows what a pod is and no more
//! of Kubernetes, and it never weakens a pod: what would let the application past egret is refused, with its place.

mod edit;
mod names;
mod parts;
mod patch;
mod pod_resources;
mod quantity;
mod refusal;
mod scalar;
mod shared;
mod splice;
mod unknown_kinds;
mod wishes;
mod workload;

use std::fmt;

pub use names::object_name;
pub use patch::{Patched, patch};
pub use workload::is_ignored;

use crate::config::yaml::{self, Place};
use parts::Additions;
use workload::Pod;

/// What goes into every pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Image of both containers.
    pub image: String,
    /// Name of the ConfigMap whose keys are egret's configuration files.
    pub config_map: String,
    /// Names of Secrets that `credentialName` may name.
    pub secrets: Vec<String>,
    /// An ordinary container instead of a native sidecar, for Kubernetes before 1.29.
    pub classic: bool,
    /// Seccomp profile on the node, below the kubelet's folder; `None`: unconfined.
    pub seccomp_profile: Option<String>,
}

/// Something to say about a place of the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    pub line: u32,
    pub column: u32,
    pub message: String,
}

impl Remark {
    fn new(at: Place, message: impl Into<String>) -> Self {
        Self { line: at.line, column: at.column, message: message.into() }
    }
}

impl fmt::Display for Remark {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}: {}", self.line, self.column, self.message)
    }
}

/// The manifests with egret in every pod, and what the operator should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Injected {
    pub text: String,
    pub notes: Vec<Remark>,
}

/// Puts egret into every pod of `text`, a YAML stream or a JSON document.
///
/// # Errors
/// Every reason why a pod cannot be guarded by egret, and every place that cannot be read.
pub fn inject(text: &str, options: &Options) -> Result<Injected, Vec<Remark>> {
    let documents = yaml::documents(text);
    let mut problems: Vec<Remark> = Vec::new();
    for error in documents.iter().flat_map(|document| &document.errors) {
        problems.push(Remark::new(error.at, error.message.clone()));
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let (mut notes, mut additions) = (Vec::new(), Vec::new());
    let roots: Vec<_> = documents.iter().filter_map(|document| document.root.as_ref()).collect();
    for (number, root) in roots.iter().enumerate() {
        let found = workload::pods(root, number);
        notes.extend(found.notes);
        problems.extend(found.problems);
        for pod in found.pods {
            // Istio leaves such a pod alone, too: a node's agents stand among manifests that want egret.
            let leave = |at| Ok(left_on_host_network(&pod, at));
            let goes_in = consider(&pod, options, leave, &mut notes, &mut problems);
            additions.extend(goes_in.map(|additions| (pod.path, additions)));
        }
    }
    problems.extend(shared::refusals(&roots, &additions));
    if !problems.is_empty() {
        return Err(problems);
    }
    let text = edit::apply(text, &documents, &additions).map_err(|problem| vec![problem])?;
    Ok(Injected { text, notes })
}

const HOST_NETWORK: &str = "hostNetwork: the rules would redirect the whole node";

fn left_on_host_network(pod: &Pod<'_>, at: Place) -> Remark {
    let says = "the label sidecar.istio.io/inject: \"false\" says that this is meant";
    Remark::new(at, format!("{} is left as it is: {HOST_NETWORK}; {says}", pod.owner))
}

/// What goes into one pod: nothing when it is left as it is, or when it is refused. `on_host_network` says which of both
/// becomes of a pod with the node's network.
fn consider(
    pod: &Pod<'_>,
    options: &Options,
    on_host_network: impl Fn(Place) -> Result<Remark, Remark>,
    notes: &mut Vec<Remark>,
    problems: &mut Vec<Remark>,
) -> Option<Additions> {
    match refusal::judge(pod, &options.image) {
        refusal::Judgement::Refused(reasons) => problems.extend(reasons),
        refusal::Judgement::Done(note) => notes.push(note),
        refusal::Judgement::OnHostNetwork(at) => match on_host_network(at) {
            Ok(note) => notes.push(note),
            Err(reason) => problems.push(reason),
        },
        refusal::Judgement::Wanted => {
            let wishes = wishes::read(pod, options.classic, notes, problems);
            let mut additions = parts::of(pod, &wishes, options);
            problems.extend(pod_resources::agree(pod, &mut additions, notes));
            problems.extend(pod_resources::fit(pod, &mut additions, notes));
            return Some(additions);
        }
    }
    None
}
