//! Stability above all: clients keep what they were told.

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

fn ranges(v4: &str, v6: &str) -> AutomaticRanges {
    AutomaticRanges { v4: v4.parse().ok(), v6: v6.parse().ok() }
}

fn hosts<'h>(list: impl IntoIterator<Item = &'h str>) -> BTreeMap<String, Vec<IpAddr>> {
    list.into_iter().map(|host| (host.to_owned(), Vec::new())).collect()
}

fn nets(list: &[&str]) -> Vec<IpNet> {
    list.iter().map(|net| net.parse().unwrap()).collect()
}

#[test]
fn each_host_has_one_of_each_family() {
    let mut all = AutomaticAddresses::default();
    let assigned =
        all.assign(AutomaticRanges::default(), &hosts(["db1.test", "db2.test", "*.wild.test", "db1.test"]), &[]);
    assert_eq!(assigned.exhausted, []);
    assert_eq!(assigned.changed.lines().count(), 3);
    let mut seen = HashSet::new();
    for host in ["db1.test", "db2.test", "*.wild.test"] {
        let [v4, v6] = all.of(host) else { panic!("{host}: {:?}", all.of(host)) };
        assert!(v4.to_string().starts_with("240.240.") && v6.to_string().starts_with("2001:2:"), "{v4} {v6}");
        assert!(seen.insert(*v4) && seen.insert(*v6), "{host}");
        assert_eq!(all.owner(*v4), Some(host));
    }
    assert_eq!(all.of("other.test"), &[] as &[IpAddr]);
}

#[test]
fn neither_edits_nor_restarts_move_an_address() {
    let mut first = AutomaticAddresses::default();
    let mut state = first.assign(AutomaticRanges::default(), &hosts(["b.test", "c.test"]), &[]).changed;
    let before = first.of("b.test").to_vec();
    assert_eq!(first.assign(AutomaticRanges::default(), &hosts(["b.test", "c.test"]), &[]).changed, "");
    state += &first.assign(AutomaticRanges::default(), &hosts(["a.test", "b.test"]), &[]).changed;
    assert_eq!(first.of("b.test"), before);
    assert!(first.owner(first.of("c.test")[0]) == Some("c.test"), "a client may still have it");
    let mut second = AutomaticAddresses::restore(&state);
    assert_eq!(second.written(), first.written());
    assert_eq!(second.assign(AutomaticRanges::default(), &hosts(["a.test", "b.test", "c.test"]), &[]).changed, "");
    // Nothing written down: the name leads to the same address, unless another host has it.
    let mut third = AutomaticAddresses::default();
    third.assign(AutomaticRanges::default(), &hosts(["b.test"]), &[]);
    assert_eq!(third.of("b.test"), before);
}

#[test]
fn what_entries_list_is_never_given() {
    let mut all = AutomaticAddresses::default();
    let small = ranges("10.9.0.0/29", "-");
    all.assign(small, &hosts(["a.test"]), &[]);
    let had = all.of("a.test")[0];
    let assigned = all.assign(small, &hosts(["a.test"]), &[IpNet::from(had)]);
    assert_ne!(all.of("a.test")[0], had);
    assert_eq!(assigned.changed.lines().count(), 1);
    let none = all.assign(small, &hosts(["a.test"]), &nets(&["10.9.0.0/24"]));
    assert_eq!(none.exhausted.len(), 1);
    assert_eq!(all.of("a.test"), &[] as &[IpAddr]);
}

