#!/usr/bin/env bash
# Rust's h2: a reset after a complete answer takes the answer back, if it has not been written yet.
#
# Expected: RFC 9113 §8.1 tells a server that has answered before the request's end to send RST_STREAM with NO_ERROR "after sending a
#   complete response". With crate h2 that reads as send_response, send_data with the end, send_reset(NO_ERROR): frames leave in the
#   order in which they were asked for, as with one socket and three writes.
# Happens: send_data only queues. send_reset empties the stream's queue, so that the peer gets RST_STREAM alone, with NO_ERROR and no
#   head. All calls succeed. After a pause of 100 ms between the calls the same code is right, so tests that wait for something
#   in between, and slow handlers, hide it. Right is to reset nothing: dropping the handles sends the answer and then NO_ERROR.
# Why it matters: early refusals (401, 413, 503 while an upload goes on) are what a proxy writes itself. The client
#   reports a broken stream, and the log of the proxy has a status that nobody saw.
# Seen with: h2 0.4.20, tokio 1.54.1.
# Source: h2 src/proto/streams/send.rs, send_reset; its documentation says that it cancels "outbound data streams".
# Needs: cargo.
set -euo pipefail
command -v cargo >/dev/null || { echo 'needs cargo' >&2; exit 2; }
echo "h2 0.4.20, tokio 1.54.1, $(cargo --version)"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/src"
cat >"$work/Cargo.toml" <<'TOML'
[package]
name = "finding"
version = "0.0.0"
edition = "2021"
[dependencies]
bytes = "=1.12.2"
h2 = "=0.4.20"
http = "=1.5.0"
tokio = { version = "=1.54.1", features = ["io-util", "macros", "net", "rt", "time"] }
TOML
cat >"$work/src/main.rs" <<'RS'
use bytes::Bytes;
use h2::{server, Reason};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

#[derive(Clone, Copy)]
enum End {
    Reset,
    PauseAndReset,
    Drop,
}

async fn serve(listener: TcpListener, end: End) {
    let socket = listener.accept().await.expect("a client comes").0;
    let mut connection = server::handshake(socket).await.expect("it speaks HTTP/2");
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        tokio::spawn(async move {
            let head = http::Response::builder().status(413).body(()).expect("valid");
            let mut stream = respond.send_response(head, false).expect("the stream is open");
            stream.send_data(Bytes::from_static(b"too much"), true).expect("the stream is open");
            match end {
                End::Reset => stream.send_reset(Reason::NO_ERROR),
                End::PauseAndReset => {
                    sleep(Duration::from_millis(100)).await;
                    stream.send_reset(Reason::NO_ERROR);
                }
                End::Drop => {}
            }
            drop(request);
        });
    }
}

/// A frame of at most 255 octets.
fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, payload.len() as u8, kind, flags, 0, 0, 0, stream];
    bytes.extend(payload);
    bytes
}

/// Begins a POST, goes on to owe its body, and lists the frames that come for it.
async fn ask(mut socket: TcpStream) -> std::io::Result<String> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(4, 0, 0, b"")); // SETTINGS
    bytes.extend(frame(1, 4, 1, b"\x83\x86\x84\x41\x06h.test")); // POST http://h.test/
    socket.write_all(&bytes).await?;
    let mut seen = Vec::new();
    loop {
        let mut head = [0; 9];
        socket.read_exact(&mut head).await?;
        let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
        socket.read_exact(&mut payload).await?;
        let end = if head[4] & 1 == 1 { " with END_STREAM" } else { "" };
        match (head[8], head[3]) {
            (1, 0) => seen.push(format!("DATA{end}")),
            (1, 1) => seen.push(format!("HEADERS{end}")),
            (1, 3) => {
                seen.push(format!("RST_STREAM {}", payload[3]));
                return Ok(seen.join(", "));
            }
            _ => {}
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    for (name, end) in [("reset", End::Reset), ("pause, reset", End::PauseAndReset), ("dropped", End::Drop)] {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let socket = TcpStream::connect(listener.local_addr()?).await?;
        let server = tokio::spawn(serve(listener, end));
        let seen = timeout(Duration::from_secs(5), ask(socket)).await??;
        println!("{name}: {seen}");
        server.abort();
    }
    Ok(())
}
RS

recorded='reset: RST_STREAM 0
pause, reset: HEADERS, DATA with END_STREAM, RST_STREAM 0
dropped: HEADERS, DATA with END_STREAM, RST_STREAM 0'
seen=$(cd "$work" && nice -n 10 cargo run --quiet)
echo "$seen"
[ "$seen" = "$recorded" ] || { echo 'CHANGED: this is not what was recorded' >&2; exit 1; }
echo 'as recorded'
