//! An AEAD key for the records of one direction: the one place that calls the cryptography of application data.
//!
//! Two libraries can do it, and which is faster depends on the processor (ring uses VAES with AVX2, aws-lc wants AVX-512
//! for it): the first key of each algorithm tries both, and all later ones follow. It refuses to know nonces, sequence
//! numbers and record formats; `record` makes sure that a nonce is never used twice.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use aws_lc_rs::aead as aws;
use ring::aead as ring;

/// Bytes that sealing adds (RFC 5116 §5.1, RFC 8439 §2.8).
pub(in crate::tls) const TAG: usize = 16;

/// Bytes of a nonce.
pub(in crate::tls) const NONCE: usize = 12;

/// Bytes of the longest record, on which the libraries are tried.
const TRIAL_BYTES: usize = 1 << 14;

/// Of so many trials the fastest counts: whatever else the machine does can only make one slower.
const TRIALS: usize = 8;

/// The algorithms that egret negotiates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tls) enum Algorithm {
    Aes128Gcm,
    Aes256Gcm,
    ChaCha20Poly1305,
}

impl Algorithm {
    pub(in crate::tls) const ALL: [Algorithm; 3] =
        [Algorithm::Aes128Gcm, Algorithm::Aes256Gcm, Algorithm::ChaCha20Poly1305];

    fn key_bytes(self) -> usize {
        match self {
            Algorithm::Aes128Gcm => 16,
            Algorithm::Aes256Gcm | Algorithm::ChaCha20Poly1305 => 32,
        }
    }
}

/// Whose implementation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tls) enum Library {
    AwsLc,
    Ring,
}

impl Library {
    /// The faster one on this processor.
    pub(in crate::tls) fn of(algorithm: Algorithm) -> Self {
        static FASTER: [OnceLock<Library>; Algorithm::ALL.len()] = [const { OnceLock::new() }; Algorithm::ALL.len()];
        *FASTER[algorithm as usize].get_or_init(|| faster(algorithm))
    }
}

/// Tries both in turn, for about a fifth of a millisecond.
fn faster(algorithm: Algorithm) -> Library {
    let key = vec![0; algorithm.key_bytes()];
    let (Some(one), Some(other)) =
        (Aead::with(Library::AwsLc, algorithm, &key), Aead::with(Library::Ring, algorithm, &key))
    else {
        return Library::AwsLc;
    };
    let mut bytes = vec![0; TRIAL_BYTES + TAG];
    let mut best = [Duration::MAX; 2];
    for _ in 0..TRIALS {
        for (aead, best) in [&one, &other].into_iter().zip(&mut best) {
            *best = (*best).min(aead.trial(&mut bytes));
        }
    }
    if best[1] < best[0] { Library::Ring } else { Library::AwsLc }
}

/// A key, ready for use.
pub(in crate::tls) struct Aead(Key);

enum Key {
    AwsLc(aws::LessSafeKey),
    /// Boxed, since it is all of its tables.
    Ring(Box<ring::LessSafeKey>),
}

impl Aead {
    /// `None` when `key` has the wrong length for the algorithm.
    pub(in crate::tls) fn new(algorithm: Algorithm, key: &[u8]) -> Option<Self> {
        Self::with(Library::of(algorithm), algorithm, key)
    }

    fn with(library: Library, algorithm: Algorithm, key: &[u8]) -> Option<Self> {
        let key = match library {
            Library::AwsLc => {
                let algorithm = match algorithm {
                    Algorithm::Aes128Gcm => &aws::AES_128_GCM,
                    Algorithm::Aes256Gcm => &aws::AES_256_GCM,
                    Algorithm::ChaCha20Poly1305 => &aws::CHACHA20_POLY1305,
                };
                Key::AwsLc(aws::LessSafeKey::new(aws::UnboundKey::new(algorithm, key).ok()?))
            }
            Library::Ring => {
                let algorithm = match algorithm {
                    Algorithm::Aes128Gcm => &ring::AES_128_GCM,
                    Algorithm::Aes256Gcm => &ring::AES_256_GCM,
                    Algorithm::ChaCha20Poly1305 => &ring::CHACHA20_POLY1305,
                };
                Key::Ring(Box::new(ring::LessSafeKey::new(ring::UnboundKey::new(algorithm, key).ok()?)))
            }
        };
        Some(Self(key))
    }

