//! Which endpoint of a cluster a new connection goes to: an order to try them in, per worker.

use std::collections::HashMap;
use std::net::SocketAddr;

use foldhash::fast::RandomState;

use crate::config::LoadBalancer;

/// Most endpoints tried for one request: the first and Istio's default of two retries after a failed connect.
pub const MAX_ATTEMPTS: usize = 3;

/// One worker's memory of whose turn it is.
#[derive(Debug, Default)]
pub struct Balancer {
    turns: HashMap<String, usize, RandomState>,
    /// Requests in flight by endpoint.
    active: HashMap<SocketAddr, u32, RandomState>,
    /// xorshift state; the order needs to be even, not unpredictable.
    random: u64,
}

impl Balancer {
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { random: seed | 1, ..Self::default() }
    }

    /// At most [`MAX_ATTEMPTS`] distinct addresses of `endpoints`, in the order in which to try them. A weight of 2
    /// makes an endpoint twice as likely to be first.
    pub fn order(&mut self, cluster: &str, by: LoadBalancer, mut endpoints: Vec<(SocketAddr, u32)>) -> Vec<SocketAddr> {
        let mut order = Vec::with_capacity(MAX_ATTEMPTS);
        while order.len() < MAX_ATTEMPTS && !endpoints.is_empty() {
            let chosen = match by {
                _ if endpoints.len() == 1 => 0,
                LoadBalancer::RoundRobin | LoadBalancer::Passthrough => self.next_turn(cluster, &endpoints),
                LoadBalancer::Random => self.draw(&endpoints),
                LoadBalancer::LeastRequest => self.less_busy_of_two(&endpoints),
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

    fn next_turn(&mut self, cluster: &str, endpoints: &[(SocketAddr, u32)]) -> usize {
        let turn = match self.turns.get_mut(cluster) {
            Some(turn) => turn,
            None => self.turns.entry(cluster.to_owned()).or_default(),
        };
        let total: usize = endpoints.iter().map(|(_, weight)| *weight as usize).sum();
        let at = *turn % total.max(1);
        *turn = turn.wrapping_add(1);
        at_weight(endpoints, at)
    }

    fn draw(&mut self, endpoints: &[(SocketAddr, u32)]) -> usize {
        let total: usize = endpoints.iter().map(|(_, weight)| *weight as usize).sum();
        let at = self.next_random() as usize % total.max(1);
        at_weight(endpoints, at)
    }

    /// Power of two choices, as Envoy's LEAST_REQUEST.
    fn less_busy_of_two(&mut self, endpoints: &[(SocketAddr, u32)]) -> usize {
        let (a, b) = (self.draw(endpoints), self.draw(endpoints));
        let busy = |i: usize| self.active.get(&endpoints[i].0).copied().unwrap_or(0);
        if busy(b) < busy(a) { b } else { a }
    }

    fn next_random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
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
    use super::*;

    fn endpoints(weights: &[u32]) -> Vec<(SocketAddr, u32)> {
        weights.iter().zip(1..).map(|(w, i)| (SocketAddr::from(([192, 0, 2, i], 443)), *w)).collect()
    }

    #[test]
    fn round_robin_takes_turns_by_weight() {
        let mut balancer = Balancer::new(7);
        let mut first = HashMap::<_, u32>::new();
        for _ in 0..400 {
            *first.entry(balancer.order("c", LoadBalancer::RoundRobin, endpoints(&[1, 3]))[0]).or_default() += 1;
        }
        assert_eq!(first[&"192.0.2.2:443".parse().unwrap()], 300);
    }

    #[test]
    fn an_order_has_distinct_addresses_and_a_bound() {
        let mut balancer = Balancer::new(7);
        for by in [LoadBalancer::Random, LoadBalancer::LeastRequest, LoadBalancer::RoundRobin] {
            let order = balancer.order("c", by, endpoints(&[1, 1, 1, 1, 1]));
            assert_eq!(order.len(), MAX_ATTEMPTS);
            let mut distinct = order.clone();
            distinct.sort_unstable();
            distinct.dedup();
            assert_eq!(distinct.len(), order.len());
        }
        assert_eq!(balancer.order("c", LoadBalancer::Random, Vec::new()), []);
    }

    #[test]
    fn least_request_prefers_the_idle_endpoint() {
        let mut balancer = Balancer::new(7);
        let busy: SocketAddr = "192.0.2.1:443".parse().unwrap();
        balancer.begin(busy);
        let firsts =
            (0..300).filter(|_| balancer.order("c", LoadBalancer::LeastRequest, endpoints(&[1, 1]))[0] == busy);
        assert!(firsts.count() < 150, "the busy endpoint came first as often as the idle one");
        balancer.end(busy);
        assert!(balancer.active.is_empty());
    }
}
