//! Everything that the configuration files say, once it has been read and found valid.
//!
//! Values here cannot be wrong: hosts are patterns, ports are numbers from 1 to 65535, addresses are networks. What
//! they mean together is decided in `policy`; where they came from stays with them as a [`Location`], so that every
//! later message can point at a line.

use super::authorization_policy::AuthorizationPolicy;
use super::destination_rule::DestinationRule;
use super::metadata::Meta;
use super::problem::Location;
use super::secret::Secret;
use super::service_entry::ServiceEntry;
use super::settings::Settings;
use super::sidecar::Sidecar;
use super::virtual_service::VirtualService;

/// Everything that the configuration files say.
#[derive(Clone, Debug, Default)]
pub struct Resources {
    pub service_entries: Vec<ServiceEntry>,
    pub destination_rules: Vec<DestinationRule>,
    pub virtual_services: Vec<VirtualService>,
    pub authorization_policies: Vec<AuthorizationPolicy>,
    pub sidecars: Vec<Sidecar>,
    pub secrets: Vec<Secret>,
    /// Secrets that have an error. They are in the files, so that it would be wrong to call them missing.
    pub unsound_secrets: Vec<Meta>,
    pub settings: Settings,
    /// Where the Settings document stands, if there is one.
    pub settings_at: Option<Location>,
    /// Some document has an error and was left out: nothing can be said to be missing.
    pub incomplete: bool,
}
