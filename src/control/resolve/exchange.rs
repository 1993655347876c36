//! One question put to the name servers of `resolv.conf`: UDP, TCP for what does not fit, the next server on failure.
//!
//! It does not know why the question is asked or what becomes of the reply. Each query leaves from a new socket, hence
//! a new source port, connected to its server, so that the kernel drops what comes from elsewhere; with the random id
//! and the question compared, a forger off the path has to guess some 31 bits within one round trip (RFC 5452 §9).

use std::cell::RefCell;
use std::collections::HashSet;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::stream::StreamTransport;
use crate::dns::message::{Answer, Extension, Failure, Question, Reply};
use crate::dns::resolv_conf::{Order, ResolvConf, Transport};

/// Larger than any answer a server may send to a query that offers 1,232 octets.
const DATAGRAM: usize = 4096;

/// So many wrong answers to one query are not an accident; TCP cannot be forged from off the path.
const MAX_MISMATCHES: usize = 8;

/// The failure of the last server that was tried.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// nothing came back in time
    #[error("name server {server}: no answer within {} s", .waited.as_secs())]
    Timeout { server: SocketAddr, waited: Duration },
    /// the server said that it cannot or will not answer
    #[error("name server {server}: {failure}")]
    Failed { server: SocketAddr, failure: Failure },
    /// the server could not be reached, or broke its protocol
    #[error("name server {server}: {source}")]
    Io { server: SocketAddr, source: io::Error },
}

/// Who is asked, and how: as of the moment when a lookup begins.
#[derive(Clone, Debug)]
pub struct ServerView {
    pub conf: Rc<ResolvConf>,
    pub streams: StreamTransport,
    pub plain: PlainServers,
}

/// Name servers that answered only what had no EDNS record: they are not asked with one again, and nobody waits for what they
/// drop.
#[derive(Clone, Debug, Default)]
pub struct PlainServers(Rc<RefCell<HashSet<SocketAddr>>>);

impl PlainServers {
    fn holds(&self, server: &SocketAddr) -> bool {
        self.0.borrow().contains(server)
    }

    fn add(&self, server: SocketAddr) {
        self.0.borrow_mut().insert(server);
    }

    /// Others may be asked from now on.
    pub fn forget(&self) {
        self.0.borrow_mut().clear();
    }
}

/// Asks each server in turn, `conf.attempts` times round, until one replies. `turn` chooses the first one where the
/// file says `rotate`. A server that has said nothing may drop queries with an EDNS record: it is asked without one the next
/// time, once more if there is none.
///
/// # Errors
/// The failure of the last server.
pub async fn ask(view: &ServerView, question: &Question, turn: usize) -> Result<Reply, QueryError> {
    let conf = &view.conf;
    let first = match conf.order {
        Order::Listed => 0,
        Order::Rotated => turn % conf.servers.len().max(1),
    };
    let all = conf.servers.len();
    let plain_round = if conf.attempts == 1 { all } else { 0 };
    let rounds = usize::from(conf.attempts) * all;
    let mut silent = Vec::new();
    let mut failed = None;
    for (at, server) in conf.servers.iter().cycle().skip(first).take(rounds + plain_round).enumerate() {
        let was_silent = silent.contains(server) || view.plain.holds(server);
        if at >= rounds && !was_silent {
            continue;
        }
        let extension = if was_silent { Extension::Omit } else { Extension::Offer };
        match ask_server(view, question, *server, extension).await {
            Ok(reply) => {
                if was_silent {
                    view.plain.add(*server);
                }
                return Ok(reply);
            }
            Err(error) => {
                if matches!(error, QueryError::Timeout { .. }) {
                    silent.push(*server);
                }
                failed = Some(error);
            }
        }
    }
    Err(failed.expect("a ResolvConf has at least one server and one attempt"))
}

/// Asks one server; once more without EDNS (RFC 6891 §7) after anything that a server which cannot read it is known to
/// answer. The C library, which applications resolve by, does not offer it.
async fn ask_server(
    view: &ServerView,
    question: &Question,
    server: SocketAddr,
    extension: Extension,
) -> Result<Reply, QueryError> {
    let answer = ask_once(view, question, server, extension).await?;
    if extension == Extension::Omit || !is_doubtful(&answer) {
        return answer.map_err(|failure| QueryError::Failed { server, failure });
    }
    match (answer, ask_once(view, question, server, Extension::Omit).await) {
        // The first answer stands where the second is no better.
        (Ok(reply), Ok(Err(_)) | Err(_)) => Ok(reply),
        (Err(failure), Err(_)) | (_, Ok(Err(failure))) => Err(QueryError::Failed { server, failure }),
        (_, Ok(Ok(second))) => {
            view.plain.add(server);
            Ok(second)
        }
    }
}

