//! TCP keep-alive as the settings have it, and what the kernel takes of it.

use std::ops::RangeInclusive;
use std::time::Duration;

/// TCP keep-alive: the first probe after `time` of silence, then one every `interval`; dead after `probes` without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Whole seconds. Zero: no probes.
    pub time: Duration,
    /// Whole seconds, one at least.
    pub interval: Duration,
    pub probes: u32,
}

/// Go's, the most frequent that is common: an application's own probes end at this process, so these must keep alive what
/// those would have. Azure's NAT forgets a silent flow after 4 minutes, AWS's after 350 s, Google's after 20 minutes.
impl Default for Keepalive {
    fn default() -> Self {
        Self { time: Duration::from_secs(15), interval: Duration::from_secs(15), probes: 9 }
    }
}

/// What the kernel takes (`MAX_TCP_KEEPIDLE`, `MAX_TCP_KEEPINTVL` and `MAX_TCP_KEEPCNT` in linux/tcp.h).
const SECONDS: RangeInclusive<u64> = 1..=32_767;
pub(super) const PROBES: RangeInclusive<i64> = 1..=127;

/// Zero is none.
pub(super) fn time(time: Duration) -> Result<(), String> {
    if time.is_zero() { Ok(()) } else { interval(time) }
}

pub(super) fn interval(time: Duration) -> Result<(), String> {
    if time.subsec_nanos() == 0 && SECONDS.contains(&time.as_secs()) {
        return Ok(());
    }
    let (least, most) = (SECONDS.start(), SECONDS.end());
    Err(format!("the kernel counts in whole seconds: from \"{least}s\" to \"{most}s\""))
}
