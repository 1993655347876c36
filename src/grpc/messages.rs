//! How many messages a body carries, counted while it passes: each has a flag and its length before it
//! (`PROTOCOL-HTTP2.md`, "Length-Prefixed-Message").

/// Bytes before a message: a flag for compression, and four for its length.
const PREFIX: usize = 5;

/// Counts the messages of one direction of a call. It keeps nothing of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MessageCounter {
    count: u64,
    /// Of the current message, bytes that are still to come.
    left: u32,
    prefix: [u8; PREFIX],
    prefix_length: usize,
}

impl MessageCounter {
    /// Takes the next bytes of the body. It does not matter how they are cut.
    pub fn see(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.left > 0 {
                let passed = bytes.len().min(self.left as usize);
                self.left -= passed as u32;
                bytes = &bytes[passed..];
                continue;
            }
            let taken = bytes.len().min(PREFIX - self.prefix_length);
            self.prefix[self.prefix_length..][..taken].copy_from_slice(&bytes[..taken]);
            self.prefix_length += taken;
            bytes = &bytes[taken..];
            if self.prefix_length == PREFIX {
                let [_, length @ ..] = self.prefix;
                self.left = u32::from_be_bytes(length);
                self.prefix_length = 0;
                self.count += 1;
            }
        }
    }

    /// Messages that have begun.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn messages_are_counted_however_they_are_cut(
            lengths in proptest::collection::vec(0_usize..40, 0..20),
            cut in 1_usize..50,
        ) {
            let body: Vec<u8> = lengths.iter().flat_map(|length| {
                let prefix = [0].into_iter().chain((*length as u32).to_be_bytes());
                prefix.chain(std::iter::repeat_n(0xff, *length)).collect::<Vec<u8>>()
            }).collect();
            let mut counter = MessageCounter::default();
            body.chunks(cut).for_each(|piece| counter.see(piece));
            prop_assert_eq!(counter.count(), lengths.len() as u64);
        }
    }

    #[test]
    fn a_huge_message_is_one() {
        let mut counter = MessageCounter::default();
        counter.see(&[0, 0xff, 0xff, 0xff, 0xff]);
        counter.see(&vec![0; 1 << 16]);
        assert_eq!(counter.count(), 1);
    }
}
