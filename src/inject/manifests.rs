//! Manifests as text, and the same text with egret in every pod.

use super::aliases;
use super::edit;
use super::injection::{HOST_NETWORK, consider};
use super::options::Options;
use super::pod::Pod;
use super::remark::Remark;
use super::workload;
use crate::config::yaml::{self, Place};

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
    problems.extend(aliases::refusals(&roots, &additions));
    if !problems.is_empty() {
        return Err(problems);
    }
    let text = edit::apply(text, &documents, &additions).map_err(|problem| vec![problem])?;
    Ok(Injected { text, notes })
}

fn left_on_host_network(pod: &Pod<'_>, at: Place) -> Remark {
    let says = "the label sidecar.istio.io/inject: \"false\" says that this is meant";
    Remark::new(at, format!("{} is left as it is: {HOST_NETWORK}; {says}", pod.owner))
}
