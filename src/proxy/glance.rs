//! A passive look at the first bytes of a connection that is carried unread: whose name its ClientHello bears, for the
//! log. Nothing waits for it, and nothing is decided by it.

use std::cell::{Cell, RefCell};

use crate::flow::Hostname;
use crate::sniff::{self, Detection};

/// What has been seen so far.
#[derive(Debug, Default)]
pub struct Glance {
    is_over: Cell<bool>,
    /// The beginning of a ClientHello that came in pieces; the detection bounds it.
    begun: RefCell<Vec<u8>>,
    sni: RefCell<Option<Hostname>>,
}

impl Glance {
    /// One that sees nothing.
    #[must_use]
    pub fn averted() -> Self {
        Self { is_over: Cell::new(true), ..Self::default() }
    }

    /// Whether the next bytes may tell anything.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.is_over.get()
    }

    /// Looks at bytes that pass, in order.
    pub fn see(&self, bytes: &[u8]) {
        let mut begun = self.begun.borrow_mut();
        let detection = if begun.is_empty() {
            sniff::detect(bytes)
        } else {
            begun.extend_from_slice(bytes);
            sniff::detect(&begun)
        };
        match detection {
            Detection::NeedMore if begun.is_empty() => begun.extend_from_slice(bytes),
            Detection::NeedMore => {}
            Detection::Tls(hello) => self.end(&mut begun, hello.name().cloned()),
            Detection::Http1 | Detection::Http2 | Detection::Opaque => self.end(&mut begun, None),
        }
    }

    fn end(&self, begun: &mut Vec<u8>, sni: Option<Hostname>) {
        self.is_over.set(true);
        *begun = Vec::new();
        *self.sni.borrow_mut() = sni;
    }

    /// The name that was seen.
    #[must_use]
    pub fn into_sni(self) -> Option<Hostname> {
        self.sni.into_inner()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELLO: &[u8] = include_bytes!("../sniff/tests/hellos/openssl-3.0-tls13.bin");

    #[test]
    fn a_name_is_seen_however_the_hello_is_cut() {
        for size in [1, 5, 100, HELLO.len()] {
            let glance = Glance::default();
            HELLO.chunks(size).for_each(|piece| glance.see(piece));
            assert!(!glance.is_open());
            assert_eq!(glance.into_sni().as_ref().map(Hostname::as_str), Some("edition.cnn.com"), "pieces of {size}");
        }
    }

    #[test]
    fn what_bears_no_name_is_looked_at_no_longer() {
        for bytes in [&b"220 ready\r\n"[..], b"GET / HTTP/1.1\r\n", b"\x16\x02", b"foo1"] {
            let glance = Glance::default();
            glance.see(bytes);
            assert!(!glance.is_open(), "{}", bytes.escape_ascii());
            assert!(glance.begun.borrow().capacity() == 0, "nothing is kept");
            assert_eq!(glance.into_sni(), None);
        }
        assert!(!Glance::averted().is_open());
    }
}
