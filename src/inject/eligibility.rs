//! May egret go into this pod? Not where it would be of no use: an application that runs as the proxy's user, or that may
//! change the rules, gets past it; and a pod has room for one redirector.

use super::additions::{INIT, PROXY, PROXY_ID};
use super::pod::Pod;
use super::remark::Remark;
use super::scalar;
use crate::config::yaml::{Node, Place, quoted};

/// What becomes of one pod.
#[derive(Debug)]
pub(super) enum Eligibility {
    /// Egret goes in.
    Wanted,
    /// It is there already, or is not wanted, or can be of no use.
    Done(Remark),
    /// It has the node's network, whose rules are not egret's to change; where that is said.
    OnHostNetwork(Place),
    /// It must not.
    Refused(Vec<Remark>),
}

/// Why a pod is left as it is that has been injected: nobody need be told.
pub(super) const ALREADY: &str = "egret is in this pod already";

/// Containers of other redirectors.
const RIVALS: [&str; 4] = ["istio-proxy", "istio-init", "linkerd-proxy", "linkerd-init"];

/// `image` is egret's own.
pub(super) fn judge(pod: &Pod<'_>, image: &str) -> Eligibility {
    if let Some(mark) = pod.mark("sidecar.istio.io/inject") {
        match wanted(mark.text().unwrap_or_default()) {
            Some(true) => {}
            Some(false) => {
                return left(pod, mark, "sidecar.istio.io/inject is false");
            }
            None => {
                let says = quoted(mark.text().unwrap_or_default());
                let message = format!("sidecar.istio.io/inject: expected \"true\" or \"false\", found {says}");
                return Eligibility::Refused(vec![Remark::new(mark.at, message)]);
            }
        }
    }
    if scalar::boolean(pod.spec, "hostNetwork") == Ok(true) {
        return Eligibility::OnHostNetwork(pod.spec.child("hostNetwork").map_or(pod.spec.at, |host| host.at));
    }
    if let Some(why) = elsewhere(pod) {
        return Eligibility::Done(why);
    }
    let named = |wanted: &str| containers(pod).find(|(container, _)| name(container) == wanted);
    let mut reasons = whole_pod(pod);
    let (init, proxy) = (named(INIT), named(PROXY));
    let complete = init.is_some() && proxy.is_some();
    if let Some((one, _)) = init.or(proxy).filter(|_| !complete) {
        reasons.push(Remark::new(
            one.at,
            format!(
                "a container is called {}, as egret's own would be, and the other of them is missing; rename it, or \
                     inject into the manifest as it was",
                name(one)
            ),
        ));
    }
    let mistaken = [(init, "init"), (proxy, "run")];
    let mistaken = mistaken.into_iter().filter_map(|(found, command)| not_egret(found?.0, command, image));
    reasons.extend(mistaken.filter(|_| complete));
    let others = containers(pod).filter(|(container, _)| !complete || ![INIT, PROXY].contains(&name(container)));
    reasons.extend(others.flat_map(|(container, stays)| of_container(container, stays)));
    match proxy {
        _ if !reasons.is_empty() => Eligibility::Refused(reasons),
        Some((proxy, _)) => left(pod, proxy, ALREADY),
        None => Eligibility::Wanted,
    }
}

/// Pods of a stream that are none of an application on Linux: they stand among manifests that want egret.
fn elsewhere(pod: &Pod<'_>) -> Option<Remark> {
    let os = pod.spec.child("os").and_then(|os| os.child("name"));
    let selected = pod.spec.child("nodeSelector").and_then(|selector| selector.child("kubernetes.io/os"));
    if let Some(os) = os.into_iter().chain(selected).find(|os| os.text() == Some("windows")) {
        let message = format!("{} is left as it is: a Windows pod has no redirect; egret runs on Linux", pod.owner);
        return Some(Remark::new(os.at, message));
    }
    // An agent of the node, which is there to change it.
    let is_privileged = |container: &Node| {
        let context = container.child("securityContext");
        context.is_some_and(|context| scalar::boolean(context, "privileged") == Ok(true))
    };
    let agent = containers(pod).find(|(container, stays)| *stays && is_privileged(container))?.0;
    let message = format!(
        "{} is left as it is: container {} of a DaemonSet is privileged, so it is the node's agent and could remove the \
         redirect; the label sidecar.istio.io/inject: \"false\" says that this is meant",
        pod.owner,
        name(agent)
    );
    pod.owner.starts_with("DaemonSet ").then(|| Remark::new(agent.at, message))
}

