//! What went where: counts by destination and outcome, in the measure of Istio's standard metrics.
//!
//! Each worker counts in series of its own. Finding a series is one look-up and a short scan, counting a few plain stores;
//! only the first request of a kind allocates and takes the lock that readers share. The number of series is bounded: what
//! exceeds it is counted under [`OTHER`], so that sums stay right whatever peers answer.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::fast::RandomState;

use super::access_log::AccessRecord;
use super::counter::Counter;
use crate::flow::ResponseFlags;
use crate::grpc;

/// Most destinations of a worker, and most outcomes of a destination.
const DESTINATIONS: usize = 256;
const OUTCOMES: usize = 32;
/// Stands for every destination beyond the bound.
pub(super) const OTHER: &str = "other";
/// Most hosts of requests that no ServiceEntry names: applications choose them, and must leave room for those that are listed.
const HOSTS: usize = 128;
/// What is not known.
pub(super) const UNKNOWN: &str = "unknown";
/// Stands behind the name of a destination that is no cluster of a ServiceEntry, and before the host that a request asks for.
pub(super) const AND_HOST: char = '\n';

/// Upper bounds of Istio's sidecar histograms; milliseconds and bytes alike.
pub(super) const BOUNDS: [f64; 19] = [
    0.5,
    1.0,
    5.0,
    10.0,
    25.0,
    50.0,
    100.0,
    250.0,
    500.0,
    1000.0,
    2500.0,
    5000.0,
    10_000.0,
    30_000.0,
    60_000.0,
    300_000.0,
    600_000.0,
    1_800_000.0,
    3_600_000.0,
];

/// Counts by bucket; the last has no upper bound.
#[derive(Debug, Default)]
pub(super) struct Histogram {
    pub buckets: [Counter; BOUNDS.len() + 1],
    /// In thousandths, so that a sum of milliseconds keeps its microseconds.
    pub sum_milli: Counter,
}

impl Histogram {
    fn observe(&self, value: f64) {
        self.buckets[BOUNDS.partition_point(|bound| *bound < value)].increment();
        self.sum_milli.add((value * 1000.0) as u64);
    }
}

/// Requests to one destination with one outcome.
#[derive(Debug, Default)]
pub(super) struct RequestSeries {
    pub destination: Box<str>,
    pub outcome: Outcome,
    pub duration_ms: Histogram,
    pub request_bytes: Histogram,
    pub response_bytes: Histogram,
    /// Of gRPC.
    pub request_messages: Counter,
    pub response_messages: Counter,
}

/// What requests are told apart by, at one destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Outcome {
    /// 0: no response was begun.
    pub code: u16,
    pub flags: ResponseFlags,
    pub is_call: bool,
    /// Of a call.
    pub grpc_status: Option<grpc::Status>,
}

impl Outcome {
    fn of(record: &AccessRecord<'_>) -> Self {
        let call = record.http.and_then(|http| http.call);
        Self {
            code: record.response_code,
            flags: record.response_flags,
            is_call: call.is_some(),
            grpc_status: call.and_then(|call| call.status),
        }
    }
}

/// Connections that are not HTTP, to one destination with one outcome.
#[derive(Debug, Default)]
pub(super) struct ConnectionSeries {
    pub destination: Box<str>,
    pub flags: ResponseFlags,
    pub opened: Counter,
    pub closed: Counter,
    pub sent: Counter,
    pub received: Counter,
}

/// A worker's series, as readers find them. Series are only ever added.
#[derive(Debug, Default)]
pub struct TrafficSeries {
    requests: Mutex<Vec<Arc<RequestSeries>>>,
    connections: Mutex<Vec<Arc<ConnectionSeries>>>,
}

impl TrafficSeries {
    pub(super) fn requests(&self) -> Vec<Arc<RequestSeries>> {
        locked(&self.requests).clone()
    }

    pub(super) fn connections(&self) -> Vec<Arc<ConnectionSeries>> {
        locked(&self.connections).clone()
    }
}

