//! From files to a published policy table, again and again. A reload that fails changes nothing.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::config::{self, HostPattern, Problem, Resources, Settings, SettingsOverrides, Severity};
use crate::control::dns::{Listed, NameServerTransport};
use crate::control::resolve::Resolver;
use crate::control::restart::{self, Waiting};
use crate::control::watch::at_rest;
use crate::dns::automatic_addresses::AutomaticRanges;
use crate::flow::Hostname;
use crate::policy::publish::{Addresses, Published};
use crate::policy::{
    AskedFamilies, Health, Materials, NOT_FOR_THIS_WORKLOAD, Occupancy, PolicyTable, Workload, compile, take_unjudged,
};
use crate::tls::{ClientProfile, ProfileRequest, Store};

/// Longest wait for the first answers to new names before a table is published without them.
const SETTLE: Duration = Duration::from_secs(5);

/// Everything a table is made from.
pub struct Sources {
    pub config: Vec<PathBuf>,
    pub workload: Workload,
    pub overrides: SettingsOverrides,
}

/// What the latest reloads came to, for people.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// Tables published so far; 0 before the first.
    pub version: u64,
    pub failures: u64,
    /// Errors and warnings of the latest reload.
    pub problems: Vec<Problem>,
    /// When the table in force was published; `None` before the first.
    pub loaded_at: Option<Timestamp>,
    /// Those of the table in force.
    pub warnings: Vec<Problem>,
    /// The latest reload that changed nothing, also when a later one did.
    pub failed: Option<Failed>,
    /// Values that the latest usable files have and the process does not.
    pub waiting: Vec<Waiting>,
}

/// A reload that changed nothing.
#[derive(Clone, Debug)]
pub struct Failed {
    pub at: Timestamp,
    /// Its errors.
    pub problems: Vec<Problem>,
}

impl Status {
    /// What is wrong with the files as they are now; `None` when the table in force was made from them.
    #[must_use]
    pub fn error(&self) -> Option<String> {
        let errors = self.problems.iter().filter(|problem| problem.severity == Severity::Error);
        let texts: Vec<_> = errors.map(ToString::to_string).collect();
        (!texts.is_empty()).then(|| texts.join("; "))
    }
}

/// What outlives tables, by the names of clusters.
type ByCluster<T> = HashMap<String, Arc<T>>;

/// Makes tables and publishes them.
pub struct Reloader {
    sources: Sources,
    store: Store,
    resolver: Resolver,
    listed: Listed,
    transport: NameServerTransport,
    occupancies: ByCluster<Occupancy>,
    healths: ByCluster<Health>,
    table: Option<Published<PolicyTable>>,
    status: Status,
    /// What the table in force was made from: credentials go on being replaced while a file is broken.
    good: Option<Rc<Resources>>,
    /// Warnings of the files that it was made from.
    read: Vec<Problem>,
    /// The settings of the first table: the workers are started by them.
    started: Option<Settings>,
}

impl Reloader {
    #[must_use]
    pub fn new(sources: Sources, store: Store, resolver: Resolver, listed: Listed) -> Self {
        let (occupancies, healths) = (HashMap::new(), HashMap::new());
        Self {
            sources,
            store,
            resolver,
            listed,
            transport: NameServerTransport::default(),
            occupancies,
            healths,
            table: None,
            status: Status::default(),
            good: None,
            read: Vec::new(),
            started: None,
        }
    }

