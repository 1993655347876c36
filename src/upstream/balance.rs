//! Which endpoint of a cluster a new connection goes to: an order to try them in, per worker.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Instant;

use foldhash::fast::RandomState;

use super::hash_table::Table;
use super::order::{MAX_ATTEMPTS, Order};
use crate::config::{HashTable, LoadBalancer, LoadBalancing, Warmup};

/// Addresses with their weights.
pub(super) type Endpoints = Vec<(SocketAddr, u32)>;

/// One worker's memory of whose turn it is.
#[derive(Debug, Default)]
pub struct Balancer {
    turns: HashMap<String, usize, RandomState>,
    /// Requests in flight by endpoint.
    active: HashMap<SocketAddr, u32, RandomState>,
    /// xorshift state; the order needs to be even, not unpredictable.
    random: u64,
    /// The tables of clusters that hash, for the endpoints that they had last.
    tables: HashMap<String, Table>,
    /// Where endpoints warm up: since when this worker knows them.
    known: HashMap<String, HashMap<SocketAddr, Instant>>,
}

/// What decides besides the endpoints themselves.
#[derive(Clone, Copy, Debug)]
pub struct Choice<'c> {
    /// Its name.
    pub cluster: &'c str,
    pub balancing: &'c LoadBalancing,
    /// Of the key that the cluster hashes; `None` where the request has none.
    pub hash: Option<u64>,
}

impl Balancer {
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { random: seed | 1, ..Self::default() }
    }

    /// At most [`MAX_ATTEMPTS`] distinct addresses of `endpoints`, in the order in which to try them. A weight of 2
    /// makes an endpoint twice as likely to be first. What is left in `endpoints` has no meaning.
    pub fn order(&mut self, choice: &Choice<'_>, endpoints: &mut Endpoints, now: Instant) -> Order {
        let Choice { cluster, balancing, hash } = *choice;
        if let (Some(by), Some(hash), 2..) = (&balancing.hash, hash, endpoints.len()) {
            return self.by_hash(cluster, by.table, hash, endpoints);
        }
        if let Some(warmup) = &balancing.warmup {
            self.warm_up(cluster, warmup, endpoints, now);
        }
        let by = if balancing.hash.is_some() { LoadBalancer::Random } else { balancing.by };
        if matches!(by, LoadBalancer::RoundRobin | LoadBalancer::Passthrough) && endpoints.len() > 1 {
            let first = self.next_turn(cluster, endpoints);
            endpoints.rotate_left(first);
            return Order::of(endpoints.iter().map(|(address, _)| *address));
        }
        let mut order = Order::of([]);
        while order.len() < MAX_ATTEMPTS && !endpoints.is_empty() {
            let chosen = match by {
                _ if endpoints.len() == 1 => 0,
                LoadBalancer::LeastRequest => self.less_busy_of_two(endpoints),
                _ => self.draw(endpoints),
            };
            let (address, _) = endpoints.swap_remove(chosen);
            order.push(address);
        }
        order
    }

    /// A request to `address` has begun.
    pub fn begin(&mut self, address: SocketAddr) {
        *self.active.entry(address).or_default() += 1;
    }

    /// A request to `address` has ended.
    pub fn end(&mut self, address: SocketAddr) {
        if let Some(count) = self.active.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.active.remove(&address);
            }
        }
    }

    /// Requests to `address` under way.
    #[cfg(test)]
    pub fn active(&self, address: SocketAddr) -> u32 {
        self.active.get(&address).copied().unwrap_or_default()
    }

    /// Forgets what can be made anew: another policy may have other clusters.
    pub fn forget_tables(&mut self) {
        self.tables.clear();
    }

    fn by_hash(&mut self, cluster: &str, kind: HashTable, hash: u64, endpoints: &mut Endpoints) -> Order {
        // Names give their addresses in any order, and two names may give the same.
        endpoints.sort_unstable();
        endpoints.dedup_by_key(|(address, _)| *address);
        match self.tables.get(cluster) {
            Some(table) if table.is_for(endpoints) => table.order(hash),
            _ => {
                let table = Table::new(std::mem::take(endpoints), kind);
                let order = table.order(hash);
                self.tables.insert(cluster.to_owned(), table);
                order
            }
        }
    }

    /// Makes endpoints lighter that are new, as Envoy's slow start does.
    fn warm_up(&mut self, cluster: &str, warmup: &Warmup, endpoints: &mut Endpoints, now: Instant) {
        /// Fractions of a weight can be told apart to this part.
        const PARTS: f64 = 1000.0;
        let known = match self.known.get_mut(cluster) {
            Some(known) => known,
            None => self.known.entry(cluster.to_owned()).or_default(),
        };
        known.retain(|address, _| endpoints.iter().any(|(endpoint, _)| endpoint == address));
        for (address, weight) in endpoints {
            let since = *known.entry(*address).or_insert(now);
            let factor = warmth(warmup, now.saturating_duration_since(since).as_secs_f64());
            *weight = (f64::from((*weight).min(1_000_000)) * PARTS * factor).max(1.0) as u32;
        }
    }

    fn next_turn(&mut self, cluster: &str, endpoints: &[(SocketAddr, u32)]) -> usize {
        let turn = match self.turns.get_mut(cluster) {
            Some(turn) => turn,
            None => self.turns.entry(cluster.to_owned()).or_default(),
        };
        let now = *turn;
        *turn = turn.wrapping_add(1);
        if endpoints.windows(2).all(|pair| pair[0].1 == pair[1].1) {
            now % endpoints.len()
        } else {
            at_weight(endpoints, spread(now, total(endpoints)))
        }
    }

    fn draw(&mut self, endpoints: &[(SocketAddr, u32)]) -> usize {
        let at = self.next_random() as usize % total(endpoints).max(1);
        at_weight(endpoints, at)
    }

    /// Power of two choices, as Envoy's LEAST_REQUEST.
    fn less_busy_of_two(&mut self, endpoints: &[(SocketAddr, u32)]) -> usize {
        let (a, b) = (self.draw(endpoints), self.draw(endpoints));
        let busy = |i: usize| self.active.get(&endpoints[i].0).copied().unwrap_or(0);
        if busy(b) < busy(a) { b } else { a }
    }

    /// Any number.
    pub fn next_random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}

