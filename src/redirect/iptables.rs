//! egret's chains in the iptables of one flavour: reading, replacing and removing them through `*-save` and `*-restore`.
//!
//! It does not know what the rules mean, only that egret's chains begin with `EGRET_`, and it never touches a chain or
//! rule of someone else. A table is replaced in one commit: old jumps and chains go and new ones come at once.

use super::RedirectError;
use super::rules::{Family, Table, text};
use super::tool::run;

/// What the names of egret's chains begin with.
pub const OURS: &str = "EGRET_";
const STATE: &str = "EGRET_S_";

/// Whose tables: a host may have both, and both are walked by every packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    Nft,
    Legacy,
    /// Whatever `iptables` is, on systems that have no names for the two.
    Plain,
}

impl Flavour {
    /// `iptables-nft`, `iptables-legacy` or `iptables`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nft => "iptables-nft",
            Self::Legacy => "iptables-legacy",
            Self::Plain => "iptables",
        }
    }

    fn program(self, family: Family, action: &str) -> String {
        let name = match family {
            Family::V4 => self.name().to_owned(),
            Family::V6 => self.name().replacen("iptables", "ip6tables", 1),
        };
        format!("{name}-{action}")
    }
}

/// egret's part of the tables of one family: chain declarations and rules of its chains, and the jumps to them.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct PresentChains {
    pub tables: Vec<Table>,
    pub digest: Option<String>,
}

/// Reads what is there. A kernel without tables of this flavour has nothing there.
pub fn present(flavour: Flavour, family: Family) -> Result<PresentChains, RedirectError> {
    Ok(ours(&save(flavour, family)?))
}

/// Every rule of the flavour, whoever made it, as `iptables-save` prints them.
pub fn save(flavour: Flavour, family: Family) -> Result<String, RedirectError> {
    if flavour == Flavour::Legacy && no_legacy_tables(family) {
        return Ok(String::new());
    }
    run(&flavour.program(family, "save"), &[], "")
}

/// Asking iptables-legacy for a table creates it; the kernel's own list tells without doing so.
fn no_legacy_tables(family: Family) -> bool {
    let names = match family {
        Family::V4 => "/proc/net/ip_tables_names",
        Family::V6 => "/proc/net/ip6_tables_names",
    };
    match std::fs::read_to_string(names) {
        Ok(names) => names.trim().is_empty(),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    }
}

/// Whether rules like `lines` can stand in `table` here: they are put into a chain that no packet reaches, and taken
/// out again. Only the kernel can tell; the tool being installed, or another table working, proves nothing. Where
/// egret's rules stand in the table already, they are the proof.
pub fn try_out(flavour: Flavour, family: Family, table: &str, rule: &str) -> Result<(), RedirectError> {
    if present(flavour, family)?.table(table).is_some() {
        return Ok(());
    }
    try_rule(flavour, family, table, rule)
}

/// As [`try_out`], whatever stands in the table.
pub fn try_rule(flavour: Flavour, family: Family, table: &str, rule: &str) -> Result<(), RedirectError> {
    let table = |lines: &[&str]| Table { name: table.into(), lines: lines.iter().map(ToString::to_string).collect() };
    restore(flavour, family, &table(&[":EGRET_PROBE - [0:0]", &format!("-A EGRET_PROBE {rule}")]))?;
    restore(flavour, family, &table(&["-F EGRET_PROBE", "-X EGRET_PROBE"]))
}

/// Turns egret's part of a table from `present` into `wanted` in one commit; either may be missing.
pub fn replace(
    flavour: Flavour,
    family: Family,
    present: Option<&Table>,
    wanted: Option<&Table>,
) -> Result<(), RedirectError> {
    match change(present, wanted) {
        Some(change) => restore(flavour, family, &change),
        None => Ok(()),
    }
}

/// Keeps the digest beside the rules, as the name of an empty chain.
pub fn mark(flavour: Flavour, digest: &str) -> Result<(), RedirectError> {
    let chain = format!(":{STATE}{digest} - [0:0]");
    restore(flavour, Family::V4, &Table { name: "nat".into(), lines: vec![chain] })
}

fn restore(flavour: Flavour, family: Family, table: &Table) -> Result<(), RedirectError> {
    // The legacy tables have one lock; thirty seconds is longer than any other writer holds it.
    let arguments = ["--noflush", "-w", "30"];
    run(&flavour.program(family, "restore"), &arguments, &text(std::slice::from_ref(table))).map(drop)
}

fn change(present: Option<&Table>, wanted: Option<&Table>) -> Option<Table> {
    let name = present.or(wanted)?.name.clone();
    let wanted = wanted.map_or(&[][..], |table| &table.lines);
    let present = present.map_or(&[][..], |table| &table.lines);
    let kept = |chain: &&str| wanted.iter().any(|line| chain_declared(line) == Some(chain));
    let stale: Vec<&str> =
        present.iter().filter_map(|line| chain_declared(line)).filter(|chain| !kept(chain)).collect();
    let jumps = present.iter().filter(|line| is_foreign_chain(line)).filter_map(|line| line.strip_prefix("-A"));
    let mut lines: Vec<String> = jumps.map(|jump| format!("-D{jump}")).collect();
    lines.extend(stale.iter().map(|chain| format!("-F {chain}")));
    // A declaration empties a chain that is there already.
    lines.extend(wanted.iter().cloned());
    lines.extend(stale.iter().map(|chain| format!("-X {chain}")));
    (!lines.is_empty()).then_some(Table { name, lines })
}

