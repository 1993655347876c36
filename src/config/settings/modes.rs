//! Settings that are one of a few words.

use super::value::Named;
use crate::config::close_notify::CloseNotify;
use crate::config::destination_rule::{H2Upgrade, UpstreamProtocol};

/// Lowest TLS version that is spoken to servers; TLS 1.1 and below never are (RFC 8996).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MinimumVersion {
    #[default]
    Tls12,
    Tls13,
}

/// Istio's words for them (`meshConfig.tlsDefaults.minProtocolVersion`).
impl Named for MinimumVersion {
    const WORDS: &'static [(&'static str, Self)] =
        &[("TLSV1_2", MinimumVersion::Tls12), ("TLSV1_3", MinimumVersion::Tls13)];
}

/// What becomes of CONNECT, which asks a forward proxy for a tunnel that nobody can look into.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConnectPolicy {
    #[default]
    Deny,
    /// Passed on where a ServiceEntry names the host and port that the tunnel leads to, whatever the outbound policy.
    RegistryOnly,
}

impl Named for ConnectPolicy {
    const WORDS: &'static [(&'static str, Self)] =
        &[("DENY", ConnectPolicy::Deny), ("REGISTRY_ONLY", ConnectPolicy::RegistryOnly)];
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AccessLogFormat {
    #[default]
    Text,
    Json,
    Off,
}

impl Named for AccessLogFormat {
    const WORDS: &'static [(&'static str, Self)] =
        &[("TEXT", AccessLogFormat::Text), ("JSON", AccessLogFormat::Json), ("OFF", AccessLogFormat::Off)];
}

/// What becomes of requests without `x-request-id`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RequestIds {
    /// They get one in the log.
    #[default]
    Log,
    /// It goes to the server as well, and what tells Envoy's router how to send a request does not.
    Send,
    Off,
}

impl Named for RequestIds {
    const WORDS: &'static [(&'static str, Self)] =
        &[("LOG", RequestIds::Log), ("SEND", RequestIds::Send), ("OFF", RequestIds::Off)];
}

/// What the body of an error says of the transport's reason. The log says it in either case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReplyDetails {
    #[default]
    Full,
    /// Nothing, as Envoy since 1.38.
    Brief,
}

impl Named for ReplyDetails {
    const WORDS: &'static [(&'static str, Self)] = &[("FULL", ReplyDetails::Full), ("BRIEF", ReplyDetails::Brief)];
}

impl Named for CloseNotify {
    const WORDS: &'static [(&'static str, Self)] = CloseNotify::ALL;
}

impl Named for UpstreamProtocol {
    const WORDS: &'static [(&'static str, Self)] = UpstreamProtocol::ALL;
}

/// Istio's words for a mesh (`meshConfig.h2UpgradePolicy`).
impl Named for H2Upgrade {
    const WORDS: &'static [(&'static str, Self)] =
        &[("DO_NOT_UPGRADE", H2Upgrade::DoNotUpgrade), ("UPGRADE", H2Upgrade::Upgrade)];
}