    /// Reads everything anew. With an error in any file the policy in force stays, and the problems say why; only its
    /// credentials are replaced, which must not expire because of a typing error elsewhere. Otherwise the new table is
    /// published once its names have had an answer. True when one was.
    pub async fn reload(&mut self) -> bool {
        let begun = Instant::now();
        let loaded = at_rest(&self.sources.config, || config::load(&self.sources.config));
        let (mut problems, mut resources) = (loaded.problems, loaded.resources);
        problems.extend(take_unjudged(&mut resources, std::slice::from_ref(&self.sources.workload), true));
        if has_errors(&problems) {
            self.keep(problems);
            return self.replace_credentials().await;
        }
        self.sources.overrides.apply(&mut resources.settings);
        if let Err(message) = resources.settings.check() {
            problems.push(Problem { severity: Severity::Error, at: resources.settings_at, message });
            self.keep(problems);
            return self.replace_credentials().await;
        }
        problems.extend(self.hold_what_needs_a_restart(&mut resources));
        self.store.set_minimum(resources.settings.min_tls_version);
        self.store.refresh(&resources.secrets);
        let read = begun.elapsed();
        self.read.clone_from(&problems);
        problems.extend(self.publish(&resources).await);
        tracing::debug!(?read, whole = ?begun.elapsed(), "reloaded");
        report(&problems);
        self.status.warnings.clone_from(&problems);
        self.status.problems = problems;
        self.good = Some(Rc::new(resources));
        true
    }

    /// What cannot change while the process runs stays as it is; gives a warning for each such value.
    fn hold_what_needs_a_restart(&mut self, resources: &mut Resources) -> Vec<Problem> {
        let started = self.started.get_or_insert_with(|| resources.settings.clone());
        self.status.waiting = restart::hold(started, &mut resources.settings, resources.settings_at.as_ref());
        self.status.waiting.iter().map(Waiting::warning).collect()
    }

    /// Publishes the policy in force again if the files of its credentials have changed. Secrets that are documents
    /// stay: they stand in the files that are broken.
    async fn replace_credentials(&mut self) -> bool {
        let Some(resources) = self.good.clone() else { return false };
        let changed = self.store.refresh(&resources.secrets).changed;
        if changed {
            let problems = self.publish(&resources).await;
            report(&problems);
            self.status.warnings = [&self.read[..], &problems].concat();
        }
        changed
    }

    /// Compiles and publishes a table; gives what will surprise the operator.
    async fn publish(&mut self, resources: &Resources) -> Vec<Problem> {
        self.store.begin_round();
        let mut names = HashSet::new();
        let begun = Instant::now();
        let settings = &resources.settings;
        let ranges =
            AutomaticRanges { v4: settings.ip_autoallocate_ipv4_prefix.0, v6: settings.ip_autoallocate_ipv6_prefix.0 };
        let mut refused = self.listed.assign(resources, &self.sources.workload, ranges);
        refused.extend(self.transport.apply(settings, &mut self.store, &self.resolver.name_servers()));
        let (table, mut problems) = self.compile(resources, &mut names);
        // A folder may serve all pods of a namespace, and this would be told in each of them.
        problems.retain(|problem| !problem.message.starts_with(NOT_FOR_THIS_WORKLOAD));
        problems.extend(refused.into_iter().map(warning));
        let table_policy = table.settings().outbound_traffic_policy;
        let compiled = begun.elapsed();
        self.resolver.protect(table.protected());
        self.resolver.set_refresh_rate(resources.settings.dns_refresh_rate);
        problems.extend(self.store.problems().into_iter().map(warning));
        let open = self.resolver.settle(SETTLE).await;
        if open > 0 {
            tracing::warn!(names = open, "names without an answer yet; requests to them get 503 until there is one");
        }
        self.status.version += 1;
        let table = table.with_version(self.status.version);
        self.status.loaded_at = Some(Timestamp::now());
        let clusters = table.clusters().len();
        tracing::info!(version = self.status.version, clusters, ?compiled, "policy published");
        match &self.table {
            Some(published) => published.publish(table),
            None => self.table = Some(Published::new(table)),
        }
        let (policy, families) = (table_policy, self.resolver.asked_families());
        self.listed.publish(resources, &self.sources.workload, policy, families);
        self.resolver.retain(&names);
        self.store.end_round();
        problems
    }

