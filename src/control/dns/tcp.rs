//! Queries over TCP (RFC 7766): a length of two octets before each, answered in their order.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::forwarder::Via;
use super::proxy::{DnsProxy, Look};
use super::stats::Counted;

/// Connections at once; others wait in the kernel's backlog.
pub(super) const MAX_CONNECTIONS: usize = 64;
/// From this many on idle ones are closed sooner.
const MANY: u64 = 48;
/// How long a connection may be silent, or not take its answer.
const PATIENCE: Duration = Duration::from_secs(10);
const SHORT_PATIENCE: Duration = Duration::from_secs(2);
/// After an error of accept: descriptors are exhausted, and will not be for long.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves until the process ends. `permits` are shared by the listeners of both families.
pub(super) async fn serve(proxy: Rc<DnsProxy>, listener: TcpListener, permits: Rc<Semaphore>) {
    loop {
        let permit = Rc::clone(&permits);
        // A permit is forgotten here and given back by the connection's task.
        permit.acquire().await.expect("the semaphore is never closed").forget();
        match listener.accept().await {
            Ok((stream, _)) => {
                let proxy = Rc::clone(&proxy);
                tokio::task::spawn_local(async move {
                    let counted = Counted::one(&proxy.stats.connections);
                    if let Err(error) = converse(&proxy, stream).await {
                        tracing::debug!(%error, "a DNS connection ended");
                    }
                    drop(counted);
                    permit.add_permits(1);
                });
            }
            Err(error) => {
                permit.add_permits(1);
                tracing::debug!(%error, "the DNS listener cannot accept");
                sleep(PAUSE).await;
            }
        }
    }
}

async fn converse(proxy: &DnsProxy, mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    loop {
        let patience = if proxy.stats.connections.get() > MANY { SHORT_PATIENCE } else { PATIENCE };
        let Some(query) = timeout(patience, read_query(&mut stream)).await.map_err(io::Error::other)?? else {
            return Ok(());
        };
        let answer = match proxy.look(&query, Via::Tcp) {
            // Whoever sends what is no query is not waited for.
            Look::Nothing => return Ok(()),
            Look::Answered(answer) => answer,
            Look::Pending(pending) => proxy.finish(pending).await,
        };
        let length = u16::try_from(answer.len()).map_err(io::Error::other)?.to_be_bytes();
        let framed = [&length[..], &answer].concat();
        timeout(PATIENCE, stream.write_all(&framed)).await.map_err(io::Error::other)??;
    }
}

/// `None` at the end of the connection.
async fn read_query(stream: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
    let length = match stream.read_u16().await {
        Ok(length) => length,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    };
    // Grows as bytes come: a length alone takes no memory.
    let mut query = Vec::new();
    (&mut *stream).take(length.into()).read_to_end(&mut query).await?;
    if query.len() < usize::from(length) {
        return Ok(None);
    }
    Ok(Some(query))
}
