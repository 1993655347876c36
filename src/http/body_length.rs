//! How long a body is, as its head says (RFC 9112 §6.3). The heads' readers find it, the body's reader follows it.

/// What a head says about its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    /// There is none.
    None,
    /// So many bytes.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
    /// Up to the end of the connection. Responses only.
    UntilClose,
}
