//! What a socket is asked without an operation: the system answers at once.
//!
//! Real sockets answer by the kernel, which is what each function does unless a driver has its own: the one of the tests
//! has sockets of which no kernel knows the addresses.

#![allow(unsafe_code, reason = "what the peer has acknowledged is asked by ioctl(2)")]

use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use socket2::{SockAddr, SockRef};

pub(in crate::io) trait Queries {
    /// getsockname(2).
    fn local_addr(&self, socket: BorrowedFd<'_>) -> io::Result<SocketAddr> {
        address(&SockRef::from(&socket).local_addr()?)
    }

    /// getpeername(2).
    fn peer_addr(&self, socket: BorrowedFd<'_>) -> io::Result<SocketAddr> {
        address(&SockRef::from(&socket).peer_addr()?)
    }

    /// `SO_ORIGINAL_DST` (linux/netfilter_ipv4.h), or its IPv6 sibling when the connection is IPv6 and not a mapped IPv4
    /// one, which the `client`'s address tells.
    fn original_dst(&self, socket: BorrowedFd<'_>, client: SocketAddr) -> io::Result<SocketAddr> {
        let socket = SockRef::from(&socket);
        let original = match client {
            SocketAddr::V6(client) if client.ip().to_ipv4_mapped().is_none() => socket.original_dst_v6()?,
            _ => socket.original_dst_v4()?,
        };
        address(&original)
    }

    /// `SO_ERROR`.
    fn take_error(&self, socket: BorrowedFd<'_>) -> Option<io::Error> {
        SockRef::from(&socket).take_error().unwrap_or_else(Some)
    }

    /// Has nothing arrived that was not received, the peer's end included?
    fn is_quiet(&self, socket: BorrowedFd<'_>) -> bool {
        let mut byte = [MaybeUninit::uninit()];
        let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
        let peeked = SockRef::from(&socket).recv_with_flags(&mut byte, flags);
        peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Bytes that the kernel has taken and the peer has not acknowledged (`SIOCOUTQ`, tcp(7)); none when nothing can be
    /// acknowledged any more.
    fn unacknowledged(&self, socket: BorrowedFd<'_>) -> usize {
        let mut count: libc::c_int = 0;
        // SAFETY: this request writes one int to the place it is given, which lives until the call returns.
        let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut count) };
        if result == 0 { usize::try_from(count).unwrap_or(0) } else { 0 }
    }
}

fn address(address: &SockAddr) -> io::Result<SocketAddr> {
    address.as_socket().ok_or_else(|| io::Error::other("the socket's address is not an IP address"))
}
