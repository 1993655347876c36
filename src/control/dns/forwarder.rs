//! Queries passed on to the name servers of `resolv.conf`, as they are, and the answers passed back.
//!
//! It shares the resolver's view of that file: which servers, how long, in which order. It reads nothing of an answer but
//! whether it is one, and keeps nothing: name servers have caches. The client repeats what is lost, so a server is asked
//! once; the next one is asked where one fails or is silent, and one that has been silent comes last for a while, lest the
//! client's patience ends before the turn of a server that works.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::time::timeout;

use super::sockets::{IdleSockets, Lent};
use crate::control::resolve::{NameServers, random_u16, readable};
use crate::dns::relay::{Relayed, judge, outbound, set_id};
use crate::dns::resolv_conf::{Order, ResolvConf, Transport};

/// How long a server that did not answer comes last.
const HELD_BACK: Duration = Duration::from_secs(30);
/// The least that a server has for its answer.
const LEAST_WAIT: Duration = Duration::from_millis(500);
/// So many wrong answers to one query are not an accident; TCP cannot be forged from off the path.
const MAX_MISMATCHES: usize = 8;

thread_local! {
    /// Where datagrams are received: no query that waits holds a buffer of this size.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; u16::MAX as usize]);
}

/// How the client asked, and so how name servers are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Via {
    Udp,
    Tcp,
}

/// One query to be passed on.
pub(super) struct Forwarded<'q> {
    /// The client's message.
    pub(super) query: &'q [u8],
    pub(super) question_end: usize,
    pub(super) via: Via,
}

/// No name server answered; the failure of the last one.
#[derive(Debug, thiserror::Error)]
pub(super) enum ForwardError {
    #[error("name server {server}: no answer within {} ms", .waited.as_millis())]
    Timeout { server: SocketAddr, waited: Duration },
    #[error("name server {server}: {source}")]
    Io { server: SocketAddr, source: io::Error },
}

pub(super) struct Forwarder {
    servers: Rc<NameServers>,
    sockets: IdleSockets,
    /// Servers that did not answer, and since when.
    silent: RefCell<HashMap<SocketAddr, Instant>>,
}

impl Forwarder {
    pub(super) fn new(servers: Rc<NameServers>) -> Self {
        Self { servers, sockets: IdleSockets::default(), silent: RefCell::default() }
    }

    /// The name servers as of now.
    pub(super) fn conf(&self) -> Rc<ResolvConf> {
        self.servers.conf()
    }

    pub(super) fn is_secure(&self) -> bool {
        self.servers.is_secure()
    }

    /// The answer of the first server that has one, under the client's id.
    ///
    /// # Errors
    /// That of the last server, where none answers at all.
    pub(super) async fn forward(&self, asked: &Forwarded<'_>) -> Result<Vec<u8>, ForwardError> {
        let conf = self.servers.conf();
        let servers = self.in_order(&conf);
        let waited = (conf.timeout / u32::try_from(servers.len()).unwrap_or(1)).max(LEAST_WAIT);
        let (mut refusal, mut error) = (None, None);
        for server in servers {
            match timeout(waited, self.ask(&conf, server, asked)).await {
                Ok(Ok((answer, judged))) => {
                    self.silent.borrow_mut().remove(&server);
                    if judged == Relayed::Answer {
                        return Ok(answer);
                    }
                    refusal.get_or_insert(answer);
                }
                Ok(Err(source)) => {
                    self.hold_back(server);
                    error = Some(ForwardError::Io { server, source });
                }
                Err(_) => {
                    self.hold_back(server);
                    error = Some(ForwardError::Timeout { server, waited });
                }
            }
        }
        // What a server said, if only that it will not answer, is more than that another one was silent.
        refusal.ok_or_else(|| error.expect("a ResolvConf has at least one server"))
    }

    /// Closes what is no longer needed.
    pub(super) fn sweep(&self) {
        self.sockets.sweep();
        self.servers.sweep();
        self.silent.borrow_mut().retain(|_, since| since.elapsed() < HELD_BACK);
    }

    fn in_order(&self, conf: &ResolvConf) -> Vec<SocketAddr> {
        let mut servers = conf.servers.clone();
        if conf.order == Order::Rotated {
            let first = self.servers.turn() % servers.len().max(1);
            servers.rotate_left(first);
        }
        let silent = self.silent.borrow();
        servers.sort_by_key(|server| silent.get(server).is_some_and(|since| since.elapsed() < HELD_BACK));
        servers
    }

    fn hold_back(&self, server: SocketAddr) {
        self.silent.borrow_mut().insert(server, Instant::now());
    }

    async fn ask(
        &self,
        conf: &ResolvConf,
        server: SocketAddr,
        asked: &Forwarded<'_>,
    ) -> io::Result<(Vec<u8>, Relayed)> {
        if asked.via == Via::Udp
            && conf.transport == Transport::Udp
            && !self.servers.is_secure()
            && let Some(answer) = self.over_udp(server, asked).await?
        {
            return Ok(answer);
        }
        let id = random_u16()?;
        let mut answer = self.servers.exchange(server, &outbound(asked.query, id)).await?;
        match judge(asked.query, asked.question_end, id, &answer) {
            Relayed::NotAnAnswer => Err(io::Error::new(io::ErrorKind::InvalidData, "not an answer to the query")),
            judged => {
                restore_id(&mut answer, asked.query);
                Ok((answer, judged))
            }
        }
    }

    /// `None`: ask over TCP.
    async fn over_udp(&self, server: SocketAddr, asked: &Forwarded<'_>) -> io::Result<Option<(Vec<u8>, Relayed)>> {
        let lent = self.sockets.lend(server)?;
        let was_used = lent.is_used();
        match self.over_socket(server, lent, asked).await {
            // Word of an earlier datagram's fate may have been waiting on the socket.
            Err(_) if was_used => {}
            outcome => return or_refused(outcome),
        }
        or_refused(self.over_socket(server, Lent::fresh(server)?, asked).await)
    }

    async fn over_socket(
        &self,
        server: SocketAddr,
        lent: Lent,
        asked: &Forwarded<'_>,
    ) -> io::Result<Option<(Vec<u8>, Relayed)>> {
        let id = random_u16()?;
        lent.socket.send(&outbound(asked.query, id)).await?;
        let mut mismatches = 0;
        while mismatches < MAX_MISMATCHES {
            readable(&lent.socket).await?;
            let received: io::Result<_> = SCRATCH.with_borrow_mut(|buffer| {
                let len = lent.socket.try_recv(buffer)?;
                let judged = judge(asked.query, asked.question_end, id, &buffer[..len]);
                Ok((judged != Relayed::NotAnAnswer).then(|| (buffer[..len].to_vec(), judged)))
            });
            match received {
                Ok(Some((mut answer, judged))) => {
                    restore_id(&mut answer, asked.query);
                    // After a wrong answer another one may follow.
                    if mismatches == 0 {
                        self.sockets.keep(server, lent);
                    }
                    return Ok(Some((answer, judged)));
                }
                Ok(None) => mismatches += 1,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        tracing::debug!(%server, "ignored {mismatches} datagrams that are not the answer");
        Ok(None)
    }
}

/// Nobody listens for UDP there: perhaps for TCP.
fn or_refused(outcome: io::Result<Option<(Vec<u8>, Relayed)>>) -> io::Result<Option<(Vec<u8>, Relayed)>> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(None),
        outcome => outcome,
    }
}

fn restore_id(answer: &mut [u8], query: &[u8]) {
    if let Some(id) = query.first_chunk::<2>() {
        set_id(answer, u16::from_be_bytes(*id));
    }
}
