//! Request methods (RFC 9110 §9). What matters here of a method is what it means for framing and for trying again.

/// A request method. The text of `Other` is in the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Connect,
    Options,
    Trace,
    Patch,
    /// A token that this list does not know (`PURGE`, `QUERY`, `M-SEARCH`).
    Other,
}

impl Method {
    pub(super) fn from_token(token: &[u8]) -> Self {
        match token {
            b"GET" => Self::Get,
            b"HEAD" => Self::Head,
            b"POST" => Self::Post,
            b"PUT" => Self::Put,
            b"DELETE" => Self::Delete,
            b"CONNECT" => Self::Connect,
            b"OPTIONS" => Self::Options,
            b"TRACE" => Self::Trace,
            b"PATCH" => Self::Patch,
            _ => Self::Other,
        }
    }

    /// Whether sending the request twice has the effect of sending it once (RFC 9110 §9.2.2), so that it may be sent
    /// again when a connection broke before the answer. An unknown method is assumed not to be.
    #[must_use]
    pub fn is_idempotent(self) -> bool {
        match self {
            Self::Get | Self::Head | Self::Put | Self::Delete | Self::Options | Self::Trace => true,
            Self::Post | Self::Connect | Self::Patch | Self::Other => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idempotent_methods() {
        let tokens = ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE", "POST", "CONNECT", "PATCH", "PURGE", "get"];
        let idempotent: Vec<_> =
            tokens.into_iter().filter(|token| Method::from_token(token.as_bytes()).is_idempotent()).collect();
        assert_eq!(idempotent, tokens[..6]);
    }
}
