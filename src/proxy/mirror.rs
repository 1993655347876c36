//! Copies of requests for other servers (`mirror` of a route). Nobody waits for their answers, and what becomes of them changes
//! nothing for the application.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::config::Settings;
use crate::http::{HeadLimits, Parsed, RequestEdits, RequestHead, parse_request};
use crate::io;
use crate::policy::{Cluster, Outcome};
use crate::proxy::context::Context;
use crate::proxy::held::Held;
use crate::proxy::peers::Peers;
use crate::proxy::request::{Request, response_head_limits};
use crate::tls::AlpnProtocol;
use crate::upstream::{self, Clocks, Demand, Form, Outgoing, Reuse, Target};

/// Most copies that a worker has under way; a server that does not answer must not make it hold more and more.
const MOST: usize = 256;
/// A copy whose answer takes longer is given up.
const PATIENCE: Duration = Duration::from_secs(60);
/// Of an answer that nobody reads, in bytes; a longer one costs its connection.
const MOST_READ: u64 = 1 << 20;

/// What is sent: the same to each server.
struct Copy {
    raw: Vec<u8>,
    head: RequestHead,
    body: Vec<u8>,
    form: Form,
}

/// Sends `request` as it was sent, changed by `edits`, to each of `clusters`. Its body is what `held` has; where that is not
/// all of it, nothing is sent.
pub fn send(
    context: &Rc<Context>,
    settings: &Settings,
    (request, edits, form): (&Request, RequestEdits<'_>, Form),
    held: &Held<'_>,
    peers: Peers,
    clusters: Vec<Arc<Cluster>>,
) {
    // Nothing is copied where nothing can be sent: that is when a server hangs and every request meets the limit.
    let copy = (context.mirrors.get() < MOST).then(|| copied(request, edits, form, held)).flatten();
    let Some(copy) = copy else {
        return context.counters.mirrors_dropped.add(clusters.len() as u64);
    };
    let copy = Rc::new(copy);
    let (clocks, limits) = (Clocks::of(settings), response_head_limits(settings));
    for cluster in clusters {
        if context.mirrors.get() >= MOST {
            context.counters.mirrors_dropped.increment();
            continue;
        }
        context.mirrors.set(context.mirrors.get() + 1);
        let (context, copy) = (Rc::clone(context), Rc::clone(&copy));
        io::spawn(async move {
            let sent = io::timeout(PATIENCE, carry(&context, &copy, &cluster, peers, (&clocks, limits))).await;
            match sent {
                Ok(Some(())) => context.counters.mirrors_sent.increment(),
                Ok(None) | Err(_) => context.counters.mirrors_dropped.increment(),
            }
            context.mirrors.set(context.mirrors.get() - 1);
        });
    }
}

fn copied(request: &Request, edits: RequestEdits<'_>, form: Form, held: &Held<'_>) -> Option<Copy> {
    let body = held.all()?;
    let mut raw = Vec::new();
    request.head.write_edited(&request.raw, edits, &mut raw);
    // What the application's own limits have let pass, with what the route adds to it.
    let limits = HeadLimits { max_bytes: usize::MAX, max_fields: usize::MAX };
    let Ok(Parsed::Complete { head, .. }) = parse_request(&raw, limits) else { return None };
    Some(Copy { raw, head, body, form })
}

/// `None`: there was no connection, or no whole answer.
async fn carry(
    context: &Rc<Context>,
    copy: &Copy,
    cluster: &Arc<Cluster>,
    peers: Peers,
    (clocks, limits): (&Clocks, HeadLimits),
) -> Option<()> {
    let Peers { client, destination: original, .. } = peers;
    let target = Target::Cluster { cluster, original, client, hash: None, found: &[] };
    let host = &copy.head.authority.as_ref()?.host;
    let spoken = target.spoken(Demand { speaks: AlpnProtocol::Http1, needs: None });
    let security = target.security(host, spoken).ok()?;
    let _counted = upstream::begin(&target).ok()?;
    // It is sent once, whatever it asks for.
    let mut carrier = context.upstreams.lend(&target, &security, clocks, Reuse::Recent, spoken).await.ok()?;
    let address = carrier.address();
    let outgoing =
        Outgoing { head: &copy.head, raw: &copy.raw, edits: RequestEdits::default(), form: copy.form, is_over: true };
    let answered = {
        let (_uplink, mut downlink, sending) = carrier.begin(outgoing, &copy.body);
        async {
            sending?.await.ok()?;
            let head = loop {
                let head = downlink.head(copy.head.context(), limits).await.ok()?;
                if !head.is_interim {
                    break head;
                }
                drop(downlink.take_head());
            };
            let form = Form::Framed;
            drop(downlink.start(form).ok()?);
            while let Some(part) = downlink.next(form).await.ok()? {
                drop(part);
                if downlink.payload() > MOST_READ {
                    return None;
                }
            }
            let keeps_for = head.keeps_for.map(|seconds| Duration::from_secs(seconds.into()));
            Some((head.status, head.keep_alive && downlink.is_clean(), keeps_for))
        }
        .await
    };
    let Some((status, is_reusable, keeps_for)) = answered else {
        carrier.abort().await;
        upstream::note(&target, address, Outcome::Failed);
        return None;
    };
    upstream::note(&target, address, Outcome::Answered(status));
    if is_reusable {
        context.upstreams.give_back(carrier, &target, keeps_for);
    } else {
        carrier.close();
    }
    Some(())
}
