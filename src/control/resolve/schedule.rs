//! When a name is looked up again: pure rules, so that no test has to wait.

use std::time::Duration;

/// Bounds of the time that an answer is used: nothing must mean a query for every look, and a typo in a zone must not mean
/// weeks.
const MIN_TTL: Duration = Duration::from_secs(1);
const MAX_TTL: Duration = Duration::from_secs(24 * 3600);

/// The shortest wait between two looks at one name.
pub const SOON: Duration = MIN_TTL;

/// The time that an answer is used for. A TTL of 0 says that none was given (RFC 1035 §3.2.1: not to be cached); for such an
/// answer `unsaid` stands, as Envoy has it (`dns_refresh_rate` beside `respect_dns_ttl`).
pub fn lifetime(ttl: Duration, unsaid: Duration) -> Duration {
    let said = if ttl.is_zero() { unsaid } else { ttl };
    said.clamp(MIN_TTL, MAX_TTL)
}

/// How long to wait after an answer that lives for `lifetime`: a little ahead of its end, 85 to 95 % of it as `jitter`
/// says, so that names that were asked for together drift apart.
pub fn refresh(lifetime: Duration, jitter: u16) -> Duration {
    let thousandths = 850 + u32::from(jitter) % 101;
    (lifetime * thousandths / 1000).max(MIN_TTL)
}

/// How long to wait after the `failures`-th failure in a row (1, 2, 3…): 1 s, 2 s, 4 s… up to `most`.
pub fn retry(failures: u32, most: Duration) -> Duration {
    let seconds = 1u64 << failures.saturating_sub(1).min(30);
    Duration::from_secs(seconds).min(most)
}

/// How long to wait after "no such name" or "no address": as long as the server said, within bounds, else as after a
/// failure. A name that comes into being must not stay unknown for longer than `most`.
pub fn negative(ttl: Option<Duration>, failures: u32, most: Duration) -> Duration {
    ttl.map_or_else(|| retry(failures, most), |ttl| ttl.clamp(MIN_TTL.min(most), most))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn answers_are_renewed_ahead_of_their_end() {
        let unsaid = s(60);
        assert_eq!(refresh(lifetime(s(1), unsaid), 0), s(1));
        assert_eq!(refresh(lifetime(s(100), unsaid), 0), s(85));
        assert_eq!(refresh(lifetime(s(100), unsaid), 100), s(95));
        assert_eq!(refresh(lifetime(s(1 << 31), unsaid), 50), s(24 * 3600) * 9 / 10);
        assert_eq!(lifetime(s(0), unsaid), unsaid);
        assert_eq!(lifetime(s(0), Duration::ZERO), s(1));
        assert!((0..=u16::MAX).all(|jitter| (s(85)..=s(95)).contains(&refresh(s(100), jitter))));
    }

    #[test]
    fn failures_back_off() {
        let waits = [1, 2, 3, 4, 7, 8, u32::MAX].map(|n| retry(n, s(60)).as_secs());
        assert_eq!(waits, [1, 2, 4, 8, 60, 60, 60]);
    }

    #[test]
    fn negative_answers_last_as_the_zone_says_within_bounds() {
        for (ttl, failures, expected) in [(Some(30), 1, 30), (Some(0), 1, 1), (Some(900), 1, 60), (None, 3, 4)] {
            assert_eq!(negative(ttl.map(s), failures, s(60)), s(expected), "{ttl:?}");
        }
    }
}
