//! What is known of one name: the last good addresses, how a new finding changes them, when to look again.
//!
//! Pure: findings come in, addresses to publish and a time to wait go out. The rule of the module: what once worked is
//! kept until something else works. A name that stops resolving is far more often a DNS server in trouble than a
//! service that moved, and a connection to a stale address still has to pass certificate verification.

use std::net::IpAddr;
use std::time::Duration;

use super::lookup::{Finding, Half};
use super::schedule;
use crate::dns::message::Reply;

/// Whether DNS may lead to loopback. A name on the Internet that does is rebinding or a mistake, never an external
/// service; the hosts file, which is the pod's own, may say what it likes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loopback {
    Refused,
    Allowed,
}

/// So many looks in quick succession show whether the answers of a name that must not be cached are always the same: who
/// asks for himself gets others where they are not.
const UNSAID_LOOKS: u32 = 3;

/// The addresses of a name and how sure they are.
#[derive(Debug, Default)]
pub struct Record {
    v4: Vec<IpAddr>,
    v6: Vec<IpAddr>,
    /// Looks in a row that did not give all they were asked for.
    failures: u32,
    /// Good answers without a TTL, up to [`UNSAID_LOOKS`].
    unsaid: u32,
    /// What was wrong with the latest look.
    pub error: Option<String>,
}

/// When to look again, and how long the addresses are good for, if the look gave any.
#[derive(Debug, PartialEq, Eq)]
pub struct Next {
    pub wait: Duration,
    pub lifetime: Option<Duration>,
}

/// What one family's half of a finding comes to.
enum Verdict {
    NotAsked,
    Addresses(Vec<IpAddr>, Duration),
    /// "No such name" or "no address", with the server's word on how long that holds.
    Nothing(&'static str, Option<Duration>),
    Wrong(String),
}

impl Record {
    /// All addresses; which family comes first is for [`precedence`](super::precedence) to say. Within a family the order is
    /// the server's.
    pub fn addresses(&self) -> Vec<IpAddr> {
        self.v4.iter().chain(&self.v6).copied().collect()
    }

    /// Takes the hosts file's word, in the file's order.
    pub fn learn_hosts(&mut self, ips: &[IpAddr]) {
        *self = Self { v4: ips.to_vec(), ..Self::default() };
    }

    /// Takes what DNS said. `rate` is the wait after addresses without a TTL, and bounds the wait after anything but a full
    /// success.
    pub fn learn(&mut self, finding: Finding, loopback: Loopback, jitter: u16, rate: Duration) -> Next {
        let verdicts = [judge(finding.v4, loopback), judge(finding.v6, loopback)];
        let lifetimes = verdicts.iter().filter_map(Verdict::ttl).map(|ttl| schedule::lifetime(ttl, rate));
        let lifetime = lifetimes.min();
        let mut wrong: Vec<&str> = verdicts.iter().filter_map(Verdict::wrong).collect();
        // Both families usually fail for the same reason.
        wrong.dedup();
        let nothing = verdicts.iter().find_map(Verdict::nothing);

        self.error = match nothing {
            _ if !wrong.is_empty() => Some(wrong.join("; ")),
            Some((why, _)) if lifetime.is_none() => Some(why.to_owned()),
            _ => None,
        };
        self.failures = if self.error.is_some() { self.failures.saturating_add(1) } else { 0 };
        let is_unsaid = verdicts.iter().filter_map(Verdict::ttl).any(|ttl| ttl.is_zero());
        self.unsaid = if is_unsaid { (self.unsaid + 1).min(UNSAID_LOOKS) } else { 0 };
        let is_new = is_unsaid && self.unsaid < UNSAID_LOOKS;
        let renew = lifetime.map(|lifetime| if is_new { schedule::SOON } else { schedule::refresh(lifetime, jitter) });
        let wait = match (renew, nothing) {
            (Some(renew), _) if wrong.is_empty() => renew,
            (Some(renew), _) => renew.min(schedule::retry(self.failures, rate)),
            (None, Some((_, ttl))) if wrong.is_empty() => schedule::negative(ttl, self.failures, rate),
            (None, _) => schedule::retry(self.failures, rate),
        };
        let [v4, v6] = verdicts;
        v4.apply(&mut self.v4, lifetime.is_some());
        v6.apply(&mut self.v6, lifetime.is_some());
        Next { wait, lifetime }
    }
}

impl Verdict {
    fn ttl(&self) -> Option<Duration> {
        if let Verdict::Addresses(_, ttl) = self { Some(*ttl) } else { None }
    }

    fn wrong(&self) -> Option<&str> {
        if let Verdict::Wrong(why) = self { Some(why) } else { None }
    }

    fn nothing(&self) -> Option<(&'static str, Option<Duration>)> {
        if let Verdict::Nothing(why, ttl) = self { Some((why, *ttl)) } else { None }
    }

