//! Heap buffers that are used again: for records on their way out, and for those put together on their way in.
//!
//! An allocator gives large pieces back to the kernel and fetches them again, which costs a page fault for each page.
//! Here three sizes are kept, a few of each; everything else goes to the allocator. It refuses to know what is in them.

use std::cell::RefCell;

/// A size, and how many are kept: in all less than 3 MiB a thread.
const CLASSES: [(usize, usize); 3] = [(2 << 10, 64), (18 << 10, 64), (160 << 10, 8)];

thread_local! {
    static CACHE: [RefCell<Vec<Vec<u8>>>; CLASSES.len()] = const { [const { RefCell::new(Vec::new()) }; CLASSES.len()] };
}

/// An empty buffer with room for at least `room` bytes. Handed to a socket, or put into a lease, it is used again
/// afterwards.
#[must_use]
pub fn buffer(room: usize) -> Vec<u8> {
    let Some(class) = CLASSES.iter().position(|(size, _)| *size >= room) else { return Vec::with_capacity(room) };
    let kept = CACHE.try_with(|cache| cache[class].borrow_mut().pop()).ok().flatten();
    kept.unwrap_or_else(|| Vec::with_capacity(CLASSES[class].0))
}

/// Takes back a buffer that nobody needs any more, whoever made it.
pub(in crate::io) fn give_back(mut bytes: Vec<u8>) {
    let room = bytes.capacity();
    // One that is much larger than its class would make the bound on memory a lie.
    let Some(class) = CLASSES.iter().rposition(|(size, _)| (*size..*size * 2).contains(&room)) else { return };
    // Fails while the thread ends, when nothing is kept any more.
    let _ = CACHE.try_with(|cache| {
        let mut kept = cache[class].borrow_mut();
        if kept.len() < CLASSES[class].1 {
            bytes.clear();
            kept.push(std::mem::take(&mut bytes));
        }
    });
}

/// Gives all of them to the allocator.
pub(in crate::io) fn clear() {
    let _ = CACHE.try_with(|cache| cache.iter().for_each(|kept| drop(kept.take())));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_used_again_and_is_empty_then() {
        for (size, _) in CLASSES {
            let mut first = buffer(size - 7);
            assert!(first.is_empty() && first.capacity() >= size - 7);
            first.extend_from_slice(b"secret");
            let address = first.as_ptr();
            give_back(first);
            let second = buffer(size);
            assert_eq!((second.as_ptr(), second.len()), (address, 0));
        }
    }

    #[test]
    fn what_is_kept_is_bounded() {
        for (class, (size, most)) in CLASSES.into_iter().enumerate() {
            let taken: Vec<_> = (0..most + 5).map(|_| buffer(size)).collect();
            taken.into_iter().for_each(give_back);
            assert_eq!(CACHE.with(|cache| cache[class].borrow().len()), most);
        }
        let before = CACHE.with(|cache| cache.each_ref().map(|kept| kept.borrow().len()));
        for room in [0, 1, CLASSES[0].0 - 1, CLASSES[2].0 * 2, 1 << 20] {
            give_back(Vec::with_capacity(room));
        }
        assert_eq!(CACHE.with(|cache| cache.each_ref().map(|kept| kept.borrow().len())), before);
        assert!(buffer(1 << 20).capacity() >= 1 << 20);
    }
}
