//! PEM as people keep it: with CRLF, a byte order mark, text between the blocks, several kinds of block in one file.
//!
//! Knows nothing of what the blocks are for.

use rustls::pki_types::pem::{PemObject, SectionKind};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};

use crate::tls::material::MaterialError;

/// The blocks of one PEM text that concern TLS, in their order.
#[derive(Default)]
pub(in crate::tls) struct Blocks {
    pub(in crate::tls) certificates: Vec<CertificateDer<'static>>,
    pub(in crate::tls) crls: Vec<CertificateRevocationListDer<'static>>,
    pub(in crate::tls) keys: Vec<PrivateKeyDer<'static>>,
    /// Blocks that could not be decoded.
    pub(in crate::tls) broken: usize,
    /// What was wrong with the first of them.
    pub(in crate::tls) reason: Option<String>,
    pub(in crate::tls) encrypted_key: bool,
}

/// Splits `text` into its blocks; broken ones are counted, not fatal, so that the caller decides.
pub(in crate::tls) fn blocks(text: &[u8]) -> Blocks {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let mut found = Blocks { encrypted_key: has_encrypted_key(text), ..Blocks::default() };
    for block in <(SectionKind, Vec<u8>)>::pem_slice_iter(text) {
        match block {
            Ok((SectionKind::Certificate, der)) => found.certificates.push(der.into()),
            Ok((SectionKind::Crl, der)) => found.crls.push(der.into()),
            Ok((kind, der)) => found.keys.extend(PrivateKeyDer::from_pem(kind, der)),
            Err(error) => {
                found.broken += 1;
                found.reason.get_or_insert_with(|| error.to_string());
            }
        }
    }
    found
}

/// The certificates of `text`: at least one, none broken.
pub(in crate::tls) fn certificates(text: &[u8], place: &str) -> Result<Vec<CertificateDer<'static>>, MaterialError> {
    let found = blocks(text);
    if let Some(reason) = found.reason {
        return Err(MaterialError::Pem { place: place.to_owned(), reason });
    }
    if found.certificates.is_empty() {
        return Err(MaterialError::NoCertificate { place: place.to_owned() });
    }
    Ok(found.certificates)
}

/// The first private key of `text`.
pub(in crate::tls) fn private_key(text: &[u8], place: &str) -> Result<PrivateKeyDer<'static>, MaterialError> {
    let found = blocks(text);
    let place = place.to_owned();
    if found.encrypted_key {
        return Err(MaterialError::EncryptedKey { place });
    }
    match (found.keys.into_iter().next(), found.reason) {
        (Some(key), _) => Ok(key),
        (None, Some(reason)) => Err(MaterialError::Pem { place, reason }),
        (None, None) => Err(MaterialError::NoKey { place }),
    }
}

/// PKCS#8 says so in its label, the older forms in a header line (RFC 1421 §4.6.1.1).
fn has_encrypted_key(text: &[u8]) -> bool {
    let contains = |needle: &[u8]| memchr::memmem::find(text, needle).is_some();
    contains(b"-----BEGIN ENCRYPTED PRIVATE KEY-----") || contains(b"Proc-Type: 4,ENCRYPTED")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::tests::pki::Authority;

    #[test]
    fn text_around_the_blocks_line_ends_and_byte_order_marks_do_not_matter() {
        let pem = Authority::new("root").pem();
        let crlf = pem.replace('\n', "\r\n");
        for (what, text, count) in [
            ("plain", pem.clone(), 1),
            ("crlf", crlf, 1),
            ("bom", format!("\u{feff}{pem}"), 1),
            ("text between", format!("Bag Attributes\n  x: y\n{pem}\nsubject=/CN=x\n{pem}"), 2),
            ("no last newline", pem.trim_end().to_owned(), 1),
        ] {
            assert_eq!(certificates(text.as_bytes(), "x").map(|c| c.len()), Ok(count), "{what}");
        }
    }

    #[test]
    fn what_is_not_pem_is_said() {
        let pem = Authority::new("root").pem();
        let cut = &pem[..pem.len() / 2];
        for (what, text, says) in [
            ("empty", "", "no certificate in it"),
            ("text", "hello", "no certificate in it"),
            ("cut", cut, "not valid PEM"),
            ("garbage", "-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n", "not valid PEM"),
        ] {
            let error = certificates(text.as_bytes(), "ca.crt").unwrap_err().to_string();
            assert!(error.contains(says) && error.contains("ca.crt"), "{what}: {error}");
        }
    }

    #[test]
    fn encrypted_keys_are_recognised() {
        for text in [
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
            "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n",
        ] {
            let error = private_key(text.as_bytes(), "tls.key").unwrap_err();
            assert!(matches!(error, MaterialError::EncryptedKey { .. }), "{error}");
        }
    }
}