/// Why a container that has a name of egret's is no sign that egret is there.
fn not_egret(container: &Node, command: &str, image: &str) -> Option<Remark> {
    let own = container.child("image").and_then(Node::text).unwrap_or_default();
    let says =
        |key| container.child(key).is_some_and(|list| list.items().iter().any(|arg| arg.text() == Some(command)));
    let what = if repository(own) != repository(image) {
        format!("has the image {}, and egret's is {}", quoted(own), quoted(image))
    } else if !says("args") && !says("command") {
        format!("is not told to {command}")
    } else {
        return None;
    };
    let name = name(container);
    let message =
        format!("a container is called {name}, but {what}, so it is no sign of egret; rename it, or correct it");
    Some(Remark::new(container.at, message))
}

/// What an image is called, whatever registry it comes from and whatever version it is.
fn repository(image: &str) -> &str {
    let name = image.split('@').next().unwrap_or_default().rsplit('/').next().unwrap_or_default();
    name.split(':').next().unwrap_or_default()
}

fn left(pod: &Pod<'_>, because: &Node, why: &str) -> Eligibility {
    Eligibility::Done(Remark::new(because.at, format!("{} is left as it is: {why}", pod.owner)))
}

/// What Istio reads as yes and as no; a slip of the pen is neither, and must not leave a pod unguarded.
fn wanted(mark: &str) -> Option<bool> {
    match mark.to_ascii_lowercase().as_str() {
        "" | "y" | "yes" | "true" | "on" => Some(true),
        "n" | "no" | "false" | "off" => Some(false),
        _ => None,
    }
}

/// Every container, and whether it runs beside the application (an ordinary init container ends before).
fn containers<'p>(pod: &'p Pod<'_>) -> impl Iterator<Item = (&'p Node, bool)> {
    let listed = |key| pod.spec.child(key).into_iter().flat_map(Node::items);
    let sidecar = |container: &Node| container.child("restartPolicy").and_then(Node::text) == Some("Always");
    listed("initContainers").map(move |c| (c, sidecar(c))).chain(listed("containers").map(|c| (c, true)))
}

fn name(container: &Node) -> &str {
    container.child("name").and_then(Node::text).unwrap_or("without a name")
}

fn whole_pod(pod: &Pod<'_>) -> Vec<Remark> {
    let mut reasons = Vec::new();
    reasons.extend(scalar::boolean(pod.spec, "hostNetwork").err());
    reasons.extend(pod.spec.child("securityContext").into_iter().flat_map(|context| identity(context, "the pod")));
    reasons
}

fn of_container(container: &Node, stays: bool) -> Vec<Remark> {
    let who = format!("container {}", name(container));
    let mut reasons = Vec::new();
    if RIVALS.contains(&name(container)) {
        let message = format!("{who} redirects too, and a pod has room for one; inject into the manifest without it");
        reasons.push(Remark::new(container.at, message));
        return reasons;
    }
    let Some(context) = container.child("securityContext") else { return reasons };
    reasons.extend(identity(context, &who));
    if !stays {
        return reasons;
    }
    match scalar::boolean(context, "privileged") {
        Ok(false) => {}
        Ok(true) => {
            let at = context.child("privileged").map_or(context.at, |node| node.at);
            let message = format!("{who} is privileged, so it could remove the redirect; set privileged: false");
            reasons.push(Remark::new(at, message));
        }
        Err(wrong) => reasons.push(wrong),
    }
    let added = context.child("capabilities").and_then(|capabilities| capabilities.child("add"));
    for capability in added.into_iter().flat_map(Node::items) {
        let text = capability.text().unwrap_or_default().to_ascii_uppercase();
        if matches!(text.strip_prefix("CAP_").unwrap_or(&text), "NET_ADMIN" | "SYS_ADMIN" | "ALL") {
            let message = format!("{who} keeps {text}, so it could remove the redirect; drop the capability");
            reasons.push(Remark::new(capability.at, message));
        }
    }
    reasons
}

fn identity(context: &Node, who: &str) -> Vec<Remark> {
    let judge = |key: &str| match scalar::whole_number(context, key) {
        Ok(number) if number == Some(f64::from(PROXY_ID)) => {
            let at = context.child(key).map_or(context.at, |node| node.at);
            Some(Remark::new(
                at,
                format!(
                    "{who} runs with {key} {PROXY_ID}, egret's own, whose connections are never redirected; choose \
                     another"
                ),
            ))
        }
        Ok(_) => None,
        Err(wrong) => Some(wrong),
    };
    ["runAsUser", "runAsGroup"].iter().filter_map(|key| judge(key)).collect()
}
