//! Certificate policies of a path (RFC 5280 §6.1), for whoever asks for none in particular: they matter only where a CA demands
//! that every certificate below it has one (`requireExplicitPolicy`).

use std::collections::BTreeSet;

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;

/// anyPolicy, RFC 5280 §4.2.1.4.
const ANY: &str = "2.5.29.32.0";

/// The policies that are valid down to here.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Valid {
    Any,
    Of(BTreeSet<String>),
}

/// What the policy extensions of one certificate say.
#[derive(Default)]
struct Said {
    policies: Option<BTreeSet<String>>,
    /// From the issuer's to the subject's.
    mappings: Vec<(String, String)>,
    require_explicit: Option<u32>,
    inhibit_mapping: Option<u32>,
    inhibit_any: Option<u32>,
}

impl Said {
    fn by(certificate: &X509Certificate<'_>) -> Self {
        let mut said = Self::default();
        for extension in certificate.extensions() {
            match extension.parsed_extension() {
                ParsedExtension::CertificatePolicies(list) => {
                    said.policies = Some(list.iter().map(|one| one.policy_id.to_id_string()).collect());
                }
                ParsedExtension::PolicyMappings(all) => {
                    let pair = |one: &x509_parser::extensions::PolicyMapping<'_>| {
                        (one.issuer_domain_policy.to_id_string(), one.subject_domain_policy.to_id_string())
                    };
                    said.mappings = all.mappings.iter().map(pair).collect();
                }
                ParsedExtension::PolicyConstraints(limits) => {
                    said.require_explicit = limits.require_explicit_policy;
                    said.inhibit_mapping = limits.inhibit_policy_mapping;
                }
                ParsedExtension::InhibitAnyPolicy(limit) => said.inhibit_any = Some(limit.skip_certs),
                _ => {}
            }
        }
        said
    }
}

/// Whether the policies of `path`, from below the anchor to the leaf, are as its CAs demand.
pub(in crate::tls) fn holds(path: &[&X509Certificate<'_>]) -> bool {
    let most = u32::try_from(path.len()).unwrap_or(u32::MAX).saturating_add(1);
    let (mut explicit, mut mapping, mut any) = (most, most, most);
    let mut valid = Valid::Any;
    for (at, certificate) in path.iter().enumerate() {
        let (is_last, is_self_issued) = (at + 1 == path.len(), certificate.subject() == certificate.issuer());
        let said = Said::by(certificate);
        let takes_any = any > 0 || (is_self_issued && !is_last);
        valid = narrowed(valid, said.policies.as_ref(), takes_any);
        if explicit == 0 && valid == Valid::Of(BTreeSet::new()) {
            return false;
        }
        valid = mapped(valid, &said.mappings, mapping > 0);
        // RFC 5280 §6.1.4 (h), and §6.1.5 (a) for the last.
        if !is_self_issued || is_last {
            for count in [&mut explicit, &mut mapping, &mut any] {
                *count = count.saturating_sub(1);
            }
        }
        let least = |count: u32, said: Option<u32>| said.map_or(count, |said| count.min(said));
        // Of the last only a demand that begins at once counts (§6.1.5 (b)).
        let require = said.require_explicit.filter(|&skip| !is_last || skip == 0);
        explicit = least(explicit, require);
        mapping = least(mapping, said.inhibit_mapping);
        any = least(any, said.inhibit_any);
    }
    explicit > 0 || valid != Valid::Of(BTreeSet::new())
}

/// §6.1.3 (d) and (e).
fn narrowed(valid: Valid, policies: Option<&BTreeSet<String>>, takes_any: bool) -> Valid {
    let Some(policies) = policies else { return Valid::Of(BTreeSet::new()) };
    let has_any = takes_any && policies.contains(ANY);
    let named = || policies.iter().filter(|policy| *policy != ANY).cloned();
    match valid {
        Valid::Any if has_any => Valid::Any,
        Valid::Any => Valid::Of(named().collect()),
        Valid::Of(valid) if has_any => Valid::Of(valid),
        Valid::Of(valid) => Valid::Of(named().filter(|policy| valid.contains(policy)).collect()),
    }
}

/// §6.1.4 (b).
fn mapped(valid: Valid, mappings: &[(String, String)], allowed: bool) -> Valid {
    let Valid::Of(valid) = valid else { return valid };
    let is_mapped = |policy: &String| mappings.iter().any(|(from, _)| from == policy);
    let kept = valid.iter().filter(|policy| !is_mapped(policy)).cloned();
    let to = mappings.iter().filter(|(from, _)| allowed && valid.contains(from)).map(|(_, to)| to.clone());
    Valid::Of(kept.chain(to).collect())
}
