//! The authorities that this thread has read last, by their text.
//!
//! An application talks to few hosts, in the same words each time. What was parsed once is found again by comparing
//! bytes, and shares its name: nothing is checked, lowered or allocated for it. It changes no verdict.

use std::cell::RefCell;
use std::hash::BuildHasher;

use foldhash::fast::FixedState;

use crate::flow::Authority;

/// Places; a text has one, and replaces whoever is there.
const PLACES: usize = 64;

/// Longer ones are no host names with a port, and are not worth the room.
const MAX_BYTES: usize = 260;

/// A text, and what it was read as.
type Known = (Box<[u8]>, Authority);

thread_local! {
    static RECENT: RefCell<Vec<Option<Known>>> = const { RefCell::new(Vec::new()) };
}

/// The authority that `text` names: as it was the last time, or as `parse` says.
///
/// # Errors
/// Those of `parse`.
pub(super) fn recent_authority<E>(text: &[u8], parse: impl FnOnce() -> Result<Authority, E>) -> Result<Authority, E> {
    let place = FixedState::default().hash_one(text) as usize % PLACES;
    let known = RECENT.with_borrow(|recent| match recent.get(place) {
        Some(Some((known, authority))) if **known == *text => Some(authority.clone()),
        _ => None,
    });
    if let Some(authority) = known {
        return Ok(authority);
    }
    let authority = parse()?;
    if text.len() <= MAX_BYTES {
        RECENT.with_borrow_mut(|recent| {
            recent.resize(PLACES, None);
            recent[place] = Some((text.into(), authority.clone()));
        });
    }
    Ok(authority)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_once_is_found_by_its_bytes() {
        let read = |text: &str| recent_authority(text.as_bytes(), || Authority::parse(text));
        let never = |text: &str| recent_authority(text.as_bytes(), || Err::<Authority, _>("parsed again"));
        let first = read("API.example.com:8080").unwrap();
        assert_eq!(never("API.example.com:8080").as_ref(), Ok(&first));
        assert!(never("api.example.com:8080").is_err(), "other bytes, though the same authority");
        assert!(read("a..b").is_err() && never("a..b").is_err(), "a refusal is not remembered");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        for number in 0..10 * PLACES {
            let text = format!("host-{number}.example.com");
            assert_eq!(recent_authority(text.as_bytes(), || Authority::parse(&text)).unwrap().to_string(), text);
        }
        let long = [&b"[::1]:0"[..], &[b'0'; MAX_BYTES], b"80"].concat();
        let text = std::str::from_utf8(&long).unwrap();
        let _ = recent_authority(&long, || Authority::parse(text));
        RECENT.with_borrow(|recent| {
            assert_eq!(recent.len(), PLACES);
            assert!(recent.iter().flatten().all(|(text, _)| text.len() <= MAX_BYTES));
        });
    }
}
