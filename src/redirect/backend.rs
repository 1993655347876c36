//! Which tool redirects here: found by trying, never by the presence of a program.
//!
//! nft first, because it changes everything in one transaction and both families in one table; then iptables over
//! nf_tables, then the legacy tables. The kernel decides: nodes exist that have the filter table but no nat table.

use std::fmt;

use clap::ValueEnum;

use super::RedirectError;
use super::capture::Capture;
use super::iptables;
pub use super::iptables::Flavour;
pub use super::namespace::ipv6_in_use;
use super::nft;
use super::rules::{self, Family, Ipv6};

/// What the operator allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BackendWish {
    /// nft, then iptables-nft, then iptables-legacy
    Auto,
    /// nftables through `nft`
    Nft,
    /// iptables-nft, then iptables-legacy
    Iptables,
    /// iptables over nf_tables only
    IptablesNft,
    /// the legacy iptables only
    IptablesLegacy,
}

/// What the operator wants to happen to IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Ipv6Wish {
    /// redirect; where that is impossible, reject
    Auto,
    /// redirect; where that is impossible, fail
    On,
    /// reject
    Off,
}

/// A way to bring rules into the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    Nft,
    Iptables(Flavour),
}

impl Backend {
    /// Every way that may have left rules behind.
    pub const ALL: [Self; 4] =
        [Self::Nft, Self::Iptables(Flavour::Nft), Self::Iptables(Flavour::Legacy), Self::Iptables(Flavour::Plain)];
}

impl fmt::Display for Backend {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nft => out.write_str("nft"),
            Self::Iptables(flavour) => out.write_str(flavour.name()),
        }
    }
}

/// A backend that works here, and what it can do.
#[derive(Debug)]
pub struct Choice {
    pub backend: Backend,
    pub ipv6: Ipv6,
    /// Why this one and not an earlier one, for the output.
    pub why: String,
}

/// The first allowed backend that the kernel accepts.
pub fn choose(wish: BackendWish, capture: &Capture, ipv6: Ipv6Wish) -> Result<Choice, RedirectError> {
    let mut refusals = Vec::new();
    for &backend in candidates(wish) {
        match try_out(backend, capture, ipv6) {
            Ok(ipv6) => return Ok(Choice { backend, ipv6, why: why(&refusals) }),
            Err(error @ RedirectError::Ipv6(_)) => return Err(error),
            Err(error) => refusals.push((backend, error)),
        }
    }
    Err(none_works(refusals))
}

/// What [`choose`] would find with everything allowed, backend by backend up to the one that it would take. Those after
/// it are not tried: trying leaves their empty tables in the kernel.
pub fn survey(capture: &Capture) -> Vec<(Backend, Result<Ipv6, RedirectError>)> {
    let mut tried = Vec::new();
    for backend in Backend::ALL {
        let result = try_out(backend, capture, Ipv6Wish::Auto);
        let decided = matches!(result, Ok(_) | Err(RedirectError::Ipv6(_)));
        tried.push((backend, result));
        if decided {
            break;
        }
    }
    tried
}

fn candidates(wish: BackendWish) -> &'static [Backend] {
    match wish {
        BackendWish::Auto => &Backend::ALL,
        BackendWish::Nft => &Backend::ALL[..1],
        BackendWish::Iptables => &Backend::ALL[1..],
        BackendWish::IptablesNft => &Backend::ALL[1..2],
        BackendWish::IptablesLegacy => &Backend::ALL[2..3],
    }
}

fn why(refusals: &[(Backend, RedirectError)]) -> String {
    let taken = "the kernel takes its nat rules";
    if refusals.is_empty() { taken.into() } else { format!("{taken}; not {}", listed(refusals)) }
}

fn listed(refusals: &[(Backend, RedirectError)]) -> String {
    let reason = |(backend, error): &(Backend, RedirectError)| match error {
        RedirectError::ToolMissing(_) => format!("{backend} (not installed)"),
        RedirectError::ToolFailed { said, .. } | RedirectError::NotPermitted { said, .. } => {
            format!("{backend} ({said})")
        }
        other => format!("{backend} ({other})"),
    };
    refusals.iter().map(reason).collect::<Vec<_>>().join(", ")
}

