//! Resources of a whole pod (`spec.resources`, KEP-2837): egret's containers have to fit into them, or the API server
//! refuses the pod. Knows sums of quantities, and nothing of what they are spent on.
//!
//! The sum of requests is refused where it exceeds the pod's: only its owner knows which of them may change. A limit of
//! egret's above the pod's is lowered to it, since the pod's cgroup holds for its containers in any case.

use serde_yaml::Value;

use super::additions::Additions;
use super::pod::Pod;
use super::quantity::{Nanos, ONE, nanos};
use super::remark::Remark;
use super::scalar::{Scalar, scalar};
use crate::config::yaml::{Node, quoted};

/// Resources that egret's containers ask for, and the annotation that says how much.
const RESOURCES: [(&str, &str); 2] = [("cpu", "proxyCPU"), ("memory", "proxyMemory")];

/// Fits `additions` into the pod's own resources; gives the reasons why they cannot be.
pub(super) fn fit(pod: &Pod<'_>, additions: &mut Additions, notes: &mut Vec<Remark>) -> Vec<Remark> {
    let Some(own) = pod.spec.child("resources") else { return Vec::new() };
    let mut problems = Vec::new();
    for (resource, annotation) in RESOURCES {
        let fitted = fit_resource(pod, own, resource, additions, notes);
        problems.extend(fitted.err().map(|mut problem| {
            problem.message = problem.message.replace("ANNOTATION", annotation);
            problem
        }));
    }
    problems
}

/// Annotations that ask for more than they allow: the API server refuses a request above its limit.
pub(super) fn above_limits(pod: &Pod<'_>) -> Vec<Remark> {
    let problem = |(_, annotation): &(&str, &str)| {
        let given = |suffix: &str| {
            let name = format!("sidecar.istio.io/{annotation}{suffix}");
            let found = pod.annotations().find(|(given, _)| *given == name).map(|(_, node)| node)?;
            Some((found, found.text()?))
        };
        let ((at, request), (_, limit)) = (given("")?, given("Limit")?);
        let (requested, limited) = (nanos(request)?, nanos(limit)?);
        let message = format!(
            "{annotation} is {request}, above the limit {limit} of {annotation}Limit, and the API server refuses such a pod; \
             lower it"
        );
        (requested > limited).then(|| Remark::new(at.at, message))
    };
    RESOURCES.iter().filter_map(problem).collect()
}

fn fit_resource(
    pod: &Pod<'_>,
    own: &Node,
    resource: &str,
    additions: &mut Additions,
    notes: &mut Vec<Remark>,
) -> Result<(), Remark> {
    let limit = written(own, "limits", resource)?;
    if let Some(limit) = &limit
        && lower_limits(additions, resource, limit)
    {
        let message = format!("spec.resources.limits.{resource} is {}, so egret's containers get no more", limit.text);
        notes.push(Remark::new(limit.at, message));
    }
    let request = written(own, "requests", resource)?;
    // Where the pod has a limit alone, the API server takes the sum of its containers' requests for its request, and that
    // may not exceed the limit (`setDefaultPodRequests`, KEP-2837).
    let (part, bound) = match (request, limit) {
        (Some(request), _) => ("requests", request),
        (None, Some(limit)) => ("limits", limit),
        (None, None) => return Ok(()),
    };
    let sum = together(pod, additions, resource)?;
    if sum <= bound.nanos {
        return Ok(());
    }
    let sum = shown(resource, sum);
    let message = format!(
        "spec.resources.{part}.{resource} is {}, but the containers, egret's among them, request {sum}, and the API server \
         refuses such a pod; raise it to {sum}, or let egret ask for less with sidecar.istio.io/ANNOTATION",
        bound.text
    );
    Err(Remark::new(bound.at, message))
}

/// A quantity as it stands in a manifest.
struct Written {
    at: crate::config::yaml::Place,
    text: String,
    nanos: Nanos,
}

fn written(resources: &Node, part: &str, resource: &str) -> Result<Option<Written>, Remark> {
    let Some(node) = resources.child(part).and_then(|part| part.child(resource)) else { return Ok(None) };
    let text = match scalar(node) {
        Some(Scalar::Null) => return Ok(None),
        Some(Scalar::Number(number)) => number.to_string(),
        Some(Scalar::Text(text)) => text.to_owned(),
        Some(Scalar::Boolean(_)) | None => String::new(),
    };
    let Some(nanos) = nanos(&text) else {
        let found = quoted(node.text().unwrap_or_default());
        let message = format!("{part}.{resource}: expected a quantity such as 100m or 128Mi, found {found}");
        return Err(Remark::new(node.at, message));
    };
    Ok(Some(Written { at: node.at, text, nanos }))
}

/// Whether any limit of `additions` was above the pod's.
fn lower_limits(additions: &mut Additions, resource: &str, limit: &Written) -> bool {
    let mut lowered = false;
    for container in additions.init_containers.iter_mut().chain(&mut additions.containers) {
        let own = &mut container["resources"]["limits"][resource];
        if own.as_str().and_then(nanos).is_some_and(|own| own > limit.nanos) {
            *own = Value::from(limit.text.as_str());
            lowered = true;
        }
    }
    lowered
}

/// What all containers request at once, by the formula of KEP-753: sidecars stay beside whatever starts after them.
fn together(pod: &Pod<'_>, additions: &Additions, resource: &str) -> Result<Nanos, Remark> {
    let listed = |key| pod.spec.child(key).into_iter().flat_map(Node::items);
    let (mut beside, mut peak, mut sum) = (0, 0, 0);
    let mut start = |request: Nanos, stays: bool| {
        peak = peak.max(request + beside);
        beside += if stays { request } else { 0 };
    };
    for container in &additions.init_containers {
        start(added_request(container, resource), container.get("restartPolicy").is_some());
    }
    for container in listed("initContainers") {
        let stays = container.child("restartPolicy").and_then(Node::text) == Some("Always");
        start(request(container, resource)?, stays);
    }
    for container in &additions.containers {
        sum += added_request(container, resource);
    }
    for container in listed("containers") {
        sum += request(container, resource)?;
    }
    Ok(peak.max(sum + beside))
}

/// What a container of the pod requests; without a request that is its limit (`SetDefaults_Pod`).
fn request(container: &Node, resource: &str) -> Result<Nanos, Remark> {
    let Some(resources) = container.child("resources") else { return Ok(0) };
    let request = written(resources, "requests", resource)?;
    let request = if request.is_some() { request } else { written(resources, "limits", resource)? };
    Ok(request.map_or(0, |written| written.nanos))
}

/// egret's own always have one.
fn added_request(container: &Value, resource: &str) -> Nanos {
    container["resources"]["requests"][resource].as_str().and_then(nanos).unwrap_or(0)
}

/// A sum for a message, rounded up to what the resource is counted in.
fn shown(resource: &str, sum: Nanos) -> String {
    let up = |unit: Nanos| sum / unit + Nanos::from(sum % unit != 0);
    match resource {
        "cpu" if sum % ONE == 0 => (sum / ONE).to_string(),
        "cpu" => format!("{}m", up(ONE / 1000)),
        _ if sum % (ONE << 20) == 0 => format!("{}Mi", sum / (ONE << 20)),
        _ => up(ONE).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_for_messages() {
        for (resource, sum, text) in [
            ("cpu", 2 * ONE, "2"),
            ("cpu", ONE / 5, "200m"),
            ("cpu", ONE / 5 + 1, "201m"),
            ("memory", 180 * (ONE << 20), "180Mi"),
            ("memory", ONE + 1, "2"),
        ] {
            assert_eq!(shown(resource, sum), text);
        }
    }
}
