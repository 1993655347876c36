//! What the resolver holds of one name: its cell, what was learnt, who wants it. It does not know how names are looked up.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::precedence;
use super::record::Record;
use crate::flow::Hostname;
use crate::policy::publish::Addresses;
use crate::proxy::Answer;

/// How long an application may go on using an address after the answer that gave it has ended.
const GRACE: Duration = Duration::from_secs(300);
/// Addresses remembered of a name whose answers keep changing.
const MAX_RECENT: usize = 1024;

/// A name that nobody asked for during this time is not looked up again.
pub(super) const IDLE: Duration = Duration::from_secs(300);

/// A name, as long as the policy or a worker wants it. Dropping it ends its lookups.
pub(super) struct Entry {
    pub(super) cell: Addresses,
    /// With those that answers had until a while ago; made when somebody asks.
    pub(super) bound: Option<Addresses>,
    pub(super) recent: HashMap<IpAddr, Instant>,
    pub(super) record: Record,
    pub(super) expires: Option<Instant>,
    pub(super) settled: bool,
    /// Whether the policy has the name.
    pub(super) listed: bool,
    /// Whether workers have asked for it.
    pub(super) asked: Option<Asked>,
    task: AbortHandle,
}

/// That workers have asked for a name.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) last: Instant,
    pub(super) waiting: Vec<oneshot::Sender<Answer>>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Entry {
    /// `task` looks the name up; it ends with the entry.
    pub(super) fn new(task: AbortHandle) -> Self {
        Self {
            cell: Addresses::new(Vec::new()),
            bound: None,
            recent: HashMap::new(),
            record: Record::default(),
            expires: None,
            settled: false,
            listed: false,
            asked: None,
            task,
        }
    }

    /// Publishes another set of addresses, or another order of the two families, which this host's own addresses and routes
    /// decide. Within a family the order stays: servers rotate theirs with each answer, and following them would move a
    /// DNS_ROUND_ROBIN endpoint away from its warm connections with each answer too.
    pub(super) fn publish(&mut self, protected: &[IpNet], source_of: fn(IpAddr) -> Option<IpAddr>) {
        let is_protected = |ip: &IpAddr| protected.iter().any(|network| network.contains(ip));
        let (refused, addresses): (Vec<_>, Vec<_>) = self.record.addresses().into_iter().partition(is_protected);
        if let (Some(ip), true) = (refused.first(), addresses.is_empty()) {
            let why = format!("refused {ip}: only a ServiceEntry that lists it leads to a protected address");
            self.record.error.get_or_insert(why);
        }
        self.remember(&addresses);
        let set = |ips: &[IpAddr]| ips.iter().copied().collect::<HashSet<_>>();
        let before = self.cell.load_full();
        let now = if set(&before) == set(&addresses) { before.to_vec() } else { addresses };
        let ordered = precedence::order(now, source_of);
        if *before != ordered {
            self.cell.publish(ordered);
        }
    }

    /// Keeps what answers gave for as long as they said and [`GRACE`] beyond; the oldest goes where there are many.
    fn remember(&mut self, addresses: &[IpAddr]) {
        let now = Instant::now();
        let until = self.expires.unwrap_or(now).max(now) + GRACE;
        self.recent.retain(|_, until| *until > now);
        for ip in addresses {
            self.recent.insert(*ip, until);
        }
        while self.recent.len() > MAX_RECENT
            && let Some(oldest) = self.recent.iter().min_by_key(|(_, until)| **until).map(|(ip, _)| *ip)
        {
            self.recent.remove(&oldest);
        }
        if let Some(bound) = &self.bound {
            let now: HashSet<IpAddr> = self.recent.keys().copied().collect();
            if bound.load().iter().copied().collect::<HashSet<_>>() != now {
                bound.publish(now.into_iter().collect());
            }
        }
    }

    /// One line when lookups begin to fail otherwise than before, one when they work again.
    pub(super) fn report(&self, name: &Hostname, before: Option<&str>) {
        match self.record.error.as_deref() {
            after if after == before => {}
            None => tracing::info!(%name, addresses = ?self.cell.load(), "the name resolves again"),
            Some(error) if self.cell.load().is_empty() => {
                let until = "the name does not resolve; connections that need its addresses are refused until it does";
                tracing::warn!(%name, error, "{until}");
            }
            Some(error) => tracing::warn!(%name, error, "the lookup failed; keeping the last good addresses"),
        }
    }

    /// Whether the policy has the name, or workers still ask for it.
    pub(super) fn is_wanted(&self) -> bool {
        self.listed || self.asked.as_ref().is_some_and(|asked| asked.last.elapsed() < IDLE)
    }

    /// Tells those who wait that the first look-up is over.
    pub(super) fn tell_askers(&mut self) {
        let waiting = self.asked.as_mut().map(|asked| std::mem::take(&mut asked.waiting)).unwrap_or_default();
        for answer in waiting {
            // A worker that no longer waits needs no answer.
            let _ = answer.send(Ok(self.cell.clone()));
        }
    }
}
