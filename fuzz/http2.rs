//! What must hold for a connection of HTTP/2 whatever a client sends on it. Entered by the fuzz target `http2_frames`, and by
//! `tests/e2e/fuzz_corpus.rs` with the committed corpus; a violation panics.
//!
//! The input is what follows the client's SETTINGS, in pieces of as many bytes as its first byte says. Whatever it is, the
//! connection comes to its end, and what passes for a request is the head of one request in HTTP/1, and of no more.

use std::time::Duration;

use egret::http::{HeadLimits, Parsed, parse_request};
use egret::http2::{self, Incoming, Limits, Reason, ServerClocks, canonical_limits, outgoing_response, serve};
use egret::io::{self, Engine, EngineKind, EngineOptions};
use futures_lite::future;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, split};

/// The preface, and SETTINGS that say nothing (RFC 9113 §3.4).
const OPENING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// Longer than any of this takes.
const DEADLINE: Duration = Duration::from_secs(60);

pub fn http2_frames(input: &[u8]) {
    let Some((cut, frames)) = input.split_first() else { return };
    let size = usize::from(*cut).max(1);
    let options = EngineOptions { kind: EngineKind::Epoll, ..EngineOptions::default() };
    let mut engine = Engine::new(options).expect("an engine");
    engine.run(async {
        let (near, far) = tokio::io::duplex(64 << 10);
        let clocks = ServerClocks { idle: DEADLINE, drain: DEADLINE };
        let limits = Limits::default();
        let serving = serve(near, &limits, clocks, future::pending(), answer);
        let both = future::zip(serving, say(far, frames, size));
        io::timeout(DEADLINE, both).await.expect("the connection ends");
    });
}

/// The client: says all, and takes what it gets.
async fn say(far: DuplexStream, frames: &[u8], size: usize) {
    let (mut reading, mut writing) = split(far);
    let saying = async {
        for piece in std::iter::once(OPENING).chain(frames.chunks(size)) {
            // It may have been sent away.
            if writing.write_all(piece).await.is_err() {
                return;
            }
            future::yield_now().await;
        }
        let _ = writing.shutdown().await;
    };
    let hearing = async {
        let mut heard = vec![0; 4096];
        while reading.read(&mut heard).await.is_ok_and(|length| length > 0) {}
    };
    future::zip(saying, hearing).await;
}

async fn answer(incoming: Incoming) {
    let limits = HeadLimits::default();
    let Ok((raw, _)) = incoming.head(limits, || [7; 16]) else {
        return incoming.responder.reset(Reason::PROTOCOL_ERROR);
    };
    assert!(raw.windows(4).position(|end| end == b"\r\n\r\n") == Some(raw.len() - 4), "{}", raw.escape_ascii());
    match parse_request(&raw, canonical_limits(limits)) {
        Ok(Parsed::Complete { length, .. }) if length == raw.len() => {}
        other => panic!("{}: {other:?}", raw.escape_ascii()),
    }
    let mut body = incoming.body;
    while let Ok(Some(piece)) = body.piece().await {
        if let http2::Received::Trailers(trailers) = piece {
            let lines = http2::trailer_lines(&trailers, limits).unwrap_or_default();
            assert!(lines.is_empty() || lines.ends_with(b"\r\n"));
            assert!(!lines.windows(4).any(|end| end == b"\r\n\r\n"), "{}", lines.escape_ascii());
        }
    }
    let response = outgoing_response(b"HTTP/1.1 204 No Content\r\n\r\n").expect("a response");
    // Whoever is gone needs no answer.
    let _ = incoming.responder.head(response, true);
}
