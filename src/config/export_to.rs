//! `exportTo`: which namespaces may see a ServiceEntry, DestinationRule or VirtualService.

use super::names;
use super::reader::{Field, Report};
use super::yaml::quoted;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExportTo {
    /// `.`
    Same,
    /// `*`
    All,
    /// `~`
    Nobody,
    Namespace(String),
}

/// `nobody_allowed`: only a ServiceEntry may be exported to nobody (`~`).
pub(super) fn read(field: &Field<'_>, nobody_allowed: bool, report: &mut Report) -> Vec<ExportTo> {
    let mut targets = Vec::new();
    for item in field.list(usize::MAX, report) {
        let Some(text) = item.word(report) else { continue };
        let target = match text {
            "." => ExportTo::Same,
            "*" => ExportTo::All,
            "~" if nobody_allowed => ExportTo::Nobody,
            name if names::is_dns_label(name) => ExportTo::Namespace(name.to_owned()),
            _ => {
                let nobody = if nobody_allowed { ", \"~\" (nobody)" } else { "" };
                let expected = format!("\".\" (this namespace), \"*\" (all){nobody} or the name of a namespace");
                item.error(format!("expected {expected}, found {}", quoted(text)), report);
                continue;
            }
        };
        if targets.contains(&target) {
            item.error(format!("{} is listed twice", quoted(text)), report);
        } else {
            targets.push(target);
        }
    }
    for (alone, text) in [(ExportTo::All, "*"), (ExportTo::Nobody, "~")] {
        if targets.len() > 1 && targets.contains(&alone) {
            field.error(format!("{} must stand alone", quoted(text)), report);
        }
    }
    targets
}
