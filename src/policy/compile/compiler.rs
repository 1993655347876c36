//! Resources → table. Walks the ServiceEntries that the workload sees, oldest first, and lets each port of each host
//! claim the flows that Istio would give it; a port that wins anything becomes a cluster.
//!
//! What cannot be computed (key material, addresses of names) is asked of [`Materials`]. Whatever a cluster lacks
//! refuses that cluster alone: the table is always made.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::config::{ByteRoute, ConnectPolicy, HostPattern, Problem, Resources, ServiceEntry};
use crate::policy::compile::index::{Index, byte_services};
use crate::policy::compile::materials::Materials;
use crate::policy::compile::select::authorization_policies::AuthorizationPolicies;
use crate::policy::compile::select::delegates::merged;
use crate::policy::compile::select::imports::imported;
use crate::policy::compile::select::names::short_names;
use crate::policy::compile::select::routed_away::RoutedAway;
use crate::policy::compile::select::rules::Rules;
use crate::policy::compile::select::scope::{Workload, oldest_first, outbound_policy, sidecar};
use crate::policy::lint;
use crate::policy::lint::problems::Problems;
use crate::policy::service::{PayloadKind, Service, is_served};
use crate::policy::table::cluster::{Cluster, Source};
use crate::policy::table::listener_matches::ClusterId;
use crate::policy::table::must_sniff::MustSniff;
use crate::policy::table::policy_table::PolicyTable;
use crate::policy::table::unlisted_port::UnlistedPort;

/// The table for one workload, and everything in the resources that will surprise its operator, in file order.
pub fn compile(
    resources: &Resources,
    workload: &Workload,
    materials: &mut dyn Materials,
) -> (PolicyTable, Vec<Problem>) {
    let merged = merged(resources, workload);
    let resources = merged.as_ref().map_or(resources, |merged| &merged.resources);
    let seen = sidecar(resources, workload).and_then(|sidecar| imported(resources, sidecar, workload));
    let (table, mut problems) = Compiler::of(seen.as_ref().unwrap_or(resources), workload, materials).finish();
    if let Some(merged) = &merged {
        merged.tell(&mut problems);
    }
    (table, problems.into_sorted())
}

pub(in crate::policy) struct Compiler<'a> {
    pub(in crate::policy) workload: &'a Workload,
    pub(in crate::policy) materials: &'a mut dyn Materials,
    pub(in crate::policy) rules: Rules<'a>,
    pub(in crate::policy) authorization_policies: AuthorizationPolicies<'a>,
    pub(in crate::policy) table: PolicyTable,
    pub(in crate::policy) problems: Problems,
    /// Every host that some entry has, for rules that speak for none.
    pub(in crate::policy) hosts: HashSet<HostPattern>,
    /// Those of them that plain requests can go to.
    pub(in crate::policy) hosts_of_requests: HashSet<HostPattern>,
    pub(in crate::policy) index: Index<'a>,
    pub(in crate::policy) routed_away: RoutedAway,
    /// Routes for bytes that have claimed something; a claim's route is the position here, and then in the table.
    pub(in crate::policy) pending: Vec<PendingRoute<'a>>,
    /// Clusters made for such routes, by name and whether they carry the application's TLS.
    pub(in crate::policy) carrying: HashMap<(String, bool), Arc<Cluster>>,
    /// Routes that have claimed something.
    pub(in crate::policy) used: HashSet<*const ByteRoute>,
}

/// A route that some matches are claimed for, to be compiled when all entries are known.
pub(in crate::policy) struct PendingRoute<'a> {
    pub(in crate::policy) route: &'a ByteRoute,
    pub(in crate::policy) source: Source,
    pub(in crate::policy) own: ClusterId,
    pub(in crate::policy) port: u16,
    pub(in crate::policy) payload: PayloadKind,
}

impl<'a> Compiler<'a> {
    /// Everything is added, and nothing finished.
    pub(in crate::policy) fn of(
        resources: &'a Resources,
        workload: &'a Workload,
        materials: &'a mut dyn Materials,
    ) -> Self {
        let mut problems = Problems::new(resources.incomplete);
        let rules = Rules::visible(resources, workload, &mut problems);
        let mut settings = resources.settings.clone();
        settings.outbound_traffic_policy = outbound_policy(resources, workload);
        let mut entries = oldest_first(&resources.service_entries, |entry| &entry.meta);
        entries.retain(|entry| workload.sees(workload.namespace_of(&entry.meta), &entry.export_to));
        let short_names = Arc::new(short_names(&entries, &resources.virtual_services, workload));
        let authorization_policies = AuthorizationPolicies::visible(resources, workload, &short_names, &mut problems);
        let elsewhere = authorization_policies.everything();
        let automatic = materials.automatic_hosts().into_iter();
        let automatic = automatic.map(|(ip, host)| (ip, UnlistedPort::of(&host))).collect();
        let table = PolicyTable { settings, short_names, automatic, elsewhere, ..PolicyTable::default() };
        let mut compiler = Compiler {
            workload,
            materials,
            rules,
            authorization_policies,
            table,
            problems,
            hosts: HashSet::new(),
            hosts_of_requests: HashSet::new(),
            index: Index::new(&entries, byte_services(&resources.virtual_services, workload), workload),
            routed_away: RoutedAway::of(&resources.virtual_services, workload),
            pending: Vec::new(),
            carrying: HashMap::new(),
            used: HashSet::new(),
        };
        for entry in &entries {
            compiler.add_entry(entry);
        }
        compiler.link_weighted_routes();
        compiler.add_virtual_services(&resources.virtual_services);
        compiler
    }

    fn finish(mut self) -> (PolicyTable, Problems) {
        self.rules.warn_of_the_unused(&self.hosts, &mut self.problems);
        self.authorization_policies.warn_of_the_unused(&mut self.problems);
        self.table.must_sniff = MustSniff::of(&self.table.clusters, &self.table.services, self.materials);
        self.table.tunnel_ends.add_weighted_routes(&self.table.weighted_routes);
        (self.table, self.problems)
    }

    fn add_entry(&mut self, entry: &'a ServiceEntry) {
        lint::of_entry(entry, &mut self.problems);
        let namespace = self.workload.namespace_of(&entry.meta);
        for host in entry.hosts.iter().filter(|host| **host != HostPattern::Any) {
            self.hosts.insert(host.clone());
            if lint::has_requests(entry) {
                self.hosts_of_requests.insert(host.clone());
            }
            for port in entry.ports.iter().filter(|port| is_served(entry, port)) {
                let rule = self.rules.select(host, namespace, port.number);
                let policy = rule.and_then(|(rule, _)| Some(rule.traffic_policy.as_ref()?.of_port(port.number)));
                if !self.routed_away.is(host, port.number) {
                    self.rules.warn_of_hidden_tls(host, namespace, port, &mut self.problems);
                }
                self.add_service(&Service { entry, host, port, rule, policy });
            }
        }
    }

    pub(in crate::policy) fn add_cluster(&mut self, host: &HostPattern, cluster: Cluster) -> Arc<Cluster> {
        let cluster = Arc::new(cluster);
        self.index.remember(&cluster);
        if self.table.settings.connect_policy != ConnectPolicy::Deny {
            self.table.tunnel_ends.add(host, &cluster);
        }
        self.table.clusters.push(Arc::clone(&cluster));
        cluster
    }
}
