//! The proof that DNS is captured: a real query to a name server, as somebody whom the rules do not exempt.
//!
//! Where the proxy runs it must answer the question that only it knows. Before it runs the query must arrive at its port.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use super::RedirectError;
use super::capture::{Capture, DNS, DnsCapture, DnsServers};
use super::rules::Ipv6;
use super::stranger::as_stranger;
use crate::dns::about;

/// How long one query has, and how often it is sent: a datagram may be lost.
const PATIENCE: Duration = Duration::from_secs(1);
const TRIES: u16 = 3;

const ADVICE: &str = "another rule of this network namespace may drop or divert queries before egret's do: look at `nft list \
                      ruleset` and `iptables-save` here, or skip this step with --no-verify";

/// Where nobody is, for rules that capture any server's port (RFC 5737, RFC 3849).
const NOBODY: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2))];

/// What became of a query.
enum Asked {
    /// No packet can be sent there from here.
    NoRoute,
    /// The listener's own word.
    Answered(String),
    Refused,
    Silence,
}

/// Asks a server of each family; what was seen, one sentence for each.
pub(super) fn verify(capture: &Capture, dns: &DnsCapture, ipv6: Ipv6) -> Result<Vec<String>, RedirectError> {
    let candidates = match &dns.servers {
        DnsServers::Listed(servers) => servers.as_slice(),
        DnsServers::Any => &NOBODY,
    };
    let mut seen = Vec::new();
    for is_v4 in [true, false] {
        let of_family = candidates.iter().filter(|ip| ip.is_ipv4() == is_v4 && !is_link_local(**ip));
        for server in of_family.map(|ip| SocketAddr::new(*ip, DNS)) {
            let found = match ipv6 {
                Ipv6::Absent if !is_v4 => None,
                Ipv6::Reject if !is_v4 => rejected(capture, server)?,
                Ipv6::Redirect | Ipv6::Reject | Ipv6::Absent => captured(capture, dns, server)?,
            };
            if let Some(sentence) = found {
                seen.push(sentence);
                break;
            }
        }
    }
    if seen.is_empty() {
        seen.push("no name server has a route from here, so no query could be made; the rules were accepted".into());
    }
    Ok(seen)
}

/// An address of a link says nothing without the link's name.
fn is_link_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local())
}

/// Asks and expects to arrive at the listener's port. `None`: there is no route to the server.
fn captured(capture: &Capture, dns: &DnsCapture, server: SocketAddr) -> Result<Option<String>, RedirectError> {
    let loopback: IpAddr = if server.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
    let home = SocketAddr::new(loopback, dns.port);
    match UdpSocket::bind(home) {
        Ok(listener) => arrives(capture, &listener, server, home),
        Err(error) if error.kind() == ErrorKind::AddrInUse => match ask(capture, server)? {
            Asked::NoRoute => Ok(None),
            Asked::Answered(text) => Ok(Some(format!(
                "a DNS query to {server} was answered at {home} by the proxy that runs already ({text})"
            ))),
            Asked::Refused => Err(missed(server, home, "it was refused")),
            Asked::Silence => Err(missed(server, home, "nothing that only the proxy knows came back")),
        },
        Err(error) => Err(failed(format!("cannot listen on {home}: {error}; is the interface lo up?"))),
    }
}

/// Asks and expects a refusal by this host.
fn rejected(capture: &Capture, server: SocketAddr) -> Result<Option<String>, RedirectError> {
    match ask(capture, server)? {
        Asked::NoRoute => Ok(None),
        Asked::Refused => Ok(Some(format!("a DNS query to {server} was rejected"))),
        Asked::Answered(_) | Asked::Silence => {
            Err(failed(format!("a DNS query to {server} should have been rejected, but was not; {ADVICE}")))
        }
    }
}

fn failed(text: String) -> RedirectError {
    RedirectError::Verification(text)
}

fn missed(server: SocketAddr, home: SocketAddr, seen: &str) -> RedirectError {
    failed(format!("a DNS query to {server} should have arrived at {home}, but: {seen}; {ADVICE}"))
}

/// Nobody listens yet: the query must come to us. What others ask meanwhile is not answered, as it would not be without us.
fn arrives(
    capture: &Capture,
    listener: &UdpSocket,
    server: SocketAddr,
    home: SocketAddr,
) -> Result<Option<String>, RedirectError> {
    let io = |error: io::Error| missed(server, home, &error.to_string());
    for id in 1..=TRIES {
        let sent = as_stranger(capture, move || {
            let socket = connect(server)?;
            socket.send(&about::query(id))
        })?;
        match sent {
            Ok(_) => {}
            Err(error) if is_no_route(&error) => return Ok(None),
            Err(error) => return Err(io(error)),
        }
        let deadline = Instant::now() + PATIENCE;
        while let Some(left) = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            listener.set_read_timeout(Some(left)).map_err(io)?;
            let mut buffer = [0; 512];
            match listener.recv_from(&mut buffer) {
                Ok((length, _)) if buffer[..length] == about::query(id) => {
                    return Ok(Some(format!("a DNS query to {server} arrived at {home}")));
                }
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(io(error)),
            }
        }
    }
    Err(missed(server, home, "it did not"))
}

fn ask(capture: &Capture, server: SocketAddr) -> Result<Asked, RedirectError> {
    let asked = as_stranger(capture, move || asked(server))?;
    asked.map_err(|error| failed(format!("a DNS query to {server}: {error}; {ADVICE}")))
}

/// What the proxy's listener says of itself where a query to `server` comes to it; asked as whoever runs this thread.
pub fn listener_behind(server: IpAddr) -> io::Result<Option<String>> {
    Ok(match asked(SocketAddr::new(server, DNS))? {
        Asked::Answered(text) => Some(text),
        Asked::NoRoute | Asked::Refused | Asked::Silence => None,
    })
}

fn asked(server: SocketAddr) -> io::Result<Asked> {
    for id in 1..=TRIES {
        let socket = match connect(server) {
            Ok(socket) => socket,
            Err(error) if is_no_route(&error) => return Ok(Asked::NoRoute),
            Err(error) => return Err(error),
        };
        socket.set_read_timeout(Some(PATIENCE))?;
        let mut buffer = [0; 512];
        match socket.send(&about::query(id)).and_then(|_| socket.recv(&mut buffer)) {
            Ok(length) => return Ok(about::text(id, &buffer[..length]).map_or(Asked::Silence, Asked::Answered)),
            // Netfilter's rejection reaches the sender at once (EPERM) or as an ICMP error on the next call.
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::PermissionDenied) => {
                return Ok(Asked::Refused);
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) if is_no_route(&error) => return Ok(Asked::NoRoute),
            Err(error) => return Err(error),
        }
    }
    Ok(Asked::Silence)
}

fn connect(server: SocketAddr) -> io::Result<UdpSocket> {
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(server)?;
    Ok(socket)
}

fn is_no_route(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NetworkUnreachable | ErrorKind::HostUnreachable)
}
