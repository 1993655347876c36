//! Lookups that `dnsPolicy` refused: counted by name, and logged a few at a time.
//!
//! Names are the application's choice, so there is a bound to how many are kept and to how many lines are written.

use std::collections::HashMap;

use hickory_proto::op::Query;

use crate::observe::Exposition;

/// Names with a count of their own; others share one.
const MAX_NAMES: usize = 100;
/// Lines between two reports.
const MAX_LINES: usize = 10;
/// What the others are called in the metric.
const OTHERS: &str = "other";

#[derive(Debug, Default)]
pub(super) struct Refusals {
    counts: HashMap<String, u64>,
    others: u64,
    lines: usize,
    unlogged: u64,
}

impl Refusals {
    pub(super) fn note(&mut self, question: &Query) {
        let mut name = question.name.to_lowercase();
        name.set_fqdn(false);
        let name = name.to_string();
        if self.lines < MAX_LINES {
            self.lines += 1;
            let kind = question.query_type;
            tracing::warn!(%name, %kind, "refused a lookup: no ServiceEntry lists the name (dnsPolicy ANSWER_LISTED_ONLY)");
        } else {
            self.unlogged += 1;
        }
        let has_room = self.counts.len() < MAX_NAMES;
        match self.counts.get_mut(&name) {
            Some(count) => *count += 1,
            None if has_room => drop(self.counts.insert(name, 1)),
            None => self.others += 1,
        }
    }

    /// Says how many were not logged, and lets the next ones be. Called every few seconds.
    pub(super) fn report(&mut self) {
        let unlogged = std::mem::take(&mut self.unlogged);
        if unlogged > 0 {
            tracing::warn!(lookups = unlogged, "refused more lookups of names that no ServiceEntry lists");
        }
        self.lines = 0;
    }

    pub(super) fn render(&self, out: &mut Exposition) {
        let help = "DNS queries refused by dnsPolicy, by name; names beyond the first hundred count as other.";
        out.family("egret_dns_refused_total", "counter", help);
        let mut rows: Vec<_> = self.counts.iter().collect();
        rows.sort_unstable();
        for (name, count) in rows {
            out.sample("egret_dns_refused_total", &[("name", name)], count);
        }
        out.sample("egret_dns_refused_total", &[("name", OTHERS)], self.others);
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::rr::{Name, RecordType};

    use super::*;

    #[test]
    fn names_are_counted_up_to_a_bound() {
        let mut refusals = Refusals::default();
        let ask = |name: &str| Query::query(Name::from_ascii(name).unwrap(), RecordType::A);
        for number in 0..MAX_NAMES {
            refusals.note(&ask(&format!("n{number}.test.")));
        }
        refusals.note(&ask("N1.test."));
        refusals.note(&ask("late.test."));
        let mut out = Exposition::new();
        refusals.render(&mut out);
        let text = out.finish();
        assert!(text.contains("egret_dns_refused_total{name=\"n1.test\"} 2\n"), "{text}");
        assert!(text.contains("egret_dns_refused_total{name=\"other\"} 1\n"), "{text}");
        assert!(!text.contains("late"), "{text}");
        assert_eq!(refusals.unlogged, (MAX_NAMES + 2 - MAX_LINES) as u64);
        refusals.report();
        assert_eq!((refusals.unlogged, refusals.lines), (0, 0));
    }
}
