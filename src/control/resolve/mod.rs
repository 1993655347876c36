//! Names to addresses, kept current: one task a name looks it up ahead of the end of each answer and publishes what
//! changed into the cell that the policy table holds.
//!
//! The resolver does not know what the names are for. Lookups are bounded, so that ten thousand names are not ten
//! thousand datagrams at once. Everything runs on the thread that made the resolver, inside a tokio `LocalSet`
//! (tokio-uring's runtime is one); the queries leave with the process's own uid, which the redirect rules let pass.

mod entry;
mod exchange;
mod lookup;
mod name_servers;
mod on_demand;
mod precedence;
mod record;
mod resolver_environment;
mod schedule;
mod stream;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use ipnet::IpNet;
use tokio::sync::{Notify, Semaphore};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout};

use self::entry::Entry;
use self::record::{Next, Record};
use self::resolver_environment::Environment;
use crate::flow::Hostname;
use crate::policy::AskedFamilies;
use crate::policy::publish::Addresses;

pub use self::exchange::{random_u16, readable};
pub use self::name_servers::NameServers;
pub use self::record::Loopback;
pub use self::resolver_environment::Families;
pub use self::stream::{DnsOverTls, StreamTransport, TLS_PORT};

/// How often files and interfaces are compared when no lookup does it.
const LOOK_AROUND: Duration = Duration::from_secs(5);

/// How a [`Resolver`] works; the default is what a pod wants.
#[derive(Clone, Debug)]
pub struct ResolverOptions {
    pub resolv_conf: PathBuf,
    pub hosts: PathBuf,
    /// The wait after an answer without a TTL, and the longest after a failure or a negative answer, of which the first
    /// retries come after 1 s, 2 s, 4 s…; until [`Resolver::set_refresh_rate`] says another.
    pub refresh_rate: Duration,
    pub families: Families,
    pub loopback: Loopback,
    /// Names looked up at the same time, each with a query for each family.
    pub lookups: usize,
    /// Where name servers listen.
    pub port: u16,
    /// The address that this host would connect from.
    pub source_of: fn(IpAddr) -> Option<IpAddr>,
}

impl Default for ResolverOptions {
    fn default() -> Self {
        Self {
            resolv_conf: "/etc/resolv.conf".into(),
            hosts: "/etc/hosts".into(),
            // Istio's `dnsRefreshRate`.
            refresh_rate: Duration::from_secs(60),
            families: Families::Auto,
            loopback: Loopback::Refused,
            lookups: 64,
            port: 53,
            source_of: precedence::source_of,
        }
    }
}

/// What is known of one name, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameStatus {
    pub name: Hostname,
    pub addresses: Vec<IpAddr>,
    /// Time until the addresses are past their TTL: zero when they are (they are kept, and `last_error` says why);
    /// `None` when they come from the hosts file or there are none.
    pub expires_in: Option<Duration>,
    /// What was wrong with the latest lookup.
    pub last_error: Option<String>,
}

/// The addresses of every name that policy uses. Dropping it ends its tasks; the cells keep their last addresses.
pub struct Resolver {
    shared: Rc<Shared>,
    watcher: AbortHandle,
}

struct Shared {
    options: ResolverOptions,
    names: RefCell<BTreeMap<Hostname, Entry>>,
    /// Every name is looked up again when they change.
    servers: Rc<NameServers>,
    permits: Semaphore,
    /// As `permits`, for names that are not the policy's.
    spare_permits: Semaphore,
    /// Addresses that no answer may lead to.
    protected: RefCell<Vec<IpNet>>,
    refresh_rate: Cell<Duration>,
    /// Names without an outcome yet.
    unsettled: Cell<usize>,
    all_settled: Notify,
}

