//! From a wish to rules in the kernel, and back: choose a backend, compare, apply, sweep away what another one left.
//!
//! It knows the order and leaves the means to `nft` and `iptables`. New rules stand before old ones go, so a change of
//! backend leaves no moment in which a connection escapes; a wish that is fulfilled already changes nothing.

use super::RedirectError;
use super::backend::{Backend, BackendWish, Choice, Ipv6Wish, choose};
use super::capture::Capture;
use super::iptables::{self, Flavour};
use super::rules::{self, Family, Ipv6};
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
    /// Other backends whose rules were found and removed.
    pub swept: Vec<Backend>,
}

/// Brings the kernel to the wish. The order of the wishes is that of `egret init`'s flags.
pub fn install(capture: &Capture, ipv6: Ipv6Wish, backend: BackendWish) -> Result<Installed, RedirectError> {
    let choice = choose(backend, capture, ipv6)?;
    let outcome = match choice.backend {
        Backend::Nft => install_nft(&rules::nft(capture, choice.ipv6))?,
        Backend::Iptables(flavour) => install_iptables(flavour, capture, choice.ipv6)?,
    };
    let swept = sweep(Some(choice.backend))?;
    Ok(Installed { choice, outcome, swept })
}

/// Removes egret's rules of every backend; those that had any.
pub fn remove() -> Result<Vec<Backend>, RedirectError> {
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

fn install_iptables(flavour: Flavour, capture: &Capture, ipv6: Ipv6) -> Result<Outcome, RedirectError> {
    let families: &[Family] = if ipv6 == Ipv6::Absent { &[Family::V4] } else { &[Family::V4, Family::V6] };
    let wanted: String = families.iter().map(|&family| rules::text(&rules::iptables(capture, family, ipv6))).collect();
    let v4 = iptables::present(flavour, Family::V4)?;
    if v4.digest.as_deref() == Some(&*digest::of(&wanted, &listing(flavour, families)?)) {
        return Ok(Outcome::Unchanged);
    }
    for &family in families {
        replace_family(flavour, capture, family, ipv6)?;
    }
    iptables::mark(flavour, &digest::of(&wanted, &listing(flavour, families)?))?;
    Ok(Outcome::Applied)
}

fn listing(flavour: Flavour, families: &[Family]) -> Result<String, RedirectError> {
    families.iter().map(|&family| iptables::present(flavour, family).map(|present| present.listing())).collect()
}

fn replace_family(flavour: Flavour, capture: &Capture, family: Family, ipv6: Ipv6) -> Result<(), RedirectError> {
    let wanted = rules::iptables(capture, family, ipv6);
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

fn sweep(keep: Option<Backend>) -> Result<Vec<Backend>, RedirectError> {
    let mut swept = Vec::new();
    for backend in Backend::ALL.into_iter().filter(|backend| !same(Some(*backend), keep)) {
        if remove_from(backend)? {
            swept.push(backend);
        }
    }
    Ok(swept)
}

/// The plain `iptables` is one of the named flavours under another name, so its rules cannot be told from theirs.
fn same(one: Option<Backend>, other: Option<Backend>) -> bool {
    let plain = Some(Backend::Iptables(Flavour::Plain));
    let any = |backend: Option<Backend>| matches!(backend, Some(Backend::Iptables(_)));
    one == other || (one == plain && any(other)) || (other == plain && any(one))
}

fn remove_from(backend: Backend) -> Result<bool, RedirectError> {
    match backend {
        Backend::Nft => {
            let found = readable(nft::present())?.flatten().is_some();
            if found {
                nft::remove()?;
            }
            Ok(found)
        }
        Backend::Iptables(flavour) => Ok(remove_family(flavour, Family::V4)? | remove_family(flavour, Family::V6)?),
    }
}

fn remove_family(flavour: Flavour, family: Family) -> Result<bool, RedirectError> {
    let present = readable(iptables::present(flavour, family))?.unwrap_or_default();
    for table in &present.tables {
        iptables::replace(flavour, family, Some(table), None)?;
    }
    Ok(!present.tables.is_empty())
}

/// What cannot be read here for want of a tool or of kernel support cannot have been written here.
fn readable<T>(read: Result<T, RedirectError>) -> Result<Option<T>, RedirectError> {
    match read {
        Ok(present) => Ok(Some(present)),
        Err(RedirectError::ToolMissing(_) | RedirectError::ToolFailed { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