    /// Decrypts `sealed`, whose last bytes are the tag, where it stands. Returns the length of the plaintext at its front;
    /// `None` when it is not genuine, and then nothing in it may be used.
    pub(in crate::tls) fn open(&self, nonce: [u8; NONCE], additional: &[u8], sealed: &mut [u8]) -> Option<usize> {
        match &self.0 {
            Key::AwsLc(key) => {
                let nonce = aws::Nonce::assume_unique_for_key(nonce);
                key.open_in_place(nonce, aws::Aad::from(additional), sealed).ok().map(|plaintext| plaintext.len())
            }
            Key::Ring(key) => {
                let nonce = ring::Nonce::assume_unique_for_key(nonce);
                key.open_in_place(nonce, ring::Aad::from(additional), sealed).ok().map(|plaintext| plaintext.len())
            }
        }
    }

    /// Encrypts `plaintext` where it stands. Returns the tag; `None` when the length is beyond the algorithm's limit.
    pub(in crate::tls) fn seal(
        &self,
        nonce: [u8; NONCE],
        additional: &[u8],
        plaintext: &mut [u8],
    ) -> Option<[u8; TAG]> {
        match &self.0 {
            Key::AwsLc(key) => {
                let nonce = aws::Nonce::assume_unique_for_key(nonce);
                let tag = key.seal_in_place_separate_tag(nonce, aws::Aad::from(additional), plaintext).ok()?;
                tag.as_ref().try_into().ok()
            }
            Key::Ring(key) => {
                let nonce = ring::Nonce::assume_unique_for_key(nonce);
                let tag = key.seal_in_place_separate_tag(nonce, ring::Aad::from(additional), plaintext).ok()?;
                tag.as_ref().try_into().ok()
            }
        }
    }

    /// How long a record takes to be sealed and opened. The key is good for nothing else: its nonce comes again.
    fn trial(&self, bytes: &mut [u8]) -> Duration {
        let began = Instant::now();
        let (content, place) = bytes.split_at_mut(TRIAL_BYTES);
        if let Some(tag) = self.seal([0; NONCE], &[], content) {
            place.copy_from_slice(&tag);
            let _ = self.open([0; NONCE], &[], bytes);
        }
        began.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_library_opens_what_the_other_sealed() {
        for algorithm in Algorithm::ALL {
            let key: Vec<u8> = (0..algorithm.key_bytes()).map(|index| index as u8).collect();
            let new = |library| Aead::with(library, algorithm, &key).unwrap();
            for (one, other) in [(Library::AwsLc, Library::Ring), (Library::Ring, Library::AwsLc)] {
                for length in [0, 1, 15, 16, 17, 255, 4096, TRIAL_BYTES] {
                    let plain: Vec<u8> = (0..length).map(|index| (index * 7) as u8).collect();
                    let mut bytes = plain.clone();
                    let tag = new(one).seal([7; NONCE], b"header", &mut bytes).unwrap();
                    bytes.extend_from_slice(&tag);
                    let mut changed = bytes.clone();
                    changed[length] ^= 1;
                    assert_eq!(new(other).open([7; NONCE], b"header", &mut changed), None);
                    assert_eq!(new(other).open([7; NONCE], b"other", &mut bytes.clone()), None);
                    assert_eq!(new(other).open([7; NONCE], b"header", &mut bytes), Some(length), "{algorithm:?}");
                    assert_eq!(bytes[..length], plain);
                }
            }
        }
    }

    #[test]
    fn a_key_of_the_wrong_length_is_refused_by_both() {
        for algorithm in Algorithm::ALL {
            for library in [Library::AwsLc, Library::Ring] {
                assert!(
                    Aead::with(library, algorithm, &[0; 31]).is_none() && Aead::with(library, algorithm, &[]).is_none()
                );
            }
            assert_eq!(Library::of(algorithm), Library::of(algorithm));
        }
    }
}