impl Resolver {
    /// Reads the files and starts to watch them.
    ///
    /// # Panics
    /// Outside a tokio `LocalSet`.
    #[must_use]
    pub fn new(options: ResolverOptions) -> Self {
        let ResolverOptions { resolv_conf, hosts, families, port, .. } = options.clone();
        let servers = Rc::new(NameServers::new(Environment::new(resolv_conf, hosts, families, port)));
        let shared = Rc::new(Shared {
            names: RefCell::default(),
            servers,
            permits: Semaphore::new(options.lookups.max(1)),
            spare_permits: Semaphore::new((options.lookups / 2).max(1)),
            protected: RefCell::default(),
            refresh_rate: Cell::new(options.refresh_rate),
            unsettled: Cell::new(0),
            all_settled: Notify::new(),
            options,
        });
        let watcher = tokio::task::spawn_local(look_around(Rc::clone(&shared))).abort_handle();
        Self { shared, watcher }
    }

    /// The cell of `name`: empty until the first answer, current from then on. The first call starts the lookups.
    pub fn cell(&self, name: &Hostname) -> Addresses {
        self.with_entry(name, |entry| entry.cell.clone())
    }

    /// As [`cell`](Self::cell), and with the addresses that answers gave until a while ago: an application that asked
    /// then may use them still.
    pub fn bound(&self, name: &Hostname) -> Addresses {
        self.with_entry(name, |entry| {
            let now = entry.recent.keys().copied().chain(entry.record.addresses()).collect();
            entry.bound.get_or_insert_with(|| Addresses::new(now)).clone()
        })
    }

    /// The families whose addresses names are asked for now.
    #[must_use]
    pub fn asked_families(&self) -> AskedFamilies {
        let asked = self.shared.servers.environment().asked();
        AskedFamilies { v4: asked != Families::V6, v6: asked != Families::V4 }
    }

    fn with_entry<T>(&self, name: &Hostname, look: impl FnOnce(&mut Entry) -> T) -> T {
        let mut names = self.shared.names.borrow_mut();
        let entry = names.entry(name.clone()).or_insert_with(|| self.shared.start(name));
        if !std::mem::replace(&mut entry.listed, true) && !entry.settled {
            self.shared.unsettled.update(|n| n + 1);
        }
        look(entry)
    }

    /// From now on no answer leads to these networks: a name that does is rebinding or a mistake.
    pub fn protect(&self, networks: &[IpNet]) {
        if *self.shared.protected.borrow() != networks {
            networks.clone_into(&mut self.shared.protected.borrow_mut());
            let source_of = self.shared.options.source_of;
            self.shared.names.borrow_mut().values_mut().for_each(|entry| entry.publish(networks, source_of));
        }
    }

    /// How often names are looked up again whose answers do not say. Another rate than before holds from now on: every name
    /// is looked up again, lest one sleeps on by the old rate.
    pub fn set_refresh_rate(&self, rate: Duration) {
        if self.shared.refresh_rate.replace(rate) != rate {
            self.shared.servers.tell();
        }
    }

    /// The name servers, for whoever asks them besides.
    #[must_use]
    pub fn name_servers(&self) -> Rc<NameServers> {
        Rc::clone(&self.shared.servers)
    }

    /// Forgets every name that is not in `names` and that no worker asks for; a cell that somebody still holds keeps its
    /// last addresses.
    pub fn retain(&self, names: &HashSet<Hostname>) {
        let mut known = self.shared.names.borrow_mut();
        known.retain(|name, entry| {
            entry.listed = names.contains(name);
            entry.is_wanted()
        });
        self.shared.unsettled.set(known.values().filter(|entry| entry.listed && !entry.settled).count());
        self.shared.tell_if_settled();
    }

    /// Waits until every name has had an answer or a failure, so that a table can be published with addresses, but no
    /// longer than `deadline`. Says how many names are still open.
    pub async fn settle(&self, deadline: Duration) -> usize {
        let all_settled = async {
            loop {
                let told = self.shared.all_settled.notified();
                if self.shared.unsettled.get() == 0 {
                    break;
                }
                told.await;
            }
        };
        // The deadline passing is an outcome like another: the count says it.
        let _ = timeout(deadline, all_settled).await;
        self.shared.unsettled.get()
    }

