//! How the endpoints of a cluster have fared lately, as all workers together saw it (`outlierDetection`).
//!
//! Nothing is written while all goes well: an endpoint has a record from its first error on, and a success touches
//! memory only if there are errors to forget. It knows no socket and sends nothing; time is given. An ejection ends by
//! [`readmit`](Health::readmit), which whoever ejected sees to.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::config::OutlierDetection;
use crate::policy::runtime::publish::Published;

/// Longest ejection where `baseEjectionTime` is not longer: Envoy's `max_ejection_time`.
const MAX_EJECTION: Duration = Duration::from_secs(300);
/// Most records of endpoints that are not ejected. More have errors only where names keep changing their addresses.
const MAX_RECORDS: usize = 4096;

/// What became of one use of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It answered a request with this status.
    Answered(u16),
    /// A connection for bytes was made.
    Connected,
    /// No connection could be made, or it ended without an answer.
    Failed,
    /// It did not accept or answer in time.
    TimedOut,
}

/// The kind of errors that came in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Streak {
    ServerErrors,
    GatewayErrors,
    LocalFailures,
}

impl fmt::Display for Streak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Streak::ServerErrors => "consecutive 5xx errors",
            Streak::GatewayErrors => "consecutive gateway errors",
            Streak::LocalFailures => "consecutive local origin failures",
        })
    }
}

/// The endpoints of one cluster name, in every table that has it.
#[derive(Debug)]
pub struct Health {
    records: Published<HashMap<SocketAddr, Arc<Record>>>,
    ejected: Published<Vec<SocketAddr>>,
    ejections: AtomicU64,
    begun: Instant,
}

impl Default for Health {
    fn default() -> Self {
        let (records, ejected) = (Published::new(HashMap::new()), Published::new(Vec::new()));
        Self { records, ejected, ejections: AtomicU64::new(0), begun: Instant::now() }
    }
}

/// Errors in a row, by kind, and how often the endpoint was ejected.
#[derive(Debug, Default)]
struct Record {
    server: AtomicU32,
    gateway: AtomicU32,
    local: AtomicU32,
    ejections: AtomicU32,
    /// When the latest ejection ended, in milliseconds since `begun`.
    readmitted_ms: AtomicU64,
}

impl Health {
    /// Notes an outcome; gives the streak that has become too long, if one has. It begins anew then.
    #[must_use]
    pub fn observe(&self, rules: &OutlierDetection, address: SocketAddr, outcome: Outcome) -> Option<Streak> {
        let (local, status) = match outcome {
            Outcome::Answered(status) => (None, Some(status)),
            Outcome::Connected => (Some(false), Some(200)),
            Outcome::Failed => (Some(true), Some(503)),
            Outcome::TimedOut => (Some(true), Some(504)),
        };
        let status = status.filter(|_| !rules.split || local.is_none());
        let local = if rules.split { local.or(Some(false)) } else { None };
        let is_error = local == Some(true) || status.is_some_and(|status| status / 100 == 5);
        let record = match self.records.load().get(&address) {
            Some(record) => Arc::clone(record),
            None if !is_error => return None,
            None => self.begin(address),
        };
        let mut streak = None;
        if let Some(status) = status {
            if count(&record.gateway, matches!(status, 502..=504), rules.consecutive_gateway) {
                streak = Some(Streak::GatewayErrors);
            }
            if count(&record.server, status / 100 == 5, rules.consecutive_5xx) {
                streak = Some(Streak::ServerErrors);
            }
        }
        if local.is_some_and(|failed| count(&record.local, failed, rules.consecutive_local)) {
            streak = Some(Streak::LocalFailures);
        }
        streak
    }

    fn begin(&self, address: SocketAddr) -> Arc<Record> {
        let record = Arc::new(Record::default());
        self.records.update(|records| {
            let mut records = records.clone();
            if records.len() >= MAX_RECORDS {
                let ejected = self.ejected.load();
                records.retain(|known, _| ejected.contains(known));
            }
            records.entry(address).or_insert_with(|| Arc::clone(&record));
            records
        });
        // Another worker may have been first.
        self.records.load().get(&address).map_or(record, Arc::clone)
    }

    /// Ejects `address`, one of `all` endpoints, and says for how long. `None` when it is ejected already, or more
    /// than `maxEjectionPercent` of `all` would be.
    #[must_use]
    pub fn eject(
        &self,
        rules: &OutlierDetection,
        address: SocketAddr,
        all: &[SocketAddr],
        now: Instant,
    ) -> Option<Duration> {
        let mut ejects = false;
        self.ejected.update(|ejected| {
            let mut ejected: Vec<_> = ejected.iter().copied().filter(|known| all.contains(known)).collect();
            ejects = !ejected.contains(&address)
                && all.contains(&address)
                && (ejected.len() + 1) * 100 <= rules.max_ejection_percent as usize * all.len();
            if ejects {
                ejected.push(address);
            }
            ejected
        });
        if !ejects {
            return None;
        }
        self.ejections.fetch_add(1, Ordering::Relaxed);
        let record = self.records.load().get(&address).cloned();
        let record = record.unwrap_or_else(|| self.begin(address));
        Some(sentence(rules, &record, self.since_begun_ms(now)))
    }

