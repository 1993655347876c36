//! What goes into one pod, whether it comes from a manifest or from the API server.

use super::additions::{self, Additions};
use super::annotations;
use super::eligibility::{self, Eligibility};
use super::options::Options;
use super::pod::Pod;
use super::pod_resources;
use super::remark::Remark;
use crate::config::yaml::Place;

/// Why a pod with the node's network is not touched.
pub(super) const HOST_NETWORK: &str = "hostNetwork: the rules would redirect the whole node";

/// What goes into one pod: nothing when it is left as it is, or when it is refused. `on_host_network` says which of both
/// becomes of a pod with the node's network.
pub(super) fn consider(
    pod: &Pod<'_>,
    options: &Options,
    on_host_network: impl Fn(Place) -> Result<Remark, Remark>,
    notes: &mut Vec<Remark>,
    problems: &mut Vec<Remark>,
) -> Option<Additions> {
    match eligibility::judge(pod, &options.image) {
        Eligibility::Refused(reasons) => problems.extend(reasons),
        Eligibility::Done(note) => notes.push(note),
        Eligibility::OnHostNetwork(at) => match on_host_network(at) {
            Ok(note) => notes.push(note),
            Err(reason) => problems.push(reason),
        },
        Eligibility::Wanted => {
            let annotations = annotations::read(pod, options.classic, notes, problems);
            let mut additions = additions::of(&annotations, options);
            problems.extend(additions::share_volumes(pod, &mut additions));
            problems.extend(pod_resources::above_limits(pod));
            problems.extend(pod_resources::fit(pod, &mut additions, notes));
            return Some(additions);
        }
    }
    None
}
