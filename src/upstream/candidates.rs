//! The addresses of one name: which of them are balanced between, and which race for a connection.
//!
//! Endpoints are told apart by the configuration: a listed address, or a name with all its addresses. Between endpoints the
//! load balancer alone decides. Of one name's addresses it gets those of one family, the first by RFC 6724 (the resolver
//! has put them in order) unless it did not answer lately; those of the other family are the same servers by another way.

use std::net::SocketAddr;
use std::time::Instant;

use super::balance::Endpoints;
use super::unanswered::Unanswered;
use crate::policy::Candidate;

/// Most addresses that race for one connection.
const MOST_RIVALS: usize = 6;

/// Fills `endpoints` with those of `usable` that the load balancer chooses between. The addresses of one endpoint stand
/// together.
pub(super) fn balanced(usable: &[Candidate], unanswered: &Unanswered, now: Instant, endpoints: &mut Endpoints) {
    endpoints.clear();
    for name in usable.chunk_by(|one, next| one.endpoint == next.endpoint) {
        if let [only] = name {
            endpoints.push((only.address, only.weight));
            continue;
        }
        let is_silent = |candidate: &Candidate| unanswered.holds(candidate.address, now);
        let is_v6 = prefers_v6(name, is_silent);
        let of_family = || name.iter().filter(|candidate| candidate.address.is_ipv6() == is_v6);
        let all_silent = of_family().all(is_silent);
        let before = endpoints.len();
        for candidate in of_family().filter(|candidate| all_silent || !is_silent(candidate)) {
            if !candidate.is_spare || endpoints.len() == before {
                endpoints.push((candidate.address, candidate.weight));
            }
        }
    }
}

/// The family of the first, unless the other answers better.
fn prefers_v6(name: &[Candidate], is_silent: impl Fn(&Candidate) -> bool) -> bool {
    let first = name[0].address.is_ipv6();
    let of = |is_v6: bool| name.iter().filter(move |candidate| candidate.address.is_ipv6() == is_v6);
    if of(!first).next().is_none() {
        return first;
    }
    let any = |is_v6| of(is_v6).any(&is_silent);
    let all = |is_v6| of(is_v6).all(&is_silent);
    let is_worse = (any(first) && !any(!first)) || (all(first) && !all(!first));
    if is_worse { !first } else { first }
}

/// `first` and the `others` of its name in the order in which they race: the families in turn (RFC 8305 §4), in each those
/// last that did not answer lately.
pub(super) fn rivals(
    first: SocketAddr,
    others: Vec<SocketAddr>,
    unanswered: &Unanswered,
    now: Instant,
) -> Vec<SocketAddr> {
    let (mut same, mut other): (Vec<_>, Vec<_>) =
        others.into_iter().partition(|address| address.is_ipv6() == first.is_ipv6());
    same.sort_by_key(|address| unanswered.holds(*address, now));
    other.sort_by_key(|address| unanswered.holds(*address, now));
    let (mut same, mut other) = (same.into_iter(), other.into_iter());
    let mut rivals = vec![first];
    while rivals.len() < MOST_RIVALS {
        let pair = [other.next(), same.next()];
        if pair == [None, None] {
            break;
        }
        rivals.extend(pair.into_iter().flatten());
    }
    rivals.truncate(MOST_RIVALS);
    rivals
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        SocketAddr::new(text.parse().unwrap(), 80)
    }

    /// `endpoint` of each is its place in `names`.
    fn candidates(names: &[&str], first_only: bool) -> Vec<Candidate> {
        let of = |(endpoint, name): (usize, &&str)| {
            let all = name.split(' ').map(address).enumerate();
            let made = all.map(|(at, address)| {
                let is_spare = first_only && at > 0;
                Candidate { address, weight: endpoint as u32 + 1, level: 0, endpoint, is_spare }
            });
            made.collect::<Vec<_>>()
        };
        names.iter().enumerate().flat_map(of).collect()
    }

    fn shown(found: impl IntoIterator<Item = SocketAddr>) -> String {
        found.into_iter().map(|address| address.ip().to_string()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_is_balanced_between() {
        let now = Instant::now();
        for (what, names, first_only, silent, expected) in [
            ("one family", &["1.0.0.1 1.0.0.2"][..], false, "", "1.0.0.1 1.0.0.2"),
            ("the first family", &["2::1 2::2 1.0.0.1"], false, "", "2::1 2::2"),
            ("the other did not answer", &["2::1 2::2 1.0.0.1 1.0.0.2"], false, "2::1", "1.0.0.1 1.0.0.2"),
            ("one of one family did not", &["1.0.0.1 1.0.0.2"], false, "1.0.0.1", "1.0.0.2"),
            ("some of both did not", &["2::1 2::2 1.0.0.1"], false, "2::1 1.0.0.1", "2::2"),
            ("one family and a part of the other", &["2::1 1.0.0.1 1.0.0.2"], false, "2::1 1.0.0.1", "1.0.0.2"),
            ("none answered", &["2::1 1.0.0.1"], false, "2::1 1.0.0.1", "2::1"),
            ("listed addresses are endpoints, whatever they did", &["2::1", "1.0.0.1"], false, "2::1", "2::1 1.0.0.1"),
            ("each name by itself", &["2::1 1.0.0.1", "2::2 1.0.0.2"], false, "2::1", "1.0.0.1 2::2"),
            ("the first alone", &["1.0.0.1 1.0.0.2 2::1"], true, "", "1.0.0.1"),
            ("the next, where the first did not answer", &["1.0.0.1 1.0.0.2"], true, "1.0.0.1", "1.0.0.2"),
            ("of a name with two families", &["2::1 1.0.0.1 1.0.0.2"], true, "2::1", "1.0.0.1"),
        ] {
            let mut unanswered = Unanswered::default();
            silent.split_whitespace().for_each(|ip| unanswered.note(address(ip), now));
            let mut endpoints = vec![(address("9.9.9.9"), 1)];
            balanced(&candidates(names, first_only), &unanswered, now, &mut endpoints);
            assert_eq!(shown(endpoints.iter().map(|(address, _)| *address)), expected, "{what}");
        }
    }

    #[test]
    fn the_families_race_in_turn() {
        let now = Instant::now();
        let mut unanswered = Unanswered::default();
        unanswered.note(address("1.0.0.1"), now);
        for (all, expected) in [
            ("2::1", "2::1"),
            ("2::1 2::2", "2::1 2::2"),
            ("2::1 2::2 2::3 1.0.0.1 1.0.0.2", "2::1 1.0.0.2 2::2 1.0.0.1 2::3"),
            ("1.0.0.9 2::1", "1.0.0.9 2::1"),
            ("2::1 2::2 2::3 2::4 2::5 2::6 2::7 1.0.0.2", "2::1 1.0.0.2 2::2 2::3 2::4 2::5"),
        ] {
            let mut addresses = all.split(' ').map(address);
            let first = addresses.next().unwrap();
            assert_eq!(shown(rivals(first, addresses.collect(), &unanswered, now)), expected, "{all}");
        }
    }
}
