//! Is a place that would be edited part of one pod alone? An alias (`*name`) stands for what its anchor (`&name`) wrote, so
//! what is put there goes into everything that names it: a pod twice, or one that egret never touches.
//!
//! It knows a shared place by that: it turns up more than once in the tree.

use std::collections::BTreeMap;

use super::additions::Additions;
use super::pod::{Path, walk};
use super::remark::Remark;
use crate::config::yaml::{Node, Place};

/// Why additions cannot go where they would: both places of each that is shared.
pub(super) fn refusals(roots: &[&Node], all: &[(Path, Additions)]) -> Vec<Remark> {
    let mut refusals: Vec<Remark> = Vec::new();
    let mut known: Option<(usize, Places)> = None;
    for (path, additions) in all {
        // Pods come in the order of their documents.
        if known.as_ref().is_none_or(|(document, _)| *document != path.document) {
            let mut places = Places::default();
            places.gather(roots[path.document], None);
            known = Some((path.document, places));
        }
        let Some((_, places)) = &known else { continue };
        let spec = walk(roots[path.document], &path.steps);
        let shared = additions.lists().find_map(|(key, _)| places.shared(spec, key));
        refusals.extend(shared.filter(|new| !refusals.contains(new)));
    }
    refusals
}

/// Where keys and items stand, and the aliases by which each is there again.
#[derive(Debug, Default)]
struct Places {
    keys: BTreeMap<Place, Vec<Option<Place>>>,
    items: BTreeMap<Place, Vec<Option<Place>>>,
}

impl Places {
    /// `alias`: the one that `node` is read through.
    fn gather(&mut self, node: &Node, alias: Option<Place>) {
        // What is written as it stands begins at or after what it is part of; only an alias comes after its anchor.
        let through = |inner: Place| alias.or(Some(node.at).filter(|own| *own > inner));
        for entry in node.entries() {
            let alias = through(entry.at);
            self.keys.entry(entry.at).or_default().push(alias);
            self.gather(&entry.value, alias);
        }
        for item in node.items() {
            let alias = through(item.at);
            self.items.entry(item.at).or_default().push(alias);
            self.gather(item, alias);
        }
    }

    /// Why the list `key` of a pod's spec cannot get something.
    fn shared(&self, spec: &Node, key: &str) -> Option<Remark> {
        let listed = |key| spec.entries().iter().find(|entry| entry.key == key);
        // A list that is missing comes before the containers.
        let entry = listed(key).or_else(|| listed("containers"))?;
        let first = entry.value.items().first().filter(|_| entry.key == key);
        let key_at = (entry.at, self.keys.get(&entry.at));
        let item_at = first.map(|first| (first.at, self.items.get(&first.at)));
        let all = std::iter::once(key_at).chain(item_at);
        let (at, readers) =
            all.filter_map(|(at, readers)| Some((at, readers?))).find(|(_, readers)| readers.len() > 1)?;
        let alias = readers.iter().flatten().next()?;
        let message = format!(
            "egret would go in here, and an alias in line {}, column {} has this read as part of something else too, where \
             it would go in as well; write it out there instead of the alias",
            alias.line, alias.column
        );
        Some(Remark::new(at, message))
    }
}

#[cfg(test)]
mod tests {
    use crate::inject::{Options, inject};

    fn options() -> Options {
        Options {
            image: "egret:1".to_owned(),
            config_map: "egret".to_owned(),
            secrets: Vec::new(),
            classic: false,
            capture_dns: false,
            seccomp_profile: None,
        }
    }

    #[track_caller]
    fn injected(text: &str) -> String {
        inject(text, &options()).unwrap().text
    }

    #[track_caller]
    fn refused(text: &str) -> Vec<String> {
        inject(text, &options()).unwrap_err().iter().map(ToString::to_string).collect()
    }

    const KIND: &str = "- apiVersion: apps/v1\n  kind: Deployment\n";

    /// A list of Deployments, each of a name with a namespace and a `spec.template`.
    fn list(items: &[(&str, &str)]) -> String {
        let item = |(name, template): &(&str, &str)| {
            format!("{KIND}  metadata: {{name: {name}}}\n  spec:\n    template: {template}\n")
        };
        format!("apiVersion: v1\nkind: List\nitems:\n{}", items.iter().map(item).collect::<String>())
    }

    const TEMPLATE: &str = "&t\n      spec:\n        containers:\n        - {name: c, image: x}";

    #[test]
    fn a_template_of_two_is_refused_with_both_places() {
        let problems = refused(&list(&[("a", TEMPLATE), ("b", "*t"), ("c", "*t")]));
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(
            problems[0].starts_with("10:9: egret would go in here, and an alias in line 16, column 15"),
            "{problems:?}"
        );
        // That egret never goes into the one is no reason to go into it by way of the other.
        let kube = list(&[("dns, namespace: kube-system", TEMPLATE), ("b", "*t")]);
        assert!(refused(&kube)[0].starts_with("10:9: "));
        // A whole object, and one that egret knows nothing of.
        let whole =
            format!("{}- *o\n", list(&[("a", TEMPLATE)]).replace("- apiVersion: apps", "- &o\n  apiVersion: apps"));
        assert!(refused(&whole)[0].contains("an alias in line 13, column 3"));
        let unknown =
            list(&[("a", TEMPLATE)]) + "- apiVersion: example.com/v1\n  kind: Fleet\n  spec: {template: *t}\n";
        assert!(refused(&unknown)[0].contains("an alias in line 14, column 20"));
    }

    #[test]
    fn a_list_of_two_is_refused_and_what_is_not_edited_may_be_shared() {
        let pods = |key: &str, first: &str, second: &str| {
            let pod = |name: &str, value: &str| {
                format!(
                    "- apiVersion: v1\n  kind: Pod\n  metadata: {{name: {name}}}\n  spec:\n    {key}: {value}\n    \
                     containers:\n    - {{name: c, image: x}}\n"
                )
            };
            format!("apiVersion: v1\nkind: List\nitems:\n{}{}", pod("a", first), pod("b", second))
        };
        for (key, item) in [("initContainers", "{name: i, image: x}"), ("volumes", "{name: v, emptyDir: {}}")] {
            let problems = refused(&pods(key, &format!("&i\n    - {item}"), "*i"));
            assert!(problems[0].starts_with("9:7: ") && problems[0].contains("line 16"), "{problems:?}");
        }
        // Within one pod: the list that is edited is another's too.
        let own = "apiVersion: v1\nkind: Pod\nspec:\n  initContainers: &c\n  - {name: c, image: x}\n  containers: *c\n";
        assert!(refused(own)[0].starts_with("5:5: "));
        for (key, value) in [("tolerations", "&t\n    - {operator: Exists}"), ("nodeSelector", "&t {a: b}")] {
            let text = pods(key, value, "*t");
            assert_eq!(injected(&text).matches("name: egret-init\n").count(), 2, "{text}");
        }
    }
}
