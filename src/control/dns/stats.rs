//! What the listener counts. One thread; the cells are never locked.

use std::cell::Cell;
use std::time::Duration;

use crate::observe::Exposition;

/// How a query ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// From the table of listed names.
    Table,
    /// By a name server.
    Forwarded,
    /// By `dnsPolicy`.
    Refused,
    /// Malformed, or no name server answered.
    Error,
}

const OUTCOMES: [(Outcome, &str); 4] = [
    (Outcome::Table, "table"),
    (Outcome::Forwarded, "forwarded"),
    (Outcome::Refused, "refused"),
    (Outcome::Error, "error"),
];

/// Upper bounds in seconds, Istio's for the same figure.
const BOUNDS: [(f64, &str); 6] =
    [(0.001, "0.001"), (0.005, "0.005"), (0.01, "0.01"), (0.1, "0.1"), (1.0, "1"), (5.0, "5")];

#[derive(Debug, Default)]
pub(super) struct DnsStats {
    queries: [Cell<u64>; OUTCOMES.len()],
    buckets: [Cell<u64>; BOUNDS.len()],
    duration: Cell<Duration>,
    answered: Cell<u64>,
    pub(super) in_flight: Cell<u64>,
    pub(super) connections: Cell<u64>,
}

impl DnsStats {
    pub(super) fn count(&self, outcome: Outcome, took: Duration) {
        add(&self.queries[outcome as usize]);
        add(&self.answered);
        self.duration.set(self.duration.get() + took);
        let seconds = took.as_secs_f64();
        if let Some(at) = BOUNDS.iter().position(|(bound, _)| seconds <= *bound) {
            add(&self.buckets[at]);
        }
    }

    pub(super) fn render(&self, out: &mut Exposition) {
        out.family("egret_dns_queries_total", "counter", "DNS queries of the pod, by how they were answered.");
        for (outcome, answer) in OUTCOMES {
            out.sample("egret_dns_queries_total", &[("answer", answer)], self.queries[outcome as usize].get());
        }
        let name = "egret_dns_query_duration_seconds";
        out.family(name, "histogram", "Time from a DNS query to its answer.");
        let bucket_name = format!("{name}_bucket");
        let mut below = 0;
        for (bucket, (_, bound)) in self.buckets.iter().zip(BOUNDS) {
            below += bucket.get();
            out.sample(&bucket_name, &[("le", bound)], below);
        }
        out.sample(&bucket_name, &[("le", "+Inf")], self.answered.get());
        out.sample(&format!("{name}_sum"), &[], self.duration.get().as_secs_f64());
        out.sample(&format!("{name}_count"), &[], self.answered.get());
        out.family("egret_dns_queries_in_flight", "gauge", "DNS queries that wait for a name server.");
        out.sample("egret_dns_queries_in_flight", &[], self.in_flight.get());
        out.family("egret_dns_connections", "gauge", "TCP connections to the DNS listener.");
        out.sample("egret_dns_connections", &[], self.connections.get());
    }
}

fn add(counter: &Cell<u64>) {
    counter.set(counter.get() + 1);
}

/// Counts up while it lives.
pub(super) struct Counted<'c>(&'c Cell<u64>);

impl<'c> Counted<'c> {
    pub(super) fn one(counter: &'c Cell<u64>) -> Self {
        add(counter);
        Self(counter)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}
