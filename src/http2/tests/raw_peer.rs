//! A peer over a pipe that writes frames byte by byte, so that it can say what no library would, and reads them.

use std::collections::BTreeMap;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

pub use super::frames::*;

/// GET of `/`, in order.
pub const GET: [(&str, &str); 4] = [(":method", "GET"), (":scheme", "http"), (":authority", "a.test"), (":path", "/")];
pub const POST: [(&str, &str); 4] =
    [(":method", "POST"), (":scheme", "http"), (":authority", "a.test"), (":path", "/")];

pub struct RawPeer {
    pipe: DuplexStream,
    input: Vec<u8>,
}

impl RawPeer {
    /// A client that has sent its preface and settings.
    pub async fn client(pipe: DuplexStream) -> Self {
        let mut peer = Self { pipe, input: Vec::new() };
        peer.send(&[PREFACE, &frame(SETTINGS, 0, 0, b"")].concat()).await;
        peer
    }

    /// A server that has got the client's preface, and sent its settings.
    pub async fn server(pipe: DuplexStream) -> Self {
        let mut peer = Self { pipe, input: Vec::new() };
        let mut preface = [0; 24];
        peer.pipe.read_exact(&mut preface).await.unwrap();
        assert_eq!(preface, PREFACE);
        peer.send(&frame(SETTINGS, 0, 0, b"")).await;
        peer
    }

    /// Writes `bytes`; whoever has closed does not get them.
    pub async fn send(&mut self, bytes: &[u8]) {
        let _ = self.pipe.write_all(bytes).await;
    }

    /// As [`send`](Self::send); whether they were taken.
    pub async fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.pipe.write_all(bytes).await.is_ok()
    }

    /// The next frame; `None` at the end. Settings are acknowledged. Dropping the future loses nothing.
    pub async fn read(&mut self) -> Option<Frame> {
        self.fill(9).await?;
        let length = u32::from_be_bytes([0, self.input[0], self.input[1], self.input[2]]) as usize;
        self.fill(9 + length).await?;
        let bytes: Vec<u8> = self.input.drain(..9 + length).collect();
        let [_, _, _, kind, flags, stream @ ..] = *bytes.first_chunk::<9>().unwrap();
        if kind == SETTINGS && flags & ACK == 0 {
            self.send(&frame(SETTINGS, ACK, 0, b"")).await;
        }
        Some(Frame { kind, flags, stream: u32::from_be_bytes(stream), payload: bytes[9..].to_vec() })
    }

    /// Reads until there are `count` bytes.
    async fn fill(&mut self, count: usize) -> Option<()> {
        while self.input.len() < count {
            if self.pipe.read_buf(&mut self.input).await.ok()? == 0 {
                return None;
            }
        }
        Some(())
    }

    /// The next frame of one of `kinds`; `None` at the end.
    pub async fn next_of(&mut self, kinds: &[u8]) -> Option<Frame> {
        loop {
            let frame = self.read().await?;
            if kinds.contains(&frame.kind) {
                return Some(frame);
            }
        }
    }

    /// The error code of the GOAWAY that ends the connection; `None`: it ended without.
    pub async fn goaway(&mut self) -> Option<u32> {
        self.next_of(&[GOAWAY]).await.map(|frame| frame.code())
    }

    /// How stream `id` ends: `Ok` with what came of its body, or the error code of its reset.
    pub async fn outcome(&mut self, id: u32) -> Result<Vec<u8>, u32> {
        self.outcomes(&[id]).await.remove(&id).unwrap()
    }

    /// How each of the streams `ids` ends, in whatever order.
    pub async fn outcomes(&mut self, ids: &[u32]) -> BTreeMap<u32, Result<Vec<u8>, u32>> {
        let (mut open, mut ended) = (BTreeMap::<u32, Vec<u8>>::new(), BTreeMap::new());
        while ended.len() < ids.len() {
            let frame = self.next_of(&[DATA, HEADERS, RST_STREAM, GOAWAY]).await.expect("the connection lives");
            let outcome = match frame.kind {
                GOAWAY => {
                    assert_eq!(frame.code(), 0, "the connection ended: {frame:?}");
                    continue;
                }
                RST_STREAM => Err(frame.code()),
                kind => {
                    let body = open.entry(frame.stream).or_default();
                    body.extend(if kind == DATA { &frame.payload[..] } else { b"" });
                    if frame.flags & END_STREAM == 0 {
                        continue;
                    }
                    Ok(std::mem::take(body))
                }
            };
            if ids.contains(&frame.stream) {
                ended.entry(frame.stream).or_insert(outcome);
            }
        }
        ended
    }
}
