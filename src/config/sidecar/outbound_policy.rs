//! `outboundTrafficPolicy`: what happens to destinations that no ServiceEntry names. A Sidecar has it, and the Settings.

use crate::config::reader::{Field, Report, Shape};

/// What happens to destinations that no ServiceEntry names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OutboundPolicy {
    #[default]
    AllowAny,
    RegistryOnly,
    /// As `AllowAny`, but plain HTTP goes where the name in its `Host` resolves to, whatever was dialled.
    AllowAnyDynamicDns,
}

impl OutboundPolicy {
    /// As it is written in YAML.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::AllowAny => "ALLOW_ANY",
            Self::RegistryOnly => "REGISTRY_ONLY",
            Self::AllowAnyDynamicDns => "ALLOW_ANY_DYNAMIC_DNS",
        }
    }
}

/// The last is none of a Sidecar's: it holds for the whole mesh.
pub(crate) const POLICIES: &[(&str, OutboundPolicy)] = &[
    ("ALLOW_ANY", OutboundPolicy::AllowAny),
    ("REGISTRY_ONLY", OutboundPolicy::RegistryOnly),
    ("ALLOW_ANY_DYNAMIC_DNS", OutboundPolicy::AllowAnyDynamicDns),
];

/// `{mode: …}`; without a mode the enumeration's first value holds, REGISTRY_ONLY.
pub(crate) fn read(
    field: &Field<'_>,
    policies: &[(&str, OutboundPolicy)],
    report: &mut Report,
) -> Option<OutboundPolicy> {
    let mut object = field.object(report)?;
    let mode = match object.optional("mode") {
        Some(field) => field.choice(policies, report),
        None => Some(OutboundPolicy::RegistryOnly),
    };
    if let Some(field) = object.optional("tls") {
        field.key_error(
            "is not supported: write a ServiceEntry with a wildcard host and resolution DYNAMIC_DNS, and a DestinationRule",
            report,
        );
    }
    object.unsupported("egressProxy", Shape::Object(&["host", "subset", "port"]), report);
    object.finish(report);
    mode
}
