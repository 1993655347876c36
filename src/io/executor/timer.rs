//! Time: sleeping, time limits, and the clock that is read once a turn.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::io::engine::with_context;
use crate::io::executor::wheel::AlarmKey;
use crate::io::reactor::{Alarm, Reactor};

/// The time at the beginning of this turn. Costs nothing, and is behind the clock by what this turn has taken so far.
pub fn now() -> Instant {
    with_context(|context| context.reactor.now())
}

/// Resolves `duration` from [`now`], never earlier, and at most about a millisecond later than the engine can.
pub fn sleep(duration: Duration) -> Sleep {
    let reactor = with_context(|context| Rc::clone(&context.reactor));
    // Beyond what an Instant can hold is never: thirty years stand for it.
    let never = Duration::from_secs(30 * 365 * 86_400);
    let deadline = reactor.now().checked_add(duration).unwrap_or_else(|| reactor.now() + never);
    Sleep { deadline, alarm: None, reactor }
}

/// Resolves at `deadline`, see [`sleep`].
pub fn sleep_until(deadline: Instant) -> Sleep {
    Sleep { deadline, alarm: None, reactor: with_context(|context| Rc::clone(&context.reactor)) }
}

/// See [`sleep`].
#[must_use = "futures do nothing unless polled"]
pub struct Sleep {
    deadline: Instant,
    alarm: Option<AlarmKey>,
    reactor: Rc<Reactor>,
}

impl Sleep {
    pub fn deadline(&self) -> Instant {
        self.deadline
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.reactor.now() >= self.deadline {
            return Poll::Ready(());
        }
        let known = self.alarm.is_some_and(|key| self.reactor.renew_alarm(key, cx.waker()));
        if !known {
            self.alarm = Some(self.reactor.set_alarm_at(self.deadline, Alarm::Wake(cx.waker().clone())));
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(key) = self.alarm {
            drop(self.reactor.clear_alarm(key));
        }
    }
}

/// A time limit was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the time limit was reached")]
pub struct Elapsed;

/// `future`'s output if it comes within `duration`; else the future is dropped.
///
/// # Errors
/// [`Elapsed`] when the time is over first.
pub async fn timeout<T>(duration: Duration, future: impl Future<Output = T>) -> Result<T, Elapsed> {
    let mut future = pin!(future);
    let mut limit = pin!(sleep(duration));
    poll_fn(|cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Ok(output));
        }
        limit.as_mut().poll(cx).map(|()| Err(Elapsed))
    })
    .await
}
