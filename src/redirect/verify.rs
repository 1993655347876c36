//! The proof: a real connection, as somebody whom the rules do not exempt, to somewhere else, and a look at where it
//! came out and what the kernel says it was meant for.
//!
//! Rules that read well prove nothing: another table may drop, another chain may come first, conntrack may be missing.
//! It knows what must happen ([`Capture`], [`Ipv6`]) and nothing of how the rules were written.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use super::RedirectError;
use super::capture::Capture;
use super::namespace::tcp_sockets;
use super::rules::{Family, Ipv6};
use super::stranger::as_stranger;
use super::target::{self, ScratchLink};
use super::verify_dns;

/// Redirected connections are answered by this host; anything slower was dropped on the way.
const PATIENCE: Duration = Duration::from_secs(3);

/// The proxy resets a connection as soon as `target` refuses it, which may be before it was seen: so often it is tried again.
const RESETS: usize = 20;

/// Makes the connections and asks the name servers; what was seen, one sentence for each, for the output.
pub fn verify(capture: &Capture, ipv6: Ipv6) -> Result<Vec<String>, RedirectError> {
    let mut seen = connections(capture, ipv6)?;
    if let Some(dns) = &capture.dns {
        seen.extend(verify_dns::verify(capture, dns, ipv6)?);
    }
    Ok(seen)
}

fn connections(capture: &Capture, ipv6: Ipv6) -> Result<Vec<String>, RedirectError> {
    if !capture.redirects() {
        return Ok(vec!["no network and no port is included, so there is no connection to verify".into()]);
    }
    let v4 = target::find(capture, Family::V4);
    let v6 = target::find(capture, Family::V6).filter(|_| ipv6 != Ipv6::Absent);
    let mut seen = Vec::new();
    if let Some(target) = v4 {
        seen.push(redirected(capture, target)?);
    }
    match (v6, ipv6) {
        (Some(target), Ipv6::Reject) => seen.push(rejected(capture, target)?),
        (Some(target), _) => seen.push(redirected(capture, target)?),
        (None, _) => {}
    }
    if seen.is_empty() {
        seen.push(without_routes(capture)?);
    }
    Ok(seen)
}

fn without_routes(capture: &Capture) -> Result<String, RedirectError> {
    match ScratchLink::up(capture) {
        Some(link) => {
            Ok(format!("{} (through a temporary interface: no route leaves here)", redirected(capture, link.target)?))
        }
        None => {
            Ok("no included destination has a route from here, so no connection could be made; the rules were accepted"
                .into())
        }
    }
}

fn failed(text: String) -> RedirectError {
    RedirectError::Verification(text)
}

const ADVICE: &str = "another rule of this network namespace may drop or divert connections before egret's do: look at \
                      `nft list ruleset` and `iptables-save` here, see that lo is up, or skip this step with --no-verify";

/// Dials and expects to arrive at the proxy's port with the dialled address as the original destination.
fn redirected(capture: &Capture, target: SocketAddr) -> Result<String, RedirectError> {
    let home = SocketAddr::from((loopback(target), capture.proxy_port));
    let listener = match listen(home) {
        Ok(listener) => listener,
        Err(error) if error.kind() == ErrorKind::AddrInUse => return to_running_proxy(capture, target, home),
        Err(error) => return Err(failed(format!("cannot listen on {home}: {error}; is the interface lo up?"))),
    };
    let client = dial(capture, target)?.map_err(|error| missed(target, home, &error.to_string()))?;
    let own = client.local_addr().map_err(|error| missed(target, home, &error.to_string()))?;
    let original = arrival(&listener, own, target).map_err(|error| {
        missed(target, home, &format!("the connection was accepted elsewhere or its origin is unknown ({error})"))
    })?;
    if original != target {
        return Err(missed(target, home, &format!("it arrived with the original destination {original}")));
    }
    Ok(format!("a connection to {target} arrived at {home} with its original destination"))
}

fn missed(target: SocketAddr, home: SocketAddr, seen: &str) -> RedirectError {
    failed(format!("a connection to {target} should have arrived at {home}, but: {seen}; {ADVICE}"))
}