/// Lack of privilege and lack of tools each have one remedy; name it rather than every refusal. The first tool that is
/// there tells whether it is the privilege: where that one failed otherwise, its reason must not be lost behind another's.
fn none_works(mut refusals: Vec<(Backend, RedirectError)>) -> RedirectError {
    let is_there = |(_, error): &(Backend, RedirectError)| !matches!(error, RedirectError::ToolMissing(_));
    if let Some(at) = refusals.iter().position(is_there)
        && matches!(refusals[at].1, RedirectError::NotPermitted { .. })
    {
        return refusals.swap_remove(at).1;
    }
    if refusals.iter().all(|(_, error)| matches!(error, RedirectError::ToolMissing(_))) {
        let names = refusals.iter().map(|(backend, _)| backend.to_string()).collect::<Vec<_>>();
        return RedirectError::ToolMissing(names.join(" or "));
    }
    RedirectError::NoBackend(listed(&refusals))
}

fn try_out(backend: Backend, capture: &Capture, ipv6: Ipv6Wish) -> Result<Ipv6, RedirectError> {
    match backend {
        Backend::Nft => {
            // One inet table holds both families, so what holds for one holds for the other.
            let ipv6 = if ipv6 == Ipv6Wish::Off { Ipv6::Reject } else { Ipv6::Redirect };
            nft::try_out(&rules::nft(capture, ipv6)).map(|()| ipv6)
        }
        Backend::Iptables(flavour) => {
            try_redirect(flavour, Family::V4)?;
            let chosen = iptables_ipv6(flavour, ipv6)?;
            if capture.dns.is_some() {
                try_zones(flavour, Family::V4)?;
                if chosen == Ipv6::Redirect {
                    try_zones(flavour, Family::V6)?;
                }
            }
            Ok(chosen)
        }
    }
}

fn try_redirect(flavour: Flavour, family: Family) -> Result<(), RedirectError> {
    iptables::try_out(flavour, family, "nat", "-p tcp -m owner --uid-owner 0 -j REDIRECT --to-ports 1")
}

fn try_zones(flavour: Flavour, family: Family) -> Result<(), RedirectError> {
    iptables::try_out(flavour, family, "raw", "-p udp -m owner --uid-owner 0 -j CT --zone 1")
}

fn iptables_ipv6(flavour: Flavour, wish: Ipv6Wish) -> Result<Ipv6, RedirectError> {
    if wish != Ipv6Wish::Off {
        match try_redirect(flavour, Family::V6) {
            Ok(()) => return Ok(Ipv6::Redirect),
            Err(error) if wish == Ipv6Wish::On => {
                return Err(RedirectError::Ipv6(format!("cannot be redirected as --ipv6 on demands ({error})")));
            }
            Err(_) => {}
        }
    }
    match iptables::try_out(flavour, Family::V6, "filter", "-p tcp -j REJECT --reject-with tcp-reset") {
        Ok(()) => Ok(Ipv6::Reject),
        Err(_) if !ipv6_in_use() => Ok(Ipv6::Absent),
        Err(error) => {
            Err(RedirectError::Ipv6(format!("is in use here and can be neither redirected nor rejected ({error})")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing() -> RedirectError {
        RedirectError::ToolMissing("x".into())
    }

    #[test]
    fn the_error_names_the_remedy() {
        let nft = Backend::Nft;
        let iptables = Backend::Iptables(Flavour::Nft);
        let failed = || RedirectError::ToolFailed { tool: "nft".into(), said: "no chain type".into() };
        let denied = || RedirectError::NotPermitted { tool: "nft".into(), said: "no".into() };
        let text = none_works(vec![(nft, missing()), (iptables, missing())]).to_string();
        assert!(text.starts_with("nft or iptables-nft is not installed"), "{text}");
        let text = none_works(vec![(nft, denied()), (iptables, missing())]).to_string();
        assert!(text.contains("CAP_NET_ADMIN"), "{text}");
        let text = none_works(vec![(nft, failed()), (iptables, missing())]).to_string();
        assert!(text.contains("nft (no chain type), iptables-nft (not installed)"), "{text}");
        // What iptables was denied does not hide why nft cannot.
        let text = none_works(vec![(nft, failed()), (iptables, denied())]).to_string();
        assert!(text.contains("nft (no chain type), iptables-nft (no)") && !text.contains("CAP_NET_ADMIN"), "{text}");
        let text = none_works(vec![(nft, missing()), (iptables, denied())]).to_string();
        assert!(text.contains("CAP_NET_ADMIN"), "{text}");
    }
}
