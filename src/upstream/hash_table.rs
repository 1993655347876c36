//! Consistent hashing: from a number to an endpoint, so that an endpoint that comes or goes moves only its own share.
//!
//! Both tables depend on nothing but the endpoints and their weights, so that every worker, and every other proxy with
//! the same configuration, makes the same choice.

use std::net::SocketAddr;

use twox_hash::XxHash64;

use super::order::{MAX_ATTEMPTS, Order};
use crate::config::HashTable;

/// Endpoints by hash.
#[derive(Debug)]
pub struct Table {
    endpoints: Vec<(SocketAddr, u32)>,
    places: Places,
}

#[derive(Debug)]
enum Places {
    /// Position on the ring and endpoint, by position.
    Ring(Vec<(u64, u32)>),
    /// The endpoint of each place.
    Maglev(Vec<u32>),
}

/// The hash of a key.
#[must_use]
pub fn hash(key: &[u8]) -> u64 {
    XxHash64::oneshot(0, key)
}

impl Table {
    /// `endpoints` are distinct, and sorted: another order would be another table.
    #[must_use]
    pub fn new(endpoints: Vec<(SocketAddr, u32)>, kind: HashTable) -> Self {
        let places = match kind {
            HashTable::Ring { minimum } => Places::Ring(ring(&endpoints, minimum)),
            HashTable::Maglev { size } => Places::Maglev(maglev(&endpoints, size)),
        };
        Self { endpoints, places }
    }

    #[must_use]
    pub fn is_for(&self, endpoints: &[(SocketAddr, u32)]) -> bool {
        self.endpoints == endpoints
    }

    /// The endpoint of `hash`, and then those that would take over from it.
    #[must_use]
    pub fn order(&self, hash: u64) -> Order {
        let (length, start) = match &self.places {
            Places::Ring(ring) => (ring.len(), ring.partition_point(|(position, _)| *position < hash)),
            Places::Maglev(table) => (table.len(), (hash % table.len().max(1) as u64) as usize),
        };
        let most = MAX_ATTEMPTS.min(self.endpoints.len());
        let mut order = Order::of([]);
        for at in (start..length).chain(0..start.min(length)) {
            if order.len() == most {
                break;
            }
            let endpoint = match &self.places {
                Places::Ring(ring) => ring[at].1,
                Places::Maglev(table) => table[at],
            };
            let (address, _) = self.endpoints[endpoint as usize];
            if !order.contains(&address) {
                order.push(address);
            }
        }
        order
    }
}

/// Envoy's ring (`source/extensions/load_balancing_policies/ring_hash/ring_hash_lb.cc`), so that a key finds the same endpoint:
/// as many places in all as `minimum`, or a few more, of which the lightest endpoint gets a whole number; the others their
/// share, with what is left over carried on to the next.
fn ring(endpoints: &[(SocketAddr, u32)], minimum: u32) -> Vec<(u64, u32)> {
    /// Two mebibytes.
    const MOST_PLACES: f64 = 131_072.0;
    let total: f64 = endpoints.iter().map(|(_, weight)| f64::from(*weight)).sum();
    let lightest = endpoints.iter().map(|(_, weight)| *weight).min().unwrap_or(1);
    let least = f64::from(lightest) / total;
    let scale = ((least * f64::from(minimum)).ceil() / least).min(MOST_PLACES);
    let mut places = Vec::new();
    let (mut current, mut wanted) = (0.0, 0.0);
    for ((address, weight), endpoint) in endpoints.iter().zip(0..) {
        wanted += scale * (f64::from(*weight) / total);
        let mut number = 0;
        while current < wanted {
            places.push((hash(format!("{address}_{number}").as_bytes()), endpoint));
            number += 1;
            current += 1.0;
        }
    }
    places.sort_unstable();
    places
}

