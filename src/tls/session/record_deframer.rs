//! Cuts what arrives into whole records, however it was split on the way.
//!
//! A record that lies in one lease stays there. One that does not is put together on the heap: keeping the lease would
//! keep a receive buffer from other connections for as long as the server likes. It refuses to know what records hold.

use crate::io::{self, Lease};
use crate::tls::session::alert::FatalAlert;
use crate::tls::session::record::{HEADER, record_length};

/// Holds the beginning of at most one record.
#[derive(Default)]
pub(in crate::tls) struct RecordDeframer {
    partial: Vec<u8>,
}

impl RecordDeframer {
    /// The next whole record, taken off `input`; `None` when all of `input` was taken and the record goes on.
    ///
    /// # Errors
    /// What comes is no record.
    pub(in crate::tls) fn next(&mut self, input: &mut Lease) -> Result<Option<Lease>, FatalAlert> {
        if self.partial.is_empty()
            && let Some(length) = record_length(input)?
            && length <= input.len()
        {
            return Ok(Some(input.split_to(length)));
        }
        loop {
            let known = record_length(&self.partial)?;
            if known == Some(self.partial.len()) {
                return Ok(Some(Lease::from_vec(std::mem::take(&mut self.partial))));
            }
            if input.is_empty() {
                return Ok(None);
            }
            let missing = known.unwrap_or(HEADER) - self.partial.len();
            let taken = missing.min(input.len());
            if self.partial.capacity() < self.partial.len() + missing {
                let mut roomier = io::buffer(self.partial.len() + missing);
                roomier.extend_from_slice(&self.partial);
                self.partial = roomier;
            }
            self.partial.extend_from_slice(&input[..taken]);
            input.advance(taken);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(length: u16) -> Vec<u8> {
        let mut record = vec![23, 3, 3];
        record.extend_from_slice(&length.to_be_bytes());
        record.extend((0..length).map(|index| index as u8));
        record
    }

    #[test]
    fn every_split_gives_the_same_records() {
        let records = [record(0), record(1), record(300), record(0), record(17)];
        let wire = records.concat();
        for first in 0..=wire.len() {
            for second in first..=wire.len() {
                let mut deframer = RecordDeframer::default();
                let mut found = Vec::new();
                for part in [&wire[..first], &wire[first..second], &wire[second..]] {
                    let mut input = Lease::from_vec(part.to_vec());
                    while let Some(record) = deframer.next(&mut input).unwrap() {
                        found.push(record.to_vec());
                    }
                    assert!(input.is_empty() && deframer.partial.len() < 305);
                }
                assert_eq!(found, records, "split at {first} and {second}");
            }
        }
    }

    #[test]
    fn what_is_no_record_is_refused_as_soon_as_its_header_is_there() {
        for header in [*b"HTTP/", [23, 2, 3, 0, 1], [24, 3, 3, 0, 1], [23, 3, 3, 0x41, 1], [23, 3, 3, 0xff, 0xff]] {
            for split in 0..HEADER {
                let mut deframer = RecordDeframer::default();
                let (first, rest) = header.split_at(split);
                assert!(deframer.next(&mut Lease::from_vec(first.to_vec())).unwrap().is_none());
                assert!(deframer.next(&mut Lease::from_vec(rest.to_vec())).is_err(), "{header:?}");
            }
        }
        let mut largest = Lease::from_vec(record((1 << 14) + 256));
        assert!(RecordDeframer::default().next(&mut largest).unwrap().is_some());
    }
}
