//! What becomes of a query: answered from the table, refused, or passed on.
//!
//! It does not know sockets of clients.

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Instant;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use tokio::sync::Semaphore;

use super::forwarder::{Forwarded, Forwarder, Via};
use super::names::{Names, Unlisted};
use super::refusals::Refusals;
use super::stats::{Counted, DnsStats, Outcome};
use crate::control::resolve::NameServers;
use crate::dns::about;
use crate::dns::answer::{self, LARGEST, Reason};
use crate::dns::name_table::{Found, is_within};
use crate::dns::query::{ClientEdns, ClientQuery, Received};
use crate::dns::resolv_conf::ResolvConf;
use crate::flow::Hostname;
use crate::observe::Exposition;

/// Queries that may wait for a name server at once.
pub const MAX_IN_FLIGHT: usize = 1024;
/// The largest answer from the table over UDP, whatever a client says that it takes.
const LARGEST_OVER_UDP: usize = 4096;

/// What answers queries.
pub struct DnsProxy {
    /// `None` before the first policy.
    names: RefCell<Option<Rc<Names>>>,
    forwarder: Forwarder,
    in_flight: Semaphore,
    pub(super) stats: DnsStats,
    refusals: RefCell<Refusals>,
}

/// What becomes of a message at first sight.
pub(super) enum Look {
    Nothing,
    Answered(Vec<u8>),
    /// A name server is asked.
    Pending(Pending),
}

/// A query on its way.
pub(super) struct Pending {
    query: ClientQuery,
    bytes: Vec<u8>,
    via: Via,
    since: Instant,
}

impl DnsProxy {
    /// Knows no name yet. At most `in_flight` queries wait at once.
    #[must_use]
    pub fn new(servers: Rc<NameServers>, in_flight: usize) -> Self {
        Self {
            names: RefCell::default(),
            forwarder: Forwarder::new(servers),
            in_flight: Semaphore::new(in_flight.clamp(1, MAX_IN_FLIGHT)),
            stats: DnsStats::default(),
            refusals: RefCell::default(),
        }
    }

    /// From now on these names are listed.
    pub fn publish(&self, names: Names) {
        *self.names.borrow_mut() = Some(Rc::new(names));
    }

    /// The names of this moment.
    #[must_use]
    pub fn names(&self) -> Option<Rc<Names>> {
        self.names.borrow().clone()
    }

    /// `resolv.conf` as it is now.
    pub(super) fn conf(&self) -> Rc<ResolvConf> {
        self.forwarder.conf()
    }

    /// Whether name servers are asked over TLS alone.
    pub(super) fn is_secure(&self) -> bool {
        self.forwarder.is_secure()
    }

    /// Closes what is no longer needed, and says what was not said one by one.
    pub(super) fn sweep(&self) {
        self.forwarder.sweep();
        self.refusals.borrow_mut().report();
    }

    /// Adds the listener's metrics.
    pub fn render(&self, out: &mut Exposition) {
        self.stats.render(out);
        self.refusals.borrow().render(out);
    }

    pub(super) fn look(&self, bytes: &[u8], via: Via) -> Look {
        let since = Instant::now();
        let answered = |outcome, answer| {
            self.stats.count(outcome, since.elapsed());
            Look::Answered(answer)
        };
        let query = match Received::read(bytes) {
            Received::Dropped => return Look::Nothing,
            Received::Unfit { id, op_code, code } => {
                return answered(Outcome::Error, answer::unfit(id, op_code, code));
            }
            Received::Query(query) => query,
        };
        if about::is_asked(&query.question) {
            return answered(Outcome::Table, answer::about(&query, about::TEXT));
        }
        let names = self.names.borrow();
        let Some(names) = names.as_deref() else {
            let answer = answer::code(&query, ResponseCode::ServFail, Some(Reason::NotReady));
            return answered(Outcome::Error, answer);
        };
        match self.answer_from_table(names, &query, via) {
            Some((outcome, answer)) => answered(outcome, answer),
            None => Look::Pending(Pending { query, bytes: bytes.to_vec(), via, since }),
        }
    }

    /// `None`: a name server is to say.
    fn answer_from_table(&self, names: &Names, query: &ClientQuery, via: Via) -> Option<(Outcome, Vec<u8>)> {
        let conf = self.forwarder.conf();
        let host = query.host();
        let found = host.as_deref().map_or(Found::Unlisted, |host| names.table.find(host, &conf.search));
        match found {
            Found::Addresses { ips, alias } => {
                let ips: Vec<IpAddr> = match query.kind() {
                    RecordType::A => rotated(ips.iter().filter(|ip| ip.is_ipv4()), query.id),
                    RecordType::AAAA => rotated(ips.iter().filter(|ip| ip.is_ipv6()), query.id),
                    // Hints of addresses, or a key to hide the server's name with, would lead round the policy.
                    RecordType::HTTPS | RecordType::SVCB => Vec::new(),
                    _ => return None,
                };
                Some(match query.edns {
                    ClientEdns::Unreadable => (Outcome::Error, answer::code(query, ResponseCode::FormErr, None)),
                    ClientEdns::OtherVersion => (Outcome::Error, answer::code(query, ResponseCode::NoError, None)),
                    ClientEdns::Absent | ClientEdns::Known { .. } => {
                        let limit = match via {
                            Via::Udp => query.udp_payload().min(LARGEST_OVER_UDP),
                            Via::Tcp => LARGEST,
                        };
                        (Outcome::Table, answer::addresses(query, alias.as_ref(), &ips, limit))
                    }
                })
            }
            Found::Elsewhere => None,
            Found::Unlisted => {
                let refuses = names.unlisted == Unlisted::Refused;
                let in_cluster = || {
                    let search = conf.search.iter().map(Hostname::as_str);
                    host.as_deref().is_some_and(|host| is_within(host, search.chain(["cluster.local"])))
                };
                if !refuses || in_cluster() {
                    return None;
                }
                self.refusals.borrow_mut().note(&query.question);
                Some((Outcome::Refused, answer::code(query, ResponseCode::NXDomain, Some(Reason::Prohibited))))
            }
        }
    }

    /// Asks a name server.
    pub(super) async fn finish(&self, Pending { query, bytes, via, since }: Pending) -> Vec<u8> {
        let failed = |reason| answer::code(&query, ResponseCode::ServFail, Some(reason));
        let Ok(_permit) = self.in_flight.try_acquire() else {
            self.stats.count(Outcome::Error, since.elapsed());
            return failed(Reason::NotReady);
        };
        let _counted = Counted::one(&self.stats.in_flight);
        let asked = Forwarded { query: &bytes, question_end: query.question_end, via };
        match self.forwarder.forward(&asked).await {
            Ok(answer) => {
                self.stats.count(Outcome::Forwarded, since.elapsed());
                let fits = via == Via::Tcp || answer.len() <= query.udp_payload();
                // A server that was asked over TCP does not know what the client takes.
                if fits { answer } else { answer::cut(&query) }
            }
            Err(error) => {
                tracing::debug!(name = %query.question.name, %error, "a DNS query has no answer");
                self.stats.count(Outcome::Error, since.elapsed());
                failed(Reason::NoReachableAuthority)
            }
        }
    }
}

/// Another one is first each time, so that clients which take the first spread out.
fn rotated<'i>(ips: impl Iterator<Item = &'i IpAddr>, id: u16) -> Vec<IpAddr> {
    let mut ips: Vec<IpAddr> = ips.copied().collect();
    if !ips.is_empty() {
        let first = usize::from(id) % ips.len();
        ips.rotate_left(first);
    }
    ips
}
