//! The clocks of an exchange: whose turn it is, and for how long. They know nothing of what is done when one runs out.

use std::time::{Duration, Instant};

use crate::config::Settings;
use crate::io;
use crate::proxy::progress::Progress;

/// The clock that ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// Nothing moved in either direction for `idleTimeout`.
    Idle,
    /// The application did not go on with its request for `bodyStallTimeout`.
    RequestBody,
    /// The response was not complete within `requestTimeout` of the request's head.
    Response,
}

/// Resolves when the exchange whose request began at `since` has taken too long. One timer, however much moves.
pub async fn overdue(progress: &Progress, settings: &Settings, since: Instant) -> Clock {
    loop {
        let now = io::now();
        let (at, clock) = next(progress, settings, since, now);
        match clock {
            Some(clock) if at <= now => return clock,
            _ => io::sleep_until(at).await,
        }
    }
}

/// When to look next, and what has run out then if nothing has moved.
fn next(progress: &Progress, settings: &Settings, since: Instant, now: Instant) -> (Instant, Option<Clock>) {
    let moved = progress.moved.get();
    let mut first = (moved + settings.idle_timeout, Some(Clock::Idle));
    let mut earlier = |at: Instant, clock: Option<Clock>| {
        if at < first.0 {
            first = (at, clock);
        }
    };
    if let Some(stall) = limit(settings.body_stall_timeout)
        && !progress.uploaded.get()
        && !progress.answering.get()
    {
        // An upstream that takes no more is not the application's fault, but it may become its turn later.
        if progress.starved.get() {
            earlier(moved + stall, Some(Clock::RequestBody));
        } else {
            earlier(now + stall, None);
        }
    }
    if let Some(whole) = limit(settings.request_timeout) {
        earlier(since + whole, Some(Clock::Response));
    }
    first
}

/// Zero is no limit.
fn limit(setting: Duration) -> Option<Duration> {
    (!setting.is_zero()).then_some(setting)
}
