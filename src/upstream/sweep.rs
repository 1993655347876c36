//! What becomes of a connection between two requests: it is kept, looked over while it waits, and let go.

use std::collections::HashSet;
use std::rc::Rc;
use std::time::Duration;

use super::Upstreams;
use super::carrier::Carrier;
use super::in_use::{Bond, expiry};
use super::target::Target;
use crate::io;
use crate::policy::{PolicyTable, Transport};

/// How often idle connections are looked over while there are any.
const INTERVAL: Duration = Duration::from_secs(1);

impl Upstreams {
    /// Takes a connection back after a complete exchange, to be used again if its limits allow. `keeps_for` is how long
    /// its server says that it keeps it open.
    ///
    /// # Panics
    /// It carries somebody's identity.
    pub fn give_back(self: &Rc<Self>, carrier: Carrier<'_>, target: &Target<'_>, keeps_for: Option<Duration>) {
        // A stream is over with its request; its connection is the pool's already.
        let Carrier::Http1(used) = carrier else { return };
        assert!(used.bond == Bond::Free, "a connection that is somebody's own is never given to others");
        let limits = target.limits();
        let spent =
            limits.and_then(|l| l.max_requests_per_connection).is_some_and(|most| used.connection.requests >= most);
        let now = io::now();
        let expires = expiry(now, used.connection.since, limits, keeps_for);
        if spent || expires <= now {
            return used.connection.stream.close();
        }
        let share = used.connection.stream.share().map(Rc::clone);
        self.pool.borrow_mut().put(used.connection, now, expires);
        if let Some(share) = share {
            share.release();
        }
        self.sweep();
    }

    /// Looks idle connections over from now on, as long as there are any.
    pub(super) fn sweep(self: &Rc<Self>) {
        if !self.is_sweeping.replace(true) {
            let upstreams = Rc::clone(self);
            io::spawn(async move { upstreams.sweep_while_needed().await });
        }
    }

    /// Lets go of idle connections that were closed by their server or are too old.
    async fn sweep_while_needed(&self) {
        while !self.pool.borrow().is_empty() {
            io::sleep(INTERVAL).await;
            self.pool.borrow_mut().sweep(io::now());
        }
        self.is_sweeping.set(false);
    }

    /// `table` is in force: idle connections that no profile of it would have made are let go, and what else only older
    /// policies used is forgotten.
    pub fn policy_changed(&self, table: &PolicyTable) {
        let profiles = table.clusters().iter().filter_map(|cluster| match &cluster.transport {
            Transport::Tls(profile) => Some(profile.digest()),
            Transport::Plaintext | Transport::Refused(_) => None,
        });
        let current = profiles.collect::<HashSet<_>>();
        self.pool.borrow_mut().retain_profiles(&current);
        self.configs.borrow_mut().retain(|(digest, _), _| current.contains(digest));
        self.choices.borrow_mut().clear();
        self.admission.forget_unused();
        self.balancer.borrow_mut().forget_tables();
    }
}
