//! Scattered bytes, taken in order in portions that do not care where one piece ends.

/// What is left of some pieces.
pub(in crate::tls) struct IovecReader<'a> {
    pieces: &'a [&'a [u8]],
    /// Taken of the first of them.
    taken: usize,
}

impl<'a> IovecReader<'a> {
    pub(in crate::tls) fn new(pieces: &'a [&'a [u8]]) -> Self {
        Self { pieces, taken: 0 }
    }

    /// Appends the next `count` bytes, or all that are left.
    pub(in crate::tls) fn take(&mut self, mut count: usize, out: &mut Vec<u8>) {
        while let [first, rest @ ..] = self.pieces {
            let left = &first[self.taken..];
            if count < left.len() {
                out.extend_from_slice(&left[..count]);
                self.taken += count;
                return;
            }
            out.extend_from_slice(left);
            count -= left.len();
            self.pieces = rest;
            self.taken = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn portions_cross_pieces_and_nothing_is_lost() {
        let pieces: [&[u8]; 5] = [b"GET ", b"", b"/path", b"!", b""];
        for portion in 1..12 {
            let mut reader = IovecReader::new(&pieces);
            let mut all = Vec::new();
            for _ in 0..12 {
                let before = all.len();
                reader.take(portion, &mut all);
                assert!(all.len() - before <= portion);
            }
            assert_eq!(all, b"GET /path!", "{portion}");
        }
    }
}