fn loopback(target: SocketAddr) -> IpAddr {
    if target.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() }
}

/// Without SO_REUSEPORT: a proxy that is there must be noticed, not competed with.
fn listen(at: SocketAddr) -> std::io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&at.into())?;
    socket.listen(128)?;
    // On Linux this bounds accept as well.
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// The original destination of the connection from `client` to `target`. Others that arrive meanwhile are closed: nothing
/// else could be done with them before the proxy runs. Where an older connection still has the client's port for its own
/// in the kernel's NAT, ours arrives from another port; nobody else dials `target`, which is of no use (RFC 5737, RFC 3849).
fn arrival(listener: &Socket, client: SocketAddr, target: SocketAddr) -> std::io::Result<SocketAddr> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        let (connection, peer) = listener.accept()?;
        // A reset leaves no TIME_WAIT on the port that the proxy is about to bind.
        connection.set_linger(Some(Duration::ZERO))?;
        let original = if client.is_ipv4() { connection.original_dst_v4() } else { connection.original_dst_v6() };
        let original = original.map(|address| address.as_socket());
        if peer.as_socket() == Some(client) {
            return original?.ok_or_else(|| ErrorKind::InvalidData.into());
        }
        if let Ok(Some(original)) = original
            && original == target
        {
            return Ok(original);
        }
    }
    Err(ErrorKind::TimedOut.into())
}

/// Somebody listens on the proxy's port, most likely the proxy. The kernel's list of sockets then shows whether the
/// connection came to that port.
fn to_running_proxy(capture: &Capture, target: SocketAddr, home: SocketAddr) -> Result<String, RedirectError> {
    let mut tries = 0..RESETS;
    let sockets = loop {
        let is_last = tries.next().is_none();
        let client = match dial(capture, target)? {
            Ok(client) => client,
            Err(error) if error.kind() == ErrorKind::ConnectionReset && !is_last => continue,
            Err(error) => return Err(missed(target, home, &error.to_string())),
        };
        let own = client.local_addr().map_err(|error| missed(target, home, &error.to_string()))?;
        let sockets = tcp_sockets();
        if sockets.iter().any(|s| s.local_port == home.port() && s.remote_port == own.port()) {
            break sockets;
        }
        if is_last {
            return Err(missed(target, home, "it was accepted, but not at that port"));
        }
    };
    let owner = sockets.iter().find(|s| s.local_port == home.port() && s.listening).map(|s| s.uid);
    let owner = match owner {
        Some(uid) if capture.proxy_uids.contains(&uid) => "the proxy that runs already".into(),
        Some(uid) => format!("a process of uid {uid}, which is not the proxy's, that listens already"),
        None => "what listens there already".into(),
    };
    Ok(format!("a connection to {target} arrived at {home}, at {owner}"))
}

/// Dials and expects a refusal by this host.
fn rejected(capture: &Capture, target: SocketAddr) -> Result<String, RedirectError> {
    match dial(capture, target)? {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            Ok(format!("a connection to {target} was rejected"))
        }
        Err(error) => {
            Err(failed(format!("a connection to {target} should have been rejected, but: {error}; {ADVICE}")))
        }
        Ok(_) => Err(failed(format!("a connection to {target} should have been rejected, but was accepted; {ADVICE}"))),
    }
}

/// A connection as somebody who is not exempt; the outer error is about becoming that somebody.
fn dial(capture: &Capture, target: SocketAddr) -> Result<std::io::Result<TcpStream>, RedirectError> {
    as_stranger(capture, move || {
        let client = TcpStream::connect_timeout(&target, PATIENCE)?;
        socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO))?;
        Ok(client)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arrival_without_a_redirect_has_no_original_destination() {
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let at = listener.local_addr().unwrap().as_socket().unwrap();
        let client = TcpStream::connect(at).unwrap();
        let original = arrival(&listener, client.local_addr().unwrap(), at);
        assert!(original.is_err() || original.unwrap() == at);
    }
}
