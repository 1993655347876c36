//! Counts frames that carry nothing, and says when a peer has sent too many.
//!
//! Each frame costs time, and some an answer. The codec keeps memory flat under floods of them; this ends them. A peer that
//! does real work may send as many as that work needs: what a connection carries pays for them. Data for a stream that was
//! reset carries nothing either, and a peer may have a window of it on its way, no more.

use std::time::Instant;

use h2::Reason;

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
    refusal: Option<Reason>,
    /// The streams that were reset here last, and how much of a body may still come on each.
    resets: Vec<(u32, u32)>,
    /// Bytes of a body that a stream's window allows.
    window: u32,
}

/// How many resets are known. The codec remembers some, too, and has an answer to data of those that it has forgotten.
const KNOWN_RESETS: usize = 256;

impl FrameMeter {
    pub(super) fn new(budget: FrameBudget, window: u32, now: Instant) -> Self {
        Self { budget, left: budget.burst, filled: now, refusal: None, resets: Vec::new(), window }
    }

    /// Notes a frame from the peer. `now` is asked only when the budget is at its end.
    pub(super) fn received(&mut self, frame: FrameHead, now: impl Fn() -> Instant) {
        let is_useless = !self.resets.is_empty() && self.is_useless(frame);
        let cost = match frame.kind {
            Kind::Data if frame.length > 0 || frame.ends_stream() => 0,
            Kind::Headers if is_useless => 1,
            Kind::Headers => 0,
            Kind::ResetStream => RESET,
            _ => 1,
        };
        if self.left < cost {
            self.fill(now());
        }
        match self.left.checked_sub(cost) {
            Some(left) => self.left = left,
            None => self.refusal = self.refusal.or(Some(Reason::ENHANCE_YOUR_CALM)),
        }
    }

    /// Whether `frame` is for a stream that was reset here. There may be a window of data on its way.
    fn is_useless(&mut self, frame: FrameHead) -> bool {
        let known = self.resets.iter_mut().find(|(stream, _)| *stream == frame.stream);
        let Some((_, left)) = known else { return false };
        if frame.kind == Kind::Data {
            match left.checked_sub(frame.length) {
                Some(rest) => *left = rest,
                // RFC 9113 §6.9.1.
                None => self.refusal = self.refusal.or(Some(Reason::FLOW_CONTROL_ERROR)),
            }
        }
        true
    }

    /// Notes a frame to the peer.
    pub(super) fn sent(&mut self, frame: FrameHead) {
        if frame.kind == Kind::ResetStream {
            if self.resets.len() == KNOWN_RESETS {
                self.resets.remove(0);
            }
            self.resets.push((frame.stream, self.window));
        }
        let data = if frame.kind == Kind::Data { SENT_DATA } else { 0 };
        let complete = if frame.ends_stream() { COMPLETE } else { 0 };
        self.left = (self.left + data + complete).min(self.budget.burst);
    }

    /// Why the peer is sent away, once it has sent more than it may. It stays so.
    pub(super) fn refusal(&self) -> Option<Reason> {
        self.refusal
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
        FrameMeter::new(FrameBudget { burst: 100, per_second: 10 }, 1000, now)
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
                assert!(meter.refusal().is_none(), "{what} after {sent}");
                meter.received(frame(kind, 0, length), || start);
            }
            meter.received(frame(kind, 0, length), || start);
            assert_eq!(meter.refusal(), Some(Reason::ENHANCE_YOUR_CALM), "{what}");
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
        assert!(meter.refusal().is_none());
    }

    #[test]
    fn a_stream_that_was_reset_gets_a_window_at_most() {
        let mut meter = meter(Instant::now());
        meter.sent(frame(3, 0, 4));
        for _ in 0..10 {
            meter.received(frame(0, 0, 100), Instant::now);
        }
        assert!(meter.refusal().is_none());
        meter.received(frame(0, 0, 1), Instant::now);
        assert_eq!(meter.refusal(), Some(Reason::FLOW_CONTROL_ERROR));
    }

    #[test]
    fn heads_of_a_stream_that_was_reset_carry_nothing() {
        let now = Instant::now();
        let mut meter = meter(now);
        meter.sent(frame(3, 0, 4));
        for _ in 0..100 {
            assert!(meter.refusal().is_none());
            meter.received(frame(1, 4, 20), || now);
        }
        meter.received(frame(1, 4, 20), || now);
        assert_eq!(meter.refusal(), Some(Reason::ENHANCE_YOUR_CALM));
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
        assert!(meter.refusal().is_none());
        // As many window updates as an answer of many frames takes.
        for _ in 0..1000 {
            meter.sent(frame(0, 0, 9));
            spend(&mut meter, 2, start + Duration::from_secs(1));
        }
        meter.sent(frame(0, 1, 9));
        spend(&mut meter, 12, start + Duration::from_secs(1));
        assert!(meter.refusal().is_none());
        spend(&mut meter, 1, start + Duration::from_secs(1));
        assert_eq!(meter.refusal(), Some(Reason::ENHANCE_YOUR_CALM));
        // However much is earned later.
        meter.sent(frame(0, 1, 9));
        assert_eq!(meter.refusal(), Some(Reason::ENHANCE_YOUR_CALM));
    }
}
