//! Records of one direction of an established session: opened and sealed where they stand (RFC 8446 §5, RFC 5246 §6.2.3,
//! RFC 5288 §3, RFC 7905 §2).
//!
//! Here alone nonces are made, each from a sequence number that only grows, so that none is ever used twice with a key.
//! It refuses to know what a record's content means, where keys come from and when they must be replaced.

use std::ops::Range;

use rustls::{ConnectionTrafficSecrets, ContentType};

use crate::tls::session::aead::{Aead, Algorithm, NONCE, TAG};
use crate::tls::session::alert::FatalAlert;

/// Bytes in front of every record: type, version, length.
pub(in crate::tls) const HEADER: usize = 5;

/// The longest content of a record (RFC 8446 §5.1).
pub(in crate::tls) const MAX_CONTENT: usize = 1 << 14;

/// The longest protected content (RFC 8446 §5.2); in TLS 1.2 our ciphers need no more than 24 of the 2,048 spare bytes.
const MAX_SEALED: usize = MAX_CONTENT + 256;

/// The version on the wire, in TLS 1.3 for show only.
const VERSION: [u8; 2] = [3, 3];

/// The part of a TLS 1.2 AES-GCM nonce that comes with every record.
const EXPLICIT_NONCE: usize = 8;

/// The most that sealing adds to the content of one record.
pub(in crate::tls) const MAX_OVERHEAD: usize = HEADER + EXPLICIT_NONCE + TAG;

/// How a record is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// The content type stands, encrypted, behind the content; zeros may follow.
    Tls13,
    /// As in TLS 1.3, but with the content type in the clear only.
    Tls12ChaCha,
    /// Half of the nonce stands in front of the content.
    Tls12Gcm,
}

/// The length of the record that begins `bytes`, header included; `None` while its header is not all there.
///
/// # Errors
/// It is no record, or too long for one.
pub(in crate::tls) fn record_length(bytes: &[u8]) -> Result<Option<usize>, FatalAlert> {
    let Some(&[kind, major, _, high, low]) = bytes.first_chunk() else { return Ok(None) };
    if !(20..=23).contains(&kind) || major != VERSION[0] {
        return Err(FatalAlert::unexpected("bytes that are no TLS record"));
    }
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > MAX_SEALED {
        return Err(FatalAlert::oversized());
    }
    Ok(Some(HEADER + length))
}

/// The key of one direction and the number of the next record.
pub(in crate::tls) struct RecordKey {
    aead: Aead,
    iv: [u8; NONCE],
    form: Form,
    sequence: u64,
}

impl RecordKey {
    /// A key whose next record has the number `sequence`.
    ///
    /// # Errors
    /// A secret of an unknown kind.
    pub(in crate::tls) fn new(
        is_tls13: bool,
        sequence: u64,
        secrets: &ConnectionTrafficSecrets,
    ) -> Result<Self, FatalAlert> {
        use ConnectionTrafficSecrets as S;
        let (algorithm, key, iv) = match secrets {
            S::Aes128Gcm { key, iv } => (Algorithm::Aes128Gcm, key, iv),
            S::Aes256Gcm { key, iv } => (Algorithm::Aes256Gcm, key, iv),
            S::Chacha20Poly1305 { key, iv } => (Algorithm::ChaCha20Poly1305, key, iv),
            _ => return Err(FatalAlert::internal("a cipher that the record layer does not know")),
        };
        let form = match (is_tls13, algorithm) {
            (true, _) => Form::Tls13,
            (false, Algorithm::ChaCha20Poly1305) => Form::Tls12ChaCha,
            (false, _) => Form::Tls12Gcm,
        };
        let aead = Aead::new(algorithm, key.as_ref());
        let (Some(aead), Ok(iv)) = (aead, iv.as_ref().try_into()) else {
            return Err(FatalAlert::internal("a key or nonce of the wrong length"));
        };
        Ok(Self { aead, iv, form, sequence })
    }