#[test]
fn a_range_that_is_full_takes_back_what_nobody_lists() {
    let mut all = AutomaticAddresses::default();
    let small = ranges("10.9.0.0/29", "-");
    let six = ["a", "b", "c", "d", "e", "f"];
    assert_eq!(all.assign(small, &hosts(six), &[]).exhausted, []);
    let seven = all.assign(small, &hosts(["a", "b", "c", "d", "e", "f", "g"]), &[]);
    assert_eq!(seven.exhausted.iter().map(|one| one.host.as_str()).collect::<Vec<_>>(), ["g"]);
    assert!(seven.exhausted[0].to_string().contains("10.9.0.0/29"));
    let last = all.of("f").to_vec();
    assert_eq!(all.assign(small, &hosts(["a", "b", "c", "d", "e", "g"]), &[]).exhausted, []);
    assert_eq!((all.of("g"), all.of("f")), (&last[..], &[] as &[IpAddr]));
    assert!(all.of("a").iter().all(|ip| !ip.to_string().ends_with(".0") && !ip.to_string().ends_with(".7")));
}

#[test]
fn another_range_gives_other_addresses_and_none_is_none() {
    let mut all = AutomaticAddresses::default();
    all.assign(AutomaticRanges::default(), &hosts(["a.test"]), &[]);
    all.assign(ranges("10.9.0.0/24", "-"), &hosts(["a.test"]), &[]);
    let [ip] = all.of("a.test") else { panic!("{:?}", all.of("a.test")) };
    assert!(ip.to_string().starts_with("10.9.0."));
    all.assign(ranges("-", "-"), &hosts(["a.test"]), &[]);
    assert_eq!(all.of("a.test"), &[] as &[IpAddr]);
}

/// What a control plane gave wins, and whoever has it here gets another.
#[test]
fn what_was_given_elsewhere_is_kept() {
    let mut all = AutomaticAddresses::default();
    all.assign(AutomaticRanges::default(), &hosts(["a.test", "b.test"]), &[]);
    let had = all.of("a.test").to_vec();
    let mut wanted = hosts(["a.test", "b.test", "c.test"]);
    wanted.insert("b.test".to_owned(), vec![had[0]]);
    wanted.insert("c.test".to_owned(), vec!["10.1.2.3".parse().unwrap(), "fd00::7".parse().unwrap()]);
    all.assign(AutomaticRanges::default(), &wanted, &[]);
    assert!(all.of("b.test").contains(&had[0]) && all.of("b.test").len() == 2);
    assert!(!all.of("a.test").contains(&had[0]) && all.of("a.test").contains(&had[1]) && all.of("a.test").len() == 2);
    assert_eq!(all.of("c.test"), &wanted["c.test"][..]);
    let again = all.assign(AutomaticRanges::default(), &wanted, &[]);
    assert_eq!(again.changed, "");
}

#[test]
fn a_broken_state_is_read_as_far_as_it_goes() {
    let text = "a.test 240.240.0.1 2001:2::1\nnonsense\nb.test 300.1.1.1\n \nc.test 240.240.0.1\na.test 240.240.0.2\n\
                d.test 240.240.0.3\ne.test 240.240.0.";
    assert_eq!(AutomaticAddresses::restore(text).written(), "a.test 240.240.0.2\nd.test 240.240.0.3\n");
}

proptest! {
    #[test]
    fn anything_is_restored(text in ".{0,400}") {
        let all = AutomaticAddresses::restore(&text);
        prop_assert_eq!(AutomaticAddresses::restore(&all.written()).written(), all.written());
    }

    /// No two hosts ever share an address, whatever comes and goes.
    #[test]
    fn addresses_are_apart(rounds in proptest::collection::vec(proptest::collection::btree_set(0_u8..40, 0..20), 1..8)) {
        let mut all = AutomaticAddresses::default();
        for round in rounds {
            let names: Vec<String> = round.iter().map(|n| format!("h{n}")).collect();
            let wanted = hosts(names.iter().map(String::as_str));
            all.assign(ranges("10.9.0.0/27", "fd00::/123"), &wanted, &nets(&["10.9.0.4/31"]));
            let mut seen = HashSet::new();
            for host in &names {
                for ip in all.of(host) {
                    prop_assert!(seen.insert(*ip), "{} twice", ip);
                    prop_assert_eq!(all.owner(*ip), Some(host.as_str()));
                }
            }
        }
    }
}