/// A panic elsewhere cannot leave a list of pointers half-made.
fn locked<T>(list: &Mutex<T>) -> MutexGuard<'_, T> {
    list.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The worker's own way to its series.
#[derive(Debug, Default)]
pub struct Traffic {
    destinations: RefCell<HashMap<Box<str>, Destination, RandomState>>,
    /// Destinations with a host of a request.
    hosts: Cell<usize>,
    /// Where names are put together.
    name: RefCell<String>,
}

#[derive(Debug, Default)]
struct Destination {
    requests: Vec<Arc<RequestSeries>>,
    connections: Vec<Arc<ConnectionSeries>>,
}

impl Traffic {
    /// Counts what `record` tells: a request, or the end of a connection that is not HTTP.
    pub fn count(&self, record: &AccessRecord<'_>, series: &TrafficSeries) {
        self.with_destination(record, |name, destination| {
            if let Some(http) = &record.http {
                let found = destination.request(name, Outcome::of(record), series);
                found.duration_ms.observe(record.duration.as_secs_f64() * 1000.0);
                found.request_bytes.observe(record.bytes_received as f64);
                found.response_bytes.observe(record.bytes_sent as f64);
                if let Some(call) = http.call {
                    found.request_messages.add(call.request_messages);
                    found.response_messages.add(call.response_messages);
                }
            } else {
                let found = destination.connection(name, record.response_flags, series);
                found.closed.increment();
                // As in Istio: what the application received, and what was received from it.
                found.sent.add(record.bytes_sent);
                found.received.add(record.bytes_received);
            }
        });
    }

    /// Counts a connection that is not HTTP when it begins; how it will end is not known yet.
    pub fn count_opened(&self, destination: Option<&str>, series: &TrafficSeries) {
        self.with(destination.unwrap_or(UNKNOWN), |name, destination| {
            destination.connection(name, ResponseFlags::default(), series).opened.increment();
        });
    }

    /// As Istio's filter names it: by the cluster of a ServiceEntry, else by the route (`allow_any`, `block_all`) and the host
    /// that the request asks for.
    fn with_destination(&self, record: &AccessRecord<'_>, act: impl FnOnce(&str, &mut Destination)) {
        let cluster = record.upstream_cluster;
        let (Some(http), false) = (&record.http, cluster.is_some_and(|name| name.starts_with("outbound|"))) else {
            return self.with(cluster.unwrap_or(UNKNOWN), act);
        };
        let stands_for = match record.route_name {
            Some("allow_any") => "PassthroughCluster",
            Some("block_all") => "BlackHoleCluster",
            _ => cluster.unwrap_or_default(),
        };
        // Names and addresses: others have been refused.
        let host = http.authority.and_then(|host| std::str::from_utf8(host).ok()).unwrap_or_default();
        let mut name = self.name.take();
        let put = |name: &mut String, host: &str| {
            name.clear();
            name.push_str(stands_for);
            name.push(AND_HOST);
            name.push_str(host);
        };
        put(&mut name, host);
        let is_known = self.destinations.borrow().contains_key(name.as_str());
        if !is_known && self.hosts.get() >= HOSTS {
            put(&mut name, OTHER);
        } else if !is_known {
            self.hosts.set(self.hosts.get() + 1);
        }
        self.with(&name, act);
        self.name.replace(name);
    }

    fn with(&self, name: &str, act: impl FnOnce(&str, &mut Destination)) {
        let mut all = self.destinations.borrow_mut();
        if let Some(known) = all.get_mut(name) {
            return act(name, known);
        }
        let name = if all.len() < DESTINATIONS { name } else { OTHER };
        act(name, all.entry(name.into()).or_default());
    }
}