    /// Ends an ejection; false when it had ended already, because the endpoint is none any more.
    #[must_use]
    pub fn readmit(&self, address: SocketAddr, now: Instant) -> bool {
        let mut was_ejected = false;
        self.ejected.update(|ejected| {
            was_ejected = ejected.contains(&address);
            ejected.iter().copied().filter(|known| *known != address).collect()
        });
        if let Some(record) = self.records.load().get(&address) {
            for errors in [&record.server, &record.gateway, &record.local] {
                errors.store(0, Ordering::Relaxed);
            }
            record.readmitted_ms.store(self.since_begun_ms(now), Ordering::Relaxed);
        }
        was_ejected
    }

    /// Takes out of `endpoints` those that are ejected, unless fewer than `minHealthPercent` would be left: Envoy's panic
    /// rule, by which bad endpoints are better than too few.
    pub fn retain<T>(&self, rules: &OutlierDetection, endpoints: &mut Vec<T>, address: impl Fn(&T) -> SocketAddr) {
        let ejected = self.ejected.load();
        if ejected.is_empty() {
            return;
        }
        let healthy = endpoints.iter().filter(|endpoint| !ejected.contains(&address(endpoint))).count();
        if healthy * 100 >= rules.min_health_percent as usize * endpoints.len() {
            endpoints.retain(|endpoint| !ejected.contains(&address(endpoint)));
        }
    }

    #[must_use]
    pub fn is_ejected(&self, address: SocketAddr) -> bool {
        self.ejected.load().contains(&address)
    }

    /// Endpoints that are ejected now.
    #[must_use]
    pub fn ejected(&self) -> Vec<SocketAddr> {
        self.ejected.load().to_vec()
    }

    /// Ejections so far.
    #[must_use]
    pub fn ejections(&self) -> u64 {
        self.ejections.load(Ordering::Relaxed)
    }

    fn since_begun_ms(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.begun).as_millis() as u64
    }
}

/// Counts one more error, or forgets those before; true when there are `limit` now.
fn count(errors: &AtomicU32, is_error: bool, limit: u32) -> bool {
    if !is_error {
        // Read first: while all goes well nothing is written.
        if errors.load(Ordering::Relaxed) != 0 {
            errors.store(0, Ordering::Relaxed);
        }
        return false;
    }
    let now = errors.fetch_add(1, Ordering::Relaxed) + 1;
    let is_reached = limit > 0 && now >= limit;
    if is_reached {
        errors.store(0, Ordering::Relaxed);
    }
    is_reached
}

