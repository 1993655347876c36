//! The fields that a proxy must understand: framing (RFC 9112 §6) and the options of Connection (RFC 9110 §7.6.1).

use super::body_length::BodyLength;
use super::error::HeadError;
use super::grammar::{is_token, members};
use super::head::Version;

/// Fields that mean something here. All others pass unread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    /// `WWW-Authenticate`, `Proxy-Authenticate`.
    Challenge,
    Connection,
    ContentLength,
    ContentType,
    /// `Authorization`, `Proxy-Authorization`.
    Credentials,
    Expect,
    ForwardedFor,
    Host,
    /// `Proxy-Connection`, `HTTP2-Settings`: they speak of one connection and never pass.
    HopByHop,
    /// Speaks of one connection too, and of a server's says how long it stays open.
    KeepAlive,
    RequestId,
    Te,
    TransferEncoding,
    Upgrade,
    UserAgent,
    Other,
}

impl Name {
    pub(super) fn of(name: &[u8]) -> Self {
        // The length decides for nearly every field without reading it.
        let (known, meaning): (&[u8], Self) = match name.len() {
            2 => (b"te", Self::Te),
            4 => (b"host", Self::Host),
            6 => (b"expect", Self::Expect),
            7 => (b"upgrade", Self::Upgrade),
            10 => match name[0] | 0x20 {
                b'c' => (b"connection", Self::Connection),
                b'k' => (b"keep-alive", Self::KeepAlive),
                _ => (b"user-agent", Self::UserAgent),
            },
            12 => match name[0] | 0x20 {
                b'c' => (b"content-type", Self::ContentType),
                _ => (b"x-request-id", Self::RequestId),
            },
            13 => (b"authorization", Self::Credentials),
            14 => match name[0] | 0x20 {
                b'c' => (b"content-length", Self::ContentLength),
                _ => (b"http2-settings", Self::HopByHop),
            },
            15 => (b"x-forwarded-for", Self::ForwardedFor),
            16 => match name[0] | 0x20 {
                b'p' => (b"proxy-connection", Self::HopByHop),
                _ => (b"www-authenticate", Self::Challenge),
            },
            17 => (b"transfer-encoding", Self::TransferEncoding),
            18 => (b"proxy-authenticate", Self::Challenge),
            19 => (b"proxy-authorization", Self::Credentials),
            _ => return Self::Other,
        };
        if name.eq_ignore_ascii_case(known) { meaning } else { Self::Other }
    }
}

/// What a head says about the length of its body: at most one statement.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Framing {
    pub length: Option<u64>,
    pub chunked: bool,
}

impl Framing {
    /// One number of digits only. RFC 9110 §8.6 would let a recipient take `5, 5` for 5; another may not.
    pub(super) fn content_length(&mut self, value: &[u8]) -> Result<(), HeadError> {
        if self.length.is_some() {
            return Err(HeadError::RepeatedContentLength);
        }
        if self.chunked {
            return Err(HeadError::TwoLengths);
        }
        if value.is_empty() || value.len() > 18 || !value.iter().all(u8::is_ascii_digit) {
            return Err(HeadError::ContentLength);
        }
        self.length = Some(value.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')));
        Ok(())
    }

    /// Only `chunked` alone, once, and in HTTP/1.1 (RFC 9112 §6.1, §6.3).
    pub(super) fn transfer_encoding(&mut self, value: &[u8], version: Version) -> Result<(), HeadError> {
        if self.chunked {
            return Err(HeadError::RepeatedTransferEncoding);
        }
        if self.length.is_some() {
            return Err(HeadError::TwoLengths);
        }
        if version == Version::Http10 {
            return Err(HeadError::CodingInHttp10);
        }
        if !value.eq_ignore_ascii_case(b"chunked") {
            return Err(HeadError::TransferCoding);
        }
        self.chunked = true;
        Ok(())
    }

    /// The body that these fields announce, `otherwise` where there are none.
    pub(super) fn body(self, otherwise: BodyLength) -> BodyLength {
        match (self.chunked, self.length) {
            (true, _) => BodyLength::Chunked,
            (false, Some(length)) => BodyLength::Length(length),
            (false, None) => otherwise,
        }
    }
}

/// The options of every Connection field of a head.
#[allow(clippy::struct_excessive_bools, reason = "independent facts, each read by its name")]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Connection {
    pub close: bool,
    pub keep_alive: bool,
    pub te: bool,
    pub upgrade: bool,
    /// Options that name fields of which nothing is known here.
    pub others: bool,
    count: usize,
}

impl Connection {
    /// Rewriting compares every field with every option, so there may not be many.
    const MAX_OPTIONS: usize = 32;

    pub(super) fn add(&mut self, value: &[u8]) -> Result<(), HeadError> {
        // Nearly always it is one, and known.
        if ConnectionOption::of(value) != ConnectionOption::Other {
            return self.add_option(value);
        }
        members(value).try_for_each(|option| self.add_option(option))
    }

