//! Counts frames that carry nothing, and says when a peer has sent too many.
//!
//! Each frame costs time, and some an answer. The codec keeps memory flat under floods of them; this ends them. A peer that
//! does real work may send as many as that work needs: what a connection carries pays for them.

use std::time::Instant;

use super::frame_walker::{FrameHead, Kind};
use super::limits::FrameBudget;

/// What a reset costs: behind it stands a request that was begun, and perhaps a connection to a server.
const RESET: u32 = 10;

/// What a stream earns that ends in order.
const COMPLETE: u32 = 10;

/// What each DATA frame to the peer earns: it may be answered by a WINDOW_UPDATE for the stream and one for the connection.
const SENT_DATA: u32 = 2;

/// The budget of one connection.
#[derive(Debug)]
pub(super) struct FrameMeter {
    budget: FrameBudget,
    left: u32,
    /// Until when what each second adds has been added.
    filled: Instant,
    is_exhausted: bool,
}

impl FrameMeter {
    pub(super) fn new(budget: FrameBudget, now: Instant) -> Self {
        Self { budget, left: budget.burst, filled: now, is_exhausted: false }
    }

    /// Notes a frame from the peer. `now` is asked only when the budget is at its end.
    pub(super) fn received(&mut self, frame: FrameHead, now: impl Fn() -> Instant) {
        let cost = match frame.kind {
            Kind::Data if frame.length > 0 || frame.ends_stream() => 0,
            Kind::Headers => 0,
            Kind::ResetStream => RESET,
            Kind::Data | Kind::Settings | Kind::Other => 1,
        };
        if self.left < cost {
            self.fill(now());
        }
        match self.left.checked_sub(cost) {
            Some(left) => self.left = left,
            None => self.is_exhausted = true,
        }
    }

    /// Notes a frame to the peer.
    pub(super) fn sent(&mut self, frame: FrameHead) {
        let data = if frame.kind == Kind::Data { SENT_DATA } else { 0 };
        let complete = if frame.ends_stream() { COMPLETE } else { 0 };
        self.left = (self.left + data + complete).min(self.budget.burst);
    }

    /// Whether the peer has sent more than it may. It stays so.
    pub(super) fn is_exhausted(&self) -> bool {
        self.is_exhausted
    }

    fn fill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.filled);
        let earned = passed.as_millis() * u128::from(self.budget.per_second) / 1000;
        if earned == 0 {
            return;
        }
        self.filled = now;
        let earned = u32::try_from(earned).unwrap_or(u32::MAX);
        self.left = self.left.saturating_add(earned).min(self.budget.burst);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::frame_walker::FrameWalker;
    use super::*;

    fn frame(kind: u8, flags: u8, length: u8) -> FrameHead {
        let mut found = None;
        let frame = [&[0, 0, length, kind, flags, 0, 0, 0, 1][..], &vec![0; usize::from(length)]].concat();
        FrameWalker::new(0).walk(&frame, |head| found = Some(head));
        found.unwrap()
    }

    fn meter(now: Instant) -> FrameMeter {
        FrameMeter::new(FrameBudget { burst: 100, per_second: 10 }, now)
    }

    #[test]
    fn floods_end() {
        let start = Instant::now();
        for (what, kind, length, allowed) in [
            ("PING", 6, 8, 100),
            ("SETTINGS", 4, 0, 100),
            ("PRIORITY", 2, 5, 100),
            ("WINDOW_UPDATE", 8, 4, 100),
            ("CONTINUATION", 9, 0, 100),
            ("unknown", 0x42, 1, 100),
            ("empty DATA", 0, 0, 100),
            ("RST_STREAM", 3, 4, 10),
        ] {
            let mut meter = meter(start);
            for sent in 0..allowed {
                assert!(!meter.is_exhausted(), "{what} after {sent}");
                meter.received(frame(kind, 0, length), || start);
            }
            meter.received(frame(kind, 0, length), || start);
            assert!(meter.is_exhausted(), "{what}");
        }
    }

    #[test]
    fn what_carries_something_is_free() {
        let mut meter = meter(Instant::now());
        for _ in 0..10_000 {
            meter.received(frame(1, 4, 20), Instant::now);
            meter.received(frame(0, 0, 1), Instant::now);
            meter.received(frame(0, 1, 0), Instant::now);
        }
        assert!(!meter.is_exhausted());
    }

    #[test]
    fn time_and_work_pay() {
        let start = Instant::now();
        let mut meter = meter(start);
        let spend = |meter: &mut FrameMeter, count: usize, at: Instant| {
            (0..count).for_each(|_| meter.received(frame(6, 0, 8), || at));
        };
        spend(&mut meter, 100, start);
        spend(&mut meter, 10, start + Duration::from_secs(1));
        assert!(!meter.is_exhausted());
        // As many window updates as an answer of many frames takes.
        for _ in 0..1000 {
            meter.sent(frame(0, 0, 9));
            spend(&mut meter, 2, start + Duration::from_secs(1));
        }
        meter.sent(frame(0, 1, 9));
        spend(&mut meter, 12, start + Duration::from_secs(1));
        assert!(!meter.is_exhausted());
        spend(&mut meter, 1, start + Duration::from_secs(1));
        assert!(meter.is_exhausted());
        // However much is earned later.
        meter.sent(frame(0, 1, 9));
        assert!(meter.is_exhausted());
    }
}