/// How long the endpoint stays ejected: the base time for each ejection, one of which is forgotten for every interval
/// spent in the rotation since the latest.
fn sentence(rules: &OutlierDetection, record: &Record, now_ms: u64) -> Duration {
    let interval_ms = (rules.interval.as_millis() as u64).max(1);
    let well = now_ms.saturating_sub(record.readmitted_ms.load(Ordering::Relaxed)) / interval_ms;
    let before = record.ejections.load(Ordering::Relaxed);
    let times = before.saturating_sub(u32::try_from(well).unwrap_or(u32::MAX)).saturating_add(1);
    record.ejections.store(times, Ordering::Relaxed);
    let longest = MAX_EJECTION.max(rules.base_ejection_time);
    let time_ms = rules.base_ejection_time.saturating_mul(times).min(longest).as_millis() as u64;
    Duration::from_millis(time_ms.div_ceil(interval_ms).saturating_mul(interval_ms))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::tests::fixture::outliers;

    fn at(last: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, last], 80))
    }

    /// What each outcome of a row comes to: `.` for nothing, else the streak's letter.
    fn row(rules: &OutlierDetection, outcomes: &[Outcome]) -> String {
        let health = Health::default();
        let letters = outcomes.iter().map(|outcome| match health.observe(rules, at(1), *outcome) {
            None => '.',
            Some(Streak::ServerErrors) => 's',
            Some(Streak::GatewayErrors) => 'g',
            Some(Streak::LocalFailures) => 'l',
        });
        letters.collect()
    }

    #[test]
    fn streaks() {
        use Outcome::{Answered as A, Connected as C, Failed as F, TimedOut as T};
        let plain = OutlierDetection { consecutive_5xx: 3, ..outliers() };
        let gateway = OutlierDetection { consecutive_gateway: 2, consecutive_5xx: 0, ..outliers() };
        let both = OutlierDetection { consecutive_gateway: 2, consecutive_5xx: 3, ..outliers() };
        let split = OutlierDetection { split: true, consecutive_local: 2, consecutive_5xx: 3, ..outliers() };
        for (rules, outcomes, expected) in [
            (&plain, &[A(500), A(500), A(503), A(500)][..], "..s."),
            (&plain, &[A(500), A(500), A(200), A(500), A(599), A(500)], ".....s"),
            (&plain, &[A(500), A(404), A(500), A(500)], "...."),
            (&plain, &[F, T, A(500)], "..s"),
            (&plain, &[F, F, C, F, F, F], ".....s"),
            (&plain, &[A(200), C], ".."),
            (&gateway, &[A(500), A(500), A(500), A(502), A(504)], "....g"),
            (&gateway, &[A(502), A(500), A(502), A(503)], "...g"),
            (&gateway, &[F, T], ".g"),
            (&both, &[A(503), A(503), A(503)], ".gs"),
            (&split, &[F, F], ".l"),
            (&split, &[F, A(500), F, T], "...l"),
            (&split, &[F, C, F, F], "...l"),
            (&split, &[A(500), F, A(500), A(500)], "...s"),
        ] {
            assert_eq!(row(rules, outcomes), expected, "{rules:?} {outcomes:?}");
        }
    }

    #[test]
    fn no_more_than_the_share_is_ejected() {
        for (percent, of, expected) in
            [(10, 3, 0), (10, 10, 1), (33, 3, 0), (34, 3, 1), (50, 3, 1), (67, 3, 2), (100, 3, 3), (100, 1, 1)]
        {
            let (health, rules) = (Health::default(), OutlierDetection { max_ejection_percent: percent, ..outliers() });
            let all: Vec<_> = (1..=of).map(at).collect();
            let ejected = all.iter().filter(|each| health.eject(&rules, **each, &all, Instant::now()).is_some());
            assert_eq!(ejected.count(), expected, "{percent} % of {of}");
            assert_eq!(health.ejected().len(), expected);
            assert_eq!(health.ejections(), expected as u64);
        }
    }

    #[test]
    fn an_ejection_happens_once_and_of_endpoints_only() {
        let (health, rules) = (Health::default(), OutlierDetection { max_ejection_percent: 100, ..outliers() });
        let now = Instant::now();
        let all = [at(1), at(2)];
        assert!(health.eject(&rules, at(1), &all, now).is_some());
        assert!(health.eject(&rules, at(1), &all, now).is_none());
        assert!(health.eject(&rules, at(9), &all, now).is_none());
        assert!(health.readmit(at(1), now) && !health.readmit(at(1), now));
        // One that is no endpoint any more makes room.
        let half = OutlierDetection { max_ejection_percent: 50, ..outliers() };
        assert!(health.eject(&half, at(1), &all, now).is_some());
        assert!(health.eject(&half, at(2), &[at(2), at(3)], now).is_some());
        assert_eq!(health.ejected(), [at(2)]);
    }

    #[test]
    fn each_ejection_is_longer_and_good_conduct_forgets() {
        let seconds = Duration::from_secs;
        let rules = OutlierDetection {
            base_ejection_time: seconds(25),
            interval: seconds(10),
            max_ejection_percent: 100,
            ..outliers()
        };
        let (health, mut now) = (Health::default(), Instant::now());
        for (pause, expected) in [(0, 30), (0, 50), (9, 80), (10, 80), (25, 50), (3600, 30)] {
            now += seconds(pause);
            let sentence = health.eject(&rules, at(1), &[at(1)], now).unwrap();
            assert_eq!(sentence, seconds(expected), "after {pause} s");
            now += sentence;
            assert!(health.readmit(at(1), now));
        }
        for _ in 0..30 {
            let sentence = health.eject(&rules, at(1), &[at(1)], now).unwrap();
            now += sentence;
            assert!(sentence <= MAX_EJECTION && health.readmit(at(1), now));
        }
    }

    #[test]
    fn too_few_left_are_no_choice() {
        for (least, ejects, expected) in [(0, 1, 2), (0, 3, 0), (50, 1, 2), (50, 2, 3), (100, 1, 3), (67, 1, 3)] {
            let (health, rules) = (
                Health::default(),
                OutlierDetection { max_ejection_percent: 100, min_health_percent: least, ..outliers() },
            );
            let all: Vec<_> = (1..=3).map(at).collect();
            for each in &all[..ejects] {
                assert!(health.eject(&rules, *each, &all, Instant::now()).is_some());
            }
            let mut left = all.clone();
            health.retain(&rules, &mut left, |address| *address);
            assert_eq!(left.len(), expected, "{least} % with {ejects} of 3 ejected");
        }
    }

    #[test]
    fn records_are_bounded() {
        let (health, rules) = (Health::default(), outliers());
        for number in 0..u32::try_from(MAX_RECORDS).unwrap() + 10 {
            let address = SocketAddr::from((std::net::Ipv4Addr::from(number), 80));
            assert_eq!(health.observe(&rules, address, Outcome::Failed), None);
        }
        assert!(health.records.load().len() <= MAX_RECORDS);
    }
}
