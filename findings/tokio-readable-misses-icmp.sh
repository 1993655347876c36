#!/usr/bin/env bash
# tokio: a UDP socket waited for with readable() sleeps through "connection refused"; recv() on the same socket does not.
#
# Expected: recv() and the pattern in the documentation, readable() and then try_recv(), are two ways to do the same. poll(2) and epoll(7)
#   report an error without being asked, and a blocking recv of a connected UDP socket returns ECONNREFUSED as soon as ICMP
#   says that the port is closed.
# Happens: recv() and recv_from() wait for READABLE | ERROR and return the error. readable(), ready(READABLE), async_io(READABLE) and
#   all of poll_recv*() are not woken by it. try_recv() says WouldBlock without asking the kernel, where the error lies ready
#   all the while; even after ready(READABLE | ERROR) it does, and only take_error() gives it.
# Why it matters: a DNS forwarder that hands its socket to poll_recv_from (UdpFramed of tokio-util does), or that waits for several sockets by
#   readable(), waits out its whole time limit for a dead name server, where recv() goes on to the next one at once.
# Seen with: tokio 1.54.1, on Linux.
# Source: tokio src/net/udp.rs, recv and readable; src/io/interest.rs, mask; tokio-util src/udp/frame.rs.
# Needs: cargo.
set -euo pipefail
command -v cargo >/dev/null || { echo 'needs cargo' >&2; exit 2; }
[ "$(uname -s)" = Linux ] || { echo 'recorded on Linux' >&2; exit 3; }
echo "tokio 1.54.1, $(cargo --version), Linux $(uname -r)"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/src"
cat >"$work/Cargo.toml" <<'TOML'
[package]
name = "finding"
version = "0.0.0"
edition = "2021"
[dependencies]
tokio = { version = "=1.54.1", features = ["macros", "net", "rt", "time"] }
TOML
cat >"$work/src/main.rs" <<'RS'
use std::future::{poll_fn, Future};
use std::io;
use std::net::UdpSocket as Blocking;
use std::time::Duration;
use tokio::io::{Interest, ReadBuf};
use tokio::net::UdpSocket;
use tokio::time::timeout;

/// A socket that has sent a datagram to a port of loopback where nobody listens.
async fn refused() -> io::Result<UdpSocket> {
    let closed = Blocking::bind("127.0.0.1:0")?.local_addr()?;
    let socket = UdpSocket::bind("127.0.0.1:0").await?;
    socket.connect(closed).await?;
    socket.send(b"?").await?;
    Ok(socket)
}

fn word<T>(result: io::Result<T>) -> String {
    result.map_or_else(|e| format!("{:?}", e.kind()), |_| "woken".into())
}

async fn tell<T>(name: &str, socket: &UdpSocket, wait: impl Future<Output = io::Result<T>>) -> io::Result<()> {
    let seen = timeout(Duration::from_secs(1), wait).await.map_or("sleeps for 1 s".into(), word);
    let tried = word(socket.try_recv(&mut [0; 8]));
    let left = socket.take_error()?.map_or("nothing".into(), |e| format!("{:?}", e.kind()));
    println!("{name}: {seen}; then try_recv {tried}, SO_ERROR {left}");
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let closed = Blocking::bind("127.0.0.1:0")?.local_addr()?;
    let socket = Blocking::bind("127.0.0.1:0")?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    socket.connect(closed)?;
    socket.send(b"?")?;
    println!("recv of std: {}", word(socket.recv(&mut [0; 8])));

    let s = refused().await?;
    tell("recv", &s, s.recv(&mut [0; 8])).await?;
    let s = refused().await?;
    tell("recv_from", &s, s.recv_from(&mut [0; 8])).await?;
    let s = refused().await?;
    tell("ready(READABLE | ERROR)", &s, s.ready(Interest::READABLE | Interest::ERROR)).await?;
    let s = refused().await?;
    tell("readable", &s, s.readable()).await?;
    let s = refused().await?;
    tell("ready(READABLE)", &s, s.ready(Interest::READABLE)).await?;
    let s = refused().await?;
    tell("async_io(READABLE)", &s, s.async_io(Interest::READABLE, || Ok(()))).await?;
    let s = refused().await?;
    tell("poll_recv_ready", &s, poll_fn(|c| s.poll_recv_ready(c))).await?;
    let s = refused().await?;
    tell("poll_recv", &s, poll_fn(|c| s.poll_recv(c, &mut ReadBuf::new(&mut [0; 8])))).await?;
    let s = refused().await?;
    tell("poll_recv_from", &s, poll_fn(|c| s.poll_recv_from(c, &mut ReadBuf::new(&mut [0; 8])))).await
}
RS

recorded='recv of std: ConnectionRefused
recv: ConnectionRefused; then try_recv WouldBlock, SO_ERROR nothing
recv_from: ConnectionRefused; then try_recv WouldBlock, SO_ERROR nothing
ready(READABLE | ERROR): woken; then try_recv WouldBlock, SO_ERROR ConnectionRefused
readable: sleeps for 1 s; then try_recv WouldBlock, SO_ERROR ConnectionRefused
ready(READABLE): sleeps for 1 s; then try_recv WouldBlock, SO_ERROR ConnectionRefused
async_io(READABLE): sleeps for 1 s; then try_recv WouldBlock, SO_ERROR ConnectionRefused
poll_recv_ready: sleeps for 1 s; then try_recv WouldBlock, SO_ERROR ConnectionRefused
poll_recv: sleeps for 1 s; then try_recv WouldBlock, SO_ERROR ConnectionRefused
poll_recv_from: sleeps for 1 s; then try_recv WouldBlock, SO_ERROR ConnectionRefused'
seen=$(cd "$work" && nice -n 10 cargo run --quiet)
echo "$seen"
[ "$seen" = "$recorded" ] || { echo 'CHANGED: this is not what was recorded' >&2; exit 1; }
echo 'as recorded'
