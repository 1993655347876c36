//! What must be known of a connection before anything is decided: the one question besides
//! [`PolicyTable::decide`], since a port where the server may speak first must be known before anything is read.
//!
//! Nothing is waited for that could change nothing, and nothing passes unread that may have to be read.

use crate::config::{ConnectPolicy, OutboundPolicy};
use crate::flow::OriginalDst;
use crate::policy::facts::{Content, Flow};
use crate::policy::table::decide::Asked;
use crate::policy::table::listener_matches::{Declared, Match, PortMatches};
use crate::policy::table::policy_table::PolicyTable;
use crate::policy::table::verdict::Verdict;

/// What is known of a connection from its original destination alone.
#[derive(Clone, Debug)]
pub enum FirstLook<'t> {
    /// Look at the first bytes, and decide then.
    Sniff(Expected),
    /// A declared TCP port, or one where nothing that the application may say could change the decision: never
    /// inspected, so that a server may speak first.
    Decided(Verdict<'t>),
}

/// What the first bytes of a connection must be looked at for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    pub declared: Declared,
    /// What the application says decides, and passing it on unread would be wrong: it has time to say it.
    pub must_be_read: bool,
}

impl PolicyTable {
    /// What may be done before the first byte; `random` as in [`decide`](Self::decide). Where no entry has the address and
    /// port, that depends on whether any byte could change what becomes of the connection.
    #[must_use]
    pub fn first_look(&self, dst: OriginalDst, random: u64) -> FirstLook<'_> {
        let flow = &Flow { destination: dst, content: Content::Silence };
        let asked = |found| Asked { flow, host: None, found };
        let (routes, to) = (self.ports.get(&dst.port()), self.dialled(dst));
        match routes.map_or(Some(Match::Unknown), |routes| routes.uninspected(to)) {
            // Nobody is there, and no name that the application could say leads on.
            Some(Match::Unknown) if to.stands_for_a_host && !routes.is_some_and(PortMatches::has_names) => {
                FirstLook::Decided(self.settle(&asked(Match::Unknown), random))
            }
            Some(Match::Unknown) if !to.stands_for_a_host && self.passes_unread(flow) => {
                FirstLook::Decided(self.undecided(&asked(Match::Unknown)))
            }
            // Looked at also where it is refused in any case, so that HTTP gets an answer that says why.
            Some(Match::Unknown) | None => {
                let declared = routes.map(|routes| routes.declared(to)).unwrap_or_default();
                let unread = asked(self.on_port(dst, |routes| routes.bytes(to)));
                let must_be_read = declared.http || self.needs_bytes(&unread, routes);
                FirstLook::Sniff(Expected { declared, must_be_read })
            }
            Some(found) => FirstLook::Decided(self.settle(&asked(found), random)),
        }
    }

    /// Whether only a name can allow the connection, or it may be one that must not pass unread.
    fn needs_bytes(&self, unread: &Asked<'_>, routes: Option<&PortMatches>) -> bool {
        let dst = unread.flow.destination;
        let is_refused = self.is_forbidden(unread)
            || match unread.found {
                Match::Cluster(id) => self.check_destination(&self.clusters[id], dst).is_err(),
                Match::Unknown => {
                    self.dialled(dst).stands_for_a_host
                        || self.settings.outbound_traffic_policy == OutboundPolicy::RegistryOnly
                }
                Match::Weighted(_) => false,
            };
        if is_refused {
            return routes.is_some_and(PortMatches::has_names);
        }
        // Asked last, since it looks at each host of the port.
        unread.found == Match::Unknown && self.must_sniff.why(dst, routes.is_some()).is_some()
    }

    /// Whether a connection that no entry has passes whatever it says, so that nobody need wait for its first byte. Its
    /// bytes are needed where they could change that: names to be looked up (`ALLOW_ANY_DYNAMIC_DNS`), tunnels to be
    /// judged (`connectPolicy: REGISTRY_ONLY`), AuthorizationPolicies with a condition that is not fulfilled or failed by
    /// address and port alone, and hosts of this port whose requests leave as TLS, or are judged.
    fn passes_unread(&self, flow: &Flow<'_>) -> bool {
        let dst = flow.destination;
        self.settings.outbound_traffic_policy == OutboundPolicy::AllowAny
            && self.settings.connect_policy == ConnectPolicy::Deny
            && self.elsewhere.as_ref().is_none_or(|all| all.allows_whatever_follows(flow))
            && self.must_sniff.why(dst, self.ports.contains_key(&dst.port())).is_none()
    }

    /// Why a flow that no entry has must not pass, in one word for the access log: requests to a host there must leave as
    /// TLS, or are judged, and it may be one from an HTTP client that connects early and speaks late, one in HTTP/2, or one
    /// that is written so that only its server takes it for one. HTTP/1.0 without Host names nobody, like bytes that cannot
    /// be read: it does not pass where those would not.
    pub(in crate::policy) fn unreadable(&self, flow: &Flow<'_>) -> Option<&'static str> {
        let dst = flow.destination;
        match flow.content {
            Content::Undecided | Content::Opaque => {}
            Content::Request(request) if request.authority.is_empty() => {
                let bytes = self.on_port(dst, |routes| routes.bytes(self.dialled(dst)));
                if bytes != Match::Unknown {
                    return None;
                }
            }
            // A server that speaks first, TLS that stays encrypted, and what says where it goes.
            Content::Silence | Content::Tls(_) | Content::Request(_) | Content::Connect(..) => return None,
        }
        self.must_sniff.why(dst, self.ports.contains_key(&dst.port()))
    }
}
