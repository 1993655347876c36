//! From a wish to rules in the kernel, and back: choose a backend, compare, apply, sweep away what another one left.
//!
//! It knows the order and leaves the means to `nft` and `iptables`. New rules stand before old ones go, so a change of
//! backend leaves no moment in which a connection escapes; a wish that is fulfilled already changes nothing.

use super::RedirectError;
use super::backend::{self, Backend, BackendWish, Choice, Ipv6Wish, choose};
use super::capture::Capture;
use super::iptables::{self, Flavour};
use super::rules::{self, BoundSockets, Family, Ipv6, Table};
use super::{digest, nft};

/// Whether anything had to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Applied,
    Unchanged,
}

/// What stands now.
#[derive(Debug)]
pub struct Installed {
    pub choice: Choice,
    pub outcome: Outcome,
    pub bound: BoundSockets,
    /// Other backends whose rules were found and removed.
    pub swept: Vec<Backend>,
}

/// Brings the kernel to the wish. The order of the wishes is that of `egret init`'s flags.
pub fn install(capture: &Capture, ipv6: Ipv6Wish, backend: BackendWish) -> Result<Installed, RedirectError> {
    let choice = choose(backend, capture, ipv6)?;
    let (outcome, bound) = match choice.backend {
        Backend::Nft => (install_nft(&rules::nft(capture, choice.ipv6))?, BoundSockets::Refused),
        Backend::Iptables(flavour) => {
            let bound = backend::bound_sockets(flavour, choice.ipv6);
            (install_iptables(flavour, capture, choice.ipv6, bound)?, bound)
        }
    };
    let swept = sweep(Some(choice.backend))?.swept;
    Ok(Installed { choice, outcome, bound, swept })
}

/// What a removal found.
#[derive(Debug, Default)]
pub struct Removed {
    /// Backends that had rules of egret.
    pub swept: Vec<Backend>,
    /// Backends whose tool is missing or finds no tables: rules of theirs, made by another image, would be left.
    pub unseen: Vec<Backend>,
}

/// Removes egret's rules of every backend.
pub fn remove() -> Result<Removed, RedirectError> {
    sweep(None)
}

fn install_nft(rules: &str) -> Result<Outcome, RedirectError> {
    if let Some(present) = nft::present()?
        && present.digest.as_deref() == Some(&*digest::of(rules, &present.listing))
    {
        return Ok(Outcome::Unchanged);
    }
    nft::apply(rules)?;
    let listing = nft::present()?.map(|present| present.listing).unwrap_or_default();
    nft::mark(&digest::of(rules, &listing))?;
    Ok(Outcome::Applied)
}

fn install_iptables(
    flavour: Flavour,
    capture: &Capture,
    ipv6: Ipv6,
    bound: BoundSockets,
) -> Result<Outcome, RedirectError> {
    let families: &[Family] = if ipv6 == Ipv6::Absent { &[Family::V4] } else { &[Family::V4, Family::V6] };
    let rules = |family| rules::iptables(capture, family, ipv6, bound);
    let wanted: String = families.iter().map(|&family| rules::text(&rules(family))).collect();
    let v4 = iptables::present(flavour, Family::V4)?;
    if v4.digest.as_deref() == Some(&*digest::of(&wanted, &listing(flavour, families)?)) {
        return Ok(Outcome::Unchanged);
    }
    for &family in families {
        replace_family(flavour, family, ipv6, &rules(family))?;
    }
    iptables::mark(flavour, &digest::of(&wanted, &listing(flavour, families)?))?;
    Ok(Outcome::Applied)
}

fn listing(flavour: Flavour, families: &[Family]) -> Result<String, RedirectError> {
    families.iter().map(|&family| iptables::present(flavour, family).map(|present| present.listing())).collect()
}

fn replace_family(flavour: Flavour, family: Family, ipv6: Ipv6, wanted: &[Table]) -> Result<(), RedirectError> {
    let present = iptables::present(flavour, family)?;
    let mut names: Vec<&str> = wanted.iter().chain(&present.tables).map(|table| table.name.as_str()).collect();
    names.sort_by_key(|name| rules::order(name, ipv6));
    names.dedup();
    for name in names {
        let wanted = wanted.iter().find(|table| table.name == name);
        iptables::replace(flavour, family, present.table(name), wanted)?;
    }
    Ok(())
}

fn sweep(keep: Option<Backend>) -> Result<Removed, RedirectError> {
    let mut removed = Removed::default();
    for backend in Backend::ALL.into_iter().filter(|backend| !same(Some(*backend), keep)) {
        match remove_from(backend)? {
            Some(true) => removed.swept.push(backend),
            Some(false) => {}
            None => removed.unseen.push(backend),
        }
    }
    Ok(removed)
}

/// The plain `iptables` is one of the named flavours under another name, so its rules cannot be told from theirs.
fn same(one: Option<Backend>, other: Option<Backend>) -> bool {
    let plain = Some(Backend::Iptables(Flavour::Plain));
    let any = |backend: Option<Backend>| matches!(backend, Some(Backend::Iptables(_)));
    one == other || (one == plain && any(other)) || (other == plain && any(one))
}

/// Whether there was something; nothing where one cannot look.
fn remove_from(backend: Backend) -> Result<Option<bool>, RedirectError> {
    match backend {
        Backend::Nft => {
            let found = readable(nft::present())?.map(|present| present.is_some());
            if found == Some(true) {
                nft::remove()?;
            }
            Ok(found)
        }
        Backend::Iptables(flavour) => {
            let v4 = remove_family(flavour, Family::V4)?;
            let v6 = remove_family(flavour, Family::V6)?;
            Ok(v4.or(v6).map(|_| v4 == Some(true) || v6 == Some(true)))
        }
    }
}

fn remove_family(flavour: Flavour, family: Family) -> Result<Option<bool>, RedirectError> {
    let Some(present) = readable(iptables::present(flavour, family))? else { return Ok(None) };
    for table in &present.tables {
        iptables::replace(flavour, family, Some(table), None)?;
    }
    Ok(Some(!present.tables.is_empty()))
}

/// Nothing, rather than an error, for want of a tool or of kernel support: what this image cannot read it cannot have
/// written either.
fn readable<T>(read: Result<T, RedirectError>) -> Result<Option<T>, RedirectError> {
    match read {
        Ok(present) => Ok(Some(present)),
        Err(RedirectError::ToolMissing(_) | RedirectError::ToolFailed { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
