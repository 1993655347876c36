//! Conversations over pipes in memory, with peers that write frames by hand, and tables of heads.

mod client_conversations;
mod client_floods;
mod conversations;
mod floods;
#[allow(dead_code, reason = "the end-to-end tests use the others")]
#[path = "../../../tests/http/frames.rs"]
mod frames;
mod heads;
mod raw_peer;
mod translations;

use std::time::Duration;

use futures_lite::future;
use tokio::io::DuplexStream;

use super::*;
use crate::io::{self, Engine, EngineKind, EngineOptions};
use raw_peer::RawPeer;

/// No answer within this is none at all.
const DEADLINE: Duration = Duration::from_secs(20);

const CLOCKS: ServerClocks = ServerClocks { idle: DEADLINE, drain: DEADLINE };

/// Runs `main` on an engine; it must end in time.
fn run<T>(main: impl Future<Output = T>) -> T {
    let options = EngineOptions { kind: EngineKind::Epoll, ..EngineOptions::default() };
    Engine::new(options).unwrap().run(async { io::timeout(DEADLINE, main).await.expect("it ends in time") })
}

fn pipe() -> (DuplexStream, DuplexStream) {
    tokio::io::duplex(64 * 1024)
}

/// Serves one connection, whose client is `client`, with `handle`.
fn serve_raw<T, H>(
    limits: Limits,
    clocks: ServerClocks,
    handle: impl FnMut(Incoming) -> H,
    client: impl AsyncFnOnce(RawPeer) -> T,
) -> (ServerEnd, T)
where
    H: Future<Output = ()> + 'static,
{
    run(async {
        let (near, far) = pipe();
        let serving = serve(near, &limits, clocks, future::pending(), handle);
        future::zip(serving, client(RawPeer::client(far).await)).await
    })
}

/// Answers with the request's canonical head, then its body and trailers as they come.
async fn echo(incoming: Incoming) {
    let Incoming { parts, mut body, responder, .. } = incoming;
    let mut head = Vec::new();
    let beside = Beside { is_over: body.is_over(), websocket_key: None };
    write_request_head(&parts, beside, crate::http::HeadLimits::default(), &mut head).unwrap();
    let response = outgoing_response(b"HTTP/1.1 200 OK\r\nx-from: egret\r\n\r\n").unwrap();
    if responder.head(response, false).is_err() || responder.data(head, false).is_err() {
        return;
    }
    loop {
        match body.piece().await {
            Ok(Some(Received::Data(data))) => {
                if responder.data(data, false).is_err() || future::poll_fn(|cx| responder.poll_room(cx)).await.is_err()
                {
                    return;
                }
            }
            Ok(Some(Received::Trailers(trailers))) => return responder.trailers(trailers).unwrap(),
            Ok(None) => return drop(responder.data(b"", true)),
            Err(_) => return responder.reset(Reason::CANCEL),
        }
    }
}
