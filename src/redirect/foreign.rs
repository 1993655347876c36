//! Whose rules redirect here besides egret's? Two redirectors in one pod fight: the first rule that matches wins.
//!
//! It reads what the tools print and looks for the targets that take a connection elsewhere within this host (redirect,
//! TPROXY). DNAT is left alone: it changes where a connection goes, which egret sees as its original destination.

use std::collections::BTreeSet;

use super::RedirectError;
use super::iptables::{self, Flavour};
use super::rules::Family;
use super::tool::run;

/// The chains of others that redirect, as `ip nat ISTIO_OUTPUT`.
///
/// # Errors
/// When nothing was found and not one of the tools could be asked, or one was denied: then there may be something.
pub fn redirecting_chains() -> Result<BTreeSet<String>, RedirectError> {
    all_of([
        run("nft", &["-s", "list", "ruleset"], "").map(|listing| in_nft(&listing)),
        in_iptables(Flavour::Nft, Family::V4),
        in_iptables(Flavour::Nft, Family::V6),
        in_iptables(Flavour::Legacy, Family::V4),
        in_iptables(Flavour::Legacy, Family::V6),
    ])
}

fn all_of<const N: usize>(asked: [Result<Vec<String>, RedirectError>; N]) -> Result<BTreeSet<String>, RedirectError> {
    let (mut found, mut denied, mut refused, mut answers) = (BTreeSet::new(), None, None, 0);
    for answer in asked {
        match answer {
            Ok(chains) => {
                found.extend(chains);
                answers += 1;
            }
            Err(error @ RedirectError::NotPermitted { .. }) => denied = denied.or(Some(error)),
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    let error = denied.or(refused.filter(|_| answers == 0));
    error.filter(|_| found.is_empty()).map_or(Ok(found), Err)
}

fn in_iptables(flavour: Flavour, family: Family) -> Result<Vec<String>, RedirectError> {
    let layer = if family == Family::V4 { "ip" } else { "ip6" };
    Ok(in_saved(layer, &iptables::save(flavour, family)?))
}

/// Chains in `nft list ruleset`. Rules made by iptables-nft are printed there, too, some only as a comment.
fn in_nft(listing: &str) -> Vec<String> {
    let (mut table, mut chain, mut found) = (String::new(), "", Vec::new());
    for line in listing.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("table ") {
            name.trim_end_matches(" {").clone_into(&mut table);
        } else if let Some(name) = line.strip_prefix("chain ") {
            chain = name.trim_end_matches(" {");
        } else if table != "inet egret" && !chain.starts_with(iptables::OURS) && redirects(line) {
            found.push(format!("{table} {chain}"));
        }
    }
    found
}

/// Chains in the output of `iptables-save`.
fn in_saved(layer: &str, saved: &str) -> Vec<String> {
    let (mut table, mut found) = ("", Vec::new());
    for line in saved.lines() {
        if let Some(name) = line.strip_prefix('*') {
            table = name;
        } else if let Some(chain) = line.strip_prefix("-A ").and_then(|rule| rule.split(' ').next())
            && !chain.starts_with(iptables::OURS)
            && redirects(line)
        {
            found.push(format!("{layer} {table} {chain}"));
        }
    }
    found
}

fn redirects(rule: &str) -> bool {
    // Text in quotes is a comment or a log prefix.
    let outside = rule.split('"').step_by(2);
    outside.flat_map(str::split_whitespace).any(|word| matches!(word, "redirect" | "tproxy" | "REDIRECT" | "TPROXY"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_denied_has_not_looked() {
        let denied = || RedirectError::NotPermitted { tool: "nft".into(), said: "no".into() };
        let missing = || RedirectError::ToolMissing("nft".into());
        assert!(matches!(all_of([Err(denied()), Ok(vec![])]), Err(RedirectError::NotPermitted { .. })));
        assert!(matches!(all_of([Err(missing()), Err(denied())]), Err(RedirectError::NotPermitted { .. })));
        assert_eq!(all_of([Err(denied()), Ok(vec!["x".into()])]).unwrap().len(), 1);
        assert!(all_of([Err(missing()), Ok(vec![])]).unwrap().is_empty());
        assert!(matches!(all_of([Err(missing())]), Err(RedirectError::ToolMissing(_))));
    }

    #[test]
    fn chains_of_others_are_found_and_egrets_are_not() {
        let nft = "table inet egret {\n\tchain output {\n\t\tmeta l4proto tcp redirect to :15001\n\t}\n}\n\
                   table ip nat {\n\tchain EGRET_OUTPUT {\n\t\tredirect to :15001\n\t}\n\tchain ISTIO_REDIRECT {\n\
                   \t\tmeta l4proto tcp counter redirect to :15001\n\t}\n\tchain x {\n\t\tcomment \"no redirect\" \
                   accept\n\t\tdnat to 10.0.0.1\n\t}\n}\n";
        assert_eq!(in_nft(nft), ["ip nat ISTIO_REDIRECT"]);
        let saved = "*nat\n:ISTIO_REDIRECT - [0:0]\n-A ISTIO_REDIRECT -p tcp -j REDIRECT --to-ports 15001\n\
                     -A EGRET_REDIRECT -p tcp -j REDIRECT --to-ports 15001\n-A KUBE -j DNAT --to 10.0.0.1\nCOMMIT\n\
                     *mangle\n-A DIVERT -p tcp -j TPROXY --on-port 1\nCOMMIT\n";
        assert_eq!(in_saved("ip6", saved), ["ip6 nat ISTIO_REDIRECT", "ip6 mangle DIVERT"]);
    }
}
