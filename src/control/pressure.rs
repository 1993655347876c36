//! Watches for shortage while the proxy runs: has the workers stop accepting while memory is short, and says when
//! anything stops them.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::memory::Gauge;
use super::state::State;
use crate::worker::Order;

/// Between two warnings of the same thing.
const QUIET: Duration = Duration::from_secs(10);

pub(super) struct Pressure {
    state: Rc<State>,
    memory: Option<Gauge>,
    short: bool,
    pauses: u64,
    warned: Option<Instant>,
}

impl Pressure {
    pub(super) fn new(state: Rc<State>) -> Self {
        Self { state, memory: Gauge::new(), short: false, pauses: 0, warned: None }
    }

    /// Call it about twice a second: that is how soon accepting goes on.
    pub(super) fn look(&mut self) {
        let short = self.memory.as_mut().is_some_and(Gauge::is_short);
        if short != self.short {
            self.short = short;
            self.state.order(Order::Accept(!short));
            if short {
                tracing::warn!("memory is short: new connections wait until some is free again");
            } else {
                tracing::info!("memory is no longer short: connections are accepted again");
            }
        }
        let pauses = self.state.accept_pauses();
        if pauses > self.pauses && self.warned.is_none_or(|at| at.elapsed() > QUIET) {
            tracing::warn!(
                pauses,
                open = self.state.open_connections(),
                "as many connections as allowed, or no descriptor is free: new ones wait until one ends"
            );
            self.warned = Some(Instant::now());
        }
        self.pauses = pauses;
    }
}