    fn add_option(&mut self, option: &[u8]) -> Result<(), HeadError> {
        self.count += 1;
        if self.count > Self::MAX_OPTIONS || !is_token(option) {
            return Err(HeadError::ConnectionOption);
        }
        match ConnectionOption::of(option) {
            ConnectionOption::Close => self.close = true,
            ConnectionOption::KeepAlive => self.keep_alive = true,
            ConnectionOption::Te => self.te = true,
            ConnectionOption::Upgrade => self.upgrade = true,
            ConnectionOption::Other => self.others = true,
        }
        Ok(())
    }

    /// Whether a message of this `version` leaves the connection open (RFC 9112 §9.3).
    pub(super) fn persists(self, version: Version) -> bool {
        !self.close && (version == Version::Http11 || self.keep_alive)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConnectionOption {
    Close,
    KeepAlive,
    Te,
    Upgrade,
    Other,
}

impl ConnectionOption {
    pub(super) fn of(option: &[u8]) -> Self {
        let (known, meaning): (&[u8], Self) = match option.len() {
            2 => (b"te", Self::Te),
            5 => (b"close", Self::Close),
            7 => (b"upgrade", Self::Upgrade),
            10 => (b"keep-alive", Self::KeepAlive),
            _ => return Self::Other,
        };
        if option.eq_ignore_ascii_case(known) { meaning } else { Self::Other }
    }
}

/// Fields that are for the far end whatever Connection says: RFC 9110 §7.6.1 forbids naming them there, and taking
/// them out would change framing, routing, identity or what caches may do.
const END_TO_END: [&str; 28] = [
    "accept",
    "authorization",
    "cache-control",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "cookie",
    "date",
    "expect",
    "expires",
    "forwarded",
    "host",
    "if-match",
    "if-none-match",
    "location",
    "origin",
    "pragma",
    "proxy-authorization",
    "range",
    "set-cookie",
    "trailer",
    "transfer-encoding",
    "user-agent",
    "vary",
    "via",
    "www-authenticate",
    "x-request-id",
];

pub(super) fn is_end_to_end(name: &[u8]) -> bool {
    let starts_with =
        |prefix: &str| name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()));
    END_TO_END.iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes())) || starts_with("x-forwarded-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_in_any_case() {
        for (name, meaning) in [
            ("cOnnection", Name::Connection),
            ("Content-Length", Name::ContentLength),
            ("EXPECT", Name::Expect),
            ("X-Forwarded-For", Name::ForwardedFor),
            ("authoriZation", Name::Credentials),
            ("Proxy-Authorization", Name::Credentials),
            ("WWW-Authenticate", Name::Challenge),
            ("Proxy-authenticate", Name::Challenge),
            ("hOST", Name::Host),
            ("Keep-Alive", Name::KeepAlive),
            ("Proxy-Connection", Name::HopByHop),
            ("HTTP2-Settings", Name::HopByHop),
            ("X-Request-ID", Name::RequestId),
            ("TE", Name::Te),
            ("Transfer-Encoding", Name::TransferEncoding),
            ("upgrade", Name::Upgrade),
            ("User-Agent", Name::UserAgent),
            ("Content_Length", Name::Other),
            ("Hosts", Name::Other),
            ("User_Agent", Name::Other),
        ] {
            assert_eq!(Name::of(name.as_bytes()), meaning, "{name}");
        }
    }

    #[test]
    fn content_lengths() {
        let read = |value: &str| Framing::default().content_length(value.as_bytes()).map(|()| value.to_owned());
        for good in ["0", "5", "005", "999999999999999999"] {
            assert!(read(good).is_ok(), "{good}");
        }
        for bad in
            ["", "+5", "-1", "0x5", "5_0", "5 6", "5,5", "5, 5", "18446744073709551616", "1000000000000000000", "١"]
        {
            assert_eq!(read(bad), Err(HeadError::ContentLength), "{bad}");
        }
    }

    #[test]
    fn connection_options() {
        let mut connection = Connection::default();
        connection.add(b"Keep-Alive,, TE").unwrap();
        connection.add(b"x-mine").unwrap();
        assert!(connection.keep_alive && connection.te && connection.others && !connection.close);
        assert!(connection.persists(Version::Http10));
        connection.add(b"CLOSE").unwrap();
        assert!(!connection.persists(Version::Http11));
        assert_eq!(connection.add(b"a b"), Err(HeadError::ConnectionOption));
        assert_eq!(Connection::default().add(&b"a,".repeat(33)), Err(HeadError::ConnectionOption));
        assert!(Connection::default().add(&b"a,".repeat(32)).is_ok());
    }

    #[test]
    fn end_to_end_fields() {
        assert!(is_end_to_end(b"Content-Length") && is_end_to_end(b"X-Forwarded-Proto"));
        assert!(!is_end_to_end(b"X-Mine") && !is_end_to_end(b"x-forwarded"));
    }
}