    /// Every name, in alphabetical order.
    #[must_use]
    pub fn snapshot(&self) -> Vec<NameStatus> {
        let now = Instant::now();
        let names = self.shared.names.borrow();
        let status = |(name, entry): (&Hostname, &Entry)| NameStatus {
            name: name.clone(),
            addresses: entry.cell.load().to_vec(),
            expires_in: entry.expires.map(|at| at.saturating_duration_since(now)),
            last_error: entry.record.error.clone(),
        };
        names.iter().map(status).collect()
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        self.watcher.abort();
        self.shared.names.borrow_mut().clear();
    }
}

/// The task of a name.
async fn keep_current(shared: Rc<Shared>, name: Hostname) {
    let mut changes = shared.servers.changes();
    loop {
        let wait = {
            let permits = if shared.is_listed(&name) { &shared.permits } else { &shared.spare_permits };
            let _permit = permits.acquire().await.expect("the semaphore is never closed");
            shared.servers.look_around();
            // What this lookup already sees must not wake it again.
            changes.mark_unchanged();
            shared.look_up(&name).await
        };
        tokio::select! {
            () = until(wait) => {}
            _ = changes.changed() => {}
        }
        let mut names = shared.names.borrow_mut();
        if !names.get(&name).is_some_and(Entry::is_wanted) {
            names.remove(&name);
            return;
        }
    }
}

async fn until(wait: Option<Duration>) {
    match wait {
        Some(wait) => sleep(wait).await,
        None => std::future::pending().await,
    }
}

/// The task that notices changes while all names sleep.
async fn look_around(shared: Rc<Shared>) {
    loop {
        sleep(LOOK_AROUND).await;
        shared.servers.look_at_interfaces();
        shared.servers.look_around();
    }
}

impl Shared {
    /// Starts the lookups of a name.
    fn start(self: &Rc<Self>, name: &Hostname) -> Entry {
        Entry::new(tokio::task::spawn_local(keep_current(Rc::clone(self), name.clone())).abort_handle())
    }

    fn is_listed(&self, name: &Hostname) -> bool {
        self.names.borrow().get(name).is_some_and(|entry| entry.listed)
    }

    /// One lookup and its consequences. Returns how long to wait; `None`: until the environment change.
    async fn look_up(&self, name: &Hostname) -> Option<Duration> {
        let view = self.servers.view();
        let (listed, families) = {
            let around = self.servers.environment();
            (around.families.of(around.hosts.addresses(name)), around.asked())
        };
        if !listed.is_empty() {
            self.learn(name, |record| {
                record.learn_hosts(&listed);
                None
            });
            return None;
        }
        let finding = lookup::look_up(&view, families, name, self.servers.turn()).await;
        // Without random numbers no query leaves, so there is nothing to spread.
        let jitter = random_u16().unwrap_or_default();
        let (loopback, rate) = (self.options.loopback, self.refresh_rate.get());
        let next = self.learn(name, |record| Some(record.learn(finding, loopback, jitter, rate)));
        next.map(|next| next.wait)
    }

    fn learn(&self, name: &Hostname, update: impl FnOnce(&mut Record) -> Option<Next>) -> Option<Next> {
        let mut names = self.names.borrow_mut();
        // Forgotten in the meantime: the abort is on its way.
        let entry = names.get_mut(name)?;
        let before = entry.record.error.clone();
        let next = update(&mut entry.record);
        match &next {
            None => entry.expires = None,
            Some(Next { lifetime: Some(lifetime), .. }) => entry.expires = Some(Instant::now() + *lifetime),
            // What is kept past a failure still ends when it ends.
            Some(Next { lifetime: None, .. }) => {}
        }
        entry.publish(&self.protected.borrow(), self.options.source_of);
        entry.report(name, before.as_deref());
        if !std::mem::replace(&mut entry.settled, true) && entry.listed {
            self.unsettled.update(|n| n - 1);
        }
        entry.tell_askers();
        self.tell_if_settled();
        next
    }

    fn tell_if_settled(&self) {
        if self.unsettled.get() == 0 {
            self.all_settled.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests;