/// Eisenbud et al., "Maglev", NSDI 2016, §3.4, with the weights of Envoy: the heavier, the more often its turn.
fn maglev(endpoints: &[(SocketAddr, u32)], size: u32) -> Vec<u32> {
    const FREE: u32 = u32::MAX;
    let places = u64::from(size);
    let heaviest = endpoints.iter().map(|(_, weight)| *weight).max().unwrap_or(1);
    let heaviest = f64::from(heaviest.max(1));
    let mut turns: Vec<_> = endpoints
        .iter()
        .map(|(address, weight)| {
            let name = address.to_string();
            let skip = XxHash64::oneshot(1, name.as_bytes()) % places.saturating_sub(1).max(1) + 1;
            (hash(name.as_bytes()) % places, skip, f64::from(*weight), 0.0)
        })
        .collect();
    let mut table = vec![FREE; if endpoints.is_empty() { 0 } else { size as usize }];
    let (mut left, mut round) = (table.len(), 1.0);
    while left > 0 {
        for ((next, skip, weight, reached), endpoint) in turns.iter_mut().zip(0..) {
            if left == 0 || round * *weight < *reached {
                continue;
            }
            *reached += heaviest;
            while table[*next as usize] != FREE {
                *next = (*next + *skip) % places;
            }
            table[*next as usize] = endpoint;
            left -= 1;
        }
        round += 1.0;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [HashTable; 2] = [HashTable::Ring { minimum: 1024 }, HashTable::Maglev { size: 65_537 }];
    const KEYS: u64 = 20_000;

    fn endpoints(weights: &[u32]) -> Vec<(SocketAddr, u32)> {
        (1..).zip(weights).map(|(last, weight)| (SocketAddr::from(([192, 0, 2, last], 443)), *weight)).collect()
    }

    fn choices(endpoints: Vec<(SocketAddr, u32)>, kind: HashTable) -> Vec<SocketAddr> {
        let table = Table::new(endpoints, kind);
        (0..KEYS).map(|key| table.order(hash(&key.to_be_bytes()))[0]).collect()
    }

    fn share(choices: &[SocketAddr], of: SocketAddr) -> f64 {
        choices.iter().filter(|choice| **choice == of).count() as f64 / choices.len() as f64
    }

    #[test]
    fn shares_follow_weights() {
        for kind in KINDS {
            for weights in [&[1, 1, 1][..], &[1, 3], &[1, 1, 2, 4], &[100, 1]] {
                let endpoints = endpoints(weights);
                let choices = choices(endpoints.clone(), kind);
                let total: u32 = weights.iter().sum();
                for (address, weight) in endpoints {
                    let (share, fair) = (share(&choices, address), f64::from(weight) / f64::from(total));
                    // A ring is uneven by its nature.
                    assert!((share - fair).abs() < 0.06, "{kind:?} {weights:?}: {address} has {share}, not {fair}");
                }
            }
        }
    }

    /// Of a ring more moves than of Maglev's table: it has as many places in all, so that those who stay get more of them.
    #[test]
    fn little_but_the_share_of_the_one_that_goes_moves() {
        let all = endpoints(&[1, 1, 1]);
        for (kind, most) in KINDS.into_iter().zip([0.2, 0.03]) {
            let before = choices(all.clone(), kind);
            let gone = all[1].0;
            let rest = all.iter().copied().filter(|(address, _)| *address != gone).collect();
            let after = choices(rest, kind);
            let pairs = before.iter().zip(&after).filter(|(before, _)| **before != gone);
            let (moved, kept): (Vec<_>, Vec<_>) = pairs.partition(|(before, after)| before != after);
            let share = moved.len() as f64 / (moved.len() + kept.len()) as f64;
            assert!(share <= most, "{kind:?}: {share} of what stayed has moved");
            assert!(!after.contains(&gone));
        }
    }

    /// As Envoy logs it (`ring hash: … size=`, and the least and most of a host).
    #[test]
    fn a_ring_has_as_many_places_as_envoys() {
        for (weights, minimum, expected) in [
            (&[1, 1, 1][..], 1024, &[342, 342, 342][..]),
            (&[1, 1], 1024, &[512, 512]),
            (&[1, 3], 1024, &[256, 768]),
            (&[1, 1, 2, 4], 1024, &[128, 128, 256, 512]),
            // The lightest gets one; what is no whole number is carried on.
            (&[2, 3, 3], 4, &[1, 2, 1]),
            (&[1, 1, 1, 1, 1], 1, &[1, 1, 1, 1, 1]),
            (&[7], 1024, &[1024]),
        ] {
            let ring = ring(&endpoints(weights), minimum);
            let of = |endpoint: u32| ring.iter().filter(|(_, of)| *of == endpoint).count();
            let found: Vec<_> = (0..weights.len() as u32).map(of).collect();
            assert_eq!(found, expected, "{weights:?} {minimum}");
        }
        assert_eq!(ring(&endpoints(&[1, 1]), 8_000_000).len(), 131_072, "bounded");
        assert!(ring(&[], 1024).is_empty());
    }

    #[test]
    fn whoever_is_next_in_line_is_another() {
        let table = Table::new(endpoints(&[1, 1, 1]), KINDS[0]);
        for key in 0..100_u64 {
            let order = table.order(hash(&key.to_be_bytes()));
            assert_eq!(order.len(), 3);
            assert!(order[0] != order[1] && order[1] != order[2] && order[0] != order[2]);
        }
    }

    #[test]
    fn any_size_of_table_and_ring() {
        for kind in [HashTable::Maglev { size: 2 }, HashTable::Maglev { size: 3 }, HashTable::Ring { minimum: 1 }] {
            for count in [0, 1, 5] {
                let table = Table::new(endpoints(&vec![1; count]), kind);
                let order = table.order(u64::MAX);
                assert!(order.len() <= count.min(3) && (count == 0 || !order.is_empty()), "{kind:?} {count}");
            }
        }
    }
}
