//! A program's end of a connection as plaintext: as it is, or through rustls as a server.

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::sync::Arc;

use rustls::{ServerConfig, ServerConnection};

use crate::io::simulation::Far;

/// As much as a program takes at once.
const PIECE: usize = 16 * 1024;

pub(super) struct Wire {
    pub(super) far: Far,
    tls: Option<RefCell<ServerConnection>>,
}

impl Wire {
    pub(super) fn plain(far: Far) -> Self {
        Self { far, tls: None }
    }

    /// The server's part of a handshake.
    ///
    /// # Errors
    /// The connection's, or what is wrong with the client's messages.
    pub(super) async fn accept(far: Far, config: &Arc<ServerConfig>) -> io::Result<Self> {
        let tls = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
        let wire = Self { far, tls: Some(RefCell::new(tls)) };
        while wire.session(|tls| tls.is_handshaking()) {
            wire.fill().await?;
        }
        Ok(wire)
    }

    fn session<T>(&self, look: impl FnOnce(&mut ServerConnection) -> T) -> T {
        look(&mut self.tls.as_ref().expect("it is TLS").borrow_mut())
    }

    /// What was agreed upon in the handshake that is spoken.
    pub(super) fn alpn(&self) -> Option<Vec<u8>> {
        self.tls.as_ref()?.borrow().alpn_protocol().map(<[u8]>::to_vec)
    }

    /// Takes records in, and says what the session has to say.
    async fn fill(&self) -> io::Result<()> {
        let records = self.far.recv(PIECE).await?;
        if records.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut rest = &records[..];
        let mut result = Ok(());
        while !rest.is_empty() && result.is_ok() {
            result = self.session(|tls| {
                tls.read_tls(&mut rest)?;
                tls.process_new_packets().map(drop).map_err(io::Error::other)
            });
        }
        self.flush().await?;
        result
    }

    async fn flush(&self) -> io::Result<()> {
        let mut records = Vec::new();
        self.session(|tls| {
            while tls.wants_write() {
                tls.write_tls(&mut records).expect("a vector takes everything");
            }
        });
        self.far.send(&records).await
    }

    /// The next bytes; none after the peer's end.
    pub(super) async fn recv(&self) -> io::Result<Vec<u8>> {
        if self.tls.is_none() {
            return self.far.recv(PIECE).await;
        }
        loop {
            let mut bytes = vec![0; PIECE];
            match self.session(|tls| tls.reader().read(&mut bytes)) {
                Ok(count) => {
                    bytes.truncate(count);
                    return Ok(bytes);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.fill().await?,
                Err(error) => return Err(error),
            }
        }
    }

    pub(super) async fn send(&self, bytes: &[u8]) -> io::Result<()> {
        if self.tls.is_none() {
            return self.far.send(bytes).await;
        }
        for piece in bytes.chunks(PIECE) {
            self.session(|tls| tls.writer().write_all(piece))?;
            self.flush().await?;
        }
        Ok(())
    }

    /// close_notify where there is TLS, then FIN.
    pub(super) async fn finish(&self) {
        if self.tls.is_some() {
            self.session(|tls| tls.send_close_notify());
            // A peer that is gone needs no end.
            let _ = self.flush().await;
        }
        self.far.finish();
    }
}
