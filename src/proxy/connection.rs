//! A connection's life: admitted or refused, looked at, decided on, carried, logged.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures_lite::future;

use crate::flow::{ClientAddr, Host, Hostname, OriginalDst, ResponseFlags};
use crate::io::{self, Socket};
use crate::policy::{Cluster, Content, Decision, FirstLook, Flow, LogFields, PolicyTable, Refusal, Verdict};
use crate::proxy::affinity;
use crate::proxy::audit;
use crate::proxy::close::Close;
use crate::proxy::context::Context;
use crate::proxy::detect::{Attention, Heard, listen};
use crate::proxy::downstream;
use crate::proxy::failure;
use crate::proxy::glance::Glance;
use crate::proxy::guard;
use crate::proxy::opaque::{End, RelayClocks, Relayed, relay_seen};
use crate::proxy::peers::Peers;
use crate::proxy::record::ConnectionRecord;
use crate::sniff::{self, Detection};
use crate::upstream::{Clocks, Reader, Spoken, Stream, Target, TunnelEnd};

/// Serves one accepted connection to its end.
///
/// Its future lives as long as the connection, which is idle most of that time. So what only some moments need (a
/// request under way, a tunnel, a linger) is boxed where it is awaited, and is no part of it.
pub async fn serve(context: &Rc<Context>, socket: Socket) {
    let (since, at) = (SystemTime::now(), io::now());
    context.counters.connections_accepted.increment();
    context.counters.connections_active.increment();
    context.memory.note_busy();
    match admit(context, &socket, since, at) {
        Ok(peers) => serve_admitted(context, socket, &peers).await,
        Err(refusal) => refuse(context, socket, refusal, since, at),
    }
    context.counters.connections_active.decrement();
    context.counters.connections_closed.increment();
}

async fn serve_admitted(context: &Rc<Context>, socket: Socket, peers: &Peers) {
    let client = Stream::plaintext(socket);
    let close = carry(context, &client, peers).await;
    context.counters.client_received_bytes.add(client.socket().bytes_received());
    context.counters.client_sent_bytes.add(client.socket().bytes_sent());
    close.end(client).await;
}

fn admit(context: &Context, socket: &Socket, since: SystemTime, at: Instant) -> Result<Peers, guard::Refusal> {
    let client = socket.peer_addr().map_err(|_| guard::Refusal::NotRedirected)?;
    let destination = OriginalDst::new(socket.original_dst(client).map_err(|_| guard::Refusal::NotRedirected)?);
    context.guard.check(destination)?;
    Ok(Peers { client: ClientAddr::new(client), destination, since, at })
}

fn refuse(context: &Rc<Context>, socket: Socket, refusal: guard::Refusal, since: SystemTime, at: Instant) {
    context.counters.count_refusal(refusal);
    let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
    let peer = socket.peer_addr().unwrap_or(unknown);
    let client = ClientAddr::new(peer);
    let destination = OriginalDst::new(socket.original_dst(peer).unwrap_or(unknown));
    tracing::debug!(%client, %destination, reason = %refusal, "connection refused");
    let record = ConnectionRecord {
        flags: ResponseFlags::NO_ROUTE,
        termination: Some(refusal.to_string()),
        ..ConnectionRecord::new(Peers { client, destination, since, at })
    };
    record.log(context);
    socket.abort();
}

async fn carry(context: &Rc<Context>, client: &Stream, peers: &Peers) -> Close {
    let mut reader = Reader::new(client);
    // Boxed, and over before requests are served: a connection at rest holds neither its room nor the table that it saw.
    match Box::pin(carry_unread(context, &mut reader, *peers)).await {
        Carried::Over(close) => close,
        Carried::Http1 => downstream::serve_http1(context, &mut reader, peers).await,
        Carried::Http2 => Box::pin(downstream::serve_http2(context, &mut reader, *peers)).await,
    }
}

/// What became of a connection that was looked at.
enum Carried {
    /// Its bytes were carried, or refused.
    Over(Close),
    /// They are requests, and are still to be read.
    Http1,
    Http2,
}