    /// The number of the next record: how many were opened or sealed with this key.
    pub(in crate::tls) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Opens the whole record that `record` is, where it stands. Returns its type and where its content is.
    ///
    /// # Errors
    /// It is not genuine, or breaks the protocol: nothing in it may be used.
    pub(in crate::tls) fn open(&mut self, record: &mut [u8]) -> Result<(ContentType, Range<usize>), FatalAlert> {
        let Some((header, body)) = record.split_first_chunk_mut::<HEADER>() else {
            return Err(FatalAlert::not_genuine());
        };
        let kind = ContentType::from(header[0]);
        if usize::from(u16::from_be_bytes([header[3], header[4]])) != body.len() {
            return Err(FatalAlert::not_genuine());
        }
        let sequence = self.sequence;
        // One number is kept in reserve, so that none can come twice.
        self.sequence = sequence.checked_add(1).filter(|&next| next < u64::MAX).ok_or_else(FatalAlert::not_genuine)?;
        let (explicit, length) = match self.form {
            Form::Tls13 => {
                if kind != ContentType::ApplicationData {
                    return Err(FatalAlert::unexpected("a record in the clear on an encrypted connection"));
                }
                (0, self.aead.open(self.nonce(sequence), header, body))
            }
            Form::Tls12ChaCha => {
                let additional = additional_data(sequence, *header, body.len().checked_sub(TAG));
                (0, self.aead.open(self.nonce(sequence), &additional, body))
            }
            Form::Tls12Gcm => {
                let Some((explicit, sealed)) = body.split_first_chunk_mut::<EXPLICIT_NONCE>() else {
                    return Err(FatalAlert::not_genuine());
                };
                let mut nonce = self.iv;
                nonce[NONCE - EXPLICIT_NONCE..].copy_from_slice(explicit);
                let additional = additional_data(sequence, *header, sealed.len().checked_sub(TAG));
                (EXPLICIT_NONCE, self.aead.open(nonce, &additional, sealed))
            }
        };
        let length = length.ok_or_else(FatalAlert::not_genuine)?;
        let content = &body[explicit..explicit + length];
        let (kind, length) = if self.form == Form::Tls13 { unpadded(content)? } else { (kind, length) };
        if length > MAX_CONTENT {
            return Err(FatalAlert::oversized());
        }
        let start = HEADER + explicit;
        Ok((kind, start..start + length))
    }

    /// Appends one record; `write` appends its content, at most [`MAX_CONTENT`] bytes.
    ///
    /// # Errors
    /// No number is left for it. `out` is as it was then.
    pub(in crate::tls) fn seal(
        &mut self,
        kind: ContentType,
        out: &mut Vec<u8>,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), FatalAlert> {
        let sequence = self.sequence;
        self.sequence = sequence
            .checked_add(1)
            .filter(|&next| next < u64::MAX)
            .ok_or_else(|| FatalAlert::internal("no record numbers are left"))?;
        let nonce = self.nonce(sequence);
        let start = out.len();
        let outer = if self.form == Form::Tls13 { ContentType::ApplicationData } else { kind };
        out.extend_from_slice(&[u8::from(outer), VERSION[0], VERSION[1], 0, 0]);
        if self.form == Form::Tls12Gcm {
            // Any value serves that does not come twice; this one is unpredictable too, as RFC 9325 §7.2.1 allows.
            out.extend_from_slice(&nonce[NONCE - EXPLICIT_NONCE..]);
        }
        let content = out.len();
        write(out);
        let length = out.len() - content;
        if self.form == Form::Tls13 {
            out.push(u8::from(kind));
        }
        let sealed = (out.len() + TAG - start - HEADER) as u16;
        out[start + 3..start + HEADER].copy_from_slice(&sealed.to_be_bytes());
        let header: [u8; HEADER] = *out[start..].first_chunk().expect("the header was written above");
        let tag = if self.form == Form::Tls13 {
            self.aead.seal(nonce, &header, &mut out[content..])
        } else {
            self.aead.seal(nonce, &additional_data(sequence, header, Some(length)), &mut out[content..])
        };
        let Some(tag) = tag else {
            out.truncate(start);
            return Err(FatalAlert::internal("a record could not be sealed"));
        };
        out.extend_from_slice(&tag);
        Ok(())
    }

    /// RFC 8446 §5.3. For TLS 1.2 with AES-GCM it is the nonce of what we seal; a server chooses its own.
    fn nonce(&self, sequence: u64) -> [u8; NONCE] {
        let mut nonce = self.iv;
        for (byte, number) in nonce[NONCE - 8..].iter_mut().zip(sequence.to_be_bytes()) {
            *byte ^= number;
        }
        nonce
    }
}

/// RFC 5246 §6.2.3.3. A record too short for its tag has no length, and will not open whatever stands here.
fn additional_data(sequence: u64, header: [u8; HEADER], length: Option<usize>) -> [u8; 13] {
    let mut data = [0; 13];
    data[..8].copy_from_slice(&sequence.to_be_bytes());
    data[8..11].copy_from_slice(&header[..3]);
    data[11..].copy_from_slice(&(length.unwrap_or(0) as u16).to_be_bytes());
    data
}