fn total(endpoints: &[(SocketAddr, u32)]) -> usize {
    endpoints.iter().map(|(_, weight)| *weight as usize).sum()
}

/// How much of its weight an endpoint has that has been there for so many seconds.
fn warmth(warmup: &Warmup, seconds: f64) -> f64 {
    let passed = seconds / warmup.duration.as_secs_f64();
    if passed >= 1.0 {
        return 1.0;
    }
    libm::pow(passed.max(0.0), 1.0 / warmup.aggression).max(warmup.minimum_percent / 100.0)
}

/// Turn after turn a position below `total`, such that any stretch of turns is spread evenly: multiples of the golden
/// ratio. Heavy endpoints come often, not many times in a row.
fn spread(turn: usize, total: usize) -> usize {
    const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
    let fraction = (turn as u64).wrapping_mul(GOLDEN);
    ((u128::from(fraction) * total as u128) >> 64) as usize
}

/// The endpoint that position `at` falls to when each takes as many positions as its weight.
fn at_weight(endpoints: &[(SocketAddr, u32)], mut at: usize) -> usize {
    for (i, (_, weight)) in endpoints.iter().enumerate() {
        match at.checked_sub(*weight as usize) {
            Some(rest) => at = rest,
            None => return i,
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::{ConsistentHash, HashKey};

    fn endpoints(weights: &[u32]) -> Endpoints {
        weights.iter().zip(1..).map(|(w, i)| (SocketAddr::from(([192, 0, 2, i], 443)), *w)).collect()
    }

    fn simple(by: LoadBalancer) -> LoadBalancing {
        LoadBalancing { by, ..LoadBalancing::default() }
    }

    fn choice(balancing: &LoadBalancing) -> Choice<'_> {
        Choice { cluster: "c", balancing, hash: None }
    }

    /// How often each endpoint came first of `times`.
    fn firsts(balancing: &LoadBalancing, weights: &[u32], times: usize) -> Vec<usize> {
        let mut balancer = Balancer::new(7);
        let mut counts = vec![0; weights.len()];
        for _ in 0..times {
            let first = balancer.order(&choice(balancing), &mut endpoints(weights), Instant::now())[0];
            counts[endpoints(weights).iter().position(|(address, _)| *address == first).unwrap()] += 1;
        }
        counts
    }

    #[test]
    fn first_choices_follow_weights() {
        for (by, slack) in
            [(LoadBalancer::RoundRobin, 1), (LoadBalancer::Random, 150), (LoadBalancer::LeastRequest, 150)]
        {
            for weights in [&[1, 3][..], &[1, 1, 1, 1, 1, 1], &[5, 1, 2], &[1000, 1000, 10]] {
                let total: u32 = weights.iter().sum();
                let found = firsts(&simple(by), weights, 3000);
                for (count, weight) in found.iter().zip(weights) {
                    let fair = 3000 * *weight as usize / total as usize;
                    assert!(count.abs_diff(fair) <= slack, "{by:?} {weights:?}: {found:?}");
                }
            }
        }
    }

    #[test]
    fn heavy_endpoints_take_turns_with_light_ones() {
        let (mut balancer, balancing) = (Balancer::new(7), simple(LoadBalancer::RoundRobin));
        let light = endpoints(&[30, 10])[1].0;
        let mut since = 0;
        for _ in 0..100 {
            let first = balancer.order(&choice(&balancing), &mut endpoints(&[30, 10]), Instant::now())[0];
            since = if first == light { 0 } else { since + 1 };
            assert!(since <= 4, "{since} turns without the light one");
        }
    }

    #[test]
    fn an_order_has_distinct_addresses_and_a_bound() {
        let mut balancer = Balancer::new(7);
        let hashing = ConsistentHash { key: HashKey::SourceIp, table: HashTable::Ring { minimum: 1024 } };
        for (by, hash) in [
            (LoadBalancer::Random, None),
            (LoadBalancer::LeastRequest, None),
            (LoadBalancer::RoundRobin, None),
            (LoadBalancer::LeastRequest, Some(hashing)),
        ] {
            let balancing = LoadBalancing { by, hash, ..LoadBalancing::default() };
            for hash in [None, Some(9)] {
                let wanted = Choice { hash, ..choice(&balancing) };
                let order = balancer.order(&wanted, &mut endpoints(&[1, 1, 1, 1, 1]), Instant::now());
                assert_eq!(order.len(), MAX_ATTEMPTS);
                let mut distinct = order.to_vec();
                distinct.sort_unstable();
                distinct.dedup();
                assert_eq!(distinct.len(), order.len());
                assert_eq!(*balancer.order(&wanted, &mut Vec::new(), Instant::now()), []);
            }
        }
    }

    #[test]
    fn a_hash_chooses_the_same_whatever_the_order() {
        let hash = ConsistentHash { key: HashKey::SourceIp, table: HashTable::Maglev { size: 251 } };
        let balancing = LoadBalancing { hash: Some(hash), ..LoadBalancing::default() };
        let (mut near, mut far) = (Balancer::new(1), Balancer::new(2));
        let mut turned = endpoints(&[1, 1, 1]);
        turned.reverse();
        turned.push(turned[0]);
        for hash in (0..1000).map(|key: u64| key.wrapping_mul(0x9E37_79B9_7F4A_7C15)) {
            let wanted = Choice { hash: Some(hash), ..choice(&balancing) };
            let now = Instant::now();
            let there = far.order(&wanted, &mut turned.clone(), now);
            assert_eq!(near.order(&wanted, &mut endpoints(&[1, 1, 1]), now), there);
        }
        near.forget_tables();
        assert!(near.tables.is_empty());
    }

    #[test]
    fn least_request_prefers_the_idle_endpoint() {
        let (mut balancer, balancing) = (Balancer::new(7), simple(LoadBalancer::LeastRequest));
        let busy: SocketAddr = "192.0.2.1:443".parse().unwrap();
        balancer.begin(busy);
        let firsts = (0..300)
            .filter(|_| balancer.order(&choice(&balancing), &mut endpoints(&[1, 1]), Instant::now())[0] == busy)
            .count();
        assert!(firsts < 150, "the busy endpoint came first as often as the idle one");
        balancer.end(busy);
        assert!(balancer.active.is_empty());
    }

    #[test]
    fn warmth_grows() {
        let seconds = Duration::from_secs;
        for (minimum_percent, aggression, at, expected) in [
            (10.0, 1.0, 0.0, 0.1),
            (10.0, 1.0, 50.0, 0.5),
            (10.0, 1.0, 100.0, 1.0),
            (10.0, 1.0, 1e9, 1.0),
            (50.0, 1.0, 20.0, 0.5),
            (0.0, 2.0, 25.0, 0.5),
            (0.0, 1.0, 0.0, 0.0),
        ] {
            let warmup = Warmup { duration: seconds(100), minimum_percent, aggression };
            let found = warmth(&warmup, at);
            assert!((found - expected).abs() < 1e-9, "{warmup:?} after {at} s: {found}");
        }
    }

    #[test]
    fn a_new_endpoint_gets_its_share_slowly() {
        let warmup = Warmup { duration: Duration::from_secs(100), minimum_percent: 10.0, aggression: 1.0 };
        let balancing =
            LoadBalancing { by: LoadBalancer::RoundRobin, warmup: Some(warmup), ..LoadBalancing::default() };
        let (mut balancer, begun) = (Balancer::new(7), Instant::now());
        let mut share = |count: u8, after: u64| {
            let weights = vec![1; count.into()];
            let now = begun + Duration::from_secs(after);
            let new = endpoints(&[1, 1])[1].0;
            let orders = (0..1000).map(|_| balancer.order(&choice(&balancing), &mut endpoints(&weights), now)[0]);
            orders.filter(|first| *first == new).count()
        };
        assert_eq!(share(1, 0), 0);
        for (after, fair) in [(1000, 91), (1050, 333), (1100, 500), (9999, 500)] {
            let found = share(2, after);
            assert!(found.abs_diff(fair) <= 2, "after {after} s: {found}, not {fair}");
        }
        // One that went and came back is new.
        assert_eq!(share(1, 10_000), 0);
        assert!(share(2, 10_001).abs_diff(91) <= 2);
    }
}
