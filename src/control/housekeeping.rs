//! What goes on beside traffic until the process ends: changed files are taken, certificates that end are named, and
//! pressure on the host is looked at. It goes on while the process drains: a policy that is tightened then holds, too.

use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::signal::unix::Signal;

use super::confinement::Confinement;
use super::pressure::Pressure;
use super::state::State;
use super::watch::Watch;
use crate::worker::Order;

/// How often files are looked at for changes.
pub(super) const WATCH_INTERVAL: Duration = Duration::from_millis(500);
/// How often certificates are looked at for their end.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(600);

pub(super) struct Housekeeping {
    pub(super) state: Rc<State>,
    watch: Watch,
    confinement: Confinement,
    pressure: Pressure,
    hangup: Signal,
    expiry_looked_at: Instant,
}

/// Why files are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Occasion {
    /// It is time to: they are read if they have changed.
    Due,
    /// SIGHUP: they are read, changed or not.
    Hangup,
}

impl Housekeeping {
    /// `hangup` is SIGHUP's.
    pub(super) fn new(
        state: Rc<State>,
        watch: Watch,
        confinement: Confinement,
        pressure: Pressure,
        hangup: Signal,
    ) -> Self {
        Self { state, watch, confinement, pressure, hangup, expiry_looked_at: Instant::now() }
    }

    /// Waits for the next reason to look.
    pub(super) async fn reason(&mut self) -> Occasion {
        tokio::select! {
            _ = self.hangup.recv() => Occasion::Hangup,
            () = tokio::time::sleep(WATCH_INTERVAL) => Occasion::Due,
        }
    }

    pub(super) async fn look(&mut self, why: Occasion) {
        if why == Occasion::Hangup || self.watch.changed() {
            if self.state.reload().await {
                self.state.order(Order::PolicyChanged);
            }
            let watched = self.state.watched();
            self.confinement.warn_of(&watched);
            self.watch.set_paths(watched);
            self.warn_of_expiry();
        }
        if self.expiry_looked_at.elapsed() > EXPIRY_INTERVAL {
            self.warn_of_expiry();
        }
        self.pressure.look();
    }

    fn warn_of_expiry(&mut self) {
        self.expiry_looked_at = Instant::now();
        self.state.warn_of_expiry();
    }
}
