//! What really crosses the outside link, by tcpdump: the judge of "not one byte of it in plaintext".

use std::collections::HashMap;
use std::fs;
use std::net::UdpSocket;
use std::path::PathBuf;

use nix::sys::signal::Signal;

use super::client::find;
use super::process::Kept;
use super::{Lab, eventually, utf8};

pub struct Capture<'l> {
    lab: &'l Lab,
    process: Kept,
    file: PathBuf,
}

/// Everything that was captured.
pub struct Captured {
    pcap: Vec<u8>,
}

/// One direction of a TCP connection.
#[derive(Clone, Debug)]
pub struct Stream {
    pub from_pod: bool,
    /// The port that it was sent to.
    pub to_port: u16,
    /// The payload in the order of its sequence numbers.
    pub bytes: Vec<u8>,
}

impl Lab {
    /// Starts capturing the outside end of the pod's link; returns once packets are really recorded.
    pub fn capture(&self) -> Capture<'_> {
        let file = self.dir().join("link.pcap");
        let arguments = [
            "--pdeathsig=KILL",
            "--",
            "tcpdump",
            "-i",
            "v1",
            "-Z",
            "root",
            "--immediate-mode",
            "-U",
            "-n",
            "-s",
            "0",
            "-B",
            "65536",
            "-w",
            utf8(&file),
        ];
        let process = Kept::start(self.outside.command("setpriv", &arguments), self.dir(), "tcpdump");
        eventually("tcpdump listens", || process.stderr().contains("listening on"));
        let capture = Capture { lab: self, process, file };
        capture.mark("egret-lab-capture-begins");
        capture
    }
}

impl Capture<'_> {
    /// Sends a marker over the link until it is in the file: everything sent before is in there too.
    fn mark(&self, marker: &str) {
        let socket = self.lab.outside.enter(|| UdpSocket::bind("10.77.0.1:0")).expect("a socket");
        eventually("tcpdump records", || {
            socket.send_to(marker.as_bytes(), "10.77.0.2:9").expect("the link is up");
            find(&fs::read(&self.file).unwrap_or_default(), marker.as_bytes()).is_some()
        });
    }

    /// Stops once everything that has crossed the link is recorded.
    #[track_caller]
    pub fn finish(mut self) -> Captured {
        self.mark("egret-lab-capture-ends");
        self.process.stop(Signal::SIGINT);
        let said = self.process.stderr();
        assert!(said.contains("\n0 packets dropped by kernel"), "tcpdump did not see everything: {said}");
        Captured { pcap: fs::read(&self.file).expect("tcpdump's file") }
    }
}

impl Captured {
    /// Whether these bytes crossed the link within one packet.
    pub fn contains(&self, needle: &str) -> bool {
        find(&self.pcap, needle.as_bytes()).is_some()
    }

    /// Every TCP connection's two directions.
    pub fn streams(&self) -> Vec<Stream> {
        let mut streams: Vec<Stream> = Vec::new();
        let mut open: HashMap<Vec<u8>, (usize, u32)> = HashMap::new();
        for segment in packets(&self.pcap).filter_map(parse_segment) {
            if segment.syn {
                let from_pod = POD.iter().any(|address| segment.flow.starts_with(address));
                streams.push(Stream { from_pod, to_port: segment.to_port, bytes: Vec::new() });
                open.insert(segment.flow.clone(), (streams.len() - 1, segment.sequence.wrapping_add(1)));
            } else if let Some((index, start)) = open.get(&segment.flow) {
                place(&mut streams[*index].bytes, segment.sequence.wrapping_sub(*start), segment.payload);
            }
        }
        streams
    }

    /// Asserts that the pod sent something to this port, and nothing but TLS records.
    #[track_caller]
    pub fn assert_only_tls_to(&self, port: u16) {
        let streams = self.streams();
        let sent: Vec<_> = streams.iter().filter(|stream| stream.from_pod && stream.to_port == port).collect();
        assert!(sent.iter().any(|stream| !stream.bytes.is_empty()), "nothing was sent to port {port}");
        for stream in sent {
            assert!(is_tls(&stream.bytes), "not TLS: {:?}", String::from_utf8_lossy(&stream.bytes));
        }
    }
}

/// Whether the bytes are TLS records from the first to the last, which may be cut short (RFC 8446 §5.1).
fn is_tls(mut bytes: &[u8]) -> bool {
    while let [kind, 3, _, high, low, rest @ ..] = bytes {
        if !(20..=24).contains(kind) {
            return false;
        }
        bytes = rest.get(usize::from(u16::from_be_bytes([*high, *low]))..).unwrap_or_default();
    }
    // Fewer bytes than a record header: only the beginning of one.
    bytes.first().is_none_or(|kind| (20..=24).contains(kind))
}

/// The pod's addresses as they stand in a header.
const POD: [&[u8]; 2] = [&[10, 77, 0, 2], &[0xfd, 0x77, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]];

struct Segment<'p> {
    /// Both addresses and both ports.
    flow: Vec<u8>,
    to_port: u16,
    syn: bool,
    sequence: u32,
    payload: &'p [u8],
}

/// The frames of a pcap file: a header of 24 bytes, then each with one of 16 (its length in bytes 8 to 11).
fn packets(pcap: &[u8]) -> impl Iterator<Item = &[u8]> {
    assert!(pcap.starts_with(&0xa1b2_c3d4_u32.to_ne_bytes()), "not a pcap file of this machine");
    let mut rest = pcap.get(24..).unwrap_or_default();
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(rest.get(8..12)?.try_into().ok()?) as usize;
        let frame = rest.get(16..16 + length)?;
        rest = &rest[16 + length..];
        Some(frame)
    })
}

/// A TCP segment in an Ethernet frame over IPv4 or IPv6 without extension headers.
fn parse_segment(frame: &[u8]) -> Option<Segment<'_>> {
    let (addresses, tcp) = match frame.get(12..14)? {
        [0x08, 0x00] => {
            let packet = frame.get(14..)?;
            let header = usize::from(packet.first()? & 0x0f) * 4;
            let length = usize::from(u16::from_be_bytes([packet[2], *packet.get(3)?]));
            (*packet.get(9)? == 6).then_some((packet.get(12..20)?, packet.get(header..length)?))?
        }
        [0x86, 0xdd] => {
            let packet = frame.get(14..)?;
            let length = usize::from(u16::from_be_bytes([*packet.get(4)?, *packet.get(5)?]));
            (*packet.get(6)? == 6).then_some((packet.get(8..40)?, packet.get(40..40 + length)?))?
        }
        _ => return None,
    };
    let [from_high, from_low, to_high, to_low, s0, s1, s2, s3, _, _, _, _, offset, flags, ..] = *tcp else {
        return None;
    };
    let flow = [addresses, &[from_high, from_low, to_high, to_low]].concat();
    Some(Segment {
        flow,
        to_port: u16::from_be_bytes([to_high, to_low]),
        syn: flags & 0x02 != 0,
        sequence: u32::from_be_bytes([s0, s1, s2, s3]),
        payload: tcp.get(usize::from(offset >> 4) * 4..)?,
    })
}

/// Puts a segment's payload where its sequence number says; repeats land on themselves.
fn place(stream: &mut Vec<u8>, offset: u32, payload: &[u8]) {
    let offset = offset as usize;
    // A keep-alive probe lies one byte before the stream: its offset wraps around.
    if payload.is_empty() || offset > 1 << 31 {
        return;
    }
    let end = offset + payload.len();
    if stream.len() < end {
        stream.resize(end, 0);
    }
    stream[offset..end].copy_from_slice(payload);
}
