//! From a policy to what the listener says: automatic addresses given and kept, the table of names published.
//!
//! It is asked before a policy is compiled, which needs the addresses, and after it is published.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;

use ipnet::IpNet;

use super::names::Names;
use super::proxy::DnsProxy;
use super::routes;
use super::state_file::StateFile;
use crate::config::{DnsPolicy, OutboundPolicy, Resources};
use crate::dns::automatic_addresses::{AutomaticAddresses, AutomaticRanges};
use crate::policy::{AskedFamilies, Workload, for_each_listed_host};

/// What the policy has to say to the listener.
pub struct Listed {
    automatic: RefCell<AutomaticAddresses>,
    state: RefCell<Option<StateFile>>,
    proxy: Rc<DnsProxy>,
}

impl Listed {
    /// Goes on with the addresses that `state` has from an earlier process.
    #[must_use]
    pub fn new(proxy: Rc<DnsProxy>, state: Option<StateFile>) -> Self {
        let automatic = state.as_ref().map(StateFile::addresses).unwrap_or_default();
        Self { automatic: RefCell::new(automatic), state: RefCell::new(state), proxy }
    }

    /// Gives every eligible host of the resources its addresses; what could not be given, in words for an operator.
    pub fn assign(&self, resources: &Resources, workload: &Workload, wanted: AutomaticRanges) -> Vec<String> {
        let (mut hosts, mut reserved) = (BTreeMap::<String, Vec<IpAddr>>::new(), Vec::<IpNet>::new());
        for_each_listed_host(resources, workload, |listed| {
            reserved.extend(&listed.entry.addresses);
            if listed.is_eligible() {
                let host = listed.host.to_string();
                let given = listed.entry.status_addresses.iter().filter(|given| given.host == host);
                let ips: Vec<IpAddr> = given.map(|given| given.value).collect();
                hosts.entry(host).or_default().extend(ips);
            }
        });
        let (ranges, mut problems) = routes::without_overlaps(wanted);
        let mut automatic = self.automatic.borrow_mut();
        let assigned = automatic.assign(ranges, &hosts, &reserved);
        problems.extend(assigned.exhausted.iter().map(|exhausted| format!("automatic addresses: {exhausted}")));
        if let Some(state) = self.state.borrow_mut().as_mut() {
            state.append(&assigned.changed);
        }
        problems
    }

    /// The addresses as they are given now.
    pub fn automatic(&self) -> std::cell::Ref<'_, AutomaticAddresses> {
        self.automatic.borrow()
    }

    /// Tells the listener of the policy that is in force now.
    /// `policy` is the workload's.
    pub fn publish(&self, resources: &Resources, workload: &Workload, policy: OutboundPolicy, families: AskedFamilies) {
        let names = Names::of(resources, workload, &self.automatic.borrow(), families);
        let refuses = resources.settings.dns_policy == DnsPolicy::AnswerListedOnly;
        if refuses && policy != OutboundPolicy::RegistryOnly {
            tracing::warn!("dnsPolicy ANSWER_LISTED_ONLY has no effect: it needs outboundTrafficPolicy REGISTRY_ONLY");
        }
        self.proxy.publish(if refuses { names.answering_listed_only(policy) } else { names });
    }
}
