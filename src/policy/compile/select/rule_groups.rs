//! DestinationRules of one host and namespace: which of them hold together.
//!
//! Istio merges those that have the same selector and the same `exportTo`, as written (`mergeDestinationRule`,
//! `ENABLE_ENHANCED_DESTINATIONRULE_MERGE`, since 1.24). Of groups without a selector that a pod sees the last holds, the one
//! that began youngest (`SidecarScope.DestinationRule`). It knows nothing of what rules ask for.
//!
//! Two things are otherwise, since Istio would leave pods without any rule, and so without its TLS: a rule whose `exportTo`
//! covers an older one's and more holds by itself where the older is not seen, and a rule without a selector never
//! vanishes into one that has a selector.

use std::collections::BTreeMap;

use crate::config::{DestinationRule, ExportTo};

/// Rules that hold together.
#[derive(Debug)]
pub(in crate::policy) struct Group<'r> {
    pub(in crate::policy) export_to: &'r [ExportTo],
    pub(in crate::policy) selector: Option<&'r BTreeMap<String, String>>,
    /// Numbers of the rules, oldest first.
    pub(in crate::policy) members: Vec<usize>,
    /// For pods that do not see the group which its rule has been merged into.
    is_rest: bool,
}

/// What becomes of a rule beside a group.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Beside {
    Apart,
    Merged,
    /// Merged, and seen by more pods than the group.
    MergedAndWider,
}

impl Group<'_> {
    fn beside(&self, export_to: &[ExportTo]) -> Beside {
        let has_all = self.export_to.iter().all(|to| export_to.contains(to));
        match export_to.len() == self.export_to.len() {
            true if has_all => Beside::Merged,
            // To export to nobody in particular is to export to everybody, which covers no list.
            false if has_all && !self.export_to.is_empty() => Beside::MergedAndWider,
            _ => Beside::Apart,
        }
    }
}

/// Adds the rule of number `id` to the groups of its host and namespace; older rules must have been added before.
pub(in crate::policy) fn join<'r>(groups: &mut Vec<Group<'r>>, id: usize, rule: &'r DestinationRule) {
    let selector = rule.workload_selector.as_ref();
    // A rule with a selector is never exported, whatever it says.
    let export_to = if selector.is_some() { &[][..] } else { &rule.export_to[..] };
    let mut beside = Beside::Apart;
    for group in groups.iter_mut().filter(|group| group.selector == selector && !group.is_rest) {
        // Not to be the same as the last group is to stand apart, even after a merge with an earlier one.
        beside = group.beside(export_to);
        if beside != Beside::Apart {
            group.members.push(id);
        }
    }
    if beside != Beside::Merged {
        let is_rest = beside == Beside::MergedAndWider;
        groups.push(Group { export_to, selector, members: vec![id], is_rest });
    }
}

/// The group that holds of those which a pod sees, and whose selectors are all its own.
pub(in crate::policy) fn in_force<'g, 'r>(groups: &'g [Group<'r>]) -> Option<&'g Group<'r>> {
    groups.iter().find(|group| group.selector.is_some()).or_else(|| general(groups))
}

/// The group that holds for pods that no selector means.
pub(in crate::policy) fn general<'g, 'r>(groups: &'g [Group<'r>]) -> Option<&'g Group<'r>> {
    let general = || groups.iter().rev().filter(|group| group.selector.is_none());
    general().find(|group| !group.is_rest).or_else(|| general().next())
}
