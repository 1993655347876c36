//! The language of the rule templates in `iptables/`: lists put into lines, nothing more.
//!
//! It knows neither rules nor backends. It is this small because `iptables/redirect.sh` has to do exactly the same in
//! awk, so that the rules can be applied without the binary; `tests/e2e/redirect.rs` compares the two.
//!
//! * A line that names `@LIST@` is written once for each value of the list.
//! * `?LIST ` in front of a line keeps it only when the list has values, `!LIST ` only when it has none.
//! * Empty lines and lines that begin with `#` are left out.

use std::collections::BTreeMap;

/// The lists that a template may name. A name that is not set is an empty list.
#[derive(Debug, Default, Clone)]
pub struct Lists(BTreeMap<&'static str, Vec<String>>);

impl Lists {
    /// Sets the list `name` to the printed form of `values`.
    pub fn set<T: ToString>(&mut self, name: &'static str, values: impl IntoIterator<Item = T>) {
        self.0.insert(name, values.into_iter().map(|value| value.to_string()).collect());
    }

    /// Makes `?name` true or false.
    pub fn set_flag(&mut self, name: &'static str, set: bool) {
        self.set(name, set.then_some(1));
    }

    /// Whether the list has values.
    pub fn has(&self, name: &str) -> bool {
        !self.values(name).is_empty()
    }

    fn values(&self, name: &str) -> &[String] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }
}

/// The template with the lists put in; every line ends with a newline.
pub fn render(template: &str, lists: &Lists) -> String {
    let mut rendered = String::new();
    for line in template.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(line) = kept(line, lists) {
            expand("", line, lists, &mut rendered);
        }
    }
    rendered
}

/// The line without its conditions, or nothing where one of them does not hold.
fn kept<'a>(mut line: &'a str, lists: &Lists) -> Option<&'a str> {
    while let Some(rest) = line.strip_prefix(['?', '!']) {
        let (name, rest) = rest.split_once(' ')?;
        if lists.has(name) != line.starts_with('?') {
            return None;
        }
        line = rest;
    }
    Some(line)
}

/// Values are never looked at again for names, so nothing an operator writes can become part of the template.
fn expand(done: &str, line: &str, lists: &Lists, rendered: &mut String) {
    let Some((before, name, after)) = first_name(line) else {
        rendered.push_str(done);
        rendered.push_str(line);
        rendered.push('\n');
        return;
    };
    for value in lists.values(name) {
        expand(&format!("{done}{before}{value}"), after, lists, rendered);
    }
}

fn first_name(line: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = line.split_once('@')?;
    let (name, after) = rest.split_once('@')?;
    Some((before, name, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_follow_their_lists() {
        let mut lists = Lists::default();
        lists.set("A", [1, 2]);
        lists.set("B", ["x", "y"]);
        lists.set("SELF", ["@A@"]);
        lists.set_flag("YES", true);
        lists.set_flag("NO", false);
        for (template, want) in [
            ("plain\n\n# comment\n", "plain\n"),
            ("a @A@ z", "a 1 z\na 2 z\n"),
            ("@A@@B@", "1x\n1y\n2x\n2y\n"),
            ("@UNSET@ never", ""),
            ("?YES \tkept", "\tkept\n"),
            ("?NO dropped", ""),
            ("!NO kept", "kept\n"),
            ("!YES dropped", ""),
            ("?YES !NO ?A v@A@", "v1\nv2\n"),
            ("?YES ?NO dropped", ""),
            ("-d ! x", "-d ! x\n"),
            ("@SELF@", "@A@\n"),
            ("one@ sign", "one@ sign\n"),
        ] {
            assert_eq!(render(template, &lists), want, "{template}");
        }
    }
}
