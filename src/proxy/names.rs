//! Names that only a request or a ClientHello tells: a worker asks the control thread for their addresses, and keeps the
//! answer for a while.
//!
//! It looks nothing up itself. An answer is a cell that the control thread keeps current; a worker asks again after
//! [`RENEW`], so that the control thread knows which names are still in use and may forget the others.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use crate::flow::{Host, Hostname, OriginalDst};
use crate::io;
use crate::policy::publish::Addresses;
use crate::policy::{PolicyTable, Unreachable};
use crate::proxy::guard::{Guard, Refusal};
use crate::upstream::Target;

/// How long a worker uses an answer, whose addresses stay current meanwhile, without asking again.
pub const RENEW: Duration = Duration::from_secs(30);
/// As long for a name that had no address when it was asked for.
const RENEW_EMPTY: Duration = Duration::from_secs(5);
/// Answers that a worker keeps.
const MOST_KNOWN: usize = 1024;

/// What a worker asks of the control thread.
pub struct Question {
    pub name: Hostname,
    /// Dropped where nobody waits any more.
    pub answer: oneshot::Sender<Answer>,
}

/// The name's addresses, none if it has none, once the first look-up is over.
pub type Answer = Result<Addresses, Crowded>;

/// So many names are in use that no other is looked up now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crowded;

/// Why a name leads nowhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfound {
    /// The connection tells no name.
    #[error("the destination is found by its name, and none was told")]
    Nameless,
    #[error("{0} has no address")]
    NoAddress(Hostname),
    #[error("no answer for {name} within {} ms", .after.as_millis())]
    Late { name: Hostname, after: Duration },
    #[error("too many names are asked for at once, so {0} is not looked up")]
    Crowded(Hostname),
    #[error("{name} resolves to {ip}: {}", .why.reason())]
    Protected { name: Hostname, ip: IpAddr, why: Unreachable },
    #[error("{name} resolves to {ip}: {why}")]
    Refused { name: Hostname, ip: IpAddr, why: Refusal },
}

impl Unfound {
    /// In one word for the access log. As in Envoy, it says in braces why a look-up failed.
    #[must_use]
    pub fn details(&self) -> Cow<'static, str> {
        match self {
            Unfound::Nameless => "no_name".into(),
            Unfound::NoAddress(_) | Unfound::Late { .. } => {
                format!("dns_resolution_failure{{{}}}", self.to_string().replace(' ', "_")).into()
            }
            Unfound::Crowded(_) => "dns_cache_overflow".into(),
            Unfound::Protected { why, .. } => why.details().into(),
            Unfound::Refused { .. } => "name_leads_to_an_address_that_is_not_dialled".into(),
        }
    }
}

/// One worker's names.
pub struct Names {
    questions: mpsc::Sender<Question>,
    known: RefCell<HashMap<Hostname, (Addresses, Instant)>>,
}

impl Names {
    #[must_use]
    pub fn new(questions: mpsc::Sender<Question>) -> Self {
        Self { questions, known: RefCell::default() }
    }

    /// The addresses of `host` that `target` may be dialled at.
    ///
    /// # Errors
    /// There are none, or none that may be dialled.
    pub async fn find(
        &self,
        target: &Target<'_>,
        host: &Host,
        table: &PolicyTable,
        guard: &Guard,
    ) -> Result<Vec<IpAddr>, Unfound> {
        let Host::Name(name) = host else { return Err(Unfound::Nameless) };
        let addresses = self.addresses(name, table.settings().connect_timeout).await?;
        let port = target.port();
        let mut refused = Unfound::NoAddress(name.clone());
        let mut found = Vec::new();
        for ip in addresses.load().iter().copied() {
            let to = OriginalDst::new(SocketAddr::new(ip, port));
            match (table.leads_to(ip), guard.check(to)) {
                (Ok(()), Ok(())) => found.push(ip),
                (Err(why), _) => refused = Unfound::Protected { name: name.clone(), ip, why },
                (_, Err(why)) => refused = Unfound::Refused { name: name.clone(), ip, why },
            }
        }
        if found.is_empty() { Err(refused) } else { Ok(found) }
    }

    async fn addresses(&self, name: &Hostname, patience: Duration) -> Result<Addresses, Unfound> {
        if let Some(addresses) = self.known(name) {
            return Ok(addresses);
        }
        let (answer, answered) = oneshot::channel();
        let question = Question { name: name.clone(), answer };
        // Without waiting: a full channel means that the control thread has more to do than it can.
        if self.questions.try_send(question).is_err() {
            return Err(Unfound::Crowded(name.clone()));
        }
        let late = || Unfound::Late { name: name.clone(), after: patience };
        match io::timeout(patience, answered).await {
            Ok(Ok(Ok(addresses))) => {
                self.keep(name, &addresses);
                Ok(addresses)
            }
            Ok(Ok(Err(Crowded))) => Err(Unfound::Crowded(name.clone())),
            Ok(Err(_)) | Err(_) => Err(late()),
        }
    }

    fn known(&self, name: &Hostname) -> Option<Addresses> {
        let known = self.known.borrow();
        known.get(name).filter(|(_, until)| *until > io::now()).map(|(addresses, _)| addresses.clone())
    }

    fn keep(&self, name: &Hostname, addresses: &Addresses) {
        let now = io::now();
        let mut known = self.known.borrow_mut();
        if known.len() >= MOST_KNOWN {
            known.retain(|_, (_, until)| *until > now);
        }
        if known.len() < MOST_KNOWN {
            let renew = if addresses.load().is_empty() { RENEW_EMPTY } else { RENEW };
            known.insert(name.clone(), (addresses.clone(), now + renew));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_up_that_failed_is_told_in_one_word() {
        let name = || Hostname::new("none.example").unwrap();
        for (unfound, details) in [
            (Unfound::NoAddress(name()), "dns_resolution_failure{none.example_has_no_address}"),
            (
                Unfound::Late { name: name(), after: Duration::from_secs(2) },
                "dns_resolution_failure{no_answer_for_none.example_within_2000_ms}",
            ),
            (Unfound::Crowded(name()), "dns_cache_overflow"),
        ] {
            assert_eq!(unfound.details(), details);
        }
    }
}
