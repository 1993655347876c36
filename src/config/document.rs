//! One YAML document → one object: `apiVersion` and `kind` choose the reader, `metadata` is common to all.
//!
//! Knows which kinds there are and nothing of what stands in them. Kinds that are none of egret's business are passed
//! over with a warning, so that a folder of mixed manifests can be read as it is.

use super::authorization_policy::{self, AuthorizationPolicy, DRY_RUN};
use super::destination_rule::{self, DestinationRule};
use super::metadata::Meta;
use super::reader::{Field, Object, Report};
use super::secret::{self, Secret};
use super::service_entry::{self, ServiceEntry};
use super::settings::{self, Settings};
use super::sidecar::{self, Sidecar};
use super::virtual_service::{self, VirtualService};
use super::yaml::{Document, quoted, scalar};

/// A sound object of one document.
#[expect(clippy::large_enum_variant, reason = "a file's objects at a time, moved on at once")]
pub(super) enum Resource {
    ServiceEntry(ServiceEntry),
    DestinationRule(DestinationRule),
    Sidecar(Sidecar),
    Secret(Secret),
    /// A Secret with an error, so that nobody is told that it is missing.
    UnsoundSecret(Meta),
    Settings(Meta, Settings),
    VirtualService(VirtualService),
    AuthorizationPolicy(AuthorizationPolicy),
}

impl Resource {
    /// What the Kubernetes API server tells objects apart by, besides their namespace and name.
    pub fn kind(&self) -> &'static str {
        match self {
            Resource::ServiceEntry(_) => "ServiceEntry",
            Resource::DestinationRule(_) => "DestinationRule",
            Resource::Sidecar(_) => "Sidecar",
            Resource::Secret(_) | Resource::UnsoundSecret(_) => "Secret",
            Resource::Settings(..) => "Settings",
            Resource::VirtualService(_) => "VirtualService",
            Resource::AuthorizationPolicy(_) => "AuthorizationPolicy",
        }
    }

    pub fn meta(&self) -> &Meta {
        match self {
            Resource::ServiceEntry(entry) => &entry.meta,
            Resource::DestinationRule(rule) => &rule.meta,
            Resource::Sidecar(sidecar) => &sidecar.meta,
            Resource::Secret(secret) => &secret.meta,
            Resource::VirtualService(service) => &service.meta,
            Resource::AuthorizationPolicy(policy) => &policy.meta,
            Resource::Settings(meta, _) | Resource::UnsoundSecret(meta) => meta,
        }
    }
}

/// What a document is for.
#[derive(Clone, Copy)]
enum Kind {
    ServiceEntry,
    DestinationRule,
    Sidecar,
    VirtualService,
    AuthorizationPolicy,
    Secret,
    Settings,
    List,
    /// Not for egret.
    Foreign,
}

const ISTIO_GROUP: &str = "networking.istio.io";
const ISTIO_VERSIONS: [&str; 3] = ["v1", "v1beta1", "v1alpha3"];
const ISTIO_KINDS: &[(&str, Kind)] = &[
    ("ServiceEntry", Kind::ServiceEntry),
    ("DestinationRule", Kind::DestinationRule),
    ("Sidecar", Kind::Sidecar),
    ("VirtualService", Kind::VirtualService),
    ("EnvoyFilter", Kind::Foreign),
    ("Gateway", Kind::Foreign),
    ("ProxyConfig", Kind::Foreign),
    ("WorkloadEntry", Kind::Foreign),
    ("WorkloadGroup", Kind::Foreign),
];
const SECURITY_GROUP: &str = "security.istio.io";
const SECURITY_VERSIONS: [&str; 2] = ["v1", "v1beta1"];
/// The other two are about requests that come to a pod.
const SECURITY_KINDS: &[(&str, Kind)] = &[
    ("AuthorizationPolicy", Kind::AuthorizationPolicy),
    ("PeerAuthentication", Kind::Foreign),
    ("RequestAuthentication", Kind::Foreign),
];
const CORE_KINDS: &[(&str, Kind)] = &[("Secret", Kind::Secret), ("List", Kind::List)];