impl Destination {
    fn request(&mut self, name: &str, outcome: Outcome, series: &TrafficSeries) -> &RequestSeries {
        let same = |one: &Arc<RequestSeries>| one.outcome == outcome;
        let at = self.requests.iter().position(same).unwrap_or_else(|| {
            let full = self.requests.len() >= OUTCOMES;
            // The last stands for all further outcomes: no code, no flags.
            let outcome = if full { Outcome::default() } else { outcome };
            if full && let Some(at) = self.requests.iter().position(|one| one.outcome == Outcome::default()) {
                return at;
            }
            let new = Arc::new(RequestSeries { destination: name.into(), outcome, ..RequestSeries::default() });
            locked(&series.requests).push(Arc::clone(&new));
            self.requests.push(new);
            self.requests.len() - 1
        });
        &self.requests[at]
    }

    /// Connections have few outcomes: as many as egret sets flags.
    fn connection(&mut self, name: &str, flags: ResponseFlags, series: &TrafficSeries) -> &ConnectionSeries {
        let at = self.connections.iter().position(|one| one.flags == flags).unwrap_or_else(|| {
            let new = Arc::new(ConnectionSeries { destination: name.into(), flags, ..ConnectionSeries::default() });
            locked(&series.connections).push(Arc::clone(&new));
            self.connections.push(new);
            self.connections.len() - 1
        });
        &self.connections[at]
    }
}

#[cfg(test)]
mod tests {
    use super::super::access_log::HttpExchange;
    use super::*;

    #[test]
    fn the_number_of_series_is_bounded_and_nothing_is_lost() {
        let (traffic, series) = (Traffic::default(), TrafficSeries::default());
        for code in 0..1000 {
            traffic.with("a", |name, to| {
                to.request(name, Outcome { code, ..Outcome::default() }, &series).duration_ms.observe(1.0);
            });
        }
        let all = series.requests();
        assert!(all.len() <= OUTCOMES + 1, "{}", all.len());
        assert_eq!(all.iter().map(|one| one.duration_ms.buckets[1].get()).sum::<u64>(), 1000);
        for number in 0..1000 {
            traffic.count_opened(Some(&format!("host-{number}")), &series);
        }
        let all = series.connections();
        assert_eq!(all.len(), DESTINATIONS);
        assert_eq!(all.iter().map(|one| one.opened.get()).sum::<u64>(), 1000);
        let other = all.iter().find(|one| &*one.destination == OTHER).unwrap();
        assert_eq!(other.opened.get(), 1000 - (DESTINATIONS as u64 - 1));
    }

    #[test]
    fn hosts_that_applications_choose_leave_room_for_those_that_are_listed() {
        let (traffic, series) = (Traffic::default(), TrafficSeries::default());
        let count = |cluster, host: &str| {
            let http = HttpExchange { authority: Some(host.as_bytes()), ..HttpExchange::default() };
            let blank = AccessRecord::blank(std::time::SystemTime::UNIX_EPOCH);
            let record = AccessRecord { http: Some(http), upstream_cluster: Some(cluster), ..blank };
            traffic.count(&AccessRecord { route_name: Some("allow_any"), ..record }, &series);
        };
        (0..1000).for_each(|number| count("PassthroughCluster", &format!("host-{number}")));
        count("outbound|80||listed.example", "listed.example");
        let all = series.requests();
        assert_eq!(all.len(), HOSTS + 2);
        assert_eq!(all.iter().map(|one| one.duration_ms.buckets[0].get()).sum::<u64>(), 1001);
        for destination in ["PassthroughCluster\nhost-0", "PassthroughCluster\nother", "outbound|80||listed.example"] {
            assert!(all.iter().any(|one| &*one.destination == destination), "{destination:?}");
        }
    }

    #[test]
    fn a_value_on_a_bound_belongs_below_it() {
        let histogram = Histogram::default();
        for (value, bucket) in [(0.0, 0), (0.5, 0), (0.6, 1), (1.0, 1), (3_600_000.0, 18), (3_600_001.0, 19)] {
            let before = histogram.buckets[bucket].get();
            histogram.observe(value);
            assert_eq!(histogram.buckets[bucket].get(), before + 1, "{value}");
        }
        assert_eq!(histogram.sum_milli.get(), 7_200_003_100);
    }
}
