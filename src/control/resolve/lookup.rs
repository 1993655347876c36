//! One look for one name: the hosts file, else both families from DNS, under each name that `resolv.conf` has us try.
//!
//! It does not remember: what an earlier look found, and what to do when this one finds nothing, is the resolver's.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use tokio::time::timeout;

use super::exchange::{QueryError, ServerView, ask};
use super::resolver_environment::Families;
use crate::dns::message::{Family, Question, Reply};
use crate::flow::Hostname;

/// How long the slower family may take once the other has addresses. A server that never answers AAAA must not keep a
/// name unknown (RFC 8305 §3 has a delay here too, shorter, as it serves a person who waits).
const SECOND_FAMILY: Duration = Duration::from_secs(1);

/// What became of one family in a look.
#[derive(Debug)]
pub enum Half {
    /// This host has no use for the family.
    NotAsked,
    Reply(Reply),
    Failed(QueryError),
    /// The other family had its addresses long before.
    Late,
}

/// What a look found, both families of the same absolute name.
#[derive(Debug)]
pub struct Finding {
    pub v4: Half,
    pub v6: Half,
}

/// Asks DNS for `name`; under the next candidate only if the one before does not exist.
pub async fn look_up(view: &ServerView, families: Families, name: &Hostname, turn: usize) -> Finding {
    let mut candidates = view.conf.candidates(name).into_iter();
    let first = candidates.next().unwrap_or_else(|| name.clone());
    let absolute = look_up_absolute(view, families, &first, turn).await;
    let mut finding = absolute;
    for candidate in candidates {
        if !finding.is_no_such_name() {
            break;
        }
        let next = look_up_absolute(view, families, &candidate, turn).await;
        // The first "no such name" has the TTL that counts; a failure further down is not to hide it.
        if !next.is_no_such_name() {
            finding = next;
        }
    }
    finding
}

async fn look_up_absolute(view: &ServerView, families: Families, name: &Hostname, turn: usize) -> Finding {
    let v4 = half(view, Question::new(name, Family::V4), turn);
    let v6 = half(view, Question::new(name, Family::V6), turn);
    match families {
        Families::V4 => Finding { v4: v4.await, v6: Half::NotAsked },
        Families::V6 => Finding { v4: Half::NotAsked, v6: v6.await },
        Families::Both | Families::Auto => {
            let (v4, v6) = both(v4, v6).await;
            Finding { v4, v6 }
        }
    }
}

async fn half(view: &ServerView, question: Question, turn: usize) -> Half {
    match ask(view, &question, turn).await {
        Ok(reply) => Half::Reply(reply),
        Err(e) => Half::Failed(e),
    }
}

async fn both(a: impl Future<Output = Half>, b: impl Future<Output = Half>) -> (Half, Half) {
    let (mut a, mut b) = (pin!(a), pin!(b));
    tokio::select! {
        first = &mut a => {
            let second = after(&first, b).await;
            (first, second)
        }
        first = &mut b => {
            let second = after(&first, a).await;
            (second, first)
        }
    }
}

async fn after(first: &Half, second: impl Future<Output = Half>) -> Half {
    if first.has_addresses() { timeout(SECOND_FAMILY, second).await.unwrap_or(Half::Late) } else { second.await }
}

impl Half {
    fn has_addresses(&self) -> bool {
        matches!(self, Half::Reply(Reply::Addresses { .. }))
    }
}

impl Finding {
    /// "No such name" is said of the name, so one family's word is enough, unless the other has seen the name.
    fn is_no_such_name(&self) -> bool {
        let halves = [&self.v4, &self.v6];
        let missing = halves.iter().any(|half| matches!(half, Half::Reply(Reply::NxDomain { .. })));
        let seen = |half: &&Half| matches!(half, Half::Reply(Reply::Addresses { .. } | Reply::NoData { .. }));
        missing && !halves.iter().any(seen)
    }
}
