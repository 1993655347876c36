//! What RFC 9113 says of frames one by one, where the codec does not: it has one error code for all of these, and takes any
//! frame for the first.

use h2::Reason;

use super::frame_walker::{FrameHead, Kind};

/// The error of the connection that `frame` is, from a client. `is_first`: none has come before.
pub(super) fn violation(frame: FrameHead, is_first: bool) -> Option<Reason> {
    let FrameHead { kind, length, .. } = frame;
    if is_first && (kind != Kind::Settings || frame.is_ack()) {
        // §3.4
        return Some(Reason::PROTOCOL_ERROR);
    }
    let is_of_size = match kind {
        // §6.3, where it is an error of the stream; any may be one of the connection (§5.4.1).
        Kind::Priority => length == 5,
        // §6.4, §6.9
        Kind::ResetStream | Kind::WindowUpdate => length == 4,
        // §6.5
        Kind::Settings if frame.is_ack() => length == 0,
        Kind::Settings => length % 6 == 0,
        // §6.7
        Kind::Ping => length == 8,
        // §6.8
        Kind::GoAway => length >= 8,
        Kind::Data | Kind::Headers | Kind::Other => true,
    };
    (!is_of_size).then_some(Reason::FRAME_SIZE_ERROR)
}

#[cfg(test)]
mod tests {
    use super::super::frame_walker::FrameWalker;
    use super::*;

    #[test]
    fn sizes_and_the_first_frame() {
        const ACK: u8 = 1;
        let judged = |kind: u8, flags: u8, length: u8, is_first: bool| {
            let mut found = None;
            let bytes = [&[0, 0, length, kind, flags, 0, 0, 0, 0][..], &vec![0; usize::from(length)]].concat();
            FrameWalker::new(0).walk(&bytes, |head| found = violation(head, is_first));
            found
        };
        for (kind, flags, right, wrong) in [
            (2, 0, 5, [4, 6]),
            (3, 0, 4, [3, 5]),
            (4, 0, 12, [7, 17]),
            (4, ACK, 0, [6, 1]),
            (6, 0, 8, [7, 9]),
            (6, ACK, 8, [0, 9]),
            (7, 0, 8, [7, 0]),
            (8, 0, 4, [3, 5]),
        ] {
            assert_eq!(judged(kind, flags, right, false), None, "{kind}");
            for length in wrong {
                assert_eq!(judged(kind, flags, length, false), Some(Reason::FRAME_SIZE_ERROR), "{kind} of {length}");
            }
        }
        for (kind, flags, length) in [(6, 0, 8), (0, 0, 1), (1, 4, 1), (4, ACK, 0), (0x42, 0, 0)] {
            assert_eq!(judged(kind, flags, length, true), Some(Reason::PROTOCOL_ERROR), "{kind}");
            assert_eq!(judged(kind, flags, length, false), None, "{kind}");
        }
        assert_eq!(judged(4, 0, 6, true), None);
    }
}
