//! What goes into a pod: the templates beside this file, with what the options and the pod ask for.
//!
//! The rules go in first, so that nothing of the pod, init containers included, ever connects without them.

use serde_yaml::{Mapping, Value};

use super::annotations::Annotations;
use super::names::secret_volume;
use super::options::Options;
use super::pod::Pod;
use super::remark::Remark;
use crate::config::yaml::{self, Node};

/// Names of egret's containers.
pub(super) const INIT: &str = "egret-init";
pub(super) const PROXY: &str = "egret";
/// The proxy's user and group, as the templates and the rules have it.
pub(super) const PROXY_ID: u16 = 1337;

/// What lives as long as the pod.
const STATE_VOLUME: &str = "egret-state";
const STATE_FOLDER: &str = "/var/lib/egret";

const INIT_TEMPLATE: &str = include_str!("init.yaml");
const PROXY_TEMPLATE: &str = include_str!("proxy.yaml");
const VOLUMES_TEMPLATE: &str = include_str!("volumes.yaml");

/// Items to be put at the front of a pod's lists.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Additions {
    pub init_containers: Vec<Value>,
    pub containers: Vec<Value>,
    pub volumes: Vec<Value>,
}

impl Additions {
    /// Each list of the pod's spec that gets something.
    pub fn lists(&self) -> impl Iterator<Item = (&'static str, &[Value])> {
        let all = [
            ("initContainers", &*self.init_containers),
            ("containers", &*self.containers),
            ("volumes", &*self.volumes),
        ];
        all.into_iter().filter(|(_, items)| !items.is_empty())
    }
}

pub(super) fn of(annotations: &Annotations, options: &Options) -> Additions {
    let mut init = template(INIT_TEMPLATE);
    set(&mut init, &["image"], options.image.as_str());
    set_resources(&mut init, annotations);
    annotations.init.iter().for_each(|flag| append(&mut init, "args", flag.as_str()));
    let captures_dns = annotations.capture_dns.unwrap_or(options.capture_dns);
    if captures_dns {
        append(&mut init, "args", "--capture-dns");
    }
    let secrets = secrets(annotations, options);
    let mut proxy = proxy(annotations, options, &secrets);
    if captures_dns {
        keep_dns_state(&mut proxy);
    }
    let (init_containers, containers) =
        if annotations.classic { (vec![init], vec![proxy]) } else { (vec![init, proxy], Vec::new()) };
    let mut volumes = volumes(annotations, options, &secrets);
    if captures_dns {
        volumes.push(mapping([("name", STATE_VOLUME.into()), ("emptyDir", mapping([("sizeLimit", "16Mi".into())]))]));
    }
    Additions { init_containers, containers, volumes }
}

/// Names of all Secrets to be mounted, each once.
fn secrets<'a>(annotations: &'a Annotations, options: &'a Options) -> Vec<&'a str> {
    let mut all: Vec<&str> = Vec::new();
    for secret in options.secrets.iter().chain(&annotations.secrets) {
        if !all.contains(&&**secret) {
            all.push(secret);
        }
    }
    all
}

fn proxy(annotations: &Annotations, options: &Options, secrets: &[&str]) -> Value {
    let mut proxy = template(PROXY_TEMPLATE);
    set(&mut proxy, &["image"], options.image.as_str());
    if let Some(level) = annotations.log_level {
        append(&mut proxy, "args", format!("--log-level={level}"));
    }
    set_resources(&mut proxy, annotations);
    if let Some(word) = annotations.upstream_protocol {
        append(&mut proxy, "args", format!("--upstream-protocol={word}"));
    }
    if let Some(profile) = &options.seccomp_profile {
        set(&mut proxy, &["securityContext", "seccompProfile", "type"], "Localhost");
        set(&mut proxy, &["securityContext", "seccompProfile", "localhostProfile"], profile.as_str());
    }
    for secret in secrets {
        let mount = [
            ("name", Value::from(secret_volume(secret))),
            ("mountPath", format!("/etc/egret/secrets/{secret}").into()),
            ("readOnly", true.into()),
        ];
        append(&mut proxy, "volumeMounts", mapping(mount));
    }
    if annotations.classic {
        // Both are told to end at the same moment, and the application may call somebody while it does.
        append(&mut proxy, "args", "--minimum-drain-duration=5s");
        // The kubelet starts the next container only after this hook has ended.
        let wait = ["egret", "wait"].map(Value::from).to_vec();
        let exec = mapping([("exec", mapping([("command", Value::Sequence(wait))]))]);
        set(&mut proxy, &["lifecycle"], mapping([("postStart", exec)]));
    } else {
        set(&mut proxy, &["restartPolicy"], "Always");
    }
    proxy
}

