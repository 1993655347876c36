//! A peer of HTTP/2 that writes its frames byte by byte, over a connection of the lab.

use std::io::{self, Read, Write};
use std::net::TcpStream;

#[path = "../http/frames.rs"]
mod bytes;

pub use bytes::*;

pub struct RawHttp2 {
    stream: TcpStream,
}

impl RawHttp2 {
    /// Has sent the preface and `said`.
    pub fn new(stream: TcpStream, said: &[(u16, u32)]) -> Self {
        let mut client = Self { stream };
        client.send(&[PREFACE, &settings(said)].concat()).expect("a new connection takes as much");
        client
    }

    /// The side of a server: has read the preface, and sent `said`.
    pub fn server(mut stream: TcpStream, said: &[(u16, u32)]) -> io::Result<Self> {
        let mut preface = [0; PREFACE.len()];
        stream.read_exact(&mut preface)?;
        if preface != PREFACE {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut server = Self { stream };
        server.send(&settings(said))?;
        Ok(server)
    }

    /// What `stream` has yet to say, where another has sent the preface.
    pub fn from(stream: TcpStream) -> Self {
        Self { stream }
    }

    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// The next frame; an error at the end. Settings are acknowledged.
    pub fn frame(&mut self) -> io::Result<Frame> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head)?;
        let [a, b, c, kind, flags, stream @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        self.stream.read_exact(&mut payload)?;
        if kind == SETTINGS && flags & ACK == 0 {
            self.send(&frame(SETTINGS, ACK, 0, b""))?;
        }
        Ok(Frame { kind, flags, stream: u32::from_be_bytes(stream), payload })
    }

    /// The next frame of one of `kinds`.
    pub fn next_of(&mut self, kinds: &[u8]) -> io::Result<Frame> {
        loop {
            let frame = self.frame()?;
            if kinds.contains(&frame.kind) {
                return Ok(frame);
            }
        }
    }
}
