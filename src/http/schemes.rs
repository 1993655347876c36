//! Authentication schemes that authenticate a TCP connection instead of a request: NTLM, Negotiate (RFC 4559) and the
//! Kerberos of older servers. After the handshake every request of the connection is the user's, so the connection must
//! not be shared.
//!
//! Only the scheme's name is read. Where a value could be read in two ways, it counts as one of these: a connection that
//! is kept from others for nothing costs a connection, one that is shared costs an identity.

/// `Nego2` is what Windows writes for its extended Negotiate ([MS-NEGOEX]).
const CONNECTION_SCHEMES: [&str; 4] = ["NTLM", "Negotiate", "Kerberos", "Nego2"];

/// Whether `value`, of Authorization or Proxy-Authorization or of the challenges that ask for them, names one of these
/// schemes: first, or behind a comma (RFC 9110 §11.6.1 has lists of challenges). A comma in a quoted string counts as one.
pub(super) fn authenticates_connection(value: &[u8]) -> bool {
    let behind = memchr::memchr_iter(b',', value).map(|comma| &value[comma + 1..]);
    std::iter::once(value).chain(behind).any(begins_with_one)
}

fn begins_with_one(text: &[u8]) -> bool {
    let text = text.trim_ascii_start();
    let length = text.iter().position(|byte| !byte.is_ascii_alphanumeric()).unwrap_or(text.len());
    let name = &text[..length];
    CONNECTION_SCHEMES.iter().any(|scheme| name.eq_ignore_ascii_case(scheme.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::super::{HeadLimits, Method, Parsed, RequestContext, Version, parse_request, parse_response};
    use super::*;

    #[test]
    fn schemes_of_connections_are_told_from_those_of_requests() {
        for value in [
            "NTLM",
            "ntlm TlRMTVNTUAABAAAA",
            "NTLM\tTlRMTVNTUAADAAAA",
            "Negotiate YIIJvwYGKwYBBQUCoIIJszCCCa+",
            "nEGOTIATE",
            "Kerberos YII=",
            "Nego2 x",
            "Basic realm=\"a, b\", NTLM",
            "Basic realm=\"a\",Negotiate",
            ", ,\tnegotiate",
            "Digest nonce=x,\t NTLM,Basic realm=y",
            // In a string: read for a scheme, to be sure.
            "Basic realm=\"a, NTLM\"",
        ] {
            assert!(authenticates_connection(value.as_bytes()), "{value}");
        }
        for value in [
            "",
            ",",
            "Basic TlRMTTp4",
            "Bearer NTLM",
            "Digest username=\"NTLM\", realm=\"Negotiate\"",
            "NTLMv2 x",
            "XNTLM",
            "Negotiation",
            "AWS4-HMAC-SHA256 Credential=NTLM/20260101, SignedHeaders=host",
        ] {
            assert!(!authenticates_connection(value.as_bytes()), "{value}");
        }
    }

    #[test]
    fn they_are_seen_on_every_field_line_of_a_request() {
        let request = |fields: &str| {
            let raw = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
            match parse_request(raw.as_bytes(), HeadLimits::default()) {
                Ok(Parsed::Complete { head, .. }) => head.authenticates_connection,
                other => panic!("{raw:?}: {other:?}"),
            }
        };
        for fields in [
            "Authorization: NTLM x\r\n",
            "authorization:negotiate x\r\n",
            "Authorization: Basic x\r\nAUTHORIZATION: Kerberos x\r\n",
            "Authorization: Basic x\r\nProxy-Authorization: NTLM x\r\n",
        ] {
            assert!(request(fields), "{fields:?}");
        }
        for fields in ["", "Authorization: Bearer x\r\n", "X-Authorization: NTLM x\r\n", "Cookie: NTLM\r\n"] {
            assert!(!request(fields), "{fields:?}");
        }
    }

    #[test]
    fn they_are_seen_in_answers_that_ask_for_them() {
        let asked = RequestContext { method: Method::Get, version: Version::Http11, upgrade: false };
        let answer = |status: u16, fields: &str| {
            let raw = format!("HTTP/1.1 {status} x\r\n{fields}Content-Length: 0\r\n\r\n");
            match parse_response(raw.as_bytes(), asked, HeadLimits::default()) {
                Ok(Parsed::Complete { head, .. }) => head.challenges_connection,
                other => panic!("{raw:?}: {other:?}"),
            }
        };
        assert!(answer(401, "WWW-Authenticate: Negotiate\r\nWWW-Authenticate: NTLM\r\n"));
        assert!(answer(401, "WWW-Authenticate: Basic realm=x\r\nwww-authenticate: ntlm TlRM\r\n"));
        assert!(answer(407, "Proxy-Authenticate: Basic realm=x, NTLM\r\n"));
        assert!(!answer(401, "WWW-Authenticate: Basic realm=x\r\n"));
        assert!(!answer(200, "WWW-Authenticate: Negotiate oYG2\r\n"), "it asks for nothing");
    }
}
