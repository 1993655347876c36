//! A map from host patterns to values: the exact name, else the longest wildcard, else `*`.
//!
//! It knows no ports and no policy. Looking up walks the labels of a borrowed name, so that it allocates nothing and
//! costs one probe a label however many wildcards there are (one a character, where there are wildcards for parts of
//! labels). The rule is Envoy's and Istio's: `*.example.com` covers every depth below `example.com`, and not `example.com`
//! itself.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use crate::config::HostPattern;
use crate::flow::Hostname;

#[derive(Debug)]
pub(in crate::policy) struct HostMap<T> {
    exact: HashMap<Hostname, T, RandomState>,
    /// By the suffix that follows `*.`.
    wildcard: HashMap<Hostname, T, RandomState>,
    /// By the text that follows `*`, which does not begin with a dot.
    partial: HashMap<Box<str>, T, RandomState>,
    any: Option<T>,
}

impl<T> Default for HostMap<T> {
    fn default() -> Self {
        Self { exact: HashMap::default(), wildcard: HashMap::default(), partial: HashMap::default(), any: None }
    }
}

impl<T> HostMap<T> {
    /// The value of the most specific pattern that covers `name`, which must be in its normal form.
    pub(in crate::policy) fn find(&self, name: &str) -> Option<&T> {
        self.find_named(name).or(self.any.as_ref())
    }

    /// As [`find`](Self::find), without `*`.
    pub(in crate::policy) fn find_named(&self, name: &str) -> Option<&T> {
        self.exact.get(name).or_else(|| self.above(name).next())
    }

    /// The value of the most specific pattern that covers everything that `pattern` covers.
    pub(in crate::policy) fn find_covering(&self, pattern: &HostPattern) -> Option<&T> {
        self.covering(pattern).next()
    }

    /// The values of every pattern that covers `name`, the most specific first.
    pub(in crate::policy) fn all(&self, name: &str) -> impl Iterator<Item = &T> {
        self.exact.get(name).into_iter().chain(self.above(name)).chain(&self.any)
    }

    /// The values of every pattern that covers everything that `pattern` covers, the most specific first.
    pub(in crate::policy) fn covering<'m>(&'m self, pattern: &HostPattern) -> impl Iterator<Item = &'m T> {
        let (name, whole) = match pattern {
            HostPattern::Exact(name) => (name.as_str(), None),
            // `*.a.b` is one of `*a.b`, too.
            HostPattern::Wildcard(suffix) => (suffix.as_str(), self.partial.get(suffix.as_str())),
            HostPattern::PartialWildcard(ending) => (&**ending, None),
            HostPattern::Any => ("", None),
        };
        let any = self.any.iter().filter(|_| *pattern != HostPattern::Any);
        self.get(pattern).into_iter().chain(whole).chain(self.above(name)).chain(any)
    }

    /// The value kept for exactly this pattern.
    pub(in crate::policy) fn get(&self, pattern: &HostPattern) -> Option<&T> {
        match pattern {
            HostPattern::Exact(name) => self.exact.get(name),
            HostPattern::Wildcard(suffix) => self.wildcard.get(suffix),
            HostPattern::PartialWildcard(ending) => self.partial.get(ending),
            HostPattern::Any => self.any.as_ref(),
        }
    }

    /// The value kept for exactly this pattern, made if there is none.
    pub(in crate::policy) fn get_or_insert_with(&mut self, pattern: &HostPattern, make: impl FnOnce() -> T) -> &mut T {
        match pattern {
            HostPattern::Exact(name) => self.exact.entry(name.clone()).or_insert_with(make),
            HostPattern::Wildcard(suffix) => self.wildcard.entry(suffix.clone()).or_insert_with(make),
            HostPattern::PartialWildcard(ending) => self.partial.entry(ending.clone()).or_insert_with(make),
            HostPattern::Any => self.any.get_or_insert_with(make),
        }
    }

    /// Every pattern and its value, in no order.
    pub(in crate::policy) fn iter(&self) -> impl Iterator<Item = (HostPattern, &T)> {
        let exact = self.exact.iter().map(|(name, value)| (HostPattern::Exact(name.clone()), value));
        let wildcard = self.wildcard.iter().map(|(suffix, value)| (HostPattern::Wildcard(suffix.clone()), value));
        let partial = self.partial.iter().map(|(end, value)| (HostPattern::PartialWildcard(end.clone()), value));
        exact.chain(wildcard).chain(partial).chain(self.any.iter().map(|value| (HostPattern::Any, value)))
    }

    pub(in crate::policy) fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.wildcard.is_empty() && self.partial.is_empty() && self.any.is_none()
    }

    /// The values of the wildcards for what ends as `name` does and is shorter, the longest first.
    fn above<'m>(&'m self, name: &str) -> impl Iterator<Item = &'m T> {
        let labels = if self.wildcard.is_empty() || !self.partial.is_empty() { "" } else { name };
        let whole = suffixes(labels).filter_map(|suffix| self.wildcard.get(suffix));
        let characters = if self.partial.is_empty() { "" } else { name };
        let ends = (1..characters.len()).filter_map(|at| characters.get(at..));
        let either = ends.filter_map(|end| match end.strip_prefix('.') {
            Some(suffix) => self.wildcard.get(suffix),
            None => self.partial.get(end),
        });
        whole.chain(either)
    }
}