/// Looks at a connection and carries its bytes, if they are not to be read.
async fn carry_unread(context: &Rc<Context>, reader: &mut Reader<'_>, peers: Peers) -> Carried {
    let destination = peers.destination;
    loop {
        let attention = {
            let table = context.policy.table();
            match table.first_look(destination, context.random.draw()) {
                FirstLook::Sniff(expected) => Attention::of(expected, table.settings()),
                FirstLook::Decided(verdict) => {
                    let flow = Flow { destination, content: Content::Silence };
                    return Carried::Over(by_verdict(context, &table, reader, &verdict, &flow, peers).await);
                }
            }
        };
        let heard = listen(context, reader, peers, attention).await;
        // The table of this moment: it may be another one after a long silence.
        let table = context.policy.table();
        count_detection(context, &heard);
        let hello;
        let said = match heard {
            Heard::Nothing(close) => return Carried::Over(close),
            Heard::Protocol(Detection::Http1) => return Carried::Http1,
            Heard::Protocol(Detection::Http2) => return Carried::Http2,
            Heard::Unfinished if begins_unlike_requests(reader.bytes()) => {
                let is_tls = sniff::begins_tls(reader.bytes());
                let why = if is_tls { "client_hello_timeout" } else { "http2_preface_timeout" };
                return Carried::Over(refuse_unreadable(context, peers, why));
            }
            Heard::Protocol(Detection::Opaque)
                if attention.is_for_requests() && sniff::begins_foreign_request(reader.bytes()) =>
            {
                return Carried::Over(refuse_unreadable(context, peers, "http_version_unknown"));
            }
            Heard::Unfinished => {
                return Carried::Over(downstream::reject_unfinished(context, reader, peers).await);
            }
            Heard::Silence | Heard::Ambiguous if !attention.is_of(&table, destination) => continue,
            Heard::Silence => Content::Silence,
            Heard::Ambiguous => Content::Undecided,
            Heard::Protocol(Detection::Tls(heard)) => {
                hello = heard;
                Content::Tls(hello.name())
            }
            Heard::Protocol(_) => Content::Opaque,
        };
        let flow = Flow { destination, content: said };
        let verdict = table.decide(&flow, context.random.draw());
        return Carried::Over(by_verdict(context, &table, reader, &verdict, &flow, peers).await);
    }
}

/// What is to be no request of HTTP/1 gets no answer of HTTP/1.
fn begins_unlike_requests(bytes: &[u8]) -> bool {
    sniff::begins_tls(bytes) || sniff::begins_http2(bytes)
}

fn refuse_unreadable(context: &Rc<Context>, peers: Peers, why: &'static str) -> Close {
    let refusal = Refusal::Unreadable { why, dialled: peers.destination };
    context.counters.refused_protocol.increment();
    refused(LogFields::of_connection().refused(&refusal), peers, None).log(context);
    Close::Abort
}

fn count_detection(context: &Context, heard: &Heard) {
    let counters = &context.counters;
    match heard {
        Heard::Protocol(Detection::Http1) => counters.detected_http1.increment(),
        Heard::Protocol(Detection::Http2) => counters.detected_http2.increment(),
        Heard::Protocol(Detection::Tls(_)) => counters.detected_tls.increment(),
        Heard::Protocol(_) | Heard::Silence | Heard::Ambiguous => counters.detected_opaque.increment(),
        Heard::Unfinished | Heard::Nothing(_) => {}
    }
}

/// Carries bytes that are not read, or closes.
async fn by_verdict(
    context: &Rc<Context>,
    table: &PolicyTable,
    reader: &mut Reader<'_>,
    verdict: &Verdict<'_>,
    flow: &Flow<'_>,
    peers: Peers,
) -> Close {
    let target = match &verdict.decision {
        Decision::Forward(cluster) => unread(cluster, peers),
        Decision::Passthrough | Decision::ByName => Target::Passthrough(peers.destination),
        Decision::Refuse(_) | Decision::Answer(..) => {
            failure::count(verdict, &context.counters);
            refused(verdict.log_fields(), peers, flow.server_name().cloned()).log(context);
            return Close::Abort;
        }
    };
    audit::tell(&context.counters, verdict, flow);
    // Boxed: what a tunnel needs is not what a connection needs that speaks HTTP.
    Box::pin(tunnel(context, table, reader, peers, target, flow)).await
}

/// The target of a connection whose bytes are not read.
fn unread(cluster: &Arc<Cluster>, peers: Peers) -> Target<'_> {
    let hash = affinity::of_connection(cluster, peers.client);
    let Peers { client, destination: original, .. } = peers;
    Target::Cluster { cluster, original, client, hash, found: &[] }
}

/// Of a connection that is closed because passing it on would be past the policy, or plaintext by accident.
fn refused(log: LogFields<'_>, peers: Peers, sni: Option<Hostname>) -> ConnectionRecord {
    ConnectionRecord {
        flags: log.flags,
        termination: log.details.map(str::to_owned),
        cluster: log.cluster.map(str::to_owned),
        sni,
        ..ConnectionRecord::new(peers)
    }
}

