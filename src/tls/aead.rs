//! An AEAD key for the records of one direction: the one place that calls the cryptography of application data.
//!
//! It refuses to know nonces, sequence numbers and record formats; `record` makes sure that a nonce is never used twice.

use aws_lc_rs::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};

/// Bytes that sealing adds (RFC 5116 §5.1, RFC 8439 §2.8).
pub(super) const TAG: usize = 16;

/// Bytes of a nonce.
pub(super) const NONCE: usize = 12;

/// The algorithms that egret negotiates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    Aes128Gcm,
    Aes256Gcm,
    ChaCha20Poly1305,
}

/// A key, ready for use.
pub(super) struct Aead(LessSafeKey);

impl Aead {
    /// `None` when `key` has the wrong length for the algorithm.
    pub(super) fn new(algorithm: Algorithm, key: &[u8]) -> Option<Self> {
        let algorithm = match algorithm {
            Algorithm::Aes128Gcm => &aead::AES_128_GCM,
            Algorithm::Aes256Gcm => &aead::AES_256_GCM,
            Algorithm::ChaCha20Poly1305 => &aead::CHACHA20_POLY1305,
        };
        UnboundKey::new(algorithm, key).ok().map(|key| Self(LessSafeKey::new(key)))
    }

    /// Decrypts `sealed`, whose last bytes are the tag, where it stands. Returns the length of the plaintext at its front;
    /// `None` when it is not genuine, and then nothing in it may be used.
    pub(super) fn open(&self, nonce: [u8; NONCE], additional: &[u8], sealed: &mut [u8]) -> Option<usize> {
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.0.open_in_place(nonce, Aad::from(additional), sealed).ok().map(|plaintext| plaintext.len())
    }

    /// Encrypts `plaintext` where it stands. Returns the tag; `None` when the length is beyond the algorithm's limit.
    pub(super) fn seal(&self, nonce: [u8; NONCE], additional: &[u8], plaintext: &mut [u8]) -> Option<[u8; TAG]> {
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self.0.seal_in_place_separate_tag(nonce, Aad::from(additional), plaintext).ok()?;
        tag.as_ref().try_into().ok()
    }
}
