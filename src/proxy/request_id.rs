//! The name of one request: a random UUID (RFC 9562 §5.4), as Envoy gives one to each request that comes without.

use crate::proxy::random::Random;

/// `f81d4fae-7dec-41d0-a765-00a0c91e6bf6`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestId([u8; 36]);

impl RequestId {
    /// No secret: who sees some may guess others.
    #[must_use]
    pub fn draw(random: &Random) -> Self {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        // A number has 53 bits.
        let mut bits =
            (u128::from(random.draw()) << 80) ^ (u128::from(random.draw()) << 40) ^ u128::from(random.draw());
        // Version 4, and the variant that the RFC describes.
        bits = bits & !(0xf << 76) | 4 << 76;
        bits = bits & !(0b11 << 62) | 0b10 << 62;
        let mut text = [b'-'; 36];
        let places = text.iter_mut().enumerate().filter(|(at, _)| !matches!(at, 8 | 13 | 18 | 23));
        for ((_, place), digit) in places.zip(0..32) {
            *place = DIGITS[(bits >> (124 - 4 * digit)) as usize & 0xf];
        }
        Self(text)
    }

    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn they_are_uuids_of_version_4_and_differ() {
        let random = Random::new(7);
        let mut seen = HashSet::new();
        for _ in 0..1000 {
            let id = RequestId::draw(&random);
            let text = std::str::from_utf8(id.as_bytes()).unwrap().to_owned();
            let parts: Vec<_> = text.split('-').map(str::len).collect();
            assert_eq!(parts, [8, 4, 4, 4, 12], "{text}");
            assert!(text.bytes().all(|byte| byte == b'-' || byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)));
            assert!(text[14..].starts_with('4') && "89ab".contains(&text[19..20]), "{text}");
            assert!(seen.insert(text));
        }
        // Each place takes each digit, where none is fixed.
        for at in (0..36).filter(|at| !matches!(at, 8 | 13 | 14 | 18 | 19 | 23)) {
            assert_eq!(seen.iter().map(|id| id.as_bytes()[at]).collect::<HashSet<_>>().len(), 16, "{at}");
        }
    }
}