/// Finds the content type behind the content, in front of the padding (RFC 8446 §5.4).
fn unpadded(inner: &[u8]) -> Result<(ContentType, usize), FatalAlert> {
    if inner.len() > MAX_CONTENT + 1 {
        return Err(FatalAlert::oversized());
    }
    match inner.iter().rposition(|&byte| byte != 0) {
        Some(at) => Ok((ContentType::from(inner[at]), at)),
        None => Err(FatalAlert::unexpected("a record without a content type")),
    }
}

#[cfg(test)]
mod tests {
    use rustls::crypto::cipher::{AeadKey, Iv};

    use super::*;

    fn keys() -> Vec<(&'static str, RecordKey, RecordKey)> {
        let key = || AeadKey::from(std::array::from_fn::<u8, 32, _>(|index| index as u8));
        let iv = || Iv::new(std::array::from_fn(|index| 0xa0 + index as u8));
        let both = |is_tls13, secrets: &ConnectionTrafficSecrets| {
            let new = || RecordKey::new(is_tls13, 7, secrets).map_err(|fault| fault.error).unwrap();
            (new(), new())
        };
        let mut all = Vec::new();
        for (is_tls13, version) in [(true, "1.3"), (false, "1.2")] {
            for secrets in [
                ConnectionTrafficSecrets::Aes256Gcm { key: key(), iv: iv() },
                ConnectionTrafficSecrets::Chacha20Poly1305 { key: key(), iv: iv() },
            ] {
                let (one, other) = both(is_tls13, &secrets);
                all.push((version, one, other));
            }
        }
        all
    }

    fn sealed(key: &mut RecordKey, kind: ContentType, content: &[u8]) -> Vec<u8> {
        let mut out = b"before".to_vec();
        key.seal(kind, &mut out, |out| out.extend_from_slice(content)).map_err(|fault| fault.error).unwrap();
        out.split_off(6)
    }

    #[test]
    fn what_was_sealed_opens_in_place_and_in_order() {
        for (version, mut sealing, mut opening) in keys() {
            for length in [0, 1, 2, 15, 16, 17, 1000, MAX_CONTENT - 1, MAX_CONTENT] {
                for kind in [ContentType::ApplicationData, ContentType::Handshake, ContentType::Alert] {
                    let content: Vec<u8> = (0..length).map(|index| (index * 7) as u8).collect();
                    let mut record = sealed(&mut sealing, kind, &content);
                    assert!(record.len() <= length + MAX_OVERHEAD);
                    assert_eq!(record_length(&record).unwrap(), Some(record.len()));
                    let (opened, range) = opening.open(&mut record).map_err(|fault| fault.error).unwrap();
                    assert!(opened == kind && record[range] == content, "{version} {kind:?} {length}");
                }
            }
        }
    }

    #[test]
    fn no_bit_can_be_changed_no_byte_left_out_and_no_record_moved() {
        for (version, mut sealing, mut opening) in keys() {
            let first = sealed(&mut sealing, ContentType::ApplicationData, b"first");
            let second = sealed(&mut sealing, ContentType::ApplicationData, b"second");
            let mut refuse = |mut record: Vec<u8>, what: &str| {
                let before = opening.sequence;
                assert!(opening.open(&mut record).is_err(), "{version}: {what}");
                opening.sequence = before;
            };
            for bit in 0..first.len() * 8 {
                let mut record = first.clone();
                record[bit / 8] ^= 1 << (bit % 8);
                refuse(record, &format!("bit {bit} changed"));
            }
            for length in 0..first.len() {
                refuse(first[..length].to_vec(), &format!("cut to {length}"));
            }
            refuse([&first[..], &[0]].concat(), "lengthened");
            refuse(second.clone(), "out of order");
            assert!(opening.open(&mut first.clone()).is_ok());
            assert!(opening.open(&mut first.clone()).is_err(), "{version}: a record twice");
        }
    }

    #[test]
    fn nonces_never_repeat_and_numbers_end_before_they_come_round() {
        for (_, mut key, mut other) in keys() {
            let nonces: std::collections::HashSet<_> = (0..100_000).map(|number| key.nonce(number)).collect();
            assert_eq!(nonces.len(), 100_000);
            key.sequence = u64::MAX - 2;
            other.sequence = u64::MAX - 2;
            let mut last = sealed(&mut key, ContentType::ApplicationData, b"x");
            assert!(other.open(&mut last.clone()).is_ok());
            let mut out = Vec::new();
            assert!(key.seal(ContentType::ApplicationData, &mut out, |_| {}).is_err() && out.is_empty());
            assert!(other.open(&mut last).is_err());
        }
    }
}
