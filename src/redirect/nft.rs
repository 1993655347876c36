//! The table `inet egret` in the kernel: reading, replacing and deleting it through `nft`.
//!
//! It does not know what the rules mean. One table for both families and for all hooks, so that every change is one
//! transaction. Beside the rules stands an empty chain whose name holds their digest (see `digest`).

use super::RedirectError;
use super::tool::run;

const NFT: &str = "nft";
const STATE: &str = "state_";

/// What is in the kernel.
pub struct PresentTable {
    /// As `nft` prints it, without counters and without the state chain.
    pub listing: String,
    pub digest: Option<String>,
}

/// A nat chain with a redirect, for an interface that nobody has.
const PROBE: &str = "add table inet egret_probe\ndelete table inet egret_probe\ntable inet egret_probe {\n\tchain output {\n\
    \t\ttype nat hook output priority -101; policy accept;\n\
    \t\toifname \"egret-probe\" meta l4proto tcp redirect to :1\n\t}\n}\n";

/// Whether this kernel takes the rules. First a scratch table really comes and goes, because the kernel validates
/// chains only when it commits (a table of egret that is there already proves as much); then the rules themselves are
/// sent without a commit, which tries every expression and module they need.
pub fn try_out(rules: &str) -> Result<(), RedirectError> {
    if present()?.is_none() {
        apply(PROBE)?;
        apply("delete table inet egret_probe\n")?;
    }
    run(NFT, &["-c", "-f", "-"], rules).map(drop)
}

/// The table, when there is one.
pub fn present() -> Result<Option<PresentTable>, RedirectError> {
    match run(NFT, &["-s", "list", "table", "inet", "egret"], "") {
        Ok(listing) => Ok(Some(split(&listing))),
        Err(RedirectError::ToolFailed { said, .. }) if said.contains("No such file or directory") => Ok(None),
        Err(error) => Err(error),
    }
}

/// Replaces the table by `rules` in one transaction.
pub fn apply(rules: &str) -> Result<(), RedirectError> {
    run(NFT, &["-f", "-"], rules).map(drop)
}

/// Keeps the digest beside the rules.
pub fn mark(digest: &str) -> Result<(), RedirectError> {
    apply(&format!("add chain inet egret {STATE}{digest}\n"))
}

/// Deletes the table.
pub fn remove() -> Result<(), RedirectError> {
    apply("add table inet egret\ndelete table inet egret\n")
}

fn split(listing: &str) -> PresentTable {
    let mut digest = None;
    let mut kept = String::new();
    let mut lines = listing.lines().filter(|line| !line.trim().is_empty());
    while let Some(line) = lines.next() {
        if let Some(name) = line.trim().strip_prefix("chain ").and_then(|chain| chain.strip_prefix(STATE)) {
            digest = name.split_whitespace().next().map(str::to_owned);
            // The chain is empty: the next line closes it.
            lines.next();
        } else {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    PresentTable { listing: kept, digest }
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn the_state_chain_is_no_part_of_the_listing() {
        let bare = "table inet egret {\n\tchain output {\n\t\treturn\n\t}\n}\n";
        let marked =
            "table inet egret {\n\tchain output {\n\t\treturn\n\t}\n\n\tchain state_0011223344556677 {\n\t}\n}\n";
        assert_eq!(split(bare).digest, None);
        assert_eq!(split(marked).digest.as_deref(), Some("0011223344556677"));
        assert_eq!(split(marked).listing, split(bare).listing);
        assert_eq!(split(bare).listing, bare);
    }
}