    fn compile(&mut self, resources: &Resources, names: &mut HashSet<Hostname>) -> (PolicyTable, Vec<Problem>) {
        // Counts that no table and no open connection refers to any more.
        self.occupancies.retain(|_, counts| Arc::strong_count(counts) > 1);
        self.healths.retain(|_, health| Arc::strong_count(health) > 1);
        let (occupancies, healths) = (&mut self.occupancies, &mut self.healths);
        let mut materials = Live {
            store: &mut self.store,
            resolver: &self.resolver,
            listed: &self.listed,
            names,
            occupancies,
            healths,
        };
        compile(resources, &self.sources.workload, &mut materials)
    }

    fn keep(&mut self, problems: Vec<Problem>) {
        report(&problems);
        self.status.failures += 1;
        let errors = problems.iter().filter(|problem| problem.severity == Severity::Error).cloned().collect();
        self.status.failed = Some(Failed { at: Timestamp::now(), problems: errors });
        self.status.problems = problems;
        if self.table.is_some() {
            tracing::error!(version = self.status.version, "configuration not usable; the policy in force stays");
        } else {
            tracing::error!("configuration not usable; nothing is served until it is");
        }
    }

    /// The published table; `None` before the first.
    #[must_use]
    pub fn table(&self) -> Option<&Published<PolicyTable>> {
        self.table.as_ref()
    }

    /// What the table in force was made from.
    #[must_use]
    pub fn resources(&self) -> Option<&Rc<Resources>> {
        self.good.as_ref()
    }

    #[must_use]
    pub fn status(&self) -> &Status {
        &self.status
    }

    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    #[must_use]
    pub fn resolver(&self) -> &Resolver {
        &self.resolver
    }

    /// Every file and folder whose change asks for a reload.
    #[must_use]
    pub fn watched(&self) -> Vec<PathBuf> {
        let mut paths = self.sources.config.clone();
        paths.extend(self.store.watched_paths());
        paths
    }
}

fn has_errors(problems: &[Problem]) -> bool {
    problems.iter().any(|problem| problem.severity == Severity::Error)
}

/// Credentials that cannot be used concern their destination alone, so they keep no table from being published.
fn warning(message: String) -> Problem {
    Problem { severity: Severity::Warning, at: None, message }
}

fn report(problems: &[Problem]) {
    for problem in problems {
        match problem.severity {
            Severity::Error => tracing::error!("{problem}"),
            Severity::Warning => tracing::warn!("{problem}"),
        }
    }
}

/// The running process's material: real certificates, names kept resolved.
struct Live<'l> {
    store: &'l mut Store,
    resolver: &'l Resolver,
    listed: &'l Listed,
    names: &'l mut HashSet<Hostname>,
    occupancies: &'l mut ByCluster<Occupancy>,
    healths: &'l mut ByCluster<Health>,
}

impl Materials for Live<'_> {
    fn profile(&mut self, wanted: &ProfileRequest) -> Result<Arc<ClientProfile>, String> {
        self.store.profile(wanted)
    }

    fn addresses(&mut self, name: &Hostname) -> Addresses {
        self.names.insert(name.clone());
        self.resolver.cell(name)
    }

    fn bound_addresses(&mut self, name: &Hostname) -> Addresses {
        self.names.insert(name.clone());
        self.resolver.bound(name)
    }

    fn asked_families(&self) -> AskedFamilies {
        self.resolver.asked_families()
    }

    fn automatic_addresses(&self, host: &HostPattern) -> Vec<IpAddr> {
        self.listed.automatic().of(&host.to_string()).to_vec()
    }

    fn automatic_hosts(&self) -> Vec<(IpAddr, String)> {
        self.listed.automatic().owners()
    }

    fn occupancy(&mut self, cluster: &str) -> Arc<Occupancy> {
        Arc::clone(self.occupancies.entry(cluster.to_owned()).or_default())
    }

    fn health(&mut self, cluster: &str) -> Arc<Health> {
        Arc::clone(self.healths.entry(cluster.to_owned()).or_default())
    }
}
