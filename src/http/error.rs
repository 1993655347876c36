//! Why a head or a body is refused. Closed enums: the status that a peer gets, the token that the access log gets, the message
//! that a person gets.

use thiserror::Error;

/// What is wrong with the lines or the framing of a head, of a request or of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum HeadError {
    /// a line ends with LF alone (RFC 9112 §2.2 lets a recipient take it; two recipients may not agree)
    #[error("a line does not end with CR LF")]
    LineEnd,
    /// a control character in a value
    #[error("a field value has a control character in it")]
    ValueByte,
    /// obs-fold, or white space before the first field (RFC 9112 §5.2, §2.2)
    #[error("a field line begins with white space")]
    Folded,
    /// empty, not a token, or white space before the colon (RFC 9112 §5.1)
    #[error("a field name is not a token followed by a colon")]
    FieldName,
    /// more fields than the limit
    #[error("there are too many fields")]
    TooManyFields,
    /// longer than the limit
    #[error("the head is too large")]
    TooLarge,
    /// not 1 to 18 digits
    #[error("Content-Length is not a number of 1 to 18 digits")]
    ContentLength,
    /// more than one Content-Length, even the same (RFC 9112 §6.3)
    #[error("Content-Length is given twice")]
    RepeatedContentLength,
    /// a coding other than exactly `chunked`
    #[error("Transfer-Encoding is not exactly \"chunked\"")]
    TransferCoding,
    /// more than one Transfer-Encoding
    #[error("Transfer-Encoding is given twice")]
    RepeatedTransferEncoding,
    /// both Transfer-Encoding and Content-Length (RFC 9112 §6.1)
    #[error("both Transfer-Encoding and Content-Length are given")]
    TwoLengths,
    /// Transfer-Encoding in HTTP/1.0 (RFC 9112 §6.1)
    #[error("Transfer-Encoding is given in an HTTP/1.0 message")]
    CodingInHttp10,
    /// an option that is not a token, or too many of them
    #[error("Connection is not a short list of tokens")]
    ConnectionOption,
}

/// Why a request is refused. [`status`](RequestError::status) is the answer that it gets; the connection then closes,
/// because nobody knows where the next request would begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RequestError {
    #[error("{0}")]
    Head(#[from] HeadError),
    #[error("the method is not a token of at most 32 upper-case characters")]
    Method,
    #[error("the request target has a character in it that no target has")]
    TargetByte,
    #[error("the request target is in none of the forms that its method allows")]
    TargetForm,
    #[error("the request target is too long")]
    TargetTooLong,
    #[error("the request line does not end with HTTP/1.0 or HTTP/1.1")]
    RequestLine,
    #[error("the version is neither HTTP/1.0 nor HTTP/1.1")]
    Version,
    #[error("there are empty lines before the request")]
    EmptyLines,
    #[error("there is no Host field")]
    HostMissing,
    #[error("Host is given twice")]
    RepeatedHost,
    #[error("the host is not a name or address with an optional port")]
    Host,
    #[error("Host names another host than the request target")]
    HostsDiffer,
    #[error("a CONNECT request has a body")]
    ConnectBody,
}

impl RequestError {
    /// The status of the answer: 400, 414, 431, 501 or 505.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::Head(HeadError::TooManyFields | HeadError::TooLarge) => 431,
            Self::Head(HeadError::TransferCoding) => 501, // RFC 9112 §6.1
            Self::TargetTooLong => 414,
            Self::Version => 505,
            _ => 400,
        }
    }

    /// RESPONSE_CODE_DETAILS of the access log: Envoy's token where it has one for this fault.
    #[must_use]
    pub fn detail(self) -> &'static str {
        match self {
            Self::Head(error) => error.detail(),
            Self::TargetByte | Self::TargetForm => "http1.invalid_url",
            Self::TargetTooLong => "http1.headers_too_large",
            Self::Version => "low_version",
            Self::HostMissing => "missing_host_header",
            Self::RepeatedHost | Self::Host => "http1.invalid_host",
            Self::HostsDiffer => "http1.hosts_differ",
            Self::ConnectBody => "http1.body_disallowed",
            Self::Method | Self::RequestLine | Self::EmptyLines => "http1.codec_error",
        }
    }
}

/// Why a response is refused: the client gets 502 and the upstream connection closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ResponseError {
    #[error("upstream response: {0}")]
    Head(#[from] HeadError),
    #[error("the upstream's status line is not that of an HTTP/1 response")]
    StatusLine,
    #[error("the upstream switched protocols without having been asked")]
    UnexpectedUpgrade,
}

impl ResponseError {
    /// The status that the client gets instead.
    #[must_use]
    pub fn status(self) -> u16 {
        502
    }

    /// RESPONSE_CODE_DETAILS of the access log.
    #[must_use]
    pub fn detail(self) -> &'static str {
        match self {
            Self::Head(error) => error.detail(),
            Self::StatusLine => "http1.codec_error",
            Self::UnexpectedUpgrade => "http1.unexpected_upgrade",
        }
    }
}

/// Why a body cannot be forwarded. The connection that it came from must be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BodyError {
    #[error("a chunk size is not 1 to 16 hexadecimal digits and less than 2^63")]
    ChunkSize,
    #[error("a chunk extension is malformed")]
    ChunkExtension,
    #[error("a chunk's line or data does not end with CR LF where it must")]
    ChunkEnd,
    #[error("the chunk extensions are out of proportion to the data")]
    Overhead,
    #[error("a trailer field is malformed")]
    TrailerField,
    #[error("the trailer has a field that belongs in the head")]
    TrailerForbidden,
    #[error("the trailer is too large")]
    TrailerTooLarge,
}

impl HeadError {
    fn detail(self) -> &'static str {
        match self {
            Self::LineEnd | Self::Folded | Self::FieldName | Self::ContentLength | Self::RepeatedContentLength => {
                "http1.codec_error"
            }
            Self::ValueByte => "http1.invalid_characters",
            Self::TooManyFields => "http1.too_many_headers",
            Self::TooLarge => "http1.headers_too_large",
            Self::TransferCoding | Self::RepeatedTransferEncoding => "http1.invalid_transfer_encoding",
            Self::TwoLengths => "http1.content_length_and_chunked_not_allowed",
            Self::CodingInHttp10 => "http1.transfer_encoding_not_allowed",
            Self::ConnectionOption => "http1.connection_header_rejected",
        }
    }
}