    /// "Nothing" is believed only beside addresses of the other family (`either_has`); alone, the last good stay.
    fn apply(self, known: &mut Vec<IpAddr>, either_has: bool) {
        match self {
            Verdict::Addresses(ips, _) => *known = ips,
            Verdict::NotAsked => known.clear(),
            Verdict::Nothing(..) if either_has => known.clear(),
            Verdict::Nothing(..) | Verdict::Wrong(_) => {}
        }
    }
}

fn judge(half: Half, loopback: Loopback) -> Verdict {
    match half {
        Half::NotAsked => Verdict::NotAsked,
        Half::Late => Verdict::Wrong("one address family did not answer in time".to_owned()),
        Half::Failed(e) => Verdict::Wrong(e.to_string()),
        Half::Reply(Reply::NxDomain { ttl }) => Verdict::Nothing("no such name (NXDOMAIN)", ttl),
        Half::Reply(Reply::NoData { ttl }) => Verdict::Nothing("the name has no addresses", ttl),
        Half::Reply(Reply::Addresses { ips, ttl }) => {
            let (refused, usable): (Vec<_>, Vec<_>) = ips.into_iter().partition(|ip| is_refused(*ip, loopback));
            match refused.first() {
                Some(ip) if usable.is_empty() => Verdict::Wrong(format!(
                    "refused {ip}: only the hosts file may lead to a loopback, unspecified or multicast address"
                )),
                _ => Verdict::Addresses(usable, ttl),
            }
        }
    }
}

/// Whether an address in an answer is not to be used. The unspecified address is loopback to the kernel.
fn is_refused(ip: IpAddr, loopback: Loopback) -> bool {
    let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    let local = ip.is_loopback() || ip.is_unspecified();
    ip.is_multicast() || broadcast || (local && loopback == Loopback::Refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(ips: &[&str], ttl: u64) -> Half {
        let ips = ips.iter().map(|ip| ip.parse().unwrap()).collect();
        Half::Reply(Reply::Addresses { ips, ttl: Duration::from_secs(ttl) })
    }

    fn no_data(ttl: u64) -> Half {
        Half::Reply(Reply::NoData { ttl: Some(Duration::from_secs(ttl)) })
    }

    fn no_name() -> Half {
        Half::Reply(Reply::NxDomain { ttl: None })
    }

    /// Changing answers show at the start; afterwards the rate holds. An answer with a TTL begins anew.
    #[test]
    fn an_answer_without_a_ttl_is_looked_at_three_times_in_quick_succession() {
        let mut record = Record::default();
        let waits = [0, 0, 0, 0, 100, 0, 0, 0].map(|ttl| {
            let finding = Finding { v4: has(&["192.0.2.1"], ttl), v6: no_data(5) };
            record.learn(finding, Loopback::Refused, 0, Duration::from_secs(60)).wait.as_secs()
        });
        assert_eq!(waits, [1, 1, 51, 51, 85, 1, 1, 51]);
    }

    /// One name through one round after the other: addresses, seconds to wait, lifetime, error.
    #[test]
    fn what_worked_is_kept_until_something_else_works() {
        let mut record = Record::default();
        for (what, v4, v6, addresses, wait, lifetime, error) in [
            ("unknown at first", no_name(), no_name(), "", 1, None, "no such name (NXDOMAIN)"),
            (
                "then both",
                has(&["192.0.2.2", "192.0.2.1"], 100),
                has(&["2001:db8::1"], 40),
                "192.0.2.2 192.0.2.1 2001:db8::1",
                34,
                Some(40),
                "",
            ),
            ("gone: kept", no_name(), no_name(), "192.0.2.2 192.0.2.1 2001:db8::1", 1, None, "no such name (NXDOMAIN)"),
            (
                "no data: kept",
                no_data(7),
                no_data(9),
                "192.0.2.2 192.0.2.1 2001:db8::1",
                7,
                None,
                "the name has no addresses",
            ),
            (
                "half late: kept, again soon",
                has(&["192.0.2.3"], 100),
                Half::Late,
                "192.0.2.3 2001:db8::1",
                4,
                Some(100),
                "one address family did not answer in time",
            ),
            ("half without data: believed", has(&["192.0.2.3"], 100), no_data(5), "192.0.2.3", 85, Some(100), ""),
            (
                "rebinding",
                has(&["127.0.0.1"], 100),
                no_data(5),
                "192.0.2.3",
                1,
                None,
                "refused 127.0.0.1: only the hosts file may lead to a loopback, unspecified or multicast address",
            ),
            (
                "rebinding beside good ones",
                has(&["127.0.0.1", "192.0.2.4", "0.0.0.0"], 100),
                no_data(5),
                "192.0.2.4",
                85,
                Some(100),
                "",
            ),
            ("only one family asked", Half::NotAsked, has(&["2001:db8::2"], 10), "2001:db8::2", 8, Some(10), ""),
        ] {
            let next = record.learn(Finding { v4, v6 }, Loopback::Refused, 0, Duration::from_secs(60));
            let shown: Vec<String> = record.addresses().iter().map(ToString::to_string).collect();
            assert_eq!(shown.join(" "), addresses, "{what}");
            assert_eq!(next.wait.as_secs(), wait, "{what}");
            assert_eq!(next.lifetime.map(|lifetime| lifetime.as_secs()), lifetime, "{what}");
            assert_eq!(record.error.as_deref().unwrap_or_default(), error, "{what}");
        }
        let local = Finding { v4: has(&["127.0.0.1", "224.0.0.1"], 10), v6: Half::NotAsked };
        record.learn(local, Loopback::Allowed, 0, Duration::from_secs(60));
        assert_eq!(record.addresses(), ["127.0.0.1".parse::<IpAddr>().unwrap()]);
        record.learn_hosts(&["127.0.0.1".parse().unwrap()]);
        assert_eq!(record.addresses(), ["127.0.0.1".parse::<IpAddr>().unwrap()]);
    }
}