/// Reads one document into `resources`; what has an error is reported and left out.
pub(super) fn read(document: Document, report: &mut Report, resources: &mut Vec<Resource>) {
    let errors_before = report.errors();
    for error in document.errors {
        report.error(error.at, error.message);
    }
    let Some(root) = document.root else { return };
    let root = Field::root(&root);
    if !root.is_null() {
        read_object(&root, None, errors_before, report, resources);
    }
}

/// What the items of a typed list have in common, and need not say.
#[derive(Clone, Copy)]
struct Inherited<'n> {
    version: &'n str,
    kind: &'n str,
}

fn read_object<'n>(
    root: &Field<'n>,
    inherited: Option<Inherited<'n>>,
    errors_before: usize,
    report: &mut Report,
    resources: &mut Vec<Resource>,
) {
    let Some(mut object) = root.object(report) else { return };
    let mut said = |name, inherited: Option<&'n str>, report: &mut Report| match inherited {
        Some(inherited) if !object.has(name) => Some((inherited, root.clone())),
        _ => object.required(name).and_then(|field| Some((field.word(report)?, field))),
    };
    let version = said("apiVersion", inherited.map(|list| list.version), report);
    let kind = said("kind", inherited.map(|list| list.kind), report);
    let (Some((version, version_field)), Some((kind_name, kind_field))) = (version, kind) else {
        object.finish_required(report);
        return;
    };
    // The API server answers with a list of one kind, kubectl with one of any.
    let item_kind = kind_name.strip_suffix("List").filter(|kind| !kind.is_empty() && object.has("items"));
    let wanted = item_kind.unwrap_or(kind_name);
    let Some(kind) = kind_of(version, &version_field, wanted, &kind_field, report) else { return };
    let at = report.location(kind_field.at());
    let resource = match kind {
        Kind::Foreign => {
            let message = format!("{kind_name} ({version}) is ignored: egret does not use it");
            kind_field.warning(message, report);
            return;
        }
        Kind::List => return read_list(object, None, errors_before, report, resources),
        _ if item_kind.is_some() => {
            let inherited = Some(Inherited { version, kind: wanted });
            return read_list(object, inherited, errors_before, report, resources);
        }
        Kind::ServiceEntry => service_entry::read(object, at, report).map(Resource::ServiceEntry),
        Kind::DestinationRule => destination_rule::read(object, at, report).map(Resource::DestinationRule),
        Kind::Sidecar => sidecar::read(object, at, report).map(Resource::Sidecar),
        Kind::VirtualService => virtual_service::read(object, at, report).map(Resource::VirtualService),
        Kind::AuthorizationPolicy => authorization_policy::read(object, at, report).map(Resource::AuthorizationPolicy),
        Kind::Secret => secret::read(object, at, report).map(Resource::Secret),
        Kind::Settings => settings::read(object, at, report).map(|(meta, settings)| Resource::Settings(meta, settings)),
    };
    if let Some(resource) = resource.as_ref().filter(|one| !matches!(one, Resource::AuthorizationPolicy(_)))
        && resource.meta().annotations.contains_key(DRY_RUN)
    {
        let message = format!("the annotation {DRY_RUN} is for an AuthorizationPolicy alone; remove it");
        report.error(resource.meta().place(), message);
    }
    match resource {
        sound if report.errors() == errors_before => resources.extend(sound),
        Some(Resource::Secret(secret)) => resources.push(Resource::UnsoundSecret(secret.meta)),
        _ => {}
    }
}

/// `kubectl get -o yaml` answers with a List; a List in a List is legal and bounded by the tree's depth.
fn read_list<'n>(
    mut list: Object<'n>,
    inherited: Option<Inherited<'n>>,
    errors_before: usize,
    report: &mut Report,
    resources: &mut Vec<Resource>,
) {
    // An error of the YAML itself taints the whole document; one in an item only that item.
    let sound = report.errors() == errors_before;
    list.allow(&["metadata"]);
    let items = list.optional("items").map(|items| items.list(usize::MAX, report)).unwrap_or_default();
    list.finish(report);
    for item in items {
        let errors_before = if sound { report.errors() } else { errors_before };
        read_object(&item, inherited, errors_before, report, resources);
    }
}