/// What annotations ask for replaces all that the template has, in both containers, as in Istio's template: a limit alone
/// is a request, too, and a pod whose containers all have both alike stays Guaranteed.
fn set_resources(container: &mut Value, annotations: &Annotations) {
    if annotations.resources.is_empty() {
        return;
    }
    container["resources"] = mapping([]);
    for (part, resource, quantity) in &annotations.resources {
        if container["resources"].get(part).is_none() {
            container["resources"][*part] = mapping([]);
        }
        container["resources"][*part][*resource] = quantity.as_str().into();
    }
}

fn volumes(annotations: &Annotations, options: &Options, secrets: &[&str]) -> Vec<Value> {
    let mut all: Vec<Value> = serde_yaml::from_str(VOLUMES_TEMPLATE).expect("the template is tested");
    let config_map = annotations.config_map.as_ref().unwrap_or(&options.config_map);
    set(&mut all[0], &["configMap", "name"], config_map.as_str());
    // A Secret that is not there yet must not keep the application from starting: egret answers 503 until it is.
    all.extend(secrets.iter().map(|secret| {
        let source = mapping([("secretName", Value::from(*secret)), ("optional", true.into())]);
        mapping([("name", secret_volume(secret).into()), ("secret", source)])
    }));
    all
}

/// Takes the volumes that the pod has itself out of `additions`. One that is called like one of egret's and is another would
/// silently become its configuration or its credentials: gives the reasons against those.
pub(super) fn share_volumes(pod: &Pod<'_>, additions: &mut Additions) -> Vec<Remark> {
    let mut problems = Vec::new();
    let own: Vec<&Node> = pod.spec.child("volumes").into_iter().flat_map(Node::items).collect();
    additions.volumes.retain(|volume| {
        let name = volume["name"].as_str().unwrap_or_default();
        let Some(known) = own.iter().find(|own| own.child("name").and_then(Node::text) == Some(name)) else {
            return true;
        };
        if !is_the_same(known, volume) {
            let message = format!("the volume {name} is egret's, and this is another of that name; rename it");
            problems.push(Remark::new(known.at, message));
        }
        false
    });
    problems
}

/// Whether a volume of the pod is one of egret's, but for what the API server fills in.
fn is_the_same(own: &Node, meant: &Value) -> bool {
    let text = serde_yaml::to_string(meant).expect("values made of text and numbers");
    let meant = yaml::documents(&text).into_iter().find_map(|document| document.root).expect("it was just written");
    holds_all(own, &meant)
}

fn holds_all(own: &Node, meant: &Node) -> bool {
    match (&own.value, &meant.value) {
        (yaml::Value::Mapping(_), yaml::Value::Mapping(entries)) => {
            entries.iter().all(|entry| own.child(&entry.key).is_some_and(|own| holds_all(own, &entry.value)))
        }
        (yaml::Value::Sequence(own), yaml::Value::Sequence(meant)) => {
            own.len() == meant.len() && own.iter().zip(meant).all(|(own, meant)| holds_all(own, meant))
        }
        _ => own.means_the_same(meant),
    }
}

/// Automatic addresses outlive a restart of the container, since applications keep them longer than they should.
fn keep_dns_state(proxy: &mut Value) {
    append(proxy, "args", format!("--dns-state={STATE_FOLDER}/dns"));
    let mount = [("name", Value::from(STATE_VOLUME)), ("mountPath", STATE_FOLDER.into())];
    append(proxy, "volumeMounts", mapping(mount));
}

fn template(text: &str) -> Value {
    serde_yaml::from_str(text).expect("the template is tested")
}

fn mapping<const N: usize>(entries: [(&str, Value); N]) -> Value {
    Value::Mapping(entries.into_iter().map(|(key, value)| (key.into(), value)).collect::<Mapping>())
}

/// Sets the value at `path`, whose last key may be new.
fn set(value: &mut Value, path: &[&str], to: impl Into<Value>) {
    let (last, before) = path.split_last().expect("a path has a key");
    let holder = before.iter().fold(value, |value, key| &mut value[*key]);
    holder[*last] = to.into();
}

fn append(value: &mut Value, list: &str, item: impl Into<Value>) {
    if let Value::Sequence(items) = &mut value[list] {
        items.push(item.into());
    }
}
