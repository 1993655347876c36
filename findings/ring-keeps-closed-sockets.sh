#!/usr/bin/env bash
# io_uring: close() on a socket closes nothing while a request of a ring waits on it.
#
# Expected: after close() of the last descriptor of a socket, a TCP connection is shut down (the peer reads the end), and a listener is gone
#   (connecting is refused). Waiting in epoll does not change that, and a reader blocked in another thread is a known exception.
# Happens: a request that waits holds the file. With one receive in flight the peer reads no end, can go on sending, and its
#   bytes are delivered to the ring. With one accept in flight a closed listener goes on accepting and its port stays
#   taken: binding anew fails with EADDRINUSE. The file goes when the request completes or is cancelled.
# Why it matters: in a proxy on a ring "drop the socket" leaves the other side of a connection open, and a drain that closes its listener
#   goes on taking connections, one for each request in flight (a multishot accept: without end).
#   Shut down or cancel first (IORING_OP_ASYNC_CANCEL by descriptor), then close.
# Seen on: Linux 6.18, crate io-uring 0.7.15.
# Source: io_uring_enter(2) and io_uring_prep_close(3) speak of references; the tests here show what follows from them.
# Needs: cargo, a kernel that allows io_uring.
set -euo pipefail
command -v cargo >/dev/null || { echo 'needs cargo' >&2; exit 2; }
echo "Linux $(uname -r), $(cargo --version), io-uring 0.7.15"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/src"
cat >"$work/Cargo.toml" <<'TOML'
[package]
name = "finding"
version = "0.0.0"
edition = "2021"
[dependencies]
io-uring = "=0.7.15"
libc = "=0.2.191"
TOML
cat >"$work/src/main.rs" <<'RS'
use io_uring::{opcode, squeue, types, IoUring};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::IntoRawFd;
use std::time::Duration;

fn submit(ring: &mut IoUring, entry: squeue::Entry) -> io::Result<()> {
    // SAFETY: what the entries point to lives until main returns.
    unsafe { ring.submission().push(&entry).expect("the ring has room") };
    ring.submit().map(|_| ())
}

fn completed(ring: &mut IoUring) -> io::Result<i32> {
    ring.submit_and_wait(1)?;
    Ok(ring.completion().next().expect("one was waited for").result())
}

fn read(peer: &mut TcpStream) -> &'static str {
    match peer.read(&mut [0; 8]) {
        Ok(0) => "the end",
        Ok(_) => "data",
        Err(_) => "nothing",
    }
}

fn connects(address: &std::net::SocketAddr) -> &'static str {
    TcpStream::connect_timeout(address, Duration::from_secs(2)).map_or("refused", |_| "connected")
}

fn main() -> io::Result<()> {
    let mut ring = IoUring::new(8)?;
    let mut buffer = [0u8; 8];

    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let mut peer = TcpStream::connect(address)?;
    peer.set_read_timeout(Some(Duration::from_secs(2)))?;
    let socket = listener.accept()?.0.into_raw_fd();
    submit(&mut ring, opcode::Recv::new(types::Fd(socket), buffer.as_mut_ptr(), 8).build())?;
    // SAFETY: the descriptor is ours and is not used again.
    unsafe { libc::close(socket) };
    println!("socket closed, receive in flight: peer reads {}", read(&mut peer));
    peer.write_all(b"late")?;
    let length = completed(&mut ring)?;
    println!("peer sends: the ring gets {}", String::from_utf8_lossy(&buffer[..length as usize]));
    println!("receive completed: peer reads {}", read(&mut peer));

    let listener = listener.into_raw_fd();
    submit(&mut ring, opcode::AcceptMulti::new(types::Fd(listener)).build().user_data(7))?;
    // SAFETY: the descriptor is ours and is not used again.
    unsafe { libc::close(listener) };
    println!("listener closed, multishot accept in flight: {}, {}", connects(&address), connects(&address));
    println!("binding anew: {}", TcpListener::bind(address).err().map_or("works".into(), |e| format!("{:?}", e.kind())));
    submit(&mut ring, opcode::AsyncCancel::new(7).build())?;
    for _ in 0..4 {
        completed(&mut ring)?; // two connections, the end of the accept, the cancellation
    }
    println!("accept cancelled: {}", connects(&address));
    Ok(())
}
RS

recorded='socket closed, receive in flight: peer reads nothing
peer sends: the ring gets late
receive completed: peer reads the end
listener closed, multishot accept in flight: connected, connected
binding anew: AddrInUse
accept cancelled: refused'
seen=$(cd "$work" && nice -n 10 cargo run --quiet)
echo "$seen"
[ "$seen" = "$recorded" ] || { echo 'CHANGED: this is not what was recorded' >&2; exit 1; }
echo 'as recorded'
