//! Frames in a stream of bytes (RFC 9113 §4.1), found without keeping any of them.
//!
//! It judges nothing: the codec does.

/// Bytes of a frame's head.
pub(super) const HEAD: usize = 9;

/// A frame, as far as it matters for counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHead {
    pub kind: Kind,
    /// Bytes of its payload.
    pub length: u32,
    /// 0 for the connection.
    pub stream: u32,
    flags: u8,
}

/// RFC 9113 §6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Data,
    Headers,
    Priority,
    ResetStream,
    Settings,
    Ping,
    GoAway,
    WindowUpdate,
    /// PUSH_PROMISE, CONTINUATION, and types that are not known.
    Other,
}

impl FrameHead {
    /// END_STREAM, of DATA and HEADERS.
    pub(super) fn ends_stream(self) -> bool {
        matches!(self.kind, Kind::Data | Kind::Headers) && self.flags & 1 != 0
    }

    /// ACK, of SETTINGS and PING.
    pub(super) fn is_ack(self) -> bool {
        matches!(self.kind, Kind::Settings | Kind::Ping) && self.flags & 1 != 0
    }

    fn read(bytes: [u8; HEAD]) -> Self {
        let [a, b, c, kind, flags, stream @ ..] = bytes;
        let kind = match kind {
            0 => Kind::Data,
            1 => Kind::Headers,
            2 => Kind::Priority,
            3 => Kind::ResetStream,
            4 => Kind::Settings,
            6 => Kind::Ping,
            7 => Kind::GoAway,
            8 => Kind::WindowUpdate,
            _ => Kind::Other,
        };
        // The first bit is reserved, and ignored (RFC 9113 §4.1).
        let stream = u32::from_be_bytes(stream) & 0x7fff_ffff;
        Self { kind, length: u32::from_be_bytes([0, a, b, c]), stream, flags }
    }
}

/// Where in the stream of frames the next byte stands.
#[derive(Debug)]
pub(super) struct FrameWalker {
    /// Bytes of a payload, or of the preface, that are still to come.
    skip: u32,
    head: [u8; HEAD],
    head_length: usize,
    /// The frame whose payload is passing.
    current: Option<FrameHead>,
}

impl FrameWalker {
    /// `before`: bytes that come before the first frame.
    pub(super) fn new(before: usize) -> Self {
        Self { skip: before as u32, head: [0; HEAD], head_length: 0, current: None }
    }

    /// Bytes until the next frame begins, where that is known: not within a frame's head.
    pub(super) fn until_next(&self) -> Option<usize> {
        (self.head_length == 0).then_some(self.skip as usize)
    }

    /// Goes on through `bytes`, and tells `each` of every frame that is complete.
    pub(super) fn walk(&mut self, mut bytes: &[u8], mut each: impl FnMut(FrameHead)) {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let skipped = bytes.len().min(self.skip as usize);
                self.skip -= skipped as u32;
                bytes = &bytes[skipped..];
                if self.skip == 0 {
                    self.current.take().into_iter().for_each(&mut each);
                }
                continue;
            }
            let taken = bytes.len().min(HEAD - self.head_length);
            self.head[self.head_length..][..taken].copy_from_slice(&bytes[..taken]);
            self.head_length += taken;
            bytes = &bytes[taken..];
            if self.head_length == HEAD {
                let head = FrameHead::read(self.head);
                self.head_length = 0;
                self.skip = head.length;
                if head.length == 0 {
                    each(head);
                } else {
                    self.current = Some(head);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn heads_are_found_however_the_bytes_are_cut(
            frames in proptest::collection::vec((0_u8..12, any::<u8>(), 0_usize..60), 0..20),
            before in 0_usize..30,
            cut in 1_usize..40,
        ) {
            let mut bytes = vec![0xff; before];
            for (kind, flags, length) in &frames {
                bytes.extend_from_slice(&[0, 0, *length as u8, *kind, *flags, 0, 0, 0, 1]);
                bytes.extend(std::iter::repeat_n(0xff, *length));
            }
            let (mut walker, mut found) = (FrameWalker::new(before), Vec::new());
            bytes.chunks(cut).for_each(|piece| walker.walk(piece, |head| found.push((head.kind, head.flags, head.length))));
            let expected: Vec<_> = frames.iter().map(|(kind, flags, length)| {
                let head = FrameHead::read([0, 0, *length as u8, *kind, *flags, 0, 0, 0, 1]);
                (head.kind, *flags, *length as u32)
            }).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
