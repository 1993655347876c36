//! Any request that both versions can say is the same there and back.

use ::http::uri::Scheme;
use proptest::prelude::*;

use super::super::*;
use crate::http::{HeadLimits, Parsed, parse_request};

fn name() -> impl Strategy<Value = String> {
    "x-[a-z0-9!#$&'*+.^_`|~-]{1,12}"
}

fn value() -> impl Strategy<Value = String> {
    prop_oneof!["[!-~]{0,1}", "[!-~][ -~\t]{0,20}[!-~]"]
}

proptest! {
    #[test]
    fn there_and_back(
        method in "[A-Z]{1,12}".prop_filter("a tunnel has no path", |method| method != "CONNECT"),
        path in "/[a-zA-Z0-9/._~%!$&'()*+,;=:@-]{0,30}(\\?[a-z0-9=&%]{0,20})?",
        host in "[a-z]{1,10}\\.test(:[1-9][0-9]{0,3})?",
        fields in proptest::collection::vec((name(), value()), 0..12),
        has_body: bool,
        length in proptest::option::of(0_u32..1000),
    ) {
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\n");
        // Lines of one name stay together: what a receiver may rely on is their order.
        let mut sorted = fields;
        sorted.sort_by(|one, other| one.0.cmp(&other.0));
        for (name, value) in &sorted {
            head.extend([name, ": ", value, "\r\n"]);
        }
        match (has_body, length) {
            (true, Some(length)) => head.extend(["content-length: ", &length.to_string(), "\r\n"]),
            (true, None) => head += "transfer-encoding: chunked\r\n",
            (false, _) => {}
        }
        head += "\r\n";
        let limits = HeadLimits::default();
        let parsed = parse_request(head.as_bytes(), limits);
        prop_assert!(matches!(parsed, Ok(Parsed::Complete { .. })), "{head}: {parsed:?}");
        let request = outgoing_request(head.as_bytes(), &Scheme::HTTPS).unwrap();
        let (parts, ()) = request.into_parts();
        let mut back = Vec::new();
        let beside = Beside { is_over: !has_body, websocket_key: None };
        write_request_head(&parts, beside, limits, &mut back).unwrap();
        prop_assert_eq!(String::from_utf8(back).unwrap(), head);
    }

    /// Whatever a head is: a clear answer, and nothing that HTTP/1 would read as two.
    #[test]
    fn any_head_is_translated_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = outgoing_response(&bytes);
        let _ = outgoing_trailers(&bytes);
        if let Ok(request) = outgoing_request(&bytes, &Scheme::HTTP) {
            let (parts, ()) = request.into_parts();
            let mut raw = Vec::new();
            let beside = Beside { is_over: true, websocket_key: None };
            if write_request_head(&parts, beside, HeadLimits::default(), &mut raw).is_ok()
                && let Ok(Parsed::Complete { length, .. }) = parse_request(&raw, HeadLimits::default())
            {
                prop_assert_eq!(length, raw.len());
            }
        }
    }
}