/// Carries bytes to `target` without reading them.
async fn tunnel(
    context: &Rc<Context>,
    table: &PolicyTable,
    reader: &mut Reader<'_>,
    peers: Peers,
    target: Target<'_>,
    flow: &Flow<'_>,
) -> Close {
    let is_unseen = flow.is_unread();
    let (cluster, sni) = (Some(target.name().to_owned()), flow.server_name().cloned());
    let mut record = ConnectionRecord { cluster, sni, ..ConnectionRecord::new(peers) };
    context.counters.count_opened(record.cluster.as_deref());
    record.counted = true;
    // What nobody has looked at, and no entry names, is looked at while it passes, for the log.
    let glance = if is_unseen && target.cluster().is_none() { Glance::default() } else { Glance::averted() };
    let dialled = {
        let dialling = async { Ok(dial(context, table, &target, &mut record).await) };
        future::or(dialling, async { Err(reader.stream().lost().await) }).await
    };
    let close = match dialled {
        // As Envoy ends it.
        Ok(None) if record.flags == ResponseFlags::UPSTREAM_OVERFLOW => Close::Gently,
        Ok(None) => Close::Abort,
        // Nobody waits for the upstream any more.
        Err(error) => {
            record.flags = ResponseFlags::DOWNSTREAM_CLOSED;
            record.termination = Some(error.to_string());
            Close::Abort
        }
        Ok(Some(upstream)) => {
            let relayed = {
                let mut back = Reader::resuming(&upstream);
                relay_seen(TunnelEnd::connection(reader), TunnelEnd::connection(&mut back), clocks(&target), &glance)
                    .await
            };
            record.sni = record.sni.take().or(glance.into_sni());
            context.counters.count_expiry(&relayed.end);
            if let End::Upstream(error) = &relayed.end {
                context.counters.count_broken(error);
            }
            finish(relayed, upstream, &mut record).await
        }
    };
    record.log(context);
    close
}

async fn dial(
    context: &Rc<Context>,
    table: &PolicyTable,
    target: &Target<'_>,
    record: &mut ConnectionRecord,
) -> Option<Stream> {
    let found = find(context, table, target, record).await?;
    let target = &target.at(&found);
    let host = Host::Ip(target.original().ip());
    let security = match target.security(&host, Spoken::Http1) {
        Ok(security) => security,
        Err(reason) => {
            context.counters.refused_transport.increment();
            record.flags = Refusal::NoTls(&reason).closes().0;
            record.transport_failure = Some(reason.to_string());
            return None;
        }
    };
    match context.upstreams.dial(target, &security, &Clocks::of(table.settings())).await {
        Ok(upstream) => {
            context.counters.count_connect(upstream.negotiated());
            record.upstream = upstream.socket().peer_addr().ok();
            record.upstream_local = upstream.socket().local_addr().ok();
            Some(upstream)
        }
        Err(error) => {
            context.counters.count_connect_error(&error);
            let tried = error.address().map_or_else(ResponseFlags::default, |_| ResponseFlags::RETRY_LIMIT);
            record.flags = error.flags() | tried;
            record.upstream = error.address();
            record.transport_failure = Some(error.to_string());
            None
        }
    }
}

/// The addresses of `target`'s name, where only the connection's server name can tell them.
async fn find(
    context: &Rc<Context>,
    table: &PolicyTable,
    target: &Target<'_>,
    record: &mut ConnectionRecord,
) -> Option<Vec<IpAddr>> {
    if !target.is_by_name() {
        return Some(Vec::new());
    }
    let dialled = Host::Ip(target.original().ip());
    let host = record.sni.clone().map_or(dialled, Host::Name);
    match context.names.find(target, &host, table, &context.guard).await {
        Ok(found) => Some(found),
        Err(unfound) => {
            context.counters.names_unfound.increment();
            record.flags = ResponseFlags::DNS_FAILURE;
            record.termination = Some(unfound.details().into_owned());
            record.transport_failure = Some(unfound.to_string());
            None
        }
    }
}

fn clocks(target: &Target<'_>) -> RelayClocks {
    /// Istio's, and Envoy's, for TCP.
    const IDLE: Duration = Duration::from_secs(3600);
    match target.limits() {
        Some(limits) => RelayClocks { idle: limits.tcp_idle_timeout, duration: limits.max_connection_duration },
        None => RelayClocks { idle: Some(IDLE), duration: None },
    }
}

/// Ends the upstream's side as the relay ended, notes it, and says how to end the application's.
async fn finish(relayed: Relayed, upstream: Stream, record: &mut ConnectionRecord) -> Close {
    record.received = relayed.sent;
    record.sent = relayed.received;
    match relayed.end {
        End::Complete => {
            upstream.close();
            Close::Orderly
        }
        End::Client(error) => {
            // Envoy has no flag for it.
            upstream.abort().await;
            record.termination = Some(error.to_string());
            Close::Abort
        }
        End::Upstream(error) => {
            upstream.abort().await;
            record.flags =
                if error.is_reset() { ResponseFlags::UPSTREAM_RESET } else { ResponseFlags::UPSTREAM_CLOSED };
            record.transport_failure = Some(error.to_string());
            Close::Abort
        }
        End::Idle => {
            upstream.close();
            // Envoy has no flag for it either, but these words.
            record.termination = Some("tcp_session_idle_timeout".to_owned());
            Close::Orderly
        }
        End::Duration => {
            upstream.close();
            record.flags = ResponseFlags::DURATION_TIMEOUT;
            record.termination = Some("max_connection_duration_reached".to_owned());
            Close::Orderly
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_future<A, F: Future>(_: impl Fn(&'static Rc<Context>, A) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn an_idle_connection_costs_little() {
        let bytes = size_of_future(serve);
        assert!(bytes <= 896, "{bytes} bytes a connection; box what is awaited for a moment only");
    }
}