fn chain_declared(line: &str) -> Option<&str> {
    line.strip_prefix(':')?.split(' ').next()
}

/// Whether a rule stands in a chain that is not egret's.
fn is_foreign_chain(line: &str) -> bool {
    line.strip_prefix("-A ").is_some_and(|rule| !rule.starts_with(OURS))
}

fn ours(saved: &str) -> PresentChains {
    let mut found = PresentChains::default();
    let mut name = "";
    for line in saved.lines() {
        if let Some(table) = line.strip_prefix('*') {
            name = table;
        } else if let Some(digest) = chain_declared(line).and_then(|chain| chain.strip_prefix(STATE)) {
            found.digest = Some(digest.into());
            keep(&mut found.tables, name, line);
        } else if is_ours(line) {
            keep(&mut found.tables, name, line);
        }
    }
    found
}

fn keep(tables: &mut Vec<Table>, name: &str, line: &str) {
    match tables.last_mut() {
        Some(table) if table.name == name => table.lines.push(line.into()),
        _ => tables.push(Table { name: name.into(), lines: vec![line.into()] }),
    }
}

fn is_ours(line: &str) -> bool {
    if let Some(chain) = chain_declared(line) {
        return chain.starts_with(OURS);
    }
    let Some(rule) = line.strip_prefix("-A ") else { return false };
    let mut words = rule.split(' ').skip_while(|word| !matches!(*word, "-j" | "-g"));
    rule.starts_with(OURS) || words.nth(1).is_some_and(|target| target.starts_with(OURS))
}

impl PresentChains {
    /// The table of that name, when egret has something in it.
    pub fn table(&self, name: &str) -> Option<&Table> {
        self.tables.iter().find(|table| table.name == name)
    }

    /// The rules without their digest: what the digest is taken of.
    pub fn listing(&self) -> String {
        let state = |line: &String| chain_declared(line).is_some_and(|chain| chain.starts_with(STATE));
        let rules = |table: &Table| Table {
            name: table.name.clone(),
            lines: table.lines.iter().filter(|line| !state(line)).cloned().collect(),
        };
        text(&self.tables.iter().map(rules).collect::<Vec<_>>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAVED: &str = "# Generated by iptables-save\n*nat\n:PREROUTING ACCEPT [5:300]\n:OUTPUT ACCEPT [0:0]\n\
        :DOCKER - [0:0]\n:EGRET_OUTPUT - [0:0]\n:EGRET_OLD - [0:0]\n:EGRET_S_00ff00ff00ff00ff - [0:0]\n\
        -A OUTPUT -j EGRET_OUTPUT\n-A OUTPUT -d 10.0.0.1/32 -p tcp -j DNAT --to-destination 10.0.0.2\n\
        -A OUTPUT -m comment --comment \"see EGRET_OUTPUT\" -j DOCKER\n-A EGRET_OUTPUT -o lo -j RETURN\n\
        -A EGRET_OUTPUT -j EGRET_OLD\nCOMMIT\n*filter\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n";

    fn table(lines: &[&str]) -> Table {
        Table { name: "nat".into(), lines: lines.iter().map(ToString::to_string).collect() }
    }

    #[test]
    fn only_egrets_part_is_seen() {
        let found = ours(SAVED);
        assert_eq!(found.digest.as_deref(), Some("00ff00ff00ff00ff"));
        assert_eq!(found.tables.len(), 1);
        assert_eq!(
            found.listing(),
            "*nat\n:EGRET_OUTPUT - [0:0]\n:EGRET_OLD - [0:0]\n-A OUTPUT -j EGRET_OUTPUT\n\
             -A EGRET_OUTPUT -o lo -j RETURN\n-A EGRET_OUTPUT -j EGRET_OLD\nCOMMIT\n"
        );
    }

    #[test]
    fn a_change_removes_the_old_and_brings_the_new() {
        let found = ours(SAVED);
        let wanted =
            table(&[":EGRET_OUTPUT - [0:0]", "-A EGRET_OUTPUT -p tcp -j RETURN", "-I OUTPUT 1 -j EGRET_OUTPUT"]);
        let lines = change(found.table("nat"), Some(&wanted)).unwrap().lines;
        let want = [
            "-D OUTPUT -j EGRET_OUTPUT",
            "-F EGRET_OLD",
            "-F EGRET_S_00ff00ff00ff00ff",
            ":EGRET_OUTPUT - [0:0]",
            "-A EGRET_OUTPUT -p tcp -j RETURN",
            "-I OUTPUT 1 -j EGRET_OUTPUT",
            "-X EGRET_OLD",
            "-X EGRET_S_00ff00ff00ff00ff",
        ];
        assert_eq!(lines, want);
    }

    #[test]
    fn removal_leaves_nothing_and_absence_changes_nothing() {
        let lines = change(ours(SAVED).table("nat"), None).unwrap().lines;
        assert_eq!(lines.iter().filter(|line| line.starts_with("-X")).count(), 3);
        assert_eq!(lines.iter().filter(|line| line.starts_with("-D")).count(), 1);
        assert_eq!(change(None, None), None);
    }
}
