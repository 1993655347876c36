//! Queries over UDP: read as they come, answered from the table at once, passed on by a task each.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::sleep;

use super::forwarder::Via;
use super::proxy::{DnsProxy, Look};

/// A longer query is no query of a host.
const MAX_QUERY: usize = 4096;
/// Queries answered before others have their turn.
const BATCH: usize = 32;
/// After an error that is not about one datagram.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves until the process ends.
pub(super) async fn serve(proxy: Rc<DnsProxy>, socket: UdpSocket) {
    let socket = Rc::new(socket);
    let mut buffer = vec![0; MAX_QUERY];
    loop {
        if let Err(error) = socket.readable().await {
            tracing::warn!(%error, "the DNS listener cannot wait for queries");
            sleep(PAUSE).await;
            continue;
        }
        for _ in 0..BATCH {
            match socket.try_recv_from(&mut buffer) {
                Ok((len, client)) if len < buffer.len() => take(&proxy, &socket, &buffer[..len], client),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                // Too long, or word of a client that is gone; the next datagram is another's.
                Ok(_) | Err(_) => {}
            }
        }
        tokio::task::yield_now().await;
    }
}

fn take(proxy: &Rc<DnsProxy>, socket: &Rc<UdpSocket>, bytes: &[u8], client: SocketAddr) {
    match proxy.look(bytes, Via::Udp) {
        Look::Nothing => {}
        Look::Answered(answer) => send(socket, &answer, client),
        Look::Pending(pending) => {
            let (proxy, socket) = (Rc::clone(proxy), Rc::clone(socket));
            tokio::task::spawn_local(async move {
                let answer = proxy.finish(pending).await;
                send(&socket, &answer, client);
            });
        }
    }
}

/// What the kernel does not take now is lost, as any datagram may be; the client asks again.
fn send(socket: &UdpSocket, answer: &[u8], client: SocketAddr) {
    let _ = socket.try_send_to(answer, client);
}