/// Whether it may be about the EDNS record: every failure, and "no such name" that no zone vouches for (RFC 2308 §3).
fn is_doubtful(answer: &Result<Reply, Failure>) -> bool {
    match answer {
        Ok(Reply::NxDomain { ttl }) => ttl.is_none(),
        Ok(Reply::Addresses { .. } | Reply::NoData { .. }) | Err(Failure::Aliases) => false,
        Err(_) => true,
    }
}

async fn ask_once(
    view: &ServerView,
    question: &Question,
    server: SocketAddr,
    extension: Extension,
) -> Result<Result<Reply, Failure>, QueryError> {
    let waited = view.conf.timeout;
    match timeout(waited, try_once(view, question, server, extension)).await {
        Ok(answer) => answer.map_err(|source| QueryError::Io { server, source }),
        Err(_) => Err(QueryError::Timeout { server, waited }),
    }
}

async fn try_once(
    view: &ServerView,
    question: &Question,
    server: SocketAddr,
    extension: Extension,
) -> io::Result<Result<Reply, Failure>> {
    if view.conf.transport == Transport::Udp
        && !view.streams.is_secure()
        && let Some(outcome) = over_udp(question, server, extension).await?
    {
        return Ok(outcome);
    }
    over_stream(&view.streams, question, server, extension).await
}

/// `None`: ask over TCP.
async fn over_udp(
    question: &Question,
    server: SocketAddr,
    extension: Extension,
) -> io::Result<Option<Result<Reply, Failure>>> {
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    let id = random_u16()?;
    socket.send(&question.encode(id, extension)).await?;
    let mut datagram = vec![0; DATAGRAM];
    for _ in 0..MAX_MISMATCHES {
        let len = received(&socket, &mut datagram).await?;
        if len == datagram.len() {
            return Ok(None);
        }
        match question.judge(id, &datagram[..len]) {
            Answer::Reply(reply) => return Ok(Some(Ok(reply))),
            Answer::Failed(failure) => return Ok(Some(Err(failure))),
            Answer::Truncated => return Ok(None),
            Answer::NotAnAnswer(why) => tracing::debug!(%server, %why, "ignored a datagram that is not the answer"),
        }
    }
    Ok(None)
}

async fn over_stream(
    streams: &StreamTransport,
    question: &Question,
    server: SocketAddr,
    extension: Extension,
) -> io::Result<Result<Reply, Failure>> {
    let id = random_u16()?;
    let message = streams.exchange(server, &question.encode(id, extension)).await?;
    match question.judge(id, &message) {
        Answer::Reply(reply) => Ok(Ok(reply)),
        Answer::Failed(failure) => Ok(Err(failure)),
        Answer::Truncated => Err(io::Error::new(io::ErrorKind::InvalidData, "truncated even over TCP")),
        Answer::NotAnAnswer(why) => Err(io::Error::new(io::ErrorKind::InvalidData, format!("over TCP: {why}"))),
    }
}

/// Waits for a datagram, or for word that none will come: nobody listens there.
async fn received(socket: &UdpSocket, datagram: &mut [u8]) -> io::Result<usize> {
    loop {
        readable(socket).await?;
        match socket.try_recv(datagram) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            outcome => return outcome,
        }
    }
}

/// Waits until there is a datagram. Tokio does not take an ICMP error for readiness, so it is asked for.
///
/// # Errors
/// What ICMP says of the datagram that was sent.
pub async fn readable(socket: &UdpSocket) -> io::Result<()> {
    loop {
        let ready = socket.ready(Interest::READABLE | Interest::ERROR).await?;
        if ready.is_error() {
            if let Some(error) = socket.take_error()? {
                return Err(error);
            }
            // Taken by somebody else: what is left of it must not wake us again.
            let _ = socket.try_io(Interest::ERROR, || Err::<(), _>(io::ErrorKind::WouldBlock.into()));
        }
        if ready.is_readable() {
            return Ok(());
        }
    }
}

/// From a cryptographic generator.
pub fn random_u16() -> io::Result<u16> {
    let mut id = [0; 2];
    aws_lc_rs::rand::fill(&mut id).map_err(|_| io::Error::other("no random numbers to be had"))?;
    Ok(u16::from_ne_bytes(id))
}