/// The proper suffixes of a name at label boundaries, longest first: `a.b.c` → `b.c`, `c`.
pub(in crate::policy) fn suffixes(name: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(name), |rest| rest.split_once('.').map(|(_, after)| after)).skip(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::tests::fixture::pattern;

    fn map(patterns: &[&str]) -> HostMap<String> {
        let mut map = HostMap::default();
        for text in patterns {
            map.get_or_insert_with(&pattern(text), || (*text).to_owned());
        }
        map
    }

    #[test]
    fn the_most_specific_pattern_wins() {
        let all = map(&["www.example.com", "*.example.com", "*.a.example.com", "*.com", "example.org"]);
        for (name, expected) in [
            ("www.example.com", Some("www.example.com")),
            ("api.example.com", Some("*.example.com")),
            ("x.y.example.com", Some("*.example.com")),
            ("x.a.example.com", Some("*.a.example.com")),
            ("a.example.com", Some("*.example.com")),
            ("example.com", Some("*.com")),
            ("badexample.com", Some("*.com")),
            ("com", None),
            ("example.org", Some("example.org")),
            ("www.example.org", None),
        ] {
            assert_eq!(all.find(name).map(String::as_str), expected, "{name}");
        }
        assert_eq!(map(&["*", "*.com"]).find("example.org").map(String::as_str), Some("*"));
    }

    #[test]
    fn of_wildcards_for_parts_of_labels_the_longest_wins_too() {
        let all = map(&["*-api.example.com", "*api.example.com", "*.example.com", "*m", "x-api.example.com"]);
        for (name, expected) in [
            ("x-api.example.com", Some("x-api.example.com")),
            ("y-api.example.com", Some("*-api.example.com")),
            ("y.x-api.example.com", Some("*-api.example.com")),
            ("api.example.com", Some("*.example.com")),
            ("myapi.example.com", Some("*api.example.com")),
            ("my.api.example.com", Some("*api.example.com")),
            ("-api.example.com", Some("*api.example.com")),
            ("example.com", Some("*m")),
            ("m", None),
            ("example.org", None),
        ] {
            assert_eq!(all.find(name).map(String::as_str), expected, "{name}");
            let first = all.all(name).next();
            assert_eq!(first.map(String::as_str), expected, "{name}");
        }
        for (wanted, expected) in [
            ("*.api.example.com", &["*api.example.com", "*.example.com", "*m"][..]),
            ("*-api.example.com", &["*-api.example.com", "*api.example.com", "*.example.com", "*m"]),
            ("*x.m", &["*m"]),
            ("*", &[]),
        ] {
            let wanted = pattern(wanted);
            assert_eq!(all.covering(&wanted).collect::<Vec<_>>(), expected, "{wanted}");
            assert_eq!(all.find_covering(&wanted), all.covering(&wanted).next(), "{wanted}");
            assert_eq!(all.iter().filter(|(known, _)| known.covers(&wanted)).count(), expected.len(), "{wanted}");
        }
    }

    #[test]
    fn a_wildcard_is_covered_by_itself_and_by_shorter_ones() {
        let all = map(&["*.example.com", "*.com", "www.example.com"]);
        for (wanted, expected) in [
            ("*.example.com", Some("*.example.com")),
            ("*.a.example.com", Some("*.example.com")),
            ("*.www.example.com", Some("*.example.com")),
            ("*.org", None),
            ("*", None),
        ] {
            assert_eq!(all.find_covering(&pattern(wanted)).map(String::as_str), expected, "{wanted}");
        }
        let covering = |wanted: &str| all.covering(&pattern(wanted)).cloned().collect::<Vec<_>>();
        assert_eq!(covering("www.example.com"), ["www.example.com", "*.example.com", "*.com"]);
        assert_eq!(covering("*.example.com"), ["*.example.com", "*.com"]);
        assert_eq!(all.all("www.example.com").collect::<Vec<_>>(), ["www.example.com", "*.example.com", "*.com"]);
        assert_eq!(all.all("com").next(), None);
    }
}