fn kind_of(
    version: &str,
    version_field: &Field<'_>,
    kind: &str,
    kind_field: &Field<'_>,
    report: &mut Report,
) -> Option<Kind> {
    let (group, group_version) = version.split_once('/').unwrap_or(("", version));
    match group {
        ISTIO_GROUP => {
            check_version(ISTIO_GROUP, &ISTIO_VERSIONS, version, version_field, report)?;
            choose(ISTIO_KINDS, kind, kind_field, report)
        }
        SECURITY_GROUP => {
            check_version(SECURITY_GROUP, &SECURITY_VERSIONS, version, version_field, report)?;
            choose(SECURITY_KINDS, kind, kind_field, report)
        }
        "egret" => {
            if group_version != "v1" {
                version_field.error(format!("expected egret/v1, found {}", quoted(version)), report);
                return None;
            }
            kind_field.choice(&[("Settings", Kind::Settings)], report)
        }
        _ => foreign_kind(version, version_field, kind, kind_field, report),
    }
}

/// One of a group's kinds; a newer one is none of egret's, a misspelt one a mistake.
fn choose(kinds: &[(&str, Kind)], kind: &str, field: &Field<'_>, report: &mut Report) -> Option<Kind> {
    if let Some((_, found)) = kinds.iter().find(|(name, _)| *name == kind) {
        return Some(*found);
    }
    let is_of_the_other = ISTIO_KINDS.iter().chain(SECURITY_KINDS).any(|(name, _)| *name == kind);
    if !is_of_the_other && scalar::nearest(kind, kinds.iter().map(|(name, _)| *name)).is_none() {
        return Some(Kind::Foreign);
    }
    field.choice(kinds, report)
}

/// `None`, and a complaint, for a version of the group that does not exist.
fn check_version(group: &str, known: &[&str], version: &str, field: &Field<'_>, report: &mut Report) -> Option<()> {
    if known.iter().any(|known| version == format!("{group}/{known}")) {
        return Some(());
    }
    let expected: Vec<String> = known.iter().map(|known| format!("{group}/{known}")).collect();
    field.error(format!("expected one of {}, found {}", expected.join(", "), quoted(version)), report);
    None
}

/// A kind outside egret's own groups: ignored, unless it looks like one that was meant to be read.
fn foreign_kind(
    version: &str,
    version_field: &Field<'_>,
    kind: &str,
    kind_field: &Field<'_>,
    report: &mut Report,
) -> Option<Kind> {
    if version == "v1"
        && let Some((_, found)) = CORE_KINDS.iter().find(|(name, _)| *name == kind)
    {
        return Some(*found);
    }
    let meant = match kind {
        "ServiceEntry" | "DestinationRule" => Some("networking.istio.io/v1"),
        // Others may have kinds of these names; without a group, or with ours misspelt, they are meant for egret.
        "Sidecar" | "VirtualService" if is_near_our_groups(version) => Some("networking.istio.io/v1"),
        "AuthorizationPolicy" if is_near_our_groups(version) => Some("security.istio.io/v1"),
        "Settings" if is_near_our_groups(version) => Some("egret/v1"),
        "Secret" | "List" if is_near_our_groups(version) => Some("v1"),
        _ => None,
    };
    if let Some(meant) = meant {
        version_field.error(format!("expected {meant} for a {kind}, found {}", quoted(version)), report);
        return None;
    }
    let ours = ["Secret", "Settings", "ServiceEntry", "DestinationRule", "VirtualService", "AuthorizationPolicy"];
    let near = scalar::nearest(kind, ours).filter(|near| kind.len().abs_diff(near.len()) <= 1);
    if let (true, Some(near)) = (is_near_our_groups(version), near) {
        kind_field.error(format!("unknown kind {}; did you mean {near}?", quoted(kind)), report);
        return None;
    }
    Some(Kind::Foreign)
}

fn is_near_our_groups(version: &str) -> bool {
    !version.contains('/') || ["istio", "egret"].iter().any(|group| version.contains(group))
}
