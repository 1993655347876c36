//! What whoever injects says about all pods.

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
    /// Pods' lookups go to egret, unless an annotation says otherwise.
    pub capture_dns: bool,
    /// Seccomp profile on the node, below the kubelet's folder; `None`: unconfined.
    pub seccomp_profile: Option<String>,
}
